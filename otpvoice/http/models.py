"""What requests and answers look like: strict in, complete out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from otpvoice.proof import Proof
from otpvoice.store.events import Event
from otpvoice.types import Challenge, ChallengeState, Delivery, DeliveryState, Medium

Short = Annotated[str, Field(min_length=1, max_length=64)]
Subject = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    """A request: no unknown members, no conversion of types (properties P45 and P88)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class BindingIn(Strict):
    """What else the proof is bound to: spoken to the person, fixed for the challenge."""

    amount: str | None = Field(default=None, max_length=24, description="A positive decimal: `10.50`.")
    currency: str | None = Field(default=None, max_length=3, description="ISO 4217: `EUR`.")
    payee: str | None = Field(default=None, max_length=70)
    reference: str | None = Field(default=None, max_length=512, description="Bound, but not spoken.")

    def members(self) -> dict[str, str]:
        """Those that were given."""
        return self.model_dump(exclude_none=True)


class ChallengeIn(Strict):
    """Open a challenge."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"recipient": "+84912345678", "purpose": "login", "subject": "alice"},
                {
                    "recipient": "+84912345678",
                    "purpose": "payment",
                    "locale": "vi-VN",
                    "binding": {"amount": "250000", "currency": "VND", "payee": "Lan"},
                },
            ]
        }
    )

    recipient: str | None = Field(
        default=None,
        min_length=1,
        max_length=254,
        description="A phone number in international form or a mailbox; left out for a subject with an app.",
    )
    purpose: Short = Field(description="Which policy rules it.")
    subject: Subject | None = Field(default=None, description="The account that the proof is for.")
    channel: Short | None = Field(default=None, description="A step of the purpose's route; else its first.")
    locale: str | None = Field(default=None, max_length=35, description="BCP-47: `vi-VN`.")
    binding: BindingIn | None = None
    client: Subject | None = Field(default=None, description="The person's address or device, for a limit on it.")


class VerifyIn(Strict):
    """Check what a person typed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "482913", "subject": "alice"}]})

    code: str = Field(min_length=1, max_length=64, description="As it was typed: text, not a number.")
    purpose: Short | None = Field(default=None, description="Must be the challenge's, where given.")
    subject: Subject | None = Field(default=None, description="Must be the challenge's, where given.")
    binding: BindingIn | None = Field(default=None, description="Must be the challenge's, where given.")


class ResendIn(Strict):
    """Send a fresh code."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"channel": "voice"}]})

    channel: Short | None = Field(default=None, description="A step of the route; else the next one.")


class Nothing(Strict):
    """An empty object."""


class FactorIn(Strict):
    """Enrol an authenticator app."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"subject": "alice", "account": "alice@example.org"}]})

    subject: Subject
    account: Subject | None = Field(default=None, description="What the app shows; else the subject.")


class ConfirmIn(Strict):
    """A first code of the app."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"subject": "alice", "code": "123456"}]})

    subject: Subject
    code: str = Field(min_length=1, max_length=64)


class SubjectIn(Strict):
    """Whose authenticator app."""

    subject: Subject


class RedeemIn(Strict):
    """Use up a proof; what else is given must be what was proved."""

    proof: str = Field(min_length=1, max_length=4096)
    purpose: Short | None = None
    subject: Subject | None = None
    recipient: str | None = Field(default=None, min_length=1, max_length=254)
    binding: BindingIn | None = None


class ClockIn(Strict):
    """A test tenant's time."""

    ahead: int = Field(ge=0, le=3650 * 86400, description="Seconds before the real time.")


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


class DeliveryOut(Out):
    """One sending of one code."""

    id: str
    channel: str
    medium: Medium
    state: DeliveryState
    reason: str | None = None
    used: bool = False
    created_at: datetime
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """All that a holder may know."""
        return cls(**{name: getattr(delivery, name) for name in cls.model_fields})


class ChallengeOut(Out):
    """A challenge, as its holder may see it."""

    id: str = Field(examples=["ch_0123456789abcdef0123456789abcdef"])
    state: ChallengeState
    purpose: str = Field(examples=["login"])
    recipient: str | None = Field(description="Masked.", examples=["+84•••••••78"])
    created_at: datetime
    expires_at: datetime
    attempts_left: int
    sends_left: int
    resend_at: datetime | None = Field(description="When a resend is allowed; null: no more.")
    next_step: str | None = Field(description="The channel that a resend takes.")
    channel: str | None = Field(default=None, description="The channel taken.")
    medium: Medium | None = None
    closed_at: datetime | None = None
    deliveries: list[DeliveryOut] | None = Field(default=None, description="Oldest first; only when looked at.")

    @classmethod
    def of(cls, challenge: Challenge, *, whole: bool) -> Self:
        """``whole`` tells what became of its deliveries.

        The answers to opening and resending do not: they are alike whether or not a provider took the message, and
        so say nothing about the recipient (property P82).
        """
        newest = challenge.delivery
        return cls(
            id=challenge.id,
            state=challenge.state,
            purpose=challenge.purpose,
            recipient=challenge.recipient,
            created_at=challenge.created_at,
            expires_at=challenge.expires_at,
            attempts_left=challenge.attempts_left,
            sends_left=challenge.sends_left,
            resend_at=challenge.resend_at,
            next_step=challenge.next_step,
            channel=None if newest is None else newest.channel,
            medium=None if newest is None else newest.medium,
            closed_at=challenge.closed_at,
            deliveries=[DeliveryOut.of(item) for item in challenge.deliveries] if whole else None,
        )


class NextOut(Out):
    """What the holder of an open challenge may do next."""

    resend_at: datetime | None
    next_step: str | None


class VerifiedOut(Out):
    """A success. Act on the proof, not on the status."""

    state: Literal["approved"] = "approved"
    challenge_id: str
    purpose: str
    channel: str
    medium: Medium
    approved_at: datetime
    proof: str = Field(description="A signed, single-use proof: verify it, and redeem it.")
    proof_expires_at: datetime


class EventOut(Out):
    """One line of a challenge's story."""

    id: int
    at: datetime
    kind: str
    delivery_id: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """Holds no secret: nothing in the audit does."""
        assert event.id is not None
        assert event.at is not None
        return cls(id=event.id, at=event.at, kind=event.kind, delivery_id=event.delivery_id, data=dict(event.data))


class EventsOut(Out):
    """A challenge's story."""

    events: list[EventOut]


class FactorOut(Out):
    """What the person's app needs: shown once, kept nowhere."""

    factor_id: str
    secret: str
    provisioning_uri: str


class ConfirmedOut(Out):
    """The factor counts from here on."""

    factor_id: str
    state: Literal["confirmed"] = "confirmed"


class RemovedOut(Out):
    """How many factors there were."""

    removed: int


class ProofOut(Out):
    """What a redeemed proof says."""

    id: str
    challenge_id: str
    audience: str
    purpose: str
    subject: str | None
    recipient_key: str | None
    binding_hash: str | None
    channel: str
    medium: Medium
    issued_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, proof: Proof) -> Self:
        """All of it."""
        return cls(**{name: getattr(proof, name) for name in cls.model_fields})


class ClockOut(Out):
    """A test tenant's time."""

    ahead: int
    now: datetime


class ReceivedOut(Out):
    """What a provider's push brought."""

    reports: int
    news: int


class StatusOut(Out):
    """How this process is."""

    status: Literal["ok", "stopping", "unavailable"]


class Wrong(Out):
    """One member that is not valid."""

    where: str
    what: str


class ProblemOut(Out):
    """An RFC 9457 problem."""

    type: str = Field(examples=["urn:otpvoice:problem:verification-failed"])
    title: str
    status: int
    detail: str | None = None
    retry_after: int | None = Field(default=None, description="Seconds.")
    attempts_left: int | None = None
    resend_at: datetime | None = None
    next_step: str | None = None
    errors: list[Wrong] | None = None
