"""What the simulated provider did: calls it placed, messages it sent, requests it saw, reports it pushed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from otpvoice.simulator.hearing import heard_code
from otpvoice.types import Address, Text


class Outcome(StrEnum):
    """What becomes of a call."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    REJECTED = "rejected"
    INVALID_NUMBER = "invalid_number"
    BLOCKED = "blocked"
    VOICEMAIL = "voicemail"
    """Answered by a machine and cut short: the provider reports an answered call that talked for a moment."""
    CARRIER_FAILURE = "carrier_failure"

    @property
    def answered(self) -> bool:
        """Whether the provider reports the call as established."""
        return self in {Outcome.ANSWERED, Outcome.VOICEMAIL}


class MessageOutcome(StrEnum):
    """What becomes of a text message."""

    DELIVERED = "delivered"
    FAILED = "failed"
    PENDING = "pending"
    """Accepted, and never heard of again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When a call went through which stage, by the simulator's clock. A stage that was not reached is None.

    The stages are laid out from the submission on. With a pace of 0 the call is over at once all the same, so
    that its later stages lie in the future.
    """

    submitted: datetime
    called: datetime
    rang: datetime | None
    answered: datetime | None
    hung_up: datetime

    @property
    def ring_seconds(self) -> int:
        """How long it rang."""
        return 0 if self.rang is None else round(((self.answered or self.hung_up) - self.rang).total_seconds())

    @property
    def talk_seconds(self) -> int:
        """How long the line was open."""
        return 0 if self.answered is None else round((self.hung_up - self.answered).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCall:
    """One call that the simulator took. Its ``repr`` shows neither the number nor the text."""

    voice_id: str
    """19 or 20 digits; every other one is larger than 2^64, as the vendor's can be."""
    callee: Address
    """Digits only, as sent."""
    text: Text
    """What is spoken, once; it is played :attr:`loop_count` times."""
    language: str
    loop_count: int
    called_info: str
    app_id: str
    display_num: str | None
    parameters: Mapping[str, object] = field(repr=False)
    """The request's body as sent, unknown fields included."""
    at: datetime
    """When it was accepted, by the simulator's clock."""
    outcome: Outcome
    sip_code: int
    timeline: Timeline
    recalls: int
    """How many times it was dialled again."""
    rate: Decimal
    cost: Decimal
    charged_seconds: int
    ends_at: datetime
    """When its record appears and its report is due, by the simulator's clock."""

    @property
    def heard_code(self) -> str | None:
        """The digits that a person listening to the text writes down; None where there are none."""
        return heard_code(self.text, language=self.language)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMessage:
    """One text message to one number that the simulator took. Its ``repr`` shows neither number nor text."""

    msg_id: str
    number: Address
    content: Text
    app_id: str
    sender_id: str | None
    order_id: str | None
    at: datetime
    outcome: MessageOutcome
    segments: int
    """Charged parts: GSM-7 160 or 153 each, UCS-2 70 or 67 each (3GPP TS 23.038, 23.040)."""
    price: Decimal
    """Of one part."""

    @property
    def heard_code(self) -> str | None:
        """The code in the text; None where there is none."""
        return heard_code(self.content)

    @property
    def cost(self) -> Decimal:
        """Of all parts."""
        return self.price * self.segments


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRequest:
    """One HTTP request to the simulated API and how it ended. Holds no header, query or body."""

    method: str
    path: str
    """Without the prefix; ids are cut off: ``/voice/recordGroup``."""
    at: datetime
    http_status: int | None
    """None: the connection was dropped without an answer."""
    status: str | None
    """The envelope's ``status``; None where the answer was no envelope."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushAttempt:
    """One POST of a report to the customer's URL."""

    url: str = field(repr=False)
    body: str = field(repr=False)
    at: datetime
    http_status: int | None
    """None: no HTTP answer came."""

    @property
    def accepted(self) -> bool:
        """Whether the customer's server took it: any 2xx."""
        return self.http_status is not None and 200 <= self.http_status < 300
