"""The schema: the migrations build the tables, an unknown revision is refused, and upgrades take turns."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from otpvoice import OTPService, SchemaMismatch
from otpvoice.channels.memory import Memory
from otpvoice.store import engine, migrate
from otpvoice.store.engine import Store
from otpvoice.store.tables import metadata
from tests.conftest import NUMBER, SECRET, Maker, policies
from tests.test_processes import PATIENCE

_start = multiprocessing.get_context("forkserver")

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def in_transaction(url: str, work: Callable[[Connection], Any]) -> Any:
    store = Store(url)
    with store.engine().begin() as connection:
        result = work(connection)
    store.close()
    return result


def set_revision(url: str, revision: str) -> None:
    statement = text("UPDATE alembic_version SET version_num = :revision").bindparams(revision=revision)
    in_transaction(url, lambda connection: connection.execute(statement).rowcount)


def emptied(url: str) -> str:
    """The same database without anything in it."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).unlink()
    else:
        in_transaction(url, lambda connection: connection.exec_driver_sql("DROP SCHEMA public CASCADE").rowcount)
        in_transaction(url, lambda connection: connection.exec_driver_sql("CREATE SCHEMA public").rowcount)
    return url


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, metadata)


def constraints(connection: Connection) -> dict[str, Any]:
    """What autogenerate does not compare: primary keys, nullability and partial indexes, as the database has them."""
    found = inspect(connection)
    return {
        table: (
            sorted(found.get_pk_constraint(table)["constrained_columns"]),
            sorted((column["name"], column["nullable"]) for column in found.get_columns(table)),
            sorted(
                (index["name"], index["column_names"], [str(one) for one in index.get("dialect_options", {}).values()])
                for index in found.get_indexes(table)
            ),
            sorted(
                (key["constrained_columns"], key["referred_table"], str(key["options"].get("ondelete")))
                for key in found.get_foreign_keys(table)
            ),
        )
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_the_migrations_build_what_the_code_reads(database_url: str) -> None:
    """Design 7: tables, columns, types and indexes of the metadata are those of the migrations, on both databases."""
    assert in_transaction(database_url, differences) == []
    built = in_transaction(database_url, constraints)
    emptied(database_url)
    in_transaction(database_url, metadata.create_all)
    assert built == in_transaction(database_url, constraints)


def test_a_difference_would_be_noticed(database_url: str) -> None:
    """A column and an index that the migrations lack are found."""
    in_transaction(database_url, lambda c: c.exec_driver_sql("DROP INDEX ix_event_at").rowcount)
    in_transaction(database_url, lambda c: c.exec_driver_sql("ALTER TABLE event ADD COLUMN mood TEXT").rowcount)
    found = {one[0] for one in in_transaction(database_url, differences)}
    assert found == {"add_index", "remove_column"}


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(migrate._config())


def test_the_code_names_the_newest_revision() -> None:
    """One head, and it is the one that this version reads and writes."""
    assert scripts().get_heads() == [migrate.REVISION]
    assert migrate.REVISION in migrate.known()


def test_every_revision_goes_down_and_up_again(database_url: str) -> None:
    """Down to nothing and up to the same schema, step by step."""
    built = in_transaction(database_url, constraints)

    def down(connection: Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    in_transaction(database_url, down)
    assert in_transaction(database_url, constraints) == {}
    store = Store(database_url)
    assert migrate.upgrade(store.engine()) == (None, migrate.REVISION)
    assert migrate.upgrade(store.engine()) == (migrate.REVISION, migrate.REVISION)
    store.close()
    assert in_transaction(database_url, constraints) == built


def test_data_of_every_older_revision_survives_the_upgrade(database_url: str) -> None:
    """A row that the first version wrote is there, and readable, after all that came since."""
    emptied(database_url)

    def first(connection: Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO counter (key, used, ends_at) VALUES ('recipient:old', 7, '2026-01-01T00:00:00.000000Z')"
        )

    in_transaction(database_url, first)
    store = Store(database_url)
    assert migrate.upgrade(store.engine()) == ("0001", migrate.REVISION)
    assert store.transact(lambda connection, _now: connection.execute(text("SELECT used FROM counter")).scalar()) == 7
    store.close()


def test_an_unknown_revision_is_refused(services: Maker, database_url: str) -> None:
    """A newer otpvoice was here: neither the service nor an upgrade touches anything."""
    set_revision(database_url, "9999")
    voice = Memory("voice")
    with pytest.raises(SchemaMismatch, match=r"9999, which this version .* does not know"):
        services(channels=[voice]).issue_code(NUMBER, purpose="login")
    assert voice.sent == ()
    store = Store(database_url)
    with pytest.raises(SchemaMismatch, match="9999"):
        migrate.upgrade(store.engine())
    assert migrate.current(store.engine()) == "9999"
    store.close()


def test_an_older_revision_is_refused_until_it_is_upgraded(services: Maker, database_url: str) -> None:
    """The remedy is one command, and nobody upgrades behind an operator's back."""
    emptied(database_url)

    def older(connection: Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")

    in_transaction(database_url, older)
    service = services()
    with pytest.raises(SchemaMismatch, match=r"at revision 0001, .* run `otpvoice db upgrade`"):
        service.issue_code(NUMBER, purpose="login")
    migrate.upgrade(service._assembly.store.engine())
    assert service.issue_code(NUMBER, purpose="login")


@on_postgresql
def test_an_empty_postgresql_says_what_to_do(services: Maker, database_url: str) -> None:
    """A shared database is never created by whichever process happens to start first."""
    emptied(database_url)
    with pytest.raises(SchemaMismatch, match="no schema yet: run `otpvoice db upgrade`"):
        services().issue_code(NUMBER, purpose="login")
    assert in_transaction(database_url, lambda connection: inspect(connection).get_table_names()) == []


@on_sqlite
def test_a_sqlite_creates_itself(services: Maker, database_url: str) -> None:
    """The embedded default needs no set-up, and is the same schema."""
    emptied(database_url)
    assert services().issue_code(NUMBER, purpose="login")
    assert in_transaction(database_url, differences) == []


def test_an_upgrade_that_fails_leaves_nothing_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: both databases roll back DDL."""
    emptied(database_url)
    upgrade = command.upgrade

    def fails(*args: Any) -> None:
        upgrade(*args)
        raise OSError("the power went")

    monkeypatch.setattr(command, "upgrade", fails)
    store = Store(database_url)
    with pytest.raises(OSError, match="power"):
        migrate.upgrade(store.engine())
    store.close()
    assert in_transaction(database_url, lambda connection: inspect(connection).get_table_names()) == []


def child_upgrades(url: str, barrier: Any, answers: Any) -> None:
    store = Store(url)
    barrier.wait(PATIENCE)
    try:
        answers.put(migrate.upgrade(store.engine()))
    except Exception as error:
        answers.put(repr(error))
        raise


def child_issues(url: str, barrier: Any, answers: Any) -> None:
    with OTPService(secret=SECRET, channels=[Memory("voice")], database_url=url, policies=policies()) as service:
        barrier.wait(PATIENCE)
        try:
            answers.put(service.issue_code(NUMBER, purpose="login").state.value)
        except Exception as error:
            answers.put(repr(error))
            raise


def at_once(target: Callable[..., None], url: str, count: int) -> list[Any]:
    barrier, answers = _start.Barrier(count), _start.Queue()
    children = [_start.Process(target=target, args=(url, barrier, answers)) for _ in range(count)]
    for child in children:
        child.start()
    said = [answers.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join(PATIENCE)
    return said


def test_processes_that_upgrade_at_once_take_turns(database_url: str) -> None:
    """One does the work, the others find it done."""
    emptied(database_url)
    said = at_once(child_upgrades, database_url, 3)
    done = (migrate.REVISION, migrate.REVISION)
    assert sorted(said, key=str) == sorted([(None, migrate.REVISION), done, done], key=str)
    assert in_transaction(database_url, differences) == []


@on_sqlite
def test_processes_that_meet_a_new_sqlite_create_it_once(database_url: str) -> None:
    """Three processes start on a file that is not there: all of them issue."""
    emptied(database_url)
    assert at_once(child_issues, database_url, 3) == ["pending"] * 3
    assert in_transaction(database_url, differences) == []


@on_sqlite
def test_a_new_sqlite_waits_for_who_writes_to_it(
    services: Maker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switching to WAL is the one statement that SQLite's busy timeout does not cover: otpvoice waits itself."""
    emptied(database_url)
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("CREATE TABLE letter (text)")
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def wait(span: float) -> None:
        waits.append(span)
        if other.in_transaction:
            other.execute("COMMIT")

    monkeypatch.setattr(engine.time, "sleep", wait)
    assert services().issue_code(NUMBER, purpose="login")
    assert waits
    other.close()


@on_sqlite
def test_a_file_that_is_no_database_is_refused(services: Maker, database_url: str) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    path.write_text("this is a letter to my aunt, not a database\n" * 100, encoding="utf-8")
    with pytest.raises(Exception, match="not a database"):
        services().issue_code(NUMBER, purpose="login")
    assert path.read_text(encoding="utf-8").startswith("this is a letter")


def test_the_migrations_are_found_from_the_package() -> None:
    """In a checkout beside the package, in a wheel inside it."""
    assert (migrate.location() / "env.py").is_file()
    assert (migrate.location() / "versions").is_dir()
    assert sqlite3.sqlite_version_info >= (3, 35)  # RETURNING and upserts are relied upon.
