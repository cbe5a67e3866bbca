"""The schema's revision: creating, upgrading, and refusing what this version does not know."""

from __future__ import annotations

import re
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from otpvoice.errors import SchemaMismatch

REVISION = "0005"
"""The revision that this version reads and writes; a test holds it equal to the newest migration."""

OCCUPIED = (
    "another program has tables in this database: give otpvoice a database of its own, or on PostgreSQL a schema "
    "(?options=-csearch_path%3Dotpvoice)"
)
"""Its own and otpvoice's would be mixed up, the table of the revision first."""
_OURS = re.compile(r"[0-9]{4}")


def location() -> Path:
    """Where the migrations are: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaMismatch("the migrations are missing from this installation: install otpvoice again")


def current(engine: Engine) -> str | None:
    """The database's revision, None for an empty one."""
    with engine.connect() as connection:
        return _revision(connection)


def ensure(engine: Engine) -> None:
    """Create an empty SQLite database; raise :class:`~otpvoice.errors.SchemaMismatch` for any other than ours."""
    found = current(engine)
    if found is None and engine.dialect.name == "sqlite":
        upgrade(engine)
        return
    if found == REVISION:
        return
    if found is None:
        raise SchemaMismatch("the database has no schema yet: run `otpvoice db upgrade` once")
    if found in known():
        raise SchemaMismatch(
            f"the database is at revision {found}, this version needs {REVISION}: run `otpvoice db upgrade`"
        )
    raise _unknown(found)


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the database to :data:`REVISION` in one transaction; returns the revisions before and after.

    Two processes that upgrade at once take turns. Raises :class:`~otpvoice.errors.SchemaMismatch` for a revision
    that this version does not know.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('otpvoice.migrations'))")
        before = _revision(connection)
        if before is not None and before not in known():
            raise _unknown(before)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return before, REVISION


def known() -> frozenset[str]:
    """Every revision that this version can upgrade from."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _unknown(found: str) -> SchemaMismatch:
    said = f"the database is at revision {found}, which this version (up to {REVISION}) does not know"
    if _OURS.fullmatch(found):
        return SchemaMismatch(f"{said}: a newer otpvoice upgraded it; install that version here too")
    return SchemaMismatch(f"{said}: {OCCUPIED}")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(location()).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return MigrationContext.configure(connection).get_current_revision()
