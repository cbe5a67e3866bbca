"""Vonage's channels over real HTTP, against a local stand-in that checks tokens and fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from otpvoice.channels.base import Inquiry, Receipt
from otpvoice.channels.contract import DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.http_errors import map_http_error
from otpvoice.channels.vonage import VonageVoice, VonageVoiceSettings
from otpvoice.channels.vonage_sms import VonageSMS, VonageSMSSettings
from otpvoice.clock import ManualClock
from otpvoice.errors import OutcomeUnknown, ProviderMisconfigured
from otpvoice.flow import Flow
from otpvoice.types import DeliveryState, Text
from tests.vendor_servers import API_KEY, API_SECRET, APPLICATION, SIGNATURE_SECRET, FakeVonage

T = TypeVar("T")
CONTRACT = HttpChannelContract()
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CALLBACK = "https://otp.example.com/v1/reports/s/voice"


@pytest.fixture
def vonage() -> Iterator[FakeVonage]:
    with FakeVonage(public_key=KEY.public_key()) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def pem(key: rsa.RSAPrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain).decode()


def voice(vonage: FakeVonage, *, key: rsa.RSAPrivateKey = KEY, clock: ManualClock | None = None) -> VonageVoice:
    settings = VonageVoiceSettings(
        application_id=APPLICATION,
        private_key=pem(key),
        base_url=vonage.url,
        status_callback=CALLBACK,
        signature_secret=SIGNATURE_SECRET,
    )
    return VonageVoice("voice", settings, clock=clock or vonage.clock)


def sms(vonage: FakeVonage, **more: Any) -> VonageSMS:
    table = {"api_key": API_KEY, "api_secret": API_SECRET, "sender": "Example", "base_url": vonage.url} | more
    return VonageSMS("sms", VonageSMSSettings(**table), clock=vonage.clock)


def over(client: httpx.Client, flow: Flow[T]) -> T:
    """Run a flow with a real client, as the synchronous runner does."""

    def answer(request: httpx.Request) -> httpx.Response | Exception:
        try:
            return client.send(request)
        except httpx.HTTPError as error:
            return map_http_error(error)

    return perform(flow, answer)


def inquiry(vonage: FakeVonage, reference: str | None) -> Inquiry:
    sent_at = vonage.clock.now()
    assert isinstance(vonage.clock, ManualClock)
    vonage.clock.advance(20)
    recipient = CONTRACT.message(sms(vonage)).recipient
    return Inquiry(
        delivery_id=DELIVERY_ID, reference=reference, recipient=recipient, sent_at=sent_at, now=vonage.clock.now()
    )


def test_a_call_is_placed_reported_and_asked_about(vonage: FakeVonage, client: httpx.Client) -> None:
    channel = voice(vonage)
    receipt = over(client, channel.deliver(CONTRACT.message(channel)))
    (call,) = vonage.made
    assert receipt == Receipt(reference=call["uuid"])
    assert (call["to"]["number"], call["said"]) == (NUMBER.removeprefix("+"), CONTRACT.message(channel).text)
    ended = {"start_time": "2026-01-01T00:00:05.000Z", "duration": "12", "price": "0.0200"}
    (pushed,) = channel.read_report(vonage.end(call, "completed", **ended))
    asked = over(client, channel.look_up(inquiry(vonage, receipt.reference)))
    assert asked == pushed
    assert (pushed.delivery_id, pushed.state, pushed.talk_seconds) == (DELIVERY_ID, DeliveryState.DELIVERED, 12)


def test_an_answer_that_was_lost_is_found(vonage: FakeVonage, client: httpx.Client) -> None:
    vonage.drop = True
    channel = voice(vonage)
    with pytest.raises(OutcomeUnknown):
        over(client, channel.deliver(CONTRACT.message(channel)))
    report = over(client, channel.look_up(inquiry(vonage, None)))
    assert report is not None
    assert (report.delivery_id, report.reference) == (DELIVERY_ID, vonage.made[0]["uuid"])
    assert isinstance(vonage.clock, ManualClock)
    vonage.clock.advance(31)
    assert over(client, channel.look_up(inquiry(vonage, None))) is None


def test_another_key(vonage: FakeVonage, client: httpx.Client) -> None:
    channel = voice(vonage, key=OTHER_KEY)
    with pytest.raises(ProviderMisconfigured) as caught:
        over(client, channel.deliver(CONTRACT.message(channel)))
    assert caught.value.code == "unauthorized"
    (finding,) = over(client, channel.probe())
    assert not finding.ok


def test_a_wrong_clock(vonage: FakeVonage, client: httpx.Client) -> None:
    late = ManualClock()
    late.advance(-600)
    with pytest.raises(ProviderMisconfigured) as caught:
        over(client, voice(vonage, clock=late).deliver(CONTRACT.message(voice(vonage))))
    assert caught.value.code == "jwt-expired"


def test_doctor(vonage: FakeVonage, client: httpx.Client) -> None:
    (finding,) = over(client, voice(vonage).probe())
    assert (finding.ok, finding.detail) == (True, "accepted")


@pytest.mark.parametrize(("text", "kind"), [("Your code: 907351", "text"), ("Mã của bạn: 907351", "unicode")])
def test_a_message_is_sent(vonage: FakeVonage, client: httpx.Client, text: str, kind: str) -> None:
    channel = sms(vonage)
    receipt = over(client, channel.deliver(replace(CONTRACT.message(channel), text=Text(text))))
    (made,) = vonage.made
    assert receipt == Receipt(reference=made["message-id"])
    assert (made["said"], made["type"], made["client-ref"]) == (text, kind, DELIVERY_ID)


def test_a_wrong_secret(vonage: FakeVonage, client: httpx.Client) -> None:
    channel = sms(vonage, api_secret="other")
    with pytest.raises(ProviderMisconfigured) as caught:
        over(client, channel.deliver(CONTRACT.message(channel)))
    assert caught.value.code == "4"
