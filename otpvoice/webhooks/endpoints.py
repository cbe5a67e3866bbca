"""Flows on a customer's endpoints: add, list, rotate, switch, remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from otpvoice.context import Context, new_id
from otpvoice.errors import InvalidRequest
from otpvoice.flow import Flow, transact
from otpvoice.store import events, outbox
from otpvoice.store.events import Event
from otpvoice.store.outbox import EndpointRow, MessageRow
from otpvoice.webhooks import addresses, signing
from otpvoice.webhooks.signing import SigningSecret

if TYPE_CHECKING:
    from sqlalchemy import Connection

OLD_SECRET_SIGNS = timedelta(hours=24)
"""After a rotation the secret before signs too, so that the receiver can change over without a gap."""
_LONGEST_KIND = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A customer's URL, as operators see it."""

    id: str
    tenant: str
    url: str
    kinds: Sequence[str] | None
    """Kinds of events (``challenge.approved``) or their beginnings (``challenge.*``); None: all."""
    created_at: datetime
    disabled_at: datetime | None
    disabled_why: str | None
    failures: int
    """In a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """An endpoint and its fresh secret, which is shown this once."""

    endpoint: Endpoint
    secret: SigningSecret = field(repr=False)


def add(ctx: Context, url: str, *, kinds: Sequence[str] | None = None) -> Flow[NewSecret]:
    """Send the tenant's events to a URL from now on.

    The URL's address is judged each time something is sent, not now. Raises
    :class:`~otpvoice.errors.InvalidRequest`.
    """
    addresses.parse_url(url)
    wanted = _kinds(kinds)
    endpoint_id, secret = new_id("we"), signing.new_secret()

    def store(connection: Connection, now: datetime) -> EndpointRow:
        row = outbox.add_endpoint(
            connection,
            now,
            endpoint_id=endpoint_id,
            tenant=ctx.tenant,
            url=url,
            kinds=wanted,
            sealed=_seal(ctx, endpoint_id, secret),
        )
        _write_down(connection, now, row, "webhook.added")
        return row

    row = yield from transact(store)
    return NewSecret(endpoint=_view(row), secret=secret)


def every(*, tenant: str | None = None) -> Flow[Sequence[Endpoint]]:
    """The endpoints of a tenant, or all."""
    rows = yield from transact(lambda connection, _now: outbox.endpoints(connection, tenant=tenant), single=True)
    return [_view(row) for row in rows]


def rotate(ctx: Context, endpoint_id: str) -> Flow[NewSecret]:
    """Give an endpoint a new secret; both sign for a day. Raises :class:`~otpvoice.errors.InvalidRequest`."""
    secret = signing.new_secret()

    def change(connection: Connection, now: datetime) -> EndpointRow | None:
        sealed = _seal(ctx, endpoint_id, secret)
        if not outbox.rotate(connection, endpoint_id, sealed=sealed, old_until=now + OLD_SECRET_SIGNS):
            return None
        row = outbox.endpoint(connection, endpoint_id)
        assert row is not None
        _write_down(connection, now, row, "webhook.rotated")
        return row

    row = _known((yield from transact(change)))
    return NewSecret(endpoint=_view(row), secret=secret)


def switch(endpoint_id: str, *, on: bool) -> Flow[Endpoint]:
    """Send to an endpoint no more, or again: what happened meanwhile follows. Raises ``InvalidRequest``."""

    def change(connection: Connection, now: datetime) -> EndpointRow | None:
        outbox.switch(connection, endpoint_id, disabled_at=None if on else now, why=None if on else "operator")
        row = outbox.endpoint(connection, endpoint_id)
        if row is not None:
            _write_down(connection, now, row, "webhook.enabled" if on else "webhook.disabled")
        return row

    return _view(_known((yield from transact(change))))


def remove(endpoint_id: str) -> Flow[None]:
    """Forget an endpoint and what is on its way to it. Raises :class:`~otpvoice.errors.InvalidRequest`."""

    def forget(connection: Connection, now: datetime) -> EndpointRow | None:
        row = outbox.endpoint(connection, endpoint_id)
        if row is not None:
            outbox.remove_endpoint(connection, endpoint_id)
            _write_down(connection, now, row, "webhook.removed")
        return row

    _known((yield from transact(forget)))


def messages(
    *, state: str | None = None, tenant: str | None = None, endpoint_id: str | None = None, most: int = 100
) -> Flow[Sequence[MessageRow]]:
    """What is or was on its way, newest first; ``state="dead"``: what was given up."""
    work = partial(outbox.messages, state=state, tenant=tenant, endpoint_id=endpoint_id, most=most)
    return (yield from transact(lambda connection, _now: work(connection), single=True))


def redeliver(
    *, ids: Sequence[str] | None = None, tenant: str | None = None, endpoint_id: str | None = None
) -> Flow[int]:
    """Send named messages again, or all that were given up; returns how many."""
    work = partial(outbox.redeliver, ids=ids, tenant=tenant, endpoint_id=endpoint_id)
    return (yield from transact(work, single=True))


def secrets_of(ctx: Context, row: EndpointRow, now: datetime) -> Sequence[SigningSecret]:
    """The secrets that sign at this time, the newest first."""
    sealed = [row.sealed]
    if row.sealed_old is not None and row.old_until is not None and now < row.old_until:
        sealed.append(row.sealed_old)
    return [SigningSecret(ctx.keyring.unseal(item, context=f"webhook:{row.id}").decode()) for item in sealed]


def _seal(ctx: Context, endpoint_id: str, secret: SigningSecret) -> bytes:
    return ctx.keyring.seal(secret.encode(), context=f"webhook:{endpoint_id}")


def _kinds(kinds: Sequence[str] | None) -> Sequence[str] | None:
    if kinds is None:
        return None
    for kind in kinds:
        plain = kind.removesuffix("*").removesuffix(".").replace(".", "").replace("_", "")
        if not (plain.isascii() and plain.isalpha()) or len(kind) > _LONGEST_KIND:
            raise InvalidRequest("a kind is a name such as challenge.approved, or a beginning such as challenge.*")
    if not kinds:
        raise InvalidRequest("name at least one kind, or leave kinds out for all")
    return sorted(set(kinds))


def _known(row: EndpointRow | None) -> EndpointRow:
    if row is None:
        raise InvalidRequest("there is no such webhook endpoint; see `otpvoice webhooks list`")
    return row


def _write_down(connection: Connection, now: datetime, row: EndpointRow, kind: str) -> None:
    events.record(connection, now, Event(kind=kind, tenant=row.tenant, data={"endpoint": row.id}))


def _view(row: EndpointRow) -> Endpoint:
    return Endpoint(
        id=row.id,
        tenant=row.tenant,
        url=row.url,
        kinds=row.kinds,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        disabled_why=row.disabled_why,
        failures=row.failures,
    )
