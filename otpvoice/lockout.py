"""Lockout: what past failures mean for the next attempt. Pure: ledger and policy in, decision out.

A ledger belongs to a tenant, a purpose and a recipient (and a second one to the subject, where one is given). It
holds *unforgiven failures* by calendar month, which a success elsewhere never erases (an attacker's failures do not
vanish because the owner logs in every day), and a *run* of consecutive failures, which locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Self

from otpvoice.policy import Policy

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Failures that count. ``months`` maps ``"2026-11"`` to that month's unforgiven failures."""

    months: Mapping[str, int] = field(default_factory=dict)
    run: int = 0
    """Consecutive failures since the last success or lock."""
    level: int = 0
    """Locks since the last success: each doubles the next."""
    locked_until: datetime | None = None

    def failures(self, now: datetime) -> int:
        """Unforgiven failures of the rolling year; a month counts until all of it is older than a year."""
        return sum(self._recent(now).values())

    def _recent(self, now: datetime) -> dict[str, int]:
        oldest = _month(now - YEAR)
        return {month: count for month, count in self.months.items() if month >= oldest and count > 0}

    def charge(self, policy: Policy, now: datetime, *, codes: int = 1) -> Self:
        """The ledger after one attempt that is compared with ``codes`` codes. Charged before it is compared."""
        months = self._recent(now)
        months[_month(now)] = months.get(_month(now), 0) + codes
        run = self.run + 1
        if run < policy.lock_after:
            return replace(self, months=months, run=run)
        # A float, because the doubling of a long-attacked ledger outgrows what a timedelta holds.
        span = min(policy.lock_for.total_seconds() * 2.0 ** min(self.level, 60), policy.lock_cap.total_seconds())
        return replace(self, months=months, run=0, level=self.level + 1, locked_until=now + timedelta(seconds=span))

    def forgive(self, failures: int, now: datetime) -> Self:
        """The ledger after a success: its own challenge's failures leave, the run and its lock end.

        Whoever finished the challenge held the code, so its failures were the owner's typing errors. Nobody
        else's are forgiven.
        """
        months = self._recent(now)
        for month in sorted(months, reverse=True):
            taken = min(months[month], failures)
            months[month] -= taken
            failures -= taken
        return replace(
            self, months={m: count for m, count in months.items() if count}, run=0, level=0, locked_until=None
        )


def retry_after(ledger: Ledger, policy: Policy, now: datetime, *, codes: int = 1) -> timedelta | None:
    """How long to wait before anything is sent or accepted again; None: go ahead.

    ``codes``: an attempt cannot be compared with fewer than so many. Checked at issue, resend and verify alike
    (CVE-2026-9798: a lock that one path forgot).
    """
    waits = []
    if ledger.locked_until is not None and ledger.locked_until > now:
        waits.append(ledger.locked_until - now)
    if room(ledger, policy, now) < codes:
        waits.append(_until_fewer(ledger, policy.stop_after - codes + 1, now))
    return max(waits, default=None)


def room(ledger: Ledger, policy: Policy, now: datetime) -> int:
    """With how many codes an attempt may be compared before the ledger stops everything."""
    return max(0, policy.stop_after - ledger.failures(now))


def code_length(ledger: Ledger, policy: Policy, now: datetime) -> int:
    """How many digits the next code has: longer ones for a recipient that is being guessed at."""
    return policy.longer_length if ledger.failures(now) >= policy.longer_after else policy.code_length


def _until_fewer(ledger: Ledger, bound: int, now: datetime) -> timedelta:
    """When enough months have left the rolling year for the failures to be fewer than ``bound``."""
    recent = ledger._recent(now)
    remaining = sum(recent.values())
    for month in sorted(recent):
        remaining -= recent[month]
        if remaining < bound:
            year, number = (int(part) for part in month.split("-"))
            following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
            return max(following + YEAR - now, timedelta(seconds=1))
    return YEAR


def _month(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m")
