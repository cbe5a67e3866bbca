"""What a channel is: one provider, one medium, one class.

A channel that speaks HTTP subclasses :class:`HttpChannel` and writes one method, :meth:`HttpChannel.exchange`: a
generator that yields requests, receives responses, and returns a :class:`Receipt` or raises a
:class:`~otpvoice.errors.DeliveryError`. It is tested with ``next()`` and ``send()``, no sockets. A channel that
speaks anything else writes :meth:`Channel.deliver`.

To be found by name, a class is listed in the entry-point group ``otpvoice.channels``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Self, TypeAlias, TypeVar

import httpx

from otpvoice.errors import ContentRejected, DeliveryError, InvalidRequest
from otpvoice.flow import Exchange, Flow
from otpvoice.types import Capabilities, Code, DeliveryState, Medium, Recipient, Text

T = TypeVar("T")

_NUMBER = re.compile(r"\+?[0-9]{7,15}")
"""A number with its country code, as every provider takes it (ITU-T E.164: at most 15 digits)."""

HttpDialogue: TypeAlias = Generator[httpx.Request, httpx.Response, T]
"""Yields requests, receives responses: what an HTTP channel's methods are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One code on its way to one person. Its ``repr`` shows neither the code, the text nor the number."""

    delivery_id: str
    """Given to the provider to echo, so that an unknown outcome can be looked up."""
    challenge_id: str
    purpose: str
    recipient: Recipient
    code: Code
    text: Text
    """What is spoken or written, complete."""
    title: str = ""
    """E-mail: the subject line. It never holds the code."""
    locale: str
    """BCP-47 tag of the text."""
    language: str | None = None
    """The provider's own code for that language, from :attr:`Capabilities.languages`."""
    repeats: int = 1
    """How many times the provider is to play the text."""
    play_seconds: float | None = None
    """Voice: how long one play is expected to take; None where nobody computed it."""
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The provider's acceptance. Accepted is not delivered."""

    reference: str | None = None
    """The provider's id of the message, as text: some are larger than 64 bits."""
    delivered: bool = False
    """True only where handing over is delivery (a console, a test's memory)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The provider's later word about one delivery. It can change what is known of the delivery, nothing else.

    It names the delivery by the id that we gave the provider to echo, by the provider's own id, or by both.
    """

    delivery_id: str | None = None
    reference: str | None = None
    state: DeliveryState
    """``DELIVERED`` (answered, handed to the phone), ``FAILED``, or ``ACCEPTED`` while it is under way."""
    reason: str | None = None
    """Normalised: one of :data:`REASONS`; None for a plain success."""
    provider_code: str | None = None
    """The provider's own code for it, raw."""
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    price: Decimal | None = None
    currency: str | None = None
    """ISO 4217; None where the provider does not say."""


REASONS = frozenset(
    {
        "no_answer",
        "busy",
        "rejected",
        "invalid_number",
        "blocked",
        "unreachable",
        "carrier_failure",
        "content_rejected",
        "no_balance",
        "voicemail_suspected",
        "expired",
        "not_received",
        "failed",
    }
)
"""Words for what became of a delivery. ``voicemail_suspected`` goes with ``DELIVERED``: answered, and cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """A provider's request to our report URL, as it came: nothing in it is trusted yet."""

    method: str
    url: str
    """The whole URL as the provider called it: some sign it."""
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)
    remote: str | None = None
    """The sender's address, through trusted proxies only."""


class ReportRejected(Exception):
    """A report that is not authentic (``authentic=False``) or cannot be read. Its message may be logged."""

    def __init__(self, message: str, *, authentic: bool = True) -> None:
        super().__init__(message)
        self.authentic = authentic


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A delivery as a provider can be asked about it."""

    delivery_id: str
    reference: str | None
    """The provider's id; None when its answer never came."""
    recipient: Recipient | None
    sent_at: datetime
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of ``otpvoice doctor`` about a channel."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class Channel(ABC):
    """One medium through one provider. Instances hold settings only: they are shared by threads and tasks."""

    provider: ClassVar[str]
    """The provider's name, lower case: ``itnio``."""
    medium: Medium
    """Set on the class, or on the instance where one class serves several."""

    def __init__(self, name: str) -> None:
        self.name = name
        """What routes call it: ``voice``."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this channel can carry."""

    @classmethod
    @abstractmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table of the configuration file.

        Raises :class:`~otpvoice.errors.ConfigurationError` naming every missing, unknown or wrong key.
        """

    @abstractmethod
    def deliver(self, message: Message) -> Flow[Receipt]:
        """Hand the message to the provider. Raises :class:`~otpvoice.errors.DeliveryError`."""

    def probe(self) -> Flow[Sequence[Finding]]:
        """Ask the provider, at no cost, whether the settings work: credentials, clock, balance."""
        return ()
        yield  # An empty flow: most channels have nothing to ask.

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What a provider's push says, authenticated as well as the provider allows.

        One push may carry several reports. Raises :class:`ReportRejected`. Order and repetition are the caller's
        matter: this only reads.
        """
        raise ReportRejected(f"channel {self.name!r} takes no reports", authentic=False)

    def confirm(self, report: Report) -> Flow[Report | None]:
        """What of a pushed report is to be believed: all of it, unless the channel asks the provider first.

        None: nothing of it. Raises no :class:`~otpvoice.errors.DeliveryError`: a provider that does not answer has
        confirmed nothing.
        """
        return report
        yield  # An empty flow, as above.

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        """Ask the provider what became of a delivery; None: it does not know of it, or not yet.

        Only called where :attr:`Capabilities.look_ups` says that it can be asked. Raises
        :class:`~otpvoice.errors.DeliveryError` when the provider does not answer.
        """
        return None
        yield  # An empty flow, as above.

    def check(self, message: Message) -> None:
        """Raise :class:`~otpvoice.errors.ContentRejected` for what :attr:`capabilities` cannot carry.

        Raises :class:`~otpvoice.errors.InvalidRequest` for a recipient of the other kind, and for a number that is
        not 7 to 15 digits. Called before anything is sent, so that nothing is dropped or cut silently.
        """
        if (message.recipient.kind == "email") != (self.medium is Medium.EMAIL):
            raise InvalidRequest(f"channel {self.name!r} ({self.medium}) cannot reach {message.recipient.hint}")
        if self.medium is not Medium.EMAIL and _NUMBER.fullmatch(message.recipient.address) is None:
            raise InvalidRequest(f"channel {self.name!r} ({self.medium}) reaches numbers of 7 to 15 digits")
        limit = self.capabilities.text_limit(message.language)
        if limit is not None and len(message.text) > limit:
            raise ContentRejected(
                f"the text has {len(message.text)} characters, {self.provider} takes {limit}",
                provider=self.provider,
            )
        languages = self.capabilities.languages
        if languages is not None and message.language not in languages.values():
            raise ContentRejected(
                f"{self.provider} does not speak {message.language or message.locale!r}", provider=self.provider
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class HttpChannel(Channel):
    """A channel whose provider is asked over HTTP."""

    @abstractmethod
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Yield the requests that hand the message over, receive the responses, return the receipt.

        The runner raises :class:`~otpvoice.errors.ProviderUnavailable` at the ``yield`` when a request cannot have
        left, and :class:`~otpvoice.errors.OutcomeUnknown` when it may have.
        """

    def deliver(self, message: Message) -> Flow[Receipt]:
        """Drive :meth:`exchange`."""
        try:
            return (yield from dialogue(self.exchange(message)))
        except DeliveryError as error:
            error.provider = error.provider or self.provider  # A runner does not know whom it speaks to.
            raise


def dialogue(requests: HttpDialogue[T]) -> Flow[T]:
    """Turn a generator of requests into a flow of :class:`~otpvoice.flow.Exchange` steps."""
    try:
        request = next(requests)
        while True:
            try:
                response: httpx.Response = yield Exchange(request)
            except Exception as error:  # The channel may know better than its caller what an error means.
                request = requests.throw(error)
            else:
                request = requests.send(response)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        requests.close()  # Abandoned with the flow, not whenever it is collected.
