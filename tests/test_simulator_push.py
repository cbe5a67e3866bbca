"""Reports that the simulator pushes, with the vendor's oddities."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from otpvoice.clock import SystemClock
from otpvoice.simulator.backend import Account
from otpvoice.simulator.checks import signed_headers
from otpvoice.simulator.push import Push
from otpvoice.simulator.rules import TEST_RANGE
from otpvoice.simulator.server import SimulatedItnio

Ask = Callable[..., str]


class Customer:
    """The customer's web server: keeps what was pushed, answers with the next of ``statuses``."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        customer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                customer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                customer.headers.append({name.lower(): value for name, value in self.headers.items()})
                customer.paths.append(self.path)
                self.send_response(customer.statuses.pop(0) if customer.statuses else 200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/reports/secret-path?tenant=1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def reports(self) -> list[Any]:
        return [json.loads(body) for body in self.bodies]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def customer() -> Iterator[Customer]:
    made = Customer()
    yield made
    made.close()


@pytest.fixture
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio() as simulator:
        yield simulator


@pytest.fixture
def http(itnio: SimulatedItnio) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, base_url=itnio.url) as client:
        yield client


def headers() -> dict[str, str]:
    return signed_headers("demo-key", "demo-secret", at=SystemClock().now().timestamp())


@pytest.fixture
def call(http: httpx.Client) -> Ask:
    def ask(callee: str = "84912345678", **changes: Any) -> str:
        body = {
            "callee": callee,
            "language": "EN",
            "text": "4, 8, 2, 9, 1, 3",
            "appId": "demo-app",
            "calledInfo": "d-1",
        }
        return str(http.post("/voice/sendCode", json=body | changes, headers=headers()).json()["data"])

    return ask


@pytest.fixture
def text(http: httpx.Client) -> Ask:
    def ask(numbers: str = "84912345678", **changes: Any) -> str:
        body = {"appId": "demo-app", "numbers": numbers, "content": "482913", "orderId": "d-2"} | changes
        return str(http.post("/sms/sendSms", json=body, headers=headers()).json()["array"][0]["msgId"])

    return ask


def test_a_call_is_reported(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """Epoch milliseconds, SIP codes as Strings, the echo; the sender looks like the vendor's."""
    itnio.set_push(Push(voice_url=customer.url))
    voice_id = call()
    itnio.wait_for_pushes()
    (report,) = customer.reports
    assert (report["voiceId"], report["calledInfo"], report["type"]) == (voice_id, "d-1", 2)
    assert (report["terminationCode"], report["sipCode"], report["outRecallCount"]) == ("200", "200", 0)
    assert report["submitTime"] == round(itnio.calls[0].at.timestamp() * 1000)
    assert report["submitTime"] < report["ringingTime"] < report["answerTime"] < report["hangupTime"]
    assert report["ringDuration"] == 7
    assert customer.headers[0]["user-agent"] == "Java/1.8.0_232"
    assert customer.headers[0]["content-type"] == "application/json;charset=UTF-8"
    assert customer.paths == ["/reports/secret-path?tenant=1"]
    (made,) = itnio.pushes
    assert (made.accepted, made.http_status) == (True, 200)
    assert "secret-path" not in repr(made)
    assert "84912345678" not in repr(made)


@pytest.mark.parametrize(
    ("terminations", "digits", "codes"),
    [
        ("new", "678", ("200", "200")),
        ("new", "486", ("486", "486")),
        ("old", "678", ("0", None)),
        ("old", "486", ("486", None)),
    ],
)
def test_both_generations(
    itnio: SimulatedItnio,
    customer: Customer,
    call: Ask,
    http: httpx.Client,
    terminations: str,
    digits: str,
    codes: tuple[str, str | None],
) -> None:
    """Success is ``"200"`` beside a sipCode, or ``"0"`` without one; records follow."""
    itnio.set_push({"voice_url": customer.url, "terminations": terminations})
    voice_id = call(TEST_RANGE + digits)
    itnio.wait_for_pushes()
    (report,) = customer.reports
    assert (report["terminationCode"], report.get("sipCode")) == codes
    record = http.get(f"/voice/recordGroup/{voice_id}", headers=headers()).json()["data"]
    assert record["terminationCode"] == codes[0]


def test_shapes(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """One object, a bare list, a list under ``array``; lists hold a whole batch."""
    shapes = ("object", "list", "array")
    for shape in shapes:
        itnio.set_push({"voice_url": customer.url, "shape": shape, "batch": 2})
        call()
        itnio.wait_for_pushes()
        assert len(customer.bodies) == (0, 2, 3)[shapes.index(shape)]
        call()
        itnio.wait_for_pushes()
    ids = [made.voice_id for made in itnio.calls]
    first, second, bare, wrapped = customer.reports
    assert [first["voiceId"], second["voiceId"]] == ids[:2]
    assert [report["voiceId"] for report in bare] == ids[2:4]
    assert [report["voiceId"] for report in wrapped["array"]] == ids[4:]


def test_reports_out_of_order_and_repeated(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """Held back, then the newest first, each one twice."""
    itnio.set_push({"voice_url": customer.url, "hold": True, "reverse": True, "copies": 2})
    ids = [call() for _ in range(3)]
    itnio.wait_for_pushes()
    assert customer.bodies == []
    assert itnio.flush_pushes() == 3
    itnio.wait_for_pushes()
    assert [report["voiceId"] for report in customer.reports] == [ids[2]] * 2 + [ids[1]] * 2 + [ids[0]] * 2
    assert itnio.flush_pushes() == 0


def test_a_report_comes_after_the_call_and_a_delay(customer: Customer) -> None:
    """A call of an hour, or a late report, is not pushed now; stopping gives it up."""
    for account, push in (
        (Account(pace=600), Push(voice_url=customer.url)),
        (Account(), Push(voice_url=customer.url, delay=600)),
    ):
        with SimulatedItnio(account=account, push=push) as simulator:
            body = {"callee": "84912345678", "language": "EN", "text": "1, 2, 3, 4", "appId": "demo-app"}
            with httpx.Client(trust_env=False, base_url=simulator.url) as http:
                assert http.post("/voice/sendCode", json=body, headers=headers()).json()["status"] == "0"
            with pytest.raises(TimeoutError):
                simulator.wait_for_pushes(timeout=0.05)
    assert customer.bodies == []


def test_a_contradicting_report(itnio: SimulatedItnio, customer: Customer, call: Ask, text: Ask) -> None:
    """The same call, answered and then busy; the same text, delivered and then failed."""
    itnio.set_push(Push(voice_url=customer.url, sms_url=customer.url))
    voice_id, msg_id = call(), text()
    itnio.wait_for_pushes()
    itnio.push(voice_id, outcome="busy")
    itnio.wait_for_pushes()
    itnio.push(msg_id, outcome="failed")
    itnio.wait_for_pushes()
    itnio.push(voice_id)
    itnio.wait_for_pushes()
    later = customer.reports[2:]
    assert (later[0]["sipCode"], later[0]["answerTime"], later[0]["voiceId"]) == ("486", None, voice_id)
    assert (later[1]["status"], later[1]["msgid"]) == (1, msg_id)
    assert (later[2]["sipCode"], later[2]["voiceId"]) == ("200", voice_id)


def test_a_contradicting_report_of_the_old_generation(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """A busy call that is then said to be answered: ``"0"``, with a time of answer."""
    itnio.set_push(Push(voice_url=customer.url, terminations="old"))
    voice_id = call(f"{TEST_RANGE}486")
    itnio.push(voice_id, outcome="answered")
    itnio.wait_for_pushes()
    itnio.push(voice_id, outcome="busy")
    itnio.wait_for_pushes()
    found = {(report["terminationCode"], report["answerTime"] is not None) for report in customer.reports}
    assert found == {("486", False), ("0", True)}
    assert not any("sipCode" in report for report in customer.reports)


def test_what_cannot_be_pushed_is_an_error(itnio: SimulatedItnio, customer: Customer, call: Ask, text: Ask) -> None:
    """No URL, an unknown id, an unknown outcome."""
    voice_id, msg_id = call(), text()
    for reference in (voice_id, msg_id):
        with pytest.raises(ValueError, match="_url is set"):
            itnio.push(reference)
    itnio.set_push(Push(voice_url=customer.url, sms_url=customer.url))
    with pytest.raises(KeyError):
        itnio.push("1")
    with pytest.raises(ValueError, match="asleep"):
        itnio.push(voice_id, outcome="asleep")
    with pytest.raises(ValueError, match="busy"):
        itnio.push(msg_id, outcome="busy")


@pytest.mark.parametrize(
    ("oddity", "is_seen"),
    [
        ("spaced-key", lambda body: "terminationReason " in json.loads(body)),
        ("string-numbers", lambda body: json.loads(body)["callDuration"] == "0"),
        ("zero-times", lambda body: json.loads(body)["answerTime"] == 0),
        ("missing-times", lambda body: "answerTime" not in json.loads(body)),
        (
            "no-sip-code",
            lambda body: "sipCode" not in json.loads(body) and json.loads(body)["terminationCode"] == "486",
        ),
        ("single-quotes", lambda body: body.startswith("{'voiceId': '")),
    ],
)
def test_oddities(
    itnio: SimulatedItnio, customer: Customer, call: Ask, oddity: str, is_seen: Callable[[str], bool]
) -> None:
    """Each is there when it is asked for, and not otherwise."""
    call_id = call(f"{TEST_RANGE}486")
    for oddities in ((), (oddity,)):
        itnio.set_push({"voice_url": customer.url, "oddities": oddities})
        itnio.push(call_id)
        itnio.wait_for_pushes()
    plain, odd = customer.bodies
    assert not is_seen(plain)
    assert is_seen(odd)


def test_texts_are_reported(itnio: SimulatedItnio, customer: Customer, text: Ask) -> None:
    """``msgid`` in lower case, status as Int, the price of all parts; a pending text is never reported."""
    itnio.set_push(Push(sms_url=customer.url, shape="array"))
    ids = [text(content="x" * 161), text(f"{TEST_RANGE}611"), text(f"{TEST_RANGE}612")]
    itnio.wait_for_pushes()
    delivered, failed = sorted(customer.reports, key=lambda report: ids.index(report["msgid"]))
    assert (delivered["status"], delivered["mobile"], delivered["orderId"]) == (0, "84912345678", "d-2")
    assert delivered["pricedetail"] == {"pay": "0.040", "chargeCnt": 2, "currency": "USD", "price": "0.020"}
    assert failed["status"] == 1


def test_a_rule_keeps_a_report_back(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """A provider that accepts everything and reports nothing: by rule and by number."""
    itnio.set_push(Push(voice_url=customer.url))
    call(f"{TEST_RANGE}709")
    itnio.set_rule({"pushed": False})
    call()
    itnio.wait_for_pushes()
    assert customer.bodies == []


def test_a_push_that_is_refused_is_made_again(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """As often as set, until one is answered with 2xx; the attempts are kept."""
    itnio.set_push(Push(voice_url=customer.url, retries=3, retry_seconds=0))
    customer.statuses = [500, 302]
    call()
    itnio.wait_for_pushes()
    assert [made.http_status for made in itnio.pushes] == [500, 302, 200]
    assert len(set(customer.bodies)) == 1
    itnio.set_push(Push(voice_url=customer.url))
    customer.statuses = [503]
    call()
    itnio.wait_for_pushes()
    assert [made.accepted for made in itnio.pushes] == [False, False, True, False]


def test_nobody_listens(itnio: SimulatedItnio, customer: Customer, call: Ask) -> None:
    """A customer that is away costs an attempt and nothing else."""
    customer.close()
    itnio.set_push(Push(voice_url=customer.url))
    call()
    itnio.wait_for_pushes()
    assert [made.http_status for made in itnio.pushes] == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"voice_url": "ftp://x"},
        {"voice_url": "http://"},
        {"sms_url": "http://x/a b"},
        {"sms_url": "http://x/\r\nHost: y"},
        {"voice_url": "http://x:99999"},
        {"copies": 0},
        {"batch": 0},
        {"delay": -1},
        {"shape": "tree"},
        {"oddities": ["none"]},
        {"url": "http://x"},
    ],
)
def test_wrong_settings_are_refused(itnio: SimulatedItnio, wrong: dict[str, object]) -> None:
    """Naming what is wrong; line breaks cannot reach the request."""
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic words half of them
        itnio.set_push(wrong)


def test_settings_survive_the_way_to_json_and_back() -> None:
    """What the admin endpoint shows can be sent to it."""
    push = Push(voice_url="http://127.0.0.1:1/x", shape="list", oddities=("spaced-key",), batch=2)
    assert Push.of(push.as_dict()) == push
