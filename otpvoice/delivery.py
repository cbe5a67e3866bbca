"""Delivery: one code made, hashed, handed to a provider and settled. The same path for a caller and a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from otpvoice import codes
from otpvoice.channels.base import Channel, Message, Receipt
from otpvoice.context import Context, Private, digest
from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    InvalidRequest,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    RecipientRejected,
    ServiceBusy,
)
from otpvoice.flow import Flow, Seat, slow_hash, take_seat, transact
from otpvoice.routing import Job, advance, following
from otpvoice.speech.compose import Utterance, compose
from otpvoice.store import breakers, challenges, deliveries, events
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.events import Event
from otpvoice.types import Code, DeliveryState

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("otpvoice.delivery")

MAX_TRIES = 4
"""How often a worker tries one step whose provider is unavailable."""
FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=20)
RECONCILE_AFTER = timedelta(seconds=10)
"""How long after an unknown outcome the provider is asked: its records are not instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a delivery, and when. ``error`` is what the provider said against it."""

    challenge: ChallengeRow
    delivery: DeliveryRow
    error: DeliveryError | None
    at: datetime


def send(ctx: Context, job: Job, seat: Seat) -> Flow[list[Outcome]]:
    """Perform a delivery; while providers refuse, go on along the route at once. Returns every outcome, in order.

    A process too busy to hash another code stops at the refusal: the step after it is not taken, and free to be.
    """
    outcomes = [(yield from perform(ctx, job, seat))]
    while (cause := goes_on(outcomes[-1])) is not None:
        take = partial(advance, ctx=ctx, challenge_id=job.challenge.id, step=job.delivery.step, cause=cause)
        if ctx.deferred:
            # It is queued for any worker, this one included: none of them holds two at once for one challenge.
            yield from transact(take)
            break
        try:
            # The place comes before the step: one that is taken and not sent would wait for a worker, if there is one.
            seat = yield from take_seat()
        except ServiceBusy:
            log.warning("too busy to go on along the route of %s: a resend takes the next step", job.challenge.id)
            break
        try:
            following = yield from transact(take)
            if following is None:
                break
            job = following
            outcomes.append((yield from perform(ctx, job, seat)))
        finally:
            seat.release()
    return outcomes


def send_anew(ctx: Context, job: Job) -> Flow[list[Outcome]]:
    """:func:`send` for whoever holds no place in the hashing queue yet."""
    seat = yield from take_seat()
    try:
        return (yield from send(ctx, job, seat))
    finally:
        seat.release()


def goes_on(outcome: Outcome) -> str | None:
    """Why the route goes on after this outcome, None where it does not."""
    step = outcome.challenge.policy.route.steps[outcome.delivery.step]
    refused = isinstance(outcome.error, DeliveryError) and outcome.delivery.state is DeliveryState.FAILED
    if not refused or isinstance(outcome.error, RecipientRejected) or "refused" not in step.go_on:
        return None
    return "refused"


def perform(ctx: Context, job: Job, seat: Seat) -> Flow[Outcome]:
    """Make a code, store its tag, hand it to the provider, and write down the answer.

    The code exists between these lines and in the request, nowhere else. Domain failures come back as
    :attr:`Outcome.error`; the flow itself raises only what is wrong with this process.
    """
    channel = ctx.channel(job.delivery.channel)
    code = codes.generate(job.delivery.code_length, randbelow=ctx.randbelow)
    try:
        message = _message(ctx, job, channel, code)
        channel.check(message)
    except (ContentRejected, InvalidRequest) as error:
        refused = error if isinstance(error, ContentRejected) else ContentRejected(str(error))
        return (yield from _settle(ctx, job, DeliveryState.FAILED, error=refused))
    tag = yield from slow_hash(seat, _tagging(ctx, job, code))
    armed = yield from transact(partial(_arm, job=job, tag=tag), single=True)
    if not armed:
        # The challenge was closed, or the lease ran out and somebody else looks after it: nothing rings.
        return (yield from _settle(ctx, job, DeliveryState.FAILED, error=None, reason="superseded"))
    try:
        receipt = yield from channel.deliver(message)
    except OutcomeUnknown as error:
        error.provider = error.provider or channel.provider
        return (yield from _settle(ctx, job, DeliveryState.UNKNOWN, error=error))
    except DeliveryError as error:
        error.provider = error.provider or channel.provider
        wait = _try_again(ctx, job, error)
        if wait is not None:
            return (yield from _requeue(ctx, job, error, wait))
        return (yield from _settle(ctx, job, DeliveryState.FAILED, error=error))
    except Exception as error:
        # A third party's channel broke: nobody knows whether it had sent by then.
        log.exception("channel %r broke while it delivered %s", channel.name, job.delivery.id)
        unknown = OutcomeUnknown(f"channel {channel.name!r} broke: {type(error).__name__}", provider=channel.provider)
        return (yield from _settle(ctx, job, DeliveryState.UNKNOWN, error=unknown))
    state = DeliveryState.DELIVERED if receipt.delivered else DeliveryState.ACCEPTED
    return (yield from _settle(ctx, job, state, receipt=receipt))


def words(
    ctx: Context, channel: Channel, code: Code, *, purpose: str, private: Private, valid_for: timedelta
) -> Utterance:
    """What a channel is to say. Raises :class:`~otpvoice.errors.InvalidRequest` for what cannot be said at all."""
    return compose(
        code,
        capabilities=channel.capabilities,
        purpose=purpose,
        valid_for=valid_for,
        locale=private.locale,
        region=None if private.recipient is None else private.recipient.region,
        default_locale=ctx.default_locale,
        brand=ctx.brand,
        binding=private.binding,
        wordings=ctx.wordings,
        host=ctx.sms_host,
        app_hash=ctx.sms_app_hash,
    )


def _message(ctx: Context, job: Job, channel: Channel, code: Code) -> Message:
    recipient = job.private.recipient
    if recipient is None:
        raise InvalidRequest("the challenge has no recipient to send to")
    said = words(
        ctx,
        channel,
        code,
        purpose=job.challenge.purpose,
        private=job.private,
        valid_for=job.challenge.expires_at - job.delivery.created_at,
    )
    return Message(
        delivery_id=job.delivery.id,
        challenge_id=job.challenge.id,
        purpose=job.challenge.purpose,
        recipient=recipient,
        code=code,
        text=said.text,
        title=said.title,
        locale=said.locale,
        language=said.language,
        repeats=said.repeats,
        play_seconds=None if said.seconds is None else said.seconds / said.repeats,
        expires_at=job.challenge.expires_at,
    )


def _tagging(ctx: Context, job: Job, code: Code) -> Callable[[], bytes]:
    row = job.challenge
    if row.salt is None:
        raise InvalidRequest("the challenge is closed")
    return partial(
        codes.tag,
        code,
        profile=codes.hash_profile(row.policy.hash_profile),
        pepper=ctx.keyring.pepper(row.kid),
        salt=row.salt,
        tenant=row.tenant,
        challenge_id=row.id,
        purpose=row.purpose,
        subject=job.private.subject,
        recipient_key=row.recipient_key,
        binding=digest(job.private.binding),
    )


def _arm(connection: Connection, now: datetime, *, job: Job, tag: bytes) -> bool:
    return deliveries.arm(connection, job.delivery.id, owner=job.delivery.lease_owner or "", tag=tag, now=now)


def _try_again(ctx: Context, job: Job, error: DeliveryError) -> timedelta | None:
    """How long to wait before the same step is tried again; None: it is not.

    Only what certainly did not leave is tried again, by a worker, where the route does not go on.
    """
    if not (ctx.deferred and error.retryable) or job.delivery.tries + 1 >= MAX_TRIES:
        return None
    goes_on = "refused" in job.challenge.policy.route.steps[job.delivery.step].go_on
    if goes_on and following(ctx, job.challenge, job.private) is not None:
        return None
    wait: timedelta = min(FIRST_WAIT * 2**job.delivery.tries, LONGEST_WAIT) * (0.5 + ctx.randbelow(1000) / 1000)
    return max(wait, error.retry_after) if isinstance(error, ProviderThrottled) else wait


def _requeue(ctx: Context, job: Job, error: DeliveryError, wait: timedelta) -> Flow[Outcome]:
    def requeue(connection: Connection, now: datetime) -> Outcome | None:
        if now + wait >= job.challenge.expires_at:
            return None
        owner = job.delivery.lease_owner or ""
        happened = []
        if deliveries.requeue(connection, job.delivery.id, owner=owner, at=now + wait):
            data: dict[str, Any] = {"channel": job.delivery.channel, "reason": error.reason}
            data |= {"code": error.code} if error.code else {}
            data |= {"wait": round(wait.total_seconds(), 1)}
            happened.append(_event("delivery.retried", ctx, job, data))
        happened += _health(connection, ctx, job, error, now)
        if happened:
            events.record(connection, now, *happened)
        return Outcome(challenge=job.challenge, delivery=job.delivery, error=error, at=now)

    outcome = yield from transact(requeue)
    # Nobody would be there any more for a code that comes after the challenge's end.
    return (yield from _settle(ctx, job, DeliveryState.FAILED, error=error)) if outcome is None else outcome


def _settle(
    ctx: Context,
    job: Job,
    state: DeliveryState,
    *,
    receipt: Receipt | None = None,
    error: DeliveryError | None = None,
    reason: str | None = None,
) -> Flow[Outcome]:
    def settle(connection: Connection, now: datetime) -> Outcome:
        if state is DeliveryState.FAILED:
            # Before the delivery's row: challenges are always locked first.
            challenges.hold(connection, ctx.tenant, job.challenge.id)
        row = deliveries.settle(
            connection,
            job.delivery.id,
            owner=job.delivery.lease_owner or "",
            state=state,
            reference=None if receipt is None else receipt.reference,
            reason=reason if error is None else error.reason,
            provider_code=None if error is None else error.code or None,
            next_look=next_look(ctx, job.challenge, replace(job.delivery, state=state, sent_at=now), now),
            now=now,
        )
        if row is None:
            # The lease was taken over, or the provider's report came before its answer: that is written already.
            found = deliveries.hold(connection, job.delivery.id)
            return Outcome(challenge=job.challenge, delivery=found or job.delivery, error=error, at=now)
        if state is DeliveryState.FAILED:
            challenges.allow_resend(connection, row, now)
        data = {"channel": row.channel, "provider": row.provider, "step": row.step}
        more = {"reason": row.reason, "code": row.provider_code, "reference": row.reference}
        happened = [_event(f"delivery.{state.value}", ctx, job, data | {k: v for k, v in more.items() if v})]
        happened += _health(connection, ctx, job, error, now)
        events.record(connection, now, *happened)
        return Outcome(challenge=job.challenge, delivery=row, error=error, at=now)

    return (yield from transact(settle))


def next_look(
    ctx: Context, challenge: ChallengeRow, row: DeliveryRow, now: datetime, *, asked: bool = False
) -> datetime | None:
    """When somebody must look after a delivery next, None when nobody need.

    ``row`` is as it is about to be stored. The route's timers count from the sending; one that ran out while nobody
    looked is due now. ``asked``: the timers have just been acted on and the provider just asked, so that only what
    is still to come counts, and the next poll, which comes at longer and longer intervals.
    """
    if row.state is DeliveryState.FAILED or row.sent_at is None:
        return None
    channel = ctx.channels.get(row.channel)
    asks = channel is not None and channel.capabilities.look_ups
    if row.state is DeliveryState.UNKNOWN and asks:
        return now + RECONCILE_AFTER
    step = challenge.policy.route.steps[row.step]
    reported = row.reported_at is not None or row.state is DeliveryState.DELIVERED
    timers = [step.after, None if reported else step.no_report_within]
    moments = [row.sent_at + span for span in timers if span is not None]
    moments = [at for at in moments if at > now] if asked else [max(at, now) for at in moments]
    poll = channel.capabilities.poll_after if channel is not None and asks and not reported else None
    if poll is not None:
        elapsed = now - row.sent_at
        moments.append(now + max(elapsed / 2, RECONCILE_AFTER) if elapsed >= poll else row.sent_at + poll)
    return min(moments, default=None)


def _health(connection: Connection, ctx: Context, job: Job, error: DeliveryError | None, now: datetime) -> list[Event]:
    """What the outcome says about the provider: its breaker, and the alarms that a person must see."""
    channel = job.delivery.channel
    if error is None:
        if breakers.worked(connection, channel):
            return [_event("provider.recovered", ctx, job, {"channel": channel})]
        return []
    if isinstance(error, RecipientRejected | ContentRejected) or type(error) is DeliveryError:
        # About this recipient or this text (opted out, a landline): it says nothing about the provider.
        return []
    happened = []
    if isinstance(error, ProviderMisconfigured | NoBalance):
        happened.append(_event("provider.alarm", ctx, job, {"channel": channel, "reason": error.reason}))
    opened = breakers.failed(connection, channel, error.reason, now)
    if opened is not None and opened.open_until is not None:
        until = opened.open_until.isoformat()
        happened.append(_event("provider.resting", ctx, job, {"channel": channel, "until": until}))
    return happened


def _event(kind: str, ctx: Context, job: Job, data: dict[str, Any]) -> Event:
    return Event(kind=kind, tenant=ctx.tenant, challenge_id=job.challenge.id, delivery_id=job.delivery.id, data=data)
