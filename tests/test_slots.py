"""Counters that are spread over slots: exact in their sum, and nobody waits for a slot while holding another."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event, select
from sqlalchemy.exc import DBAPIError

from otpvoice.clock import ManualClock
from otpvoice.flow import undo
from otpvoice.store import counters, history, tables
from otpvoice.store.counters import Limit, Reached
from otpvoice.store.engine import Store
from tests.test_concurrency import in_threads
from tests.test_guards import on_postgresql

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOONER = timedelta(microseconds=1)
counter = tables.counter


@pytest.fixture
def another(database_url: str, clock: ManualClock) -> Iterator[Store]:
    """Another process's, on the same database."""
    made = Store(database_url, clock=clock)
    yield made
    made.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Store]:
    made = Store("sqlite://")
    yield made
    made.close()


def spread(most: int, slots: int = 4) -> Limit:
    return Limit(key="a", most=most, window=MINUTE, name="a", slots=slots)


def charge(store: Store, limit: Limit, at: datetime = NOW) -> Reached | None:
    """Charge as a request does: a refusal undoes its transaction."""

    def work(connection: Connection, _now: datetime) -> Reached | None:
        reached = counters.charge(connection, [limit], at)
        return None if reached is None else undo(reached)

    return store.transact(work)


def used(store: Store, at: datetime = NOW) -> list[int]:
    live = select(counter.c.used).where(counter.c.ends_at > at)
    return list(store.transact(lambda connection, _now: connection.execute(live).scalars().all()))


def choosing(patch: pytest.MonkeyPatch, choose: Callable[[list[str]], str]) -> None:
    patch.setattr(counters, "secrets", SimpleNamespace(choice=choose))


@pytest.mark.parametrize(("most", "slots"), [(1, 8), (3, 8), (8, 8), (20, 8), (21, 4), (5, 1)])
def test_slots_take_together_what_the_limit_says(store: Store, most: int, slots: int) -> None:
    """Neither one more nor one less, whether or not it can be divided; also less than there are slots."""
    limit = spread(most, slots)
    assert [charge(store, limit) for _ in range(most)] == [None] * most
    for _ in range(3):
        reached = charge(store, limit)
        assert reached is not None
        assert (reached.limit, reached.ends_at) == (limit, NOW + MINUTE)
    assert sum(used(store)) == most
    assert max(used(store)) <= -(-most // slots)
    assert len(used(store)) <= min(most, slots)


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 9), st.integers(2, 4))
def test_a_refusal_is_right_and_so_is_its_time(embedded: Store, waits: list[int], most: int, slots: int) -> None:
    """Refused where the sum is reached and nowhere else; room again when it says, and not a moment sooner."""
    embedded.transact(lambda connection, _now: connection.execute(counter.delete()))
    at, limit = NOW, spread(most, slots)
    for wait in waits:
        at += timedelta(seconds=wait)
        before = sum(used(embedded, at))
        reached = charge(embedded, limit, at)
        assert (reached is None) == (before < most)
        if reached is None:
            assert sum(used(embedded, at)) == before + 1
        else:
            assert charge(embedded, limit, reached.ends_at - SOONER) is not None
            assert sum(used(embedded, reached.ends_at)) < most


def test_a_smaller_limit_comes_again_when_enough_has_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number was lowered, or another purpose's is higher: the first window to end does not make room yet."""
    choosing(monkeypatch, min)
    for n in range(8):
        assert charge(store, spread(8), NOW + timedelta(seconds=n)) is None
    reached = charge(store, spread(3), NOW + timedelta(seconds=9))
    assert reached is not None
    assert reached.ends_at == NOW + MINUTE + timedelta(seconds=4), "slots of two, begun at 0, 2, 4 and 6 s"


def test_a_row_is_charged_as_ever(store: Store) -> None:
    """A limit of one slot has the key that it always had, and costs one statement; none of all costs none."""
    one = Limit(key="a", most=2, window=MINUTE, name="a")
    with counting(store) as statements:
        assert charge(store, one) is None
    assert len(statements) == 1
    with counting(store) as statements:
        store.transact(lambda connection, _now: counters.charge(connection, [], NOW))
    assert statements == []
    with counting(store) as statements:
        assert charge(store, spread(2)) is None
    assert [statement.split()[0] for statement in statements] == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]


@contextmanager
def counting(store: Store) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    store.transact(lambda _connection, _now: None)
    event.listen(store.engine(), "before_cursor_execute", note)
    yield found
    event.remove(store.engine(), "before_cursor_execute", note)


class _NoSavepoint:
    """The naive version: a slot that was missed stays locked."""

    def __enter__(self) -> _NoSavepoint:
        return self

    def __exit__(self, *_: object) -> None: ...

    def rollback(self) -> None: ...


@on_postgresql
@pytest.mark.parametrize("naive", [False, True], ids=["let go", "kept"])
def test_a_slot_that_filled_up_meanwhile_is_let_go(
    store: Store, another: Store, monkeypatch: pytest.MonkeyPatch, *, naive: bool
) -> None:
    """Else two that have missed a slot each would wait for one another's: a deadlock."""
    locked = select(counter.c.key).where(counter.c.key == "a#0").with_for_update(nowait=True)
    tries: list[str] = []

    def choose(keys: list[str]) -> str:
        if not tries:  # Looked at, and now somebody else is charged to it.
            another.transact(
                lambda connection, _now: connection.execute(
                    counter.insert().values(key="a#0", used=1, ends_at=NOW + MINUTE)
                )
            )
        tries.append(keys[0])
        return keys[0]

    choosing(monkeypatch, choose)
    if naive:
        monkeypatch.setattr(Connection, "begin_nested", lambda _connection: _NoSavepoint())
    with store.engine().begin() as connection:
        assert counters.charge(connection, [spread(2, 2)], NOW) is None
        assert tries == ["a#0", "a#1"]
        with another.engine().begin() as second:
            if naive:
                with pytest.raises(DBAPIError, match="could not obtain lock"):
                    second.execute(locked)
                second.rollback()
            else:
                assert second.execute(locked).scalar_one() == "a#0"
    assert used(store) == [1, 1]


@on_postgresql
def test_a_limit_that_fills_up_under_the_look_refuses(
    store: Store, another: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last place goes to somebody else between the look and the charge; the second look says so."""

    def choose(keys: list[str]) -> str:
        another.transact(
            lambda connection, _now: connection.execute(
                counter.insert().values(key=keys[0], used=1, ends_at=NOW + MINUTE)
            )
        )
        return keys[0]

    choosing(monkeypatch, choose)
    reached = charge(store, spread(1))
    assert reached is not None
    assert reached.ends_at == NOW + MINUTE
    assert used(store) == [1]


@on_postgresql
def test_a_purge_waits_for_no_counter_that_is_charged(store: Store, another: Store) -> None:
    """It would hold what it has removed until then, and whoever is charged to that next would wait for it in turn."""
    store.transact(
        lambda connection, _now: connection.execute(
            counter.insert(), [{"key": key, "used": 1, "ends_at": NOW} for key in ("a", "b", "c")]
        )
    )
    with store.engine().begin() as charging:
        limit = Limit(key="b", most=2, window=MINUTE, name="b")
        assert counters.charge(charging, [limit], NOW + MINUTE) is None
        purge = lambda connection, _now: history.purge_counters(connection, NOW + MINUTE, batch=10)  # noqa: E731
        assert another.transact(purge) == 2
    assert used(store, NOW + MINUTE) == [1]


@on_postgresql
@pytest.mark.parametrize("most", [1, 7, 40])
def test_a_crowd_on_many_limits_is_exact_and_meets_no_deadlock(
    database_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture, most: int
) -> None:
    """Several limits a transaction, near their end: a deadlock would be tried again, and the log say so."""
    store = Store(database_url, clock=clock, pool_size=16)
    limits = [Limit(key=key, most=most, window=MINUTE, name=key, slots=4) for key in ("x", "y", "z")]

    def work(connection: Connection, _now: datetime) -> Reached | None:
        reached = counters.charge(connection, secrets.SystemRandom().sample(limits, 3), NOW)
        return None if reached is None else undo(reached)

    with caplog.at_level("INFO", logger="otpvoice.store"):
        outcomes = in_threads([lambda: [store.transact(work) for _ in range(4)] for _ in range(16)])
    charged = [one for outcome in outcomes for one in outcome]
    assert charged.count(None) == most
    assert sum(used(store)) == 3 * most
    assert "tried again" not in caplog.text
    store.close()
