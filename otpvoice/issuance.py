"""Issuing: open a challenge and send its first code; send another; cancel; look at it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from otpvoice import codes, inputs, recipients, routing, views
from otpvoice.context import TOTP, Context, Private, new_id
from otpvoice.delivery import Outcome, send, words
from otpvoice.errors import (
    ChallengeClosed,
    ContentRejected,
    InvalidRequest,
    OTPVoiceError,
    OutcomeUnknown,
    RateLimited,
    RecipientDenied,
    UnknownChannel,
)
from otpvoice.flow import Flow, take_seat, transact, undo
from otpvoice.guard import classes, limits
from otpvoice.policy import Policy
from otpvoice.routing import Job
from otpvoice.store import challenges, deliveries, events, factors, history, ledgers
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.events import Event
from otpvoice.store.factors import FactorRow
from otpvoice.store.ledgers import LedgerRow
from otpvoice.types import Binding, Challenge, ChallengeState, Code, DeliveryState

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("otpvoice.issuance")

SWEPT = 100
"""Expired challenges that one sweep writes down: the person whose code was just sent waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """A checked request for a new challenge."""

    purpose: str
    policy: Policy
    private: Private
    channel: str | None
    recipient_keys: tuple[str, ...]
    subject_keys: tuple[str, ...]
    client_keys: tuple[str, ...]

    @property
    def owners(self) -> Sequence[tuple[str, ...]]:
        """Whose ledgers count: the recipient's and the subject's, so that neither gives the other a fresh budget."""
        return [keys for keys in (self.recipient_keys, self.subject_keys) if keys]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A challenge in which a send was reserved, and the delivery to perform; None: nothing is sent."""

    challenge: ChallengeRow
    job: Job | None
    at: datetime
    before: Sequence[DeliveryRow] = ()
    """The deliveries that the challenge had already."""


def issue(
    ctx: Context,
    recipient: str | None,
    *,
    purpose: str,
    subject: str | None = None,
    channel: str | None = None,
    locale: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
    client: str | None = None,
) -> Flow[Challenge]:
    """Open a challenge and send its first code. See :meth:`otpvoice.OTPService.issue_code`."""
    wish = _wish(ctx, recipient, purpose, subject, channel, locale, binding, client)
    if wish.private.recipient is not None:
        try:
            classes.check(wish.policy, wish.private.recipient)
        except RecipientDenied as denied:
            yield from _refused(ctx, denied, hint=wish.private.recipient.hint)
            raise
    return (yield from _reserve_and_send(ctx, partial(_open, ctx=ctx, wish=wish), private=wish.private))


def resend(ctx: Context, challenge_id: str, *, channel: str | None = None) -> Flow[Challenge]:
    """Send a fresh code by the route's next step. See :meth:`otpvoice.OTPService.resend_code`."""
    known = inputs.challenge_id(challenge_id)
    if known is None:
        raise ChallengeClosed
    reserve = partial(_reserve_resend, ctx=ctx, challenge_id=known, channel=channel)
    return (yield from _reserve_and_send(ctx, reserve, challenge_id=known))


def cancel(ctx: Context, challenge_id: str) -> Flow[Challenge]:
    """Close a challenge for good. See :meth:`otpvoice.OTPService.cancel`."""

    def close(connection: Connection, now: datetime) -> Challenge | None:
        if known is None or not challenges.cancel(connection, ctx.tenant, known, now):
            return None
        events.record(connection, now, Event(kind="challenge.cancelled", tenant=ctx.tenant, challenge_id=known))
        return _look(connection, now, ctx=ctx, challenge_id=known)

    known = inputs.challenge_id(challenge_id)
    closed = yield from transact(close)
    if closed is None:
        raise ChallengeClosed
    return closed


def get(ctx: Context, challenge_id: str) -> Flow[Challenge]:
    """Look at a challenge. See :meth:`otpvoice.OTPService.get`."""
    known = inputs.challenge_id(challenge_id)
    found = None
    if known is not None:
        found = yield from transact(partial(_look, ctx=ctx, challenge_id=known))
    if found is None:
        raise ChallengeClosed
    return found


def story(ctx: Context, challenge_id: str) -> Flow[Sequence[Event]]:
    """A challenge's events. See :meth:`otpvoice.OTPService.events`."""
    known = inputs.challenge_id(challenge_id)
    if known is None:
        return []
    return (
        yield from transact(lambda connection, _now: events.of_challenge(connection, ctx.tenant, known), single=True)
    )


def _reserve_and_send(
    ctx: Context,
    reserve: Callable[[Connection, datetime], _Opened | OTPVoiceError],
    *,
    private: Private | None = None,
    challenge_id: str | None = None,
) -> Flow[Challenge]:
    """Charge what the send costs, then perform it, unless a worker does or nothing is sent."""
    # The place in the hashing queue comes first: a busy process refuses before it has charged anything.
    seat = None if ctx.deferred else (yield from take_seat())
    try:
        opened: _Opened | OTPVoiceError = yield from transact(reserve)
        if isinstance(opened, OTPVoiceError):
            hint = None if private is None or private.recipient is None else private.recipient.hint
            if not isinstance(opened, ChallengeClosed):  # An id that somebody made up leaves no trace.
                yield from _refused(ctx, opened, hint=hint, challenge_id=challenge_id)
            raise opened
        if opened.job is None or seat is None:
            queued = opened.before if opened.job is None else [*opened.before, opened.job.delivery]
            return views.challenge(ctx, opened.challenge, queued, opened.at)
        outcomes = yield from send(ctx, opened.job, seat)
        if ctx.sweeps.due(opened.at):
            yield from _sweep()
        return _answer(ctx, outcomes, opened.before)
    finally:
        if seat is not None:
            seat.release()


def _sweep() -> Flow[None]:
    """What a worker does elsewhere: write down what has run out, and wipe its tags (property P70)."""
    try:
        yield from transact(partial(history.expire, batch=SWEPT))
    except OTPVoiceError as error:  # The code is on its way: whoever asked for it hears of that.
        log.warning("expired challenges could not be swept: %s", error)


def _wish(
    ctx: Context,
    recipient: str | None,
    purpose: str,
    subject: str | None,
    channel: str | None,
    locale: str | None,
    binding: Binding | Mapping[str, str] | None,
    client: str | None,
) -> _Wish:
    policy = ctx.policy(purpose)
    target = None if recipient is None else recipients.parse(recipient)
    private = Private(
        recipient=target,
        subject=inputs.subject(subject),
        binding=inputs.binding(binding),
        locale=inputs.locale(locale),
    )
    if channel is not None and channel not in policy.route.channels:
        raise UnknownChannel(
            f"purpose {purpose!r} does not route through {inputs.shown(channel)}, "
            f"only through {', '.join(policy.route.channels)}"
        )
    if target is None and private.subject is None:
        raise InvalidRequest("give a recipient, or a subject that has an authenticator app")
    if policy.pays and (private.binding is None or not (private.binding.amount and private.binding.payee)):
        raise InvalidRequest(f"purpose {purpose!r} is for payments: give a binding with amount, currency and payee")
    _check_words(ctx, policy, purpose, private)
    asking = inputs.client(client)
    index = ctx.keyring.index
    return _Wish(
        purpose=purpose,
        policy=policy,
        private=private,
        channel=channel,
        recipient_keys=() if target is None else index("recipient", recipients.index_form(target)),
        subject_keys=() if private.subject is None else index("subject", f"{ctx.tenant}:{private.subject}"),
        client_keys=() if asking is None else index("client", f"{ctx.tenant}:{limits.network(asking)}"),
    )


def _check_words(ctx: Context, policy: Policy, purpose: str, private: Private) -> None:
    """Refuse what no channel of the route could say (a payee, an amount, a locale) before anything is charged."""
    if private.recipient is None or (private.binding is None and private.locale is None):
        return
    blank = Code("0" * policy.code_length)
    for name in policy.route.channels:
        if routing.possible(ctx, name, private, None):
            try:
                words(ctx, ctx.channel(name), blank, purpose=purpose, private=private, valid_for=policy.ttl)
            except ContentRejected:
                continue  # Too long for this channel: the route may have another.


def _open(connection: Connection, now: datetime, *, ctx: Context, wish: _Wish) -> _Opened | OTPVoiceError:
    """Everything that opening charges, and the challenge: one transaction, all or nothing."""
    held = ledgers.hold(connection, tenant=ctx.tenant, purpose=wish.purpose, owners=wish.owners, now=now)
    locked = routing.locked(held, wish.policy, now)
    if locked is not None:
        return undo(locked)
    factor = factors.confirmed(connection, ctx.tenant, wish.subject_keys) if wish.subject_keys else None
    rest = routing.resting(connection, wish.policy, now)
    step = routing.pick(ctx, wish.policy, wish.private, factor, first=0, channel=wish.channel, resting=rest)
    if isinstance(step, OTPVoiceError):
        return undo(step)
    if wish.policy.route.channels[step] != TOTP:
        factor = None
    sending = routing.sending(ctx, wish.policy, wish.private) if factor is None else ()
    # The look at what is live comes last: it holds back all others who open challenges for this recipient.
    refused = routing.charge(connection, [*sending, *limits.of_client(wish.policy, wish.client_keys)], now)
    live, earliest = challenges.live(
        connection, ctx.tenant, recipient_keys=wish.recipient_keys, subject_keys=wish.subject_keys, now=now
    )
    if refused is None and live >= wish.policy.max_live and earliest is not None:
        refused = RateLimited(f"{wish.policy.max_live} open challenges for this recipient", retry_after=earliest - now)
    if refused is not None:
        return undo(refused)
    row = _row(ctx, wish, held, step=step, factor=factor, now=now)
    challenges.add(connection, row)
    first = step if wish.channel is not None else 0
    events.record(
        connection,
        now,
        Event(
            kind="challenge.opened",
            tenant=ctx.tenant,
            challenge_id=row.id,
            data={"purpose": wish.purpose, "step": step, "channel": wish.policy.route.channels[step]}
            | routing.passed_over(wish.policy, wish.private, first=first, taken=step, resting=rest),
        ),
    )
    job = None if factor is not None else routing.queue(connection, ctx, row, wish.private, held, now)
    return _Opened(challenge=row, job=job, at=now)


def _row(
    ctx: Context, wish: _Wish, held: Sequence[LedgerRow], *, step: int, factor: FactorRow | None, now: datetime
) -> ChallengeRow:
    challenge_id = new_id("ch")
    by_owner = iter(held)
    return ChallengeRow(
        id=challenge_id,
        tenant=ctx.tenant,
        purpose=wish.purpose,
        state=ChallengeState.PENDING,
        created_at=now,
        expires_at=now + wish.policy.ttl,
        closed_at=None,
        attempts=0,
        charged=0,
        sends=1 if factor is None else 0,
        resend_at=now if factor is not None else now + wish.policy.cooldown_after(1),
        step=step,
        policy=wish.policy,
        kid=ctx.keyring.kid,
        salt=codes.new_salt(),
        recipient_key=wish.recipient_keys[0] if wish.recipient_keys else None,
        recipient_ledger=next(by_owner).id if wish.recipient_keys else None,
        hint=None if wish.private.recipient is None else wish.private.recipient.hint,
        subject_key=wish.subject_keys[0] if wish.subject_keys else None,
        subject_ledger=next(by_owner).id if wish.subject_keys else None,
        sealed=wish.private.seal(ctx.keyring, challenge_id),
        factor_id=None if factor is None else factor.id,
        used_delivery=None,
    )


def _reserve_resend(
    connection: Connection, now: datetime, *, ctx: Context, challenge_id: str, channel: str | None
) -> _Opened | OTPVoiceError:
    """Everything that a further send charges, on a held challenge."""
    found = challenges.hold(connection, ctx.tenant, challenge_id)
    if found is None:
        return undo(ChallengeClosed())
    row, held = found
    state = row.state_at(now)
    if state is not ChallengeState.PENDING:
        return undo(ChallengeClosed(state.value))
    private = Private.unseal(ctx.keyring, row)
    rest = routing.resting(connection, row.policy, now)
    step = routing.pick(ctx, row.policy, private, None, first=row.step + 1, channel=channel, resting=rest)
    if isinstance(step, OTPVoiceError) and channel is None:
        # The route has no further step for this recipient: the same one again.
        step = routing.pick(ctx, row.policy, private, None, first=row.step, channel=None)
    if isinstance(step, OTPVoiceError):
        return undo(step)
    if row.policy.route.channels[step] == TOTP:
        return undo(InvalidRequest("nothing is sent for an authenticator app: open a challenge with it instead"))
    locked = routing.locked(held, row.policy, now)
    if locked is not None:
        return undo(locked)
    if row.sends >= row.policy.max_sends:
        return undo(RateLimited(f"{row.policy.max_sends} sends a challenge", retry_after=row.expires_at - now))
    if row.resend_at > now:
        return undo(RateLimited("a code was sent a moment ago", retry_after=row.resend_at - now))
    refused = routing.charge(connection, routing.sending(ctx, row.policy, private), now)
    if refused is not None:
        return undo(refused)
    before = deliveries.of_challenge(connection, row.id)
    first = step if channel is not None else row.step + 1
    job = routing.take(connection, ctx, row, private, held, now, step=step, first=first, resting=rest, cause="asked")
    return _Opened(challenge=job.challenge, job=job, at=now, before=before)


def _answer(ctx: Context, outcomes: Sequence[Outcome], before: Sequence[DeliveryRow]) -> Challenge:
    """The challenge, or the last provider's refusal. An unknown outcome is none: the call may be ringing."""
    last = outcomes[-1]
    row = last.challenge
    if last.delivery.state is DeliveryState.FAILED:
        row = replace(row, resend_at=last.at)
    sent = [*before, *(outcome.delivery for outcome in outcomes)]
    challenge = views.challenge(ctx, row, sent, last.at)
    if last.error is not None:
        last.error.challenge = challenge
        if not isinstance(last.error, OutcomeUnknown):
            raise last.error
    return challenge


def _look(connection: Connection, now: datetime, *, ctx: Context, challenge_id: str) -> Challenge | None:
    row = challenges.by_id(connection, ctx.tenant, challenge_id)
    if row is None:
        return None
    sent = deliveries.of_challenge(connection, challenge_id)
    return views.challenge(ctx, row, sent, now)


def _refused(
    ctx: Context, error: OTPVoiceError, *, hint: str | None = None, challenge_id: str | None = None
) -> Flow[None]:
    """Write down a refusal, after the transaction that was undone."""
    data = {"error": type(error).__name__, "why": str(error), **({"recipient": hint} if hint else {})}
    event = Event(kind="send.refused", tenant=ctx.tenant, challenge_id=challenge_id, data=data)
    yield from transact(lambda connection, now: events.record(connection, now, event), single=True)
