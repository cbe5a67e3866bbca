"""Transactions on deliveries.

A delivery that somebody must look after has ``due_at``: to be sent, to be taken over when its lease ends, to be
asked about when no report came. One partial index and one claim serve all of these; what is finished has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
    due_at: datetime | None
    tries: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    reference: str | None = None
    reason: str | None = None
    provider_code: str | None = None
    cause: str | None = None
    reported_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    price: str | None = None
    currency: str | None = None

    def view(self, *, used: bool = False) -> Delivery:
        """As the outside sees it."""
        return Delivery(**{name: getattr(self, name) for name in _SEEN}, used=used)


_SEEN = tuple(name for name in Delivery.__slots__ if name in DeliveryRow.__slots__)


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
_BY_ID = select(*_COLUMNS).where(delivery.c.id == bindparam("row"))
_HOLD = _BY_ID.with_for_update()
_BY_REFERENCE = select(*_COLUMNS).where(
    delivery.c.reference == bindparam("wanted"), delivery.c.provider == bindparam("of_provider")
)
_OF_CHALLENGE = (
    select(*_COLUMNS)
    .where(delivery.c.challenge_id == bindparam("challenge_id"))
    .order_by(delivery.c.created_at, delivery.c.step, delivery.c.id)
)
_LIVE_TAGS = (
    select(delivery.c.id, delivery.c.tag, delivery.c.code_length, delivery.c.channel, delivery.c.medium)
    .where(delivery.c.challenge_id == bindparam("challenge_id"), delivery.c.tag.is_not(None))
    .order_by(delivery.c.created_at.desc(), delivery.c.step.desc(), delivery.c.id.desc())
)
_DUE = (
    select(delivery.c.id)
    .where(delivery.c.due_at <= bindparam("now", type_=delivery.c.due_at.type))
    .order_by(delivery.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_DUE_ELSEWHERE = _DUE.where(delivery.c.channel.not_in(bindparam("full", expanding=True)))
_ANY_DUE = select(exists().where(delivery.c.due_at <= bindparam("now", type_=delivery.c.due_at.type)))
_CLAIM = (
    update(delivery)
    .where(delivery.c.id.in_(bindparam("rows", expanding=True)))
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"), due_at=bindparam("until"))
    .returning(*_COLUMNS)
)
_SET_RIGHT = (
    update(delivery)
    .where(
        delivery.c.due_at > bindparam("longest", type_=delivery.c.due_at.type),
        delivery.c.created_at > bindparam("now", type_=delivery.c.created_at.type),
    )
    .values(due_at=bindparam("now"))
)
_HELD_BY = (delivery.c.id == bindparam("row"), delivery.c.lease_owner == bindparam("owner"))
_RENEW = (
    update(delivery)
    .where(delivery.c.id.in_(bindparam("rows", expanding=True)), delivery.c.lease_owner == bindparam("owner"))
    .values(lease_until=bindparam("until"), due_at=bindparam("until"))
)
_RELEASE = (
    update(delivery)
    .where(delivery.c.id.in_(bindparam("rows", expanding=True)), delivery.c.lease_owner == bindparam("owner"))
    .values(lease_owner=None, lease_until=None, due_at=bindparam("now"))
)
_ARM = (
    update(delivery)
    .where(
        *_HELD_BY,
        delivery.c.state.in_([DeliveryState.SENDING.value, DeliveryState.QUEUED.value]),
        delivery.c.sent_at.is_(None),
        exists().where(
            challenge.c.id == delivery.c.challenge_id,
            challenge.c.state == ChallengeState.PENDING.value,
            challenge.c.expires_at > bindparam("now", type_=challenge.c.expires_at.type),
        ),
    )
    .values(
        tag=bindparam("new_tag"),
        sent_at=bindparam("now"),
        state=DeliveryState.SENDING.value,
        tries=delivery.c.tries + 1,
    )
)
_SETTLE = (
    update(delivery)
    .where(*_HELD_BY, delivery.c.state.in_([DeliveryState.SENDING.value, DeliveryState.QUEUED.value]))
    .values(
        state=bindparam("new_state"),
        settled_at=bindparam("now"),
        reference=bindparam("new_reference"),
        reason=bindparam("new_reason"),
        provider_code=bindparam("new_code"),
        due_at=bindparam("next_look"),
        lease_owner=None,
        lease_until=None,
    )
    .returning(*_COLUMNS)
)
_SETTLE_AND_WIPE = _SETTLE.values(tag=None)
_REQUEUE = (
    update(delivery)
    .where(*_HELD_BY)
    .values(
        state=DeliveryState.QUEUED.value,
        due_at=bindparam("again_at"),
        tag=None,
        sent_at=None,
        lease_owner=None,
        lease_until=None,
    )
)


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


def hold(connection: Connection, delivery_id: str) -> DeliveryRow | None:
    """Lock one delivery until the transaction ends."""
    row = connection.execute(_HOLD, {"row": delivery_id}).first()
    return None if row is None else _row(row)


def by_id(connection: Connection, delivery_id: str) -> DeliveryRow | None:
    """One delivery, without holding it."""
    row = connection.execute(_BY_ID, {"row": delivery_id}).first()
    return None if row is None else _row(row)


def by_reference(connection: Connection, provider: str, reference: str) -> DeliveryRow | None:
    """The delivery that a provider knows by this id, without holding it."""
    row = connection.execute(_BY_REFERENCE, {"wanted": reference, "of_provider": provider}).first()
    return None if row is None else _row(row)


def claim_due(
    connection: Connection, *, owner: str, most: int, now: datetime, until: datetime, full: Sequence[str] = ()
) -> Sequence[DeliveryRow]:
    """Lease at most ``most`` deliveries that are due, whatever for; other claimants skip them (``SKIP LOCKED``).

    Each is due again when the lease ends: what a dead process held is taken over by itself. Those of the channels
    that are ``full`` are left to others.
    """
    wanted = {"most": most, "now": now}
    due = connection.execute(_DUE_ELSEWHERE, wanted | {"full": full}) if full else connection.execute(_DUE, wanted)
    ids = list(due.scalars())
    if not ids:
        return ()
    claimed = [_row(row) for row in connection.execute(_CLAIM, {"rows": ids, "owner": owner, "until": until})]
    return sorted(claimed, key=lambda row: row.created_at)


def any_due(connection: Connection, now: datetime) -> bool:
    """Whether anything is due, those included that another transaction holds and :func:`claim_due` skips."""
    due: bool = connection.execute(_ANY_DUE, {"now": now}).scalar_one()
    return due


def renew(connection: Connection, delivery_ids: Sequence[str], *, owner: str, until: datetime) -> int:
    """Keep leases for longer; returns how many were still ours."""
    return connection.execute(_RENEW, {"rows": list(delivery_ids), "owner": owner, "until": until}).rowcount


def release(connection: Connection, delivery_ids: Sequence[str], *, owner: str, now: datetime) -> int:
    """Hand back leases whose work was not begun: due at once, for anybody."""
    return connection.execute(_RELEASE, {"rows": list(delivery_ids), "owner": owner, "now": now}).rowcount


def set_right(connection: Connection, now: datetime, *, longest: timedelta) -> int:
    """Have what was made before the clock was put back looked after now, not when the time comes again.

    A delivery that was made in the future is the sign; one that is due within ``longest``, a lease, is somebody's.
    """
    return connection.execute(_SET_RIGHT, {"now": now, "longest": now + longest}).rowcount


def arm(connection: Connection, delivery_id: str, *, owner: str, tag: bytes, now: datetime) -> bool:
    """Write the tag, and that the provider is about to be asked, if the lease is ours and the challenge open.

    From here on a crash leaves an outcome that only the provider knows. One that was armed before is not armed
    again: it may be ringing.
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
    next_look: datetime | None,
    now: datetime,
) -> DeliveryRow | None:
    """Write down what the provider answered; None when the lease is not ours any more, or a report was faster.

    The tag of a refused delivery is wiped: nobody was told that code.
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
            "next_look": next_look,
        },
    ).first()
    return None if row is None else _row(row)


def requeue(connection: Connection, delivery_id: str, *, owner: str, at: datetime) -> bool:
    """Have a held delivery that certainly never left sent again, with a fresh code."""
    return connection.execute(_REQUEUE, {"row": delivery_id, "owner": owner, "again_at": at}).rowcount == 1


def change(connection: Connection, row: DeliveryRow, changes: Mapping[str, Any]) -> DeliveryRow:
    """Write changes of a held delivery, and return it with them."""
    stored = {key: value.value if isinstance(value, DeliveryState) else value for key, value in changes.items()}
    connection.execute(update(delivery).where(delivery.c.id == row.id).values(**stored))
    return replace(row, **changes)


def _row(row: Any) -> DeliveryRow:
    values = dict(row._mapping)
    return DeliveryRow(**(values | {"state": DeliveryState(row.state), "medium": Medium(row.medium)}))
