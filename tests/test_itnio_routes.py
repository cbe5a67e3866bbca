"""ITNIO from end to end: a service, its routes, reports and workers, and the simulated provider over real HTTP.

What the provider pushes goes to a small HTTP server and from there, request by request, to ``apply_report``. Time is a
clock that the test moves and the simulator shares.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from otpvoice import Challenge, ChallengeState, CodeMismatch, Delivery, DeliveryState, Policy, Route, RouteStep
from otpvoice.channels.base import ReportRejected, ReportRequest
from otpvoice.channels.itnio import ItnioVoice, ItnioVoiceSettings
from otpvoice.channels.itnio_sms import ItnioSMS, ItnioSMSSettings
from otpvoice.clock import ManualClock
from otpvoice.reports import Received
from otpvoice.simulator.backend import Account
from otpvoice.simulator.checks import signed_headers
from otpvoice.simulator.push import Push
from otpvoice.simulator.rules import Rule
from otpvoice.simulator.server import SimulatedItnio
from otpvoice.worker import Worker
from tests.conftest import NUMBER, Maker

TEST_NUMBERS = "+84912345"
"""The last three digits say what happens; see :data:`otpvoice.simulator.rules.BY_NUMBER`."""
SECOND = timedelta(seconds=1)


class Town:
    """A service that routes through ITNIO's SMS and voice, the simulator behind them, and the URL it pushes to."""

    def __init__(self, make: Maker, clock: ManualClock, receiver: Receiver, colour: str = "sync") -> None:
        self.make, self.clock, self.receiver, self.colour = make, clock, receiver, colour
        self.options: dict[str, Any] = {"timeouts": {"read": 5.0}}
        self.itnio = self.start()

    def start(self, **account: Any) -> SimulatedItnio:
        """Another simulator, on a provider with these traits."""
        account.setdefault("app_ids", ("voice-app", "sms-app"))
        self.itnio = SimulatedItnio(account=Account(**account), clock=self.clock)
        self.itnio.start()
        self.push()
        return self.itnio

    def push(self, **traits: Any) -> None:
        self.itnio.set_push(Push(voice_url=f"{self.receiver.url}/voice", sms_url=f"{self.receiver.url}/sms", **traits))

    def service(self, *steps: RouteStep | str, worker: bool = False, channel: Any = None, **policy: Any) -> Any:
        shared = {"api_key": "demo-key", "api_secret": "demo-secret", "base_url": self.itnio.url} | self.options
        voice = ItnioVoiceSettings.from_table("voice", {**shared, "app_id": "voice-app", **(channel or {})})
        sms = ItnioSMSSettings.from_table("sms", {**shared, "app_id": "sms-app"})
        route = [RouteStep(channel=step) if isinstance(step, str) else step for step in steps or ("sms", "voice")]
        service = self.make(
            self.colour,
            channels=[
                ItnioSMS("sms", sms, clock=self.clock),
                ItnioVoice("voice", voice, clock=self.clock),
                ItnioVoice("other", voice, clock=self.clock),
            ],
            policies={"login": Policy(route=Route(steps=tuple(route)), hash_profile="fast", **policy)},
            worker=worker,
        )
        if worker:
            service._housed = None  # Nothing is sent but by the workers that the test runs.
        return service

    def apply(self, service: Any) -> list[Received]:
        """Everything that was pushed by now, and what it leads to, in the order in which it came."""
        applied = []
        while True:
            self.itnio.wait_for_pushes()
            pushed = self.receiver.take()
            if not pushed:
                return applied
            applied += [service.apply_report(channel, request) for channel, request in pushed]

    def work(self, service: Any, seconds: float = 0, *, step: float = 10) -> None:
        """Let a worker look after what falls due in the next so many seconds."""
        for _ in range(round(seconds / step) if seconds else 1):
            self.clock.advance(step if seconds else 0)
            asyncio.run(Worker(service._assembly, poll=timedelta(milliseconds=5)).run(until_idle=True))


class Receiver:
    """The customer's report URL: keeps each request for the test, and answers 200."""

    def __init__(self) -> None:
        self._requests: list[tuple[str, ReportRequest]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ReportRequest(
                    method="POST",
                    url=f"{receiver.url}{self.path}",
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=body,
                    remote=self.client_address[0],
                )
                receiver._requests.append((self.path.removeprefix("/"), request))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self) -> list[tuple[str, ReportRequest]]:
        taken, self._requests = self._requests, []
        return taken

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Deaf:
    """A worker's listener that hears nothing: the worker polls."""

    def __init__(self, *_: object) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def town(services: Maker, clock: ManualClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """Synchronous, on both databases."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # These workers end when nothing is due: half a second each to end a listener would be most of the test.
    monkeypatch.setattr("otpvoice.worker.Listener", Deaf)
    receiver.take()
    made = Town(services, clock, receiver)
    yield made
    made.itnio.stop()


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest, town: Town) -> Town:
    """Both colours."""
    town.colour = request.param
    return town


def facts(delivery: Delivery) -> dict[str, Any]:
    """What a support person reads of a delivery, without ids and the generation's own codes."""
    names = ("state", "reason", "ring_seconds", "talk_seconds", "answered_at", "ended_at", "price", "currency")
    return {name: getattr(delivery, name) for name in names}


def story(challenge: Challenge) -> list[tuple[str, str, str | None, str | None]]:
    return [(d.channel, d.state.value, d.reason, d.cause) for d in challenge.deliveries]


# Going on by itself


def test_a_message_that_fails_is_followed_by_a_call(either: Town) -> None:
    """SMS accepted, then reported failed: the voice call follows by itself, and the late SMS's code still works."""
    service = either.service()
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    assert story(challenge) == [("sms", "accepted", None, None)]
    assert [received.news for received in either.apply(service)] == [1, 1]
    assert story(service.get(challenge.id)) == [
        ("sms", "failed", "failed", None),
        ("voice", "delivered", None, "failed"),
    ]
    (message,), (call,) = either.itnio.messages, either.itnio.calls
    sms, voice = service.get(challenge.id).deliveries
    assert (sms.id, sms.reference, sms.provider_code) == (message.order_id, message.msg_id, "UNDELIV")
    assert (voice.id, voice.reference) == (call.called_info, call.voice_id)
    assert (voice.ring_seconds, voice.talk_seconds) == (7, call.timeline.talk_seconds)
    assert voice.price is not None
    assert (Decimal(voice.price), voice.currency) == (call.cost, "USD")
    assert voice.answered_at == call.timeline.answered.replace(microsecond=voice.answered_at.microsecond)
    assert message.heard_code != call.heard_code
    assert service.get(challenge.id).state is ChallengeState.PENDING
    assert service.verify_code(challenge.id, message.heard_code).channel == "sms"
    assert (len(either.itnio.messages), len(either.itnio.calls)) == (1, 1)


def test_only_the_newest_code_where_the_policy_says_so(either: Town) -> None:
    service = either.service(late_codes="newest")
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    either.apply(service)
    with pytest.raises(CodeMismatch):
        service.verify_code(challenge.id, either.itnio.messages[0].heard_code)
    assert service.verify_code(challenge.id, either.itnio.calls[0].heard_code).channel == "voice"


def test_a_worker_goes_on_as_well(town: Town) -> None:
    service = town.service(worker=True)
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    assert town.itnio.messages == []
    town.work(service)
    town.apply(service)
    assert town.itnio.calls == []
    town.work(service)
    town.apply(service)
    assert story(service.get(challenge.id)) == [
        ("sms", "failed", "failed", None),
        ("voice", "delivered", None, "failed"),
    ]


@pytest.mark.parametrize("generation", ["new", "old"])
def test_a_call_that_nobody_answers_is_followed_by_the_next_step(town: Town, generation: str) -> None:
    town.push(terminations=generation)
    service = town.service("voice", "sms")
    challenge = service.issue_code(f"{TEST_NUMBERS}480", purpose="login")
    town.apply(service)
    assert story(service.get(challenge.id)) == [
        ("voice", "failed", "no_answer", None),
        ("sms", "delivered", None, "failed"),
    ]


def test_a_number_that_was_not_accepted_takes_the_next_step_at_once(either: Town) -> None:
    """Status 0 without our number: no success. The call follows in the same request."""
    challenge = either.service().issue_code(f"{TEST_NUMBERS}613", purpose="login")
    assert story(challenge) == [("sms", "failed", "failed", None), ("voice", "accepted", None, "refused")]
    assert (len(either.itnio.messages), len(either.itnio.calls)) == (0, 1)


# What became of a call, as support people read it


@pytest.mark.parametrize(
    ("digits", "state", "reason", "rings", "talks"),
    [
        ("200", DeliveryState.DELIVERED, None, True, True),
        ("299", DeliveryState.DELIVERED, "voicemail_suspected", True, True),
        ("408", DeliveryState.FAILED, "no_answer", True, False),
        ("480", DeliveryState.FAILED, "no_answer", True, False),
        ("486", DeliveryState.FAILED, "busy", False, False),
        ("603", DeliveryState.FAILED, "rejected", True, False),
        ("404", DeliveryState.FAILED, "invalid_number", False, False),
        ("403", DeliveryState.FAILED, "blocked", False, False),
        ("503", DeliveryState.FAILED, "carrier_failure", False, False),
    ],
)
def test_stories(town: Town, digits: str, state: DeliveryState, reason: str | None, rings: bool, talks: bool) -> None:
    """By a push, and just the same by asking for the record; the challenge is open either way."""
    service = town.service("voice", worker=True)
    for pushed in (True, False):
        town.itnio.set_rule(Rule(outcome=town_outcome(digits), sip_code=town_sip(digits), pushed=pushed))
        challenge = service.issue_code(f"{TEST_NUMBERS}{digits}", purpose="login")
        town.work(service)
        assert bool(town.apply(service)) == pushed
        if not pushed:
            town.work(service, 140, step=35)
        (delivery,) = service.get(challenge.id).deliveries
        assert (delivery.state, delivery.reason) == (state, reason)
        assert (delivery.ring_seconds is not None, delivery.talk_seconds is not None) == (rings, talks)
        assert (delivery.answered_at is not None) == talks
        assert delivery.provider_code == ("200" if talks else digits)
        assert delivery.currency == "USD"
        assert service.get(challenge.id).state is ChallengeState.PENDING
        kinds = [event.kind for event in service.events(challenge.id)]
        assert kinds.count("delivery.reported") == 1
    assert town.itnio.requests["/voice/recordGroup"] == 1


def town_outcome(digits: str) -> Any:
    from otpvoice.simulator.rules import BY_NUMBER

    return BY_NUMBER[digits].outcome


def town_sip(digits: str) -> int | None:
    from otpvoice.simulator.rules import BY_NUMBER

    return BY_NUMBER[digits].sip_code


# Nobody knows what became of it


def test_an_accepted_call_whose_answer_was_lost_is_found_by_its_echo(town: Town) -> None:
    """The phone rings, the answer never comes: the records are searched for our id, and nothing rings again."""
    town.itnio.set_rule(Rule(on="/voice/sendCode", answer="drop", accept=True, pushed=False))
    service = town.service("voice", "other", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    assert story(service.get(challenge.id)) == [("voice", "unknown", "outcome_unknown", None)]
    town.work(service, 10, step=10)
    (delivery,) = service.get(challenge.id).deliveries
    (call,) = town.itnio.calls
    assert (delivery.state, delivery.reason, delivery.reference) == (DeliveryState.DELIVERED, None, call.voice_id)
    assert town.itnio.requests["/voice/recordGroupQuery"] == 1
    (reported,) = [event for event in service.events(challenge.id) if event.kind == "delivery.reported"]
    assert reported.data["asked"] is True
    assert reported.data["answered_at"] == delivery.answered_at.isoformat()
    town.work(service, 280, step=40)
    assert len(town.itnio.calls) == 1
    assert service.get(challenge.id).deliveries[0].talk_seconds == call.timeline.talk_seconds


def test_the_code_of_such_a_call_works(town: Town) -> None:
    town.itnio.set_rule(Rule(on="/voice/sendCode", answer="drop", accept=True, pushed=False))
    service = town.service("voice", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    town.work(service, 10)
    assert service.verify_code(challenge.id, town.itnio.calls[0].heard_code).channel == "voice"


def test_a_call_under_way_is_not_taken_for_one_that_never_was(town: Town) -> None:
    """A record appears when the call is over, minutes after the sending: until then nothing else may ring."""
    town.itnio.stop()
    town.start(pace=1.0)
    rule = Rule(on="/voice/sendCode", answer="drop", accept=True, pushed=False, ring_seconds=55, talk_seconds=40)
    town.itnio.set_rule(rule)
    service = town.service("voice", "other", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    town.work(service, 90)
    assert story(service.get(challenge.id)) == [("voice", "unknown", "outcome_unknown", None)]
    town.work(service, 20)
    assert story(service.get(challenge.id)) == [("voice", "delivered", None, None)]
    assert len(town.itnio.calls) == 1


def test_a_call_that_was_never_placed_is_followed_by_another(town: Town) -> None:
    """Once its record would certainly be there; exactly one more call."""
    town.itnio.set_rule(Rule(on="/voice/sendCode", answer="drop", accept=False, times=1))
    service = town.service("voice", "other", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    town.work(service, 130, step=26)
    assert town.itnio.calls == []
    town.work(service, 20)
    assert story(service.get(challenge.id)) == [
        ("voice", "failed", "not_received", None),
        ("other", "accepted", None, "failed"),
    ]
    assert len(town.itnio.calls) == 1


def test_records_that_cannot_be_read_let_nothing_ring(town: Town) -> None:
    """A provider that does not answer has not said that it never received the call."""
    town.itnio.set_rule(Rule(on="/voice/sendCode", answer="drop", accept=True, pushed=False))
    town.itnio.set_rule(Rule(on="/voice/recordGroupQuery", answer="-18"))
    service = town.service("voice", "other", worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    town.work(service, 200, step=20)
    assert story(service.get(challenge.id)) == [("voice", "unknown", "outcome_unknown", None)]
    assert len(town.itnio.calls) == 1


def test_the_record_among_many(town: Town) -> None:
    """Other people's calls fill the newest page of the same minutes."""
    service = town.service("voice", worker=True)
    town.itnio.set_rule(Rule(on="/voice/sendCode", answer="drop", accept=True, pushed=False, times=1))
    challenge = service.issue_code(NUMBER, purpose="login")
    town.work(service)
    town.push(hold=True)
    headers = signed_headers("demo-key", "demo-secret", at=town.clock.now().timestamp())
    call = {"callee": NUMBER.removeprefix("+"), "language": "EN", "text": "Hello", "appId": "voice-app"}
    with httpx.Client(trust_env=False, base_url=town.itnio.url, headers=headers) as others:
        for _ in range(100):
            others.post("/voice/sendCode", json=call).raise_for_status()
    town.work(service, 10, step=10)
    (delivery,) = service.get(challenge.id).deliveries
    assert (delivery.state, delivery.reference) == (DeliveryState.DELIVERED, town.itnio.calls[0].voice_id)
    assert town.itnio.requests["/voice/recordGroupQuery"] == 2


def test_a_provider_that_accepts_everything_and_reports_nothing(town: Town) -> None:
    """It is asked, says *under way*, and is asked again when the route's patience ends: then the next step rings."""
    service = town.service(RouteStep(channel="sms", no_report_within=90 * SECOND), "voice", worker=True)
    challenge = service.issue_code(f"{TEST_NUMBERS}612", purpose="login")
    town.work(service)
    town.work(service, 59, step=59)
    assert town.itnio.requests["/sms/getReport"] == 0
    town.work(service, 1, step=1)
    assert town.itnio.requests["/sms/getReport"] == 1
    town.work(service, 29, step=29)
    assert town.itnio.calls == []
    town.work(service, 1, step=1)
    assert town.itnio.requests["/sms/getReport"] == 2
    town.apply(service)
    assert story(service.get(challenge.id)) == [
        ("sms", "accepted", None, None),
        ("voice", "delivered", None, "no_report"),
    ]


def test_a_push_that_never_came_is_made_up_for_by_asking(town: Town) -> None:
    """For calls and messages: what the provider knows is found, and the route does not go on."""
    town.itnio.set_rule(Rule(pushed=False))
    for channel, path in (("sms", "/sms/getReport"), ("voice", "/voice/recordGroup")):
        step = RouteStep(channel=channel, no_report_within=200 * SECOND)
        service = town.service(step, "other", worker=True)
        challenge = service.issue_code(NUMBER, purpose="login")
        town.work(service)
        town.work(service, 140, step=35)
        assert story(service.get(challenge.id)) == [(channel, "delivered", None, None)]
        assert town.itnio.requests[path] == 1
        town.work(service, 100, step=50)
        assert town.itnio.requests[path] == 1
    assert (len(town.itnio.messages), len(town.itnio.calls)) == (1, 1)


# Repeated, late, out of order, old and new


SHAPES: list[dict[str, Any]] = [
    {},
    {"shape": "list"},
    {"shape": "array"},
    {"copies": 3},
    {"terminations": "old"},
    {"terminations": "old", "shape": "array", "copies": 2},
    {"oddities": ("string-numbers", "spaced-key")},
    {"oddities": ("zero-times",)},
    {"oddities": ("missing-times",), "terminations": "old"},
    {"oddities": ("no-sip-code",)},
]


@pytest.mark.parametrize("digits", ["200", "299", "480", "486"])
def test_all_forms_of_a_push_end_alike(town: Town, digits: str) -> None:
    """Every shape, generation and oddity tells the same facts, once."""
    told = []
    service = town.service("voice", max_live=100, max_sends_per_day=100)
    for traits in SHAPES:
        town.push(**traits)
        if digits == "200":  # Else it talks as long as the code's digits take.
            town.itnio.set_rule(Rule(talk_seconds=20))
        challenge = service.issue_code(f"{TEST_NUMBERS}{digits}", purpose="login")
        assert sum(received.news for received in town.apply(service)) == 1, traits
        told.append(facts(service.get(challenge.id).deliveries[0]))
    assert all(fact == told[0] for fact in told), told


def test_reports_that_contradict_each_other_end_alike_in_any_order(town: Town) -> None:
    """Busy, no answer, answered, each of both generations: *answered* wins, whichever came first."""
    service = town.service("voice", max_live=100, max_sends_per_day=100)
    ended = []
    for order in itertools.permutations(("busy", "no_answer", "answered")):
        town.push(hold=True)
        challenge = service.issue_code(NUMBER, purpose="login")
        town.push()
        for index, outcome in enumerate(order):
            town.push(terminations="old" if index % 2 else "new")
            town.itnio.push(town.itnio.calls[-1].voice_id, outcome=outcome)
            town.apply(service)
        ended.append(facts(service.get(challenge.id).deliveries[0]))
    assert ended[0]["state"] is DeliveryState.DELIVERED
    assert all((end["state"], end["reason"]) == (DeliveryState.DELIVERED, None) for end in ended)


def test_a_message_reported_twice_rings_once(either: Town) -> None:
    either.push(copies=4)
    service = either.service()
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    received = either.apply(service)
    assert len(received) == 8
    assert sum(report.news for report in received) == 2
    assert len(either.itnio.calls) == 1
    assert len(service.get(challenge.id).deliveries) == 2


@pytest.mark.parametrize("end", ["approved", "cancelled", "expired"])
def test_a_late_report_changes_what_is_known_and_nothing_else(either: Town, end: str) -> None:
    """After the challenge's end a failure is written down; nothing rings, and no state of the challenge moves."""
    either.push(hold=True)
    service = either.service()
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    if end == "approved":
        service.verify_code(challenge.id, either.itnio.messages[0].heard_code)
    elif end == "cancelled":
        service.cancel(challenge.id)
    else:
        either.clock.advance(900)
    assert either.apply(service) == []
    assert either.itnio.flush_pushes() == 1
    assert [received.news for received in either.apply(service)] == [1]
    after = service.get(challenge.id)
    assert story(after) == [("sms", "failed", "failed", None)]
    assert after.state.value == end
    assert either.itnio.calls == []


# Forged


def forge(**fields: Any) -> ReportRequest:
    return ReportRequest(
        method="POST",
        url="https://example.org/reports/itnio",
        headers={},
        body=json.dumps(fields).encode(),
        remote="192.0.2.66",
    )


def test_forged_reports_of_nothing_of_ours(either: Town) -> None:
    """Unknown ids, another channel's deliveries, our id with a foreign call's: nothing changes, nothing rings."""
    either.push(hold=True)
    service = either.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    (delivery,) = challenge.deliveries
    before = service.get(challenge.id)
    failed = {"sipCode": "486", "status": 1}
    forged = [
        ("sms", forge(orderId="dl_" + "0" * 32, msgid="1", **failed)),
        ("sms", forge(orderId=delivery.id.upper(), msgid="1", **failed)),
        ("sms", forge(orderId=delivery.id, msgid="9" * 19, **failed)),
        ("sms", forge(orderId=challenge.id, msgid=challenge.id, **failed)),
        ("sms", forge(orderId="'; DROP TABLE delivery; --", msgid="\u0000", **failed)),
        ("voice", forge(calledInfo=delivery.id, voiceId=delivery.reference, **failed)),
        ("other", forge(calledInfo=delivery.id, **failed)),
        ("sms", forge(msgid="1" * 200, status=1)),
        ("sms", forge(msgid=delivery.reference, status="delivered")),
    ]
    for channel, request in forged:
        assert service.apply_report(channel, request).news == 0, (channel, request.body)
    assert service.get(challenge.id) == before
    assert either.itnio.calls == []


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda body: body[:-20],
    "in single quotes": lambda body: body.replace(b'"', b"'"),
    "empty": lambda body: b"",
    "deep": lambda body: b"[" * 200_000,
    "gigantic": lambda body: body + b" " * (1 << 20),
    "too many": lambda body: b"[" + b",".join([body] * 1001) + b"]",
    "partly of the wrong type": lambda body: b"[" + body + b", 7]",
    "a text": lambda body: b'"' + b"x" * 5000 + b'"',
}


def test_spoilt_reports_are_refused_whole(either: Town) -> None:
    """Truncated, gigantic, not JSON, of the wrong type: refused, and the true report still counts afterwards."""
    either.push(hold=True)
    service = either.service()
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    either.itnio.flush_pushes()
    either.itnio.wait_for_pushes()
    ((channel, request),) = either.receiver.take()
    for spoil in SPOILT.values():
        with pytest.raises(ReportRejected):
            service.apply_report(channel, replace(request, body=spoil(request.body)))
    assert story(service.get(challenge.id)) == [("sms", "accepted", None, None)]
    assert service.apply_report(channel, request).news == 1


def test_fields_of_wrong_types_cost_nothing_but_themselves(town: Town) -> None:
    """What cannot be read is left out; what is stored fits the database, PostgreSQL's as well."""
    town.push(hold=True)
    service = town.service("voice")
    challenge = service.issue_code(NUMBER, purpose="login")
    (delivery,) = challenge.deliveries
    odd = {
        "callDuration": 10**30,
        "ringDuration": -5,
        "answerTime": 1704164655000,
        "hangupTime": "9" * 40,
        "cost": "1e400",
        "currency": {"is": "USD"},
        "ringingTime": [1],
        "terminationReason": "\u0000" * 100,
    }
    report = forge(calledInfo=delivery.id, voiceId=int(delivery.reference), sipCode=200, **odd)
    assert service.apply_report("voice", report).news == 1
    (after,) = service.get(challenge.id).deliveries
    assert (after.state, after.reason, after.ring_seconds, after.talk_seconds, after.ended_at, after.price) == (
        DeliveryState.DELIVERED,
        *(None,) * 5,
    )


def test_only_listed_senders(either: Town) -> None:
    either.options |= {"report_ips": ["127.0.0.1"]}
    service = either.service("voice")
    challenge = service.issue_code(f"{TEST_NUMBERS}486", purpose="login")
    (delivery,) = challenge.deliveries
    with pytest.raises(ReportRejected) as refused:
        service.apply_report("voice", forge(calledInfo=delivery.id, voiceId=delivery.reference, sipCode="486"))
    assert not refused.value.authentic
    assert service.get(challenge.id).deliveries[0].state is DeliveryState.ACCEPTED
    assert [received.news for received in either.apply(service)] == [1]


def test_a_confirmed_report_says_what_the_record_says(either: Town) -> None:
    """A perfect forgery of *busy* finds out that the call was answered, and makes nothing ring."""
    either.options |= {"confirm_reports": True}
    either.push(hold=True)
    service = either.service("voice", "other")
    challenge = service.issue_code(NUMBER, purpose="login")
    (delivery,) = challenge.deliveries
    forged = forge(calledInfo=delivery.id, voiceId=delivery.reference, sipCode="486", terminationCode="486")
    assert service.apply_report("voice", forged).news == 1
    (after,) = service.get(challenge.id).deliveries
    (call,) = either.itnio.calls
    assert (after.state, after.talk_seconds) == (DeliveryState.DELIVERED, call.timeline.talk_seconds)
    for unknown in ("7" * 19, "../getBalance", ""):
        assert service.apply_report("voice", forge(calledInfo=delivery.id, voiceId=unknown, sipCode="486")).news == 0
    assert len(either.itnio.calls) == 1


def test_true_reports_are_confirmed_and_go_on(either: Town) -> None:
    """Confirmed, a failed message is followed by a call as fast as without."""
    either.options |= {"confirm_reports": True}
    service = either.service()
    challenge = service.issue_code(f"{TEST_NUMBERS}611", purpose="login")
    either.apply(service)
    assert story(service.get(challenge.id)) == [
        ("sms", "failed", "failed", None),
        ("voice", "delivered", None, "failed"),
    ]
    assert either.itnio.requests["/sms/getReport"] == 1
    assert either.itnio.requests["/voice/recordGroup"] == 1


def test_what_cannot_be_confirmed_changes_nothing_until_it_is_asked_about(town: Town) -> None:
    """The provider's records are late: the push is dropped, and the poll finds the truth."""
    town.options |= {"confirm_reports": True}
    town.itnio.stop()
    town.start(record_delay=30)
    service = town.service("voice", worker=True)
    challenge = service.issue_code(f"{TEST_NUMBERS}486", purpose="login")
    town.work(service)
    assert [received.news for received in town.apply(service)] == [0]
    assert story(service.get(challenge.id)) == [("voice", "accepted", None, None)]
    town.work(service, 140, step=35)
    assert story(service.get(challenge.id)) == [("voice", "failed", "busy", None)]
