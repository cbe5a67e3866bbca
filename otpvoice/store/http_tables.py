"""The tables of the HTTP service, on the same metadata as :mod:`otpvoice.store.tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

from otpvoice.store.tables import Json, UtcDateTime, metadata

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False, comment="for people"),
    Column("test", Boolean, nullable=False, comment="counts for a test tenant only"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of 256 random bits"),
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, comment="set when it was rotated or revoked"),
    Column("replaced_by", Text),
)
Index("ix_api_key_tenant", api_key.c.tenant)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", Text, primary_key=True, comment="keyed hash of tenant, API key and Idempotency-Key"),
    Column("fingerprint", Text, nullable=False, comment="keyed hash of the request"),
    Column("status", Integer, comment="null: not answered yet"),
    Column("sealed", LargeBinary, comment="the answer, without any secret"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("ix_idempotency_expires", idempotency.c.expires_at)

proof_redemption = Table(
    "proof_redemption",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("redeemed_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, comment="of the proof: no need to remember it longer"),
)
Index("ix_proof_redemption_expires", proof_redemption.c.expires_at)

test_clock = Table(
    "test_clock",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("offset_seconds", BigInteger, nullable=False, comment="a test tenant's time minus the real one"),
)
