"""``otpvoice worker``: sends what is queued, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from otpvoice import config
from otpvoice.cli.session import session
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
) -> None:
    """Send what is queued, ask about what is unknown, go on along routes. Run as many as you like.

    SIGTERM and Ctrl-C stop it gracefully: what it has begun is finished, the rest handed back.
    """
    console = Console(stderr=True)
    assembly = config.from_settings(session(ctx).settings())
    busy = Worker(
        assembly,
        concurrency=concurrency,
        per_channel=per_channel,
        poll=timedelta(seconds=poll),
        grace=timedelta(seconds=grace),
    )
    console.print(f"worker: {', '.join(assembly.context.channels)} on {assembly.store!r}; Ctrl-C stops it")
    done = asyncio.run(_until_told(busy, until_idle))
    assembly.store.close()
    console.print(f"worker: stopped after {done.deliveries} deliveries, {done.failures} left to their leases")


async def _until_told(busy: Worker, until_idle: bool) -> Done:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, busy.stop)
    return await busy.run(until_idle=until_idle)
