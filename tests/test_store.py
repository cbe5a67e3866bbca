"""The store: URLs, transactions, times, counters; what a database that misbehaves turns into."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from otpvoice.clock import DatabaseClock, ManualClock
from otpvoice.errors import ConfigurationError, OTPVoiceError, SchemaMismatch, StoreUnavailable
from otpvoice.flow import undo
from otpvoice.store import counters, ledgers, migrate, tables
from otpvoice.store.counters import Limit
from otpvoice.store.engine import Store, parse_url
from otpvoice.store.tables import UtcDateTime
from tests.conftest import NUMBER, Otp

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


# --- URLs


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///otpvoice.db", "sqlite+pysqlite"),
        ("sqlite://", "sqlite+pysqlite"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg"),
    ],
)
def test_urls_as_people_write_them(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "otpvoice.db",
        "mysql://u:secret@h/d",
        "oracle://h",
        "postgresql+asyncpg://u:secret@h/d",
        "postgresql://u:x@h:secret@h/d",
        "postgresql://u@h:secret/d",
        "://",
        "\x00",
    ],
)
def test_other_urls_do_not_start(url: str) -> None:
    """The message names the setting and repeats no password."""
    with pytest.raises(ConfigurationError, match="OTPVOICE_DATABASE_URL") as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)


def test_a_password_is_not_shown() -> None:
    """Neither in the store's repr nor in what connecting raises."""
    store = Store("postgresql://somebody:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in repr(store)
    with pytest.raises(StoreUnavailable) as away:
        store.now()
    assert "hunter2" not in str(away.value)
    store.close()


# --- Transactions


def test_a_transaction_commits_what_it_returns(store: Store, clock: ManualClock) -> None:
    """The value comes back after the commit, and ``now`` is the clock's."""
    assert store.transact(lambda connection, now: (note(connection, "a"), now)[1]) == clock.now()
    assert notes(store) == ["a"]


def test_undo_returns_the_value_and_keeps_nothing(store: Store) -> None:
    """A refused request's reservations are gone, its reason is not."""
    assert store.transact(lambda connection, _now: undo((note(connection, "a"), "refused")[1])) == "refused"
    assert notes(store) == []


def test_an_exception_rolls_back(store: Store) -> None:
    """Whatever it is; it comes out as it went in."""

    def broken(connection: Any, _now: Any) -> None:
        note(connection, "a")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.transact(broken)
    assert notes(store) == []


def test_a_single_statement_commits_by_itself(store: Store) -> None:
    """In autocommit: durable without a COMMIT."""
    store.transact(lambda connection, _now: note(connection, "a"), single=True)
    assert notes(store) == ["a"]


@pytest.mark.parametrize(("failures", "performed"), [(1, 2), (2, 3)])
def test_a_deadlock_is_tried_again(store: Store, failures: int, performed: int) -> None:
    """Three times in all, from the start: a half-done try leaves nothing."""
    tries: list[int] = []

    def work(connection: Any, _now: Any) -> str:
        tries.append(1)
        note(connection, f"try {len(tries)}")
        if len(tries) <= failures:
            raise DBAPIError("…", None, _Deadlock())
        return "done"

    assert store.transact(work) == "done"
    assert len(tries) == performed
    assert notes(store) == [f"try {performed}"]


def test_after_three_tries_it_is_unavailable(store: Store) -> None:
    """Fails closed: our error, and nothing kept."""
    tries: list[int] = []

    def work(_connection: Any, _now: Any) -> None:
        tries.append(1)
        raise DBAPIError("…", None, _Deadlock())

    with pytest.raises(StoreUnavailable):
        store.transact(work)
    assert (len(tries), notes(store)) == (3, [])


def test_other_database_errors_are_not_tried_again(store: Store) -> None:
    """They would not go better; parameters are not in the message."""
    tries: list[int] = []

    def work(connection: Any, _now: Any) -> None:
        tries.append(1)
        for _ in range(2):
            connection.execute(tables.breaker.insert().values(**_row("+84912345678")))

    with pytest.raises(StoreUnavailable) as refused:
        store.transact(work)
    assert len(tries) == 1
    assert "912345678" not in str(refused.value)


def test_a_commit_that_fails_is_not_tried_again(store: Store) -> None:
    """Nobody knows whether it was done: saying so is all that is safe."""
    tries: list[int] = []
    store.transact(lambda connection, _now: note(connection, "first"))

    def breaks(_connection: Any) -> None:
        raise DBAPIError("…", None, _Deadlock())

    def work(connection: Any, _now: Any) -> None:
        tries.append(1)
        note(connection, "second")

    engine: Engine = store.engine()
    event.listen(engine, "commit", breaks)
    try:
        with pytest.raises(StoreUnavailable):
            store.transact(work)
    finally:
        event.remove(engine, "commit", breaks)
    assert len(tries) == 1


def test_a_store_can_be_used_after_it_was_closed(store: Store) -> None:
    """It opens again by itself."""
    store.transact(lambda connection, _now: note(connection, "a"))
    store.close()
    store.close()
    assert notes(store) == ["a"]


# --- A database that misbehaves


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    """Named, before anything is opened."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        Store(f"sqlite:///{tmp_path}/nowhere/otpvoice.db").transact(lambda _connection, now: now)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Our error, not SQLite's."""
    path = tmp_path / "otpvoice.db"
    path.write_bytes(b"this is no database, but long enough to be looked at" * 100)
    store = Store(f"sqlite:///{path}")
    with pytest.raises((StoreUnavailable, ConfigurationError)):
        store.transact(lambda _connection, now: now)
    store.close()


def test_a_locked_database_is_unavailable(otp_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the writer: we wait our time, then fail closed."""
    monkeypatch.setattr("otpvoice.store.engine.BUSY_SECONDS", 0.05)
    store = Store(f"sqlite:///{otp_file}")
    other = sqlite3.connect(otp_file, isolation_level=None)
    try:
        store.transact(lambda connection, _now: connection.execute(text("SELECT 1")).all(), single=True)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked") as locked:
            store.transact(lambda connection, _now: note(connection, "a"))
        assert locked.value.retry_after > timedelta(0)
        other.execute("ROLLBACK")
        store.transact(lambda connection, _now: note(connection, "a"))
    finally:
        other.close()
        store.close()


def test_a_read_only_database_is_unavailable(store: Store) -> None:
    """Reading goes on, charging does not: nothing is approved or sent uncounted."""

    def read_only(connection: Any, on: bool) -> None:
        if store.sqlite:
            connection.execute(text(f"PRAGMA query_only = {'ON' if on else 'OFF'}"))
        else:
            connection.execute(text(f"SET default_transaction_read_only = {'on' if on else 'off'}"))

    def work(connection: Any, _now: Any) -> None:
        read_only(connection, True)
        if not store.sqlite:
            connection.execute(text("SET TRANSACTION READ ONLY"))
        note(connection, "a")

    try:
        with pytest.raises(StoreUnavailable, match="read"):
            store.transact(work)
    finally:
        store.close()
    assert notes(store) == []


@pytest.mark.parametrize("revision", ["0000", "9999", "x"])
def test_another_revision_is_refused(store: Store, revision: str) -> None:
    """Of a newer release, or of none: nothing is touched, and the message says what to do."""
    store.transact(
        lambda connection, _now: connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    )
    store.close()
    advice = "of its own" if revision == "x" else "install that version"
    with pytest.raises(SchemaMismatch, match=f"{revision}.*{advice}"):
        store.transact(lambda connection, _now: note(connection, "a"))
    with pytest.raises(SchemaMismatch, match=f"{revision}.*{advice}"):
        store.upgrade()


def test_another_programs_tables_are_not_mixed_with_ours(database_url: str, tmp_path: Path) -> None:
    """Said with the remedy, not as a database that is away; and nothing is changed."""
    store = Store(database_url) if "postgres" in database_url else Store(f"sqlite:///{tmp_path}/other.db")
    with store.engine().begin() as connection:
        if not store.sqlite:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        connection.execute(text("CREATE TABLE challenge (title text)"))
    with pytest.raises(SchemaMismatch, match="of its own"):
        store.upgrade()
    with store.engine().connect() as connection:
        assert inspect(connection).get_table_names() == ["challenge"]
    store.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_schema_of_its_own_beside_another_programs(database_url: str) -> None:
    """What that remedy says: PostgreSQL's ``search_path`` in the URL."""
    beside = Store(database_url)
    with beside.engine().begin() as connection:
        connection.execute(text("CREATE SCHEMA otpvoice"))
        connection.execute(text("UPDATE alembic_version SET version_num = 'another program''s'"))
    own = Store(f"{database_url}&options=-csearch_path%3Dotpvoice")
    assert own.upgrade() == (None, migrate.REVISION)
    own.transact(lambda connection, _now: note(connection, "a"))
    assert notes(own) == ["a"]
    with beside.engine().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM public.event")).scalar_one() == 0
    own.close()
    beside.close()


def test_a_missing_table_says_upgrade(store: Store) -> None:
    """Not ``no such table`` alone."""
    with pytest.raises(SchemaMismatch, match="otpvoice db upgrade"):
        store.transact(lambda connection, _now: connection.execute(text("SELECT * FROM no_such_table")))


def test_a_database_that_goes_away_fails_closed(otp: Otp) -> None:
    """P32: a challenge was open, its right code is not approved while nothing can be charged; later it is."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    store = otp.service._assembly.store

    def away(_connection: Any, *_rest: Any) -> None:
        raise DBAPIError("…", None, ConnectionError("server closed the connection"))

    event.listen(store.engine(), "begin", away)
    try:
        for operation in (
            lambda: otp.service.verify_code(challenge.id, otp.code),
            lambda: otp.service.issue_code(NUMBER, purpose="login"),
            lambda: otp.service.get(challenge.id),
        ):
            with pytest.raises(StoreUnavailable):
                operation()
    finally:
        event.remove(store.engine(), "begin", away)
    assert len(otp.voice.sent) == 1
    assert otp.service._assembly.hashing._inside == 0
    assert otp.service.verify_code(challenge.id, otp.code)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_server_that_vanished_is_noticed(database_url: str) -> None:
    """Bytes that nobody acknowledges end a connection, not TCP's own patience; the URL has the last word."""
    seen: list[dict[str, Any]] = []
    for url in (database_url, f"{database_url}&tcp_user_timeout=7000"):
        own = Store(url)
        event.listen(own.engine(), "do_connect", lambda _dialect, _record, _args, options: seen.append(options))
        assert own.transact(lambda connection, _now: connection.execute(select(1)).scalar_one()) == 1
        own.close()
    assert [int(options["tcp_user_timeout"]) for options in seen] == [20_000, 7000]
    assert all(options["keepalives_idle"] + 3 * options["keepalives_interval"] <= 60 for options in seen)


# --- Time


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(-14, 14))
def test_times_are_stored_in_utc_and_come_back(at: datetime, hours: int) -> None:
    """From any zone, to the microsecond, on both databases."""
    elsewhere = at.astimezone(timezone(timedelta(hours=hours)))
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        column = UtcDateTime()
        stored = column.process_bind_param(elsewhere, dialect)
        back = column.process_result_value(stored, dialect)
        assert back == at
        assert back is not None
        assert back.tzinfo is UTC


@given(*[st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))] * 2)
def test_text_compares_as_time_does(one: datetime, other: datetime) -> None:
    """SQLite judges expiry by comparing text."""
    column, dialect = UtcDateTime(), sqlite.dialect()
    texts = [column.process_bind_param(at, dialect) for at in (one, other)]
    assert (texts[0] < texts[1]) == (one < other)
    assert {len(item) for item in texts} == {27}


def test_nothing_is_nothing() -> None:
    """NULL is None both ways."""
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        assert UtcDateTime().process_bind_param(None, dialect) is None
        assert UtcDateTime().process_result_value(None, dialect) is None


def test_the_database_clock_is_measured_and_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: the server's time plus what has gone by; this machine's wall clock says nothing."""
    steady = [1000.0]
    monkeypatch.setattr("otpvoice.clock._steady", lambda: steady[0])
    clock = DatabaseClock()
    assert clock.due
    with pytest.raises(RuntimeError):
        clock.now()
    clock.set(NOW.astimezone(timezone(timedelta(hours=7))))
    steady[0] += 30
    assert clock.now() == NOW + timedelta(seconds=30)
    assert not clock.due
    steady[0] += 31
    assert clock.due
    clock.set(NOW)
    assert clock.now() == NOW


def test_the_default_clock_is_the_databases(database_url: str) -> None:
    """On PostgreSQL it is asked; on SQLite the machine is the server."""
    store = Store(database_url)
    assert abs(store.now() - datetime.now(UTC)) < timedelta(minutes=5)
    assert isinstance(store._clock, DatabaseClock) != store.sqlite
    store.close()


# --- Counters


def charge(store: Store, *limits: Limit, at: datetime = NOW) -> counters.Reached | None:
    """Charge as a request does: a refusal undoes its transaction."""

    def work(connection: Any, _now: Any) -> counters.Reached | None:
        reached = counters.charge(connection, limits, at)
        return None if reached is None else undo(reached)

    return store.transact(work)


def limit(key: str, most: int, window: timedelta = MINUTE, *, older: tuple[str, ...] = ()) -> Limit:
    return Limit(key=key, most=most, window=window, name=key, older_keys=older)


def used(store: Store) -> dict[str, int]:
    return dict(
        store.transact(
            lambda connection, _now: connection.execute(select(tables.counter.c.key, tables.counter.c.used)).all()
        )
    )


def test_a_counter_counts_to_its_limit_and_starts_anew(store: Store) -> None:
    """A window runs from its first use; at its end there is room again."""
    three = limit("a", 3)
    assert [charge(store, three, at=NOW + timedelta(seconds=n)) for n in range(3)] == [None] * 3
    reached = charge(store, three, at=NOW + timedelta(seconds=59))
    assert reached is not None
    assert (reached.limit, reached.ends_at) == (three, NOW + MINUTE)
    assert charge(store, three, at=NOW + MINUTE) is None
    assert used(store) == {"a": 1}


def test_all_are_charged_or_none(store: Store) -> None:
    """The one that refuses is named, and the others are as they were."""
    a, b, c = limit("a", 9), limit("b", 1), limit("c", 9)
    assert charge(store, c, a, b) is None
    reached = charge(store, a, b, c)
    assert reached is not None
    assert reached.limit is b
    assert used(store) == {"a": 1, "b": 1, "c": 1}
    assert charge(store) is None


def test_a_limit_that_is_lowered_holds_at_once(store: Store) -> None:
    """What was used counts, whatever was allowed then."""
    for _ in range(5):
        charge(store, limit("a", 9))
    assert charge(store, limit("a", 3)) is not None


def test_a_rotation_keeps_the_count(store: Store) -> None:
    """Counted under the old key, limited under the new one, once."""
    for _ in range(2):
        charge(store, limit("old", 3))
    new = limit("new", 3, older=("old",))
    assert charge(store, new) is None
    assert charge(store, new) is not None
    assert used(store) == {"new": 3}


@given(st.lists(st.integers(0, 40), max_size=25), st.integers(1, 4))
def test_no_window_takes_more_than_its_limit(waits: list[int], most: int) -> None:
    """Whenever the requests come: as a reference count says."""
    store, at, expected_end, expected_used = MEMORY, NOW, None, 0
    store.transact(lambda connection, _now: connection.execute(tables.counter.delete()))
    for wait in waits:
        at += timedelta(seconds=wait)
        if expected_end is None or expected_end <= at:
            expected_end, expected_used = at + MINUTE, 0
        allowed = expected_used < most
        expected_used += allowed
        assert (charge(store, limit("a", most), at=at) is None) == allowed


# --- Ledgers


def test_a_rotated_ledger_moves_to_the_new_key(store: Store) -> None:
    """A rotation gives nobody a fresh guess budget, and leaves one ledger."""

    def fail(connection: Any, now: datetime, *, keys: tuple[str, ...]) -> int:
        (held,) = ledgers.hold(connection, tenant="t", purpose="p", owners=[keys], now=now)
        from dataclasses import replace

        from otpvoice.policy import Policy

        charged = replace(held, ledger=held.ledger.charge(Policy(), now))
        ledgers.save(connection, [charged], now)
        return charged.ledger.failures(now)

    assert store.transact(lambda connection, now: fail(connection, now, keys=("old",))) == 1
    assert store.transact(lambda connection, now: fail(connection, now, keys=("new", "old"))) == 2
    assert store.transact(lambda connection, now: fail(connection, now, keys=("new",))) == 3
    assert store.transact(lambda connection, now: fail(connection, now, keys=("old",))) == 1, "another ledger by now"


def test_errors_of_the_store_are_ours() -> None:
    """One ``except`` is enough for a caller."""
    assert issubclass(StoreUnavailable, OTPVoiceError)
    assert issubclass(SchemaMismatch, ConfigurationError)


MEMORY = Store("sqlite://", clock=ManualClock())


@pytest.fixture
def otp_file(sqlite_template: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copy(sqlite_template, tmp_path / "otpvoice.db"))


@pytest.fixture(scope="module", autouse=True)
def _close_memory() -> Iterator[None]:
    yield
    MEMORY.close()


class _Deadlock(Exception):
    sqlstate = "40P01"


def _row(channel: str) -> dict[str, Any]:
    return {"channel": channel, "failures": 0, "trips": 0, "updated_at": NOW}


def note(connection: Any, channel: str) -> None:
    connection.execute(tables.breaker.insert().values(**_row(channel)))


def notes(store: Store) -> list[str]:
    return sorted(
        store.transact(lambda connection, _now: connection.execute(select(tables.breaker.c.channel)).scalars().all())
    )
