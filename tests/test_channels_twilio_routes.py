"""A route that crosses vendors: ITNIO, Twilio and Vonage, all over real HTTP, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from otpvoice import Challenge, DeliveryState, Policy, Route, RouteStep
from otpvoice.channels.base import ReportRejected
from otpvoice.channels.itnio import ItnioVoice, ItnioVoiceSettings
from otpvoice.channels.twilio import TwilioVoice, TwilioVoiceSettings
from otpvoice.channels.twilio_sms import TwilioSMS, TwilioSMSSettings
from otpvoice.channels.vonage import VonageVoice, VonageVoiceSettings
from otpvoice.clock import ManualClock
from otpvoice.errors import RecipientRejected
from otpvoice.simulator.hearing import heard_code
from otpvoice.simulator.rules import Rule
from otpvoice.simulator.server import SimulatedItnio
from otpvoice.worker import Worker
from tests.conftest import NUMBER, Maker
from tests.test_channels_vonage_http import pem
from tests.vendor_servers import (
    ACCOUNT,
    APPLICATION,
    CALLER,
    SIGNATURE_SECRET,
    TOKEN,
    FakeTwilio,
    FakeVonage,
    Server,
)

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
REPORTS = "https://otp.example.com/v1/reports/s3cret"


class Town:
    """A service whose voice goes through three vendors, and the three."""

    def __init__(self, make: Maker, clock: ManualClock) -> None:
        self.make, self.clock = make, clock
        self.itnio = SimulatedItnio(clock=clock)
        self.twilio = FakeTwilio(clock=clock)
        self.vonage = FakeVonage(clock=clock, public_key=KEY.public_key())

    def service(self, *steps: RouteStep | str, worker: bool = False) -> Any:
        account = {"account_sid": ACCOUNT, "auth_token": TOKEN, "base_url": self.twilio.url}
        itnio = ItnioVoiceSettings(
            api_key="demo-key", api_secret="demo-secret", app_id="demo-app", base_url=self.itnio.url
        )
        calls = TwilioVoiceSettings(**account, from_number=CALLER, status_callback=f"{REPORTS}/twilio")
        texts = TwilioSMSSettings(**account, sender=CALLER, status_callback=f"{REPORTS}/texts")
        vonage = VonageVoiceSettings(
            application_id=APPLICATION,
            private_key=pem(KEY),
            base_url=self.vonage.url,
            status_callback=f"{REPORTS}/vonage",
            signature_secret=SIGNATURE_SECRET,
        )
        route = [RouteStep(channel=step) if isinstance(step, str) else step for step in steps]
        service = self.make(
            "sync",
            channels=[
                ItnioVoice("itnio", itnio, clock=self.clock),
                TwilioVoice("twilio", calls, clock=self.clock),
                TwilioSMS("texts", texts, clock=self.clock),
                VonageVoice("vonage", vonage, clock=self.clock),
            ],
            policies={"login": Policy(route=Route(steps=tuple(route)), hash_profile="fast")},
            worker=worker,
        )
        if worker:
            service._housed = None  # Nothing is sent but by the workers that the test runs.
        return service

    def work(self, service: Any, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        asyncio.run(Worker(service._assembly, poll=timedelta(milliseconds=5)).run(until_idle=True))


@pytest.fixture
def town(services: Maker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Town(services, clock)
    servers: list[Server] = [made.twilio, made.vonage]
    with made.itnio, servers[0], servers[1]:
        yield made


def story(challenge: Challenge) -> list[tuple[str, str, str | None, str | None]]:
    return [(d.provider, d.state.value, d.reason, d.cause) for d in challenge.deliveries]


def test_itnio_refuses_and_twilio_calls(town: Town) -> None:
    """The call follows in the same request, with a code of its own, and that code verifies."""
    town.itnio.set_rule(Rule(on="/voice/sendCode", answer="-26"))
    service = town.service("itnio", "twilio")
    challenge = service.issue_code(NUMBER, purpose="login")
    assert story(challenge) == [
        ("itnio", "failed", "misconfigured", None),
        ("twilio", "accepted", None, "refused"),
    ]
    assert town.itnio.calls == []
    (call,) = town.twilio.made
    _, delivery = challenge.deliveries
    assert (call["to"], call["callback"]) == (NUMBER, f"{REPORTS}/twilio?delivery={delivery.id}")
    assert delivery.reference == call["sid"]
    assert service.apply_report("twilio", town.twilio.end(call, "completed", talk=14)).news == 1
    _, heard = service.get(challenge.id).deliveries
    assert (heard.state, heard.talk_seconds) == (DeliveryState.DELIVERED, 14)
    assert service.verify_code(challenge.id, heard_code(call["said"])).channel == "twilio"


def test_twilio_rings_in_vain_and_vonage_calls(town: Town) -> None:
    """A signed *busy* takes the next step by itself; a forged one, and one of another channel's URL, do nothing."""
    service = town.service("twilio", "vonage")
    challenge = service.issue_code(NUMBER, purpose="login")
    pushed = town.twilio.end(town.twilio.made[0], "busy")
    forged = replace(pushed, headers={"x-twilio-signature": "x"})
    with pytest.raises(ReportRejected):
        service.apply_report("twilio", forged)
    with pytest.raises(ReportRejected):
        service.apply_report("texts", pushed)
    assert town.vonage.made == []
    assert [service.apply_report("twilio", pushed).news for _ in range(2)] == [1, 0]
    assert story(service.get(challenge.id)) == [
        ("twilio", "failed", "busy", None),
        ("vonage", "accepted", None, "failed"),
    ]
    (call,) = town.vonage.made
    ended = town.vonage.end(call, "completed", start_time="2026-01-01T00:00:05.000Z", duration="12")
    assert service.apply_report("vonage", ended).news == 1
    assert service.get(challenge.id).deliveries[1].state is DeliveryState.DELIVERED
    assert service.verify_code(challenge.id, heard_code(call["said"])).channel == "vonage"


def test_a_number_that_does_not_exist_ends_the_route(town: Town) -> None:
    town.twilio.refuse = (400, {"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400})
    service = town.service("twilio", "vonage")
    with pytest.raises(RecipientRejected) as caught:
        service.issue_code(NUMBER, purpose="login")
    assert caught.value.challenge is not None
    assert story(service.get(caught.value.challenge.id)) == [("twilio", "failed", "recipient_rejected", None)]
    assert town.vonage.made == []


def test_an_opted_out_recipient_is_called(town: Town) -> None:
    """Unsubscribed from the text messages of this sender: asking for a call is another matter."""
    town.twilio.refuse = (400, {"code": 21610, "message": "unsubscribed", "status": 400})
    challenge = town.service("texts", "vonage").issue_code(NUMBER, purpose="login")
    assert story(challenge) == [("twilio", "failed", "failed", None), ("vonage", "accepted", None, "refused")]


@pytest.mark.parametrize(("first", "second"), [("twilio", "vonage"), ("vonage", "twilio")])
def test_an_answer_that_was_lost_rings_once(town: Town, first: str, second: str) -> None:
    """The phone rings, the answer never comes: the worker asks for it by number and time, and nothing rings again."""
    service = town.service(first, second, worker=True)
    provider: Server = {"twilio": town.twilio, "vonage": town.vonage}[first]
    other: Server = {"twilio": town.twilio, "vonage": town.vonage}[second]
    provider.drop = True
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    assert story(service.get(challenge.id)) == [(first, "unknown", "outcome_unknown", None)]
    town.work(service, 11)
    assert story(service.get(challenge.id)) == [(first, "accepted", None, None)]
    for _ in range(2):
        town.work(service, 60)
    assert (len(provider.made), len(other.made)) == (1, 0)
    reference = provider.made[0].get("sid") or provider.made[0]["uuid"]
    assert service.get(challenge.id).deliveries[0].reference == reference


def test_a_lost_answer_is_told_by_its_callback(town: Town) -> None:
    """Twilio echoes nothing, but the URL it was given names the delivery: the report settles what nobody answered."""
    town.twilio.drop = True
    service = town.service("twilio", "vonage", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    assert service.apply_report("twilio", town.twilio.end(town.twilio.made[0], "completed", talk=14)).news == 1
    (delivery,) = service.get(challenge.id).deliveries
    assert (delivery.state, delivery.reference) == (DeliveryState.DELIVERED, town.twilio.made[0]["sid"])
    assert not [asked for asked in town.twilio.requests if asked.startswith("GET")]


def test_a_call_that_never_left_is_made_by_the_next(town: Town) -> None:
    """Unknown, and none is found for a minute: it was never placed, and the next vendor calls."""
    town.twilio.refuse = (500, {"code": 20500, "message": "Internal Server Error", "status": 500})
    service = town.service("twilio", "vonage", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    assert story(service.get(challenge.id)) == [("twilio", "unknown", "outcome_unknown", None)]
    for seconds in (11, 55):
        town.work(service, seconds)
    assert story(service.get(challenge.id)) == [
        ("twilio", "failed", "not_received", None),
        ("vonage", "accepted", None, "failed"),
    ]
    assert (len(town.twilio.made), len(town.vonage.made)) == (0, 1)
