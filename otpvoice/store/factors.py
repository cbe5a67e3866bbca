"""Transactions on authenticator-app factors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from otpvoice.store.tables import totp_factor


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorRow:
    """An authenticator-app factor as it is stored."""

    id: str
    tenant: str
    subject_key: str
    state: str
    sealed: bytes
    last_step: int
    attempts: int
    created_at: datetime
    confirmed_at: datetime | None


_CONFIRMED = select(totp_factor).where(
    totp_factor.c.tenant == bindparam("tenant"),
    totp_factor.c.subject_key.in_(bindparam("keys", expanding=True)),
    totp_factor.c.state == "confirmed",
)
_BY_ID = select(totp_factor).where(
    totp_factor.c.id == bindparam("row"),
    totp_factor.c.tenant == bindparam("of_tenant"),
    totp_factor.c.state == "confirmed",
)
_CLAIM = (
    update(totp_factor)
    .where(
        totp_factor.c.id == bindparam("row"),
        totp_factor.c.tenant == bindparam("of_tenant"),
        totp_factor.c.state == "unconfirmed",
        totp_factor.c.subject_key.in_(bindparam("keys", expanding=True)),
        totp_factor.c.attempts < bindparam("most"),
    )
    .values(attempts=totp_factor.c.attempts + 1)
    .returning(totp_factor)
)
_USE_STEP = (
    update(totp_factor)
    .where(totp_factor.c.id == bindparam("row"), totp_factor.c.last_step < bindparam("step"))
    .values(last_step=bindparam("step"))
)


def add(connection: Connection, row: FactorRow) -> None:
    """Store a new factor."""
    connection.execute(insert(totp_factor), {name: getattr(row, name) for name in row.__slots__})


def confirmed(connection: Connection, tenant: str, subject_keys: tuple[str, ...]) -> FactorRow | None:
    """The subject's working factor."""
    row = connection.execute(_CONFIRMED, {"tenant": tenant, "keys": list(subject_keys)}).first()
    return None if row is None else _row(row)


def by_id(connection: Connection, tenant: str, factor_id: str) -> FactorRow | None:
    """One confirmed factor."""
    row = connection.execute(_BY_ID, {"row": factor_id, "of_tenant": tenant}).first()
    return None if row is None else _row(row)


def claim_confirmation(
    connection: Connection, tenant: str, factor_id: str, subject_keys: tuple[str, ...], *, most: int
) -> FactorRow | None:
    """Spend one try to confirm; None when the subject has no such factor, it is confirmed, or its tries are spent."""
    row = connection.execute(
        _CLAIM, {"row": factor_id, "of_tenant": tenant, "keys": list(subject_keys), "most": most}
    ).first()
    return None if row is None else _row(row)


def confirm(connection: Connection, row: FactorRow, subject_keys: tuple[str, ...], *, step: int, now: datetime) -> bool:
    """Make a factor the subject's only one. One winner."""
    changed = connection.execute(
        update(totp_factor)
        .where(totp_factor.c.id == row.id, totp_factor.c.state == "unconfirmed")
        .values(state="confirmed", confirmed_at=now, last_step=step)
    ).rowcount
    if changed == 1:
        remove(connection, row.tenant, subject_keys, but=row.id)
    return changed == 1


def use_step(connection: Connection, factor_id: str, step: int) -> bool:
    """Accept a time step once, and none at or below it ever after (RFC 6238 5.2)."""
    return connection.execute(_USE_STEP, {"row": factor_id, "step": step}).rowcount == 1


def move(connection: Connection, factor_id: str, *, subject_key: str, sealed: bytes) -> None:
    """Keep a factor under the keys that write now."""
    connection.execute(
        update(totp_factor).where(totp_factor.c.id == factor_id).values(subject_key=subject_key, sealed=sealed)
    )


def remove(connection: Connection, tenant: str, subject_keys: tuple[str, ...], *, but: str | None = None) -> int:
    """Remove the subject's factors, all but one; returns how many."""
    statement = delete(totp_factor).where(
        totp_factor.c.tenant == tenant, totp_factor.c.subject_key.in_(subject_keys), totp_factor.c.id != (but or "")
    )
    return connection.execute(statement).rowcount


def _row(row: Row[Any]) -> FactorRow:
    return FactorRow(**row._mapping)
