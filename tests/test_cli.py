"""The command line: the main story, its exit codes, its errors, and what it never prints."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import otpvoice
from otpvoice import errors
from otpvoice.cli import session, trouble
from otpvoice.cli.app import app
from otpvoice.cli.view import WORDS
from otpvoice.errors import OTPVoiceError
from otpvoice.simulator.server import SimulatedItnio
from tests.cli_helpers import configure, run
from tests.conftest import NUMBER, SECRET

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, OTPVoiceError) and not kind.__name__.startswith("_")
]


@pytest.fixture
def itnio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_template: Path) -> Iterator[SimulatedItnio]:
    """A simulated provider and a database, configured in the environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli.db").write_bytes(sqlite_template.read_bytes())
    with SimulatedItnio() as simulator:
        configure(monkeypatch, simulator, "sqlite:///cli.db", SECRET)
        yield simulator


def issued(*options: str) -> str:
    """A challenge's id."""
    ran = run("issue", NUMBER, "--json", *options)
    assert ran.code == 0, ran.err
    return str(ran.json["id"])


def heard(itnio: SimulatedItnio) -> str:
    code = itnio.calls[-1].heard_code
    assert code is not None
    return code


def wrong(code: str) -> str:
    return str((int(code) + 1) % 10 ** len(code)).zfill(len(code))


def build(kind: type[OTPVoiceError]) -> OTPVoiceError:
    """An error of a class, with whatever it must be given."""
    if issubclass(kind, errors.RateLimited):
        return kind("a limit", retry_after=timedelta(seconds=30))
    if issubclass(kind, errors.CodeMismatch):
        return kind(3)
    if issubclass(kind, errors.LockedOut):
        return kind(retry_after=timedelta(minutes=30))
    try:
        return kind("went wrong")
    except TypeError:  # It words its message itself.
        return kind()


def test_a_code_is_issued_heard_and_verified(itnio: SimulatedItnio) -> None:
    challenge = issued("--subject", "alice")
    refused = run("verify", challenge, wrong(heard(itnio)))
    assert (refused.code, refused.out) == (1, "")
    assert "4 attempts left" in refused.err
    approved = run("verify", challenge, heard(itnio), "--purpose", "login", "--subject", "alice")
    assert approved.code == 0, approved.err
    assert approved.out == "approved: login for alice, +84•••••••78 by voice\n"
    again = run("verify", challenge, heard(itnio))
    assert again.code == 1
    assert "closed" in again.err


def test_the_wrong_subject_or_purpose_is_refused(itnio: SimulatedItnio) -> None:
    challenge = issued("--subject", "alice")
    assert run("verify", challenge, heard(itnio), "--subject", "mallory").code == 1
    assert run("verify", challenge, heard(itnio), "--purpose", "payment").code == 1
    assert run("verify", challenge, heard(itnio), "--subject", "alice").code == 0


def test_a_payment_is_spoken_and_bound(itnio: SimulatedItnio) -> None:
    bound = ("--amount", "12.50", "--currency", "EUR", "--payee", "Nguyen Thi Hoa")
    challenge = issued("--purpose", "payment", "--locale", "en", *bound)
    assert "Nguyen Thi Hoa" in itnio.calls[-1].text
    assert run("verify", challenge, heard(itnio), "--amount", "99.00", "--currency", "EUR").code == 1
    ran = run("verify", challenge, heard(itnio), *bound, "--json")
    assert ran.code == 0
    assert ran.json["binding"] == {"amount": "12.50", "currency": "EUR", "payee": "Nguyen Thi Hoa", "reference": None}


def test_the_language_and_the_channel_are_taken_from_the_options(itnio: SimulatedItnio) -> None:
    issued("--locale", "ja", "--channel", "voice")
    assert itnio.calls[-1].language == "JP"


def test_resend_waits_for_the_cooldown_and_cancel_closes(
    itnio: SimulatedItnio, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = issued()
    early = run("resend", challenge, "--json")
    assert early.code == 1
    assert early.json["error"] == "RateLimited"
    assert 0 < early.json["retry_after"] <= 30
    monkeypatch.setenv("OTPVOICE_POLICY", '{"cooldowns": [0]}')
    eager = issued()
    assert run("resend", eager).code == 0
    assert len(itnio.calls) == 3
    assert "cancelled" in run("cancel", eager).out
    assert run("cancel", eager).code == 1


def test_a_command_sends_by_itself_where_the_settings_want_a_worker(
    itnio: SimulatedItnio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPVOICE_WORKER", "1")
    assert run("issue", NUMBER, "--json").json["delivery"]["state"] == "accepted"
    assert len(itnio.calls) == 1


def test_show_tells_the_story_in_order(itnio: SimulatedItnio) -> None:
    challenge = issued()
    run("verify", challenge, wrong(heard(itnio)))
    run("verify", challenge, heard(itnio))
    told = run("show", challenge).out
    places = [told.index(words) for words in ("opened", "the provider took it", "an attempt was spent", "approved:")]
    assert places == sorted(places)
    assert itnio.calls[-1].voice_id in told
    assert "its code was typed" in told
    story = run("show", challenge, "--json").json
    assert story["challenge"]["state"] == "approved"
    assert story["events"][0]["kind"] == "challenge.opened"
    assert {event["kind"] for event in story["events"]} <= set(WORDS)


def test_no_code_and_no_full_number_is_printed(itnio: SimulatedItnio) -> None:
    """Whatever a command prints can end in a ticket or a log."""
    challenge = issued("--subject", "alice")
    code = heard(itnio)
    said = [
        run("issue", NUMBER),
        run("show", challenge),
        run("show", challenge, "--json"),
        run("resend", challenge),
        run("verify", challenge, wrong(code)),
        run("verify", challenge, wrong(code), "--json"),
        run("verify", challenge, code, "--json"),
        run("show", challenge),
        run("issue", "+84", "--json"),
        run("doctor"),
    ]
    for ran in said:
        for secret in (
            *(call.heard_code or "" for call in itnio.calls),
            NUMBER.removeprefix("+84"),
            SECRET,
            "demo-secret",
        ):
            assert secret
            assert secret not in ran.out + ran.err
    assert said[6].json["recipient"] == "+84•••••••78"


@pytest.mark.parametrize(
    "arguments",
    [
        ["issue", "12345"],
        ["issue"],
        ["issue", ""],
        ["issue", NUMBER, "--purpose", "nonsense"],
        ["issue", NUMBER, "--channel", "fax"],
        ["issue", NUMBER, "--locale", "!!"],
        ["issue", NUMBER, "--amount", "5"],
        ["issue", NUMBER, "--amount", "five", "--currency", "EUR"],
        ["verify", "ch_1"],
        ["nonsense"],
        ["issue", NUMBER, "--nonsense"],
    ],
)
def test_wrong_usage_exits_with_2_and_calls_nobody(itnio: SimulatedItnio, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err
    assert not itnio.calls


@pytest.mark.parametrize("challenge", ["", "ch_1", "'; DROP TABLE challenge", "ch_" + "0" * 32, "a" * 10_000])
def test_an_unknown_challenge_is_a_closed_one(itnio: SimulatedItnio, challenge: str) -> None:
    for command in (["verify", challenge, "123456"], ["show", challenge], ["resend", challenge], ["cancel", challenge]):
        assert run(*command).code == 1


@pytest.mark.parametrize("typed", ["", "   ", "12345", "1" * 100_000, "١٢٣", "abcdef"])
def test_what_cannot_be_a_code_spends_no_attempt(itnio: SimulatedItnio, typed: str) -> None:
    challenge = issued()
    ran = run("verify", challenge, typed, "--json")
    assert (ran.code, ran.json["error"], ran.json["attempts_left"]) == (1, "MalformedCode", 5)


def test_a_provider_that_refuses_is_trouble_and_the_challenge_can_be_sent_again(itnio: SimulatedItnio) -> None:
    ran = run("issue", "+84912345910", "--json")  # The simulator refuses this number with -10: no money.
    assert ran.code == 3
    assert ran.json["error"] == "NoBalance"
    assert ran.json["provider_code"] == "-10"
    assert f"otpvoice resend {ran.json['challenge']['id']}" in ran.err
    assert "credit" in ran.err


@pytest.mark.parametrize("answer", ["html", "garbage", "truncated", "drop"])
def test_a_lost_answer_is_no_failure(itnio: SimulatedItnio, answer: str) -> None:
    """The call may be ringing: the code verifies if it does."""
    itnio.set_rule({"answer": answer, "accept": True})
    ran = run("issue", NUMBER, "--json")
    assert (ran.code, ran.json["delivery"]["state"]) == (0, "unknown")
    assert "unknown" in run("show", ran.json["id"]).out
    assert run("verify", ran.json["id"], heard(itnio)).code == 0


def test_a_provider_that_is_away_is_trouble(itnio: SimulatedItnio) -> None:
    itnio.stop()
    ran = run("issue", NUMBER)
    assert ran.code == 3
    assert "otpvoice doctor" in ran.err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SECRET", "short", "OTPVOICE_SECRET"),
        ("SECRET", "", "OTPVOICE_SECRET"),
        ("DATABASE_URL", "mysql://x/y", "OTPVOICE_DATABASE_URL"),
        ("DATABASE_URL", "sqlite:////nowhere/at/all.db", "does not exist"),
        ("HASH_PROFILE", "md5", "hash_profile"),
        ("ITNIO_APP_ID", None, "OTPVOICE_ITNIO_APP_ID"),
        ("NONSENSE_FILE", "x", ""),
    ],
)
def test_a_wrong_configuration_is_named(
    itnio: SimulatedItnio, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, said: str
) -> None:
    if value is None:
        monkeypatch.delenv(f"OTPVOICE_{name}")
    else:
        monkeypatch.setenv(f"OTPVOICE_{name}", value)
    ran = run("issue", NUMBER)
    assert ran.code == (3 if said else 0)
    assert said in ran.err
    assert ran.err.count("\n") == (1 if said else 0)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_one_line_with_its_exit_code(kind: type[OTPVoiceError], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> Any:
        raise build(kind)

    monkeypatch.setattr(session.Session, "service", fail)
    ran = run("show", "ch_1")
    assert ran.err.startswith("otpvoice: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err + ran.out
    usage = issubclass(kind, errors.InvalidRequest)
    refused = issubclass(kind, errors.Refused | errors.VerificationFailed)
    assert ran.code == (2 if usage else 1 if refused else 3)
    assert run("show", "ch_1", "--json").json["error"] == kind.__name__
    assert isinstance(run("--debug", "show", "ch_1").error, kind)


def test_an_error_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> Any:
        raise errors.ConfigurationError("a\x1b[2J\nb [red]c[/red]")

    monkeypatch.setattr(session.Session, "service", fail)
    ran = run("show", "ch_1")
    assert ran.err == "otpvoice: a [2J b [red]c[/red]\n"


def test_the_configuration_file_is_the_one_that_is_named(
    itnio: SimulatedItnio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text('brand = "Acme"\n')
    assert run("--config", "own.toml", "issue", NUMBER, "--locale", "en").code == 0
    assert "Acme" in itnio.calls[-1].text
    missing = run("--config", "absent.toml", "issue", NUMBER)
    assert missing.code == 3
    assert "absent.toml" in missing.err


def test_help_lists_every_command_and_every_command_has_help() -> None:
    told = run("--help").out
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {"issue", "verify", "resend", "cancel", "show", "totp", "doctor", "db", "keys", "demo", "say"} <= set(
        commands
    )
    for command in commands:
        assert re.search(rf"│ {command} ", told)
        ran = run(command, "--help")
        assert ran.code == 0
        assert len(ran.out) > 200
    for code in trouble.ExitCode:
        assert str(code.value) in told.split("Exit codes:")[1]


def test_version() -> None:
    assert run("--version").out == f"otpvoice {otpvoice_version()}\n"


def otpvoice_version() -> str:
    from importlib.metadata import version

    return version("otpvoice")


def test_keys_generate_prints_a_strong_secret_and_nothing_else() -> None:
    first, second = run("keys", "generate").out, run("keys", "generate").out
    assert first != second
    otpvoice.OTPService(secret=first.strip(), channels=[otpvoice_memory()], database_url="sqlite://").close()


def otpvoice_memory() -> Any:
    from otpvoice.channels.memory import Memory

    return Memory("voice")


def without(*modules: str, argv: list[str]) -> subprocess.CompletedProcess[str]:
    """``otpvoice ARGV`` in a process of its own in which these modules are not installed."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r})); sys.argv = ['otpvoice', *{argv!r}]\n"
        "from otpvoice.__main__ import main; main()"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", ["typer", "rich", "typer.core"])
def test_without_its_libraries_it_says_how_to_get_them(module: str) -> None:
    ran = without(module, argv=["--help"])
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr == "otpvoice: the command line is an extra: pip install 'otpvoice[cli]'\n"


@pytest.mark.parametrize(
    ("argv", "extra"),
    [(["simulate", "itnio", "--port", "0"], "simulator"), (["demo", "--auto"], "demo")],
)
def test_without_the_simulator_the_rest_works(argv: list[str], extra: str) -> None:
    assert without("fastapi", "uvicorn", argv=["keys", "generate"]).returncode == 0
    ran = without("fastapi", "uvicorn", argv=argv)
    assert ran.returncode == 3
    assert f"pip install 'otpvoice[{extra}]'" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_the_module_is_the_command(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "otpvoice", "say", "--code", "482913", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["channel"] == "voice"
