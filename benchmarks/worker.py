"""The worker: ``python -m benchmarks.worker``.

Deliveries drained a second by 1, 2 and 4 worker processes on PostgreSQL against a provider that takes everything at
once; the time from a failed report to the next step's request; and what a claim costs beside 200 000 finished
deliveries, next to the same claim in a nearly empty table, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # Run as a file: the folder above is where `benchmarks` is found.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import Connection, bindparam, insert, select, text, update

from benchmarks.databases import databases
from otpvoice import reports
from otpvoice.channels.base import Message, Receipt, Report
from otpvoice.channels.memory import Memory, MemorySettings
from otpvoice.flow import Flow
from otpvoice.policy import Policy, Route
from otpvoice.runner import Runner
from otpvoice.service import OTPService
from otpvoice.store import deliveries
from otpvoice.store.tables import challenge, delivery
from otpvoice.types import DeliveryState
from otpvoice.worker import Worker

SECRET = "benchmark-0123456789-abcdefghijklmnopq"
NUMBERS = [f"+8491{number:07d}" for number in range(2_000_000, 2_002_000)]
LIFTED: dict[str, Any] = {"hash_profile": "fast", "max_live": 10**6, "max_sends_per_day": 10**6}
"""Limits that a load from one place would meet; lifted, and said so."""


class Instant(Memory):
    """Takes everything at once and keeps nothing; ``on_message`` is told."""

    def __init__(self, name: str, medium: str = "voice", on_message: Any = None) -> None:
        super().__init__(name, MemorySettings(medium=medium))
        self.on_message = on_message

    def deliver(self, message: Message) -> Flow[Receipt]:
        if self.on_message is not None:
            self.on_message(message)
        return Receipt(reference=message.delivery_id)
        yield


def service(url: str, *channels: Instant, worker: bool = False) -> OTPService:
    """A service over these channels, in their order."""
    route = Route.of(*(channel.name for channel in channels))
    policies = {"login": Policy(route=route, **LIFTED)}
    return OTPService(secret=SECRET, channels=channels, database_url=url, policies=policies, worker=worker, pool_size=8)


def queue(url: str, count: int) -> None:
    """Open challenges whose deliveries wait for a worker: one real one, copied."""
    with service(url, Instant("voice"), worker=True) as desk:
        desk._housed = None
        opened = desk.issue_code(NUMBERS[0], purpose="login")

        def copy(connection: Connection, now: datetime) -> None:
            first = connection.execute(select(challenge).where(challenge.c.id == opened.id)).one()._mapping
            sent = connection.execute(select(delivery).where(delivery.c.challenge_id == opened.id)).one()._mapping
            ids = [f"{number:032x}" for number in range(1, count)]
            private = first["sealed"]
            connection.execute(insert(challenge), [{**first, "id": f"ch_{i}", "sealed": private} for i in ids])
            connection.execute(insert(delivery), [{**sent, "id": f"dl_{i}", "challenge_id": f"ch_{i}"} for i in ids])

        desk._assembly.store.transact(copy)
        # A sealed recipient opens for its own challenge only: seal it again for each copy.
        ring = desk._context.keyring

        def reseal(connection: Connection, now: datetime) -> None:
            sealed = connection.execute(select(challenge.c.sealed).where(challenge.c.id == opened.id)).scalar_one()
            plain = ring.unseal(sealed, context=f"challenge:{opened.id}")
            others = connection.execute(select(challenge.c.id).where(challenge.c.id != opened.id)).scalars()
            rows = [{"row": i, "box": ring.seal(plain, context=f"challenge:{i}")} for i in others]
            if rows:
                connection.execute(
                    update(challenge).where(challenge.c.id == bindparam("row")).values(sealed=bindparam("box")), rows
                )

        desk._assembly.store.transact(reseal)


def empty(url: str) -> None:
    """Begin again."""
    with service(url, Instant("voice")) as desk:
        desk._assembly.store.transact(
            lambda connection, _now: connection.execute(
                text("TRUNCATE event, delivery, challenge, counter, ledger CASCADE")
            )
        )


def _drain(url: str, ready: Any, go: Any, done: Any) -> None:
    desk = service(url, Instant("voice"), worker=True)
    worker = Worker(desk._assembly, poll=timedelta(milliseconds=20))
    ready.release()
    go.wait()
    done.put(asyncio.run(worker.run(until_idle=True)).deliveries)
    desk.close()


def drained(url: str, workers: int, count: int) -> float:
    """Deliveries a second."""
    empty(url)
    queue(url, count)
    spawn = multiprocessing.get_context("spawn")
    ready, go, done = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    processes = [spawn.Process(target=_drain, args=(url, ready, go, done)) for _ in range(workers)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    began = time.perf_counter()
    go.set()
    total = sum(done.get() for _ in processes)
    took = time.perf_counter() - began
    for process in processes:
        process.join()
    if total != count:
        raise SystemExit(f"{total} deliveries were performed, {count} were queued")
    return count / took


def fallback(url: str, rounds: int) -> list[float]:
    """Seconds from handing over a failed report to the next step's request, through a housed worker."""
    empty(url)
    asked = threading.Event()
    at: list[float] = []

    def note(_message: Message) -> None:
        at.append(time.perf_counter())
        asked.set()

    sms, voice = Instant("sms", "sms"), Instant("voice", on_message=note)
    taken = []
    with service(url, sms, voice, worker=True) as desk:
        for number in NUMBERS[:rounds]:
            opened = desk.issue_code(number, purpose="login")
            while desk.get(opened.id).deliveries[0].state is not DeliveryState.ACCEPTED:
                time.sleep(0.01)
            sent = desk.get(opened.id).deliveries[0]
            began = time.perf_counter()
            report = Report(delivery_id=sent.id, state=DeliveryState.FAILED, reason="unreachable")
            desk._sending(reports.apply(desk._context, sms, report))
            if not asked.wait(10):
                raise SystemExit("no next step was taken")
            asked.clear()
            taken.append(at.pop() - began)
    return taken


def claims(url: str, finished: int, due: int, rounds: int) -> tuple[float, float]:
    """Milliseconds that a claim of 32 takes: in a nearly empty table, and beside this much history."""
    empty(url)
    queue(url, 100)
    small = _claim_cost(url, rounds)
    queue_size = due - 100
    with service(url, Instant("voice")) as desk:
        store = desk._assembly.store

        def fill(connection: Connection, now: datetime) -> None:
            columns = [column.name for column in delivery.columns if column.name not in {"id", "due_at", "state"}]
            names = ", ".join(columns)
            for prefix, count, state, when in (
                ("f", finished, "delivered", "NULL"),
                ("e", queue_size, "queued", "now() - interval '1 hour'"),
            ):
                connection.execute(
                    text(
                        f"INSERT INTO delivery (id, due_at, state, {names}) "
                        f"SELECT 'dl_{prefix}' || lpad(n::text, 31, '0'), {when}, '{state}', {names} "
                        f"FROM (SELECT * FROM delivery LIMIT 1) one, generate_series(1, {count}) n"
                    )
                )

        store.transact(fill)
        with store.engine().execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("ANALYZE delivery"))
    return small, _claim_cost(url, rounds)


def _claim_cost(url: str, rounds: int) -> float:
    with service(url, Instant("voice")) as desk:
        runner = Runner(desk._assembly.store, desk._assembly.hashing)
        took = []
        for number in range(rounds + 5):
            owner = f"owner{number}"

            def claim(connection: Connection, now: datetime, owner: str = owner) -> Sequence[Any]:
                return deliveries.claim_due(connection, owner=owner, most=32, now=now, until=now + timedelta(minutes=1))

            began = time.perf_counter()
            rows = runner.store.transact(claim)
            took.append(time.perf_counter() - began)
            if len(rows) != 32:
                raise SystemExit("there was nothing to claim")
            back = [row.id for row in rows]
            runner.store.transact(
                lambda connection, now, back=back, owner=owner: deliveries.release(  # type: ignore[misc]
                    connection, back, owner=owner, now=now - timedelta(hours=1)
                )
            )
    return statistics.median(took[5:]) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=2000, help="queued for each drain (2000)")
    parser.add_argument("--finished", type=int, default=200_000, help="finished ones in the table (200000)")
    parser.add_argument("--due", type=int, default=10_000, help="due ones in the table (10000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each drain (3)")
    parser.add_argument("--postgres-url", help="a migrated, empty database; one of this run's own without it")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with databases(["postgresql"], folder=None, postgres_url=wanted.postgres_url) as found:
        url = found["postgresql"].url
        speeds: dict[int, list[float]] = {1: [], 2: [], 4: []}
        for _ in range(wanted.rounds):
            for workers, seen in speeds.items():
                seen.append(drained(url, workers, wanted.deliveries))
        steps = fallback(url, 20)
        small, large = claims(url, wanted.finished, wanted.due, 50)
    figures = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "lifted": sorted(LIFTED),
        "deliveries_per_second": {workers: round(statistics.median(seen)) for workers, seen in speeds.items()},
        "report_to_next_request_ms": {
            "median": round(statistics.median(steps) * 1000, 1),
            "max": round(max(steps) * 1000, 1),
        },
        "claim_of_32_ms": {"nearly_empty": round(small, 2), "full": round(large, 2), "ratio": round(large / small, 2)},
    }
    if wanted.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
