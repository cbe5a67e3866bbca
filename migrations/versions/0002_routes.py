"""What became of a delivery, why its step was taken, and breakers.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_NEW = (
    ("cause", sa.Text(), "why its step was taken"),
    ("reported_at", MOMENT, None),
    ("answered_at", MOMENT, None),
    ("ended_at", MOMENT, None),
    ("ring_seconds", sa.Integer(), None),
    ("talk_seconds", sa.Integer(), None),
    ("price", sa.Text(), "decimal, as the provider wrote it"),
    ("currency", sa.Text(), None),
)


def upgrade() -> None:
    """Add to delivery; create breaker. Nothing that the version before does not ignore."""
    for name, kind, comment in _NEW:
        op.add_column("delivery", sa.Column(name, kind, comment=comment))
    referred = sa.text("reference IS NOT NULL")
    op.create_index(
        "ix_delivery_reference",
        "delivery",
        ["reference", "provider"],
        sqlite_where=referred,
        postgresql_where=referred,
    )
    op.create_table(
        "breaker",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("trips", sa.Integer(), nullable=False, comment="in a row: each doubles the next"),
        sa.Column("open_until", MOMENT),
        sa.Column("reason", sa.Text()),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("channel", name="pk_breaker"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("breaker")
    op.drop_index("ix_delivery_reference", "delivery")
    for name, _kind, _comment in reversed(_NEW):
        op.drop_column("delivery", name)
