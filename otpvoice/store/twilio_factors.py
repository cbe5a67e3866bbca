"""Transactions of the Twilio-Verify front on authenticator apps: what it adds to factors and their challenges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from otpvoice.store.tables import challenge, totp_factor
from otpvoice.store.twilio_tables import twilio_challenge, twilio_factor
from otpvoice.types import ChallengeState


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontFactorRow:
    """A factor with what the front adds to it."""

    factor_id: str
    service_sid: str
    entity: str
    sealed: bytes
    """The friendly name."""
    state: str
    attempts: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontChallengeRow:
    """A challenge of a factor."""

    challenge_id: str
    service_sid: str
    entity: str
    factor_id: str
    state: ChallengeState
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None


def add(connection: Connection, now: datetime, *, factor_id: str, service_sid: str, entity: str, sealed: bytes) -> None:
    """Store what the front adds to a new factor."""
    values = {"factor_id": factor_id, "service_sid": service_sid, "entity": entity, "sealed": sealed}
    connection.execute(insert(twilio_factor).values(**values, updated_at=now))


def rename(connection: Connection, now: datetime, *, factor_id: str, sealed: bytes | None = None) -> None:
    """Write a factor's friendly name anew, or only that it changed."""
    values = {} if sealed is None else {"sealed": sealed}
    connection.execute(
        update(twilio_factor).where(twilio_factor.c.factor_id == factor_id).values(**values, updated_at=now)
    )


def factors(
    connection: Connection, *, tenant: str, service_sid: str, entities: Sequence[str], factor_id: str | None = None
) -> Sequence[FrontFactorRow]:
    """An entity's factors, newest first; or the one of that id."""
    statement = (
        select(twilio_factor, totp_factor.c.state, totp_factor.c.attempts, totp_factor.c.created_at)
        .join(totp_factor, totp_factor.c.id == twilio_factor.c.factor_id)
        .where(
            totp_factor.c.tenant == tenant,
            twilio_factor.c.service_sid == service_sid,
            twilio_factor.c.entity.in_(entities),
        )
        .order_by(totp_factor.c.created_at.desc(), totp_factor.c.id)
    )
    if factor_id is not None:
        statement = statement.where(totp_factor.c.id == factor_id)
    return [FrontFactorRow(**row._mapping) for row in connection.execute(statement)]


def made_since(connection: Connection, *, service_sid: str, entities: Sequence[str], since: datetime) -> int:
    """How many factors an entity has that were made after a time."""
    statement = (
        select(func.count())
        .select_from(twilio_factor.join(totp_factor, totp_factor.c.id == twilio_factor.c.factor_id))
        .where(
            twilio_factor.c.service_sid == service_sid,
            twilio_factor.c.entity.in_(entities),
            totp_factor.c.created_at > since,
        )
    )
    return connection.execute(statement).scalar_one()


def remove(connection: Connection, *, tenant: str, factor_id: str) -> bool:
    """Remove a factor."""
    mine = (totp_factor.c.id == factor_id, totp_factor.c.tenant == tenant)
    return connection.execute(delete(totp_factor).where(*mine)).rowcount == 1


def add_challenge(connection: Connection, *, challenge_id: str, service_sid: str, entity: str, factor_id: str) -> None:
    """Store which factor a challenge asks for."""
    values = {"challenge_id": challenge_id, "service_sid": service_sid, "entity": entity, "factor_id": factor_id}
    connection.execute(insert(twilio_challenge).values(**values))


def challenges(
    connection: Connection,
    *,
    tenant: str,
    service_sid: str,
    entities: Sequence[str],
    challenge_id: str | None = None,
    factor_id: str | None = None,
    most: int = 1000,
) -> Sequence[FrontChallengeRow]:
    """An entity's challenges, newest first; or the one of that id."""
    statement = (
        select(
            twilio_challenge,
            challenge.c.state,
            challenge.c.created_at,
            challenge.c.expires_at,
            challenge.c.closed_at,
        )
        .join(challenge, challenge.c.id == twilio_challenge.c.challenge_id)
        .where(
            challenge.c.tenant == tenant,
            twilio_challenge.c.service_sid == service_sid,
            twilio_challenge.c.entity.in_(entities),
        )
        .order_by(challenge.c.created_at.desc(), challenge.c.id)
        .limit(most)
    )
    if challenge_id is not None:
        statement = statement.where(challenge.c.id == challenge_id)
    if factor_id is not None:
        statement = statement.where(twilio_challenge.c.factor_id == factor_id)
    found = []
    for row in connection.execute(statement):
        values = dict(row._mapping)
        values["state"] = ChallengeState(values["state"])
        found.append(FrontChallengeRow(**values))
    return found
