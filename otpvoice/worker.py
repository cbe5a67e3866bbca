"""The worker: sends what is queued, asks about what is unknown, goes on along routes. As many as wanted.

Workers share nothing but the database. Each leases what is due and it can begin at once, and renews the leases until
that is done; asked to stop, it finishes what it has begun. What a killed one held falls due when its lease ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from otpvoice.config import Assembly
from otpvoice.context import SWEEP, Context
from otpvoice.errors import OTPVoiceError, StoreUnavailable
from otpvoice.flow import Flow, transact
from otpvoice.reconciliation import look_after
from otpvoice.runner import AsyncRunner
from otpvoice.store import deliveries, history
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.wakeups import Listener

log = logging.getLogger("otpvoice.worker")

CONCURRENCY = 32
"""Deliveries that one worker is busy with at once."""
PER_CHANNEL = 16
"""Of these, at most so many through one channel; no more are leased, so a slow provider does not hold up the others."""
POLL = timedelta(milliseconds=200)
"""How often the database is asked for work; where it can notify, it also wakes the worker at once."""
GRACE = timedelta(seconds=30)
"""How long a stopping worker waits for what it has begun."""
SWEPT = 500
"""Challenges that one transaction sweeps."""
_BACK_OFF = (0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class Done:
    """What a worker has done so far."""

    deliveries: int = 0
    failures: int = 0


class Worker:
    """One worker. :meth:`run` it on an event loop, or :meth:`start` it in a thread of its own."""

    def __init__(
        self,
        assembly: Assembly,
        *,
        concurrency: int = CONCURRENCY,
        per_channel: int = PER_CHANNEL,
        poll: timedelta = POLL,
        grace: timedelta = GRACE,
    ) -> None:
        self.done = Done()
        self._context: Context = replace(assembly.context, deferred=True)
        self._assembly = assembly
        self._concurrency = concurrency
        self._per_channel = per_channel
        self._poll = poll.total_seconds()
        self._grace = grace.total_seconds()
        self._owner = secrets.token_hex(8)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._through: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    async def run(self, *, until_idle: bool = False) -> Done:
        """Work until :meth:`stop` is called; with ``until_idle`` until nothing is due."""
        self._loop = asyncio.get_running_loop()
        self._running.set()
        # A thread for each delivery: some senders are blocking functions, and a slow one must not hold up the others.
        self._runner = AsyncRunner(
            self._assembly.store, self._assembly.hashing, calls=self._concurrency, closes_store=False
        )
        beside = [asyncio.create_task(self._renew()), asyncio.create_task(self._sweep())]
        listener = Listener(self._assembly.store, self.wake)
        listener.start()
        try:
            await self._work(until_idle)
        finally:
            await self._finish()  # Leases are renewed until then.
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await asyncio.to_thread(listener.stop)
            await self._runner.close()
        return self.done

    def start(self) -> None:
        """Work in a daemon thread with a loop of its own. Again after a fork: threads do not survive one."""
        self._pid = os.getpid()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.run()), name="otpvoice-worker", daemon=True)
        self._thread.start()
        self._running.wait()

    @property
    def alive(self) -> bool:
        """Whether the thread works, in this process."""
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    def wake(self) -> None:
        """Look for work now. Callable from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def stop(self) -> None:
        """Begin nothing more, and finish what has begun. Callable from any thread; see :meth:`join`."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ask_to_stop)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end."""
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(timeout)

    def _ask_to_stop(self) -> None:
        self._stop.set()
        self._wake.set()

    async def _work(self, until_idle: bool) -> None:
        troubles = 0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                claimed = await self._claim()
                troubles = 0
                # A due row that another transaction holds was skipped: whether any is left is asked without skipping.
                if until_idle and not claimed and not self._busy and not await self._runner.run(self._anything_due()):
                    return
            except StoreUnavailable as error:
                log.warning("no work can be claimed: %s", error)
                await self._rest(_BACK_OFF[min(troubles, len(_BACK_OFF) - 1)])
                troubles += 1
                continue
            if not claimed:
                await self._rest(self._poll)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _claim(self) -> int:
        """Lease what is due and begin it; returns how many. Full channels are left to others, and to later."""
        busy = +self._through
        full = [name for name, count in busy.items() if count >= self._per_channel]
        # All of a claim may be for the channel that is nearest to its limit.
        room = min((self._per_channel - count for name, count in busy.items() if name not in full), default=None)
        most = min(self._concurrency - len(self._busy), self._per_channel if room is None else room)
        if most <= 0:
            return 0
        claimed = await self._runner.run(self._claiming(most, full))
        # What we are busy with ran out of its lease, while the database was away or by a clock that jumped: it is ours
        # for longer now.
        rows = [row for row in claimed if row.id not in self._busy]
        if rows and self._stop.is_set():
            await self._runner.run(self._releasing([row.id for row in rows]))
            return 0
        for row in rows:
            self._through[row.channel] += 1
            self._busy[row.id] = asyncio.create_task(self._one(row), name=row.id)
        return len(rows)

    def _claiming(self, most: int, full: Sequence[str]) -> Flow[Sequence[DeliveryRow]]:
        return (
            yield from transact(
                lambda connection, now: deliveries.claim_due(
                    connection, owner=self._owner, most=most, now=now, until=now + self._context.lease, full=full
                )
            )
        )

    def _anything_due(self) -> Flow[bool]:
        return (yield from transact(deliveries.any_due, single=True))

    async def _one(self, row: DeliveryRow) -> None:
        try:
            await self._runner.run(look_after(self._context, row))
            self.done.deliveries += 1
        except OTPVoiceError as error:
            # Its lease runs out and it falls due again: nothing is lost.
            self.done.failures += 1
            log.warning("delivery %s is left to its lease: %s", row.id, error)
        except Exception:
            self.done.failures += 1
            log.exception("delivery %s is left to its lease", row.id)
        finally:
            self._busy.pop(row.id, None)
            self._through[row.channel] -= 1
            self._wake.set()

    async def _renew(self) -> None:
        """Keep the leases of what we are busy with: a slow provider is no dead worker."""
        while True:
            await asyncio.sleep(self._context.lease.total_seconds() / 3)
            held = list(self._busy)
            if held:
                try:
                    await self._runner.run(self._renewing(held))
                except OTPVoiceError as error:
                    log.warning("leases could not be renewed: %s", error)

    def _renewing(self, held: list[str]) -> Flow[int]:
        return (
            yield from transact(
                lambda connection, now: deliveries.renew(
                    connection, held, owner=self._owner, until=now + self._context.lease
                ),
                single=True,
            )
        )

    async def _sweep(self) -> None:
        while True:
            try:
                while await self._runner.run(transact(partial(history.expire, batch=SWEPT))) == SWEPT:
                    continue
                await self._runner.run(
                    transact(partial(deliveries.set_right, longest=self._context.lease), single=True)
                )
            except OTPVoiceError as error:
                log.warning("expired challenges could not be swept: %s", error)
            await asyncio.sleep(SWEEP.total_seconds())

    async def _finish(self) -> None:
        """Wait for what has begun. What takes longer than that is left to its lease, and looked up when it ends."""
        tasks = list(self._busy.values())
        if tasks:
            log.info("stopping: %d deliveries are under way", len(tasks))
            await asyncio.wait(tasks, timeout=self._grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _releasing(self, unbegun: list[str]) -> Flow[int]:
        return (
            yield from transact(
                lambda connection, now: deliveries.release(connection, unbegun, owner=self._owner, now=now),
                single=True,
            )
        )


class HousedWorker:
    """The worker inside a service: started when there is first something to send, and again after a fork."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._worker: Worker | None = None
        self._lock = threading.Lock()

    def wake(self) -> None:
        """See to it that the worker runs, and looks for work now."""
        with self._lock:
            if self._worker is None or not self._worker.alive:
                self._worker = Worker(self._assembly)
                self._worker.start()
        self._worker.wake()

    def close(self) -> None:
        """Stop it gracefully: nothing more is begun, and what it has begun is finished."""
        with self._lock:
            if self._worker is not None:
                self._worker.stop()
                self._worker.join()
            self._worker = None
