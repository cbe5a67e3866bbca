"""Upkeep: what runs beside the main story. Purging history, and asking providers how they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from otpvoice.channels.base import Finding
from otpvoice.context import Context
from otpvoice.errors import DeliveryError
from otpvoice.flow import Flow, transact
from otpvoice.store import breakers, history
from otpvoice.store.breakers import Rates

if TYPE_CHECKING:
    from sqlalchemy import Connection

CHALLENGES_KEPT = timedelta(hours=24)
"""After its end a challenge, its sealed recipient and its deliveries are kept this long (property P76)."""
EVENTS_KEPT = timedelta(days=180)
LEDGERS_KEPT = timedelta(days=400)
"""A ledger that nothing was charged to for so long holds no failure that still counts."""
FACTORS_KEPT = timedelta(hours=24)
"""An authenticator app that nobody confirmed."""
BATCH = 1000
HEALTH_WINDOW = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How many rows went."""

    expired: int
    """Open challenges whose time had run out: written down as expired, their tags wiped."""
    challenges: int
    events: int
    counters: int
    ledgers: int
    factors: int


def purge(ctx: Context, *, batch: int = BATCH) -> Flow[Purged]:
    """Remove what is over its retention time, in transactions of at most ``batch`` rows each.

    Over all tenants: retention is the installation's matter. Safe to run beside everything else, and twice at once.
    """

    def every(work: history.Purge) -> Flow[int]:
        total = 0
        while True:
            removed: int = yield from transact(partial(work, batch=batch))
            total += removed
            if removed < batch:
                return total

    return Purged(
        expired=(yield from every(history.expire)),
        challenges=(yield from every(partial(history.purge_challenges, kept=CHALLENGES_KEPT))),
        events=(yield from every(partial(history.purge_events, kept=EVENTS_KEPT))),
        counters=(yield from every(history.purge_counters)),
        ledgers=(yield from every(partial(history.purge_ledgers, kept=LEDGERS_KEPT))),
        factors=(yield from every(partial(history.purge_factors, kept=FACTORS_KEPT))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelHealth:
    """How a channel's provider has done lately."""

    channel: str
    resting_until: datetime | None
    """Its breaker is open: it is passed over until then where a route has another channel."""
    failures: int
    """In a row, until now."""
    reason: str | None
    """What the last of them was."""
    rates: Rates | None
    """Of the last 15 minutes; None where nothing was sent."""


def health(ctx: Context) -> Flow[Mapping[str, ChannelHealth]]:
    """Every configured channel's health, from the database: all processes' together."""

    def look(connection: Connection, now: datetime) -> Mapping[str, ChannelHealth]:
        states = breakers.states(connection)
        rates = breakers.rates(connection, since=now - HEALTH_WINDOW)
        found = {}
        for name in ctx.channels:
            row = states.get(name)
            found[name] = ChannelHealth(
                channel=name,
                resting_until=row.open_until if row is not None and row.rests(now) else None,
                failures=0 if row is None else row.failures,
                reason=None if row is None else row.reason,
                rates=rates.get(name),
            )
        return found

    return (yield from transact(look))


def probe(ctx: Context) -> Flow[Mapping[str, Sequence[Finding]]]:
    """Every channel's findings; a provider that does not answer is a finding too."""
    findings: dict[str, Sequence[Finding]] = {}
    for name, channel in ctx.channels.items():
        try:
            findings[name] = yield from channel.probe()
        except DeliveryError as error:
            findings[name] = [Finding(name=channel.provider, ok=False, detail=str(error))]
    return findings
