"""Transactions on the counters: how often something was done in a window of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.tables import counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most ``most`` in ``window``, counted from the first use, under ``key``."""

    key: str
    most: int
    window: timedelta
    name: str
    """In words, for the error: ``"10 sends a day to this recipient"``."""
    older_keys: tuple[str, ...] = ()
    """Where it was counted before the secret was rotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A limit that refused, and when its window ends."""

    limit: Limit
    ends_at: datetime


def _upsert(dialect: Any) -> Any:
    new = dialect.insert(counter).values(key=bindparam("key"), used=1, ends_at=bindparam("new_end"))
    ended = counter.c.ends_at <= bindparam("now", type_=counter.c.ends_at.type)
    return new.on_conflict_do_update(
        index_elements=[counter.c.key],
        set_={
            "used": case((ended, 1), else_=counter.c.used + 1),
            "ends_at": case((ended, new.excluded.ends_at), else_=counter.c.ends_at),
        },
        where=ended | (counter.c.used < bindparam("most", type_=counter.c.used.type)),
    ).returning(counter.c.key)


_CHARGE = {"postgresql": _upsert(postgresql), "sqlite": _upsert(sqlite)}
"""Made once: a statement that is built anew for every request is compiled anew, too."""


def charge(connection: Connection, limits: Sequence[Limit], now: datetime) -> Reached | None:
    """Charge all of these limits, or say which one refuses.

    On a refusal others may be charged already: the caller undoes its transaction.
    """
    statement = _CHARGE[connection.dialect.name]
    for limit in sorted(limits, key=lambda limit: limit.key):  # One order everywhere: no two requests can deadlock.
        if limit.older_keys:
            _adopt(connection, limit)
        charged = connection.execute(
            statement, {"key": limit.key, "new_end": now + limit.window, "now": now, "most": limit.most}
        )
        if charged.first() is None:
            ends_at = connection.execute(select(counter.c.ends_at).where(counter.c.key == limit.key)).scalar_one()
            return Reached(limit=limit, ends_at=ends_at)
    return None


def _adopt(connection: Connection, limit: Limit) -> None:
    """Move what an older key counted to the newest key, unless that one counts already."""
    present = select(counter.c.key).where(counter.c.key == limit.key)
    if connection.execute(present).first() is not None:
        return
    older = select(counter).where(counter.c.key.in_(limit.older_keys)).order_by(counter.c.used.desc()).limit(1)
    row = connection.execute(older).first()
    if row is not None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(
            dialect.insert(counter)
            .values(key=limit.key, used=row.used, ends_at=row.ends_at)
            .on_conflict_do_nothing(index_elements=[counter.c.key])
        )
        connection.execute(delete(counter).where(counter.c.key == row.key))
