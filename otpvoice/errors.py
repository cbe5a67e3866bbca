"""Everything otpvoice raises.

The tree::

    OTPVoiceError
    ├── ConfigurationError            the installation is wrong; nothing starts
    │   ├── WeakSecret                OTPVOICE_SECRET is missing, short or a placeholder
    │   └── SchemaMismatch            the database is of another revision
    ├── InvalidRequest (ValueError)   the caller's input is wrong; nothing was charged or sent
    │   ├── InvalidRecipient          not one valid phone number or mailbox
    │   ├── UnknownPurpose            no policy has that name
    │   ├── UnknownChannel            no such channel, or the policy does not allow it here
    │   └── UnknownFactor             no such authenticator-app factor, or not in that state
    ├── Refused                       well-formed, but not now or not to that number
    │   ├── RateLimited               a send limit or the cooldown; says when to come back
    │   ├── LockedOut                 too many failures; says when to come back
    │   └── RecipientDenied           the policy does not call such numbers
    ├── VerificationFailed            what was typed does not verify
    │   ├── CodeMismatch              not the code; says how many attempts are left
    │   │   └── MalformedCode         cannot be a code at all; no attempt was spent
    │   ├── ChallengeClosed           expired, used, cancelled, exhausted or unknown
    │   └── ProofRejected             a proof that is forged, expired, redeemed or somebody else's
    ├── ServiceBusy                   the hashing queue is full; nothing was charged
    │   └── StoreUnavailable          the database did not answer; nothing is known to be charged
    └── DeliveryError                 the provider did not take the message
        ├── ProviderMisconfigured     credentials, caller id or parameters: an alarm
        ├── ProviderUnavailable       the provider is down or unreachable: safe to retry
        │   └── ProviderThrottled     it asked us to slow down: retry later
        ├── NoBalance                 the account has no money: an alarm
        ├── RecipientRejected         no such subscriber: no other provider will do better
        ├── ContentRejected           the text was refused
        └── OutcomeUnknown            it may be ringing: ask the provider before sending again

No message, argument or ``repr`` of these holds a code, a full recipient, a tag or a secret.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from otpvoice.types import Challenge


def seconds(span: timedelta) -> str:
    """A span for people: ``45 s``, ``12 min``, ``3 h``; rounded up, so that waiting it out suffices."""
    whole = max(1, -int(-span.total_seconds() // 1))
    if whole < 120:
        return f"{whole} s"
    return f"{-(-whole // 60)} min" if whole < 7200 else f"{-(-whole // 3600)} h"


class OTPVoiceError(Exception):
    """The base of every error that otpvoice raises on purpose."""


class ConfigurationError(OTPVoiceError):
    """The installation is wrong. The message names the setting and the remedy."""


class WeakSecret(ConfigurationError):
    """``OTPVOICE_SECRET`` is missing, too short, too plain or a known placeholder."""


class SchemaMismatch(ConfigurationError):
    """The database is at a revision that this version of otpvoice does not know or not yet has."""


class InvalidRequest(OTPVoiceError, ValueError):
    """The caller's input is wrong. Nothing was charged, stored or sent."""


class InvalidRecipient(InvalidRequest):
    """Not exactly one valid phone number (ITU-T E.164) or mailbox (RFC 5322 addr-spec)."""


class UnknownPurpose(InvalidRequest):
    """No policy has that name."""


class UnknownChannel(InvalidRequest):
    """No such channel is configured, or the purpose's route does not allow it."""


class UnknownFactor(InvalidRequest):
    """No such authenticator-app factor for that subject, or it is not in the state asked for."""


class Refused(OTPVoiceError):
    """Well-formed, but refused: not now, or not to that recipient."""


class _ComesBack(OTPVoiceError):
    """Shared by what a caller may try again later."""

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """How long to wait, at the least, before the same request can succeed."""


class RateLimited(_ComesBack, Refused):
    """A limit on sending was reached. Nothing was sent; :attr:`retry_after` says when to come back."""

    def __init__(self, limit: str, *, retry_after: timedelta) -> None:
        super().__init__(f"{limit}; try again in {seconds(retry_after)}", retry_after=retry_after)
        self.limit = limit
        """Which limit, in words: ``"5 sends a challenge"``."""


class LockedOut(_ComesBack, Refused):
    """Too many failed attempts for this recipient and purpose (PCI DSS 8.3.4, NIST SP 800-63B 3.2.2)."""

    def __init__(self, *, retry_after: timedelta) -> None:
        super().__init__(
            f"locked after too many failed attempts; try again in {seconds(retry_after)}",
            retry_after=retry_after,
        )


class RecipientDenied(Refused):
    """The policy does not send to such numbers (premium rate, satellite, a country not on the list)."""


class VerificationFailed(OTPVoiceError):
    """What was typed does not verify."""


class CodeMismatch(VerificationFailed):
    """Not the code. The attempt was spent before the comparison."""

    def __init__(self, attempts_left: int) -> None:
        plural = "attempt" if attempts_left == 1 else "attempts"
        super().__init__(f"that is not the code; {attempts_left} {plural} left")
        self.attempts_left = attempts_left
        """How many more attempts this challenge takes, 0 or more."""
        self.after: Challenge | None = None
        """The challenge as this attempt left it, without its deliveries, where it was read for the comparison."""


class MalformedCode(CodeMismatch):
    """What was typed cannot be a code of this challenge (length, characters). No attempt was spent."""


class ChallengeClosed(VerificationFailed):
    """The challenge takes no attempts: expired, approved, cancelled, exhausted or unknown.

    The message does not say which, so that it can be shown to anybody.
    """

    def __init__(self, reason: str = "unknown") -> None:
        super().__init__("this challenge is closed; ask for a new code")
        self.reason = reason
        """For logs and for the holder: ``approved``, ``expired``, ``exhausted``, ``cancelled`` or ``unknown``."""


class ProofRejected(VerificationFailed):
    """A proof that does not count: forged, expired, redeemed already, or for something else. It does not say which."""

    def __init__(self) -> None:
        super().__init__("that proof does not count")


class ServiceBusy(_ComesBack):
    """No room to hash right now. Nothing was charged; :attr:`retry_after` says when to come back."""

    def __init__(
        self, message: str = "too many verifications at once", *, retry_after: timedelta = timedelta(seconds=1)
    ) -> None:
        super().__init__(f"{message}; try again in {seconds(retry_after)}", retry_after=retry_after)


class StoreUnavailable(ServiceBusy):
    """The database is away, locked, read-only or full. otpvoice fails closed: nothing is approved or sent."""


class DeliveryError(OTPVoiceError):
    """The provider did not take the message; the class says what may follow.

    ``provider`` and ``code`` are the provider's name and its raw code. The provider's own text is never part of
    the message: it may echo what was sent.
    """

    reason: ClassVar[str] = "failed"
    """The normalised word that is stored with the delivery."""
    retryable: ClassVar[bool] = False
    """Whether the same step may be tried again."""

    def __init__(self, message: str, *, provider: str = "", code: str = "") -> None:
        super().__init__(message)
        self.provider = provider
        self.code = code
        self.challenge: Challenge | None = None
        """The challenge that stays open, where one was opened: ``resend_code`` may try again."""


class ProviderMisconfigured(DeliveryError):
    """Credentials, permissions, caller id or parameters are wrong: no retry helps, a person must look."""

    reason = "misconfigured"


class ProviderUnavailable(DeliveryError):
    """The provider failed before taking the message, or could not be reached: safe to retry."""

    reason = "unavailable"
    retryable = True


class ProviderThrottled(ProviderUnavailable):
    """The provider asked us to slow down. ``retry_after`` is its word or our guess."""

    reason = "throttled"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        code: str = "",
        retry_after: timedelta = timedelta(seconds=30),
    ) -> None:
        super().__init__(message, provider=provider, code=code)
        self.retry_after = retry_after


class NoBalance(DeliveryError):
    """The account at the provider has no money left."""

    reason = "no_balance"


class RecipientRejected(DeliveryError):
    """The number is not a subscriber's or may not be called: no other provider will do better."""

    reason = "recipient_rejected"


class ContentRejected(DeliveryError):
    """The provider refused the text or its language."""

    reason = "content_rejected"


class OutcomeUnknown(DeliveryError):
    """The request may have left: the call may be ringing. Ask the provider before sending again."""

    reason = "outcome_unknown"
