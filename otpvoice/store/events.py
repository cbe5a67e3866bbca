"""The audit: append-only, and never a secret in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from otpvoice.store.tables import event


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, to which challenge, when. ``data`` holds words and numbers for people, no secrets."""

    kind: str
    tenant: str
    challenge_id: str | None = None
    delivery_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    id: int | None = None


_INSERT = insert(event)


def record(connection: Connection, now: datetime, *happened: Event) -> None:
    """Append to the audit, in the transaction in which it happens."""
    rows = [
        {
            "at": now,
            "tenant": item.tenant,
            "kind": item.kind,
            "challenge_id": item.challenge_id,
            "delivery_id": item.delivery_id,
            "data": dict(item.data),
        }
        for item in happened
    ]
    connection.execute(_INSERT, rows if len(rows) > 1 else rows[0])


def of_challenge(connection: Connection, tenant: str, challenge_id: str) -> Sequence[Event]:
    """A challenge's story, oldest first."""
    rows = connection.execute(
        select(event).where(event.c.challenge_id == challenge_id, event.c.tenant == tenant).order_by(event.c.id)
    )
    return [
        Event(
            id=row.id,
            at=row.at,
            tenant=row.tenant,
            kind=row.kind,
            challenge_id=row.challenge_id,
            delivery_id=row.delivery_id,
            data=row.data,
        )
        for row in rows
    ]
