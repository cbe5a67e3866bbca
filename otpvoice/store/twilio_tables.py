"""The tables of the Twilio-Verify front. On the same metadata as all tables.

They hold what the front adds to challenges and factors, and go with them.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from otpvoice.store.tables import Json, UtcDateTime, metadata

twilio_service = Table(
    "twilio_service",
    metadata,
    Column("sid", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("friendly_name", Text, nullable=False),
    Column("options", Json, nullable=False, comment="what was set beside the name"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("ix_twilio_service_tenant", twilio_service.c.tenant)

twilio_verification = Table(
    "twilio_verification",
    metadata,
    Column("challenge_id", Text, ForeignKey("challenge.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("service_sid", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("outcome", Text, comment="approved: the caller says so, no code was compared"),
)
Index("ix_twilio_verification_tenant", twilio_verification.c.tenant, twilio_verification.c.created_at)

twilio_slot = Table(
    "twilio_slot",
    metadata,
    Column("service_sid", Text, primary_key=True),
    Column("recipient_key", Text, primary_key=True, comment="keyed hash"),
    Column("challenge_id", Text, ForeignKey("challenge.id", ondelete="CASCADE")),
    Column("claim", Text, comment="who opens a challenge for it right now"),
    Column("claimed_until", UtcDateTime),
)
Index("ix_twilio_slot_challenge", twilio_slot.c.challenge_id)

twilio_rate_limit = Table(
    "twilio_rate_limit",
    metadata,
    Column("sid", Text, primary_key=True),
    Column("service_sid", Text, ForeignKey("twilio_service.sid", ondelete="CASCADE"), nullable=False),
    Column("unique_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("service_sid", "unique_name"),
)

twilio_bucket = Table(
    "twilio_bucket",
    metadata,
    Column("sid", Text, primary_key=True),
    Column("rate_limit_sid", Text, ForeignKey("twilio_rate_limit.sid", ondelete="CASCADE"), nullable=False),
    Column("most", Integer, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("rate_limit_sid", "seconds"),
)

twilio_factor = Table(
    "twilio_factor",
    metadata,
    Column("factor_id", Text, ForeignKey("totp_factor.id", ondelete="CASCADE"), primary_key=True),
    Column("service_sid", Text, nullable=False),
    Column("entity", Text, nullable=False, comment="keyed hash of the identity"),
    Column("sealed", LargeBinary, nullable=False, comment="the friendly name"),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("ix_twilio_factor_entity", twilio_factor.c.entity, twilio_factor.c.service_sid)

twilio_challenge = Table(
    "twilio_challenge",
    metadata,
    Column("challenge_id", Text, ForeignKey("challenge.id", ondelete="CASCADE"), primary_key=True),
    Column("service_sid", Text, nullable=False),
    Column("entity", Text, nullable=False, comment="keyed hash of the identity"),
    Column("factor_id", Text, nullable=False),
)
Index("ix_twilio_challenge_entity", twilio_challenge.c.entity, twilio_challenge.c.service_sid)
