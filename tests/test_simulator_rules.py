"""What the simulator does wrong on demand."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import phonenumbers
import pytest

from otpvoice.clock import SystemClock
from otpvoice.simulator.checks import REASONS, signed_headers
from otpvoice.simulator.records import MessageOutcome, Outcome
from otpvoice.simulator.rules import BY_NUMBER, TEST_RANGE, Rule, RuleBook
from otpvoice.simulator.server import SimulatedItnio

Ask = Callable[..., httpx.Response]


@pytest.fixture
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio() as simulator:
        yield simulator


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


def headers() -> dict[str, str]:
    return signed_headers("demo-key", "demo-secret", at=SystemClock().now().timestamp())


@pytest.fixture
def call(itnio: SimulatedItnio, http: httpx.Client) -> Ask:
    def ask(callee: str = "84912345678", **changes: Any) -> httpx.Response:
        body = {"callee": callee, "language": "EN", "text": "4, 8, 2, 9, 1, 3", "appId": "demo-app"} | changes
        return http.post(f"{itnio.url}/voice/sendCode", json=body, headers=headers())

    return ask


@pytest.mark.parametrize("code", sorted(REASONS)[:-1])
def test_every_status_can_be_provoked(itnio: SimulatedItnio, call: Ask, code: int) -> None:
    """By a rule and by a number; the envelope has no ``data``, and nothing rings."""
    itnio.set_rule(Rule(answer=str(code), times=1))
    for callee in ("84912345678", f"{TEST_RANGE}{900 - code}"):
        answer = call(callee)
        assert (answer.status_code, answer.json()) == (200, {"status": str(code), "reason": REASONS[code]})
    assert itnio.calls == []


@pytest.mark.parametrize(
    ("answer", "http_status", "is_seen"),
    [
        ("http-500", 500, lambda answer: answer.content == b"the simulator was told to fail"),
        ("http-429", 429, lambda answer: bool(answer.content)),
        ("http-204", 204, lambda answer: answer.content == b""),
        ("garbage", 200, lambda answer: answer.content.startswith(b"\x00\xff")),
        ("html", 200, lambda answer: answer.headers["content-type"].startswith("text/html")),
        ("empty", 200, lambda answer: answer.content == b""),
        ("truncated", 200, lambda answer: answer.content.startswith(b'{"status": "0"') and b"}" not in answer.content),
    ],
)
@pytest.mark.parametrize("accept", [True, False])
def test_broken_answers(
    itnio: SimulatedItnio,
    call: Ask,
    answer: str,
    http_status: int,
    is_seen: Callable[[httpx.Response], bool],
    accept: bool,
) -> None:
    """The answer is broken as said; whether the call rings all the same is told apart from it."""
    itnio.set_rule({"answer": answer, "accept": accept})
    got = call()
    assert got.status_code == http_status
    assert is_seen(got)
    assert len(itnio.calls) == accept


def test_odd_answers_place_the_call(itnio: SimulatedItnio, call: Ask) -> None:
    """Numbers where Strings are documented, other names, no id."""
    for answer in ("number-status", "number-id", "aliases", "no-id"):
        itnio.set_rule({"answer": answer, "times": 1})
    nothing, aliases, number_id, number_status = (call() for _ in range(4))
    ids = [made.voice_id for made in itnio.calls]
    assert nothing.json() == {"status": "0", "reason": "success", "data": None}
    assert aliases.json() == {"code": "0", "msg": "success", "data": ids[1]}
    assert number_id.json()["data"] == int(ids[2])
    assert number_status.json()["status"] == 0


def test_accepted_then_dropped(itnio: SimulatedItnio, call: Ask, http: httpx.Client) -> None:
    """The call rings, the answer never comes, and the record tells who asked for it."""
    itnio.set_rule({"answer": "drop", "accept": True, "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        call(calledInfo="d-7")
    (made,) = itnio.calls
    found = http.get(f"{itnio.url}/voice/recordGroup/{made.voice_id}", headers=headers()).json()["data"]
    assert found["calledInfo"] == "d-7"
    assert itnio.requests["/voice/sendCode"] == 1


def test_dropped_before_accepting(itnio: SimulatedItnio, call: Ask) -> None:
    """Nothing rings; the next request is served."""
    itnio.set_rule({"answer": "drop", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        call()
    assert itnio.calls == []
    assert call().json()["status"] == "0"


@pytest.mark.parametrize("rule", [{"answer": "hang", "accept": True}, {"delay": 3600}])
def test_an_answer_that_does_not_come_ends_with_the_simulator(
    rule: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The call rings at once although the client still waits; stopping wakes the delay and cancels nothing."""
    failures: list[Exception] = []

    def ask(url: str) -> None:
        body = {"callee": "84912345678", "language": "EN", "text": "1, 2, 3, 4", "appId": "demo-app"}
        try:
            httpx.post(f"{url}/voice/sendCode", json=body, headers=headers(), timeout=60, trust_env=False)
        except httpx.TransportError as error:
            failures.append(error)

    with SimulatedItnio() as simulator:
        simulator.set_rule(rule)
        waiting = threading.Thread(target=ask, args=(simulator.url,))
        waiting.start()
        assert simulator.wait_for_calls(1)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(failures) == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_client_that_gives_up_does_not_disturb_the_next(itnio: SimulatedItnio, call: Ask) -> None:
    """A read timeout against a hanging provider; the call was placed."""
    itnio.set_rule({"answer": "hang", "accept": True, "times": 1})
    body = {"callee": "84912345678", "language": "EN", "text": "1, 2, 3, 4", "appId": "demo-app"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{itnio.url}/voice/sendCode", json=body, headers=headers(), timeout=0.2, trust_env=False)
    assert call().json()["status"] == "0"
    assert len(itnio.calls) == 2


def test_an_accepting_answer_without_accepting(itnio: SimulatedItnio, call: Ask, http: httpx.Client) -> None:
    """A provider that says yes and rings nobody: a fresh id, and no record of it."""
    itnio.set_rule({"accept": False})
    answer = call().json()
    assert answer["status"] == "0"
    assert itnio.calls == []
    assert http.get(f"{itnio.url}/voice/recordGroup/{answer['data']}", headers=headers()).json()["status"] == "-24"


OUTCOMES = {
    Outcome.ANSWERED: (200, True, True),
    Outcome.VOICEMAIL: (200, True, True),
    Outcome.NO_ANSWER: (480, True, False),
    Outcome.REJECTED: (603, True, False),
    Outcome.BUSY: (486, False, False),
    Outcome.INVALID_NUMBER: (404, False, False),
    Outcome.BLOCKED: (403, False, False),
    Outcome.CARRIER_FAILURE: (503, False, False),
}


@pytest.mark.parametrize("outcome", Outcome)
def test_call_outcomes(itnio: SimulatedItnio, call: Ask, outcome: Outcome) -> None:
    """Each has its SIP code; what never rang has no ringing time, what was not answered costs nothing."""
    itnio.set_rule(Rule(outcome=outcome))
    assert call().json()["status"] == "0"
    (made,) = itnio.calls
    sip, rang, answered = OUTCOMES[outcome]
    assert (made.outcome, made.sip_code) == (outcome, sip)
    assert (made.timeline.rang is not None, made.timeline.answered is not None) == (rang, answered)
    assert (made.cost > 0, made.timeline.talk_seconds > 0) == (answered, answered)
    assert made.timeline.hung_up > made.timeline.submitted


def test_voicemail_is_answered_and_cut_short(itnio: SimulatedItnio, call: Ask) -> None:
    """Shorter than the text takes."""
    itnio.set_rule({"outcome": "voicemail"})
    call(text="x" * 300)
    itnio.clear_rules()
    call(text="x" * 300)
    machine, person = itnio.calls
    assert machine.timeline.talk_seconds == 3
    assert person.timeline.talk_seconds == 25


def test_nobody_answers_for_as_long_as_it_rings(itnio: SimulatedItnio, call: Ask) -> None:
    """``maxRingingTime``."""
    itnio.set_rule({"outcome": "no_answer"})
    call(maxRingingTime=33)
    assert itnio.calls[0].timeline.ring_seconds == 33


def test_a_rule_overrides_seconds_and_sip_code(itnio: SimulatedItnio, call: Ask) -> None:
    """Down to a talk of 0 seconds, as an answer that was none."""
    itnio.set_rule({"ring_seconds": 11, "talk_seconds": 0, "sip_code": 500, "outcome": "answered"})
    call()
    (made,) = itnio.calls
    assert (made.timeline.ring_seconds, made.timeline.talk_seconds, made.sip_code) == (11, 0, 500)


def test_the_newest_matching_rule_counts_alone() -> None:
    """``times`` is used up by matching requests only; then the older rule counts again."""
    book = RuleBook()
    book.add(Rule(answer="-18"))
    book.add(Rule(answer="-10", callee="678", times=2))
    book.add(Rule(answer="-1", on="/sms/getBalance"))
    taken = [book.take("/voice/sendCode", callee).answer for callee in ("84912345678", "84900000000", "1678", "1678")]
    assert taken == ["-10", "-18", "-10", "-18"]
    assert book.take("/sms/getBalance").answer == "-1"
    assert book.take("/voice/recordGroup").answer == "ok"
    assert [rule.answer for rule in book.snapshot()] == ["-1", "-18"]


def test_a_rule_for_everything(itnio: SimulatedItnio, call: Ask, http: httpx.Client) -> None:
    """``*`` concerns queries too, and a rule for sends does not."""
    itnio.set_rule({"answer": "-18"})
    assert http.get(f"{itnio.url}/sms/getBalance", headers=headers()).json()["status"] == "0"
    itnio.set_rule({"answer": "-13", "on": "*"})
    assert http.get(f"{itnio.url}/sms/getBalance", headers=headers()).json()["status"] == "-13"
    assert call().json()["status"] == "-13"


def test_a_rule_does_not_hide_a_wrong_request(itnio: SimulatedItnio, call: Ask) -> None:
    """A request that the provider would refuse gets that refusal and uses no rule up."""
    itnio.set_rule({"answer": "-10", "times": 1})
    assert call(loopCount=10).json()["status"] == "-22"
    assert call().json()["status"] == "-10"


@pytest.mark.parametrize(
    "wrong",
    [
        {"answr": "-10"},
        {"answer": "-0"},
        {"answer": "10"},
        {"answer": "-100"},
        {"answer": "http-99"},
        {"answer": "http-100"},
        {"answer": None},
        {"on": "voice/sendCode"},
        {"callee": "+84"},
        {"times": 0},
        {"delay": -1},
        {"outcome": "asleep"},
        {"sip_code": 99},
        {"message": "lost"},
    ],
)
def test_a_rule_with_a_mistake_is_refused(itnio: SimulatedItnio, wrong: dict[str, object]) -> None:
    """A typing error must not become a rule that does nothing."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        itnio.set_rule(wrong)


def test_rules_survive_the_way_to_json_and_back() -> None:
    """What the admin endpoint shows can be sent to it."""
    rule = Rule(answer="-10", callee="678", times=3, outcome=Outcome.BUSY, message=MessageOutcome.FAILED, delay=0.5)
    assert Rule.of(rule.as_dict()) == rule


@pytest.mark.parametrize("digits", sorted(BY_NUMBER))
def test_the_test_numbers_are_valid_mobile_numbers(digits: str) -> None:
    """libphonenumber takes them, so they pass through a whole login flow."""
    number = phonenumbers.parse(f"+{TEST_RANGE}{digits}")
    assert phonenumbers.is_valid_number(number)
    assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
    assert phonenumbers.region_code_for_number(number) == "VN"


@pytest.mark.parametrize("digits", ["299", "403", "404", "408", "480", "486", "487", "503", "603"])
def test_a_number_ends_with_its_sip_code(itnio: SimulatedItnio, call: Ask, digits: str) -> None:
    """The call is accepted and ends so; 299 is a voicemail, answered with 200."""
    assert call(TEST_RANGE + digits).json()["status"] == "0"
    (made,) = itnio.calls
    assert made.sip_code == (200 if digits == "299" else int(digits))
    assert made.outcome is not Outcome.ANSWERED


def test_other_numbers_with_these_endings_are_ordinary(itnio: SimulatedItnio, call: Ask) -> None:
    """Only the documented range means something, only for sends, and a rule wins over it."""
    assert call("84987654910").json()["status"] == "0"
    assert call("849123450910").json()["status"] == "0"
    itnio.set_rule({"answer": "ok"})
    assert call(f"{TEST_RANGE}910").json()["status"] == "0"
    assert RuleBook(by_number=False).take("/voice/sendCode", f"{TEST_RANGE}910").answer == "ok"


def test_the_documentation_lists_every_number() -> None:
    """The table in docs/simulator.md has each ending of the test range, and no other."""
    page = (Path(__file__).parent.parent / "docs" / "simulator.md").read_text(encoding="utf-8")
    table = page.partition("## Numbers that mean something")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if re.match(r"\| \d", row)]
    listed = {digits for row in rows for digits in re.findall(r"\d{3}", row)}
    assert "901 … 932" in rows[-1]
    assert listed | {f"9{code:02}" for code in range(1, 33)} == set(BY_NUMBER)
