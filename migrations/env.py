"""Alembic's entry: runs on the connection that otpvoice hands over, or on OTPVOICE_DATABASE_URL by itself."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from otpvoice.store import http_tables, outbox_tables, twilio_tables  # noqa: F401 — put their tables on the metadata.
from otpvoice.store.engine import Store
from otpvoice.store.tables import metadata


def run(connection: Connection) -> None:
    """Run the migrations inside the caller's transaction: both databases roll back DDL."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=True,
        transactional_ddl=False,
    )
    context.run_migrations()


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    store = Store(os.environ.get("OTPVOICE_DATABASE_URL", "sqlite:///otpvoice.db"))
    with store.engine().begin() as connection:
        run(connection)
    store.close()
