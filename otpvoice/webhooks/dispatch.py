"""Sending what is due: fed from the audit, claimed, posted, settled. Any number of processes may do it at once."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from otpvoice.context import Context
from otpvoice.errors import ConfigurationError, InvalidRequest, OTPVoiceError
from otpvoice.flow import Flow, call, transact
from otpvoice.store import events, outbox
from otpvoice.store.events import Event
from otpvoice.store.outbox import DEAD, DELIVERED, PENDING, EndpointRow, MessageRow
from otpvoice.webhooks import addresses, signing
from otpvoice.webhooks.addresses import Guard
from otpvoice.webhooks.endpoints import secrets_of
from otpvoice.webhooks.sender import Answer, Sender

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

log = logging.getLogger("otpvoice.webhooks")

_random = secrets.SystemRandom().random

BACK_OFF = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
"""How long after the 1st, 2nd, … failure the next try is made; after the last one the message is dead. The schedule
that Standard Webhooks recommends: ten tries over three days."""
JITTER = 0.2
"""The part of a wait that is added at random, so that what failed together does not come back together."""
LEASE = timedelta(seconds=60)
"""How long a claim holds: four times the sender's deadline."""
RESTS = tuple(timedelta(seconds=seconds) for seconds in (0, 0, 5, 15, 60, 300))
"""How long an endpoint rests after so many failures in a row: one that is down does not hold up the others."""
EACH = 4
"""How many messages are on their way to one endpoint at once, over all processes: however slow it is, it takes no more
threads than that. One while it fails: whether it is back shows as well by one."""
THREADS = 16
BATCH = 20
PATIENCE = timedelta(days=4)
"""When a message is given up although its tries are not spent, because its endpoint took nothing: longer than all
tries take."""
TIDIED_EVERY = 3600.0
"""Seconds."""
GRACE = timedelta(seconds=5)
"""How long one who stops waits for what is on its way; what takes longer comes again when its lease ends."""
DELIVERED_KEPT = timedelta(days=7)
DEAD_KEPT = timedelta(days=30)


class Perform(Protocol):
    """Runs a flow: a service's runner, or the HTTP application's ``Deps.run``."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]:
        """Run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A message that is ours until its lease ends, with what is sent."""

    message: MessageRow
    endpoint: EndpointRow
    headers: dict[str, str] = field(repr=False)


def claim(ctx: Context, *, most: int = BATCH, feed: bool = True) -> Flow[Sequence[Claimed]]:
    """Feed, then take what is due. Serves all tenants: ``ctx`` gives the keys only."""

    def work(connection: Connection, now: datetime) -> tuple[Sequence[tuple[MessageRow, EndpointRow]], datetime]:
        if feed:
            outbox.feed(connection, now)
        owner, until = secrets.token_hex(8), now + LEASE
        return outbox.claim(connection, now, owner=owner, until=until, most=most, each=EACH), now

    taken, now = yield from transact(work)
    return [Claimed(message=item, endpoint=row, headers=_headers(ctx, item, row, now)) for item, row in taken]


def post(sender: Sender, guard: Guard, claimed: Claimed) -> Answer:
    """Send a claimed message; blocks for at most the sender's deadline."""
    try:
        target = addresses.parse_url(claimed.endpoint.url)
    except InvalidRequest:
        return Answer(reason="denied")
    if not claimed.headers:
        return Answer(reason="unsigned")
    return sender.post(target, claimed.headers, claimed.message.body.encode(), guard=guard)


def settle(claimed: Claimed, answer: Answer, *, random: Callable[[], float]) -> Flow[str]:
    """Write down what came of it, and when it is tried again; returns the state."""
    return (yield from transact(partial(_settle, claimed=claimed, answer=answer, random=random)))


def purge(*, batch: int = 1000) -> Flow[int]:
    """Give up what nobody takes; remove what was settled long ago: delivered after 7 days, dead after 30."""
    yield from transact(_give_up)
    total = 0
    while True:
        work = partial(outbox.purge, batch=batch, delivered=DELIVERED_KEPT, dead=DEAD_KEPT)
        removed: int = yield from transact(work)
        total += removed
        if removed < batch:
            return total


def _give_up(connection: Connection, now: datetime) -> None:
    happened = []
    for endpoint_id, count in outbox.give_up(connection, now, older=PATIENCE, failures=len(BACK_OFF) + 1).items():
        row = outbox.endpoint(connection, endpoint_id)
        if row is not None:
            data = {"endpoint": endpoint_id, "messages": count, "reason": "down"}
            happened.append(Event(kind="webhook.given_up", tenant=row.tenant, data=data))
    if happened:
        events.record(connection, now, *happened)


def _headers(ctx: Context, message: MessageRow, row: EndpointRow, now: datetime) -> dict[str, str]:
    try:
        return dict(signing.headers(message.id, now, message.body.encode(), secrets_of(ctx, row, now)))
    except ConfigurationError as error:
        # One endpoint whose key left the ring must not stop the others.
        log.error("webhook endpoint %s cannot sign: %s", row.id, error)
        return {}


def _settle(
    connection: Connection, now: datetime, *, claimed: Claimed, answer: Answer, random: Callable[[], float]
) -> str:
    message = claimed.message
    state, due_at = DELIVERED, None
    if not answer.delivered:
        state, due_at = _again(message, answer, now, random)
    if not outbox.settle(
        connection, now, message, state=state, status=answer.status, reason=answer.reason, due_at=due_at
    ):
        return "taken over"
    row = outbox.endpoint(connection, message.endpoint_id)
    if row is None:
        return state
    if answer.delivered:
        if row.failures:
            outbox.note(connection, row.id, failures=0, rests_until=None)
        return state
    failures = row.failures + 1
    rest = max(RESTS[min(failures, len(RESTS)) - 1], answer.retry_after or timedelta(0))
    outbox.note(connection, row.id, failures=failures, rests_until=now + rest if rest else None)
    happened = []
    if answer.reason == "gone" and row.disabled_at is None:
        # The receiver says that it is there no more (Standard Webhooks: 410 disables the endpoint).
        outbox.switch(connection, row.id, disabled_at=now, why="gone")
        happened.append(Event(kind="webhook.disabled", tenant=row.tenant, data={"endpoint": row.id, "why": "gone"}))
    if state == DEAD:
        data = {"endpoint": row.id, "message": message.id, "reason": answer.reason}
        happened.append(Event(kind="webhook.given_up", tenant=row.tenant, data=data))
    if happened:
        events.record(connection, now, *happened)
    return state


def _again(
    message: MessageRow, answer: Answer, now: datetime, random: Callable[[], float]
) -> tuple[str, datetime | None]:
    if message.tries > len(BACK_OFF):
        return DEAD, None
    wait = max(BACK_OFF[message.tries - 1], answer.retry_after or timedelta(0))
    return PENDING, now + wait * (1 + JITTER * random())


class Dispatcher:
    """Sends for as long as it runs, beside a service or in a worker.

    ``guards`` are the guards of tenants that allow networks of their own; every other tenant has the public internet
    only.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        sender: Sender | None = None,
        guard: Guard | None = None,
        guards: dict[str, Guard] | None = None,
        threads: int = THREADS,
        interval: float = 1.0,
        random: Callable[[], float] = _random,
    ) -> None:
        self.ctx = ctx
        self.interval = interval
        self._sender = sender or Sender()
        self._guard = guard or Guard()
        self._guards = guards or {}
        self._random = random
        self._most = threads
        # Threads of its own: slow receivers must not hold up what sends codes.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="otpvoice-webhook")

    def once(self) -> Flow[int]:
        """Claim and send one batch, one message after the other; returns how many: for the command line."""
        batch = yield from claim(self.ctx)
        for claimed in batch:
            answer = yield from call(partial(self._post, claimed))
            yield from settle(claimed, answer, random=self._random)
        return len(batch)

    async def once_at_once(self, perform: Perform) -> int:
        """Claim one batch and send it on this dispatcher's threads; returns how many."""
        batch = await perform(claim(self.ctx, most=min(BATCH, self._most)))
        await asyncio.gather(*(self._send(claimed, perform) for claimed in batch))
        return len(batch)

    async def run(self, perform: Perform) -> None:
        """Send until cancelled. A database that is away is waited for; nothing that is claimed is lost.

        No message waits for a slower one: what is due is claimed whenever a thread is free.
        """
        flying: set[asyncio.Task[None]] = set()
        clock = asyncio.get_running_loop().time
        feed_at, tidy_at, idle = 0.0, 0.0, 0
        try:
            while True:
                try:
                    now = clock()
                    if now >= tidy_at:
                        await perform(purge())
                        tidy_at = now + TIDIED_EVERY
                    batch = await self._claim(perform, free=self._most - len(flying), feed=now >= feed_at)
                    feed_at = now + self.interval if now >= feed_at else feed_at
                    flying |= {asyncio.create_task(self._send(claimed, perform)) for claimed in batch}
                    idle = 0 if batch or flying else min(idle + 1, 5)
                except OTPVoiceError as error:
                    log.warning("webhooks wait: %s", error)
                except Exception as error:
                    # Whatever broke one round must not end all that follow; its text may hold what was sent.
                    log.error("a round of webhooks broke: %s", type(error).__name__)
                pause = self.interval * max(1, idle / 2)
                if flying:
                    _, flying = await asyncio.wait(flying, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(pause)
        finally:
            if flying:
                await asyncio.wait(flying, timeout=GRACE.total_seconds())
            for task in flying:
                task.cancel()
            self.close()

    async def _claim(self, perform: Perform, *, free: int, feed: bool) -> Sequence[Claimed]:
        return await perform(claim(self.ctx, most=free, feed=feed)) if free or feed else ()

    async def _send(self, claimed: Claimed, perform: Perform) -> None:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._post, claimed)
            await perform(settle(claimed, answer, random=self._random))
        except Exception as error:
            # What is not settled is due again when its lease ends.
            log.error("a webhook message was not settled: %s", type(error).__name__)

    def close(self) -> None:
        """Stop the threads once they have finished what they send."""
        self._threads.shutdown(wait=False)

    def _post(self, claimed: Claimed) -> Answer:
        tenant = claimed.endpoint.tenant.removeprefix("test:")  # How the store names a test tenant.
        return post(self._sender, self._guards.get(tenant, self._guard), claimed)
