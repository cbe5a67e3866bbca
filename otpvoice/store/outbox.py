"""Transactions on webhooks: endpoints, and the messages that are on their way to them.

Messages are fed from the audit by a cursor. On PostgreSQL, transactions commit in another order than they drew their
events' ids, so a cursor alone would skip what commits late. The cursor therefore follows at :data:`SETTLED` behind;
what lies between it and now is looked at again each time, and a unique key lets every event in once.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Subquery, and_, case, delete, func, insert, or_, select, update

from otpvoice.store.outbox_tables import webhook_endpoint, webhook_message
from otpvoice.store.tables import event

SETTLED = timedelta(minutes=2)
"""Longer than any transaction of ours can run: locks are waited for 10 s, a statement may take 20 s."""

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
_UNDER_WAY = and_(webhook_message.c.state == PENDING, webhook_message.c.lease_owner.is_not(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """An endpoint as it is stored."""

    id: str
    tenant: str
    url: str
    kinds: Sequence[str] | None
    sealed: bytes
    sealed_old: bytes | None
    old_until: datetime | None
    cursor: int
    created_at: datetime
    disabled_at: datetime | None
    disabled_why: str | None
    failures: int
    rests_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """One event on its way to one endpoint."""

    id: str
    endpoint_id: str
    event_id: int
    kind: str
    body: str
    state: str
    tries: int
    due_at: datetime
    lease_owner: str | None
    created_at: datetime
    tried_at: datetime | None
    settled_at: datetime | None
    status: int | None
    reason: str | None


def add_endpoint(
    connection: Connection,
    now: datetime,
    *,
    endpoint_id: str,
    tenant: str,
    url: str,
    kinds: Sequence[str] | None,
    sealed: bytes,
) -> EndpointRow:
    """Store an endpoint. It gets what happens from now on."""
    row = EndpointRow(
        id=endpoint_id,
        tenant=tenant,
        url=url,
        kinds=kinds,
        sealed=sealed,
        sealed_old=None,
        old_until=None,
        cursor=connection.execute(select(func.coalesce(func.max(event.c.id), 0))).scalar_one(),
        created_at=now,
        disabled_at=None,
        disabled_why=None,
        failures=0,
        rests_until=None,
    )
    connection.execute(insert(webhook_endpoint), {name: getattr(row, name) for name in row.__slots__})
    return row


def endpoints(connection: Connection, *, tenant: str | None = None) -> Sequence[EndpointRow]:
    """The endpoints, oldest first; of one tenant, or all."""
    statement = select(webhook_endpoint).order_by(webhook_endpoint.c.created_at, webhook_endpoint.c.id)
    if tenant is not None:
        statement = statement.where(webhook_endpoint.c.tenant == tenant)
    return [EndpointRow(**row._mapping) for row in connection.execute(statement)]


def endpoint(connection: Connection, endpoint_id: str) -> EndpointRow | None:
    """One endpoint."""
    row = connection.execute(select(webhook_endpoint).where(webhook_endpoint.c.id == endpoint_id)).first()
    return None if row is None else EndpointRow(**row._mapping)


def remove_endpoint(connection: Connection, endpoint_id: str) -> bool:
    """Remove an endpoint with everything on its way to it."""
    connection.execute(delete(webhook_message).where(webhook_message.c.endpoint_id == endpoint_id))
    return connection.execute(delete(webhook_endpoint).where(webhook_endpoint.c.id == endpoint_id)).rowcount == 1


def switch(connection: Connection, endpoint_id: str, *, disabled_at: datetime | None, why: str | None) -> bool:
    """Disable an endpoint, or enable it again with its failures forgotten."""
    statement = (
        update(webhook_endpoint)
        .where(webhook_endpoint.c.id == endpoint_id)
        .values(disabled_at=disabled_at, disabled_why=why, failures=0, rests_until=None)
    )
    return connection.execute(statement).rowcount == 1


def rotate(connection: Connection, endpoint_id: str, *, sealed: bytes, old_until: datetime) -> bool:
    """Give an endpoint a new secret; the one before signs beside it until ``old_until``."""
    statement = (
        update(webhook_endpoint)
        .where(webhook_endpoint.c.id == endpoint_id)
        .values(sealed=sealed, sealed_old=webhook_endpoint.c.sealed, old_until=old_until)
    )
    return connection.execute(statement).rowcount == 1


def feed(connection: Connection, now: datetime, *, most: int = 500) -> int:
    """Make messages of what has happened, for every endpoint that nobody else feeds just now; returns how many."""
    free = select(webhook_endpoint).where(webhook_endpoint.c.disabled_at.is_(None)).order_by(webhook_endpoint.c.id)
    rows = connection.execute(free.with_for_update(skip_locked=True)).all()
    return sum(_feed(connection, now, EndpointRow(**row._mapping), most) for row in rows)


def _feed(connection: Connection, now: datetime, row: EndpointRow, most: int) -> int:
    fed = select(webhook_message.c.id).where(
        webhook_message.c.endpoint_id == row.id, webhook_message.c.event_id == event.c.id
    )
    wanted = and_(event.c.tenant == row.tenant, _of_kinds(row.kinds))
    found = connection.execute(
        select(event).where(event.c.id > row.cursor, wanted, ~fed.exists()).order_by(event.c.id).limit(most)
    ).all()
    if found:
        connection.execute(insert(webhook_message), [_message(row, item, now) for item in found])
    settled = select(func.max(event.c.id)).where(event.c.id > row.cursor, event.c.at <= now - SETTLED)
    if len(found) == most:  # There may be more behind the last one, which the cursor must not pass.
        settled = settled.where(event.c.id <= found[-1].id)
    newest = connection.execute(settled).scalar()
    if newest is not None:
        connection.execute(update(webhook_endpoint).where(webhook_endpoint.c.id == row.id).values(cursor=newest))
    return len(found)


def _of_kinds(kinds: Sequence[str] | None) -> ColumnElement[bool]:
    # An endpoint's own troubles are for operators: told to it, they would breed more of themselves.
    others = ~event.c.kind.startswith("webhook.", autoescape=True)
    if kinds is None:
        return others
    exact = [kind for kind in kinds if not kind.endswith("*")]
    begun = [event.c.kind.startswith(kind[:-1], autoescape=True) for kind in kinds if kind.endswith("*")]
    return and_(others, or_(event.c.kind.in_(exact), *begun))


def _message(row: EndpointRow, item: Any, now: datetime) -> dict[str, Any]:
    body = {
        "type": item.kind,
        "timestamp": item.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "data": {
            "event_id": item.id,
            "tenant": item.tenant,
            "challenge_id": item.challenge_id,
            "delivery_id": item.delivery_id,
            "details": item.data,
        },
    }
    return {
        "id": f"msg_{secrets.token_hex(16)}",
        "endpoint_id": row.id,
        "event_id": item.id,
        "kind": item.kind,
        "body": json.dumps(body, ensure_ascii=True, separators=(",", ":")),
        "state": PENDING,
        "tries": 0,
        "due_at": now,
        "created_at": now,
    }


def claim(
    connection: Connection, now: datetime, *, owner: str, until: datetime, most: int, each: int
) -> Sequence[tuple[MessageRow, EndpointRow]]:
    """Take messages that are due, each with one more try written down; nobody else gets them before ``until``.

    Of one endpoint's, at most ``each`` are under way at once, and one where it failed last; the endpoints take turns.
    The try is counted before the message is sent, so that one that kills its sender does not come back for ever.
    """
    turns = _turns(now, each)
    due = (
        select(webhook_message.c.id)
        .join(turns, turns.c.id == webhook_message.c.id)
        # Asked again of the row itself: on PostgreSQL another claim may have committed since the turns were read.
        .where(turns.c.place <= turns.c.allowed, webhook_message.c.state == PENDING, webhook_message.c.due_at <= now)
        .order_by(turns.c.place, webhook_message.c.due_at, webhook_message.c.event_id)
        .limit(most)
        .with_for_update(skip_locked=True, of=webhook_message)
    )
    ids = list(connection.execute(due).scalars())
    if not ids:
        return ()
    taken = connection.execute(
        update(webhook_message)
        .where(webhook_message.c.id.in_(ids))
        .values(tries=webhook_message.c.tries + 1, due_at=until, lease_owner=owner, tried_at=now)
        .returning(webhook_message)
    ).all()
    messages = sorted((MessageRow(**row._mapping) for row in taken), key=lambda item: item.event_id)
    named = {item.endpoint_id for item in messages}
    statement = select(webhook_endpoint).where(webhook_endpoint.c.id.in_(named))
    by_id = {row.id: EndpointRow(**row._mapping) for row in connection.execute(statement)}
    return [(item, by_id[item.endpoint_id]) for item in messages]


def _turns(now: datetime, each: int) -> Subquery:
    """What is due, each with its place among its endpoint's and how many of these may be taken now."""
    able = and_(
        webhook_endpoint.c.disabled_at.is_(None),
        or_(webhook_endpoint.c.rests_until.is_(None), webhook_endpoint.c.rests_until <= now),
    )
    busy = (
        select(webhook_message.c.endpoint_id, func.count().label("number"))
        .where(_UNDER_WAY, webhook_message.c.due_at > now)
        .group_by(webhook_message.c.endpoint_id)
        .subquery()
    )
    place = func.row_number().over(
        partition_by=webhook_message.c.endpoint_id, order_by=(webhook_message.c.due_at, webhook_message.c.event_id)
    )
    allowed = case((webhook_endpoint.c.failures > 0, 1), else_=each) - func.coalesce(busy.c.number, 0)
    return (
        select(webhook_message.c.id, place.label("place"), allowed.label("allowed"))
        .join(webhook_endpoint, webhook_endpoint.c.id == webhook_message.c.endpoint_id)
        .outerjoin(busy, busy.c.endpoint_id == webhook_message.c.endpoint_id)
        .where(webhook_message.c.state == PENDING, webhook_message.c.due_at <= now, able)
        .subquery()
    )


def settle(
    connection: Connection,
    now: datetime,
    message: MessageRow,
    *,
    state: str,
    status: int | None,
    reason: str | None,
    due_at: datetime | None = None,
) -> bool:
    """Write down what became of a claimed message; False when the lease was taken over meanwhile."""
    values: dict[str, Any] = {"state": state, "status": status, "reason": reason, "lease_owner": None}
    values |= {"settled_at": now} if due_at is None else {"due_at": due_at}
    statement = (
        update(webhook_message)
        .where(webhook_message.c.id == message.id, webhook_message.c.lease_owner == message.lease_owner)
        .values(**values)
    )
    return connection.execute(statement).rowcount == 1


def note(connection: Connection, endpoint_id: str, *, failures: int, rests_until: datetime | None) -> None:
    """Write down how an endpoint does."""
    connection.execute(
        update(webhook_endpoint)
        .where(webhook_endpoint.c.id == endpoint_id)
        .values(failures=failures, rests_until=rests_until)
    )


def messages(
    connection: Connection,
    *,
    state: str | None = None,
    tenant: str | None = None,
    endpoint_id: str | None = None,
    most: int = 100,
) -> Sequence[MessageRow]:
    """Messages, newest first: with ``state="dead"`` the list of those that were given up."""
    statement = select(webhook_message).order_by(webhook_message.c.created_at.desc(), webhook_message.c.event_id.desc())
    statement = statement.where(_chosen(state=state, tenant=tenant, endpoint_id=endpoint_id)).limit(most)
    return [MessageRow(**row._mapping) for row in connection.execute(statement)]


def redeliver(
    connection: Connection,
    now: datetime,
    *,
    ids: Sequence[str] | None = None,
    tenant: str | None = None,
    endpoint_id: str | None = None,
) -> int:
    """Send again from the start: the named messages that are settled, or without names all dead ones."""
    chosen = _chosen(state=DEAD if ids is None else None, tenant=tenant, endpoint_id=endpoint_id)
    statement = update(webhook_message).where(chosen, webhook_message.c.state != PENDING)
    if ids is not None:
        statement = statement.where(webhook_message.c.id.in_(ids))
    return connection.execute(
        statement.values(state=PENDING, tries=0, due_at=now, settled_at=None, status=None, reason=None)
    ).rowcount


def give_up(connection: Connection, now: datetime, *, older: timedelta, failures: int) -> Mapping[str, int]:
    """Let old messages of endpoints that failed so often in a row be dead; how many, by endpoint.

    An endpoint that is down is tried with one message at a time, so that the others would wait for ever.
    """
    down = select(webhook_endpoint.c.id).where(
        webhook_endpoint.c.disabled_at.is_(None), webhook_endpoint.c.failures >= failures
    )
    statement = (
        update(webhook_message)
        .where(
            webhook_message.c.endpoint_id.in_(down),
            webhook_message.c.state == PENDING,
            webhook_message.c.created_at <= now - older,
            or_(webhook_message.c.lease_owner.is_(None), webhook_message.c.due_at <= now),
        )
        .values(state=DEAD, settled_at=now, lease_owner=None, reason=func.coalesce(webhook_message.c.reason, "down"))
        .returning(webhook_message.c.endpoint_id)
    )
    return Counter(connection.execute(statement).scalars())


def purge(connection: Connection, now: datetime, *, batch: int, delivered: timedelta, dead: timedelta) -> int:
    """Remove messages that were settled long ago."""
    old = or_(
        and_(webhook_message.c.state == DELIVERED, webhook_message.c.created_at <= now - delivered),
        and_(webhook_message.c.state == DEAD, webhook_message.c.created_at <= now - dead),
    )
    chosen = select(webhook_message.c.id).where(old).limit(batch)
    return connection.execute(delete(webhook_message).where(webhook_message.c.id.in_(chosen))).rowcount


def _chosen(*, state: str | None, tenant: str | None, endpoint_id: str | None) -> ColumnElement[bool]:
    wanted: list[ColumnElement[bool]] = [webhook_message.c.id.is_not(None)]
    if state is not None:
        wanted.append(webhook_message.c.state == state)
    if endpoint_id is not None:
        wanted.append(webhook_message.c.endpoint_id == endpoint_id)
    if tenant is not None:
        own = select(webhook_endpoint.c.id).where(webhook_endpoint.c.tenant == tenant)
        wanted.append(webhook_message.c.endpoint_id.in_(own))
    return and_(*wanted)
