"""Transactions on challenges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, exists, func, insert, or_, select, tuple_, update

from otpvoice.policy import Policy
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.ledgers import LedgerRow, row_of
from otpvoice.store.tables import challenge, delivery, ledger
from otpvoice.types import ChallengeState


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRow:
    """A challenge as it is stored."""

    id: str
    tenant: str
    purpose: str
    state: ChallengeState
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    attempts: int
    charged: int
    sends: int
    resend_at: datetime
    step: int
    policy: Policy
    kid: str
    salt: bytes | None
    recipient_key: str | None
    recipient_ledger: str | None
    hint: str | None
    subject_key: str | None
    subject_ledger: str | None
    sealed: bytes | None
    factor_id: str | None
    used_delivery: str | None

    def state_at(self, now: datetime) -> ChallengeState:
        """The state as of a time: an open challenge whose time has run out is expired, whoever writes it down."""
        if self.state is ChallengeState.PENDING and now >= self.expires_at:
            return ChallengeState.EXPIRED
        return self.state

    @property
    def attempts_left(self) -> int:
        """How many more attempts it takes, were it open."""
        return max(0, self.policy.max_attempts - self.attempts)


_INSERT = insert(challenge)
_BY_ID = select(challenge).where(challenge.c.id == bindparam("id"), challenge.c.tenant == bindparam("tenant"))
_BY_ID_ONLY = select(challenge).where(challenge.c.id == bindparam("id"))
_HOLD = (
    select(
        challenge,
        ledger.c.id.label("ledger_id"),
        ledger.c.months,
        ledger.c.run,
        ledger.c.level,
        ledger.c.locked_until,
    )
    .join(ledger, or_(ledger.c.id == challenge.c.recipient_ledger, ledger.c.id == challenge.c.subject_ledger))
    .where(challenge.c.id == bindparam("id"), challenge.c.tenant == bindparam("tenant"))
    .order_by(ledger.c.id)
    .with_for_update()
)
_CLAIM = (
    update(challenge)
    .where(challenge.c.id == bindparam("row"), challenge.c.attempts == bindparam("seen"))
    .values(attempts=challenge.c.attempts + 1, charged=challenge.c.charged + bindparam("codes"))
)
_OPEN = (
    challenge.c.id == bindparam("row"),
    challenge.c.tenant == bindparam("of_tenant"),
    challenge.c.state == ChallengeState.PENDING.value,
)
_CLOSE = (
    update(challenge)
    .where(*_OPEN)
    .values(
        state=bindparam("new_state"),
        closed_at=bindparam("now"),
        salt=None,
        used_delivery=bindparam("used"),
    )
    .returning(challenge.c.charged)
)
_APPROVE = _CLOSE.where(challenge.c.expires_at > bindparam("now", type_=challenge.c.expires_at.type))
_EXHAUST = _CLOSE.where(challenge.c.attempts >= bindparam("most"))
_WIPE_TAGS = update(delivery).where(delivery.c.challenge_id == bindparam("row")).values(tag=None)
_LIVE = select(func.count(), func.min(challenge.c.expires_at)).where(
    challenge.c.state == ChallengeState.PENDING.value,
    challenge.c.expires_at > bindparam("now", type_=challenge.c.expires_at.type),
    challenge.c.tenant == bindparam("tenant"),
)
_ALLOW_RESEND = (
    update(challenge)
    .where(
        challenge.c.id == bindparam("row"),
        ~exists().where(
            delivery.c.challenge_id == bindparam("row"),
            tuple_(delivery.c.created_at, delivery.c.step)
            > tuple_(bindparam("made_at", type_=delivery.c.created_at.type), bindparam("of_step", type_=Integer())),
        ),
    )
    .values(resend_at=bindparam("now"))
)
_TURN = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("key"), 0)))
_LIVE_OF_RECIPIENT = _LIVE.where(challenge.c.recipient_key.in_(bindparam("keys", expanding=True)))
_LIVE_OF_SUBJECT = _LIVE.where(challenge.c.subject_key.in_(bindparam("keys", expanding=True)))


def add(connection: Connection, row: ChallengeRow) -> None:
    """Store a new challenge."""
    connection.execute(
        _INSERT,
        {name: getattr(row, name) for name in row.__slots__}
        | {"state": row.state.value, "policy": row.policy.to_json()},
    )


def by_id(connection: Connection, tenant: str, challenge_id: str) -> ChallengeRow | None:
    """One challenge, without holding it."""
    row = connection.execute(_BY_ID, {"id": challenge_id, "tenant": tenant}).first()
    return None if row is None else _row(row._mapping)


def of_any_tenant(connection: Connection, challenge_id: str) -> ChallengeRow | None:
    """One challenge, whoever's: for the worker and for reports, which serve all tenants."""
    row = connection.execute(_BY_ID_ONLY, {"id": challenge_id}).first()
    return None if row is None else _row(row._mapping)


def hold(connection: Connection, tenant: str, challenge_id: str) -> tuple[ChallengeRow, list[LedgerRow]] | None:
    """Lock a challenge and its ledgers until the transaction ends: one statement, in an order that cannot deadlock."""
    rows = connection.execute(_HOLD, {"id": challenge_id, "tenant": tenant}).all()
    return (_row(rows[0]._mapping), [row_of(row) for row in rows]) if rows else None


def live(
    connection: Connection,
    tenant: str,
    *,
    recipient_keys: tuple[str, ...],
    subject_keys: tuple[str, ...],
    now: datetime,
) -> tuple[int, datetime | None]:
    """How many challenges of a recipient (or, without one, of a subject) are open, and when the first one expires.

    Who looks has to itself, until its transaction ends, what it does about it.
    """
    statement, keys = (_LIVE_OF_RECIPIENT, recipient_keys) if recipient_keys else (_LIVE_OF_SUBJECT, subject_keys)
    _take_turns(connection, keys[0])
    count, earliest = connection.execute(statement, {"tenant": tenant, "keys": list(keys), "now": now}).one()
    return count, earliest


def _take_turns(connection: Connection, key: str) -> None:
    """Have this transaction be the only one that opens a challenge for the key; SQLite has one writer anyway.

    Purposes have ledgers of their own, and an authenticator app's challenge counts no send: no row is sure to be
    held by all. Taken after every row lock, so that it cannot deadlock with them.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TURN, {"key": key})


def claim(connection: Connection, row: ChallengeRow, *, codes: int) -> bool:
    """Spend an attempt of a held challenge, which will be compared with this many codes."""
    return connection.execute(_CLAIM, {"row": row.id, "seen": row.attempts, "codes": codes}).rowcount == 1


def approve(connection: Connection, tenant: str, challenge_id: str, used: str | None, now: datetime) -> int | None:
    """Close as approved, if it is open still; returns what it charged to the ledgers, None when another was first."""
    return _close(connection, _APPROVE, tenant, challenge_id, ChallengeState.APPROVED, now, used=used)


def cancel(connection: Connection, tenant: str, challenge_id: str, now: datetime) -> bool:
    """Close as cancelled, if it is open still."""
    return _close(connection, _APPROVE, tenant, challenge_id, ChallengeState.CANCELLED, now) is not None


def expire(connection: Connection, tenant: str, challenge_id: str, now: datetime) -> bool:
    """Write down that a held challenge's time has run out, and wipe its tags."""
    return _close(connection, _CLOSE, tenant, challenge_id, ChallengeState.EXPIRED, now) is not None


def exhaust(connection: Connection, tenant: str, challenge_id: str, most: int, now: datetime) -> bool:
    """Close as exhausted, if it is open still and all of its attempts are spent."""
    closed = _close(connection, _EXHAUST, tenant, challenge_id, ChallengeState.EXHAUSTED, now, most=most)
    return closed is not None


def _close(
    connection: Connection,
    statement: Any,
    tenant: str,
    challenge_id: str,
    state: ChallengeState,
    now: datetime,
    **more: Any,
) -> int | None:
    """Every end of a challenge: one winner, and nothing left to compare with (property P70)."""
    charged: int | None = connection.execute(
        statement,
        {"row": challenge_id, "of_tenant": tenant, "new_state": state.value, "now": now, "used": None, **more},
    ).scalar_one_or_none()
    if charged is not None:
        connection.execute(_WIPE_TAGS, {"row": challenge_id})
    return charged


def note_send(connection: Connection, challenge_id: str, *, step: int, resend_at: datetime) -> None:
    """Reserve one more send of a held challenge."""
    connection.execute(
        update(challenge)
        .where(challenge.c.id == challenge_id)
        .values(sends=challenge.c.sends + 1, step=step, resend_at=resend_at)
    )


def allow_resend(connection: Connection, failed: DeliveryRow, now: datetime) -> None:
    """Lift the cooldown of a held challenge: what was sent last reached nobody. An earlier delivery lifts nothing."""
    connection.execute(
        _ALLOW_RESEND,
        {"row": failed.challenge_id, "made_at": failed.created_at, "of_step": failed.step, "now": now},
    )


def _row(columns: Mapping[Any, Any]) -> ChallengeRow:
    values = {name: columns[name] for name in ChallengeRow.__slots__}
    values["state"] = ChallengeState(values["state"])
    values["policy"] = Policy.from_json(values["policy"])
    return ChallengeRow(**values)
