"""Twilio's channels over real HTTP, against a local stand-in that checks credentials and fields."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import pytest

from otpvoice.channels.base import Inquiry, Receipt
from otpvoice.channels.contract import CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.http_errors import map_http_error
from otpvoice.channels.twilio import TwilioVoice, TwilioVoiceSettings
from otpvoice.channels.twilio_sms import TwilioSMS, TwilioSMSSettings
from otpvoice.clock import ManualClock
from otpvoice.errors import DeliveryError, OutcomeUnknown, ProviderMisconfigured, RecipientRejected
from otpvoice.flow import Flow
from otpvoice.types import Address, DeliveryState, Text
from tests.vendor_servers import ACCOUNT, CALLER, TOKEN, FakeTwilio

T = TypeVar("T")
CONTRACT = HttpChannelContract()
Either = TwilioVoice | TwilioSMS


@pytest.fixture
def twilio() -> Iterator[FakeTwilio]:
    with FakeTwilio() as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def voice(twilio: FakeTwilio, **more: Any) -> TwilioVoice:
    table = {"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": CALLER, "base_url": twilio.url} | more
    return TwilioVoice("voice", TwilioVoiceSettings(**table), clock=twilio.clock)


def sms(twilio: FakeTwilio, **more: Any) -> TwilioSMS:
    table = {"account_sid": ACCOUNT, "auth_token": TOKEN, "sender": CALLER, "base_url": twilio.url} | more
    return TwilioSMS("sms", TwilioSMSSettings(**table), clock=twilio.clock)


def over(client: httpx.Client, flow: Flow[T]) -> T:
    """Run a flow with a real client, as the synchronous runner does."""

    def answer(request: httpx.Request) -> httpx.Response | Exception:
        try:
            return client.send(request)
        except httpx.HTTPError as error:
            return map_http_error(error)

    return perform(flow, answer)


def inquiry(twilio: FakeTwilio, channel: Either, reference: str | None, *, later: float = 20) -> Inquiry:
    sent_at = twilio.clock.now()
    assert isinstance(twilio.clock, ManualClock)
    twilio.clock.advance(later)
    return Inquiry(
        delivery_id=DELIVERY_ID,
        reference=reference,
        recipient=CONTRACT.message(channel).recipient,
        sent_at=sent_at,
        now=twilio.clock.now(),
    )


def test_a_call_is_placed_and_asked_about(twilio: FakeTwilio, client: httpx.Client) -> None:
    """What is spoken is the text, and its record tells how it ended."""
    channel = voice(twilio)
    sent = replace(CONTRACT.message(channel), text=Text("Cà phê & trà: 9, 0, 7 <3"), repeats=2)
    receipt = over(client, channel.deliver(sent))
    (call,) = twilio.made
    assert receipt == Receipt(reference=call["sid"])
    assert (call["to"], call["said"]) == (NUMBER, "Cà phê & trà: 9, 0, 7 <3")
    question = inquiry(twilio, channel, receipt.reference)
    under_way = over(client, channel.look_up(question))
    assert under_way is not None
    assert under_way.state is DeliveryState.ACCEPTED
    call |= {"status": "completed", "duration": "14", "price": "-0.013"}
    ended = over(client, channel.look_up(question))
    assert ended is not None
    assert (ended.state, ended.talk_seconds, ended.currency) == (DeliveryState.DELIVERED, 14, "USD")


def test_a_message_is_sent_and_asked_about(twilio: FakeTwilio, client: httpx.Client) -> None:
    channel = sms(twilio)
    receipt = over(client, channel.deliver(CONTRACT.message(channel)))
    (made,) = twilio.made
    assert made["said"] == CONTRACT.message(channel).text
    made |= {"status": "undelivered", "error_code": 30003}
    report = over(client, channel.look_up(inquiry(twilio, channel, receipt.reference)))
    assert report is not None
    assert (report.state, report.reason) == (DeliveryState.FAILED, "unreachable")


@pytest.mark.parametrize("make", [voice, sms])
def test_an_answer_that_was_lost_is_found(twilio: FakeTwilio, client: httpx.Client, make: Any) -> None:
    """Taken, and the connection cut: the outcome is unknown, and one question finds it."""
    twilio.drop = True
    channel = make(twilio)
    with pytest.raises(OutcomeUnknown):
        over(client, channel.deliver(CONTRACT.message(channel)))
    report = over(client, channel.look_up(inquiry(twilio, channel, None)))
    assert report is not None
    assert (report.delivery_id, report.reference) == (DELIVERY_ID, twilio.made[0]["sid"])


@pytest.mark.parametrize("make", [voice, sms])
def test_what_was_never_made_is_not_found(twilio: FakeTwilio, client: httpx.Client, make: Any) -> None:
    channel = make(twilio)
    over(client, channel.deliver(CONTRACT.message(channel)))
    assert isinstance(twilio.clock, ManualClock)
    twilio.clock.advance(31)
    assert over(client, channel.look_up(inquiry(twilio, channel, None))) is None


def test_wrong_credentials(twilio: FakeTwilio, client: httpx.Client) -> None:
    channel = voice(twilio, auth_token="other")
    with pytest.raises(ProviderMisconfigured) as caught:
        over(client, channel.deliver(CONTRACT.message(channel)))
    assert caught.value.code == "20003"
    (finding,) = over(client, channel.probe())
    assert not finding.ok


def test_a_number_that_is_none(twilio: FakeTwilio, client: httpx.Client) -> None:
    channel = voice(twilio)
    sent = CONTRACT.message(channel)
    wrong = replace(sent, recipient=replace(sent.recipient, address=Address("+0123456789")))
    with pytest.raises(RecipientRejected):
        over(client, channel.deliver(wrong))


def test_doctor(twilio: FakeTwilio, client: httpx.Client) -> None:
    findings = over(client, voice(twilio).probe())
    assert [(finding.ok, finding.detail) for finding in findings] == [(True, "accepted"), (True, "balance 12.50 USD")]


def test_nobody_listens(client: httpx.Client) -> None:
    with FakeTwilio() as gone:
        channel = voice(gone)
    with pytest.raises(DeliveryError) as caught:
        over(client, channel.deliver(CONTRACT.message(channel)))
    assert caught.value.retryable


def test_a_callback_is_what_twilio_pushes(twilio: FakeTwilio, client: httpx.Client) -> None:
    """The URL that was given with the call comes back signed, and names the delivery."""
    channel = voice(twilio, status_callback="https://otp.example.com/v1/reports/s/voice")
    over(client, channel.deliver(CONTRACT.message(channel)))
    (report,) = channel.read_report(twilio.end(twilio.made[0], "completed", talk=14))
    assert (report.delivery_id, report.reference) == (DELIVERY_ID, twilio.made[0]["sid"])
    assert (report.answered_at, report.ended_at) == (twilio.clock.now() - timedelta(seconds=14), twilio.clock.now())


def test_the_http_library_logs_no_number(
    twilio: FakeTwilio, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that httpx and httpcore log of a delivery and of a search by number."""
    caplog.set_level(logging.DEBUG)
    channel = voice(twilio)
    over(client, channel.deliver(CONTRACT.message(channel)))
    over(client, channel.look_up(inquiry(twilio, channel, None)))
    said = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    assert "HTTP Request: GET" in said
    assert twilio.requests[-1] == f"GET /2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    for secret in (NUMBER.removeprefix("+"), CODE, TOKEN):
        assert secret not in said
