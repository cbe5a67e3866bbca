"""Transactions on proofs: each is redeemed once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.http_tables import proof_redemption


def redeem(connection: Connection, jti: str, *, tenant: str, expires_at: datetime, now: datetime) -> bool:
    """Use up a proof that has not expired; False for everybody but the first."""
    if expires_at <= now:
        return False
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(proof_redemption)
        .values(jti=jti, tenant=tenant, redeemed_at=now, expires_at=expires_at)
        .on_conflict_do_nothing(index_elements=[proof_redemption.c.jti])
        .returning(proof_redemption.c.jti)
    )
    return connection.execute(statement).first() is not None


def purge(connection: Connection, now: datetime, *, batch: int) -> int:
    """Forget proofs that have expired, at most ``batch``: they are refused for that."""
    over = select(proof_redemption.c.jti).where(proof_redemption.c.expires_at <= now).limit(batch)
    return connection.execute(delete(proof_redemption).where(proof_redemption.c.jti.in_(over))).rowcount
