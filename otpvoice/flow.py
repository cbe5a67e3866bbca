"""Flows: use cases written once, as generators of steps that a synchronous or an asynchronous runner performs.

A flow yields a step and receives its result. The helpers below are typed, so that ``code = yield from
transact(work)`` reads like straight code and mypy knows what comes back. An error of a step is raised at its
``yield``. A flow that is closed early (a cancelled task) sees ``GeneratorExit`` there, as any generator does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Undo:
    """A transaction's value together with the wish that the transaction be rolled back; made by :func:`undo`."""

    value: Any


def undo(value: T) -> T:
    """Return this from a transaction function to have its transaction rolled back on purpose.

    The runner hands ``value`` back as if it had been returned, and so the types say. Only for reservations that
    must not stay when the request is refused: charged attempts are never undone.
    """
    return cast(T, Undo(value))


@dataclass(frozen=True, slots=True)
class Transact:
    """Run ``work(connection, now)`` in one transaction and commit it before its value is handed back.

    ``work`` blocks on nothing but the database, decides as a value and never raises for a domain outcome: raising
    rolls back, and a rolled-back attempt counter is a broken lockout. It may be run again when the database asked
    for that (a deadlock, a lost connection before the commit), so it has no effect outside the connection.
    """

    work: Callable[[Connection, datetime], Any]
    single: bool = False
    """``work`` is one statement: perform it in autocommit, one round trip instead of three."""


class Seat(Protocol):
    """A place in the bounded hashing queue."""

    def release(self) -> None:
        """Give the place back unused. Harmless once the hash has begun or the place is given back."""


@dataclass(frozen=True, slots=True)
class TakeSeat:
    """Take a place in the hashing queue, or raise :class:`~otpvoice.errors.ServiceBusy` at once."""


@dataclass(frozen=True, slots=True)
class Hash:
    """Compute a slow hash on the place taken before. The hashing thread owns the place from here on."""

    seat: Seat
    job: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Send this request to a provider and receive its whole answer.

    Raises :class:`~otpvoice.errors.ProviderUnavailable` when the request cannot have left and
    :class:`~otpvoice.errors.OutcomeUnknown` when it may have.
    """

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Call:
    """Run a blocking function (SMTP, a terminal) outside the event loop."""

    work: Callable[[], Any]


Step: TypeAlias = Transact | TakeSeat | Hash | Exchange | Call
Flow: TypeAlias = Generator[Step, Any, T]


def transact(work: Callable[[Connection, datetime], T], *, single: bool = False) -> Flow[T]:
    """Perform a transaction; see :class:`Transact`."""
    result: T = yield Transact(work, single)
    return result


def take_seat() -> Flow[Seat]:
    """Take a place in the hashing queue before anything is charged; see :class:`TakeSeat`."""
    seat: Seat = yield TakeSeat()
    return seat


def slow_hash(seat: Seat, job: Callable[[], bytes]) -> Flow[bytes]:
    """Perform a slow hash; see :class:`Hash`."""
    digest: bytes = yield Hash(seat, job)
    return digest


def exchange(request: httpx.Request) -> Flow[httpx.Response]:
    """Speak to a provider; see :class:`Exchange`."""
    response: httpx.Response = yield Exchange(request)
    return response


def call(work: Callable[[], T]) -> Flow[T]:
    """Run a blocking function; see :class:`Call`."""
    result: T = yield Call(work)
    return result
