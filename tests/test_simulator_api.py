"""The simulated voice API, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from otpvoice.clock import ManualClock
from otpvoice.simulator.backend import Account
from otpvoice.simulator.checks import check_headers, sign, signed_headers
from otpvoice.simulator.server import SimulatedItnio

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TEXT = "Your code is four, eight, two. Nine, one, three. Once more: four, eight, two. Nine, one, three."
CALL = {"callee": "84912345678", "language": "EN", "text": TEXT, "appId": "demo-app", "calledInfo": "d-1"}


class Client:
    """Signs as the vendor's page says; ``ahead`` is how far its clock is off."""

    def __init__(self, simulator: SimulatedItnio, clock: ManualClock) -> None:
        self.simulator = simulator
        self.clock = clock
        self.http = httpx.Client(trust_env=False, timeout=5)

    def headers(self, ahead: float = 0) -> dict[str, str]:
        return signed_headers("demo-key", "demo-secret", at=self.clock.now().timestamp() + ahead)

    def send(self, *, without: str = "", **changes: Any) -> httpx.Response:
        body = {name: value for name, value in (CALL | changes).items() if name != without}
        return self.post("/voice/sendCode", body)

    def post(self, path: str, body: Any, *, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(self.simulator.url + path, content=content, headers=headers or self.headers())

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.get(self.simulator.url + path, headers=headers or self.headers())

    def record(self, voice_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.get(f"/voice/recordGroup/{voice_id}").json()
        return answer

    def records(self, start: datetime, end: datetime, **changes: Any) -> dict[str, Any]:
        window = {"strTime": start.isoformat(), "endTime": end.isoformat()}
        answer: dict[str, Any] = self.post("/voice/recordGroupQuery", {"params": window} | changes).json()
        return answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def itnio(clock: ManualClock) -> Iterator[SimulatedItnio]:
    with SimulatedItnio(clock=clock) as simulator:
        yield simulator


@pytest.fixture
def client(itnio: SimulatedItnio, clock: ManualClock) -> Iterator[Client]:
    made = Client(itnio, clock)
    with made.http:
        yield made


def status(answer: httpx.Response) -> str:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    body = answer.json()
    assert isinstance(body["status"], str)
    assert body["reason"]
    return str(body["status"])


def test_a_signed_call_is_accepted_and_spoken(client: Client, itnio: SimulatedItnio) -> None:
    """The envelope has a String status and the voice id; the call shows what was spoken."""
    answer = client.send(loopCount=2, displayNum="15005550001")
    body = answer.json()
    assert body == {"status": "0", "reason": "success", "data": itnio.calls[0].voice_id}
    (call,) = itnio.calls
    assert (call.callee, call.text, call.language, call.loop_count) == ("84912345678", TEXT, "EN", 2)
    assert (call.called_info, call.display_num, call.app_id, call.at) == ("d-1", "15005550001", "demo-app", START)
    assert call.parameters["loopCount"] == 2
    assert call.heard_code == "482913"
    assert itnio.requests == {"/voice/sendCode": 1}


def test_ids_are_text_of_19_or_20_digits_and_the_first_is_above_64_bits(client: Client) -> None:
    """A client that stores the id as a 64-bit number fails on the first call."""
    ids = [client.send().json()["data"] for _ in range(4)]
    assert [len(voice_id) for voice_id in ids] == [20, 19, 20, 19]
    assert int(ids[0]) > 2**64
    assert len(set(ids)) == 4
    assert {voice_id[-19:-7] for voice_id in ids} == {"260301200000"}  # yyMMddHHmmss in UTC+8


def test_the_vendor_formula_signs() -> None:
    """The reference's synthetic vector."""
    assert sign("demo-key", "demo-secret", "1700000000") == "6eb1eb1912a2ba5c61d7bce736cbfa72"


def test_the_case_of_the_signature_does_not_matter(client: Client) -> None:
    """The vendor says so."""
    headers = client.headers()
    headers["Sign"] = headers["Sign"].upper()
    assert status(client.post("/voice/sendCode", CALL, headers=headers)) == "0"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Api-Key": "other"}, "-1"),
        ({"Api-Key": ""}, "-1"),
        ({"Sign": "0" * 32}, "-1"),
        ({"Sign": ""}, "-1"),
        ({"Timestamp": "1772366401"}, "-1"),
        ({"Content-Type": "text/plain"}, "-22"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "-22"),
        ({"Content-Type": "application/json;charset=ISO-8859-1"}, "-22"),
        ({"Content-Type": "application/json"}, "0"),
        ({"Content-Type": 'Application/JSON; charset="utf-8"'}, "0"),
    ],
)
@pytest.mark.parametrize("path", ["/voice/sendCode", "/sms/getBalance"])
def test_headers_are_checked(client: Client, path: str, changes: dict[str, str], expected: str) -> None:
    """Every endpoint refuses a wrong key, signature or content type, GET too."""
    headers = client.headers() | changes
    answer = (
        client.post(path, CALL, headers=headers) if path.startswith("/voice") else client.get(path, headers=headers)
    )
    assert status(answer) == expected
    assert len(client.simulator.calls) == (1 if expected == "0" and path.startswith("/voice") else 0)


@pytest.mark.parametrize(
    ("ahead", "expected"), [(0, "0"), (1800, "0"), (-1800, "0"), (1801, "-16"), (-1801, "-16"), (10**7, "-16")]
)
def test_the_timestamp_window_is_half_an_hour_both_ways(client: Client, ahead: int, expected: str) -> None:
    """Signed correctly, but at another time."""
    assert status(client.get("/sms/getBalance", headers=client.headers(ahead))) == expected


@pytest.mark.parametrize("timestamp", ["", "1772366400.0", "1772366400000000", "-5", "now", "１７７２３６６４００"])
def test_a_timestamp_that_is_no_number_is_refused_even_when_signed(timestamp: str) -> None:
    """The signature covers the text of the timestamp, whatever it is."""
    headers = {
        "api-key": "k",
        "timestamp": timestamp,
        "sign": sign("k", "s", timestamp),
        "content-type": "application/json",
    }
    with pytest.raises(Exception, match="timestamp expires") as refused:
        check_headers(headers, api_key="k", api_secret="s", now=START.timestamp())
    assert refused.value.status == -16


def test_the_simulators_clock_can_be_wrong_and_its_date_header_says_so(client: Client, itnio: SimulatedItnio) -> None:
    """A client reads the skew from ``Date`` of the refusal and signs again with it."""
    itnio.set_clock_skew(3600)
    refused = client.send()
    assert status(refused) == "-16"
    told = parsedate_to_datetime(refused.headers["date"])
    assert told == START + timedelta(hours=1)
    assert refused.headers.get_list("date") == [refused.headers["date"]]
    ahead = (told - START).total_seconds()
    assert status(client.post("/voice/sendCode", CALL, headers=client.headers(ahead))) == "0"


LEGACY = ["EN", "VN", "JP", "ARB", "DE", "IN", "IT", "KR", "RU", "ES", "PT", "IDN", "BD", "TH"]


@pytest.mark.parametrize(
    "changes",
    [
        {"callee": "1234567"},
        {"callee": "123456789012345"},
        {"loopCount": 9},
        {"loopCount": None},
        {"displayNum": None},
        {"maxDuration": None},
        {"calledInfo": ""},
        {"calledInfo": "\n" * 1000},
        {"recallCount": 9, "recallInterval": 999},
        {"recallCount": 0, "recallInterval": 0},
        {"maxDuration": 1},
        {"maxDuration": 120},
        {"maxRingingTime": 20},
        {"maxRingingTime": 120},
        {"text": "x" * 800},
        {"text": "ü" * 299, "language": "VN"},
        {"text": "\U0001f600" * 299, "language": "TH"},
        {"unknown": "field"},
        *({"language": language} for language in LEGACY),
    ],
)
def test_what_the_vendor_takes_is_taken(client: Client, changes: dict[str, Any]) -> None:
    """The edges of every documented range, and what the vendor's own samples send."""
    assert status(client.send(**changes)) == "0"


@pytest.mark.parametrize(
    "changes",
    [
        {"callee": "123456"},
        {"callee": "1234567890123456"},
        {"callee": "+84912345678"},
        {"callee": "84912345678,84912345679"},
        {"callee": "٨٤٩١٢٣٤٥٦٧٨"},
        {"callee": "84912345678\n"},
        {"callee": 84912345678},
        {"callee": None},
        {"callee": ["84912345678"]},
        {"loopCount": 0},
        {"loopCount": 10},
        {"loopCount": "2"},
        {"loopCount": 2.0},
        {"loopCount": True},
        {"calledInfo": "x" * 1001},
        {"calledInfo": 7},
        {"recallCount": -1},
        {"recallCount": 10},
        {"recallCount": 1, "recallInterval": 0},
        {"recallCount": 1, "recallInterval": 1000},
        {"maxDuration": 0},
        {"maxDuration": 121},
        {"maxRingingTime": 19},
        {"maxRingingTime": 121},
        {"displayNum": "12"},
        {"displayNum": ""},
        {"language": "en"},
        {"language": "en-US"},
        {"language": "FR"},
        {"language": "TL"},
        {"language": None},
        {"text": ""},
        {"text": None},
        {"text": ["4"]},
        {"text": "x" * 801},
        *({"text": "x" * 300, "language": language} for language in ("VN", "IDN", "TH")),
        {"appId": "other-app"},
        {"appId": None},
    ],
)
def test_what_the_vendor_refuses_is_refused_and_does_not_ring(client: Client, changes: dict[str, Any]) -> None:
    """Wrong types and one beyond every range: -22, and no call."""
    assert status(client.send(**changes)) == "-22"
    assert client.simulator.calls == []


@pytest.mark.parametrize("name", ["callee", "language", "text", "appId"])
def test_required_fields_are_required(client: Client, name: str) -> None:
    """-22 without one of them."""
    assert status(client.send(without=name)) == "-22"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{",
        b"\xff\xfe",
        json.dumps(CALL | {"extra": float("nan")}).encode(),
        b"[" * 100_000,
        b"x" * (1 << 20 | 1),
    ],
    ids=["empty", "list", "null", "string", "half", "binary", "nan", "deep", "large"],
)
def test_a_body_that_is_no_json_object_is_refused(client: Client, body: bytes) -> None:
    """-22 in an envelope, never a crash."""
    assert status(client.post("/voice/sendCode", body)) == "-22"


def test_refusals_do_not_repeat_what_was_sent(client: Client) -> None:
    """The reason names the field, not its value: a client may log it."""
    answer = client.send(callee="849123456789012345", text="4 8 2 9 1 3" * 100)
    assert "849123456789012345" not in answer.text
    assert "4 8 2" not in answer.text


def test_the_newest_generation_takes_longer_texts_and_accents(clock: ManualClock) -> None:
    """1000 characters for all, ``accent``, ``ssmlGender`` and ``speakingRate`` checked; three plays at most."""
    account = Account(generation="newest", max_loop_count=3)
    with SimulatedItnio(clock=clock, account=account) as simulator:
        client = Client(simulator, clock)
        with client.http:
            good = {"language": "HI", "accent": "91", "ssmlGender": 2, "speakingRate": 0.25, "loopCount": 3}
            assert status(client.send(**good)) == "0"
            assert status(client.send(language="TL", text="x" * 1000)) == "0"
            for bad in (
                {"text": "x" * 1001},
                {"accent": "x"},
                {"accent": 91},
                {"ssmlGender": 3},
                {"speakingRate": 4.1},
                {"speakingRate": "1"},
                {"speakingRate": True},
                {"loopCount": 4},
            ):
                assert status(client.send(**bad)) == "-22", bad


def test_a_record_says_what_became_of_the_call(client: Client, itnio: SimulatedItnio) -> None:
    """ISO times with +08:00, money and codes as Strings, the echo; no fields of the push."""
    voice_id = client.send().json()["data"]
    found = client.record(voice_id)["data"]
    assert (found["voiceId"], found["calledInfo"], found["callee"]) == (voice_id, "d-1", "84912345678")
    assert (found["terminationCode"], found["terminationReason"]) == ("200", "success")
    assert found["submitTime"] == "2026-03-01T20:00:00+08:00"
    assert datetime.fromisoformat(found["answerTime"]) > START
    assert {"type", "sipCode", "ringDuration", "outRecallCount"}.isdisjoint(found)
    assert (found["cost"], found["billPeriod"], found["chargedDuration"]) == ("0.010", "20+20", 20)
    assert itnio.requests["/voice/recordGroup"] == 1


@pytest.mark.parametrize(
    ("setting", "expected"), [("-24", ("-24", None)), ("-22", ("-22", None)), ("null", ("0", None))]
)
def test_an_unknown_record_is_refused_as_set(clock: ManualClock, setting: Any, expected: tuple[str, None]) -> None:
    """The vendor does not say which of the three it is."""
    with SimulatedItnio(clock=clock, account=Account(unknown_record=setting)) as simulator:
        client = Client(simulator, clock)
        with client.http:
            found = client.record("2601010000000000001")
            assert (found["status"], found.get("data")) == expected


def test_a_record_appears_when_the_call_is_over(clock: ManualClock) -> None:
    """With a pace of 1 the call takes as long as it lasts, by the simulator's clock, and the record even longer."""
    with SimulatedItnio(clock=clock, account=Account(pace=1.0, record_delay=5)) as simulator:
        client = Client(simulator, clock)
        with client.http:
            voice_id = client.send(text="x" * 120).json()["data"]
            (call,) = simulator.calls
            assert call.ends_at == call.timeline.hung_up == START + timedelta(seconds=1 + 2 + 7 + 10)
            clock.advance(20 + 4)
            assert client.record(voice_id)["status"] == "-24"
            assert client.records(START, START + timedelta(days=1))["data"]["total"] == 0
            clock.advance(1)
            assert client.record(voice_id)["data"]["callDuration"] == 10


def test_records_are_found_by_time_and_paged(client: Client, clock: ManualClock) -> None:
    """Newest first; the page says total, size, current and pages; the echo finds an unknown outcome."""
    for number in range(5):
        client.send(calledInfo=f"d-{number}")
        clock.advance(60)
    page = client.records(START, START + timedelta(minutes=3), size=3)["data"]
    assert (page["total"], page["size"], page["current"], page["pages"], page["searchCount"]) == (4, 3, 1, 2, True)
    assert [found["calledInfo"] for found in page["records"]] == ["d-3", "d-2", "d-1"]
    page = client.records(START, START + timedelta(minutes=3), size=3, current=2)["data"]
    assert [found["calledInfo"] for found in page["records"]] == ["d-0"]
    assert client.records(START, START + timedelta(minutes=9))["data"]["size"] == 25


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "-22"),
        ({"params": []}, "-22"),
        ({"params": {"startTime": "2026-03-01T00:00:00+08:00", "endTime": "2026-03-01T01:00:00+08:00"}}, "-22"),
        ({"params": {"strTime": "2026-03-01T00:00:00", "endTime": "2026-03-01T01:00:00"}}, "-22"),
        ({"params": {"strTime": "yesterday", "endTime": "2026-03-01T01:00:00+08:00"}}, "-22"),
        ({"params": {"strTime": 1772366400, "endTime": 1772366401}}, "-22"),
        ({"params": {"strTime": "2026-03-01T00:00:00+08:00", "endTime": "2026-02-28T00:00:00+08:00"}}, "-25"),
        ({"params": {"strTime": "2026-01-20T00:00:00+08:00", "endTime": "2026-02-20T00:00:00+08:00"}}, "0"),
        ({"params": {"strTime": "2026-01-20T00:00:00+08:00", "endTime": "2026-02-20T00:00:01+08:00"}}, "-25"),
        ({"params": {"strTime": "2025-12-20T00:00:00+08:00", "endTime": "2025-12-21T00:00:00+08:00"}}, "-25"),
    ],
)
def test_the_query_window_is_checked(client: Client, body: dict[str, Any], expected: str) -> None:
    """``strTime`` (so spelled) and ``endTime`` with an offset, 31 days apart at most, within two months."""
    assert status(client.post("/voice/recordGroupQuery", body)) == expected


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": 101}, {"size": "25"}, {"current": 0}, {"current": True}])
def test_page_numbers_are_checked(client: Client, bad: dict[str, Any]) -> None:
    """Sizes of 1 to 100, pages from 1."""
    assert client.records(START, START, **bad)["status"] == "-22"


def test_calls_cost_money_until_there_is_none(clock: ManualClock) -> None:
    """Every begun 20 s of talk; decimals as Strings; then -10, and nothing rings."""
    with SimulatedItnio(clock=clock, account=Account(balance=Decimal("0.03"), call_price=Decimal("0.01"))) as simulator:
        client = Client(simulator, clock)
        with client.http:
            simulator.set_rule({"talk_seconds": 21, "times": 1})
            assert status(client.send()) == "0"
            assert client.get("/sms/getBalance").json()["balance"] == "0.01"
            simulator.set_rule({"outcome": "busy", "times": 1})
            assert status(client.send()) == "0"
            assert simulator.balance == Decimal("0.01")
            assert status(client.send()) == "0"
            assert status(client.send()) == "-10"
            assert [str(call.cost) for call in simulator.calls] == ["0.02", "0.00", "0.01"]


def test_recalls_are_made_for_failed_calls_only(client: Client, itnio: SimulatedItnio) -> None:
    """The last call counts, as long after the first as the intervals say."""
    itnio.set_rule({"outcome": "busy"})
    client.send(recallCount=2, recallInterval=3)
    itnio.clear_rules()
    client.send(recallCount=2, recallInterval=3)
    failed, answered = itnio.calls
    assert (failed.recalls, answered.recalls) == (2, 0)
    assert failed.timeline.called - failed.at == timedelta(minutes=6, seconds=1)


def test_the_provider_hangs_up_after_the_longest_duration(client: Client, itnio: SimulatedItnio) -> None:
    """``maxDuration`` cuts a text that is played nine times."""
    client.send(text="x" * 240, loopCount=9, maxDuration=30)
    assert itnio.calls[0].timeline.talk_seconds == 30


def test_a_prefix_is_put_before_every_path(clock: ManualClock) -> None:
    """As on the sister brands, where SMS and balance have no ``sms/`` part; counts know no prefix."""
    with SimulatedItnio(clock=clock, prefix="/v3") as simulator:
        client = Client(simulator, clock)
        with client.http:
            assert simulator.url.endswith("/v3")
            assert status(client.send()) == "0"
            assert status(client.get("/getBalance")) == status(client.get("/sms/getBalance")) == "0"
            bare = simulator.url.removesuffix("/v3")
            assert client.http.post(bare + "/voice/sendCode", json=CALL, headers=client.headers()).status_code == 404
            assert simulator.requests["/getBalance"] == simulator.requests["/sms/getBalance"] == 1
            assert simulator.requests["/voice/sendCode"] == 2


def test_the_unprefixed_api_has_no_bare_balance(client: Client) -> None:
    """``/getBalance`` exists on the sister brands only."""
    assert client.get("/getBalance").status_code == 404
    assert client.get("/voice/sendCode").status_code == 405


def test_calls_are_silent_about_number_and_text_when_printed(client: Client, itnio: SimulatedItnio) -> None:
    """A failing assertion must not put a code into a CI log."""
    client.send(calledInfo="d-1")
    shown = repr(itnio.calls)
    assert "four" not in shown
    assert "84912345678" not in shown
    assert "demo-secret" not in repr(itnio.account)
