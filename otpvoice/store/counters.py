"""Transactions on the counters: how often something was done in a window of time."""

from __future__ import annotations

import secrets
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
    """Where it was counted before the secret was rotated. None for a limit of several slots."""
    slots: int = 1
    """Rows it is spread over: those who are charged to one row wait for one another until their transactions end."""


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

_SLOTS = select(counter).where(
    counter.c.key.in_(bindparam("keys", expanding=True)),
    counter.c.ends_at > bindparam("now", type_=counter.c.ends_at.type),
)


def charge(connection: Connection, limits: Sequence[Limit], now: datetime) -> Reached | None:
    """Charge all of these limits, or say which one refuses.

    On a refusal others may be charged already: the caller undoes its transaction.
    """
    for limit in sorted(limits, key=lambda limit: limit.key):  # One order everywhere: no two requests can deadlock.
        ends_at = _charge(connection, limit, now) if limit.slots == 1 else _charge_a_slot(connection, limit, now)
        if ends_at is not None:
            return Reached(limit=limit, ends_at=ends_at)
    return None


def _charge(connection: Connection, limit: Limit, now: datetime) -> datetime | None:
    """Charge a limit of one row, or say when its window ends."""
    if limit.older_keys:
        _adopt(connection, limit)
    if _count(connection, limit, limit.key, limit.most, now):
        return None
    ends_at: datetime = connection.execute(select(counter.c.ends_at).where(counter.c.key == limit.key)).scalar_one()
    return ends_at


def _count(connection: Connection, limit: Limit, key: str, most: int, now: datetime) -> bool:
    """Count one more in a row that takes ``most``; False when it is full. Its lock is held either way."""
    values = {"key": key, "new_end": now + limit.window, "now": now, "most": most}
    return connection.execute(_CHARGE[connection.dialect.name], values).first() is not None


def _charge_a_slot(connection: Connection, limit: Limit, now: datetime) -> datetime | None:
    """Charge one of a limit's slots, or say when there is room again.

    Each slot has its window and takes its share of ``most``, so that together they never take more, whoever is
    charged at the same moment. They are looked at without a lock, and one that others filled meanwhile is let go
    before the next is tried: nobody waits for a slot while holding another one, so no two requests can deadlock.
    Where policies count in the same slots up to different numbers, the sum that is looked at rules the smaller one.
    """
    shares = {f"{limit.key}#{slot}": _share(limit, slot) for slot in range(limit.slots)}
    for _ in range(limit.slots + 1):  # Who misses a slot has seen it fill up: no more often than there are slots.
        rows = connection.execute(_SLOTS, {"keys": list(shares), "now": now}).all()
        used = {row.key: row.used for row in rows}
        if sum(used.values()) >= limit.most:
            return _room_at(limit, [(row.ends_at, row.used) for row in rows])
        key = secrets.choice([key for key, share in shares.items() if used.get(key, 0) < share])
        with connection.begin_nested() as attempt:
            if _count(connection, limit, key, shares[key], now):
                return None
            attempt.rollback()
    return now + timedelta(seconds=1)  # Windows ended and slots were filled anew while this looked.


def _share(limit: Limit, slot: int) -> int:
    """How much of a limit one of its slots takes; the first ones take what cannot be divided."""
    return limit.most // limit.slots + (slot < limit.most % limit.slots)


def _room_at(limit: Limit, slots: Sequence[tuple[datetime, int]]) -> datetime:
    """When so many of these windows have ended that a limit which is reached takes one more."""
    left = sum(used for _, used in slots)
    for ends_at, used in sorted(slots):
        left -= used
        if left < limit.most:
            return ends_at
    raise AssertionError("unreachable: a limit is at least 1")


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
