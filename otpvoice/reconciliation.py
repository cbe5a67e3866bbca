"""Reconciliation: what a worker does about a delivery that is due.

It is sent if it never was; asked about if nobody knows what became of it; and the route goes on where its timers
say so. A send whose outcome is unknown is looked up at the provider before anything else rings.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from otpvoice.channels.base import Inquiry, Report
from otpvoice.context import Context, Private
from otpvoice.delivery import RECONCILE_AFTER, next_look, send_anew
from otpvoice.errors import ConfigurationError, DeliveryError, ServiceBusy
from otpvoice.flow import Flow, transact
from otpvoice.reports import apply
from otpvoice.routing import Job, advance
from otpvoice.store import challenges, deliveries, events
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.events import Event
from otpvoice.types import ChallengeState, DeliveryState

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("otpvoice.reconciliation")

GIVE_UP_AFTER = timedelta(seconds=60)
"""After so long a provider that knows nothing of a delivery never received it, unless its channel says longer."""
BUSY_WAIT = timedelta(seconds=1)


def look_after(ctx: Context, row: DeliveryRow) -> Flow[None]:
    """Do what is due for a leased delivery. Ends with the lease given back, or leaves it to run out."""
    challenge = yield from transact(
        lambda connection, _now: challenges.of_any_tenant(connection, row.challenge_id), single=True
    )
    if challenge is None:
        return
    ctx = ctx.of(challenge.tenant)
    try:
        if row.sent_at is None:
            yield from _send(ctx, challenge, row)
        else:
            yield from _ask(ctx, challenge, row)
    except ServiceBusy:
        yield from transact(partial(_later, row=row, wait=BUSY_WAIT))
    except ConfigurationError as error:
        # A key or a channel that is gone: trying again cannot help, and must not be tried for ever.
        log.error("delivery %s cannot be performed: %s", row.id, error)
        yield from transact(partial(_fail, ctx=ctx, row=row, reason="misconfigured"))


def _send(ctx: Context, challenge: ChallengeRow, row: DeliveryRow) -> Flow[None]:
    if challenge.state is not ChallengeState.PENDING or challenge.salt is None:
        yield from transact(partial(_fail, ctx=ctx, row=row, reason="superseded"))
        return
    if row.channel not in ctx.channels:
        raise ConfigurationError(f"no channel is named {row.channel!r} any more")
    job = Job(delivery=row, challenge=challenge, private=Private.unseal(ctx.keyring, challenge))
    yield from send_anew(ctx, job)


def _ask(ctx: Context, challenge: ChallengeRow, row: DeliveryRow) -> Flow[None]:
    """Look up what is not known, then go on if it is time to."""
    channel = ctx.channels.get(row.channel)
    answered: Report | None = None
    reachable = True
    settled = row.state is DeliveryState.DELIVERED or row.reported_at is not None
    if channel is not None and channel.capabilities.look_ups and not settled:
        inquiry = yield from transact(partial(_inquiry, ctx=ctx, challenge=challenge, row=row), single=True)
        try:
            answered = yield from channel.look_up(inquiry)
        except DeliveryError as error:
            reachable = False
            log.warning("channel %r cannot be asked about %s: %s", channel.name, row.id, error.reason)
        except Exception:
            # A third party's channel broke: it has said nothing, and the route's timers run all the same.
            reachable = False
            log.exception("channel %r broke while it was asked about %s", channel.name, row.id)
    if answered is not None and channel is not None and (yield from apply(ctx, channel, answered, asked=True)):
        return
    job = yield from transact(partial(_decide, ctx=ctx, challenge=challenge, row=row, reachable=reachable))
    if job is not None and not ctx.deferred:
        yield from send_anew(ctx, job)


def _inquiry(
    _connection: Connection, now: datetime, *, ctx: Context, challenge: ChallengeRow, row: DeliveryRow
) -> Inquiry:
    recipient = None if challenge.sealed is None else Private.unseal(ctx.keyring, challenge).recipient
    return Inquiry(
        delivery_id=row.id, reference=row.reference, recipient=recipient, sent_at=row.sent_at or now, now=now
    )


def _decide(
    connection: Connection,
    now: datetime,
    *,
    ctx: Context,
    challenge: ChallengeRow,
    row: DeliveryRow,
    reachable: bool,
) -> Job | None:
    """What follows from there being no news, on held rows: wait, give up, or go on."""
    held = challenges.hold(connection, challenge.tenant, challenge.id)
    current = deliveries.hold(connection, row.id)
    if held is None or current is None or current.lease_owner != row.lease_owner or current.sent_at is None:
        return None
    channel = ctx.channels.get(row.channel)
    asks = channel is not None and channel.capabilities.look_ups
    elapsed = now - current.sent_at
    is_open = held[0].state_at(now) is ChallengeState.PENDING
    if current.state is DeliveryState.SENDING:
        # Its sender died between asking the provider and hearing the answer.
        current = deliveries.change(
            connection, current, {"state": DeliveryState.UNKNOWN, "reason": "outcome_unknown", "settled_at": now}
        )
        events.record(connection, now, _event("delivery.unknown", ctx, current))
    give_up = max(GIVE_UP_AFTER, (channel and channel.capabilities.recorded_within) or GIVE_UP_AFTER)
    early = elapsed < give_up
    if current.state is DeliveryState.UNKNOWN and asks and (early or not reachable) and is_open:
        _release(connection, current, now + RECONCILE_AFTER)
        return None
    if current.state is DeliveryState.UNKNOWN and asks and early:
        # Nobody waits for it any more, but it may be ringing still: it is asked about once more, when its record
        # would be there.
        _release(connection, current, now + give_up - elapsed)
        return None
    # Whoever typed its code received it, whatever the provider's records say.
    if current.state is DeliveryState.UNKNOWN and asks and reachable and held[0].used_delivery != current.id:
        current = deliveries.change(
            connection, current, {"state": DeliveryState.FAILED, "reason": "not_received", "settled_at": now}
        )
        events.record(connection, now, _event("delivery.failed", ctx, current))
    cause = _cause(held[0], current, elapsed)
    # Nobody waits for a closed challenge's report: what is known of it stays.
    _release(connection, current, next_look(ctx, held[0], current, now, asked=True) if is_open else None)
    if cause is None or not is_open:
        return None
    return advance(connection, now, ctx=ctx, challenge_id=challenge.id, step=current.step, cause=cause)


def _cause(challenge: ChallengeRow, row: DeliveryRow, elapsed: timedelta) -> str | None:
    """Why the route goes on now, None where it waits."""
    step = challenge.policy.route.steps[row.step]
    if row.state is DeliveryState.FAILED:
        return "failed" if "failed" in step.go_on else None
    if step.after is not None and elapsed >= step.after:
        return "timer"
    unreported = row.reported_at is None and row.state is not DeliveryState.DELIVERED
    if unreported and step.no_report_within is not None and elapsed >= step.no_report_within:
        return "no_report"
    return None


def _release(connection: Connection, row: DeliveryRow, due_at: datetime | None) -> None:
    deliveries.change(connection, row, {"due_at": due_at, "lease_owner": None, "lease_until": None})


def _later(connection: Connection, now: datetime, *, row: DeliveryRow, wait: timedelta) -> None:
    deliveries.release(connection, [row.id], owner=row.lease_owner or "", now=now + wait)


def _fail(connection: Connection, now: datetime, *, ctx: Context, row: DeliveryRow, reason: str) -> None:
    settled = deliveries.settle(
        connection,
        row.id,
        owner=row.lease_owner or "",
        state=DeliveryState.FAILED,
        reference=None,
        reason=reason,
        provider_code=None,
        next_look=None,
        now=now,
    )
    if settled is not None:
        events.record(connection, now, _event("delivery.failed", ctx, settled))


def _event(kind: str, ctx: Context, row: DeliveryRow) -> Event:
    data = {"channel": row.channel, "provider": row.provider, "step": row.step, "reason": row.reason}
    return Event(kind=kind, tenant=ctx.tenant, challenge_id=row.challenge_id, delivery_id=row.id, data=data)
