"""What is measured: services on a database, numbers to call, and the operations as a caller performs them."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw

from otpvoice import AsyncOTPService, Challenge, CodeMismatch, OTPService, Policy, Route
from otpvoice.channels.base import Channel, Message, Receipt
from otpvoice.codes import SALT_BYTES, TAG_BYTES, hash_profile
from otpvoice.flow import Flow
from otpvoice.types import Capabilities, Medium

SECRET = "benchmark-only-9f3c71d2a8e64b05-never-deployed"
ATTEMPTS = 10
_LIFTED = 10**9
_PEOPLE = 5000


class Sink(Channel):
    """Takes every message at once and remembers its code: what is measured is otpvoice, not a provider."""

    provider = "sink"
    medium = Medium.VOICE

    def __init__(self) -> None:
        super().__init__("voice")
        self.codes: dict[str, str] = {}

    @property
    def capabilities(self) -> Capabilities:
        """No limits."""
        return Capabilities(medium=self.medium)

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """It has none."""
        return cls()

    def deliver(self, message: Message) -> Flow[Receipt]:
        """Remember the code."""
        self.codes[message.challenge_id] = str(message.code)
        return Receipt(delivered=True)
        yield  # An empty flow: nothing is asked.


def lifted(profile: str) -> dict[str, Policy]:
    """A policy that no load reaches: every limit, lock and cooldown is out of the way, the work is all done."""
    policy = Policy(
        route=Route.of("voice"),
        hash_profile=profile,
        ttl=timedelta(minutes=10),
        max_attempts=ATTEMPTS,
        max_sends_per_day=_LIFTED,
        max_live=_LIFTED,
        lock_after=_LIFTED,
        longer_after=_LIFTED,
        stop_after=_LIFTED,
        cooldowns=(timedelta(0),),
    )
    return {"login": policy}


def numbers() -> Iterator[str]:
    """The people who log in: 5000 Vietnamese mobile numbers, over and over."""
    return itertools.cycle(f"+84912{person:06d}" for person in range(_PEOPLE))


def wrong(code: str) -> str:
    """A code of the same length that is not the right one."""
    return str((int(code) + 1) % 10 ** len(code)).zfill(len(code))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a measurement took: operations, seconds, CPU seconds of this process and of the database server."""

    operations: int
    seconds: float
    cpu: float
    server_cpu: float | None

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an operation, the server's included."""
        return 1000 * (self.cpu + (self.server_cpu or 0.0)) / max(1, self.operations)


class Server:
    """The CPU time of a PostgreSQL server on this machine, its backends included, dead ones too."""

    def __init__(self, postmaster: int | None) -> None:
        self._postmaster = postmaster

    def cpu(self) -> float | None:
        """Seconds so far; None where there is no such server or no /proc."""
        if self._postmaster is None or not Path("/proc/self/stat").exists():
            return None
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                members = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(stat.parent.name) == self._postmaster:
                ticks += sum(int(member) for member in members[11:15])
            elif int(members[1]) == self._postmaster:
                ticks += sum(int(member) for member in members[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def stopwatch(server: Server, done: Callable[[], int]) -> Iterator[list[Spent]]:
    """Fills its list with what the block took."""
    spent: list[Spent] = []
    server_before, cpu, began = server.cpu(), time.process_time(), time.perf_counter()
    yield spent
    seconds, used, server_after = time.perf_counter() - began, time.process_time() - cpu, server.cpu()
    on_server = None if server_before is None or server_after is None else server_after - server_before
    spent.append(Spent(operations=done(), seconds=seconds, cpu=used, server_cpu=on_server))


def raw_argon2(profile: str, seconds: float, threads: int, server: Server) -> Spent:
    """Nothing but the hash, as :func:`otpvoice.codes.tag` computes it, on this many threads."""
    chosen = hash_profile(profile)
    keyed, salt = os.urandom(32), os.urandom(SALT_BYTES)

    def once() -> None:
        hash_secret_raw(keyed, salt, chosen.passes, chosen.memory, chosen.lanes, TAG_BYTES, Type.ID, ARGON2_VERSION)

    return in_threads(itertools.repeat(once), seconds, threads, server)


def in_threads(jobs: Iterable[Callable[[], object]], seconds: float, threads: int, server: Server) -> Spent:
    """Perform jobs until the time is over or none are left."""
    source, lock, counts = iter(jobs), threading.Lock(), [0] * threads
    failures: list[BaseException] = []

    def work(mine: int) -> None:
        try:
            while time.perf_counter() < ends:
                with lock:
                    job = next(source, None)
                if job is None:
                    return
                job()
                counts[mine] += 1
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    with stopwatch(server, lambda: sum(counts)) as spent:
        ends = time.perf_counter() + seconds
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if failures:
        raise failures[0]
    return spent[0]


def in_tasks(jobs: Iterable[Callable[[], Awaitable[object]]], seconds: float, tasks: int, server: Server) -> Spent:
    """The same on an event loop."""
    source, counts = iter(jobs), [0] * tasks

    async def work(mine: int) -> None:
        while time.perf_counter() < ends:
            job = next(source, None)
            if job is None:
                return
            await job()
            counts[mine] += 1

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(work(number))

    with stopwatch(server, lambda: sum(counts)) as spent:
        ends = time.perf_counter() + seconds
        asyncio.run(all_of_them())
    return spent[0]


class Desk:
    """A service in one colour on one database, and the operations that are measured."""

    def __init__(self, *, database_url: str, colour: str, profile: str, concurrency: int, server: Server) -> None:
        self.colour, self.profile, self.concurrency, self.server = colour, profile, concurrency, server
        self.sink = Sink()
        made = OTPService if colour == "sync" else AsyncOTPService
        self.service: Any = made(
            secret=SECRET,
            channels=[self.sink],
            database_url=database_url,
            policies=lifted(profile),
            hash_queue=concurrency,
            pool_size=8,
        )
        self._numbers = numbers()

    def perform(self, jobs: Iterable[Any], seconds: float) -> Spent:
        """Perform jobs of this desk's colour."""
        run = in_threads if self.colour == "sync" else in_tasks
        return run(jobs, seconds, self.concurrency, self.server)

    def prepare(self, challenges: int) -> list[Challenge]:
        """Open challenges, which counts nowhere."""
        opened: deque[Challenge] = deque()

        def keep() -> None:
            opened.append(self.service.issue_code(next(self._numbers), purpose="login"))

        async def akeep() -> None:
            opened.append(await self.service.issue_code(next(self._numbers), purpose="login"))

        self.perform(itertools.repeat(keep if self.colour == "sync" else akeep, challenges), 3600)
        return list(opened)

    def guesses(self, challenges: list[Challenge], each: int) -> Iterator[Any]:
        """Wrong codes: each challenge's first guess, then each one's second, and so on, none twice at once."""
        for _ in range(each):
            for challenge in challenges:
                yield self.guess(challenge.id, wrong(self.sink.codes[challenge.id]), right=False)

    def answers(self, challenges: list[Challenge]) -> Iterator[Any]:
        """The right code of each challenge."""
        for challenge in challenges:
            yield self.guess(challenge.id, self.sink.codes[challenge.id], right=True)

    def cycles(self) -> Iterator[Any]:
        """Logins: a code is issued, typed wrongly once, then rightly."""
        return itertools.repeat(self._cycle if self.colour == "sync" else self._acycle)

    def issues(self) -> Iterator[Any]:
        """Openings alone."""
        return itertools.repeat(self._issue if self.colour == "sync" else self._aissue)

    def close(self) -> None:
        """Close the service."""
        if self.colour == "sync":
            self.service.close()
        else:
            asyncio.run(self.service.close())

    def guess(self, challenge_id: str, code: str, *, right: bool) -> Callable[[], Any]:
        """One verification, and that it ends as it must."""

        def guess() -> None:
            try:
                self.service.verify_code(challenge_id, code, purpose="login")
            except CodeMismatch:
                _expect(not right)
            else:
                _expect(right)

        async def aguess() -> None:
            try:
                await self.service.verify_code(challenge_id, code, purpose="login")
            except CodeMismatch:
                _expect(not right)
            else:
                _expect(right)

        return guess if self.colour == "sync" else aguess

    def _issue(self) -> None:
        self.service.issue_code(next(self._numbers), purpose="login")

    async def _aissue(self) -> None:
        await self.service.issue_code(next(self._numbers), purpose="login")

    def _cycle(self) -> None:
        challenge = self.service.issue_code(next(self._numbers), purpose="login")
        code = self.sink.codes.pop(challenge.id)
        self.guess(challenge.id, wrong(code), right=False)()
        self.guess(challenge.id, code, right=True)()

    async def _acycle(self) -> None:
        challenge = await self.service.issue_code(next(self._numbers), purpose="login")
        code = self.sink.codes.pop(challenge.id)
        await self.guess(challenge.id, wrong(code), right=False)()
        await self.guess(challenge.id, code, right=True)()


def _expect(true: bool) -> None:
    if not true:
        raise RuntimeError("a wrong code was accepted or a right one refused: this measures nothing")
