"""The values that cross otpvoice's borders: frozen, and silent about secrets when printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self


class Masked(str):
    """A ``str`` whose ``repr`` shows nothing: it cannot slip into a log through a dataclass or a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}('••••••')"


class Code(Masked):
    """A one-time code, ASCII digits, leading zeros kept. A ``str`` from end to end (property P3)."""

    __slots__ = ()


class Address(Masked):
    """A full recipient: an E.164 number (``+84912345678``) or an addr-spec (``me@example.org``)."""

    __slots__ = ()


class Text(Masked):
    """What a channel says or writes; it contains the code."""

    __slots__ = ()


class Medium(StrEnum):
    """How a person receives a code."""

    VOICE = "voice"
    SMS = "sms"
    EMAIL = "email"
    APP = "app"
    """An authenticator app: nothing is sent."""


class ChallengeState(StrEnum):
    """``pending`` is the only state that takes attempts; the others are final."""

    PENDING = "pending"
    APPROVED = "approved"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


class DeliveryState(StrEnum):
    """What became of one sending. *Accepted is not delivered*, and *answered is not heard*."""

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A parsed phone number or mailbox. Made by :func:`otpvoice.recipients.parse`, never by hand."""

    address: Address
    kind: str
    """``phone`` or ``email``."""
    hint: str
    """Masked, for people: ``+84••••••78``, ``m•••@example.org``."""
    region: str | None = None
    """ISO 3166-1 alpha-2 of a phone number (``VN``), None for mailboxes and non-geographic numbers."""
    number_class: str | None = None
    """libphonenumber's class in lower case: ``mobile``, ``fixed_line``, ``premium_rate``, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a channel can carry, as data. A message beyond it raises before anything is sent."""

    medium: Medium
    languages: Mapping[str, str] | None = None
    """Voice: BCP-47 tag → the provider's own language code. None: the provider takes any text."""
    max_text: int | None = None
    """Longest text in code points; None: no limit known."""
    max_text_by_language: Mapping[str, int] = field(default_factory=dict)
    """Tighter limits, by the provider's language code."""
    max_repeats: int = 1
    """How many times the provider itself can play a text (ITNIO ``loopCount``)."""
    max_seconds: int | None = None
    """The longest call in seconds, after which the provider hangs up (ITNIO ``maxDuration``)."""
    reports: bool = False
    """Whether the provider says later, by a push, what became of a delivery."""
    look_ups: bool = False
    """Whether the provider can be asked what became of a delivery, also of one whose answer never came."""
    poll_after: timedelta | None = None
    """When to ask about an accepted delivery that no push has reported on; None: never."""
    recorded_within: timedelta | None = None
    """How long a delivery that the provider took can be missing from its records; None: at most a minute."""

    def text_limit(self, language: str | None) -> int | None:
        """The longest text in code points for the provider's language code."""
        return self.max_text_by_language.get(language or "", self.max_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What else the proof is bound to, shown to the person and fixed for the challenge (PSD2 RTS Art. 5).

    ``amount`` is a decimal as text (``"10.50"``), ``currency`` an ISO 4217 code, ``payee`` a name of up to 70
    characters. ``reference`` is bound but not spoken: a session, an order, a document's hash.
    """

    amount: str | None = None
    currency: str | None = None
    payee: str | None = None
    reference: str | None = None

    def as_dict(self) -> dict[str, str]:
        """The members that are set."""
        pairs = {
            "amount": self.amount,
            "currency": self.currency,
            "payee": self.payee,
            "reference": self.reference,
        }
        return {key: value for key, value in pairs.items() if value is not None}

    @classmethod
    def from_dict(cls, members: Mapping[str, str]) -> Self:
        """The reverse of :meth:`as_dict`. Unknown members raise ``TypeError``."""
        return cls(**members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One sending of one code."""

    id: str
    channel: str
    """The name the route knows it by: ``voice``."""
    provider: str
    """Who carries it: ``itnio``."""
    medium: Medium
    step: int
    """The place of its step in the route, from 0."""
    state: DeliveryState
    reason: str | None = None
    """Why it failed, normalised: ``no_balance``, ``unavailable``, ``busy``, …"""
    provider_code: str | None = None
    """The provider's own code for it, raw."""
    reference: str | None = None
    """The provider's id of it, as text."""
    cause: str | None = None
    """Why its step was taken: ``asked``, ``refused``, ``failed``, ``no_report``, ``timer``; None for the first."""
    created_at: datetime
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    reported_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    price: str | None = None
    """What the provider says it cost, a decimal as text."""
    currency: str | None = None
    used: bool = False
    """Whether it was this delivery's code that was typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One request to prove control of a recipient, as its holder may see it."""

    id: str
    """128 random bits: what ``verify_code`` is called with. Keep it in the session that asked."""
    purpose: str
    recipient: str | None
    """Masked: ``+84••••••78``. None where only an authenticator app is asked."""
    state: ChallengeState
    created_at: datetime
    expires_at: datetime
    attempts_left: int
    sends_left: int
    resend_at: datetime | None
    """When ``resend_code`` is allowed; None: no more sends for this challenge."""
    next_step: str | None
    """The channel that ``resend_code`` would take."""
    delivery: Delivery | None
    """The newest delivery; None where nothing is sent (authenticator app)."""
    deliveries: tuple[Delivery, ...] = ()
    """All of them, oldest first."""
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Proof, in this process, that the code was right. It is only ever returned on success.

    It shows possession of the recipient and nothing more: by itself it is one factor, not multi-factor
    authentication (PCI DSS 8.5.1; property P96).
    """

    challenge_id: str
    purpose: str
    recipient: Address | None
    """The full recipient; its ``repr`` is masked."""
    subject: str | None
    binding: Binding | None
    """What was bound when the challenge was opened: act on this, not on what the browser sent."""
    channel: str
    """Which channel's code was typed."""
    medium: Medium
    delivery_id: str | None
    approved_at: datetime
