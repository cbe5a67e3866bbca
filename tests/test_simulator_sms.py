"""The simulated SMS API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from otpvoice.clock import SystemClock
from otpvoice.simulator.backend import Account
from otpvoice.simulator.checks import signed_headers
from otpvoice.simulator.records import MessageOutcome
from otpvoice.simulator.rules import TEST_RANGE
from otpvoice.simulator.server import SimulatedItnio

Ask = Callable[..., dict[str, Any]]
TEXT = {"appId": "demo-app", "numbers": "84912345678", "content": "482913 is your code. Never share it."}


@pytest.fixture
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio(account=Account(balance=Decimal("0.10"))) as simulator:
        yield simulator


@pytest.fixture
def http(itnio: SimulatedItnio) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, base_url=itnio.url) as client:
        yield client


def headers() -> dict[str, str]:
    return signed_headers("demo-key", "demo-secret", at=SystemClock().now().timestamp())


@pytest.fixture
def text(http: httpx.Client) -> Ask:
    def ask(method: str = "POST", **changes: Any) -> dict[str, Any]:
        body = TEXT | changes
        given: dict[str, Any] = {"json": body} if method == "POST" else {"params": body}
        answer = http.request(method, "/sms/sendSms", headers=headers(), **given)
        assert answer.status_code == 200
        envelope: dict[str, Any] = answer.json()
        return envelope

    return ask


@pytest.fixture
def report(http: httpx.Client) -> Ask:
    def ask(*ids: str, app_id: str = "demo-app") -> dict[str, Any]:
        params = {"appId": app_id, "msgIds": ",".join(ids)}
        answer: dict[str, Any] = http.get("/sms/getReport", params=params, headers=headers()).json()
        return answer

    return ask


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_text_is_sent(itnio: SimulatedItnio, text: Ask, method: str) -> None:
    """Counts as Strings at top level, one item for each accepted number; the text is kept and can be read."""
    answer = text(method, senderId="Example", orderId="d-1")
    (sent,) = itnio.messages
    item = {"msgId": sent.msg_id, "number": "84912345678", "orderId": "d-1"}
    assert answer == {"status": "0", "reason": "success", "success": "1", "fail": "0", "array": [item]}
    assert (sent.content, sent.sender_id, sent.order_id) == (TEXT["content"], "Example", "d-1")
    assert sent.heard_code == "482913"
    assert "482913" not in repr(sent)
    assert "84912345678" not in repr(sent)


def test_without_an_order_id_none_is_echoed(text: Ask) -> None:
    """A client has to match by number."""
    assert set(text()["array"][0]) == {"msgId", "number"}


def test_several_numbers_can_fail_in_part(itnio: SimulatedItnio, text: Ask) -> None:
    """Status 0 although one number was no number; orders stay with their numbers."""
    answer = text(numbers="84912345678,12,84912345679", orderId="a,b,c")
    assert (answer["status"], answer["success"], answer["fail"]) == ("0", "2", "1")
    assert [(item["number"], item["orderId"]) for item in answer["array"]] == [
        ("84912345678", "a"),
        ("84912345679", "c"),
    ]
    assert len(itnio.messages) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"numbers": ""}, "-8"),
        ({"numbers": None}, "-8"),
        ({"numbers": "+84912345678"}, "-9"),
        ({"numbers": "12,x"}, "-9"),
        ({"numbers": ",".join(["84912345678"] * 1001)}, "-7"),
        ({"numbers": 84912345678}, "-22"),
        ({"content": ""}, "-4"),
        ({"content": "x" * 1025}, "-5"),
        ({"content": ["x"]}, "-22"),
        ({"senderId": "x" * 33}, "-22"),
        ({"orderId": "a,b"}, "-22"),
        ({"appId": "other"}, "-32"),
        ({"appId": None}, "-32"),
    ],
)
def test_what_the_vendor_refuses(itnio: SimulatedItnio, text: Ask, changes: dict[str, Any], expected: str) -> None:
    """With the SMS list's own status, and nothing is sent."""
    assert text(**changes)["status"] == expected
    assert itnio.messages == []


def test_the_limits_are_taken(text: Ask) -> None:
    """1024 characters, 32 of a sender id; by GET at most 100 numbers."""
    assert text(content="x" * 1024, senderId="x" * 32)["status"] == "0"
    assert text("GET", numbers=",".join(["8491234"] * 101))["status"] == "-7"


def test_a_status_0_without_an_accepted_number(itnio: SimulatedItnio, text: Ask) -> None:
    """By rule and by number: what a client has to take for a failure."""
    itnio.set_rule({"answer": "no-id", "accept": False, "times": 1})
    by_rule, by_number = text(), text(numbers=f"{TEST_RANGE}613")
    for answer in (by_rule, by_number):
        assert (answer["status"], answer["success"], answer["fail"], answer["array"]) == ("0", "0", "1", [])
    assert itnio.messages == []


def test_a_provider_that_says_yes_and_sends_nothing(itnio: SimulatedItnio, text: Ask, report: Ask) -> None:
    """An id that no report knows."""
    itnio.set_rule({"accept": False})
    (item,) = text()["array"]
    assert itnio.messages == []
    assert report(item["msgId"])["nofound"] == "1"


def test_reports_tell_delivered_failed_pending_and_unknown(text: Ask, report: Ask, itnio: SimulatedItnio) -> None:
    """0, 1 and -1 as Strings, counted at top level, unknown ids under the vendor's spelling."""
    ids = [
        text(numbers=number)["array"][0]["msgId"] for number in ("84912345678", f"{TEST_RANGE}611", f"{TEST_RANGE}612")
    ]
    answer = report(*ids, "2601010000000000001")
    assert [answer[name] for name in ("success", "fail", "sending", "nofound")] == ["1", "1", "1", "1"]
    assert [(item["msgId"], item["status"]) for item in answer["array"]] == list(
        zip(ids, ["0", "1", "-1"], strict=True)
    )
    assert answer["array"][0]["receiveTime"].endswith("+08:00")
    assert [sent.outcome for sent in itnio.messages] == [
        MessageOutcome.DELIVERED,
        MessageOutcome.FAILED,
        MessageOutcome.PENDING,
    ]


def test_bad_report_queries(report: Ask) -> None:
    """No id, too many, another app."""
    assert report()["status"] == "-14"
    assert report("1", app_id="other")["status"] == "-14"
    assert report(*map(str, range(201)))["status"] == "-14"
    assert report(*map(str, range(200)))["status"] == "0"


@pytest.mark.parametrize(
    ("char", "length", "parts"), [("x", 160, 1), ("x", 161, 2), ("€", 80, 1), ("€", 81, 2), ("ш", 70, 1), ("ш", 71, 2)]
)
def test_every_part_costs(
    itnio: SimulatedItnio, text: Ask, http: httpx.Client, char: str, length: int, parts: int
) -> None:
    """GSM-7 and UCS-2 parts, taken from the balance, until there is none."""
    content = char * length
    assert text(content=content)["status"] == "0"
    assert itnio.messages[0].segments == parts
    assert (
        http.get("/sms/getBalance", headers=headers()).json()["balance"]
        == f"{Decimal('0.100') - parts * Decimal('0.020')}"
    )
    while itnio.balance >= Decimal("0.020"):
        text(content=content)
    assert text(content=content)["status"] == "-10"


def test_the_sister_brands_path(http: httpx.Client) -> None:
    """``/v3/sendSms`` and ``/v3/getReport``; a rule for ``/sms/sendSms`` means both."""
    with SimulatedItnio(prefix="/v3") as simulator:
        assert http.post(f"{simulator.url}/sendSms", json=TEXT, headers=headers()).json()["status"] == "0"
        simulator.set_rule({"on": "/sms/sendSms", "answer": "-3"})
        for path in ("/sendSms", "/sms/sendSms"):
            assert http.post(simulator.url + path, json=TEXT, headers=headers()).json()["status"] == "-3"
        found = http.get(
            f"{simulator.url}/getReport",
            params={"appId": "demo-app", "msgIds": simulator.messages[0].msg_id},
            headers=headers(),
        )
        assert found.json()["success"] == "1"


def test_a_rule_with_a_callee_does_not_concern_a_batch(itnio: SimulatedItnio, text: Ask) -> None:
    """One number can be meant by its digits, several only together."""
    itnio.set_rule({"callee": "678", "answer": "-12"})
    assert text()["status"] == "-12"
    assert text(numbers="84912345678,84912345679")["status"] == "0"
