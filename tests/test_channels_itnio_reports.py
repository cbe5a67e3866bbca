"""ITNIO's reports and records: both generations, every way of writing them, and what must not be believed."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpvoice.channels.base import REASONS, Report, ReportRejected, ReportRequest
from otpvoice.channels.contract_tools import HOSTILE_BODIES
from otpvoice.channels.itnio import ItnioVoice, ItnioVoiceSettings
from otpvoice.channels.itnio_reports import LONGEST_PUSH, MOST_REPORTS, queried_message
from otpvoice.channels.itnio_sms import ItnioSMS, ItnioSMSSettings
from otpvoice.channels.settings import ChannelSettings
from otpvoice.channels.sip import SIP_REASONS
from otpvoice.channels.vendor_fields import VENDOR_ZONE, currency, identifier, moment, money, seconds
from otpvoice.errors import ConfigurationError
from otpvoice.types import DeliveryState

ACCOUNT: dict[str, Any] = {"api_key": "k", "api_secret": "s", "app_id": "a"}
DELIVERY = "dl_" + "7f3a" * 8
VOICE_ID = "22401020304050000001"
CALL: dict[str, Any] = {
    "voiceId": VOICE_ID,
    "type": 2,
    "callee": "15005550006",
    "submitTime": 1704164645000,
    "callTime": 1704164646000,
    "ringingTime": 1704164648000,
    "answerTime": 1704164655000,
    "hangupTime": 1704164667000,
    "callDuration": 12,
    "chargedDuration": 20,
    "rate": "0.01",
    "cost": "0.01",
    "terminationCode": "200",
    "terminationReason": "success",
    "sipCode": "200",
    "feedbackValue": "-1",
    "calledInfo": DELIVERY,
    "ringDuration": 7,
    "currency": "USD",
    "outRecallCount": 0,
}
ANSWERED_AT = datetime(2024, 1, 2, 3, 4, 15, tzinfo=UTC)
HEARD = Report(
    delivery_id=DELIVERY,
    reference=VOICE_ID,
    state=DeliveryState.DELIVERED,
    provider_code="200",
    ring_seconds=7,
    talk_seconds=12,
    answered_at=ANSWERED_AT,
    ended_at=ANSWERED_AT + timedelta(seconds=12),
    price=Decimal("0.01"),
    currency="USD",
)
MESSAGE: dict[str, Any] = {
    "appId": "app1",
    "msgid": "2401020304051000001",
    "mobile": "15005550006",
    "status": 0,
    "reason": "0",
    "timestamp": 1704164667000,
    "orderId": DELIVERY,
    "pricedetail": {"pay": "0.02", "chargeCnt": 1, "currency": "USD", "price": "0.02"},
}


def voice(**more: Any) -> ItnioVoice:
    return ItnioVoice("voice", ItnioVoiceSettings(**ACCOUNT, **more))


def sms(**more: Any) -> ItnioSMS:
    return ItnioSMS("sms", ItnioSMSSettings(**ACCOUNT, **more))


def request(body: object, *, remote: str | None = None) -> ReportRequest:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ReportRequest(method="POST", url="https://example.org/reports/x", headers={}, body=content, remote=remote)


def read(**changes: Any) -> Report:
    """The one report in a push of :data:`CALL` with these changes; ``...`` takes a field away."""
    fields = {name: value for name, value in (CALL | changes).items() if value is not ...}
    (report,) = voice().read_report(request(fields))
    return report


# Calls


def test_the_newer_generation() -> None:
    """SIP codes as text, epoch milliseconds, money as decimal text."""
    assert read() == HEARD


def test_the_older_generation() -> None:
    """``0`` is success, no SIP code, no ring duration, no currency: only the currency stays unknown."""
    older = read(terminationCode="0", sipCode=..., ringDuration=..., currency=..., outRecallCount=...)
    assert (older.state, older.provider_code, older.ring_seconds, older.talk_seconds) == (
        DeliveryState.DELIVERED,
        "0",
        7,
        12,
    )
    assert (older.price, older.currency) == (Decimal("0.01"), None)


def test_a_record() -> None:
    """As ``recordGroup`` writes it: ISO times with an offset, no type, no SIP code."""
    times = {
        name: datetime.fromtimestamp(CALL[name] / 1000, UTC).astimezone(VENDOR_ZONE).isoformat()
        for name in ("submitTime", "callTime", "ringingTime", "answerTime", "hangupTime")
    }
    assert read(**times, sipCode=..., ringDuration=..., type=..., outRecallCount=...) == HEARD


@pytest.mark.parametrize(
    "changes",
    [
        {"callDuration": "12", "ringDuration": "7", "sipCode": 200, "terminationCode": 200, "cost": 0.01},
        {name: str(CALL[name]) for name in ("ringingTime", "answerTime", "hangupTime")},
        {"answerTime": CALL["answerTime"] // 1000, "hangupTime": str(CALL["hangupTime"] // 1000)},
        {"answerTime": "20240102110415", "hangupTime": "2024-01-02 11:04:27"},
        {"answerTime": "2024-01-02T03:04:15Z", "hangupTime": "2024-01-02T11:04:27.000+08:00"},
        {"callDuration": None, "ringDuration": None},
        {"callDuration": 12.0, "voiceId": int(VOICE_ID)},
        {"unheard": {"of": []}, "feedbackValue": None, "code": 5},
    ],
)
def test_the_same_call_written_otherwise(changes: dict[str, Any]) -> None:
    """Text or number, any form of time, null where it can be worked out: the same report comes out."""
    assert read(**changes) == HEARD


def test_ids_keep_every_digit() -> None:
    """A voiceId is larger than 2^64: as text, as a number, or in a sender's scientific notation."""
    assert int(VOICE_ID) > 2**64
    for written in (
        f'"{VOICE_ID}"',
        VOICE_ID,
        f"{VOICE_ID}.0",
        "2.2401020304050000001E19",
        "2.2401020304050000001e+19",
    ):
        body = f'{{"voiceId": {written}, "sipCode": "486"}}'.encode()
        (report,) = voice().read_report(request(body))
        assert report.reference == VOICE_ID, written
    assert identifier("7.5") == "7.5"
    assert identifier("1e99") == "1e99"
    assert identifier("1e9999999") == "1e9999999"
    assert identifier(True) is None


@pytest.mark.parametrize(
    ("sip", "reason"),
    [
        (408, "no_answer"),
        (480, "no_answer"),
        (487, "no_answer"),
        (486, "busy"),
        (600, "busy"),
        (603, "rejected"),
        (607, "rejected"),
        (404, "invalid_number"),
        (410, "invalid_number"),
        (484, "invalid_number"),
        (604, "invalid_number"),
        (402, "blocked"),
        (403, "blocked"),
        (500, "carrier_failure"),
        (503, "carrier_failure"),
        (599, "carrier_failure"),
        (488, "failed"),
        (183, "failed"),
        (202, "failed"),
        (699, "failed"),
    ],
)
@pytest.mark.parametrize("generation", ["new", "old"])
def test_calls_that_failed(sip: int, reason: str, generation: str) -> None:
    """Every SIP code has one reason, in both generations; nothing of an answer is told."""
    codes = (
        {"sipCode": str(sip), "terminationCode": str(sip)}
        if generation == "new"
        else {
            "sipCode": ...,
            "terminationCode": sip,
        }
    )
    report = read(**codes, answerTime=None, callDuration=0)
    assert (report.state, report.reason, report.provider_code) == (DeliveryState.FAILED, reason, str(sip))
    assert (report.talk_seconds, report.answered_at) == (None, None)


def test_the_sip_code_comes_first() -> None:
    """``terminationCode`` means different things in different generations: beside a SIP code it says nothing."""
    assert read(sipCode="486", terminationCode="0").reason == "busy"
    assert read(sipCode="200", terminationCode="486").state is DeliveryState.DELIVERED
    assert read(sipCode="0", terminationCode="486").reason == "busy"
    assert read(sipCode="", terminationCode="200").state is DeliveryState.DELIVERED
    assert read(sipCode=None, terminationCode="-7").reason == "failed"


@pytest.mark.parametrize("sip", [408, 480])
def test_a_phone_that_never_rang_is_unreachable(sip: int) -> None:
    """Only where the provider says that it did not ring, not where it says nothing of it."""
    for silent in (
        {"ringDuration": 0},
        {"ringDuration": ..., "ringingTime": None},
        {"ringDuration": ..., "ringingTime": 0},
    ):
        assert read(sipCode=sip, answerTime=None, **silent).reason == "unreachable"
    assert read(sipCode=sip, ringDuration=..., ringingTime=...).reason == "no_answer"
    assert read(sipCode=487, ringDuration=0).reason == "no_answer"


@pytest.mark.parametrize("nothing", [None, 0, "0", "", ...])
def test_an_answer_that_was_none(nothing: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Established, without an answer's time and without a duration: nothing is concluded, and it is logged."""
    for codes in ({}, {"sipCode": ..., "terminationCode": "0"}):
        with caplog.at_level(logging.WARNING):
            report = read(answerTime=nothing, callDuration=nothing, **codes)
        assert report == Report(delivery_id=DELIVERY, reference=VOICE_ID, state=DeliveryState.ACCEPTED)
        assert "answered" in caplog.text
        caplog.clear()
    assert read(answerTime=nothing).state is DeliveryState.DELIVERED
    assert read(callDuration=nothing).state is DeliveryState.DELIVERED


def test_a_call_without_any_code_has_not_ended() -> None:
    assert read(sipCode=..., terminationCode=...).state is DeliveryState.ACCEPTED
    assert read(sipCode="soon", terminationCode=[]).state is DeliveryState.ACCEPTED


def test_cut_short() -> None:
    """Below the time that a greeting and a code take: a machine, or nobody who heard it. Still delivered."""

    def reason(talk: object, **settings: Any) -> str | None:
        (report,) = voice(**settings).read_report(request(CALL | {"callDuration": talk}))
        assert report.state is DeliveryState.DELIVERED
        return report.reason

    assert [reason(talk) for talk in (0, 3, 6, 7, 12)] == ["voicemail_suspected"] * 3 + [None] * 2
    assert reason(None) is None
    assert reason(1, cut_short_below=0) is None
    assert reason(19, cut_short_below=20) == "voicemail_suspected"
    # Ended by the provider at max_duration, not by who answered.
    assert reason(5, max_duration=5) is None
    assert reason(4, max_duration=5) == "voicemail_suspected"


def test_no_bundled_voice_says_a_code_faster() -> None:
    """The bound of ``cut_short_below`` holds: no language reaches the end of its first code before."""
    from otpvoice.speech.spell import GROUPS
    from otpvoice.speech.timing import GROUP_SECONDS
    from otpvoice.speech.wordings import bundled

    threshold = ItnioVoiceSettings(**ACCOUNT).cut_short_below
    for tag, wording in bundled().by_tag.items():
        if wording.voice is not None:
            code = 6 * wording.voice.digit_seconds + len(GROUPS[6]) * GROUP_SECONDS
            assert code + 1 >= threshold, tag  # A greeting takes a second.


def test_sister_brands_and_shapes_of_money() -> None:
    assert (read(cost=..., costEur="0.0150").price, read(cost=..., costEur="0.0150").currency) == (
        Decimal("0.0150"),
        "EUR",
    )
    for amount in ("x", "-1", "NaN", "Infinity", "1e99", "0,01", "9" * 30, [], True, None):
        assert read(cost=amount).price is None
    assert str(money("1E-7")) in {"1E-7", "0.0000001"}
    assert str(money("1e2")) == "100"
    assert [currency(word) for word in ("usd", " EUR ", "", "dollars", None, 1)] == [
        "USD",
        "EUR",
        None,
        None,
        None,
        None,
    ]


def test_times_that_are_none() -> None:
    for value in (None, 0, "0", "", "soon", "-1", -1, True, [], {}, "9" * 13, "00000000000000", "20241399000000"):
        assert moment(value) is None, value
    for value in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2024-01-02T03:04:05+99:00"):
        assert moment(value) is None, value
    assert [seconds(value) for value in (7, "7", "7.9", 0, -1, 86_401, "x", None, True, 10**9)] == [7, 7, 7, 0] + [
        None
    ] * 6


def test_shapes_of_a_push() -> None:
    """One object, a bare list, a list under ``array``, keys with spaces behind them, a byte-order mark."""
    other = CALL | {"voiceId": "9", "sipCode": "486"}
    for body in ([CALL, other], {"array": [CALL, other]}, {"array ": [CALL, other]}):
        assert [report.reference for report in voice().read_report(request(body))] == [VOICE_ID, "9"]
    spaced = {f" {name} ": value for name, value in CALL.items()}
    assert voice().read_report(request(spaced)) == [HEARD]
    assert voice().read_report(request(spaced | {"sipCode": "200", " sipCode ": "486"})) == [HEARD]
    assert voice().read_report(request(b"\xef\xbb\xbf" + json.dumps(CALL).encode())) == [HEARD]
    for nothing in ({}, [], {"array": []}, {"type": 2, "sipCode": 200}, {"voiceId": {}, "calledInfo": 7}):
        assert voice().read_report(request(nothing)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"report"',
        b"7",
        b"[1, 2]",
        b'[{"voiceId": "1"}, 5]',
        b'{"voiceId": NaN}',
        json.dumps(CALL).encode()[:-9],
        json.dumps(CALL).replace('"', "'").encode(),
        b"voiceId=1&sipCode=200",
        b"[" * 100_000,
        b'{"voiceId": ' + b"9" * 5000 + b"}",
        b" " * (LONGEST_PUSH + 1),
        json.dumps([{"voiceId": "1", "sipCode": 486}] * (MOST_REPORTS + 1)).encode(),
    ],
)
def test_what_is_no_report_is_refused(body: bytes) -> None:
    """Truncated, gigantic, in single quotes, not JSON: refused whole, and the words do not repeat it."""
    for channel in (voice(), sms()):
        with pytest.raises(ReportRejected) as refused:
            channel.read_report(request(body))
        assert refused.value.authentic
        assert "15005550006" not in str(refused.value)


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_hostile_bodies(name: str) -> None:
    """Either refused or of no consequence, never anything else."""
    for channel in (voice(), sms()):
        try:
            reports = channel.read_report(request(HOSTILE_BODIES[name]))
        except ReportRejected:
            continue
        assert list(reports) == []


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from([*CALL.values()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*CALL, "costEur"]), ANY),
    st.dictionaries(st.sampled_from([*MESSAGE, "msgId"]), ANY),
)
def test_any_value_in_any_field(call: dict[str, Any], message: dict[str, Any]) -> None:
    """What comes out fits the database whatever goes in: bounded, printable, in our words."""
    pushed = [(voice(), CALL | call), (sms(), MESSAGE | message)]
    for channel, fields in pushed:
        try:
            body = json.dumps(fields, allow_nan=False).encode()
        except ValueError:
            continue
        for report in channel.read_report(request(body)):
            assert report.reason is None or report.reason in REASONS
            assert report.delivery_id or report.reference
            for word in (report.delivery_id, report.reference, report.provider_code):
                assert word is None or (len(word) <= 200 and word.isprintable())
            for span in (report.ring_seconds, report.talk_seconds):
                assert span is None or 0 <= span <= 86_400
            for at in (report.answered_at, report.ended_at):
                assert at is None or at.utcoffset() == timedelta(0)
            assert report.price is None or (report.price.is_finite() and len(str(report.price)) <= 64)


def test_every_reason_is_of_the_house() -> None:
    assert set(SIP_REASONS.values()) <= REASONS


# Senders


def test_only_listed_senders() -> None:
    """With ``report_ips`` any other address is a forger's, and one that is not known as well."""
    listed = ["192.0.2.0/24", "2001:db8::7"]
    for channel in (voice(report_ips=listed), sms(report_ips=listed)):
        for remote in ("192.0.2.9", "2001:db8::7", "::ffff:192.0.2.9"):
            channel.read_report(request({}, remote=remote))
        for remote in ("192.0.3.9", "2001:db8::8", "::ffff:192.0.3.9", "", "nowhere", None):
            with pytest.raises(ReportRejected) as refused:
                channel.read_report(request({}, remote=remote))
            assert not refused.value.authentic
    assert voice().read_report(request(CALL)) == [HEARD]


@pytest.mark.parametrize("value", ["192.0.2.1", ["192.0.2.300"], ["example.org"], ["192.0.2.1/24"], [None], 7])
def test_addresses_that_are_none(value: object) -> None:
    for kind in (ItnioVoiceSettings, ItnioSMSSettings):
        assert issubclass(kind, ChannelSettings)
        with pytest.raises(ConfigurationError, match="report_ips must be a list"):
            kind.from_table("channels.x", {**ACCOUNT, "report_ips": value})


# Text messages


def test_a_message_that_arrived() -> None:
    (report,) = sms().read_report(request(MESSAGE))
    assert report == Report(
        delivery_id=DELIVERY,
        reference="2401020304051000001",
        state=DeliveryState.DELIVERED,
        provider_code="0",
        price=Decimal("0.02"),
        currency="USD",
    )


@pytest.mark.parametrize("status", [1, 2, "1", -1, "-12", 99])
def test_only_0_is_success(status: object) -> None:
    (report,) = sms().read_report(request(MESSAGE | {"status": status, "reason": "UNDELIV"}))
    assert (report.state, report.reason, report.provider_code) == (DeliveryState.FAILED, "failed", "UNDELIV")


def test_a_message_written_otherwise() -> None:
    """``msgId`` for ``msgid``, a status as text, spaces behind keys, no order id, a list."""
    (report,) = sms().read_report(request([{"msgId": 2401020304051000001, "status ": "0"}]))
    assert (report.delivery_id, report.reference, report.state) == (
        None,
        "2401020304051000001",
        DeliveryState.DELIVERED,
    )
    for nothing in ({"msgid": "1"}, {"status": 0}, {"msgid": "1", "status": "ok"}, {"msgid": [], "status": 0}):
        assert sms().read_report(request(nothing)) == []


@pytest.mark.parametrize("words", ["483920", "code 483920", "Your code", "x" * 60, "", None, 7])
def test_the_providers_words_are_kept_only_where_they_are_a_code(words: object) -> None:
    """They may echo the message."""
    (report,) = sms().read_report(request(MESSAGE | {"status": 1, "reason": words}))
    assert report.provider_code == "1"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("0", DeliveryState.DELIVERED),
        (-1, DeliveryState.ACCEPTED),
        ("1", DeliveryState.FAILED),
        (2, DeliveryState.FAILED),
    ],
)
def test_statuses_of_a_query(status: object, state: DeliveryState) -> None:
    """Unlike in a push, -1 is *under way*; 1 and 2 have both been seen for a failure."""
    report = queried_message({"msgId": "7", "status": status}, delivery_id=DELIVERY)
    assert report is not None
    assert (report.state, report.reference, report.delivery_id) == (state, "7", DELIVERY)
    assert (report.reason == "failed") == (state is DeliveryState.FAILED)
    assert queried_message({"msgId": "7", "status": {}}, delivery_id=DELIVERY) is None
