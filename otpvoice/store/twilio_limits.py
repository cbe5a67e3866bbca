"""Transactions of the Twilio-Verify front on rate limits and their buckets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.tables import counter
from otpvoice.store.twilio_tables import twilio_bucket, twilio_rate_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRow:
    """A service's rate limit."""

    sid: str
    service_sid: str
    unique_name: str
    description: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRow:
    """How much of a rate limit in which time."""

    sid: str
    rate_limit_sid: str
    most: int
    seconds: int
    created_at: datetime
    updated_at: datetime


def add_rate_limit(connection: Connection, row: RateLimitRow) -> bool:
    """Store a rate limit; False when its name is taken."""
    return _add(connection, twilio_rate_limit, row)


def rate_limits(connection: Connection, service_sid: str, *, offset: int = 0, most: int = 1000) -> list[RateLimitRow]:
    """A service's rate limits, oldest first."""
    statement = (
        select(twilio_rate_limit)
        .where(twilio_rate_limit.c.service_sid == service_sid)
        .order_by(twilio_rate_limit.c.created_at, twilio_rate_limit.c.sid)
        .offset(offset)
        .limit(most)
    )
    return [RateLimitRow(**row._mapping) for row in connection.execute(statement)]


def rate_limit(connection: Connection, service_sid: str, sid: str) -> RateLimitRow | None:
    """One rate limit of a service."""
    found = select(twilio_rate_limit).where(
        twilio_rate_limit.c.sid == sid, twilio_rate_limit.c.service_sid == service_sid
    )
    row = connection.execute(found).first()
    return None if row is None else RateLimitRow(**row._mapping)


def describe_rate_limit(connection: Connection, now: datetime, sid: str, description: str) -> None:
    """Write a rate limit's description anew."""
    connection.execute(
        update(twilio_rate_limit).where(twilio_rate_limit.c.sid == sid).values(description=description, updated_at=now)
    )


def remove_rate_limit(connection: Connection, service_sid: str, sid: str) -> bool:
    """Remove a rate limit with its buckets."""
    mine = (twilio_rate_limit.c.sid == sid, twilio_rate_limit.c.service_sid == service_sid)
    return connection.execute(delete(twilio_rate_limit).where(*mine)).rowcount == 1


def add_bucket(connection: Connection, row: BucketRow) -> bool:
    """Store a bucket; False when the limit has one of that interval."""
    return _add(connection, twilio_bucket, row)


def buckets(connection: Connection, rate_limit_sids: Sequence[str]) -> list[BucketRow]:
    """The buckets of rate limits, oldest first."""
    statement = (
        select(twilio_bucket)
        .where(twilio_bucket.c.rate_limit_sid.in_(rate_limit_sids))
        .order_by(twilio_bucket.c.created_at, twilio_bucket.c.sid)
    )
    return [BucketRow(**row._mapping) for row in connection.execute(statement)]


def change_bucket(connection: Connection, now: datetime, sid: str, *, most: int, seconds: int) -> bool:
    """Write a bucket's numbers anew; False when the limit has another one of that interval."""
    mine = select(twilio_bucket.c.rate_limit_sid).where(twilio_bucket.c.sid == sid).scalar_subquery()
    others = select(twilio_bucket.c.sid).where(
        twilio_bucket.c.rate_limit_sid == mine, twilio_bucket.c.seconds == seconds, twilio_bucket.c.sid != sid
    )
    if connection.execute(others).first() is not None:
        return False
    connection.execute(
        update(twilio_bucket).where(twilio_bucket.c.sid == sid).values(most=most, seconds=seconds, updated_at=now)
    )
    return True


def remove_bucket(connection: Connection, rate_limit_sid: str, sid: str) -> bool:
    """Remove a bucket."""
    mine = (twilio_bucket.c.sid == sid, twilio_bucket.c.rate_limit_sid == rate_limit_sid)
    return connection.execute(delete(twilio_bucket).where(*mine)).rowcount == 1


def give_back(connection: Connection, keys: Sequence[str]) -> None:
    """Uncharge counters by one each."""
    connection.execute(
        update(counter).where(counter.c.key.in_(keys), counter.c.used > 0).values(used=counter.c.used - 1)
    )


def _add(connection: Connection, table: Any, row: RateLimitRow | BucketRow) -> bool:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {name: getattr(row, name) for name in row.__slots__}
    statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(table.c.sid)
    return connection.execute(statement).first() is not None
