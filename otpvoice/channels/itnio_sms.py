"""ITNIO SMS: ``POST /sms/sendSms`` hands over one text message.

Vendor pages: itniotech.com/api/sms/sendSms, /api/sms/getReport and /api/sms/pushSmsReport. The delivery's id travels in
``orderId``, which comes back in answers and, with some generations, in reports. Messages can be asked about by the
vendor's own id alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self
from urllib.parse import urlencode

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
from otpvoice.channels.itnio_api import PROVIDER, Envelope, ItnioAPI, ItnioSettings
from otpvoice.channels.itnio_probe import probe
from otpvoice.channels.itnio_reports import check_sender, pushed_message, queried_message, read_push
from otpvoice.channels.itnio_status import NOT_FOUND, QUERY_STATUS, SMS_STATUS
from otpvoice.channels.settings import rule
from otpvoice.channels.vendor_fields import identifier, number, plain, stripped
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import DeliveryError, OutcomeUnknown
from otpvoice.flow import Flow
from otpvoice.types import Capabilities, Medium

log = logging.getLogger("otpvoice.channels.itnio")

LONGEST_TEXT = 1024
LONGEST_SENDER = 32
POLL_AFTER = timedelta(seconds=60)
"""When to ask about a message that no push has told of: those that arrive do so within seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItnioSMSSettings(ItnioSettings):
    """The account, and every parameter of ``sendSms`` that is not the message's own."""

    app_id: str = field(metadata=rule(rules.text()))
    """The SMS application's: voice and OTP have ids of their own."""
    sender_id: str | None = field(default=None, metadata=rule(rules.text(longest=LONGEST_SENDER)))
    """Who the message is from, as the account may say. None: the provider chooses."""


class ItnioSMS(HttpChannel):
    """Writes a code to a person in a text message through ITNIO, Onbuka or Laaffic."""

    provider = PROVIDER
    medium = Medium.SMS

    def __init__(self, name: str, settings: ItnioSMSSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self._api = ItnioAPI(settings, clock or SystemClock())
        poll = POLL_AFTER if settings.poll_after is None else timedelta(seconds=settings.poll_after)
        self._capabilities = Capabilities(
            medium=Medium.SMS, max_text=LONGEST_TEXT, reports=True, look_ups=True, poll_after=poll
        )

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`ItnioSMSSettings`."""
        return cls(name, ItnioSMSSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """Any language, up to 1024 characters."""
        return self._capabilities

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Hand the message over; the receipt's reference is the vendor's ``msgId``, as text.

        A success lists the numbers that were accepted. One that counts ours as failed raises a
        :class:`~otpvoice.errors.DeliveryError`, one that says neither :class:`~otpvoice.errors.OutcomeUnknown`.
        """
        self.check(message)
        settings = self.settings
        fields = {
            "appId": settings.app_id,
            "numbers": message.recipient.address.removeprefix("+"),
            "content": message.text,
            "senderId": settings.sender_id,
            "orderId": message.delivery_id,
        }
        payload = {name: value for name, value in fields.items() if value is not None}
        envelope = yield from self._api.ask("POST", f"{settings.sms_path}/sendSms", payload, statuses=SMS_STATUS)
        return Receipt(reference=_accepted(envelope, message))

    def probe(self) -> Flow[Sequence[Finding]]:
        """Ask for the balance: it proves the credentials, shows the money and tells the provider's time."""
        return probe(self.name, self._api)

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What a status report of messages says.

        The provider signs nothing: keep the URL secret, and see the settings ``report_ips`` and ``confirm_reports``.
        """
        check_sender(request, self.settings.report_ips)
        found = (pushed_message(item) for item in read_push(request.body))
        return [report for report in found if report is not None]

    def confirm(self, report: Report) -> Flow[Report | None]:
        """With ``confirm_reports``, what ``getReport`` says of that message, and nothing of the push."""
        if not self.settings.confirm_reports:
            return report
        if report.reference is None:
            return None
        try:
            # Named by the vendor's id alone: whether the pushed id of ours belongs to it is the pusher's word.
            return (yield from dialogue(self._ask(report.reference, delivery_id=None)))
        except DeliveryError as error:
            log.warning("channel %r: a report could not be confirmed: %s", self.name, error)
            return None

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        """What ``getReport`` says of the message; None without the vendor's id, by which alone it can be asked."""
        if inquiry.reference is None:
            return None
        return (yield from dialogue(self._ask(inquiry.reference, delivery_id=inquiry.delivery_id)))

    def _ask(self, msg_id: str, *, delivery_id: str | None) -> HttpDialogue[Report | None]:
        query = urlencode({"appId": self.settings.app_id, "msgIds": msg_id})
        path = f"{self.settings.sms_path}/getReport?{query}"
        envelope = yield from self._api.ask("GET", path, statuses=QUERY_STATUS, answers=(0, NOT_FOUND))
        for item in _items(envelope):
            if identifier(item.get("msgId", item.get("msgid"))) == msg_id:
                return queried_message(item, delivery_id=delivery_id)
        return None  # Queued still, or unknown: the answer counts both as nofound.


def _accepted(envelope: Envelope, message: Message) -> str:
    """The vendor's id of our message among the numbers that an answer lists as accepted."""
    ours = message.recipient.address.removeprefix("+")
    for item in _items(envelope):
        named = plain(item.get("number")).lstrip("+0") == ours or item.get("orderId") == message.delivery_id
        msg_id = identifier(item.get("msgId"))
        if named and msg_id is not None:
            return msg_id
        if named:
            raise _unclear()
    # One number was sent, so a count of failures without one of successes is about ours.
    if number(envelope.body.get("fail")) == 1 and number(envelope.body.get("success")) in {0, None}:
        raise DeliveryError(f"{PROVIDER}: did not accept the number (status 0)", provider=PROVIDER, code="0")
    raise _unclear()


def _items(envelope: Envelope) -> list[dict[str, Any]]:
    listed = envelope.body.get("array")
    return [stripped(item) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _unclear() -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{PROVIDER}: accepted without an id; the message may have been sent", provider=PROVIDER, code="0"
    )
