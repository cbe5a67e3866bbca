"""Transactions on the clocks of test tenants."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from otpvoice.store.http_tables import test_clock


def offset(connection: Connection, tenant: str) -> int:
    """By how many seconds a test tenant's time is ahead."""
    found = connection.execute(select(test_clock.c.offset_seconds).where(test_clock.c.tenant == tenant)).scalar()
    return 0 if found is None else int(found)


def set_offset(connection: Connection, tenant: str, seconds: int) -> None:
    """Set it."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(test_clock)
        .values(tenant=tenant, offset_seconds=seconds)
        .on_conflict_do_update(index_elements=[test_clock.c.tenant], set_={"offset_seconds": seconds})
    )
