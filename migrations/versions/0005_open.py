"""Find what has run out without reading what ended long ago.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the open challenges by their end."""
    is_open = sa.text("state = 'pending'")
    op.create_index("ix_challenge_open", "challenge", ["expires_at"], sqlite_where=is_open, postgresql_where=is_open)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_challenge_open", "challenge")
