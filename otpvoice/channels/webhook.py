"""The webhook channel: a signed ``POST`` of JSON to a URL of yours, which sends the message in its own way.

The request is signed as Standard Webhooks 1.0.0 says (``webhook-id``, ``webhook-timestamp``, ``webhook-signature``),
so that its libraries verify it. Any 2xx answer means *I have taken the message*; anything else is a failure, a
redirect included. The challenge's id is not sent: the receiver learns the code, but not what it opens.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Self

import httpx

from otpvoice.channels import rules
from otpvoice.channels.base import HttpChannel, HttpDialogue, Message, Receipt
from otpvoice.channels.http_errors import map_http_status
from otpvoice.channels.http_requests import QuietHeaders, json_bytes, read_json, reference_of
from otpvoice.channels.rules import Secret, Unfit
from otpvoice.channels.settings import ChannelSettings, Timeouts, nested, rule
from otpvoice.clock import Clock, SystemClock
from otpvoice.types import Capabilities, Medium

_PREFIX = "whsec_"


def _signing_secret(value: object) -> Secret:
    plain = rules.secret()(value)
    key = _key(plain)
    if key is None or not 24 <= len(key) <= 64:
        raise Unfit("must be whsec_ and the base64 of 24 to 64 random bytes")
    return plain


def _key(serialized: str) -> bytes | None:
    try:
        return base64.b64decode(serialized.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings(ChannelSettings):
    """Where to post, and how the receiver knows that it is us."""

    url: str = field(metadata=rule(rules.url()))
    secret: str | None = field(default=None, metadata=rule(_signing_secret))
    """``whsec_`` and the base64 of 24 to 64 random bytes: the key of the HMAC-SHA-256 signature."""
    bearer_token: str | None = field(default=None, metadata=rule(rules.secret()))
    """Sent as ``Authorization: Bearer …``, with the signature or in its place."""
    medium: str = field(default="voice", metadata=rule(rules.choice("voice", "sms", "email")))
    """How the receiver reaches the person."""
    timeouts: Timeouts = field(default_factory=Timeouts, metadata=rule(nested(Timeouts)))

    def contradictions(self) -> Iterable[str]:
        """A receiver that cannot tell us from a stranger would send anybody's messages."""
        if self.secret is None and self.bearer_token is None:
            yield "secret is missing (or bearer_token): the receiver must be able to tell who calls it"


class Webhook(HttpChannel):
    """Hands messages to an HTTP endpoint of yours."""

    provider = "webhook"
    medium = Medium.VOICE

    def __init__(self, name: str, settings: WebhookSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self.medium = Medium(settings.medium)
        self._clock = clock or SystemClock()

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`WebhookSettings`."""
        return cls(name, WebhookSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """No limits that we know of: they are the receiver's."""
        return Capabilities(medium=self.medium)

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Post the message. The answer may be JSON with a ``reference`` of up to 200 characters."""
        self.check(message)
        response = yield self._request(message)
        if not response.is_success:
            raise map_http_status(response, provider=self.provider, now=self._clock.now(), refuses_by_500=True)
        answer = read_json(response)
        return Receipt(reference=reference_of(answer.get("reference")) if isinstance(answer, dict) else None)

    def _request(self, message: Message) -> httpx.Request:
        settings = self.settings
        body = json_bytes(_payload(message, self.medium), self.provider)
        timestamp = int(self._clock.now().timestamp())
        headers: dict[str, str] = {
            "Content-Type": "application/json",
            "webhook-id": message.delivery_id,
            "webhook-timestamp": str(timestamp),
        }
        if settings.secret is not None:
            headers["webhook-signature"] = Secret(sign(settings.secret, message.delivery_id, timestamp, body))
        if settings.bearer_token is not None:
            headers["Authorization"] = Secret(f"Bearer {settings.bearer_token}")
        request = httpx.Request(
            "POST", settings.url, content=body, headers=headers, extensions=settings.timeouts.as_extensions()
        )
        request.headers = QuietHeaders(request.headers)
        return request


def sign(serialized_secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` header: ``v1,`` and the base64 of HMAC-SHA-256 over ``id.timestamp.body``."""
    key = _key(serialized_secret)
    if key is None:
        raise ValueError("the signing secret is not base64")
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _payload(message: Message, medium: Medium) -> dict[str, Any]:
    return {
        "type": "otpvoice.message",
        "delivery_id": message.delivery_id,
        "medium": str(medium),
        "recipient": message.recipient.address,
        "code": message.code,
        "text": message.text,
        "title": message.title,
        "locale": message.locale,
        "language": message.language,
        "repeats": message.repeats,
        "purpose": message.purpose,
        "expires_at": message.expires_at.astimezone(UTC).isoformat(),
    }
