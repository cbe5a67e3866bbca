"""The HTTP service under load: ``python -m benchmarks.service``.

Two processes of ``otpvoice serve`` on one PostgreSQL (``--database sqlite``: on one file), asked over loopback by
connections that stay open, on the same cores as everything else: the clients, the database and the hashes. Each
round runs between two runs of argon2 alone, on as many threads as cores; the ratio is the hashes that the service
performs a second over those; ``cpu_ratio`` is the same in CPU time, which programs beside it do not change. Then:
memory while 500 verifications come at once and half of the clients hang up, and
the time to answer 10 000 unknown ids, which cost no hash.

(Not named ``http.py``: a file of this folder that is run by its path would find it in the place of Python's own.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.databases import databases
from benchmarks.workload import SECRET, Server, numbers, raw_argon2
from otpvoice import tenant_keys
from otpvoice.runner import HashingPool, Runner
from otpvoice.store.engine import Store

ATTEMPTS = 10
CONFIGURATION = f"""
secret = "{SECRET}"
database_url = %s
hash_profile = "%s"
hash_permits = %d
hash_queue = %d
pool_size = 4
[policy]
ttl = "10m"
max_attempts = {ATTEMPTS}
max_sends_per_day = 1000000000
max_live = 1000000000
lock_after = 1000000000
longer_after = 1000000000
stop_after = 1000000000
cooldowns = [0]
[channels.voice]
type = "memory"
[http]
log_level = "warning"
[tenants.shop]
"""


@dataclass(slots=True)
class Answers:
    """What came back: statuses, and milliseconds until each answer was whole."""

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.milliseconds) / self.seconds

    def told(self) -> dict[str, Any]:
        """For the report."""
        cuts = statistics.quantiles(self.milliseconds, n=100)
        return {
            "requests": len(self.milliseconds),
            "per_second": round(self.rate, 1),
            "p50_ms": round(cuts[49], 2),
            "p99_ms": round(cuts[98], 2),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _options(arguments)
    report: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "rounds": options.rounds}
    for profile in options.profiles.split(","):
        with services(profile, options.database) as (ports, key, processes, server):
            report[profile] = _rounds(options, profile, ports, key, lambda ids=processes, db=server: _cpu(ids, db))
            if profile == "owasp":
                report["unknown_ids"] = _unknown(options, ports, key)
    with services("owasp", options.database, processes=1, queue=64) as (ports, key, processes, _server):
        report["memory"] = asyncio.run(_memory(ports[0], key, processes[0], options.at_once))
    print(json.dumps(report, indent=2))
    return 0


def _rounds(
    options: argparse.Namespace, profile: str, ports: list[int], key: str, cpu: Callable[[], float]
) -> dict[str, Any]:
    threads = len(os.sched_getaffinity(0))
    verify, issue, ratios, bare, shares = [], [], [], [], []
    for _ in range(options.rounds):
        opened = load(ports, key, [("/v1/challenges", body) for body in _openings(options.challenges)], options.clients)
        _settle(ports[0], key, json.loads(opened.bodies[-1])["id"])
        guesses = [
            (f"/v1/challenges/{json.loads(body)['id']}/verify", b'{"code":"000000"}')
            for _ in range(ATTEMPTS - 1)
            for body in opened.bodies
        ]
        before = raw_argon2(profile, options.seconds, threads, Server(None))
        spent = cpu()
        checked = load(ports, key, guesses, options.clients)
        spent = 1000 * (cpu() - spent) / len(guesses)
        after = raw_argon2(profile, options.seconds, threads, Server(None))
        bare.append((before.rate + after.rate) / 2)
        shares.append({"argon2": (before.cpu_ms + after.cpu_ms) / 2, "verify": spent})
        ratios.append(checked.rate / bare[-1])
        verify.append(checked)
        issue.append(opened)
    return {
        "raw_argon2_per_second": round(statistics.median(bare), 1),
        "verify": _middle(verify).told(),
        "verify_ratio_to_argon2": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_ms_argon2": round(statistics.median(one["argon2"] for one in shares), 2),
        "cpu_ms_verify": round(statistics.median(one["verify"] for one in shares), 2),
        "cpu_ratio_to_argon2": round(statistics.median(one["argon2"] / one["verify"] for one in shares), 3),
        "issue": _middle(issue).told(),
    }


def _cpu(processes: list[int], server: Server) -> float:
    """CPU seconds so far of the services, the database server and these clients: what other programs do is no part."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + (server.cpu() or 0.0) + time.process_time()


def _unknown(options: argparse.Namespace, ports: list[int], key: str) -> dict[str, Any]:
    asked = [(f"/v1/challenges/ch_{number:032x}/verify", b'{"code":"000000"}') for number in range(options.unknown)]
    return {
        "one_at_a_time": load(ports, key, asked[: options.unknown // 10], 1).told(),
        "at_once": load(ports, key, asked, 8).told(),
    }


async def _memory(port: int, key: str, process: int, at_once: int) -> dict[str, Any]:
    """Resident memory of one process while many verify at once, half of whom hang up without waiting."""
    opened = await _load([port], key, [("/v1/challenges", body) for body in _openings(at_once // 5)], 8)
    ids = [json.loads(body)["id"] for body in opened.bodies]
    await asyncio.sleep(3)  # The worker's hashes are over.
    limits = httpx.Limits(max_connections=at_once)
    headers = {"Authorization": f"Bearer {key}"}
    resting, peak, statuses = _resident(process), 0, Counter[str]()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, limits=limits) as client:

        async def verify(number: int) -> None:
            asked = client.post(f"/v1/challenges/{ids[number % len(ids)]}/verify", json={"code": "000000"}, timeout=60)
            try:
                answer = await asyncio.wait_for(asked, 0.3 if number % 2 else 60)
                statuses[str(answer.status_code)] += 1
                if answer.status_code == 503 and "retry-after" not in answer.headers:
                    statuses["503 without Retry-After"] += 1
            except TimeoutError:
                statuses["hung up"] += 1

        waiting = asyncio.gather(*(verify(number) for number in range(at_once)))
        while not waiting.done():
            peak = max(peak, _resident(process))
            await asyncio.sleep(0.005)
        await waiting
    return {
        "at_once": at_once,
        "statuses": dict(sorted(statuses.items())),
        "resting_mib": round(resting / 2**20, 1),
        "peak_mib": round(peak / 2**20, 1),
        "more_mib": round((peak - resting) / 2**20, 1),
    }


def load(ports: list[int], key: str, requests: list[tuple[str, bytes]], clients: int) -> Answers:
    """Send these, each client its share over one connection, the next when the last is answered."""
    return asyncio.run(_load(ports, key, requests, clients))


async def _load(ports: list[int], key: str, requests: list[tuple[str, bytes]], clients: int) -> Answers:
    answers, left = Answers(), iter(requests)
    began = time.perf_counter()
    await asyncio.gather(*(_client(ports[number % len(ports)], key, left, answers) for number in range(clients)))
    answers.seconds = time.perf_counter() - began
    return answers


async def _client(port: int, key: str, requests: Iterator[tuple[str, bytes]], answers: Answers) -> None:
    # A bare socket: an HTTP library would take more of the cores than the service.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path, body in requests:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = time.perf_counter()
        writer.write(head.encode() + body)
        headers = await reader.readuntil(b"\r\n\r\n")
        length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        answers.milliseconds.append((time.perf_counter() - began) * 1000)
        answers.statuses[int(headers[9:12])] += 1
        answers.bodies.append(content)
    writer.close()
    await writer.wait_closed()


def _settle(port: int, key: str, last: str) -> None:
    """Wait until the worker has sent the last of the codes: its hashes are no part of what verifying costs."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}) as client:
        for _ in range(1200):
            deliveries = client.get(f"/v1/challenges/{last}").json()["deliveries"]
            if deliveries and deliveries[-1]["state"] == "delivered":
                time.sleep(1)
                return
            time.sleep(0.1)
    raise SystemExit("the worker did not send")


@contextmanager
def services(
    profile: str, database: str, *, processes: int = 2, queue: int = 64
) -> Iterator[tuple[list[int], str, list[int], Server]]:
    """``otpvoice serve``, that many times: ports, an API key, process ids; and the database's server."""
    with ExitStack() as stack:
        found = stack.enter_context(databases([database], folder=None, postgres_url=None))[database]
        folder = Path(found.url.removeprefix("sqlite:///")).parent if database == "sqlite" else None
        place = folder or Path(stack.enter_context(_directory()))
        permits = max(1, len(os.sched_getaffinity(0)) // processes)
        text = CONFIGURATION % (json.dumps(found.url), profile, permits, queue)
        (place / "otpvoice.toml").write_text(text)
        runner = Runner(Store(found.url), HashingPool(permits=1))
        key = str(runner.run(tenant_keys.create("shop", scopes=tenant_keys.SCOPES)).key)
        runner.close()
        ports = [_free_port() for _ in range(processes)]
        started = [stack.enter_context(_served(place, port)) for port in ports]
        yield ports, key, started, found.server


@contextmanager
def _directory() -> Iterator[str]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="otpvoice-benchmark-") as directory:
        yield directory


@contextmanager
def _served(place: Path, port: int) -> Iterator[int]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (place / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "otpvoice", "serve", "--port", str(port)],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(600):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _openings(count: int) -> Iterator[bytes]:
    people = numbers()
    for _ in range(count):
        yield json.dumps({"recipient": next(people), "purpose": "login"}).encode()


def _middle(rounds: list[Answers]) -> Answers:
    return sorted(rounds, key=lambda one: one.rate)[len(rounds) // 2]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--profiles", default="owasp,fast")
    parser.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--challenges", type=int, default=150, help="opened a round, and guessed at nine times each")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="of argon2 alone, before and after each round")
    parser.add_argument("--unknown", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=500)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
