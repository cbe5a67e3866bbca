"""Assembly: settings that fit make a service; settings that do not are named before anything starts."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice import AsyncOTPService, ConfigurationError, OTPService, WeakSecret
from otpvoice.channels.console import Console
from otpvoice.channels.itnio import ItnioVoice
from otpvoice.channels.memory import Memory
from otpvoice.config import assemble, policy_values
from otpvoice.policy import Policy, Route
from tests.conftest import NUMBER, SECRET

CREDENTIALS = {"API_KEY": "key-1", "API_SECRET": "itnio-secret-4711", "APP_ID": "app-1"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTPVOICE_{name}", value)


def made(folder: Path, text: str) -> Any:
    """A service of this file, with a secret and a memory channel where it names none."""
    if "[channels" not in text:
        text += '\n[channels.voice]\ntype = "memory"\n'
    (folder / "otpvoice.toml").write_text(f'secret = "{SECRET}"\n{text}', encoding="utf-8")
    return OTPService.from_env()


# --- Secrets


@pytest.mark.parametrize("service", [OTPService, AsyncOTPService])
@pytest.mark.parametrize(
    "secret", [None, "", "  ", "short", "change-me-change-me-please-0123456789", "x" * 64, f"{SECRET},weak"]
)
def test_a_missing_or_weak_secret_does_not_start(
    service: Any, secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P69: neither service, and never with a default."""
    environment(monkeypatch, CHANNELS='{"voice": {"type": "memory"}}', **({} if secret is None else {"SECRET": secret}))
    with pytest.raises(WeakSecret, match="otpvoice keys generate"):
        service.from_env()


def test_the_same_secret_twice_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation that is none."""
    environment(monkeypatch, CHANNELS='{"voice": {"type": "memory"}}', SECRET=f"{SECRET},{SECRET}")
    with pytest.raises(ConfigurationError, match="twice"):
        OTPService.from_env()


def test_development_makes_a_secret_keeps_it_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside the database, for its owner's eyes: what one start opened the next one verifies."""
    environment(monkeypatch, DEVELOPMENT="1", CHANNELS='{"voice": {"type": "memory"}}')
    with caplog.at_level(logging.WARNING), OTPService.from_env() as first:
        challenge = first.issue_code(NUMBER, purpose="login")
        code = first._context.channels["voice"].sent[-1].code
    (warning,) = [record.message for record in caplog.records if "OTPVOICE_SECRET" in record.message]
    key = folder / "otpvoice.db.key"
    secret = key.read_text(encoding="utf-8").strip()
    assert str(key.name) in warning
    assert secret not in caplog.text
    assert key.stat().st_mode & 0o077 == 0
    caplog.clear()
    with caplog.at_level(logging.WARNING), OTPService.from_env() as second:
        assert second.verify_code(challenge.id, code)
    assert key.read_text(encoding="utf-8").strip() == secret
    assert caplog.text == ""


def test_development_with_a_secret_uses_that_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And writes no other."""
    environment(monkeypatch, DEVELOPMENT="1", SECRET=SECRET)
    with OTPService.from_env() as service:
        assert isinstance(service._context.channels["voice"], Console)
    assert not list(folder.glob("*.key"))


def test_development_does_not_make_a_weak_secret_strong(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is set must be good."""
    environment(monkeypatch, DEVELOPMENT="1", SECRET="short")
    with pytest.raises(WeakSecret):
        OTPService.from_env()


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_spoilt_development_secret_does_not_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """It is read as any other."""
    (folder / "otpvoice.db.key").write_text(content, encoding="utf-8")
    environment(monkeypatch, DEVELOPMENT="1")
    with pytest.raises(WeakSecret):
        OTPService.from_env()


def test_a_development_secret_that_cannot_be_kept(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Said, not passed over: the next start would read nothing of this one's."""
    environment(monkeypatch, DEVELOPMENT="1", DATABASE_URL=f"sqlite:///{folder}/nowhere/otpvoice.db")
    with pytest.raises(ConfigurationError, match="cannot be kept"):
        OTPService.from_env()


def test_without_development_codes_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No channel is no service; the message says how to get one."""
    environment(monkeypatch, SECRET=SECRET)
    with pytest.raises(ConfigurationError, match="OTPVOICE_ITNIO_API_KEY") as refused:
        OTPService.from_env()
    assert "OTPVOICE_DEVELOPMENT" in str(refused.value)


# --- ITNIO


def test_itnios_credentials_make_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the default route, in both services."""
    environment(monkeypatch, SECRET=SECRET, **{f"ITNIO_{name}": value for name, value in CREDENTIALS.items()})
    with OTPService.from_env() as service:
        assert isinstance(service._context.channels["voice"], ItnioVoice)
        assert service._context.policy("login").route.channels == ("voice",)
        assert "itnio-secret-4711" not in repr(service) + repr(service._context)
        assert SECRET not in repr(service) + repr(service._context)


@pytest.mark.parametrize("missing", CREDENTIALS)
def test_itnio_in_part_does_not_start(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Which one is missing is named; what is there is not repeated."""
    environment(
        monkeypatch, SECRET=SECRET, **{f"ITNIO_{name}": value for name, value in CREDENTIALS.items() if name != missing}
    )
    with pytest.raises(ConfigurationError, match=f"OTPVOICE_ITNIO_{missing}") as refused:
        OTPService.from_env()
    assert "itnio-secret-4711" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BASE_URL", "ftp://api.itniotech.com"),
        ("BASE_URL", "http://api.itniotech.com/?x=1"),
        ("LOOP_COUNT", "0"),
        ("LOOP_COUNT", "99"),
        ("RECALL_COUNT", "-1"),
        ("RECALL_INTERVAL", "1000"),
        ("MAX_DURATION", "121"),
        ("MAX_RINGING_TIME", "19"),
        ("DISPLAY_NUM", "+84"),
        ("LANGUAGE_PROFILE", "g9"),
    ],
)
def test_itnios_parameters_have_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The vendor's, checked at the start, named."""
    environment(
        monkeypatch,
        SECRET=SECRET,
        **{f"ITNIO_{key}": item for key, item in CREDENTIALS.items()},
        **{f"ITNIO_{name}": value},
    )
    with pytest.raises(ConfigurationError, match=name.lower()):
        OTPService.from_env()


# --- Channels, routes, purposes


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[channels.voice]\n", "type"),
        ("[channels.voice]\ntype = 7\n", "type"),
        ('[channels.voice]\ntype = "pigeon"\n', "pigeon"),
        ('[channels.voice]\ntype = "memory"\nloops = 3\n', "loops"),
        ('[channels.totp]\ntype = "memory"\n', "totp"),
        ('route = ["sms"]\n', "sms"),
        ('route = ["voice", "voice"]\n', "twice"),
        ("[purposes.Login]\n", "Login"),
        ('[purposes."a b"]\n', "a b"),
        ('[purposes.""]\n', "purposes"),
        ("[purposes.login]\nttl = 601\n", "ttl"),
        ('[purposes.login]\nttl = "5 fortnights"\n', "ttl"),
        ("[purposes.login]\nttl = true\n", "ttl"),
        ('[purposes.login]\nttl = "nan"\n', "ttl"),
        ("[purposes.login]\nttl = nan\n", "ttl"),
        ("[purposes.login]\nttl = inf\n", "ttl"),
        ('[purposes.login]\nttl = "99999999999999999999d"\n', "ttl"),
        ("[purposes.login]\nmax_attempts = 5.5\n", "max_attempts"),
        ("[purposes.login]\nmax_attempts = true\n", "max_attempts"),
        ('[purposes.login]\nmax_attempts = "5"\n', "max_attempts"),
        ("[purposes.login]\nmax_attemps = 5\n", "max_attemps"),
        ("[purposes.login]\ncode_length = 5\n", "short_code_reason"),
        ("[purposes.login]\ncooldowns = 30\n", "cooldowns"),
        ("[purposes.login]\ncooldowns = [60, 30]\n", "cooldowns"),
        ("[purposes.login]\nroute = []\n", "route"),
        ('[purposes.login]\nroute = "voice"\n', "route"),
        ("[purposes.login]\nroute = [7]\n", "route"),
        ('[purposes.login]\nroute = [{ chanel = "voice" }]\n', "route"),
        ('[purposes.login]\nroute = [{ channel = "voice", when = "never" }]\n', "when"),
        ('[purposes.login]\nroute = ["sms"]\n', "sms"),
        ("[purposes.login]\nroute = [[]]\n", "route"),
        ('[purposes.login]\nprofile = "psd9"\n', "profile"),
        ('[purposes.login]\nprofile = "nist"\nstop_after = 101\n', "stop_after"),
        ('[purposes.payment]\nprofile = "psd2"\nlock_after = 6\n', "lock_after"),
        ('brand = "!!!"\n', "brand"),
        ('brand = "https://example.org"\n', "link"),
        ('default_locale = "english!"\n', "default_locale"),
        ('[purposes.login]\nhash_profile = "md5"\n', "hash_profile"),
        ("[purposes.login]\nhash_profile = 3\n", "hash_profile"),
        ('[purposes.login]\ncountries = "VN"\n', "countries"),
        ("[policy]\nlock_for = -1\n", "lock_for"),
        ("[policy]\nunknown = 1\n", "unknown"),
        ('hash_profile = "md5"\n', "hash_profile"),
        ('default_locale = "en"\nwordings = "/nowhere"\n', "wordings"),
        ('database_url = "mysql://u:hunter2@h/d"\n', "mysql"),
        ("[purposes]\nlogin = 3\n", "purposes"),
    ],
)
def test_what_does_not_fit_does_not_start(folder: Path, text: str, named: str) -> None:
    """The message names the key; a traceback of a library is nobody's help."""
    with pytest.raises(ConfigurationError, match=named) as refused:
        made(folder, text)
    assert "hunter2" not in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_file_that_sets_everything(folder: Path) -> None:
    """As documented: spans, lists, routes with conditions; the purpose has the last word."""
    service = made(
        folder,
        """
countries = ["vn", "DE"]
hash_profile = "fast"
[policy]
max_attempts = 3
ttl = "2m"
cooldowns = ["30s", "1 min", 120]
[purposes.login]
ttl = 90.5
route = ["sms", { channel = "voice", after = "45s", not_countries = ["us"] }]
profile = "nist"
[purposes."door:front"]
code_length = 4
short_code_reason = "a guard looks on"
countries = ["us"]
[channels.voice]
type = "memory"
[channels.sms]
type = "memory"
medium = "sms"
""",
    )
    with service:
        login, reset = service._context.policy("login"), service._context.policy("reset")
        door = service._context.policy("door:front")
    assert (login.ttl, reset.ttl) == (timedelta(seconds=90.5), timedelta(minutes=2))
    assert (login.stop_after, login.max_attempts) == (100, 3)
    assert login.route.channels == ("sms", "voice")
    assert login.route.steps[1].after == timedelta(seconds=45)
    assert login.route.steps[1].not_countries == {"US"}
    assert reset.route.channels == ("voice",)
    assert (reset.countries, door.countries) == (frozenset({"VN", "DE"}), frozenset({"US"}))
    assert reset.cooldowns == (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2))
    assert (door.code_length, door.hash_profile) == (4, "fast")


def test_a_profile_brings_its_numbers() -> None:
    """Naming it is enough: no default is beyond it."""
    for name in ("nist", "pci", "psd2"):
        assert Policy(**policy_values("policy", {"profile": name})).profile == name
    assert policy_values("policy", {"profile": "psd2", "lock_after": 3})["lock_after"] == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30),
        (30.5, 30.5),
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("5 min", 300),
        ("24h", 86400),
        ("1d", 86400),
        (" 2m ", 120),
    ],
)
def test_spans_as_people_write_them(value: Any, seconds: float) -> None:
    assert policy_values("policy", {"lock_cap": value})["lock_cap"] == timedelta(seconds=seconds)


@given(
    st.dictionaries(
        st.sampled_from(["ttl", "cooldowns", "route", "countries", "max_attempts", "profile", "denied_classes", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_any_table_is_read_or_refused(values: dict[str, Any]) -> None:
    """Whatever a file holds: a policy or ConfigurationError, nothing else."""
    with suppress(ConfigurationError):
        Policy(**policy_values("policy", values))


# --- Assembly in code


def test_two_channels_of_one_name() -> None:
    """Routes could not tell them apart."""
    with pytest.raises(ConfigurationError, match="two channels"):
        assemble(secret=SECRET, channels=[Memory("voice"), Memory("voice")])


def test_no_channels() -> None:
    """There is nothing to send with."""
    with pytest.raises(ConfigurationError, match="no channel"):
        assemble(secret=SECRET, channels=[])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"brand": "https://evil.example"}, "link"),
        ({"brand": "B" * 200}, "40 at most"),
        ({"brand": "Bank 4829"}, "digits in a row"),
        ({"default_locale": "english"}, "is no locale"),
        ({"default_locale": ""}, "is no locale"),
        ({"sms_host": "https://example.com"}, "domain name"),
        ({"sms_app_hash": "short"}, "app hash"),
    ],
)
def test_what_would_spoil_every_message_stops_the_start(settings, problem):
    with pytest.raises(ConfigurationError, match=problem):
        assemble(secret=SECRET, channels=[Memory("voice")], database_url="sqlite://", **settings)


def test_policies_over_channels_that_are_not_there() -> None:
    """Named with what there is."""
    with pytest.raises(ConfigurationError, match=r"'sms'.*configured are: voice"):
        assemble(secret=SECRET, channels=[Memory("voice")], policies={"login": Policy(route=Route.of("sms", "voice"))})


def test_without_policies_the_route_is_all_channels() -> None:
    """In their order."""
    assembly = assemble(secret=SECRET, channels=[Memory("b"), Memory("a")], database_url="sqlite://")
    assert assembly.context.policy("login").route.channels == ("b", "a")


def test_nothing_is_opened_before_the_first_call(folder: Path) -> None:
    """A service can be made while its database is away."""
    OTPService(secret=SECRET, channels=[Memory("voice")], database_url=f"sqlite:///{folder}/otpvoice.db").close()
    assert not list(folder.iterdir())
