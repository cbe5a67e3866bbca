"""Delivery: one code made, hashed, handed to a provider and settled. The same path for a caller and a worker."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from otpvoice import codes
from otpvoice.channels.base import Channel, Message, Receipt
from otpvoice.context import Context, Private, digest, new_id
from otpvoice.errors import ContentRejected, DeliveryError, InvalidRequest, OutcomeUnknown
from otpvoice.flow import Flow, Seat, slow_hash, transact
from otpvoice.speech.compose import compose
from otpvoice.store import challenges, deliveries, events
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.events import Event
from otpvoice.types import Code, DeliveryState

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("otpvoice.delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed delivery and what is needed to perform it."""

    delivery: DeliveryRow
    challenge: ChallengeRow
    private: Private


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a delivery, and when. ``error`` is what the provider said against it."""

    delivery: DeliveryRow
    error: DeliveryError | None
    at: datetime


def claimed(
    ctx: Context, channel: Channel, challenge_id: str, *, step: int, code_length: int, now: datetime
) -> DeliveryRow:
    """A new delivery that its maker performs at once: it is stored as a worker's claim would leave it."""
    return DeliveryRow(
        id=new_id("dl"),
        challenge_id=challenge_id,
        channel=channel.name,
        provider=channel.provider,
        medium=channel.medium,
        step=step,
        state=DeliveryState.SENDING,
        code_length=code_length,
        created_at=now,
        due_at=now,
        tries=1,
        lease_owner=secrets.token_hex(8),
        lease_until=now + ctx.lease,
    )


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
        return (yield from _settle(ctx, job, DeliveryState.FAILED, error=error))
    except Exception as error:
        # A third party's channel broke: nobody knows whether it had sent by then.
        log.exception("channel %r broke while it delivered %s", channel.name, job.delivery.id)
        unknown = OutcomeUnknown(f"channel {channel.name!r} broke: {type(error).__name__}", provider=channel.provider)
        return (yield from _settle(ctx, job, DeliveryState.UNKNOWN, error=unknown))
    state = DeliveryState.DELIVERED if receipt.delivered else DeliveryState.ACCEPTED
    return (yield from _settle(ctx, job, state, receipt=receipt))


def _message(ctx: Context, job: Job, channel: Channel, code: Code) -> Message:
    recipient = job.private.recipient
    if recipient is None:
        raise InvalidRequest("the challenge has no recipient to send to")
    said = compose(
        code,
        capabilities=channel.capabilities,
        purpose=job.challenge.purpose,
        valid_for=job.challenge.expires_at - job.delivery.created_at,
        locale=job.private.locale,
        region=recipient.region,
        default_locale=ctx.default_locale,
        brand=ctx.brand,
        binding=job.private.binding,
        wordings=ctx.wordings,
        host=ctx.sms_host,
        app_hash=ctx.sms_app_hash,
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
        row = deliveries.settle(
            connection,
            job.delivery.id,
            owner=job.delivery.lease_owner or "",
            state=state,
            reference=None if receipt is None else receipt.reference,
            reason=reason if error is None else error.reason,
            provider_code=None if error is None else error.code or None,
            now=now,
        )
        if row is None:
            # Somebody else took the lease over and has written, or will write, what became of it.
            found = [
                item for item in deliveries.of_challenge(connection, job.challenge.id) if item.id == job.delivery.id
            ]
            return Outcome(delivery=found[0] if found else job.delivery, error=error, at=now)
        if state is DeliveryState.FAILED:
            challenges.allow_resend(connection, job.challenge.id, now)
        data = {"channel": row.channel, "provider": row.provider, "step": row.step}
        more = {"reason": row.reason, "code": row.provider_code, "reference": row.reference}
        events.record(
            connection,
            now,
            Event(
                kind=f"delivery.{state.value}",
                tenant=ctx.tenant,
                challenge_id=job.challenge.id,
                delivery_id=row.id,
                data=data | {key: value for key, value in more.items() if value},
            ),
        )
        return Outcome(delivery=row, error=error, at=now)

    return (yield from transact(settle))
