"""Twilio SMS: ``POST /Messages.json`` hands over one text message.

Vendor page: twilio.com/docs/messaging/api/message-resource. There is no idempotency key and no field for an id of
ours: the delivery's id travels in the URL of its status callback, which Twilio signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from otpvoice.channels import rules
from otpvoice.channels.base import (
    Finding,
    HttpChannel,
    HttpDialogue,
    Inquiry,
    Message,
    Receipt,
    Report,
    ReportRequest,
    dialogue,
)
from otpvoice.channels.rules import Rule, Unfit
from otpvoice.channels.settings import rule
from otpvoice.channels.twilio_api import PROVIDER, TwilioAPI, TwilioSettings, callback_url, read_callback, sid
from otpvoice.channels.twilio_probe import probe
from otpvoice.channels.twilio_records import fetched_message, pushed_message, search
from otpvoice.channels.twilio_status import MESSAGE_REASONS, MESSAGE_STATES
from otpvoice.channels.vendor_fields import number
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import DeliveryError
from otpvoice.flow import Flow
from otpvoice.types import Address, Capabilities, DeliveryState, Medium

LONGEST_TEXT = 1600
POLL_AFTER = timedelta(seconds=60)
"""When to ask about a message that no callback has told of: those that arrive do so within seconds."""


def _sender() -> Rule[str]:
    """A number (``+`` is put before it), a short code, or a name of up to 11 letters, digits and spaces."""

    def check(value: object) -> str:
        plain = rules.text()(value)
        if re.fullmatch(r"\+?[0-9]{7,15}", plain):
            return f"+{plain.removeprefix('+')}"
        if re.fullmatch(r"[0-9]{3,6}|(?=.*[A-Za-z])[A-Za-z0-9 _+&-]{1,11}", plain) is None:
            raise Unfit("must be a number with the country code, a short code, or a name of up to 11 characters")
        return plain

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioSMSSettings(TwilioSettings):
    """The account, and who writes."""

    sender: str | None = field(default=None, metadata=rule(_sender()))
    """A number or short code of the account, or an alphanumeric name where the country allows one."""
    messaging_service_sid: str | None = field(default=None, metadata=rule(sid("MG")))
    """A messaging service, which chooses the sender, in its place."""

    def contradictions(self) -> Iterable[str]:
        """A message has one sender."""
        yield from super(TwilioSMSSettings, self).contradictions()
        if self.sender is None and self.messaging_service_sid is None:
            yield "sender is missing (or messaging_service_sid)"
        elif self.sender is not None and self.messaging_service_sid is not None:
            yield "sender and messaging_service_sid exclude each other"


class TwilioSMS(HttpChannel):
    """Writes a code to a person in a text message through Twilio."""

    provider = PROVIDER
    medium = Medium.SMS

    def __init__(self, name: str, settings: TwilioSMSSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self._clock = clock or SystemClock()
        self._api = TwilioAPI(settings, self._clock)
        poll = POLL_AFTER if settings.poll_after is None else timedelta(seconds=settings.poll_after)
        self._capabilities = Capabilities(
            medium=Medium.SMS, max_text=LONGEST_TEXT, reports=True, look_ups=True, poll_after=poll
        )

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`TwilioSMSSettings`."""
        return cls(name, TwilioSMSSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """Any language, up to 1600 characters."""
        return self._capabilities

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Hand the message over; the receipt's reference is its SID.

        A message that is made and has failed already raises a :class:`~otpvoice.errors.DeliveryError`.
        """
        self.check(message)
        made = yield from self._api.create("Messages", self._fields(message))
        if MESSAGE_STATES.get(str(made.get("status"))) is DeliveryState.FAILED:
            code = number(made.get("error_code"))
            known = "" if code not in MESSAGE_REASONS else str(code)
            raise DeliveryError(f"{PROVIDER}: the message was made and has failed", provider=PROVIDER, code=known)
        return Receipt(reference=made["sid"])

    def _fields(self, message: Message) -> list[tuple[str, str]]:
        settings = self.settings
        fields = {
            "To": Address(f"+{message.recipient.address.removeprefix('+')}"),
            "From": settings.sender,
            "MessagingServiceSid": settings.messaging_service_sid,
            "Body": message.text,
            "StatusCallback": callback_url(settings, message.delivery_id),
        }
        return [(name, value) for name, value in fields.items() if value is not None]

    def probe(self) -> Flow[Sequence[Finding]]:
        """Ask for the balance: it proves the credentials and shows the money."""
        return probe(self.name, self._api)

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What a status callback says; it must carry Twilio's signature."""
        fields, delivery_id = read_callback(self.settings, request)
        report = pushed_message(fields, delivery_id=delivery_id)
        return [] if report is None else [report]

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        """The Message resource, by its SID; without one, the message to that number at that time.

        See :func:`otpvoice.channels.twilio_records.search` for what is then taken for ours.
        """
        if inquiry.reference is None:
            sender = self.settings.sender
            record = yield from dialogue(search(self._api, "Messages", inquiry, sender=sender))
        else:
            record = yield from dialogue(self._api.fetch("Messages", inquiry.reference))
        return None if record is None else fetched_message(record, delivery_id=inquiry.delivery_id)
