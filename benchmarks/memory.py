"""Peak memory of many verifications at once, in a process of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import threading
from pathlib import Path

from benchmarks.workload import Desk, Server
from otpvoice.codes import hash_profile

MIB = 1024


def concurrent_verifications(*, database_url: str, colour: str, profile: str, at_once: int) -> dict[str, float]:
    """MiB: resident before, at the peak, their difference; and permits × profile, which bounds the hashes' part.

    Empty where the system has no ``/proc/self/clear_refs`` to reset the peak with (other than Linux).
    """
    if not Path("/proc/self/clear_refs").exists():
        return {}
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, database_url, colour, profile, at_once))
    process.start()
    theirs.close()
    try:
        found: dict[str, float] = ours.recv()
        return found
    finally:
        process.join()


def _measure(pipe, database_url: str, colour: str, profile: str, at_once: int) -> None:  # type: ignore[no-untyped-def]
    desk = Desk(database_url=database_url, colour=colour, profile=profile, concurrency=4, server=Server(None))
    challenges = desk.prepare(at_once)
    desk.close()
    codes = dict(desk.sink.codes)
    desk = Desk(database_url=database_url, colour=colour, profile=profile, concurrency=at_once, server=Server(None))
    desk.sink.codes.update(codes)
    warm, *others = [desk.guess(item.id, codes[item.id], right=True) for item in challenges]
    if colour == "sync":
        warm()
    else:
        asyncio.run(warm())
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak (proc(5)).
    before = _mib("VmRSS")
    if colour == "sync":
        workers = [threading.Thread(target=guess) for guess in others]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    else:

        async def all_at_once() -> None:
            await asyncio.gather(*(guess() for guess in others))

        asyncio.run(all_at_once())
    peak = _mib("VmHWM")
    permits = desk.service._assembly.hashing.permits
    desk.close()
    pipe.send(
        {
            "at_once": len(others),
            "before": before,
            "peak": peak,
            "growth": peak - before,
            "permits": permits,
            "bound": permits * hash_profile(profile).memory / MIB,
        }
    )


def _mib(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / MIB
