"""Transactions on the failure ledger."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.lockout import Ledger
from otpvoice.store.tables import ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A ledger and where it is kept."""

    id: str
    ledger: Ledger


_COLUMNS = (
    ledger.c.id.label("ledger_id"),
    ledger.c.months,
    ledger.c.run,
    ledger.c.level,
    ledger.c.locked_until,
)
_BY_KEY = (
    select(ledger.c.key, *_COLUMNS)
    .where(
        ledger.c.tenant == bindparam("tenant"),
        ledger.c.purpose == bindparam("purpose"),
        ledger.c.key.in_(bindparam("keys", expanding=True)),
    )
    .order_by(ledger.c.id)
    .with_for_update()
)
_BY_ID = (
    select(*_COLUMNS).where(ledger.c.id.in_(bindparam("ids", expanding=True))).order_by(ledger.c.id).with_for_update()
)
_SAVE = (
    update(ledger)
    .where(ledger.c.id == bindparam("row"))
    .values(
        months=bindparam("months"),
        run=bindparam("run"),
        level=bindparam("level"),
        locked_until=bindparam("locked_until"),
        updated_at=bindparam("updated_at"),
    )
)


def hold(
    connection: Connection,
    *,
    tenant: str,
    purpose: str,
    owners: Sequence[tuple[str, ...]],
    now: datetime,
) -> list[LedgerRow]:
    """Lock the ledgers of these owners until the transaction ends, opening those that do not exist.

    Each owner is the keyed hashes of one recipient or subject, the writing key's first. A ledger that is found
    under an older key moves to the newest, so that rotating a secret gives nobody a fresh guess budget.
    """
    found = _by_key(connection, tenant, purpose, owners)
    missing = [keys[0] for keys in owners if not any(key in found for key in keys)]
    if missing:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(
            dialect.insert(ledger).on_conflict_do_nothing(index_elements=["tenant", "purpose", "key"]),
            [
                {
                    "id": secrets.token_hex(16),
                    "tenant": tenant,
                    "purpose": purpose,
                    "key": key,
                    "months": {},
                    "run": 0,
                    "level": 0,
                    "updated_at": now,
                }
                for key in sorted(missing)
            ],
        )
        found = _by_key(connection, tenant, purpose, owners)
    rows = []
    for keys in owners:
        held = next(key for key in keys if key in found)
        if held != keys[0]:
            connection.execute(update(ledger).where(ledger.c.id == found[held].ledger_id).values(key=keys[0]))
        rows.append(row_of(found[held]))
    return rows


def hold_by_id(connection: Connection, ids: Sequence[str]) -> list[LedgerRow]:
    """Lock these ledgers until the transaction ends, in an order that cannot deadlock."""
    return [row_of(row) for row in connection.execute(_BY_ID, {"ids": list(ids)})]


def save(connection: Connection, rows: Sequence[LedgerRow], now: datetime) -> None:
    """Write what became of held ledgers."""
    parameters = [
        {
            "row": row.id,
            "months": dict(row.ledger.months),
            "run": row.ledger.run,
            "level": row.ledger.level,
            "locked_until": row.ledger.locked_until,
            "updated_at": now,
        }
        for row in rows
    ]
    if parameters:
        connection.execute(_SAVE, parameters if len(parameters) > 1 else parameters[0])


def row_of(row: Any) -> LedgerRow:
    """A ledger from the columns of a result."""
    return LedgerRow(
        id=row.ledger_id,
        ledger=Ledger(months=row.months, run=row.run, level=row.level, locked_until=row.locked_until),
    )


def _by_key(connection: Connection, tenant: str, purpose: str, owners: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    keys = [key for keys in owners for key in keys]
    result = connection.execute(_BY_KEY, {"tenant": tenant, "purpose": purpose, "keys": keys})
    return {row.key: row for row in result}
