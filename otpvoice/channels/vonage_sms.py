"""Vonage SMS: ``POST /sms/json`` hands over one text message.

Vendor pages: developer.vonage.com/en/api/sms, /en/messaging/sms/guides/troubleshooting-sms (statuses),
/en/messaging/sms/guides/delivery-receipts and /en/getting-started/concepts/signing-messages. Of Vonage's two ways to
send text messages this one needs a key and a secret only, and echoes an id of ours (``client-ref``) in its receipts.
It cannot be asked about a message.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from otpvoice.channels import rules
from otpvoice.channels.base import (
    HttpChannel,
    HttpDialogue,
    Message,
    Receipt,
    Report,
    ReportRejected,
    ReportRequest,
)
from otpvoice.channels.http_errors import map_http_status
from otpvoice.channels.http_requests import QuietHeaders, json_bytes, read_json, reference_of
from otpvoice.channels.rules import Rule, Unfit
from otpvoice.channels.settings import ChannelSettings, Timeouts, nested, rule
from otpvoice.channels.vendor_fields import money, number, plain
from otpvoice.channels.vonage_api import (
    CURRENCY,
    LONGEST_PUSH,
    METHODS,
    PROVIDER,
    not_understood,
    read_object,
    sig,
)
from otpvoice.channels.vonage_status import ERR_REASONS, RECEIPT_STATES, SMS_STATUS
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import DeliveryError, OutcomeUnknown, ProviderThrottled
from otpvoice.types import Capabilities, DeliveryState, Medium

LONGEST_TEXT = 1000
"""Characters: what the vendor takes is counted in parts, and a code's text has one or two."""
THROTTLED = timedelta(seconds=2)
"""How long to wait where Vonage does not say: its limits count by the second."""

_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€"
)
"""3GPP TS 23.038, 6.2.1: what a message of type ``text`` carries; Vonage writes ``?`` for anything else."""

MOST_FIELDS = 100


def _sender() -> Rule[str]:
    """A number without ``+``, or a name of up to 11 letters and digits."""

    def check(value: object) -> str:
        text = rules.text()(value).removeprefix("+")
        if re.fullmatch(r"[0-9]{3,15}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}", text) is None:
            raise Unfit("must be a number with the country code, or a name of up to 11 letters and digits")
        return text

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageSMSSettings(ChannelSettings):
    """An account at Vonage, and who writes."""

    api_key: str = field(metadata=rule(rules.secret()))
    api_secret: str = field(metadata=rule(rules.secret()))
    sender: str = field(metadata=rule(_sender()))
    """A number of the account, or a name where the country allows one."""
    base_url: str = field(default="https://rest.nexmo.com", metadata=rule(rules.url()))
    status_callback: str | None = field(default=None, metadata=rule(rules.url()))
    """The report URL of this channel as Vonage is to call it. None: the one of the dashboard."""
    signature_secret: str | None = field(default=None, metadata=rule(rules.secret()))
    """The account's; receipts without a right ``sig`` are then refused. Vonage signs them on request only."""
    signature_method: str = field(default="sha256", metadata=rule(rules.choice(*METHODS)))
    """As the dashboard says: ``md5hash``, or the hash of an HMAC."""
    timeouts: Timeouts = field(default_factory=Timeouts, metadata=rule(nested(Timeouts)))


class VonageSMS(HttpChannel):
    """Writes a code to a person in a text message through Vonage (once Nexmo)."""

    provider = PROVIDER
    medium = Medium.SMS

    def __init__(self, name: str, settings: VonageSMSSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self._clock = clock or SystemClock()
        self._capabilities = Capabilities(medium=Medium.SMS, max_text=LONGEST_TEXT, reports=True)

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`VonageSMSSettings`."""
        return cls(name, VonageSMSSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """Any language, up to 1000 characters. It reports, and cannot be asked."""
        return self._capabilities

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Hand the message over; the receipt's reference is the id of its first part.

        One part that was taken makes the message *accepted*: whoever got half of it must not be rung by mistake.
        """
        self.check(message)
        response = yield self._request(message)
        answer = read_json(response) if response.is_success else None
        if not response.is_success:
            raise map_http_status(response, provider=PROVIDER, now=self._clock.now())
        listed = answer.get("messages") if isinstance(answer, dict) else None
        parts = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
        taken = [part for part in parts if number(part.get("status")) == 0]
        if taken:
            reference = reference_of(taken[0].get("message-id"))
            if reference is None:
                raise not_understood("accepted without an id; the message may have been sent")
            return Receipt(reference=reference)
        if not parts:
            raise not_understood()
        raise refusal_of(number(parts[0].get("status")))

    def _request(self, message: Message) -> httpx.Request:
        settings = self.settings
        fields = {
            "api_key": settings.api_key,
            "api_secret": settings.api_secret,
            "from": settings.sender,
            "to": message.recipient.address.removeprefix("+"),
            "text": message.text,
            "type": "text" if _GSM.issuperset(message.text) else "unicode",
            "client-ref": message.delivery_id,
            "callback": settings.status_callback,
        }
        payload = {name: value for name, value in fields.items() if value is not None}
        request = httpx.Request(
            "POST",
            f"{settings.base_url}/sms/json",
            content=json_bytes(payload, PROVIDER),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            extensions=settings.timeouts.as_extensions(),
        )
        request.headers = QuietHeaders(request.headers)
        return request

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What a delivery receipt says: JSON, a form, or a query, as the dashboard has it.

        With ``signature_secret`` it must carry a right ``sig``; without, keep the URL secret.
        """
        fields = _fields(request)
        settings = self.settings
        if settings.signature_secret is not None:
            right = sig(settings.signature_secret, settings.signature_method, fields.items())
            if not hmac.compare_digest(right.encode(), fields.get("sig", "").lower().encode("utf-8", "replace")):
                raise ReportRejected("the report's signature is missing or not Vonage's", authentic=False)
        if fields.get("api-key", settings.api_key) != settings.api_key:
            raise ReportRejected("the report is of another account", authentic=False)
        report = receipt_report(fields)
        return [] if report is None else [report]


def refusal_of(status: int | None) -> DeliveryError:
    """The error of a part's status other than 0."""
    if status is None or status not in SMS_STATUS:
        # Not known to be a refusal: the vendor's list has gaps and grows. What is no short number is not repeated.
        code = str(status) if status and 0 < status < 1000 else ""
        return OutcomeUnknown(
            f"{PROVIDER}: answered with a status that its documentation does not name", provider=PROVIDER, code=code
        )
    kind, words = SMS_STATUS[status]
    message = f"{PROVIDER}: {words} (status {status})"
    if issubclass(kind, ProviderThrottled):
        return kind(message, provider=PROVIDER, code=str(status), retry_after=THROTTLED)
    return kind(message, provider=PROVIDER, code=str(status))


def _fields(request: ReportRequest) -> dict[str, str]:
    if len(request.body) > LONGEST_PUSH:
        raise ReportRejected(f"the report is longer than {LONGEST_PUSH} bytes")
    body = request.body.strip()
    if body.startswith(b"{"):
        said: dict[str, Any] = read_object(body)
        return _unicode({name: plain(value) for name, value in said.items()})
    try:
        text = body.decode("ascii") if body else urlsplit(request.url).query
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError:
        raise ReportRejected("the report is neither JSON nor a form") from None


def _unicode(fields: dict[str, str]) -> dict[str, str]:
    """JSON can name halves of characters, which nobody can have signed."""
    try:
        "".join((*fields, *fields.values())).encode()
    except UnicodeEncodeError:
        raise ReportRejected("the report holds what is not Unicode") from None
    return fields


def receipt_report(fields: Mapping[str, str]) -> Report | None:
    """What a receipt says; None where it names no message, or a status that is not known.

    It is named by our ``client-ref`` alone where it has one: each part of a long message has an id of its own. An
    ``err-code`` other than 0 is a failure, whatever the status (help.nexmo.com, SMS Delivery Error Codes).
    """
    delivery_id = fields.get("client-ref") or None
    reference = None if delivery_id is not None else reference_of(fields.get("messageId"))
    state = RECEIPT_STATES.get(fields.get("status", "").lower())
    if state is None or (delivery_id is None and reference is None):
        return None
    error = number(fields.get("err-code")) or 0
    if error and state is DeliveryState.DELIVERED:
        state = DeliveryState.FAILED
    failed = state is DeliveryState.FAILED
    by_status = "expired" if fields.get("status", "").lower() == "expired" else "failed"
    price = money(fields.get("price"))
    return Report(
        delivery_id=delivery_id,
        reference=reference,
        state=state,
        reason=ERR_REASONS.get(error, by_status) if failed else None,
        provider_code=str(error) if failed and error else fields["status"].lower(),
        price=price,
        currency=None if price is None else CURRENCY,
    )
