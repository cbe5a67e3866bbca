"""Transactions on breakers: a provider that keeps failing is skipped for a while, then tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.tables import breaker, challenge, delivery

TRIPS_AFTER = 5
"""Failures in a row, over all processes, that open a channel's breaker."""
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRow:
    """A channel's breaker: while it :meth:`rests`, the channel is skipped."""

    channel: str
    failures: int
    trips: int
    open_until: datetime | None
    reason: str | None
    updated_at: datetime

    def rests(self, now: datetime) -> bool:
        """Whether it is open. A pause that is longer than any was given by a clock that has been put back since."""
        return self.open_until is not None and now < self.open_until <= now + LONGEST_PAUSE


def states(connection: Connection) -> Mapping[str, BreakerRow]:
    """Every channel that has failed lately."""
    return {row.channel: BreakerRow(**row._mapping) for row in connection.execute(select(breaker))}


def failed(connection: Connection, channel: str, reason: str, now: datetime) -> BreakerRow | None:
    """Count one more failure in a row; returns the breaker where this one opened it."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(breaker).values(
        channel=channel, failures=1, trips=0, open_until=None, reason=reason, updated_at=now
    )
    row = connection.execute(
        new.on_conflict_do_update(
            index_elements=[breaker.c.channel],
            set_={"failures": breaker.c.failures + 1, "reason": reason, "updated_at": now},
        ).returning(breaker)
    ).one()
    if row.failures < TRIPS_AFTER or BreakerRow(**row._mapping).rests(now):
        return None
    pause = min(FIRST_PAUSE * 2 ** min(row.trips, 10), LONGEST_PAUSE)
    opened = connection.execute(
        update(breaker)
        .where(breaker.c.channel == channel)
        .values(open_until=now + pause, trips=breaker.c.trips + 1)
        .returning(breaker)
    ).one()
    return BreakerRow(**opened._mapping)


def worked(connection: Connection, channel: str) -> bool:
    """Close a channel's breaker; returns whether it had failures to forget."""
    statement = (
        update(breaker)
        .where(breaker.c.channel == channel, breaker.c.failures > 0)
        .values(failures=0, trips=0, open_until=None, reason=None)
    )
    return connection.execute(statement).rowcount == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What became of a channel's deliveries lately."""

    channel: str
    sent: int
    accepted: int
    """Taken by the provider."""
    delivered: int
    """Reported as answered or handed over."""
    failed: int
    """Reported as not got through."""

    @property
    def acceptance(self) -> float | None:
        """The share that the provider took, 0 to 1."""
        return self.accepted / self.sent if self.sent else None

    @property
    def answered(self) -> float | None:
        """The share of reported deliveries that got through, 0 to 1."""
        reported = self.delivered + self.failed
        return self.delivered / reported if reported else None


def rates(connection: Connection, *, since: datetime) -> Mapping[str, Rates]:
    """Acceptance and answer rates by channel, of deliveries made since then."""
    taken = delivery.c.state.in_(["accepted", "delivered"]) | delivery.c.reported_at.is_not(None)
    reported = delivery.c.reported_at.is_not(None)
    rows = connection.execute(
        select(
            delivery.c.channel,
            func.count().label("sent"),
            func.sum(case((taken, 1), else_=0)).label("accepted"),
            func.sum(case((reported & (delivery.c.state == "delivered"), 1), else_=0)).label("delivered"),
            func.sum(case((reported & (delivery.c.state == "failed"), 1), else_=0)).label("failed"),
        )
        # Found by the challenges' index: deliveries have none on their times, and no code outlives its challenge.
        .join(challenge, challenge.c.id == delivery.c.challenge_id)
        .where(
            challenge.c.expires_at >= since,
            delivery.c.created_at >= since,
            delivery.c.state.not_in(["queued", "sending"]),
        )
        .group_by(delivery.c.channel)
    )
    return {row.channel: Rates(**row._mapping) for row in rows}
