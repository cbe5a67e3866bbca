"""API keys, idempotency records, redeemed proofs and test tenants' clocks.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Create four tables; nothing that is there changes."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="for people"),
        sa.Column("test", sa.Boolean(), nullable=False, comment="counts for a test tenant only"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of 256 random bits"),
        sa.Column("scopes", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, comment="set when it was rotated or revoked"),
        sa.Column("replaced_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
    )
    op.create_index("ix_api_key_tenant", "api_key", ["tenant"])
    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text(), nullable=False, comment="keyed hash of tenant, API key and Idempotency-Key"),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="keyed hash of the request"),
        sa.Column("status", sa.Integer(), comment="null: not answered yet"),
        sa.Column("sealed", sa.LargeBinary(), comment="the answer, without any secret"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_expires", "idempotency", ["expires_at"])
    op.create_table(
        "proof_redemption",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("redeemed_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False, comment="of the proof: no need to remember it longer"),
        sa.PrimaryKeyConstraint("jti", name="pk_proof_redemption"),
    )
    op.create_index("ix_proof_redemption_expires", "proof_redemption", ["expires_at"])
    op.create_table(
        "test_clock",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("offset_seconds", sa.BigInteger(), nullable=False, comment="a test tenant's time minus the real one"),
        sa.PrimaryKeyConstraint("tenant", name="pk_test_clock"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("test_clock", "proof_redemption", "idempotency", "api_key"):
        op.drop_table(table)
