"""Webhooks out, and the Twilio-Verify front.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Create the tables of both. Nothing that the version before does not ignore."""
    _webhooks()
    _twilio()


def downgrade() -> None:
    """Drop them."""
    for table in (
        "twilio_challenge",
        "twilio_factor",
        "twilio_bucket",
        "twilio_rate_limit",
        "twilio_slot",
        "twilio_verification",
        "twilio_service",
        "webhook_message",
        "webhook_endpoint",
    ):
        op.drop_table(table)


def _webhooks() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kinds", DOCUMENT, comment="kinds of events, or their beginnings with a *; null: all"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False, comment="the signing secret"),
        sa.Column("sealed_old", sa.LargeBinary(), comment="the one before, which signs too for a while"),
        sa.Column("old_until", MOMENT),
        sa.Column("cursor", sa.BigInteger(), nullable=False, comment="every event up to it was looked at for good"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("disabled_at", MOMENT),
        sa.Column("disabled_why", sa.Text()),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("rests_until", MOMENT, comment="after failures in a row nothing is sent before"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoint"),
    )
    op.create_index("ix_webhook_endpoint_tenant", "webhook_endpoint", ["tenant"])
    op.create_table(
        "webhook_message",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="what is signed and sent, every time the same"),
        sa.Column("state", sa.Text(), nullable=False, comment="pending, delivered, dead"),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False, comment="while pending; a claim moves it to the lease's end"),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("tried_at", MOMENT),
        sa.Column("settled_at", MOMENT),
        sa.Column("status", sa.Integer(), comment="the newest HTTP status"),
        sa.Column("reason", sa.Text(), comment="why the newest try failed, a word of ours"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_message"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoint.id"], name="fk_webhook_message_endpoint_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("endpoint_id", "event_id", name="uq_webhook_message_endpoint_id"),
    )
    for name, column, state in (
        ("ix_webhook_message_due", "due_at", "pending"),
        ("ix_webhook_message_dead", "settled_at", "dead"),
    ):
        only = sa.text(f"state = '{state}'")
        op.create_index(name, "webhook_message", [column], sqlite_where=only, postgresql_where=only)
    op.create_index("ix_webhook_message_created", "webhook_message", ["created_at"])


def _twilio() -> None:
    op.create_table(
        "twilio_service",
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("friendly_name", sa.Text(), nullable=False),
        sa.Column("options", DOCUMENT, nullable=False, comment="what was set beside the name"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sid", name="pk_twilio_service"),
    )
    op.create_index("ix_twilio_service_tenant", "twilio_service", ["tenant"])
    op.create_table(
        "twilio_verification",
        sa.Column("challenge_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("service_sid", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("outcome", sa.Text(), comment="approved: the caller says so, no code was compared"),
        sa.PrimaryKeyConstraint("challenge_id", name="pk_twilio_verification"),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenge.id"], name="fk_twilio_verification_challenge_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_twilio_verification_tenant", "twilio_verification", ["tenant", "created_at"])
    op.create_table(
        "twilio_slot",
        sa.Column("service_sid", sa.Text(), nullable=False),
        sa.Column("recipient_key", sa.Text(), nullable=False, comment="keyed hash"),
        sa.Column("challenge_id", sa.Text()),
        sa.Column("claim", sa.Text(), comment="who opens a challenge for it right now"),
        sa.Column("claimed_until", MOMENT),
        sa.PrimaryKeyConstraint("service_sid", "recipient_key", name="pk_twilio_slot"),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenge.id"], name="fk_twilio_slot_challenge_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_twilio_slot_challenge", "twilio_slot", ["challenge_id"])
    op.create_table(
        "twilio_rate_limit",
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("service_sid", sa.Text(), nullable=False),
        sa.Column("unique_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sid", name="pk_twilio_rate_limit"),
        sa.ForeignKeyConstraint(
            ["service_sid"], ["twilio_service.sid"], name="fk_twilio_rate_limit_service_sid", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("service_sid", "unique_name", name="uq_twilio_rate_limit_service_sid"),
    )
    op.create_table(
        "twilio_bucket",
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("rate_limit_sid", sa.Text(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sid", name="pk_twilio_bucket"),
        sa.ForeignKeyConstraint(
            ["rate_limit_sid"], ["twilio_rate_limit.sid"], name="fk_twilio_bucket_rate_limit_sid", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("rate_limit_sid", "seconds", name="uq_twilio_bucket_rate_limit_sid"),
    )
    op.create_table(
        "twilio_factor",
        sa.Column("factor_id", sa.Text(), nullable=False),
        sa.Column("service_sid", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False, comment="keyed hash of the identity"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False, comment="the friendly name"),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("factor_id", name="pk_twilio_factor"),
        sa.ForeignKeyConstraint(
            ["factor_id"], ["totp_factor.id"], name="fk_twilio_factor_factor_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_twilio_factor_entity", "twilio_factor", ["entity", "service_sid"])
    op.create_table(
        "twilio_challenge",
        sa.Column("challenge_id", sa.Text(), nullable=False),
        sa.Column("service_sid", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False, comment="keyed hash of the identity"),
        sa.Column("factor_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("challenge_id", name="pk_twilio_challenge"),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenge.id"], name="fk_twilio_challenge_challenge_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_twilio_challenge_entity", "twilio_challenge", ["entity", "service_sid"])
