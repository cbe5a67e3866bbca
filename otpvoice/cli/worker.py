"""``otpvoice worker``: sends what is queued, and tells customers' URLs, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from otpvoice import config
from otpvoice.cli.session import session
from otpvoice.config import Assembly
from otpvoice.runner import AsyncRunner
from otpvoice.webhooks.config import guards as guards_of
from otpvoice.webhooks.dispatch import Dispatcher
from otpvoice.worker import CONCURRENCY, GRACE, PER_CHANNEL, POLL, Done, Worker


def worker(
    ctx: typer.Context,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Deliveries at once.")] = CONCURRENCY,
    per_channel: Annotated[int, typer.Option(min=1, max=1000, help="Of these, at most through one channel.")] = (
        PER_CHANNEL
    ),
    poll: Annotated[float, typer.Option(min=0.01, max=60, help="Seconds between looks for work.")] = (
        POLL.total_seconds()
    ),
    grace: Annotated[float, typer.Option(min=0, help="Seconds that stopping waits for what has begun.")] = (
        GRACE.total_seconds()
    ),
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when nothing is due.")] = False,
    webhooks: Annotated[
        bool, typer.Option("--webhooks/--no-webhooks", help="Send customers' webhooks that are due, too.")
    ] = True,
) -> None:
    """Send what is queued, ask about what is unknown, go on along routes; send webhooks. Run as many as you like.

    SIGTERM and Ctrl-C stop it gracefully: nothing more is begun, and what it has begun is finished.
    """
    console = Console(stderr=True)
    read = session(ctx).settings()
    guards = guards_of({name: table.get("webhooks", {}) for name, table in read.tenants.items()})
    assembly = config.from_settings(read)
    busy = Worker(
        assembly,
        concurrency=concurrency,
        per_channel=per_channel,
        poll=timedelta(seconds=poll),
        grace=timedelta(seconds=grace),
    )
    console.print(f"worker: {', '.join(assembly.context.channels)} on {assembly.store!r}; Ctrl-C stops it")
    dispatcher = Dispatcher(assembly.context, guards=guards) if webhooks else None
    done = asyncio.run(_until_told(busy, dispatcher, assembly, until_idle))
    assembly.store.close()
    console.print(f"worker: stopped after {done.deliveries} deliveries, {done.failures} left to their leases")


async def _until_told(busy: Worker, dispatcher: Dispatcher | None, assembly: Assembly, until_idle: bool) -> Done:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, busy.stop)
    if dispatcher is None:
        return await busy.run(until_idle=until_idle)
    runner = AsyncRunner(assembly.store, assembly.hashing, threads=1, closes_store=False)
    telling = None if until_idle else asyncio.create_task(dispatcher.run(runner.run))
    try:
        done = await busy.run(until_idle=until_idle)
        while until_idle and await dispatcher.once_at_once(runner.run):
            continue
        return done
    finally:
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        dispatcher.close()
        await runner.close()
