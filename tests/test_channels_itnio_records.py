"""Asking ITNIO about a call: by its id, and by the delivery's id that the records echo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from otpvoice.channels.base import Inquiry, Report
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.itnio import ItnioVoice, ItnioVoiceSettings
from otpvoice.channels.itnio_records import MARGIN, MOST_PAGES, PAGE
from otpvoice.clock import ManualClock
from otpvoice.errors import DeliveryError, OutcomeUnknown, ProviderMisconfigured, ProviderUnavailable
from otpvoice.types import Address, DeliveryState, Recipient

CLOCK = ManualClock()
SENT = CLOCK.now()
DELIVERY = "dl_" + "7f3a" * 8
VOICE_ID = "22401020304050000001"
RECORD: dict[str, Any] = {
    "voiceId": VOICE_ID,
    "callee": "84912345678",
    "answerTime": "2024-01-02T11:04:15+08:00",
    "hangupTime": "2024-01-02T11:04:35+08:00",
    "callDuration": 20,
    "terminationCode": "200",
    "calledInfo": DELIVERY,
}
OTHER = RECORD | {"voiceId": "7", "calledInfo": "dl_other"}
WHO = Recipient(address=Address("+84912345678"), kind="phone", hint="+84••••••78")


def channel_with(**settings: Any) -> ItnioVoice:
    made = ItnioVoiceSettings(api_key="k", api_secret="s", app_id="a", **settings)
    return ItnioVoice("voice", made, clock=CLOCK)


def inquiry(*, reference: str | None = None, recipient: Recipient | None = WHO, age: float = 10) -> Inquiry:
    return Inquiry(
        delivery_id=DELIVERY,
        reference=reference,
        recipient=recipient,
        sent_at=SENT,
        now=SENT + timedelta(seconds=age),
    )


def said(data: object, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"status": "0", "reason": "success", "data": data}, **more)


class Records:
    """The provider's list of records, and every question it was asked."""

    def __init__(self, records: Sequence[Any], *, counts: bool = True, skew: timedelta | None = None) -> None:
        self.records, self.counts, self.skew = records, counts, skew
        self.questions: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/voice/recordGroupQuery")
        asked = json.loads(request.content)
        self.questions.append(asked)
        first = (asked["current"] - 1) * asked["size"]
        data: dict[str, Any] = {"records": self.records[first : first + asked["size"]]}
        if self.counts:
            data |= {"total": len(self.records), "pages": -(-len(self.records) // asked["size"])}
        date = {} if self.skew is None else {"date": format_datetime(CLOCK.now() + self.skew, usegmt=True)}
        return said(data, headers=date)


def search(records: Records, **changes: Any) -> Report | None:
    return perform(channel_with().look_up(inquiry(**changes)), records)


def by_id(data: object, **changes: Any) -> Report | None:
    return perform(channel_with().look_up(inquiry(reference=VOICE_ID, **changes)), lambda _: said(data))


# By its id


def test_a_record_by_its_id() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return said(RECORD)

    found = perform(channel_with().look_up(inquiry(reference="2/../4 1?x")), answer)
    assert found is None  # It was given another call's.
    assert seen[0].url.raw_path == b"/voice/recordGroup/2%2F..%2F4%201%3Fx"
    found = by_id(RECORD)
    assert found is not None
    assert (found.delivery_id, found.reference, found.state, found.talk_seconds) == (
        DELIVERY,
        VOICE_ID,
        DeliveryState.DELIVERED,
        20,
    )


@pytest.mark.parametrize(
    "answer",
    [
        said(None),
        httpx.Response(200, json={"status": "-24"}),
        httpx.Response(200, json={"status": "-22"}),
        httpx.Response(200, json={"status": 0}),
    ],
)
def test_a_fresh_id_is_not_known_yet(answer: httpx.Response) -> None:
    assert perform(channel_with().look_up(inquiry(reference=VOICE_ID)), lambda _: answer) is None


def test_a_record_of_something_else_is_not_ours() -> None:
    """Another delivery's id, another number or another call: nothing is concluded from it."""
    assert by_id(RECORD | {"calledInfo": "dl_other"}) is None
    assert by_id(RECORD | {"callee": "15005550006"}) is None
    assert by_id(RECORD | {"voiceId": "1"}) is None
    # What the record leaves out contradicts nothing: it was asked for by the call's own id.
    bare = {name: value for name, value in RECORD.items() if name not in {"calledInfo", "callee", "voiceId"}}
    found = by_id(bare)
    assert found is not None
    assert (found.delivery_id, found.reference) == (DELIVERY, VOICE_ID)
    assert by_id(RECORD | {"callee": "+84912345678"}, recipient=None) is not None


def test_a_call_that_has_not_ended() -> None:
    found = by_id(RECORD | {"terminationCode": "", "answerTime": None, "hangupTime": None})
    assert found == Report(delivery_id=DELIVERY, reference=VOICE_ID, state=DeliveryState.ACCEPTED)


@pytest.mark.parametrize("status", [-1, -2, -15, -18, -25, -77])
def test_a_question_that_is_refused(status: int) -> None:
    for reference in (VOICE_ID, None):
        with pytest.raises(DeliveryError):
            perform(
                channel_with().look_up(inquiry(reference=reference)),
                lambda _: httpx.Response(200, json={"status": status}),
            )


@pytest.mark.parametrize("data", ["a text", 7, True, [RECORD]])
def test_a_record_in_another_form(data: object) -> None:
    with pytest.raises(OutcomeUnknown):
        by_id(data)


# By the echo


def test_the_echo_is_found() -> None:
    records = Records([OTHER, RECORD])
    found = search(records)
    assert found is not None
    assert (found.delivery_id, found.reference) == (DELIVERY, VOICE_ID)
    (asked,) = records.questions
    assert (asked["current"], asked["size"]) == (1, PAGE)
    window = {name: datetime.fromisoformat(at) for name, at in asked["params"].items()}
    assert window["strTime"] == (SENT - MARGIN).replace(microsecond=0)
    assert window["endTime"] == (SENT + timedelta(seconds=10) + MARGIN).replace(microsecond=0)
    assert {at.utcoffset() for at in window.values()} == {timedelta(hours=8)}


@pytest.mark.parametrize(
    "record",
    [
        RECORD | {"calledInfo": DELIVERY.upper()},
        RECORD | {"calledInfo": f"{DELIVERY} "},
        RECORD | {"calledInfo": DELIVERY[:-1]},
        RECORD | {"calledInfo": f"x{DELIVERY}"},
        RECORD | {"calledInfo": None},
        RECORD | {"calledInfo": [DELIVERY]},
        RECORD | {"callee": "84912345679"},
        RECORD | {"callee": None},
    ],
)
def test_only_an_exact_echo_to_the_same_number(record: dict[str, Any]) -> None:
    assert search(Records([record])) is None


def test_pages_are_searched_to_the_end() -> None:
    """The record on the third page is found, and a list without it is read whole, counted or not."""
    for counts in (True, False):
        records = Records([OTHER | {"voiceId": str(n)} for n in range(2 * PAGE + 5)] + [RECORD], counts=counts)
        assert search(records) is not None
        assert [asked["current"] for asked in records.questions] == [1, 2, 3]
        records = Records([OTHER | {"voiceId": str(n)} for n in range(2 * PAGE + 5)], counts=counts)
        assert search(records) is None
        assert len(records.questions) == (3 if counts else 4)


def test_a_provider_that_caps_the_page() -> None:
    """Pages of 25 although 100 were asked for: the list goes on where the page is short and nothing is counted."""
    records = [OTHER | {"voiceId": str(n)} for n in range(60)] + [RECORD]

    def answer(request: httpx.Request) -> httpx.Response:
        first = (json.loads(request.content)["current"] - 1) * 25
        return said({"records": records[first : first + 25], "total": 0, "pages": 0, "searchCount": False})

    assert perform(channel_with().look_up(inquiry()), answer) is not None


def test_a_provider_that_gives_the_same_page_for_ever() -> None:
    answers = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal answers
        answers += 1
        return said({"records": [OTHER]})

    assert perform(channel_with().look_up(inquiry()), answer) is None
    assert answers == 2


def test_more_records_than_can_be_searched() -> None:
    """Not found among the first thousands is not the same as not there: nothing may ring again."""
    with pytest.raises(ProviderUnavailable):
        search(Records([OTHER | {"voiceId": str(n)} for n in range(MOST_PAGES * PAGE + 1)]))


@pytest.mark.parametrize("answer", [said(None), said({"records": []}), said({"records": None, "total": 0}), said([])])
def test_an_empty_list(answer: httpx.Response) -> None:
    assert perform(channel_with().look_up(inquiry()), lambda _: answer) is None


@pytest.mark.parametrize(
    "data", [{}, {"records": None, "total": 5}, {"records": {}}, {"records": ["x"]}, {"list": [RECORD]}, "x", 5]
)
def test_a_list_in_another_form_is_not_an_empty_one(data: object) -> None:
    """An empty list lets the next step ring: it is read out of nothing else."""
    with pytest.raises(OutcomeUnknown):
        perform(channel_with().look_up(inquiry()), lambda _: said(data))


def test_a_wrong_question_is_not_an_empty_list() -> None:
    """-22 for an unknown id says *not yet*; for the list it says that the question was wrong."""
    with pytest.raises(ProviderMisconfigured):
        perform(channel_with().look_up(inquiry()), lambda _: httpx.Response(200, json={"status": "-22"}))
    assert perform(channel_with().look_up(inquiry()), lambda _: httpx.Response(200, json={"status": "-24"})) is None


@pytest.mark.parametrize("skew", [timedelta(minutes=20), timedelta(minutes=-20)])
def test_the_window_follows_the_providers_clock(skew: timedelta) -> None:
    """Submission times are the provider's: its ``Date`` header tells how far its clock is from ours."""
    records = Records([RECORD], skew=skew)
    assert search(records) is not None
    first, second = (datetime.fromisoformat(asked["params"]["strTime"]) for asked in records.questions)
    shift = CLOCK.now() + skew - (SENT + timedelta(seconds=10))
    assert abs(second - first - shift) <= timedelta(seconds=1)
    near = Records([RECORD], skew=timedelta(seconds=15))
    search(near)
    assert len(near.questions) == 1


def test_the_window_ends_when_the_call_must_have() -> None:
    records = Records([RECORD])
    search(records, age=3600)
    end = datetime.fromisoformat(records.questions[0]["params"]["endTime"])
    longest = channel_with().capabilities.recorded_within
    assert longest is not None
    assert end == (SENT + longest + MARGIN).astimezone(UTC).replace(microsecond=0)


# When it asks


def test_how_long_a_call_can_take() -> None:
    """Ringing, talking and a margin; every redial with its pause besides. ``poll_after`` moves only the question."""

    def spans(**settings: Any) -> tuple[float, float]:
        can = channel_with(**settings).capabilities
        assert can.look_ups
        assert can.poll_after is not None
        assert can.recorded_within is not None
        return can.poll_after.total_seconds(), can.recorded_within.total_seconds()

    assert spans() == (135, 135)
    assert spans(max_ringing_time=30, max_duration=45) == (90, 90)
    assert spans(recall_count=2, recall_interval=1) == (135 + 2 * 180, 135 + 2 * 180)
    assert spans(recall_count=1) == (135 + 420, 135 + 420)
    assert spans(poll_after=20) == (20, 135)


def test_confirming() -> None:
    """With ``confirm_reports`` the provider's record counts, and nothing else of the push but the call's id."""
    forged = Report(delivery_id="dl_forged", reference=VOICE_ID, state=DeliveryState.FAILED, reason="busy")

    def never(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was asked")

    assert perform(channel_with().confirm(forged), never) is forged
    asking = channel_with(confirm_reports=True)
    found = perform(asking.confirm(forged), lambda _: said(RECORD))
    assert found is not None
    assert (found.delivery_id, found.reference, found.state) == (DELIVERY, VOICE_ID, DeliveryState.DELIVERED)
    assert perform(asking.confirm(forged), lambda _: said(None)) is None
    assert perform(asking.confirm(forged), lambda _: OutcomeUnknown("no answer")) is None
    nameless = Report(delivery_id=DELIVERY, state=DeliveryState.FAILED)
    assert perform(asking.confirm(nameless), never) is None
