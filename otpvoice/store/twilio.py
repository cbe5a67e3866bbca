"""Transactions of the Twilio-Verify front: services, and which challenge is a recipient's verification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.tables import challenge, delivery
from otpvoice.store.twilio_tables import (
    twilio_service,
    twilio_slot,
    twilio_verification,
)
from otpvoice.types import ChallengeState, DeliveryState, Medium

CLAIM = timedelta(seconds=30)
"""How long one create may take before another for the same recipient takes its place."""
APPROVED = "approved"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """A service as it is stored."""

    sid: str
    tenant: str
    friendly_name: str
    options: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRow:
    """What the front knows of a challenge."""

    challenge_id: str
    tenant: str
    service_sid: str
    created_at: datetime
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One delivery of a verification, and what came of the verification."""

    id: str
    challenge_id: str
    service_sid: str
    medium: Medium
    state: DeliveryState
    reason: str | None
    provider_code: str | None
    created_at: datetime
    settled_at: datetime | None
    reported_at: datetime | None
    price: str | None
    currency: str | None
    code_length: int
    hint: str | None
    challenge_state: ChallengeState
    expires_at: datetime
    outcome: str | None

    @property
    def converted(self) -> bool:
        """Whether the verification was completed."""
        return self.challenge_state is ChallengeState.APPROVED or self.outcome == APPROVED


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFilter:
    """Which deliveries are listed or counted."""

    after: datetime | None = None
    before: datetime | None = None
    recipient_keys: tuple[str, ...] | None = None
    medium: Medium | None = None
    service_sid: str | None = None
    challenge_id: str | None = None
    delivery_id: str | None = None
    converted: bool | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """Another create for this recipient is under way."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The slot is ours: open a challenge, then fill or free it."""


@dataclass(frozen=True, slots=True)
class Held:
    """The recipient has a verification that is not over: open, or exhausted before its time."""

    challenge_id: str
    state: ChallengeState
    expires_at: datetime


def add_service(connection: Connection, row: ServiceRow) -> None:
    """Store a new service."""
    connection.execute(insert(twilio_service), {name: getattr(row, name) for name in row.__slots__})


def service(connection: Connection, tenant: str, sid: str) -> ServiceRow | None:
    """One service of a tenant."""
    found = select(twilio_service).where(twilio_service.c.sid == sid, twilio_service.c.tenant == tenant)
    row = connection.execute(found).first()
    return None if row is None else ServiceRow(**row._mapping)


def services(connection: Connection, tenant: str, *, offset: int, most: int) -> Sequence[ServiceRow]:
    """A tenant's services, newest first."""
    statement = (
        select(twilio_service)
        .where(twilio_service.c.tenant == tenant)
        .order_by(twilio_service.c.created_at.desc(), twilio_service.c.sid)
        .offset(offset)
        .limit(most)
    )
    return [ServiceRow(**row._mapping) for row in connection.execute(statement)]


def change_service(
    connection: Connection, now: datetime, tenant: str, sid: str, *, friendly_name: str, options: Mapping[str, Any]
) -> None:
    """Write a service's name and options anew."""
    connection.execute(
        update(twilio_service)
        .where(twilio_service.c.sid == sid, twilio_service.c.tenant == tenant)
        .values(friendly_name=friendly_name, options=dict(options), updated_at=now)
    )


def remove_service(connection: Connection, tenant: str, sid: str) -> bool:
    """Remove a service with its rate limits. Its open challenges end by themselves."""
    mine = and_(twilio_service.c.sid == sid, twilio_service.c.tenant == tenant)
    connection.execute(delete(twilio_slot).where(twilio_slot.c.service_sid == sid, select(1).where(mine).exists()))
    return connection.execute(delete(twilio_service).where(mine)).rowcount == 1


def take_slot(
    connection: Connection, now: datetime, *, service_sid: str, keys: tuple[str, ...], claim: str
) -> Busy | Taken | Held:
    """What a create for a recipient finds: nothing (and takes the place), its own kind, or a verification."""
    mine = _slot(service_sid, keys)
    row = connection.execute(select(twilio_slot).where(mine).with_for_update()).first()
    fresh = {"challenge_id": None, "claim": claim, "claimed_until": now + CLAIM}
    if row is None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        added = connection.execute(
            dialect.insert(twilio_slot)
            .values(service_sid=service_sid, recipient_key=keys[0], **fresh)
            .on_conflict_do_nothing()
            .returning(twilio_slot.c.service_sid)
        )
        return Busy() if added.first() is None else Taken()
    if row.claim is not None and row.claimed_until > now:
        return Busy()
    if row.challenge_id is not None:
        held = _held(connection, now, row.challenge_id)
        if held is not None:
            return held
    connection.execute(update(twilio_slot).where(mine).values(**fresh))
    return Taken()


def _held(connection: Connection, now: datetime, challenge_id: str) -> Held | None:
    columns = (challenge.c.state, challenge.c.expires_at, twilio_verification.c.outcome)
    statement = (
        select(*columns)
        .outerjoin(twilio_verification, twilio_verification.c.challenge_id == challenge.c.id)
        .where(challenge.c.id == challenge_id)
    )
    row = connection.execute(statement).first()
    if row is None or row.expires_at <= now or row.outcome is not None:
        return None
    state = ChallengeState(row.state)
    if state not in {ChallengeState.PENDING, ChallengeState.EXHAUSTED}:
        return None
    return Held(challenge_id=challenge_id, state=state, expires_at=row.expires_at)


def fill_slot(
    connection: Connection,
    now: datetime,
    *,
    tenant: str,
    service_sid: str,
    keys: tuple[str, ...],
    claim: str,
    challenge_id: str,
) -> None:
    """Make a challenge the recipient's verification, unless somebody else took the place meanwhile."""
    connection.execute(
        insert(twilio_verification).values(
            challenge_id=challenge_id, tenant=tenant, service_sid=service_sid, created_at=now
        )
    )
    connection.execute(
        update(twilio_slot)
        .where(_slot(service_sid, keys), twilio_slot.c.claim == claim)
        .values(challenge_id=challenge_id, claim=None, claimed_until=None)
    )


def free_slot(connection: Connection, *, service_sid: str, keys: tuple[str, ...], claim: str) -> None:
    """Give the place back: no challenge was opened."""
    connection.execute(delete(twilio_slot).where(_slot(service_sid, keys), twilio_slot.c.claim == claim))


def of_recipient(connection: Connection, *, service_sid: str, keys: tuple[str, ...]) -> str | None:
    """The challenge that is a recipient's verification, open or not."""
    statement = select(twilio_slot.c.challenge_id).where(_slot(service_sid, keys))
    return connection.execute(statement).scalars().first()


def verification(connection: Connection, *, tenant: str, service_sid: str, challenge_id: str) -> VerificationRow | None:
    """A service's verification by its challenge."""
    row = connection.execute(
        select(twilio_verification).where(
            twilio_verification.c.challenge_id == challenge_id,
            twilio_verification.c.tenant == tenant,
            twilio_verification.c.service_sid == service_sid,
        )
    ).first()
    return None if row is None else VerificationRow(**row._mapping)


def set_outcome(connection: Connection, challenge_id: str, outcome: str) -> None:
    """Write down what the caller says came of it."""
    connection.execute(
        update(twilio_verification).where(twilio_verification.c.challenge_id == challenge_id).values(outcome=outcome)
    )


def attempts(
    connection: Connection, tenant: str, chosen: AttemptFilter, *, offset: int, most: int
) -> Sequence[AttemptRow]:
    """Deliveries of a tenant's verifications, newest first."""
    columns = (
        *(getattr(delivery.c, name) for name in AttemptRow.__slots__ if name in delivery.c),
        twilio_verification.c.service_sid,
        twilio_verification.c.outcome,
        challenge.c.hint,
        challenge.c.expires_at,
        challenge.c.state.label("challenge_state"),
    )
    statement = (
        _joined(select(*columns), tenant, chosen)
        .order_by(delivery.c.created_at.desc(), delivery.c.id)
        .offset(offset)
        .limit(most)
    )
    found = []
    for row in connection.execute(statement):
        values = dict(row._mapping)
        values["medium"] = Medium(values["medium"])
        values["state"] = DeliveryState(values["state"])
        values["challenge_state"] = ChallengeState(values["challenge_state"])
        found.append(AttemptRow(**values))
    return found


def count_attempts(connection: Connection, tenant: str, chosen: AttemptFilter) -> tuple[int, int]:
    """How many deliveries there were, and of how many the verification was completed."""
    total = connection.execute(_joined(select(func.count()), tenant, chosen)).scalar_one()
    done = connection.execute(_joined(select(func.count()), tenant, chosen).where(_CONVERTED)).scalar_one()
    return total, done


# ``outcome`` is null for most, and NOT (false OR null) would be null.
_CONVERTED = or_(
    challenge.c.state == ChallengeState.APPROVED.value, func.coalesce(twilio_verification.c.outcome, "") == APPROVED
)


def _joined(statement: Any, tenant: str, chosen: AttemptFilter) -> Any:
    joined = delivery.join(challenge, challenge.c.id == delivery.c.challenge_id).join(
        twilio_verification, twilio_verification.c.challenge_id == delivery.c.challenge_id
    )
    wanted: list[ColumnElement[bool]] = [twilio_verification.c.tenant == tenant]
    if chosen.after is not None:
        wanted.append(delivery.c.created_at >= chosen.after)
    if chosen.before is not None:
        wanted.append(delivery.c.created_at < chosen.before)
    if chosen.recipient_keys is not None:
        wanted.append(challenge.c.recipient_key.in_(chosen.recipient_keys))
    if chosen.medium is not None:
        wanted.append(delivery.c.medium == chosen.medium.value)
    if chosen.service_sid is not None:
        wanted.append(twilio_verification.c.service_sid == chosen.service_sid)
    if chosen.challenge_id is not None:
        wanted.append(delivery.c.challenge_id == chosen.challenge_id)
    if chosen.delivery_id is not None:
        wanted.append(delivery.c.id == chosen.delivery_id)
    if chosen.converted is not None:
        wanted.append(_CONVERTED if chosen.converted else ~_CONVERTED)
    return statement.select_from(joined).where(*wanted)


def _slot(service_sid: str, keys: tuple[str, ...]) -> ColumnElement[bool]:
    return and_(twilio_slot.c.service_sid == service_sid, twilio_slot.c.recipient_key.in_(keys))
