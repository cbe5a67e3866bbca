"""The tables of webhooks: where events go, and what is on its way. On the same metadata as all tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint, text

from otpvoice.store.tables import Json, UtcDateTime, metadata

webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("kinds", Json, comment="kinds of events, or their beginnings with a *; null: all"),
    Column("sealed", LargeBinary, nullable=False, comment="the signing secret"),
    Column("sealed_old", LargeBinary, comment="the one before, which signs too for a while"),
    Column("old_until", UtcDateTime),
    Column("cursor", BigInteger, nullable=False, comment="every event up to it was looked at for good"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_why", Text),
    Column("failures", Integer, nullable=False, comment="in a row"),
    Column("rests_until", UtcDateTime, comment="after failures in a row nothing is sent before"),
)
Index("ix_webhook_endpoint_tenant", webhook_endpoint.c.tenant)

webhook_message = Table(
    "webhook_message",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint_id", Text, ForeignKey("webhook_endpoint.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False, comment="what is signed and sent, every time the same"),
    Column("state", Text, nullable=False, comment="pending, delivered, dead"),
    Column("tries", Integer, nullable=False),
    Column("due_at", UtcDateTime, nullable=False, comment="while pending; a claim moves it to the lease's end"),
    Column("lease_owner", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("tried_at", UtcDateTime),
    Column("settled_at", UtcDateTime),
    Column("status", Integer, comment="the newest HTTP status"),
    Column("reason", Text, comment="why the newest try failed, a word of ours"),
    UniqueConstraint("endpoint_id", "event_id"),
)
_PENDING = text("state = 'pending'")
Index("ix_webhook_message_due", webhook_message.c.due_at, sqlite_where=_PENDING, postgresql_where=_PENDING)
_DEAD = text("state = 'dead'")
Index("ix_webhook_message_dead", webhook_message.c.settled_at, sqlite_where=_DEAD, postgresql_where=_DEAD)
Index("ix_webhook_message_created", webhook_message.c.created_at)
