"""Time. One clock judges expiry, cooldown and locks: the database's (property P6)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """Tells the time, in UTC."""

    def now(self) -> datetime:
        """The time, with ``tzinfo=UTC``."""


class SystemClock:
    """The machine's clock: right where the database is on the same machine (SQLite)."""

    def now(self) -> datetime:
        """The time, with ``tzinfo=UTC``."""
        return datetime.now(UTC)


def _steady() -> float:
    """Seconds that no adjustment of the wall clock moves, counting suspended time where the system can."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boottime) if boottime is not None else time.monotonic()


class DatabaseClock:
    """The database server's clock, by a measured offset to this machine's steady clock.

    :meth:`set` is given the server's time; until :data:`STALE` has passed, :meth:`now` adds what the steady clock
    says has gone by. A wall clock that is wrong or jumps here changes nothing.
    """

    STALE = timedelta(seconds=60)
    """After this :attr:`due` says that the offset should be measured again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._base: tuple[datetime, float] | None = None

    @property
    def due(self) -> bool:
        """Whether the offset has not been measured yet, or not lately."""
        base = self._base
        return base is None or _steady() - base[1] > self.STALE.total_seconds()

    def set(self, server_time: datetime) -> None:
        """Take the server's time as of now."""
        with self._lock:
            self._base = (server_time.astimezone(UTC), _steady())

    def now(self) -> datetime:
        """The server's time, with ``tzinfo=UTC``. Raises ``RuntimeError`` before the first :meth:`set`."""
        if self._base is None:
            raise RuntimeError("the database clock has not been measured")
        then, steady = self._base
        return then + timedelta(seconds=_steady() - steady)


class Pace:
    """Says when it is time again for something that a process does now and then. Safe between threads."""

    def __init__(self, every: timedelta) -> None:
        self.every = every
        self._lock = Lock()
        self._next: datetime | None = None

    def due(self, now: datetime) -> bool:
        """Whether it is time, to the first who asks; everybody else is told to wait. A clock put back makes it due."""
        with self._lock:
            if self._next is not None and now < self._next <= now + self.every:
                return False
            self._next = now + self.every
            return True


class ManualClock:
    """A clock that stands still until it is moved: for tests, and for your own tests."""

    def __init__(self, at: datetime | None = None) -> None:
        self._at = at or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The time it was set to."""
        return self._at

    def advance(self, span: timedelta | float) -> None:
        """Move on by a span, or by seconds."""
        self._at += span if isinstance(span, timedelta) else timedelta(seconds=span)
