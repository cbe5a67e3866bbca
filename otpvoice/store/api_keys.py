"""Transactions on API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from otpvoice.store.http_tables import api_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRow:
    """An API key as it is stored: what it is called and may do, and a digest of its secret."""

    id: str
    tenant: str
    name: str
    test: bool
    digest: bytes
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    replaced_by: str | None = None

    def __repr__(self) -> str:
        return f"<ApiKeyRow {self.id} of {self.tenant!r}>"


_COUNTING = select(api_key).where(
    api_key.c.id == bindparam("id"),
    or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > bindparam("now", type_=api_key.c.expires_at.type)),
)


def add(connection: Connection, row: ApiKeyRow) -> None:
    """Store a new key."""
    connection.execute(
        insert(api_key), {name: getattr(row, name) for name in row.__slots__} | {"scopes": list(row.scopes)}
    )


def counting(connection: Connection, key_id: str, now: datetime) -> ApiKeyRow | None:
    """A key that was neither revoked nor has run out after a rotation."""
    row = connection.execute(_COUNTING, {"id": key_id, "now": now}).first()
    return None if row is None else _row(row)


def ping(connection: Connection, now: datetime) -> datetime:
    """Ask the database anything at all, and hand back the transaction's time."""
    connection.execute(select(api_key.c.id).limit(1)).first()
    return now


def of_tenant(connection: Connection, tenant: str | None) -> Sequence[ApiKeyRow]:
    """All keys of a tenant, or of every one, oldest first."""
    statement = select(api_key).order_by(api_key.c.tenant, api_key.c.created_at, api_key.c.id)
    if tenant is not None:
        statement = statement.where(api_key.c.tenant == tenant)
    return [_row(row) for row in connection.execute(statement)]


def end(connection: Connection, key_id: str, *, at: datetime, now: datetime, replaced_by: str | None = None) -> bool:
    """Let a counting key run out at a time; False where there is none."""
    ended = connection.execute(
        update(api_key)
        .where(api_key.c.id == key_id, or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > now))
        .values(expires_at=at, replaced_by=replaced_by)
    )
    return ended.rowcount == 1


def _row(row: object) -> ApiKeyRow:
    columns = row._mapping  # type: ignore[attr-defined]
    values = {name: columns[name] for name in ApiKeyRow.__slots__}
    return ApiKeyRow(**values | {"scopes": tuple(values["scopes"])})
