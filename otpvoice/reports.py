"""Reports: the provider's later word about a delivery, applied. It can never touch a verification.

Reports come repeated, late, out of order and from strangers. What is known of a delivery only ever grows:
*accepted* < *failed* < *delivered*, whichever came first, so that any order of the same reports ends alike.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from otpvoice.channels.base import Channel, Report, ReportRequest
from otpvoice.context import Context
from otpvoice.delivery import next_look, send
from otpvoice.flow import Flow, take_seat, transact
from otpvoice.routing import Job, advance
from otpvoice.store import challenges, deliveries, events
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.events import Event
from otpvoice.types import ChallengeState, DeliveryState

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("otpvoice.reports")

_DELIVERY_ID = re.compile(r"dl_[0-9a-f]{32}")
_RANK = {
    DeliveryState.QUEUED: 0,
    DeliveryState.SENDING: 0,
    DeliveryState.UNKNOWN: 1,
    DeliveryState.ACCEPTED: 2,
    DeliveryState.FAILED: 3,
    DeliveryState.DELIVERED: 4,
}
_LONGEST_TEXT = 64
_DETAILS = ("ring_seconds", "talk_seconds", "answered_at", "ended_at", "price", "currency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a push brought: how many reports it held, and how many of them told something new."""

    reports: int
    news: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    news: bool
    job: Job | None = None


def receive(ctx: Context, channel_name: str, request: ReportRequest) -> Flow[Received]:
    """Apply a provider's push. See :meth:`otpvoice.OTPService.apply_report`."""
    channel = ctx.channel(channel_name)
    reports = channel.read_report(request)
    news = 0
    for report in reports:
        confirmed = yield from channel.confirm(report)
        if confirmed is not None:
            news += yield from apply(ctx, channel, confirmed)
    return Received(reports=len(reports), news=news)


def apply(ctx: Context, channel: Channel, report: Report, *, asked: bool = False) -> Flow[bool]:
    """Apply one report; returns whether it told something new. Goes on along the route where it says *failed*.

    ``asked``: it is the provider's answer to a question of ours, not a push.
    """
    # The place comes before anything is written: a busy process refuses the report as a whole, to be told it again.
    seat = None if ctx.deferred or report.state is not DeliveryState.FAILED else (yield from take_seat())
    try:
        applied = yield from transact(partial(_apply, ctx=ctx, channel=channel, report=report, asked=asked))
        job = applied.job
        if job is not None and seat is not None:
            yield from send(ctx.of(job.challenge.tenant), job, seat)
        return applied.news
    finally:
        if seat is not None:
            seat.release()


def _apply(
    connection: Connection, now: datetime, *, ctx: Context, channel: Channel, report: Report, asked: bool
) -> _Applied:
    found = _find(connection, channel, report)
    if found is None:
        log.info("channel %r: a report for no delivery of ours", channel.name)
        return _Applied(news=False)
    # The challenge before its delivery, as everywhere: two transactions never wait for one another.
    challenge = challenges.of_any_tenant(connection, found.challenge_id)
    if challenge is None or challenges.hold(connection, challenge.tenant, challenge.id) is None:
        return _Applied(news=False)
    row = deliveries.hold(connection, found.id)
    if row is None or row.sent_at is None:
        return _Applied(news=False)
    merged = merge(row, report, now)
    if merged == row:
        return _Applied(news=False)
    merged = replace(merged, due_at=next_look(ctx, challenge, merged, now), lease_owner=None, lease_until=None)
    changes = {name: getattr(merged, name) for name in merged.__slots__ if getattr(merged, name) != getattr(row, name)}
    row_before, row = row, deliveries.change(connection, row, changes)
    events.record(connection, now, _event(challenge, row, asked=asked))
    job = None
    if row.state is DeliveryState.FAILED and row_before.state is not DeliveryState.FAILED:
        job = _go_on(connection, now, ctx, challenge, row)
    return _Applied(news=True, job=job)


def merge(row: DeliveryRow, report: Report, now: datetime) -> DeliveryRow:
    """What is known after a report: the further state wins, and details that were missing are filled in."""
    if report.delivery_id is not None and row.reference not in {None, report.reference or row.reference}:
        return row  # Our id with somebody else's reference: one of the two is forged.
    told = _RANK[report.state]
    known = _RANK[row.state]
    if told < known:
        return row
    details = {name: getattr(row, name) for name in _DETAILS}
    for name in _DETAILS:
        value = getattr(report, name)
        if value is not None and (told > known or details[name] is None):
            details[name] = _text(value) if name in {"price", "currency"} else value
    merged = replace(row, **details)
    if told > known or (row.reported_at is None and report.state is not DeliveryState.ACCEPTED):
        merged = replace(
            merged,
            state=report.state,
            reason=_text(report.reason),
            provider_code=_text(report.provider_code) or row.provider_code,
            settled_at=row.settled_at or now,
            reported_at=now if report.state is not DeliveryState.ACCEPTED else row.reported_at,
        )
    return replace(merged, reference=row.reference or _text(report.reference))


def _find(connection: Connection, channel: Channel, report: Report) -> DeliveryRow | None:
    """The delivery that a report names, if it went through this channel's provider."""
    row = None
    if report.delivery_id is not None and _DELIVERY_ID.fullmatch(report.delivery_id):
        row = deliveries.by_id(connection, report.delivery_id)
    elif report.reference:
        row = deliveries.by_reference(connection, channel.provider, report.reference[:256])
    return row if row is not None and row.provider == channel.provider and row.channel == channel.name else None


def _go_on(
    connection: Connection, now: datetime, ctx: Context, challenge: ChallengeRow, row: DeliveryRow
) -> Job | None:
    step = challenge.policy.route.steps[row.step]
    # A number that does not exist is no better reached another way.
    if "failed" not in step.go_on or row.reason == "invalid_number":
        return None
    if challenge.state_at(now) is not ChallengeState.PENDING:
        return None
    challenges.allow_resend(connection, row, now)
    return advance(
        connection, now, ctx=ctx.of(challenge.tenant), challenge_id=challenge.id, step=row.step, cause="failed"
    )


def _event(challenge: ChallengeRow, row: DeliveryRow, *, asked: bool) -> Event:
    details: dict[str, Any] = {
        "channel": row.channel,
        "provider": row.provider,
        "state": row.state.value,
        "reason": row.reason,
        "code": row.provider_code,
        "asked": asked or None,
        "answered_at": row.answered_at and row.answered_at.isoformat(),
        "ended_at": row.ended_at and row.ended_at.isoformat(),
        "ring_seconds": row.ring_seconds,
        "talk_seconds": row.talk_seconds,
        "price": row.price,
        "currency": row.currency,
    }
    return Event(
        kind="delivery.reported",
        tenant=challenge.tenant,
        challenge_id=challenge.id,
        delivery_id=row.id,
        data={name: value for name, value in details.items() if value is not None},
    )


def _text(value: object) -> str | None:
    """A provider's word as it may be stored: short and printable."""
    if value is None:
        return None
    written = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return "".join(character for character in written if character.isprintable())[:_LONGEST_TEXT]
