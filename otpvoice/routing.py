"""Routing: which step of a route is taken, and the transaction that goes on to the next one."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from otpvoice import inputs, lockout
from otpvoice.context import TOTP, Context, Private, new_id
from otpvoice.errors import InvalidRequest, LockedOut, OTPVoiceError, RateLimited, UnknownChannel, UnknownFactor
from otpvoice.guard import limits
from otpvoice.policy import Policy
from otpvoice.store import breakers, challenges, counters, deliveries, events
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.counters import Limit
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.events import Event
from otpvoice.store.factors import FactorRow
from otpvoice.store.ledgers import LedgerRow
from otpvoice.types import ChallengeState, DeliveryState, Medium

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A leased delivery and what is needed to perform it."""

    delivery: DeliveryRow
    challenge: ChallengeRow
    private: Private


def pick(
    ctx: Context,
    policy: Policy,
    private: Private,
    factor: FactorRow | None,
    *,
    first: int,
    channel: str | None,
    resting: Collection[str] = (),
) -> int | OTPVoiceError:
    """The step to take: the asked channel's, else the first from ``first`` on that is for this recipient.

    A channel whose breaker is open is passed over while another one is left.
    """
    names = policy.route.channels
    if channel is not None and channel not in names:
        return UnknownChannel(f"this challenge does not route through {inputs.shown(channel)}, only {', '.join(names)}")
    if channel is not None:
        wanted: Sequence[int] = [names.index(channel)]
    else:
        wanted = [step for step in range(first, len(names)) if policy.route.steps[step].is_for(private.recipient)]
    reachable = [step for step in wanted if possible(ctx, names[step], private, factor)]
    for step in [step for step in reachable if names[step] not in resting] or reachable:
        return step
    if channel == TOTP:
        return UnknownFactor("this subject has no confirmed authenticator app, or the challenge is open already")
    tried = ", ".join(names[step] for step in wanted) or "no step of the route"
    return InvalidRequest(f"{tried} can reach this recipient: check its kind, class and country against the route")


def following(ctx: Context, row: ChallengeRow, private: Private) -> int | None:
    """The step after the current one that is for this recipient, None at the route's end."""
    step = pick(ctx, row.policy, private, None, first=row.step + 1, channel=None)
    return None if isinstance(step, OTPVoiceError) else step


def passed_over(
    policy: Policy, private: Private, *, first: int, taken: int, resting: Collection[str]
) -> dict[str, Any]:
    """The channels from ``first`` on that another was taken in place of, and why: for an event's data."""
    why = {}
    for step in policy.route.steps[first:taken]:
        if not step.is_for(private.recipient):
            why[step.channel] = "not for such numbers"
        elif step.channel in resting:
            why[step.channel] = "keeps failing"
        else:
            why[step.channel] = "does not reach this recipient"
    return {"passed_over": why} if why else {}


def resting(connection: Connection, policy: Policy, now: datetime) -> Collection[str]:
    """The channels whose breakers are open; not asked where there is no other to go to."""
    if len(policy.route.steps) == 1:
        return ()
    return {name for name, row in breakers.states(connection).items() if row.rests(now)}


def locked(held: Sequence[LedgerRow], policy: Policy, now: datetime, *, codes: int = 1) -> LockedOut | None:
    """The lock that holds, if any of these ledgers is locked, or has no room for a guess at so many codes at once."""
    found = (lockout.retry_after(item.ledger, policy, now, codes=codes) for item in held)
    waits = [wait for wait in found if wait is not None]
    return LockedOut(retry_after=max(waits)) if waits else None


def charge(connection: Connection, charged: Sequence[Limit], now: datetime) -> RateLimited | None:
    """Charge all of these limits, or the error of the one that refuses."""
    reached = counters.charge(connection, charged, now)
    return None if reached is None else RateLimited(reached.limit.name, retry_after=reached.ends_at - now)


def sending(ctx: Context, policy: Policy, private: Private) -> Sequence[Limit]:
    """What any send to a challenge's recipient is charged to: the first, one that is asked for, a route's next step."""
    return limits.of_send(policy, private.recipient, keyring=ctx.keyring, tenant=ctx.tenant)


def queue(
    connection: Connection,
    ctx: Context,
    row: ChallengeRow,
    private: Private,
    held: Sequence[LedgerRow],
    now: datetime,
    *,
    cause: str | None = None,
) -> Job:
    """Store the delivery of a challenge's current step.

    Where a worker sends, it is due at once for anybody. Else its maker performs it: it is stored as a worker's claim
    would leave it, and is due for somebody else when that lease ends.
    """
    channel = ctx.channel(row.policy.route.channels[row.step])
    until = now + ctx.lease
    delivery = DeliveryRow(
        id=new_id("dl"),
        challenge_id=row.id,
        channel=channel.name,
        provider=channel.provider,
        medium=channel.medium,
        step=row.step,
        state=DeliveryState.QUEUED,
        code_length=max(lockout.code_length(item.ledger, row.policy, now) for item in held),
        created_at=now,
        due_at=now if ctx.deferred else until,
        lease_owner=None if ctx.deferred else secrets.token_hex(8),
        lease_until=None if ctx.deferred else until,
        cause=cause,
    )
    deliveries.add(connection, delivery)
    if ctx.deferred:
        ctx.wake(connection)
    return Job(delivery=delivery, challenge=row, private=private)


def advance(
    connection: Connection, now: datetime, *, ctx: Context, challenge_id: str, step: int, cause: str
) -> Job | None:
    """Take the step after ``step``, because of ``cause``; None where there is nothing to go on to.

    Only one of all that notice goes on: the challenge is held, and it must be at ``step`` still. Limits hold for
    these sends as for any; the cooldown between sends a person asks for does not. It may be a part of a transaction
    that has written something already: a refusal undoes its own charges alone.
    """
    found = challenges.hold(connection, ctx.tenant, challenge_id)
    if found is None:
        return None
    row, held = found
    if row.state_at(now) is not ChallengeState.PENDING or row.step != step:
        return None
    private = Private.unseal(ctx.keyring, row)
    rest = resting(connection, row.policy, now)
    taken = pick(ctx, row.policy, private, None, first=step + 1, channel=None, resting=rest)
    if isinstance(taken, OTPVoiceError):
        return None
    names = row.policy.route.channels
    refused = _refusal(connection, ctx, row, private, held, now)
    if refused is not None:
        data = {"from": names[step], "to": names[taken], "cause": cause, "why": str(refused)}
        events.record(connection, now, Event(kind="route.stopped", tenant=ctx.tenant, challenge_id=row.id, data=data))
        return None
    return take(connection, ctx, row, private, held, now, step=taken, first=step + 1, resting=rest, cause=cause)


def take(
    connection: Connection,
    ctx: Context,
    row: ChallengeRow,
    private: Private,
    held: Sequence[LedgerRow],
    now: datetime,
    *,
    step: int,
    first: int,
    resting: Collection[str],
    cause: str,
) -> Job:
    """Go to a further step of a held challenge, whose send is charged: write it down and store its delivery.

    ``first`` is where the search for the step began: what lies between was passed over.
    """
    names = row.policy.route.channels
    data = {"from": names[row.step], "to": names[step], "cause": cause}
    data |= passed_over(row.policy, private, first=first, taken=step, resting=resting)
    events.record(connection, now, Event(kind="route.advanced", tenant=ctx.tenant, challenge_id=row.id, data=data))
    resend_at = now + row.policy.cooldown_after(row.sends + 1)
    challenges.note_send(connection, row.id, step=step, resend_at=resend_at)
    row = replace(row, sends=row.sends + 1, step=step, resend_at=resend_at)
    return queue(connection, ctx, row, private, held, now, cause=cause)


def _refusal(
    connection: Connection,
    ctx: Context,
    row: ChallengeRow,
    private: Private,
    held: Sequence[LedgerRow],
    now: datetime,
) -> OTPVoiceError | None:
    """Charge one more send of a held challenge, or say what forbids it; then nothing is charged."""
    if row.sends >= row.policy.max_sends:
        return RateLimited(f"{row.policy.max_sends} sends a challenge", retry_after=row.expires_at - now)
    lock = locked(held, row.policy, now)
    if lock is not None:
        return lock
    with connection.begin_nested() as charging:
        refused = charge(connection, sending(ctx, row.policy, private), now)
        if refused is not None:
            charging.rollback()
    return refused


def possible(ctx: Context, name: str, private: Private, factor: FactorRow | None) -> bool:
    """Whether a step can be taken for this recipient at all, whatever the route's conditions."""
    if name == TOTP:
        return factor is not None
    if private.recipient is None or name not in ctx.channels:
        return False
    return (ctx.channel(name).medium is Medium.EMAIL) == (private.recipient.kind == "email")
