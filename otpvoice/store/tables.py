"""The tables. The migrations build them; a test holds the two equal on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time: ``timestamptz`` on PostgreSQL, sortable ISO 8601 text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite: its own date type drops the zone."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Fixed width, so that text compares as time does."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("key", Text, nullable=False, comment="keyed hash of the recipient or the subject"),
    Column("months", Json, nullable=False, comment="unforgiven failures by month"),
    Column("run", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    Column("locked_until", UtcDateTime),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant", "purpose", "key"),
)

challenge = Table(
    "challenge",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, comment="claimed, whatever came of them"),
    Column("charged", Integer, nullable=False, comment="failures these attempts put on the ledgers"),
    Column("sends", Integer, nullable=False, comment="reserved, the first included"),
    Column("resend_at", UtcDateTime, nullable=False),
    Column("step", Integer, nullable=False, comment="the route's step taken last"),
    Column("policy", Json, nullable=False, comment="frozen copy of the numbers that rule it"),
    Column("kid", Text, nullable=False, comment="which key's pepper its tags carry"),
    Column("salt", LargeBinary, comment="wiped when it ends"),
    Column("recipient_key", Text, comment="keyed hash"),
    Column("recipient_ledger", Text, ForeignKey("ledger.id")),
    Column("hint", Text, comment="masked recipient, for people"),
    Column("subject_key", Text, comment="keyed hash"),
    Column("subject_ledger", Text, ForeignKey("ledger.id")),
    Column("sealed", LargeBinary, comment="recipient, subject, binding, locale; wiped within the retention time"),
    Column("factor_id", Text, comment="the authenticator-app factor whose codes are accepted"),
    Column("used_delivery", Text),
)
_LIVE = text("state = 'pending'")
Index(
    "ix_challenge_live",
    challenge.c.recipient_key,
    challenge.c.tenant,
    sqlite_where=_LIVE,
    postgresql_where=_LIVE,
)
Index(
    "ix_challenge_live_subject",
    challenge.c.subject_key,
    challenge.c.tenant,
    sqlite_where=_LIVE,
    postgresql_where=_LIVE,
)
Index("ix_challenge_expiry", challenge.c.expires_at)
Index("ix_challenge_open", challenge.c.expires_at, sqlite_where=_LIVE, postgresql_where=_LIVE)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Text, primary_key=True),
    Column("challenge_id", Text, ForeignKey("challenge.id", ondelete="CASCADE"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("medium", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("code_length", Integer, nullable=False),
    Column("tag", LargeBinary, comment="argon2id over the keyed code; wiped when the challenge ends"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, comment="when somebody must look after it; null: nobody need"),
    Column("tries", Integer, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", UtcDateTime),
    Column("sent_at", UtcDateTime, comment="written before the provider is asked"),
    Column("settled_at", UtcDateTime),
    Column("reference", Text, comment="the provider's id"),
    Column("reason", Text),
    Column("provider_code", Text),
    Column("cause", Text, comment="why its step was taken"),
    Column("reported_at", UtcDateTime),
    Column("answered_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("ring_seconds", Integer),
    Column("talk_seconds", Integer),
    Column("price", Text, comment="decimal, as the provider wrote it"),
    Column("currency", Text),
)
Index("ix_delivery_challenge", delivery.c.challenge_id)
_DUE = text("due_at IS NOT NULL")
Index("ix_delivery_due", delivery.c.due_at, sqlite_where=_DUE, postgresql_where=_DUE)
_REFERRED = text("reference IS NOT NULL")
Index(
    "ix_delivery_reference",
    delivery.c.reference,
    delivery.c.provider,
    sqlite_where=_REFERRED,
    postgresql_where=_REFERRED,
)

breaker = Table(
    "breaker",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("failures", Integer, nullable=False, comment="in a row"),
    Column("trips", Integer, nullable=False, comment="in a row: each doubles the next"),
    Column("open_until", UtcDateTime),
    Column("reason", Text),
    Column("updated_at", UtcDateTime, nullable=False),
)

counter = Table(
    "counter",
    metadata,
    Column("key", Text, primary_key=True, comment="what is limited; recipients only as keyed hash"),
    Column("used", Integer, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
)
Index("ix_counter_ends", counter.c.ends_at)

totp_factor = Table(
    "totp_factor",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("subject_key", Text, nullable=False, comment="keyed hash"),
    Column("state", Text, nullable=False, comment="unconfirmed, confirmed"),
    Column("sealed", LargeBinary, nullable=False, comment="the shared secret"),
    Column("last_step", BigInteger, nullable=False, comment="newest time step accepted (RFC 6238 5.2)"),
    Column("attempts", Integer, nullable=False, comment="tries to confirm"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("confirmed_at", UtcDateTime),
)
Index("ix_totp_factor_subject", totp_factor.c.subject_key, totp_factor.c.tenant)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("challenge_id", Text),
    Column("delivery_id", Text),
    Column("data", Json, nullable=False),
)
Index("ix_event_challenge", event.c.challenge_id)
Index("ix_event_at", event.c.at)
