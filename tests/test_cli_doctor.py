"""``otpvoice doctor``: one line each, the remedy where something is wrong, and exit 1 then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from otpvoice.simulator.backend import Account
from otpvoice.simulator.server import SimulatedItnio
from otpvoice.store.engine import Store
from tests.cli_helpers import Ran, configure, run
from tests.conftest import NUMBER, SECRET


@pytest.fixture
def itnio(monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> Iterator[SimulatedItnio]:
    """A simulated provider and both databases, configured in the environment."""
    monkeypatch.chdir(tmp_path)
    with SimulatedItnio() as simulator:
        configure(monkeypatch, simulator, database_url, SECRET)
        yield simulator


def line(ran: Ran, name: str) -> str:
    """The one line about something."""
    (found,) = [item for item in ran.out.splitlines() if f" {name}:" in item]
    return found


def test_all_is_well(itnio: SimulatedItnio) -> None:
    ran = run("doctor")
    assert ran.code == 0, ran.out + ran.err
    assert {item.split()[0] for item in ran.out.splitlines()} == {"ok"}
    for name in (
        "configuration",
        "secret",
        "database",
        "countries",
        "itnio credentials",
        "itnio balance",
        "itnio clock",
    ):
        assert line(ran, name)
    assert not itnio.calls


def test_json_says_the_same(itnio: SimulatedItnio) -> None:
    checks = run("doctor", "--json").json
    assert {check["verdict"] for check in checks} == {"ok"}
    assert {"name", "verdict", "detail", "remedy"} == set(checks[0])


def test_a_clock_that_is_off(itnio: SimulatedItnio) -> None:
    itnio.set_clock_skew(600)
    ran = run("doctor")
    assert ran.code == 1
    assert "600 s behind" in line(ran, "itnio clock")
    assert "NTP" in line(ran, "itnio clock")


def test_an_empty_account(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio) -> None:
    with SimulatedItnio(account=replace(Account(), balance=Decimal(0))) as poor:
        monkeypatch.setenv("OTPVOICE_ITNIO_BASE_URL", poor.url)
        ran = run("doctor")
    assert ran.code == 1
    assert "add credit" in line(ran, "itnio balance")


def test_wrong_credentials(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio) -> None:
    monkeypatch.setenv("OTPVOICE_ITNIO_API_SECRET", "not-the-secret")
    ran = run("doctor")
    assert ran.code == 1
    assert line(ran, "itnio credentials").startswith("wrong")
    assert "not-the-secret" not in ran.out


def test_a_provider_that_is_away(itnio: SimulatedItnio) -> None:
    itnio.stop()
    ran = run("doctor")
    assert ran.code == 1
    assert "base_url" in line(ran, "itnio credentials")


def test_a_country_that_is_none(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio) -> None:
    """Nobody could be called there, and every other line would be ok."""
    monkeypatch.setenv("OTPVOICE_COUNTRIES", "vn,uk")
    ran = run("doctor")
    assert ran.code == 1
    assert line(ran, "countries").startswith("wrong")
    assert "of UK" in line(ran, "countries")
    assert "GB" in line(ran, "countries")


def test_no_list_of_countries_is_a_warning(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio) -> None:
    monkeypatch.delenv("OTPVOICE_COUNTRIES")
    ran = run("doctor")
    assert ran.code == 0
    assert line(ran, "countries").startswith("warning")
    assert "OTPVOICE_COUNTRIES" in line(ran, "countries")


@pytest.mark.parametrize("limit", ["max_sends_per_prefix", "max_sends_per_country", "max_sends_per_tenant"])
def test_a_limit_on_what_all_cost_together_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio, limit: str
) -> None:
    """Every country may be called, and a ring that is paid for the calls gets so many of them and no more."""
    monkeypatch.delenv("OTPVOICE_COUNTRIES")
    monkeypatch.setenv("OTPVOICE_POLICY", f'{{"{limit}": 20}}')
    assert line(run("doctor"), "countries").startswith("ok")
    monkeypatch.setenv("OTPVOICE_PURPOSES", f'{{"reset": {{"{limit}": null}}}}')
    assert line(run("doctor"), "countries").startswith("warning countries: reset may call every country")
    monkeypatch.setenv("OTPVOICE_PURPOSES", '{"reset": {"countries": ["UK"]}}')
    assert line(run("doctor"), "countries").startswith("wrong")


@pytest.mark.parametrize("secret", ["", "short", "change-me-change-me-change-me-now"])
def test_a_weak_secret_and_the_checks_after_it_are_shown_together(
    monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio, secret: str
) -> None:
    monkeypatch.setenv("OTPVOICE_SECRET", secret)
    ran = run("doctor")
    assert ran.code == 1
    assert "otpvoice keys generate" in line(ran, "secret")
    assert line(ran, "database").startswith("ok")


def test_a_wrong_key_is_named(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio) -> None:
    monkeypatch.setenv("OTPVOICE_POOL_SIZE", "many")
    ran = run("doctor")
    assert ran.code == 1
    assert "OTPVOICE_POOL_SIZE" in line(ran, "configuration")


def test_a_database_of_another_revision(itnio: SimulatedItnio, database_url: str) -> None:
    store = Store(database_url)
    with store.engine().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    ran = run("doctor")
    assert ran.code == 1
    assert "9999" in line(ran, "database")


def test_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio) -> None:
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", "postgresql://otpvoice:hunter2@127.0.0.1:1/otpvoice")
    ran = run("doctor")
    assert ran.code == 1
    assert line(ran, "database").startswith("wrong")
    assert "hunter2" not in ran.out


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_only_reads(itnio: SimulatedItnio, database_url: str) -> None:
    """A replica answers every question, and nothing can be charged on it."""
    store = Store(database_url)
    with store.engine().begin() as connection:
        connection.execute(text(f'ALTER DATABASE "{store.url.database}" SET default_transaction_read_only = on'))
    store.close()
    ran = run("doctor")
    assert ran.code == 1
    assert line(ran, "database").startswith("wrong")
    assert "read-only" in line(ran, "database")
    assert "can be written" in line(ran, "database")


def test_a_file_without_a_schema_is_looked_at_and_left_alone(
    itnio: SimulatedItnio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "new.db").touch()
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", f"sqlite:///{tmp_path}/new.db")
    ran = run("doctor")
    assert ran.code == 0
    assert "gets its schema at the first use" in line(ran, "database")
    store = Store(f"sqlite:///{tmp_path}/new.db")
    assert store.revision() is None
    store.close()


def test_development_is_a_warning_and_leaves_no_database_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTPVOICE_DEVELOPMENT", "1")
    ran = run("doctor")
    assert ran.code == 0
    assert line(ran, "secret").startswith("warning")
    assert "reaches nobody" in line(ran, "voice")
    assert not (tmp_path / "otpvoice.db").exists()


def test_a_provider_that_keeps_failing_is_shown(itnio: SimulatedItnio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTPVOICE_POLICY", '{"max_live": 20, "max_sends_per_day": 50}')
    assert run("issue", NUMBER).code == 0
    assert "1 sent within an hour, 100% taken" in line(run("doctor"), "health")
    itnio.set_rule({"answer": "-1"})
    for _ in range(12):
        run("issue", NUMBER)
    itnio.clear_rules()
    ran = run("doctor")
    assert ran.code == 1
    assert "skipped until" in line(ran, "health")
