"""Authenticator-app codes (TOTP, RFC 6238): a second kind of factor under the same verifier, ledger and lockout."""

from __future__ import annotations

import hmac
import io
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import pyotp

from otpvoice import codes, inputs
from otpvoice.context import Context, new_id
from otpvoice.errors import CodeMismatch, ConfigurationError, InvalidRequest, OTPVoiceError, UnknownFactor
from otpvoice.flow import Flow, transact
from otpvoice.keys import Keyring
from otpvoice.store import events, factors
from otpvoice.store.events import Event
from otpvoice.store.factors import FactorRow
from otpvoice.types import Code, Masked

if TYPE_CHECKING:
    from sqlalchemy import Connection

DIGITS = 6
PERIOD = 30
"""Seconds in a time step."""
WINDOW = 3
"""Codes that are right at any moment: the current step's and its two neighbours' (±30 s). Each counts as a guess."""
MAX_CONFIRMATIONS = 5
_NEVER = -1
_FACTOR_ID = re.compile(r"fa_[0-9a-f]{32}")


class TotpSecret(Masked):
    """The shared secret, base32; shown once, to be scanned or typed into the app."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpEnrollment:
    """What the person's app needs, once. Show it over a channel you trust and keep none of it."""

    factor_id: str
    secret: TotpSecret
    provisioning_uri: Masked
    """``otpauth://totp/…`` (Key URI Format), what a QR code for the app holds."""

    def qr(self) -> str:
        """The provisioning URI as a QR code for a terminal. Needs ``otpvoice[cli]`` (segno)."""
        try:
            import segno
        except ModuleNotFoundError:
            raise ConfigurationError("a QR code needs segno: pip install 'otpvoice[cli]'") from None
        drawn = io.StringIO()
        segno.make(str(self.provisioning_uri)).terminal(drawn, compact=True)
        return drawn.getvalue()


def enroll(ctx: Context, subject: str, *, account: str | None = None) -> Flow[TotpEnrollment]:
    """Make a factor that counts once it is confirmed. See :meth:`otpvoice.OTPService.enroll_totp`."""
    owner = _owner(subject)
    secret = pyotp.random_base32()
    issuer = ctx.brand or "otpvoice"
    uri = pyotp.TOTP(secret, digits=DIGITS, interval=PERIOD).provisioning_uri(
        name=inputs.subject(account) or owner, issuer_name=issuer
    )
    factor_id = new_id("fa")

    def store(connection: Connection, now: datetime) -> None:
        row = FactorRow(
            id=factor_id,
            tenant=ctx.tenant,
            subject_key=_keys(ctx, owner)[0],
            state="unconfirmed",
            sealed=ctx.keyring.seal(secret.encode(), context=_context(factor_id)),
            last_step=_NEVER,
            attempts=0,
            created_at=now,
            confirmed_at=None,
        )
        factors.add(connection, row)
        events.record(connection, now, Event(kind="totp.enrolled", tenant=ctx.tenant, data={"factor": factor_id}))

    yield from transact(store)
    return TotpEnrollment(factor_id=factor_id, secret=TotpSecret(secret), provisioning_uri=Masked(uri))


def confirm(ctx: Context, factor_id: str, code: str, *, subject: str) -> Flow[None]:
    """Prove that the app holds the secret. See :meth:`otpvoice.OTPService.confirm_totp`."""
    owner = _owner(subject)
    typed = codes.normalise(inputs.code(code))

    def claim(connection: Connection, now: datetime) -> tuple[FactorRow | None, datetime]:
        # Somebody else's factor is no factor, and costs its owner no try.
        keys = _keys(ctx, owner)
        return factors.claim_confirmation(connection, ctx.tenant, factor_id, keys, most=MAX_CONFIRMATIONS), now

    def accept(connection: Connection, now: datetime, *, row: FactorRow, step: int) -> OTPVoiceError | None:
        if not factors.confirm(connection, row, _keys(ctx, owner), step=step, now=now):
            return UnknownFactor("this factor is confirmed already")
        events.record(connection, now, Event(kind="totp.confirmed", tenant=ctx.tenant, data={"factor": row.id}))
        return None

    if not isinstance(factor_id, str):
        raise InvalidRequest(f"the factor id is a str, not {type(factor_id).__name__}")
    row, at = (yield from transact(claim)) if _FACTOR_ID.fullmatch(factor_id) else (None, None)
    if row is None or at is None:
        raise UnknownFactor("no factor waits to be confirmed under that id; enroll again")
    step = None if typed is None else matching_step(ctx.keyring, row, typed, at)
    if step is None:
        raise CodeMismatch(max(0, MAX_CONFIRMATIONS - row.attempts))
    refused = yield from transact(partial(accept, row=row, step=step))
    if refused is not None:
        raise refused


def remove(ctx: Context, subject: str) -> Flow[int]:
    """Forget a subject's authenticator app. See :meth:`otpvoice.OTPService.remove_totp`."""
    owner = _owner(subject)

    def forget(connection: Connection, now: datetime) -> int:
        removed = factors.remove(connection, ctx.tenant, _keys(ctx, owner))
        if removed:
            events.record(connection, now, Event(kind="totp.removed", tenant=ctx.tenant))
        return removed

    return (yield from transact(forget))


def matching_step(keyring: Keyring, row: FactorRow, typed: Code, at: datetime) -> int | None:
    """The time step whose code this is: the current one or a neighbour, and newer than any accepted before."""
    secret = keyring.unseal(row.sealed, context=_context(row.id)).decode()
    app = pyotp.TOTP(secret, digits=DIGITS, interval=PERIOD)
    current = int(at.timestamp()) // PERIOD
    found = None
    for step in (current - 1, current, current + 1):
        if hmac.compare_digest(app.generate_otp(step).encode(), typed.encode()) and step > row.last_step:
            found = step
    return found


def sealed_anew(keyring: Keyring, row: FactorRow) -> bytes:
    """The factor's secret, sealed with the key that writes now."""
    context = _context(row.id)
    return keyring.seal(keyring.unseal(row.sealed, context=context), context=context)


def _context(factor_id: str) -> str:
    return f"totp:{factor_id}"


def _owner(subject: str) -> str:
    owner = inputs.subject(subject)
    if owner is None:
        raise InvalidRequest("an authenticator app belongs to a subject: give one")
    return owner


def _keys(ctx: Context, subject: str) -> tuple[str, ...]:
    return ctx.keyring.index("subject", f"{ctx.tenant}:{subject}")
