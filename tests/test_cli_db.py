"""``otpvoice db``: idempotent, clear, and silent about passwords."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from otpvoice.channels.memory import Memory
from otpvoice.cli.db import where
from otpvoice.clock import ManualClock, SystemClock
from otpvoice.service import OTPService
from otpvoice.store import migrate
from otpvoice.store.engine import Store
from tests.cli_helpers import run
from tests.conftest import NUMBER, SECRET, _database, _maintain, policies


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without a schema, named in the environment."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        name = f"empty_{os.getpid()}"
        url = _database(request.getfixturevalue("postgres"), name, create_from="template1")
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", url)
    yield url
    if request.param == "postgresql":
        _maintain(request.getfixturevalue("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def test_upgrade_creates_once_and_then_has_nothing_to_do(empty: str) -> None:
    before = run("db", "check")
    assert before.code == 3
    assert "otpvoice db upgrade" in before.err
    first = run("db", "upgrade")
    assert (first.code, first.out.split(" was ")[1]) == (0, f"created at revision {migrate.REVISION}\n")
    assert "nothing to do" in run("db", "upgrade").out
    checked = run("db", "check")
    assert (checked.code, migrate.REVISION in checked.out) == (0, True)


def test_check_creates_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", f"sqlite:///{tmp_path}/absent.db")
    assert run("db", "check").code == 3
    assert list(tmp_path.iterdir()) == []


def test_another_versions_database_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", database_url)
    store = Store(database_url)
    with store.engine().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for command in ("check", "upgrade"):
        ran = run("db", command)
        assert ran.code == 3
        assert "9999" in ran.err
    with store.engine().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    store.close()
    old = run("db", "check")
    assert old.code == 3
    assert "otpvoice db upgrade" in old.err


def test_a_password_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", "postgresql://otpvoice:hunter2@127.0.0.1:1/otpvoice")
    for command in ("check", "upgrade"):
        ran = run("db", command)
        assert ran.code == 3
        assert "hunter2" not in ran.out + ran.err
        assert "database did not answer" in ran.err


def test_a_database_is_named_without_its_password() -> None:
    store = Store("postgresql://otpvoice:hunter2@db/otpvoice")
    assert where(store) == "postgresql://otpvoice:***@db/otpvoice"


def test_a_file_that_is_no_database_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not.db").write_bytes(b"<html>not a database</html>" * 100)
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", f"sqlite:///{tmp_path}/not.db")
    for command in ("check", "upgrade"):
        ran = run("db", command)
        assert ran.code == 3
        assert ran.err.count("\n") == 1


def test_purge_removes_what_is_over_its_time_and_nothing_else(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", database_url)
    monkeypatch.setenv("OTPVOICE_SECRET", SECRET)
    monkeypatch.setenv("OTPVOICE_CHANNELS", '{"voice": {"type": "memory"}}')
    past = ManualClock(SystemClock().now() - timedelta(days=3))
    options = {"secret": SECRET, "channels": [Memory("voice")], "database_url": database_url, "policies": policies()}
    for clock in (past, SystemClock()):
        with OTPService(**options, clock=clock) as service:
            kept = service.issue_code(NUMBER, purpose="login")
    first = run("db", "purge")
    assert first.code == 0, first.err
    assert dict(line.split() for line in first.out.splitlines())["challenges"] == "1"
    second = run("db", "purge")
    assert set(dict(line.split() for line in second.out.splitlines()).values()) == {"0"}
    with OTPService(**options) as service:
        assert service.get(kept.id).id == kept.id
