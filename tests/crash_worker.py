"""A worker process to be killed: like ``otpvoice worker``, with leases and look-ups that take seconds, not minutes.

They are much longer than a living process can be held up on a loaded machine: else another one would explain as *not
received* what is about to be sent.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import timedelta

from otpvoice import config, reconciliation, settings
from otpvoice.worker import Worker


def main() -> None:
    reconciliation.RECONCILE_AFTER = timedelta(milliseconds=300)
    reconciliation.GIVE_UP_AFTER = timedelta(seconds=12)
    assembly = config.from_settings(settings.read())
    voice = assembly.context.channels["voice"]
    voice._capabilities = replace(voice.capabilities, recorded_within=timedelta(seconds=12))  # type: ignore[attr-defined]
    assembly = replace(assembly, context=replace(assembly.context, lease=timedelta(seconds=4)))
    print("up", flush=True)
    asyncio.run(Worker(assembly, poll=timedelta(milliseconds=50), concurrency=8).run(until_idle="--idle" in sys.argv))


if __name__ == "__main__":
    main()
