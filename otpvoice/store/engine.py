"""The database: one synchronous engine under both runners, and the only place that meets its exceptions."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from otpvoice.clock import Clock, DatabaseClock, SystemClock
from otpvoice.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from otpvoice.flow import Undo
from otpvoice.store import migrate

T = TypeVar("T")

log = logging.getLogger("otpvoice.store")

BUSY_SECONDS = 10
"""How long a transaction waits for a lock, a connection or SQLite's single writer before it gives up."""
_TRIES = 3
_DEADLOCK_OR_SERIALIZATION = frozenset({"40001", "40P01"})
_NO_CHANGE = text("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0")
_POSTGRES_SESSION = (
    "SET TimeZone = 'UTC'",
    f"SET lock_timeout = '{BUSY_SECONDS}s'",
    f"SET statement_timeout = '{2 * BUSY_SECONDS}s'",
    f"SET idle_in_transaction_session_timeout = '{2 * BUSY_SECONDS}s'",
)

_POSTGRES_CONNECTION = {
    "connect_timeout": BUSY_SECONDS,
    # A server that vanished with its network says nothing: unanswered bytes end the connection, in milliseconds, and an
    # idle one is asked whether it is there. Without these a transaction would wait for as long as TCP does, minutes.
    "tcp_user_timeout": 2 * BUSY_SECONDS * 1000,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""What libpq is told unless the URL says otherwise."""


def parse_url(url: str) -> URL:
    """A database URL as SQLAlchemy takes it; ``postgres://`` and ``postgresql://`` mean psycopg 3.

    Raises :class:`~otpvoice.errors.ConfigurationError` for anything but SQLite and PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number, often the rest of a password.
        raise ConfigurationError(
            "OTPVOICE_DATABASE_URL is not a database URL: it looks like sqlite:///otpvoice.db "
            "or postgresql://user:password@host/name, with %40, %3A and %2F for the password's own @, : and /"
        ) from None
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite":
        parsed = parsed.set(drivername="sqlite+pysqlite")
    if parsed.drivername not in {"sqlite+pysqlite", "postgresql+psycopg"}:
        raise ConfigurationError(
            f"OTPVOICE_DATABASE_URL names {parsed.drivername!r}: otpvoice runs on sqlite and postgresql"
        )
    return parsed


class Store:
    """Performs transactions. Opens nothing before the first one; safe to share between threads."""

    def __init__(self, url: str, *, clock: Clock | None = None, pool_size: int = 5) -> None:
        self.url = parse_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        # One connection is SQLite's whole pool: its writers take turns anyway, and a queue in this process is
        # fair where SQLite's busy handler, which polls, starves some of two hundred threads.
        self.pool_size = 1 if self.sqlite else pool_size
        self._clock: Clock = clock or (SystemClock() if self.sqlite else DatabaseClock())
        self._engine: Engine | None = None
        self._autocommit: Engine | None = None
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"<Store {self.url.render_as_string(hide_password=True)}>"

    def transact(self, work: Callable[[Connection, datetime], T], *, single: bool = False) -> T:
        """Run ``work`` in one transaction and commit it, or undo it where it returned :func:`~otpvoice.flow.undo`.

        A deadlock, a serialisation failure or a connection lost before the commit began is tried again, three
        times in all. Raises :class:`~otpvoice.errors.StoreUnavailable` when the database is away, locked, full or
        read-only, and :class:`~otpvoice.errors.SchemaMismatch` when it is of another revision.
        """
        engine, autocommit = self._ready()
        for tries_left in reversed(range(_TRIES)):
            committing = False
            try:
                with (autocommit if single else engine).connect() as connection, connection.begin() as transaction:
                    result = work(connection, self._now(connection))
                    if isinstance(result, Undo):
                        transaction.rollback()
                        return cast(T, result.value)
                    committing = True
                    transaction.commit()
                    return result
            except SQLAlchemyError as error:
                if committing or not tries_left or not _worth_another_try(error):
                    raise _unavailable(error) from error
                log.info("transaction tried again after %s", type(error).__name__)
        raise AssertionError("unreachable")

    def engine(self) -> Engine:
        """The engine, opened but with its schema unchecked: for migrations."""
        if self._engine is None:
            self._engine = self._create()
        return self._engine

    def revision(self) -> str | None:
        """The schema's revision; None for an empty database. Raises as :meth:`transact` does."""
        try:
            return migrate.current(self.engine())
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def check_writable(self) -> None:
        """Try a write that changes nothing. Raises :meth:`transact`'s errors, on a replica that only reads too."""
        self.transact(lambda connection, _now: connection.execute(_NO_CHANGE).rowcount)

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this version's revision; returns the revisions before and after."""
        try:
            return migrate.upgrade(self.engine())
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def now(self) -> datetime:
        """The clock that judges, read outside a transaction."""
        if isinstance(self._clock, DatabaseClock) and self._clock.due:
            return self.transact(lambda _connection, now: now, single=True)
        return self._clock.now()

    def close(self) -> None:
        """Close every connection. The store may be used again afterwards."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = self._autocommit = None

    def _ready(self) -> tuple[Engine, Engine]:
        engine, autocommit = self._engine, self._autocommit
        if engine is not None and autocommit is not None:
            return engine, autocommit
        with self._opening:
            if self._autocommit is None:
                engine = self.engine()
                try:
                    migrate.ensure(engine)
                except SQLAlchemyError as error:
                    raise _unavailable(error) from error
                self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
            assert self._engine is not None
            return self._engine, self._autocommit

    def _now(self, connection: Connection) -> datetime:
        # Read once the transaction holds what it waits for to begin; a lock waited for inside it is judged by the
        # time at which the request arrived.
        clock = self._clock
        if isinstance(clock, DatabaseClock) and clock.due:
            clock.set(connection.execute(text("SELECT clock_timestamp()")).scalar_one())
        return clock.now()

    def _create(self) -> Engine:
        if self.sqlite:
            _check_directory(self.url)
        options: dict[str, Any] = {"hide_parameters": True, "pool_size": self.pool_size, "pool_timeout": BUSY_SECONDS}
        options |= {"logging_name": "otpvoice"}
        logging.getLogger("sqlalchemy.engine.Engine.otpvoice").addFilter(_without_rows)
        if self.sqlite:
            options |= {"max_overflow": 0, "connect_args": {"timeout": BUSY_SECONDS, "check_same_thread": False}}
            options |= {"poolclass": QueuePool}
        else:
            given = {name: value for name, value in _POSTGRES_CONNECTION.items() if name not in self.url.query}
            options |= {"max_overflow": 0, "connect_args": given}
        try:
            engine = create_engine(self.url, **options)
        except (ModuleNotFoundError, NoSuchModuleError):
            raise ConfigurationError("PostgreSQL needs psycopg: pip install 'otpvoice[postgres]'") from None
        event.listen(engine, "connect", _prepare_sqlite if self.sqlite else _prepare_postgres)
        if self.sqlite:
            # Not an event of the engine: one listener, of whatever kind, slows every statement down.
            engine.dialect.do_begin = _begin_immediate  # type: ignore[method-assign]
        return engine


def _check_directory(url: URL) -> None:
    if url.database and url.database != ":memory:" and not Path(url.database).parent.is_dir():
        raise ConfigurationError(f"the directory of the SQLite database {url.database!r} does not exist")


def _prepare_sqlite(dbapi: Any, _record: Any) -> None:
    cursor = dbapi.cursor()
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # A charged attempt survives a power cut.
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")  # What is wiped leaves the file, not only the index.
    cursor.close()


def _without_rows(record: logging.LogRecord) -> bool:
    # At DEBUG SQLAlchemy logs every row it reads, and rows hold tags and salts; hide_parameters hides parameters only.
    return record.levelno > logging.DEBUG


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    # Of all statements only this one does not wait for a lock: processes that meet on a new file would fail.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _prepare_postgres(dbapi: Any, _record: Any) -> None:
    with dbapi.cursor() as cursor:
        for statement in _POSTGRES_SESSION:
            cursor.execute(statement)
    dbapi.commit()


def _begin_immediate(dbapi_connection: Any) -> None:
    """The driver's own BEGIN waits for the first write: two that have read by then cannot both go on."""
    if dbapi_connection.isolation_level is not None:  # None is the driver's word for autocommit.
        dbapi_connection.execute("BEGIN IMMEDIATE")


def _worth_another_try(error: SQLAlchemyError) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _DEADLOCK_OR_SERIALIZATION


def _unavailable(error: SQLAlchemyError) -> Exception:
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate == "42P07" or (said.startswith("table ") and said.endswith(" already exists")):
        return SchemaMismatch(f"{migrate.OCCUPIED} ({said})")
    if sqlstate in {"42P01", "42703"} or said.startswith(("no such table", "no such column")):
        return SchemaMismatch(f"the database lacks what otpvoice needs ({said}): run `otpvoice db upgrade`")
    return StoreUnavailable(f"the database did not answer ({type(cause).__name__}: {said})")
