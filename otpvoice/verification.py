"""Verifying: charge the attempt, commit, compare, then let one winner close the challenge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from otpvoice import codes, inputs, lockout, routing, totp, views
from otpvoice.context import TOTP, Context, Private, digest
from otpvoice.errors import ChallengeClosed, CodeMismatch, MalformedCode, OTPVoiceError
from otpvoice.flow import Flow, slow_hash, take_seat, transact
from otpvoice.store import challenges, deliveries, events, factors, ledgers
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import LiveTag
from otpvoice.store.events import Event
from otpvoice.store.factors import FactorRow
from otpvoice.store.ledgers import LedgerRow
from otpvoice.types import Binding, ChallengeState, Code, Medium, Verified

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A charged attempt: it is committed, and nothing gives it back."""

    challenge: ChallengeRow
    sent: Sequence[LiveTag]
    factor: FactorRow | None
    at: datetime

    @property
    def left(self) -> int:
        """How many more the challenge takes."""
        return self.challenge.attempts_left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """What the code was: a delivery's, or an authenticator app's at a time step."""

    channel: str
    medium: Medium
    delivery_id: str | None = None
    step: int | None = None


def verify(
    ctx: Context,
    challenge_id: str,
    code: str,
    *,
    purpose: str | None = None,
    subject: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
) -> Flow[Verified]:
    """Check what a person typed. See :meth:`otpvoice.OTPService.verify_code`."""
    typed = codes.normalise(inputs.code(code))
    known = inputs.challenge_id(challenge_id)
    claims = _Claims(purpose=inputs.purpose(purpose), subject=inputs.subject(subject), binding=inputs.binding(binding))
    if known is None:
        raise ChallengeClosed
    # The place in the hashing queue comes first: a busy process refuses before an attempt is spent.
    seat = yield from take_seat()
    try:
        attempt: _Attempt | OTPVoiceError = yield from transact(
            partial(charge_attempt, ctx=ctx, challenge_id=known, typed=typed)
        )
        if isinstance(attempt, OTPVoiceError):
            raise attempt
        assert typed is not None
        private = Private.unseal(ctx.keyring, attempt.challenge)
        match = _match_app(ctx, attempt, private, claims, typed)
        if match is None and attempt.sent:
            candidate = yield from slow_hash(seat, partial(_tag, ctx, attempt, private, claims, typed))
            match = _match_sent(candidate, attempt.sent)
        if match is None:
            raise (yield from _mismatch(ctx, attempt))
        approved: datetime | OTPVoiceError = yield from transact(
            partial(_approve, ctx=ctx, attempt=attempt, match=match)
        )
        if isinstance(approved, CodeMismatch):
            raise (yield from _mismatch(ctx, attempt))
        if isinstance(approved, OTPVoiceError):
            raise approved
    finally:
        seat.release()
    return Verified(
        challenge_id=known,
        purpose=attempt.challenge.purpose,
        recipient=None if private.recipient is None else private.recipient.address,
        subject=private.subject,
        binding=private.binding,
        channel=match.channel,
        medium=match.medium,
        delivery_id=match.delivery_id,
        approved_at=approved,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claims:
    """What the caller says that the code is for. What it leaves out is taken from the challenge."""

    purpose: str | None
    subject: str | None
    binding: Binding | None

    def hold(self, row: ChallengeRow, private: Private) -> bool:
        """Whether every claim is true of the challenge."""
        return (
            self.purpose in {None, row.purpose}
            and self.subject in {None, private.subject}
            and (self.binding is None or self.binding == private.binding)
        )


def charge_attempt(
    connection: Connection, now: datetime, *, ctx: Context, challenge_id: str, typed: Code | None
) -> _Attempt | OTPVoiceError:
    """Spend one attempt of the challenge, and charge the ledgers for every code it will be compared with.

    Holding the challenge's row and its ledgers' serialises all attempts on them; the caller compares only after
    this has committed (properties P20, P21). An input that cannot be one of the live codes is not compared, and
    so not charged.
    """
    found = challenges.hold(connection, ctx.tenant, challenge_id)
    if found is None:
        return ChallengeClosed()
    row, held = found
    state = row.state_at(now)
    if state is not ChallengeState.PENDING:
        if row.state is ChallengeState.PENDING:
            challenges.expire(connection, ctx.tenant, row.id, now)
            events.record(connection, now, Event(kind="challenge.expired", tenant=ctx.tenant, challenge_id=row.id))
        return ChallengeClosed(state.value)
    if row.attempts_left == 0:
        return ChallengeClosed(ChallengeState.EXHAUSTED.value)
    locked = routing.locked(held, row.policy, now, codes=totp.WINDOW if row.factor_id is not None else 1)
    if locked is not None:
        return locked
    factor = _factor(connection, row, typed)
    of_app = totp.WINDOW if factor is not None else 0
    # Every code that the attempt is compared with counts, so the ledger's last attempts may meet fewer: the newest.
    room = min(lockout.room(item.ledger, row.policy, now) for item in held)
    sent = _comparable(connection, row, typed)[: room - of_app]
    compared = len(sent) + of_app
    if compared == 0:
        return MalformedCode(row.attempts_left)
    charged = [LedgerRow(id=item.id, ledger=item.ledger.charge(row.policy, now, codes=compared)) for item in held]
    if not challenges.claim(connection, row, codes=compared):
        return ChallengeClosed()
    ledgers.save(connection, charged, now)
    happened = [
        Event(kind="attempt.charged", tenant=ctx.tenant, challenge_id=row.id, data={"attempt": row.attempts + 1})
    ]
    if any(new.ledger.level > old.ledger.level for new, old in zip(charged, held, strict=True)):
        happened.append(Event(kind="ledger.locked", tenant=ctx.tenant, challenge_id=row.id))
    events.record(connection, now, *happened)
    return _Attempt(challenge=replace(row, attempts=row.attempts + 1), sent=sent, factor=factor, at=now)


def _comparable(connection: Connection, row: ChallengeRow, typed: Code | None) -> Sequence[LiveTag]:
    if typed is None:
        return ()
    live = deliveries.live_tags(connection, row.id)
    if row.policy.late_codes == "newest":
        live = live[:1]
    return [item for item in live if item.code_length == len(typed)]


def _factor(connection: Connection, row: ChallengeRow, typed: Code | None) -> FactorRow | None:
    if typed is None or row.factor_id is None or len(typed) != totp.DIGITS:
        return None
    return factors.by_id(connection, row.tenant, row.factor_id)


def _match_app(ctx: Context, attempt: _Attempt, private: Private, claims: _Claims, typed: Code) -> _Match | None:
    if attempt.factor is None or not claims.hold(attempt.challenge, private):
        return None
    step = totp.matching_step(ctx.keyring, attempt.factor, typed, attempt.at)
    return None if step is None else _Match(channel=TOTP, medium=Medium.APP, step=step)


def _match_sent(candidate: bytes, sent: Sequence[LiveTag]) -> _Match | None:
    found = codes.matching(candidate, [(item.id, item.tag) for item in sent])
    for item in sent:
        if item.id == found:
            return _Match(channel=item.channel, medium=item.medium, delivery_id=found)
    return None


def _tag(ctx: Context, attempt: _Attempt, private: Private, claims: _Claims, typed: Code) -> bytes:
    """The tag that the typed code would have, bound to what the caller claims: a false claim never matches."""
    row = attempt.challenge
    assert row.salt is not None
    return codes.tag(
        typed,
        profile=codes.hash_profile(row.policy.hash_profile),
        pepper=ctx.keyring.pepper(row.kid),
        salt=row.salt,
        tenant=row.tenant,
        challenge_id=row.id,
        purpose=row.purpose if claims.purpose is None else claims.purpose,
        subject=private.subject if claims.subject is None else claims.subject,
        recipient_key=row.recipient_key,
        binding=digest(private.binding if claims.binding is None else claims.binding),
    )


def _mismatch(ctx: Context, attempt: _Attempt) -> Flow[CodeMismatch]:
    """The answer to a code that is not right; the last attempt closes the challenge."""
    if attempt.left == 0:
        yield from transact(partial(_exhaust, ctx=ctx, attempt=attempt))
    mismatch = CodeMismatch(attempt.left)
    mismatch.after = views.challenge(ctx, attempt.challenge, (), attempt.at)
    return mismatch


def _exhaust(connection: Connection, now: datetime, *, ctx: Context, attempt: _Attempt) -> None:
    """Close what has no attempts left.

    An earlier attempt that is still being compared loses with it: to refuse a racing right code is safe, to keep
    an exhausted challenge open is not.
    """
    row = attempt.challenge
    if challenges.exhaust(connection, ctx.tenant, row.id, row.policy.max_attempts, now):
        events.record(connection, now, Event(kind="challenge.exhausted", tenant=ctx.tenant, challenge_id=row.id))


def _approve(
    connection: Connection, now: datetime, *, ctx: Context, attempt: _Attempt, match: _Match
) -> datetime | OTPVoiceError:
    """Close as approved: the one winner. Its own failures leave the ledgers, nobody else's."""
    row = attempt.challenge
    if match.step is not None and not _use_step(connection, ctx, attempt, match.step):
        return CodeMismatch(attempt.left)
    charged = challenges.approve(connection, ctx.tenant, row.id, match.delivery_id, now)
    if charged is None:
        return ChallengeClosed()
    held = ledgers.hold_by_id(connection, [key for key in (row.recipient_ledger, row.subject_ledger) if key])
    ledgers.save(connection, [LedgerRow(id=item.id, ledger=item.ledger.forgive(charged, now)) for item in held], now)
    events.record(
        connection,
        now,
        Event(
            kind="challenge.approved",
            tenant=ctx.tenant,
            challenge_id=row.id,
            delivery_id=match.delivery_id,
            data={"channel": match.channel},
        ),
    )
    return now


def _use_step(connection: Connection, ctx: Context, attempt: _Attempt, step: int) -> bool:
    """One acceptance per time step, whichever challenge it is typed into (RFC 6238 5.2)."""
    factor, row = attempt.factor, attempt.challenge
    if factor is None or not factors.use_step(connection, factor.id, step):
        return False
    if row.subject_key is not None and row.kid == ctx.keyring.kid and not ctx.keyring.wrote(factor.sealed):
        # An app outlives every secret: what an older one wrote moves to the newest whenever the app is used.
        sealed = totp.sealed_anew(ctx.keyring, factor)
        factors.move(connection, factor.id, subject_key=row.subject_key, sealed=sealed)
    return True
