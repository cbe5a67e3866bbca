"""Transactions that remove history, in bounded batches: cost does not grow with what is kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import ColumnElement, Connection, Table, delete, literal, or_, select, update

from otpvoice.store.tables import challenge, counter, delivery, event, ledger, totp_factor
from otpvoice.types import ChallengeState


class Purge(Protocol):
    """Removes at most ``batch`` rows and says how many."""

    def __call__(self, connection: Connection, now: datetime, *, batch: int) -> int:
        """Remove a batch."""


def expire(connection: Connection, now: datetime, *, batch: int) -> int:
    """Write down that open challenges have run out, and wipe their tags."""
    over = (
        select(challenge.c.id)
        .where(challenge.c.state == ChallengeState.PENDING.value, challenge.c.expires_at <= now)
        .order_by(challenge.c.expires_at)
        .limit(batch)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.execute(over).scalars())
    if ids:
        connection.execute(update(delivery).where(delivery.c.challenge_id.in_(ids)).values(tag=None))
        connection.execute(
            update(challenge)
            .where(challenge.c.id.in_(ids))
            .values(state=ChallengeState.EXPIRED.value, closed_at=challenge.c.expires_at, salt=None)
        )
        connection.execute(
            event.insert().from_select(
                ["at", "tenant", "kind", "challenge_id", "data"],
                select(
                    challenge.c.closed_at,
                    challenge.c.tenant,
                    literal("challenge.expired"),
                    challenge.c.id,
                    literal({}, event.c.data.type),
                ).where(challenge.c.id.in_(ids)),
            )
        )
    return len(ids)


def purge_challenges(connection: Connection, now: datetime, *, batch: int, kept: timedelta) -> int:
    """Remove challenges that ended long ago, with their deliveries and sealed recipients."""
    ended = (challenge.c.state != ChallengeState.PENDING.value, challenge.c.expires_at <= now - kept)
    ids = list(connection.execute(select(challenge.c.id).where(*ended).limit(batch)).scalars())
    connection.execute(delete(delivery).where(delivery.c.challenge_id.in_(ids)))
    return connection.execute(delete(challenge).where(challenge.c.id.in_(ids))).rowcount


def purge_events(connection: Connection, now: datetime, *, batch: int, kept: timedelta) -> int:
    """Remove old audit events."""
    return _remove(connection, event, event.c.at <= now - kept, batch)


def purge_counters(connection: Connection, now: datetime, *, batch: int) -> int:
    """Remove counters whose window has ended."""
    # One that is being charged begins a new window: who waited for it here, holding others, could deadlock with that.
    over = select(counter.c.key).where(counter.c.ends_at <= now).limit(batch).with_for_update(skip_locked=True)
    keys = list(connection.execute(over).scalars())
    return connection.execute(delete(counter).where(counter.c.key.in_(keys))).rowcount if keys else 0


def purge_ledgers(connection: Connection, now: datetime, *, batch: int, kept: timedelta) -> int:
    """Remove ledgers that hold nothing that counts, unless a challenge still points at them."""
    used = select(challenge.c.id).where(
        or_(challenge.c.recipient_ledger == ledger.c.id, challenge.c.subject_ledger == ledger.c.id)
    )
    return _remove(connection, ledger, (ledger.c.updated_at <= now - kept) & ~used.exists(), batch)


def purge_factors(connection: Connection, now: datetime, *, batch: int, kept: timedelta) -> int:
    """Remove authenticator apps that were never confirmed."""
    waiting = (totp_factor.c.state == "unconfirmed") & (totp_factor.c.created_at <= now - kept)
    return _remove(connection, totp_factor, waiting, batch)


def _remove(connection: Connection, table: Table, condition: ColumnElement[bool], batch: int) -> int:
    key = next(iter(table.primary_key))
    chosen = select(key).where(condition).limit(batch)
    return connection.execute(delete(table).where(key.in_(chosen))).rowcount
