"""Challenges, deliveries, ledger, counters, authenticator-app factors and events.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen here, so that a later change of the package's types does not rewrite history.
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "ledger",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="keyed hash of the recipient or the subject"),
        sa.Column("months", DOCUMENT, nullable=False, comment="unforgiven failures by month"),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("locked_until", MOMENT),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
        sa.UniqueConstraint("tenant", "purpose", "key", name="uq_ledger_tenant"),
    )
    op.create_table(
        "challenge",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="claimed, whatever came of them"),
        sa.Column("charged", sa.Integer(), nullable=False, comment="failures these attempts put on the ledgers"),
        sa.Column("sends", sa.Integer(), nullable=False, comment="reserved, the first included"),
        sa.Column("resend_at", MOMENT, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False, comment="the route's step taken last"),
        sa.Column("policy", DOCUMENT, nullable=False, comment="frozen copy of the numbers that rule it"),
        sa.Column("kid", sa.Text(), nullable=False, comment="which key's pepper its tags carry"),
        sa.Column("salt", sa.LargeBinary(), comment="wiped when it ends"),
        sa.Column("recipient_key", sa.Text(), comment="keyed hash"),
        sa.Column("recipient_ledger", sa.Text()),
        sa.Column("hint", sa.Text(), comment="masked recipient, for people"),
        sa.Column("subject_key", sa.Text(), comment="keyed hash"),
        sa.Column("subject_ledger", sa.Text()),
        sa.Column(
            "sealed", sa.LargeBinary(), comment="recipient, subject, binding, locale; wiped within the retention time"
        ),
        sa.Column("factor_id", sa.Text(), comment="the authenticator-app factor whose codes are accepted"),
        sa.Column("used_delivery", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_challenge"),
        sa.ForeignKeyConstraint(["recipient_ledger"], ["ledger.id"], name="fk_challenge_recipient_ledger"),
        sa.ForeignKeyConstraint(["subject_ledger"], ["ledger.id"], name="fk_challenge_subject_ledger"),
    )
    live = sa.text("state = 'pending'")
    for name, column in (("ix_challenge_live", "recipient_key"), ("ix_challenge_live_subject", "subject_key")):
        op.create_index(name, "challenge", [column, "tenant"], sqlite_where=live, postgresql_where=live)
    op.create_index("ix_challenge_expiry", "challenge", ["expires_at"])
    op.create_table(
        "delivery",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("challenge_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("medium", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code_length", sa.Integer(), nullable=False),
        sa.Column("tag", sa.LargeBinary(), comment="argon2id over the keyed code; wiped when the challenge ends"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, comment="when somebody must look after it; null: nobody need"),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", MOMENT),
        sa.Column("sent_at", MOMENT, comment="written before the provider is asked"),
        sa.Column("settled_at", MOMENT),
        sa.Column("reference", sa.Text(), comment="the provider's id"),
        sa.Column("reason", sa.Text()),
        sa.Column("provider_code", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenge.id"], name="fk_delivery_challenge_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_delivery_challenge", "delivery", ["challenge_id"])
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_delivery_due", "delivery", ["due_at"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "counter",
        sa.Column("key", sa.Text(), nullable=False, comment="what is limited; recipients only as keyed hash"),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_counter"),
    )
    op.create_index("ix_counter_ends", "counter", ["ends_at"])
    op.create_table(
        "totp_factor",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False, comment="keyed hash"),
        sa.Column("state", sa.Text(), nullable=False, comment="unconfirmed, confirmed"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False, comment="the shared secret"),
        sa.Column("last_step", sa.BigInteger(), nullable=False, comment="newest time step accepted (RFC 6238 5.2)"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="tries to confirm"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("confirmed_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_totp_factor"),
    )
    op.create_index("ix_totp_factor_subject", "totp_factor", ["subject_key", "tenant"])
    op.create_table(
        "event",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("challenge_id", sa.Text()),
        sa.Column("delivery_id", sa.Text()),
        sa.Column("data", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_challenge", "event", ["challenge_id"])
    op.create_index("ix_event_at", "event", ["at"])


def downgrade() -> None:
    """Drop everything."""
    for table in ("event", "totp_factor", "counter", "delivery", "challenge", "ledger"):
        op.drop_table(table)
