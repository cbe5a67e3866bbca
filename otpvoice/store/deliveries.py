"""Transactions on deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, exists, insert, select, update

from otpvoice.store.tables import challenge, delivery
from otpvoice.types import ChallengeState, Delivery, DeliveryState, Medium


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery as it is stored, but for its tag."""

    id: str
    challenge_id: str
    channel: str
    provider: str
    medium: Medium
    step: int
    state: DeliveryState
    code_length: int
    created_at: datetime
    due_at: datetime
    tries: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    reference: str | None = None
    reason: str | None = None
    provider_code: str | None = None

    def view(self) -> Delivery:
        """As the outside sees it."""
        return Delivery(
            id=self.id,
            channel=self.channel,
            provider=self.provider,
            medium=self.medium,
            step=self.step,
            state=self.state,
            reason=self.reason,
            provider_code=self.provider_code,
            reference=self.reference,
            created_at=self.created_at,
            sent_at=self.sent_at,
            settled_at=self.settled_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTag:
    """A sent code, as an attempt can be compared with it."""

    id: str
    tag: bytes = field(repr=False)
    code_length: int
    channel: str
    medium: Medium


_COLUMNS = tuple(delivery.c[name] for name in DeliveryRow.__slots__)
_INSERT = insert(delivery)
_OF_CHALLENGE = (
    select(*_COLUMNS)
    .where(delivery.c.challenge_id == bindparam("challenge_id"))
    .order_by(delivery.c.created_at, delivery.c.id)
)
_LIVE_TAGS = (
    select(delivery.c.id, delivery.c.tag, delivery.c.code_length, delivery.c.channel, delivery.c.medium)
    .where(delivery.c.challenge_id == bindparam("challenge_id"), delivery.c.tag.is_not(None))
    .order_by(delivery.c.created_at.desc(), delivery.c.id.desc())
)
_HELD_BY = (delivery.c.id == bindparam("row"), delivery.c.lease_owner == bindparam("owner"))
_CLAIM = (
    update(delivery)
    .where(delivery.c.id == bindparam("row"), delivery.c.state == DeliveryState.QUEUED.value)
    .values(
        state=DeliveryState.SENDING.value,
        lease_owner=bindparam("owner"),
        lease_until=bindparam("until"),
        tries=delivery.c.tries + 1,
    )
)
_ARM = (
    update(delivery)
    .where(
        *_HELD_BY,
        delivery.c.state == DeliveryState.SENDING.value,
        exists().where(
            challenge.c.id == delivery.c.challenge_id,
            challenge.c.state == ChallengeState.PENDING.value,
            challenge.c.expires_at > bindparam("now", type_=challenge.c.expires_at.type),
        ),
    )
    .values(tag=bindparam("new_tag"), sent_at=bindparam("now"))
)
_SETTLE = (
    update(delivery)
    .where(*_HELD_BY, delivery.c.state == DeliveryState.SENDING.value)
    .values(
        state=bindparam("new_state"),
        settled_at=bindparam("now"),
        reference=bindparam("new_reference"),
        reason=bindparam("new_reason"),
        provider_code=bindparam("new_code"),
        lease_owner=None,
        lease_until=None,
    )
    .returning(*_COLUMNS)
)
_SETTLE_AND_WIPE = _SETTLE.values(tag=None)


def add(connection: Connection, row: DeliveryRow) -> None:
    """Store a new delivery."""
    connection.execute(
        _INSERT,
        {name: getattr(row, name) for name in row.__slots__} | {"state": row.state.value, "medium": row.medium.value},
    )


def of_challenge(connection: Connection, challenge_id: str) -> Sequence[DeliveryRow]:
    """A challenge's deliveries, oldest first."""
    return [_row(row) for row in connection.execute(_OF_CHALLENGE, {"challenge_id": challenge_id})]


def live_tags(connection: Connection, challenge_id: str) -> Sequence[LiveTag]:
    """What an attempt is compared with, the newest first."""
    rows = connection.execute(_LIVE_TAGS, {"challenge_id": challenge_id})
    return [
        LiveTag(id=row.id, tag=row.tag, code_length=row.code_length, channel=row.channel, medium=Medium(row.medium))
        for row in rows
    ]


def claim(connection: Connection, delivery_id: str, *, owner: str, until: datetime) -> bool:
    """Take a queued delivery: one winner."""
    return connection.execute(_CLAIM, {"row": delivery_id, "owner": owner, "until": until}).rowcount == 1


def arm(connection: Connection, delivery_id: str, *, owner: str, tag: bytes, now: datetime) -> bool:
    """Write the tag, and that the provider is about to be asked, if the lease is ours and the challenge open.

    From here on a crash leaves an outcome that only the provider knows.
    """
    return connection.execute(_ARM, {"row": delivery_id, "owner": owner, "new_tag": tag, "now": now}).rowcount == 1


def settle(
    connection: Connection,
    delivery_id: str,
    *,
    owner: str,
    state: DeliveryState,
    reference: str | None,
    reason: str | None,
    provider_code: str | None,
    now: datetime,
) -> DeliveryRow | None:
    """Write down what the provider answered; None when the lease is not ours any more.

    The tag of a failed delivery is wiped: nobody was told that code.
    """
    row = connection.execute(
        _SETTLE_AND_WIPE if state is DeliveryState.FAILED else _SETTLE,
        {
            "row": delivery_id,
            "owner": owner,
            "new_state": state.value,
            "now": now,
            "new_reference": reference,
            "new_reason": reason,
            "new_code": provider_code,
        },
    ).first()
    return None if row is None else _row(row)


def _row(row: Any) -> DeliveryRow:
    values = dict(row._mapping)
    return DeliveryRow(**(values | {"state": DeliveryState(row.state), "medium": Medium(row.medium)}))
