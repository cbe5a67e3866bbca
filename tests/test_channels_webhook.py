"""The webhook channel: a signed POST, and nothing but 2xx is a success."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from otpvoice.channels.base import Receipt
from otpvoice.channels.contract import CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.webhook import Webhook, WebhookSettings, sign
from otpvoice.clock import ManualClock
from otpvoice.errors import (
    ConfigurationError,
    ContentRejected,
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from otpvoice.types import Medium, Text

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def of_length(length: int) -> str:
    return "whsec_" + base64.b64encode(bytes(length)).decode()


TOKEN = "bearer-7d1c9e"
SETTINGS: Mapping[str, object] = {"url": "https://example.com/otp", "secret": SECRET}
CLOCK = ManualClock()


class TestWebhook(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {**SETTINGS, "bearer_token": TOKEN, "timeouts": {"read": 3}}
    secrets = (SECRET, SECRET.removeprefix("whsec_"), TOKEN)

    def build(self, settings: Mapping[str, object]) -> Webhook:
        return Webhook.from_settings("hook", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, json={"reference": "r-1"})

    def test_signatures_are_silent(self) -> None:
        """The signature lets anybody send this message again for as long as the receiver takes its timestamp."""
        for request in self.requests():
            assert request.headers["webhook-signature"] not in f"{request!r} {request.headers!r}"


class TestWebhookForEmail(TestWebhook):
    settings: ClassVar[Mapping[str, object]] = {**SETTINGS, "medium": "email"}


CONTRACT = TestWebhook()


def channel_with(**settings: object) -> Webhook:
    return Webhook("hook", WebhookSettings.from_table("channels.hook", {**SETTINGS, **settings}), clock=CLOCK)


def request_of(channel: Webhook) -> httpx.Request:
    return next(channel.exchange(CONTRACT.message(channel)))


def outcome(response: httpx.Response) -> Receipt | DeliveryError:
    channel = channel_with()
    try:
        return perform(channel.deliver(CONTRACT.message(channel)), lambda _: response)
    except DeliveryError as error:
        return error


def test_body() -> None:
    """Everything that a sender needs, under plain names, and not the challenge's id."""
    request = request_of(channel_with(medium="sms"))
    message = CONTRACT.message(channel_with())
    assert (request.method, str(request.url)) == ("POST", "https://example.com/otp")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {
        "type": "otpvoice.message",
        "delivery_id": DELIVERY_ID,
        "medium": "sms",
        "recipient": NUMBER,
        "code": CODE,
        "text": message.text,
        "title": "",
        "locale": "en",
        "language": None,
        "repeats": 1,
        "purpose": "login",
        "expires_at": "2030-01-01T00:00:00+00:00",
    }


def test_signature_is_that_of_standard_webhooks() -> None:
    """HMAC-SHA-256 over ``id.timestamp.body`` with the decoded secret, recomputed here from the request's bytes."""
    request = request_of(channel_with())
    stamp = request.headers["webhook-timestamp"]
    assert stamp == str(int(CLOCK.now().timestamp()))
    assert request.headers["webhook-id"] == DELIVERY_ID
    signed = f"{DELIVERY_ID}.{stamp}.".encode() + request.content
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


def test_signature_covers_id_time_and_body() -> None:
    """Changing any of the three, or the key, changes the signature."""
    whole = sign(SECRET, "id", 1, b"body")
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert (
        len({whole, sign(SECRET, "ie", 1, b"body"), sign(SECRET, "id", 2, b"body"), sign(SECRET, "id", 1, b"b")}) == 4
    )
    assert sign(other, "id", 1, b"body") != whole
    with pytest.raises(ValueError, match="base64"):
        sign("whsec_!", "id", 1, b"")


def test_bearer_token() -> None:
    """The token is sent with the signature or in its place; headers that are not configured are not there."""
    signed = request_of(channel_with())
    assert "authorization" not in signed.headers
    both = request_of(channel_with(bearer_token=TOKEN))
    assert both.headers["authorization"] == f"Bearer {TOKEN}"
    assert "webhook-signature" in both.headers
    alone = Webhook.from_settings("hook", {"url": "https://example.com/", "bearer_token": TOKEN})
    assert "webhook-signature" not in request_of(alone).headers


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_taken(status: int) -> None:
    """Any 2xx, whatever its body, is an acceptance, and acceptance is not delivery."""
    assert outcome(httpx.Response(status, text="thanks")) == Receipt(reference=None, delivered=False)


@pytest.mark.parametrize(
    ("body", "reference"),
    [
        ({"reference": "abc"}, "abc"),
        ({"reference": 5}, "5"),
        ({"reference": True}, None),
        ({"reference": 1.5}, "1.5"),
        ({"reference": ""}, None),
        ({"reference": "x" * 201}, None),
        ({"reference": "a\nb"}, None),
        (["reference"], None),
    ],
)
def test_reference(body: object, reference: str | None) -> None:
    """The receiver may name its message; what is not short printable text is ignored."""
    assert outcome(httpx.Response(200, json=body)) == Receipt(reference=reference)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ProviderMisconfigured),
        (307, ProviderMisconfigured),
        (400, ProviderMisconfigured),
        (401, ProviderMisconfigured),
        (402, NoBalance),
        (404, ProviderMisconfigured),
        (410, ProviderMisconfigured),
        (422, ContentRejected),
        (429, ProviderThrottled),
        (500, ProviderUnavailable),
        (502, OutcomeUnknown),
        (503, ProviderUnavailable),
        (504, OutcomeUnknown),
    ],
)
def test_everything_else_is_a_failure(status: int, kind: type[DeliveryError]) -> None:
    """A redirect, a 4xx and a 5xx are failures even where the body says that all is well."""
    assert type(outcome(httpx.Response(status, json={"reference": "r", "ok": True}))) is kind


def test_retry_after_is_honoured() -> None:
    """The receiver says when to come back."""
    error = outcome(httpx.Response(429, headers={"retry-after": "77"}))
    assert isinstance(error, ProviderThrottled)
    assert error.retry_after.total_seconds() == 77


def test_text_that_is_not_unicode_is_refused() -> None:
    """A lone surrogate raises before anything is sent."""
    channel = channel_with()
    with pytest.raises(ContentRejected):
        next(channel.exchange(replace(CONTRACT.message(channel), text=Text("\ud800"))))


def test_medium() -> None:
    """One class serves any medium; voice unless said otherwise."""
    assert channel_with().medium is Medium.VOICE
    assert channel_with(medium="email").capabilities.medium is Medium.EMAIL


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "url": ["", "example.com", "http://example.com/", "https://u:p@example.com/", 5],
        "secret": ["", "whsec_", "short", "whsec_!!!", of_length(23), of_length(65), 5],
        "bearer_token": ["", "a b", "a\r\nX: y", 5],
        "medium": ["app", "", None],
        "timeouts": [3],
    }.items(),
)
def test_wrong_settings_are_named(key: str, values: list[object]) -> None:
    """Each wrong value of each key raises, and the message begins with table and key."""
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"\[channels\.hook\] {key}\b"):
            Webhook.from_settings("hook", {**SETTINGS, key: value})


def test_somebody_must_be_able_to_tell_who_calls() -> None:
    """Neither signature nor token: anybody could make the receiver send."""
    with pytest.raises(ConfigurationError, match=r"\[channels\.hook\] secret is missing \(or bearer_token\)"):
        Webhook.from_settings("hook", {"url": "https://example.com/"})


def test_every_setting_is_documented() -> None:
    """The documentation's table names every key."""
    page = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")
    for member in dataclasses.fields(WebhookSettings):
        assert f"`{member.name}`" in page, f"docs/channels.md does not name {member.name}"
