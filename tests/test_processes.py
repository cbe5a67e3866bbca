"""Processes: several on one database, killed outright at chosen moments; and a database that is away.

The children are real processes. What they compare and whom they call is written to files of this test, one byte a
time, so that the counts are of what happened and not of what the database says.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update

import otpvoice.clock
from otpvoice import (
    ChallengeClosed,
    CodeMismatch,
    DeliveryState,
    OTPService,
    SchemaMismatch,
    ServiceBusy,
    StoreUnavailable,
    codes,
)
from otpvoice.channels.memory import Memory
from otpvoice.store import engine, events, ledgers, tables
from otpvoice.store.engine import Store
from tests.conftest import NUMBER, SECRET, Maker, policies
from tests.promises import Watch, broken
from tests.test_concurrency import guesses

PATIENCE = 60
"""Seconds after which a child that does not answer is a failure; none of the tests takes as long."""

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

_start = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def _forkserver() -> None:
    """Children are forked from a server that has imported all of this once, and holds no connection."""
    _start.set_forkserver_preload(["tests.test_processes"])


def service_on(url: str, **numbers: Any) -> OTPService:
    return OTPService(secret=SECRET, channels=[Memory("voice")], database_url=url, policies=policies(**numbers))


def tally(path: Path) -> int:
    """How often it happened."""
    return path.stat().st_size if path.exists() else 0


def count_into(path: Path, owner: Any, name: str) -> None:
    """Write one byte to a file, at once, whenever a function is called."""
    original = getattr(owner, name)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def counted(*args: Any, **options: Any) -> Any:
        os.write(file, b".")
        return original(*args, **options)

    setattr(owner, name, counted)


def crowd(jobs: list[dict[str, Any]], target: Callable[..., None]) -> Counter[str]:
    """Run a child for each of these jobs; they start together. Returns the kinds of all outcomes."""
    barrier, answers = _start.Barrier(len(jobs)), _start.Queue()
    children = [_start.Process(target=target, kwargs=job | {"barrier": barrier, "answers": answers}) for job in jobs]
    for child in children:
        child.start()
    kinds: Counter[str] = Counter()
    for _ in children:
        kinds.update(answers.get(timeout=PATIENCE))
    for child in children:
        child.join(PATIENCE)
        assert child.exitcode == 0
    return kinds


def decided(work: Callable[[], Any]) -> str:
    while True:
        try:
            return type(work()).__name__
        except ServiceBusy as error:
            if isinstance(error, StoreUnavailable):
                return "StoreUnavailable"
        except Exception as error:
            return type(error).__name__


def child_verifies(*, url: str, challenge_id: str, tries: list[str], path: Path, barrier: Any, answers: Any) -> None:
    """A process that verifies all of these codes at once."""
    count_into(path, codes, "matching")
    with service_on(url) as service, ThreadPoolExecutor(10) as pool:
        service.get(challenge_id)
        barrier.wait(PATIENCE)
        answers.put(list(pool.map(lambda code: decided(lambda: service.verify_code(challenge_id, code)), tries)))


def child_issues(*, url: str, purposes: list[str], path: Path, barrier: Any, answers: Any) -> None:
    """A process that issues codes for all of these purposes at once."""
    count_into(path, Memory, "_keep")
    with service_on(url, max_live=100, max_sends_per_day=5) as service, ThreadPoolExecutor(5) as pool:
        service._assembly.store.now()
        barrier.wait(PATIENCE)
        answers.put(list(pool.map(lambda one: decided(lambda: service.issue_code(NUMBER, purpose=one)), purposes)))


def issued(url: str) -> tuple[str, str]:
    """A live challenge and its code."""
    voice = Memory("voice")
    with OTPService(secret=SECRET, channels=[voice], database_url=url, policies=policies()) as service:
        return service.issue_code(NUMBER, purpose="login").id, voice.sent[-1].code


def test_two_hundred_guesses_by_four_processes_compare_exactly_five(database_url: str, tmp_path: Path) -> None:
    """P20: whatever the number of processes."""
    challenge_id, right = issued(database_url)
    tries, path = guesses(right, 200), tmp_path / "compared"
    jobs = [{"url": database_url, "challenge_id": challenge_id, "tries": tries[n::4], "path": path} for n in range(4)]
    assert crowd(jobs, child_verifies) == {"CodeMismatch": 5, "ChallengeClosed": 195}
    assert tally(path) == 5


def test_fifty_right_codes_by_two_processes_approve_exactly_once(database_url: str, tmp_path: Path) -> None:
    """P7: fifty parallel right codes over two processes."""
    challenge_id, right = issued(database_url)
    path = tmp_path / "compared"
    jobs = [{"url": database_url, "challenge_id": challenge_id, "tries": [right] * 25, "path": path}] * 2
    assert crowd(jobs, child_verifies) == {"Verified": 1, "ChallengeClosed": 49}
    assert tally(path) <= 5


def test_a_hundred_openings_by_four_processes_make_five_calls(database_url: str, tmp_path: Path) -> None:
    """P31, P33: N processes are not N times the limit."""
    path = tmp_path / "called"
    jobs = [{"url": database_url, "purposes": [*policies()] * 5, "path": path}] * 4
    assert crowd(jobs, child_issues) == {"Challenge": 5, "RateLimited": 95}
    assert tally(path) == 5


# Killing: a child comes to a chosen line, says so, and is killed there by SIGKILL: no handler, no finally, no rollback
# of its own.


def child_hangs(*, url: str, line: str, after: bool, method: str, args: Any, options: Any, pipe: Pipe) -> None:
    """A process that stops for ever at a line of the core, before or after it has been performed."""
    module, path = line.split(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, generate = getattr(owner, name), codes.generate

    def stop(*called: Any, **how: Any) -> None:
        if after:
            original(*called, **how)
        pipe.send("here")
        signal.pause()

    def generated(*called: Any, **how: Any) -> Any:
        code = generate(*called, **how)
        pipe.send(str(code))
        return code

    setattr(owner, name, stop)
    if name != "generate":
        codes.generate = generated
    getattr(service_on(url), method)(*args, **options)
    pipe.send("passed by")


def kill_at(url: str, line: str, method: str, *args: Any, after: bool = False, **options: Any) -> list[str]:
    """Kill a process at that line of that call; returns the codes that it had made."""
    ours, theirs = _start.Pipe()
    how = {"url": url, "line": line, "after": after, "method": method, "args": args, "options": options}
    child = _start.Process(target=child_hangs, kwargs=how | {"pipe": theirs})
    child.start()
    theirs.close()
    made = []
    while True:
        assert ours.poll(PATIENCE), "the child never came to the line"
        said = ours.recv()
        if said == "here":
            break
        assert said != "passed by"
        made.append(said)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGKILL
    return made


@pytest.mark.parametrize(
    ("line", "after", "spent", "state"),
    [
        ("otpvoice.store.challenges:hold", True, 0, "pending"),
        ("otpvoice.store.challenges:claim", True, 0, "pending"),
        ("otpvoice.store.ledgers:save", True, 0, "pending"),
        ("otpvoice.codes:tag", False, 1, "pending"),
        ("otpvoice.codes:matching", True, 1, "pending"),
        ("otpvoice.store.challenges:approve", True, 1, "pending"),
        ("otpvoice.verification:Verified", False, 1, "approved"),
    ],
)
def test_a_process_killed_while_it_verifies(
    database_url: str, line: str, spent: int, state: str, *, after: bool
) -> None:
    """P21, P99: before the commit nothing is spent and nothing was compared; after it the attempt is, for good.

    Killed between comparing and approving, the code is still good once; after approving, never again.
    """
    challenge_id, right = issued(database_url)
    kill_at(database_url, line, "verify_code", challenge_id, right, after=after)
    with service_on(database_url) as service:
        found = service.get(challenge_id)
        assert found.state == state
        row = rows(service, tables.challenge)[0]
        assert row.attempts == spent
        assert sum(rows(service, tables.ledger)[0].months.values()) == (0 if state == "approved" else spent)
        if state == "pending":
            assert service.verify_code(challenge_id, right)
        with pytest.raises(ChallengeClosed):
            service.verify_code(challenge_id, right)
        assert broken(service._assembly.store) == []


def rows(service: OTPService, table: Any) -> list[Any]:
    return service._assembly.store.transact(lambda connection, _now: list(connection.execute(select(table))))


def test_a_process_killed_again_and_again_runs_out_of_attempts(database_url: str, tmp_path: Path) -> None:
    """P21: five processes are killed in the middle of their hash; the sixth, with the right code, is too late."""
    challenge_id, right = issued(database_url)
    for _ in range(5):
        kill_at(database_url, "otpvoice.codes:tag", "verify_code", challenge_id, right)
    with service_on(database_url) as service:
        assert service.get(challenge_id).attempts_left == 0
        with pytest.raises(ChallengeClosed):
            service.verify_code(challenge_id, right)
        assert sum(rows(service, tables.ledger)[0].months.values()) == 5


@pytest.mark.parametrize(
    ("line", "after", "opened", "rang"),
    [
        ("otpvoice.store.challenges:add", True, False, False),
        ("otpvoice.codes:generate", False, True, False),
        ("otpvoice.codes:tag", False, True, False),
        ("otpvoice.channels.memory:Memory._keep", False, True, True),
        ("otpvoice.channels.memory:Memory._keep", True, True, True),
        ("otpvoice.store.deliveries:settle", True, True, True),
    ],
)
def test_a_process_killed_while_it_sends(
    database_url: str, line: str, *, after: bool, opened: bool, rang: bool
) -> None:
    """P33, P99: what may ring is written down before, and counts; a code that was spoken verifies."""
    made = kill_at(database_url, line, "issue_code", NUMBER, purpose="login", after=after)
    with service_on(database_url) as service:
        assert len(rows(service, tables.challenge)) == opened
        assert [row.used for row in rows(service, tables.counter)] == [1] * opened
        for row in rows(service, tables.delivery):
            assert row.state in {DeliveryState.SENDING, DeliveryState.QUEUED}
            assert (row.sent_at is not None, row.tag is not None) == (rang, rang)
            assert row.due_at is not None
            if rang:
                assert row.state == DeliveryState.SENDING
                assert service.verify_code(row.challenge_id, made[-1])
        assert broken(service._assembly.store) == []


def child_storms(*, url: str, challenge_id: str, tries: list[str], path: Path, pipe: Pipe) -> None:
    """A process that guesses one after the other, and says a word before each."""
    count_into(path, codes, "matching")
    with service_on(url) as service:
        for code in tries:
            pipe.send_bytes(b".")
            decided(lambda c=code: service.verify_code(challenge_id, c))
    signal.pause()


def test_processes_killed_at_any_moment_compare_no_more_than_they_charged(database_url: str, tmp_path: Path) -> None:
    """P20, P21: six processes guess on one challenge and are killed as they do; five comparisons are all there are."""
    challenge_id, right = issued(database_url)
    path, tries = tmp_path / "compared", guesses(right, 60)
    ours: list[Any] = []
    children: list[Any] = []
    for number in range(6):
        here, there = _start.Pipe()
        how = {"url": database_url, "challenge_id": challenge_id, "tries": tries[number::6], "path": path}
        child = _start.Process(target=child_storms, kwargs=how | {"pipe": there})
        child.start()
        there.close()
        ours.append(here)
        children.append(child)
    for number, (child, pipe) in enumerate(zip(children, ours, strict=True)):
        for _ in range(1 + number % 3):
            assert pipe.poll(PATIENCE)
            pipe.recv_bytes()
        os.kill(child.pid, signal.SIGKILL)
        child.join(PATIENCE)
    with service_on(database_url) as service:
        attempts = rows(service, tables.challenge)[0].attempts
        assert tally(path) <= attempts <= 5
        assert sum(rows(service, tables.ledger)[0].months.values()) == attempts
        assert broken(service._assembly.store) == []


def child_judges(*, url: str, challenge_id: str, shift: float, barrier: Any, answers: Any) -> None:
    """A process whose wall clock is wrong by ``shift`` seconds."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=shift)

    otpvoice.clock.datetime = Wrong
    with service_on(url) as service:
        barrier.wait(PATIENCE)
        answers.put([service.get(challenge_id).state.value])


@on_postgresql
def test_processes_with_wrong_clocks_judge_alike(database_url: str) -> None:
    """P6: two hours slow, right, and two hours fast: one verdict, the database's (PostgreSQL)."""
    challenge_id, _right = issued(database_url)
    jobs = [{"url": database_url, "challenge_id": challenge_id, "shift": shift} for shift in (-7200.0, 0.0, 7200.0)]
    assert crowd(jobs, child_judges) == {"pending": 3}
    with service_on(database_url) as service:
        passed = update(tables.challenge).values(expires_at=func.clock_timestamp())
        service._assembly.store.transact(lambda connection, _now: connection.execute(passed).rowcount)
    assert crowd(jobs, child_judges) == {"expired": 3}


# A database that is away: nothing is compared, nothing is sent, and the answer says that it is ours to mend (P32).


class Away:
    """A service with a live challenge, whose database is about to fail."""

    def __init__(self, service: OTPService, voice: Memory, watch: Watch) -> None:
        self.service, self.voice, self.watch = service, voice, watch
        self.challenge_id = service.issue_code(NUMBER, purpose="login").id
        self.code = voice.sent[-1].code

    def is_refused(self, error: type[Exception] = StoreUnavailable) -> None:
        """Every call fails closed."""
        for ask in (
            lambda: self.service.verify_code(self.challenge_id, self.code),
            lambda: self.service.issue_code(NUMBER, purpose="login"),
            lambda: self.service.resend_code(self.challenge_id),
            lambda: self.service.cancel(self.challenge_id),
        ):
            with pytest.raises(error) as refused:
                ask()
            assert NUMBER not in str(refused.value)
            assert self.code not in str(refused.value)
        assert self.watch.sent == []
        assert len(self.voice.sent) == 1

    def is_back(self) -> None:
        """Nothing was spent, and the code is good."""
        assert self.service.get(self.challenge_id).attempts_left == 5
        assert self.service.verify_code(self.challenge_id, self.code)


@pytest.fixture
def away(services: Maker, monkeypatch: pytest.MonkeyPatch) -> Away:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.2)
    voice = Memory("voice")
    return Away(services(channels=[voice]), voice, Watch(monkeypatch))


@on_postgresql
def test_a_postgresql_that_goes_away_and_comes_back(away: Away, database_url: str, postgres: str) -> None:
    """P32: its sessions are ended and it takes no new ones; when it does again, the service needs no restart."""
    name = Store(database_url).url.database
    maintain(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    maintain(postgres, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    away.is_refused()
    maintain(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    away.is_back()


@on_postgresql
def test_a_postgresql_session_that_is_ended_is_replaced_unseen(away: Away, database_url: str, postgres: str) -> None:
    """A restart of the database between two calls costs nobody anything."""
    name = Store(database_url).url.database
    maintain(postgres, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    away.is_back()


@on_postgresql
@pytest.mark.parametrize(("owner", "name", "spent"), [(ledgers, "save", 1), (events, "record", 0)])
def test_a_postgresql_session_that_is_ended_inside_a_charge(
    away: Away, database_url: str, postgres: str, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, spent: int
) -> None:
    """P21: lost before the commit began, the charge is made again, once; lost at the commit, nothing is compared."""
    database, original, done = Store(database_url).url.database, getattr(owner, name), []

    def ended(*args: Any, **options: Any) -> None:
        original(*args, **options)
        if not done:
            done.append(True)
            maintain(postgres, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    monkeypatch.setattr(owner, name, ended)
    wrong = guesses(away.code, 1)[0]
    with pytest.raises(CodeMismatch if spent else StoreUnavailable):
        away.service.verify_code(away.challenge_id, wrong)
    assert done
    assert len(away.watch.sent) == spent
    assert rows(away.service, tables.challenge)[0].attempts == spent
    assert broken(away.service._assembly.store, watch=away.watch) == []


def maintain(server: str, statement: str) -> None:
    store = Store(server)
    with store.engine().execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))
    store.close()


@on_postgresql
def test_a_postgresql_that_was_never_there(services: Maker, database_url: str) -> None:
    """P32: nobody listens."""
    voice = Memory("voice")
    service = services(channels=[voice], database_url="postgresql://nobody:hidden-word@127.0.0.1:9/otp", clock=None)
    with pytest.raises(StoreUnavailable) as refused:
        service.issue_code(NUMBER, purpose="login")
    assert "hidden-word" not in str(refused.value)
    assert voice.sent == ()


@pytest.fixture
def locked(database_url: str) -> Iterator[Callable[[], Any]]:
    """Takes SQLite's write lock from another process, and gives it back."""
    ours, theirs = _start.Pipe()
    child = _start.Process(target=child_locks, kwargs={"url": database_url, "pipe": theirs})

    def lock() -> Callable[[], None]:
        child.start()
        assert ours.poll(PATIENCE)
        ours.recv()
        return unlock

    def unlock() -> None:
        ours.send("enough")
        child.join(PATIENCE)

    yield lock
    if child.pid is not None and child.is_alive():
        child.kill()


def child_locks(*, url: str, pipe: Pipe) -> None:
    """A process that holds the write lock until it is told."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    pipe.send("locked")
    pipe.recv()
    connection.execute("ROLLBACK")
    connection.close()


@on_sqlite
def test_a_sqlite_locked_by_another_process(away: Away, database_url: str, locked: Callable[[], Any]) -> None:
    """P32: the lock does not go away within the busy timeout."""
    unlock = locked()
    away.is_refused()
    unlock()
    away.is_back()


@on_sqlite
def test_a_sqlite_that_cannot_be_written(away: Away, database_url: str) -> None:
    """P32: reading would still work; nothing is compared all the same."""
    store = away.service._assembly.store

    def read_only(dbapi: Any, _record: Any) -> None:
        dbapi.execute("PRAGMA query_only = ON")

    store.close()
    event.listen(store.engine(), "connect", read_only)
    away.is_refused()
    store.close()
    away.is_back()


@on_sqlite
def test_a_sqlite_whose_directory_is_gone(services: Maker, tmp_path: Path, database_url: str) -> None:
    """The remedy is named, before anything is made."""
    service = services(database_url=f"sqlite:///{tmp_path}/nowhere/otpvoice.db")
    with pytest.raises(otpvoice.ConfigurationError, match="directory"):
        service.issue_code(NUMBER, purpose="login")


def test_a_database_of_another_revision(away: Away, services: Maker) -> None:
    """P32: a process that starts on a schema it does not know does nothing with it."""
    store = away.service._assembly.store
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    store.transact(lambda connection, _now: connection.execute(newer).rowcount)
    away.service = services(channels=[away.voice])
    away.is_refused(SchemaMismatch)
