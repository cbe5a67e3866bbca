"""``otpvoice totp``: enroll, confirm, ask, fall back, remove."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest

from otpvoice.simulator.server import SimulatedItnio
from tests.cli_helpers import configure, run
from tests.conftest import NUMBER, SECRET


@pytest.fixture(autouse=True)
def itnio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_template: Path) -> Iterator[SimulatedItnio]:
    """A route that asks the app first and calls second."""
    (tmp_path / "totp.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.setenv("OTPVOICE_POLICY", '{"route": ["totp", "voice"]}')
    with SimulatedItnio() as simulator:
        configure(monkeypatch, simulator, f"sqlite:///{tmp_path}/totp.db", SECRET)
        yield simulator


def enrolled(*options: str) -> dict[str, str]:
    ran = run("totp", "enroll", "alice", *options)
    assert ran.code == 0, ran.err
    assert "█" in ran.out
    return dict(item.split() for item in ran.out.splitlines() if item.startswith(("secret ", "factor ")))


def test_an_app_is_enrolled_confirmed_asked_and_removed() -> None:
    made = enrolled("--show-secret")
    app = pyotp.TOTP(made["secret"])
    now = datetime.now(UTC)
    assert run("totp", "confirm", "alice", made["factor"], "000000").code == 1
    assert run("totp", "confirm", "alice", made["factor"], app.at(now)).code == 0
    challenge = run("issue", "--subject", "alice", "--json").json["id"]
    assert run("verify", challenge, app.at(now)).code == 1  # That time step was accepted once.
    approved = run("verify", challenge, app.at(now + timedelta(seconds=30)))
    assert approved.code == 0, approved.err
    assert approved.out == "approved: login for alice, the authenticator app by totp\n"
    assert run("totp", "remove", "alice").out == "removed 1 factor\n"
    assert run("totp", "remove", "alice").out == "removed 0 factors\n"


def test_the_secret_is_not_printed_unasked() -> None:
    assert set(enrolled()) == {"factor"}


def test_another_subject_cannot_confirm_it() -> None:
    made = enrolled("--show-secret")
    ran = run("totp", "confirm", "mallory", made["factor"], pyotp.TOTP(made["secret"]).now())
    assert ran.code == 2
    assert "enroll" in ran.err


def test_who_has_no_app_is_called(itnio: SimulatedItnio) -> None:
    assert run("issue", NUMBER, "--subject", "bob").code == 0
    assert len(itnio.calls) == 1
