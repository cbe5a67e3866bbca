"""What a service forgets by itself, so that no scheduler is needed: answers, redeemed proofs, and old history."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from otpvoice.errors import OTPVoiceError
from otpvoice.flow import transact
from otpvoice.http.deps import Deps
from otpvoice.store import idempotency, proofs

log = logging.getLogger("otpvoice.http")

EVERY = 600.0
"""Seconds between two rounds."""
BATCH = 1000


async def tidy(deps: Deps) -> None:
    """A round now and every ten minutes, until cancelled. Several processes at once do no harm."""
    while True:
        try:
            await once(deps)
        except OTPVoiceError as error:
            log.warning("nothing could be tidied: %s", error)
        await asyncio.sleep(EVERY)


async def once(deps: Deps) -> int:
    """One round; returns how many answers and proofs were forgotten."""
    removed = 0
    for work in (idempotency.purge, proofs.purge):
        while True:
            batch = await deps.run(transact(partial(work, batch=BATCH)))
            removed += batch
            if batch < BATCH:
                break
    await deps.service.purge()
    return removed
