"""Transactions on idempotency records: one claims a key, the others are told what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.http_tables import idempotency


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a key's first request. ``status`` None: it has no answer yet."""

    key: str
    fingerprint: str
    status: int | None
    sealed: bytes | None
    created_at: datetime


def claim(
    connection: Connection, keys: Sequence[str], fingerprint: str, *, now: datetime, expires_at: datetime
) -> Record | None:
    """Claim the first of ``keys``; None where that succeeded, else the record that was there first.

    ``keys`` are the same key hashed by every root secret: one that was claimed before a rotation counts.
    """
    connection.execute(delete(idempotency).where(idempotency.c.key.in_(keys), idempotency.c.expires_at <= now))
    if len(keys) > 1:
        older = connection.execute(select(idempotency).where(idempotency.c.key.in_(keys[1:]))).first()
        if older is not None:
            return _record(older)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(idempotency)
        .values(key=keys[0], fingerprint=fingerprint, created_at=now, expires_at=expires_at)
        .on_conflict_do_nothing(index_elements=[idempotency.c.key])
        .returning(idempotency.c.key)
    )
    while connection.execute(statement).first() is None:
        there = connection.execute(select(idempotency).where(idempotency.c.key == keys[0])).first()
        if there is not None:
            return _record(there)
        # Given back since the insertion met it: it is free again.
    return None


def answer(connection: Connection, key: str, *, status: int, sealed: bytes) -> None:
    """Write down the answer of a claimed key."""
    connection.execute(
        update(idempotency)
        .where(idempotency.c.key == key, idempotency.c.status.is_(None))
        .values(status=status, sealed=sealed)
    )


def release(connection: Connection, key: str) -> None:
    """Forget a claimed key: nothing had happened."""
    connection.execute(delete(idempotency).where(idempotency.c.key == key, idempotency.c.status.is_(None)))


def purge(connection: Connection, now: datetime, *, batch: int) -> int:
    """Remove records that have expired, at most ``batch``."""
    over = select(idempotency.c.key).where(idempotency.c.expires_at <= now).limit(batch)
    return connection.execute(delete(idempotency).where(idempotency.c.key.in_(over))).rowcount


def _record(row: object) -> Record:
    columns = row._mapping  # type: ignore[attr-defined]
    return Record(**{name: columns[name] for name in Record.__slots__})
