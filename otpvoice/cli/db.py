"""``otpvoice db``: the schema, and history past its time. Each command may be run again at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console

from otpvoice import config, upkeep
from otpvoice.cli.session import session
from otpvoice.errors import SchemaMismatch
from otpvoice.flow import Flow
from otpvoice.runner import Runner
from otpvoice.store import migrate
from otpvoice.store.engine import Store

T = TypeVar("T")

db_app = typer.Typer(help="The database: its schema and its history.", no_args_is_help=True)


@db_app.callback()
def db() -> None:
    """The database: its schema and its history."""


@db_app.command("upgrade")
def upgrade(ctx: typer.Context) -> None:
    """Create the schema or bring it to this version's revision. Needs OTPVOICE_DATABASE_URL only."""
    store = Store(session(ctx).settings().database_url)
    try:
        before, after = store.upgrade()
    finally:
        store.close()
    if before == after:
        done = f"is at revision {after} already: nothing to do"
    elif before is None:
        done = f"was created at revision {after}"
    else:
        done = f"was upgraded from revision {before} to {after}"
    typer.echo(f"{where(store)} {done}")


@db_app.command("check")
def check(ctx: typer.Context) -> None:
    """Say whether the database answers and has this version's schema: exit 0, or 3 with the remedy."""
    store = Store(session(ctx).settings().database_url)
    try:
        found = None if missing(store) else store.revision()
        if found is None:
            raise SchemaMismatch(f"{where(store)} has no schema yet: run `otpvoice db upgrade`")
        migrate.ensure(store.engine())
    finally:
        store.close()
    typer.echo(f"{where(store)} is at revision {found}, which this version needs")


@db_app.command("purge")
def purge(ctx: typer.Context) -> None:
    """Remove history past its time, in batches that hold nobody up. Run it daily."""
    assembly = config.from_settings(session(ctx).settings(), worker=False)
    removed = 0

    def tell(rows: object) -> None:
        nonlocal removed
        removed += rows if isinstance(rows, int) else 0
        status.update(f"purging: {removed} rows so far")

    runner = Runner(assembly.store, assembly.hashing)
    try:
        with Console(stderr=True).status("purging") as status:
            purged = runner.run(told(upkeep.purge(assembly.context), tell))
    finally:
        runner.close()
    for item in fields(purged):
        typer.echo(f"{item.name:<12}{getattr(purged, item.name):>8}")


def told(flow: Flow[T], tell: Callable[[object], None]) -> Flow[T]:
    """A flow whose every step's result is told as well: progress without a hook in the flow."""
    try:
        step = next(flow)
        while True:
            try:
                result = yield step
            except Exception as error:
                step = flow.throw(error)
            else:
                tell(result)
                step = flow.send(result)
    except StopIteration as done:
        returned: T = done.value
        return returned
    finally:
        flow.close()


def missing(store: Store) -> bool:
    """Whether it is an SQLite file that is not there: looking at it would create it."""
    name = store.url.database
    return store.sqlite and name not in {None, "", ":memory:"} and not Path(str(name)).exists()


def where(store: Store) -> str:
    """The database without its password."""
    return store.url.set(drivername=store.url.get_backend_name()).render_as_string(hide_password=True)
