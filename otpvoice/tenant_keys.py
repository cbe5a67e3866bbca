"""API keys of tenants: made, shown once, kept as a digest, rotated and revoked.

``otpv_live_<id>_<secret>`` counts for a live tenant, ``otpv_test_<id>_<secret>`` for a test tenant. The secret is
256 random bits, so its SHA-256 is all that a thief of the database has, and no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from otpvoice.errors import InvalidRequest
from otpvoice.flow import Flow, transact
from otpvoice.store import api_keys, events
from otpvoice.store.api_keys import ApiKeyRow
from otpvoice.store.events import Event
from otpvoice.types import Masked

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

Scope = Literal["issue", "verify", "read", "admin"]
"""``issue``: open, resend, cancel; ``verify``: verify, redeem; ``read``: look, events; ``admin``: what repairs."""
SCOPES: tuple[str, ...] = get_args(Scope)

_WRITTEN = re.compile(r"otpv_(live|test)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NAME_LENGTH = 100


class ApiKey(Masked):
    """A whole API key. Its ``repr`` is masked; show it once and keep it nowhere."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A key as a caller showed it, taken apart."""

    key_id: str
    test: bool
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A new key: the row that stays, and the key that is shown this once."""

    row: ApiKeyRow
    key: ApiKey


def parse(text: str) -> Shown | None:
    """Take a key apart; None for what cannot be one."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None
    mode, key_id, secret = match.groups()
    return Shown(key_id=key_id, test=mode == "test", digest=hashlib.sha256(secret.encode()).digest())


def matches(shown: Shown | None, row: ApiKeyRow | None) -> bool:
    """Whether the key that was shown is the stored one. An unknown id is compared too, with nothing."""
    mine = bytes(32) if shown is None else shown.digest
    stored = bytes(32) if row is None else row.digest
    equal = hmac.compare_digest(mine, stored)
    return equal and shown is not None and row is not None and shown.test == row.test


def find(key_id: str) -> Flow[ApiKeyRow | None]:
    """A key that counts at this moment."""
    return (yield from transact(lambda connection, now: api_keys.counting(connection, key_id, now), single=True))


def create(tenant: str, *, scopes: Sequence[str], name: str = "", test: bool = False) -> Flow[Created]:
    """Make a key. Raises :class:`~otpvoice.errors.InvalidRequest` for an unknown scope or a bad name."""
    wanted = tuple(scope for scope in SCOPES if scope in scopes)
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not wanted:
        raise InvalidRequest(f"scopes are some of {', '.join(SCOPES)}")
    if len(name) > _NAME_LENGTH or not name.isprintable():
        raise InvalidRequest(f"a key's name has at most {_NAME_LENGTH} printable characters")

    def store(connection: Connection, now: datetime) -> Created:
        made = _make(tenant, scopes=wanted, name=name, test=test, now=now)
        api_keys.add(connection, made.row)
        _record(connection, now, "api_key.created", made.row, scopes=list(wanted))
        return made

    return (yield from transact(store))


def list_all(tenant: str | None = None) -> Flow[Sequence[ApiKeyRow]]:
    """The keys of a tenant, or of all."""
    return (yield from transact(lambda connection, _now: api_keys.of_tenant(connection, tenant), single=True))


def revoke(key_id: str) -> Flow[ApiKeyRow]:
    """Let a key count no more, at once. Raises :class:`~otpvoice.errors.InvalidRequest` where none counts."""

    def store(connection: Connection, now: datetime) -> ApiKeyRow | None:
        row = api_keys.counting(connection, key_id, now)
        if row is None or not api_keys.end(connection, key_id, at=now, now=now):
            return None
        _record(connection, now, "api_key.revoked", row)
        return row

    return _there((yield from transact(store)), key_id)


def rotate(key_id: str, *, overlap: timedelta = timedelta(hours=24)) -> Flow[Created]:
    """Make a key like another, which counts for ``overlap`` longer: deploy the new one meanwhile.

    Raises :class:`~otpvoice.errors.InvalidRequest` where no such key counts.
    """
    if not timedelta(0) <= overlap <= timedelta(days=30):
        raise InvalidRequest("the overlap is 0 to 30 days")

    def store(connection: Connection, now: datetime) -> Created | None:
        old = api_keys.counting(connection, key_id, now)
        if old is None:
            return None
        made = _make(old.tenant, scopes=old.scopes, name=old.name, test=old.test, now=now)
        api_keys.end(connection, key_id, at=now + overlap, now=now, replaced_by=made.row.id)
        api_keys.add(connection, made.row)
        _record(connection, now, "api_key.rotated", made.row, replaces=key_id)
        return made

    return _there((yield from transact(store)), key_id)


def _make(tenant: str, *, scopes: Sequence[str], name: str, test: bool, now: datetime) -> Created:
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    row = ApiKeyRow(
        id=key_id,
        tenant=tenant,
        name=name,
        test=test,
        digest=hashlib.sha256(secret.encode()).digest(),
        scopes=tuple(scopes),
        created_at=now,
    )
    return Created(row=row, key=ApiKey(f"otpv_{'test' if test else 'live'}_{key_id}_{secret}"))


def _record(connection: Connection, now: datetime, kind: str, row: ApiKeyRow, **data: object) -> None:
    events.record(connection, now, Event(kind=kind, tenant=row.tenant, data={"key": row.id, **data}))


def _there(found: T | None, key_id: str) -> T:
    if found is None:
        raise InvalidRequest(f"no key {key_id[:32]!r} counts: `otpvoice keys list` shows them")
    return found
