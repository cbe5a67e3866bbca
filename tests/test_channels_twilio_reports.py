"""Twilio's status callbacks: what they say, and what must not be believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice.channels.base import REASONS, Report, ReportRejected, ReportRequest
from otpvoice.channels.contract_tools import HOSTILE_BODIES
from otpvoice.channels.sip import SIP_REASONS
from otpvoice.channels.twilio import TwilioVoice, TwilioVoiceSettings
from otpvoice.channels.twilio_api import LONGEST_PUSH, signature
from otpvoice.channels.twilio_sms import TwilioSMS, TwilioSMSSettings
from otpvoice.channels.twilio_status import CALL_STATES, MESSAGE_REASONS, MESSAGE_STATES
from otpvoice.types import DeliveryState
from tests.vendor_servers import ACCOUNT, CALLER, TOKEN, pushed

CALLBACK = "https://otp.example.com/v1/reports/s3cret/voice"
DELIVERY = "dl_" + "7f3a" * 8
URL = f"{CALLBACK}?delivery={DELIVERY}"
CALL_SID, SMS_SID = "CA" + "4d5e" * 8, "SM" + "1c2d" * 8
ENDED = datetime(2026, 1, 2, 3, 4, 27, tzinfo=UTC)
SHARED = {"account_sid": ACCOUNT, "auth_token": TOKEN, "status_callback": CALLBACK}

CALL = {
    "AccountSid": ACCOUNT,
    "ApiVersion": "2010-04-01",
    "CallSid": CALL_SID,
    "CallStatus": "completed",
    "CallDuration": "12",
    "Duration": "1",
    "Direction": "outbound-api",
    "From": CALLER,
    "To": "+15005550010",
    "Timestamp": "Fri, 02 Jan 2026 03:04:27 +0000",
    "SipResponseCode": "200",
    "CallbackSource": "call-progress-events",
    "SequenceNumber": "0",
}
MESSAGE = {
    "AccountSid": ACCOUNT,
    "MessageSid": SMS_SID,
    "SmsSid": SMS_SID,
    "MessageStatus": "delivered",
    "SmsStatus": "delivered",
    "From": CALLER,
    "To": "+15005550010",
}
HEARD = Report(
    delivery_id=DELIVERY,
    reference=CALL_SID,
    state=DeliveryState.DELIVERED,
    provider_code="completed",
    talk_seconds=12,
    answered_at=ENDED - timedelta(seconds=12),
    ended_at=ENDED,
)


def voice(**more: Any) -> TwilioVoice:
    return TwilioVoice("voice", TwilioVoiceSettings(**{**SHARED, "from_number": CALLER, **more}))


def sms(**more: Any) -> TwilioSMS:
    return TwilioSMS("sms", TwilioSMSSettings(**{**SHARED, "sender": CALLER, **more}))


def call(*, url: str = URL, channel: TwilioVoice | None = None, **fields: str) -> Report | None:
    reports = (channel or voice()).read_report(pushed(url, {**CALL, **fields}))
    return reports[0] if reports else None


def refused(request: ReportRequest, channel: TwilioVoice | TwilioSMS | None = None) -> ReportRejected:
    with pytest.raises(ReportRejected) as caught:
        (channel or voice()).read_report(request)
    return caught.value


# The signature


def test_the_vendors_own_example() -> None:
    """The worked example of twilio.com/docs/usage/security."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675309",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
    }
    made = signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", fields.items())
    assert made == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=8), st.text(min_size=1))
def test_the_vendors_own_library_agrees(pairs: list[tuple[str, str]], token: str) -> None:
    validator = pytest.importorskip("twilio.request_validator").RequestValidator(token)
    fields = dict(pairs)
    assert signature(token, URL, fields.items()) == validator.compute_signature(URL, fields)


def test_a_right_signature() -> None:
    assert call() == HEARD


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {}},
        {"headers": {"x-twilio-signature": ""}},
        {"headers": {"x-twilio-signature": "é" * 28}},
        {"headers": {"x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}},
        {"url": CALLBACK},
        {"url": f"{CALLBACK}?delivery=dl_{'0' * 32}"},
        {"url": f"{URL}&x=1"},
        {"body": urlencode({**CALL, "CallStatus": "busy"}).encode()},
        {"body": urlencode({**CALL, "Extra": "1"}).encode()},
        {"body": urlencode({k: v for k, v in CALL.items() if k != "To"}).encode()},
        {"body": b""},
    ],
)
def test_anything_changed_is_not_authentic(change: dict[str, Any]) -> None:
    """Fields, the URL's query with the delivery's id, the signature itself."""
    assert not refused(replace(pushed(URL, CALL), **change)).authentic


def test_another_token_is_not_authentic() -> None:
    assert not refused(pushed(URL, CALL, token=TOKEN[::-1])).authentic


def test_another_account_is_not_authentic() -> None:
    """Signed with our token and of another account (a subaccount whose token is the same by mistake)."""
    assert not refused(pushed(URL, {**CALL, "AccountSid": "AC" + "ffff" * 8})).authentic
    assert not refused(pushed(URL, {k: v for k, v in CALL.items() if k != "AccountSid"})).authentic


def test_a_proxy_may_change_scheme_and_host() -> None:
    """Signed is the URL that Twilio was given, whatever the request looks like behind a proxy."""
    seen = replace(pushed(URL, CALL), url=f"http://10.0.0.7:8000/v1/reports/s3cret/voice?delivery={DELIVERY}")
    assert voice().read_report(seen) == [HEARD]


@pytest.mark.parametrize(
    ("given", "signed"),
    [
        ("https://otp.example.com/r", "https://otp.example.com:443/r"),
        ("https://otp.example.com:443/r", "https://otp.example.com/r"),
        ("http://127.0.0.1/r", "http://127.0.0.1:80/r"),
        ("https://otp.example.com:8443/r", "https://otp.example.com:8443/r"),
    ],
)
def test_the_default_port_may_be_written(given: str, signed: str) -> None:
    query = f"?delivery={DELIVERY}"
    assert voice(status_callback=given).read_report(pushed(signed + query, CALL)) == [HEARD]


def test_another_port_is_another_url() -> None:
    assert not refused(pushed(f"https://otp.example.com:8443/r?delivery={DELIVERY}", CALL)).authentic


def test_without_a_configured_url_the_request_s_counts() -> None:
    assert voice(status_callback=None).read_report(pushed(URL, CALL)) == [HEARD]
    assert not refused(
        replace(pushed(URL, CALL), url=URL.replace("otp", "evil")), voice(status_callback=None)
    ).authentic


# What it says


@pytest.mark.parametrize("status", [*CALL_STATES, "new-word", ""])
def test_states_of_a_call(status: str) -> None:
    report = call(CallStatus=status, SipResponseCode="")
    if status not in CALL_STATES:
        assert report is None
    else:
        assert report is not None
        assert (report.state, report.reason) == CALL_STATES[status]
        assert (report.delivery_id, report.reference) == (DELIVERY, CALL_SID)


@pytest.mark.parametrize("sip", [*SIP_REASONS, 200, 999])
def test_failed_goes_by_its_sip_code(sip: int) -> None:
    report = call(CallStatus="failed", SipResponseCode=str(sip))
    assert report is not None
    assert (report.state, report.reason) == (DeliveryState.FAILED, SIP_REASONS.get(sip, "failed"))
    assert report.provider_code == str(sip)
    assert report.talk_seconds is None


def test_a_busy_that_was_a_refusal() -> None:
    """Twilio calls a declined call busy; its SIP code tells the two apart."""
    for sip, reason in {"486": "busy", "603": "rejected", "607": "rejected", "": "busy"}.items():
        report = call(CallStatus="busy", SipResponseCode=sip)
        assert report is not None
        assert report.reason == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"CallDuration": "6"}, "voicemail_suspected"),
        ({"CallDuration": "0"}, "voicemail_suspected"),
        ({"CallDuration": "7"}, None),
        ({"CallDuration": ""}, None),
        ({"AnsweredBy": "human"}, None),
        ({"AnsweredBy": "machine_start"}, "voicemail_suspected"),
        ({"AnsweredBy": "machine_end_beep"}, "voicemail_suspected"),
        ({"AnsweredBy": "fax"}, "voicemail_suspected"),
        ({"AnsweredBy": "unknown"}, None),
    ],
)
def test_voicemail(fields: dict[str, str], reason: str | None) -> None:
    report = call(**fields)
    assert report is not None
    assert (report.state, report.reason) == (DeliveryState.DELIVERED, reason)


def test_a_call_that_we_end_is_not_cut_short() -> None:
    report = call(channel=voice(max_duration=5), CallDuration="5")
    assert report is not None
    assert report.reason is None


@pytest.mark.parametrize("value", ["", "x", "-1", "99999999999999999999", "1e9", "1" * 5000])
def test_unreadable_details_cost_nothing_else(value: str) -> None:
    report = call(CallDuration=value, Timestamp=value, SipResponseCode=value)
    assert report is not None
    assert (report.state, report.talk_seconds, report.answered_at) == (DeliveryState.DELIVERED, None, None)


@pytest.mark.parametrize("sid", ["", "x", "CA1", CALL_SID + "0"])
def test_a_call_without_an_id_says_nothing(sid: str) -> None:
    assert call(CallSid=sid) is None


@pytest.mark.parametrize(("query", "named"), [("", None), ("?delivery=a&delivery=b", None), ("?x=1", None)])
def test_without_one_delivery_it_is_named_by_the_call(query: str, named: str | None) -> None:
    report = call(url=CALLBACK + query)
    assert report is not None
    assert (report.delivery_id, report.reference) == (named, CALL_SID)


@pytest.mark.parametrize("status", [*MESSAGE_STATES, "new-word", ""])
def test_states_of_a_message(status: str) -> None:
    reports = sms().read_report(pushed(URL, {**MESSAGE, "MessageStatus": status}))
    if status not in MESSAGE_STATES:
        assert reports == []
    else:
        (report,) = reports
        assert (report.delivery_id, report.reference, report.state) == (DELIVERY, SMS_SID, MESSAGE_STATES[status])
        assert report.provider_code == status
        assert report.reason == ("failed" if report.state is DeliveryState.FAILED else None)


def test_sent_is_not_delivered() -> None:
    """A carrier that never confirms leaves it at *sent*."""
    assert {status for status, state in MESSAGE_STATES.items() if state is DeliveryState.DELIVERED} == {
        "delivered",
        "read",
    }
    assert {status for status, (state, _) in CALL_STATES.items() if state is DeliveryState.DELIVERED} == {"completed"}
    assert MESSAGE_STATES["sent"] is DeliveryState.ACCEPTED


@pytest.mark.parametrize("code", [*MESSAGE_REASONS, 39999])
def test_why_a_message_failed(code: int) -> None:
    (report,) = sms().read_report(pushed(URL, {**MESSAGE, "MessageStatus": "undelivered", "ErrorCode": str(code)}))
    assert (report.state, report.reason) == (DeliveryState.FAILED, MESSAGE_REASONS.get(code, "failed"))
    assert report.provider_code == str(code)


def test_a_code_beside_a_delivery_is_no_failure() -> None:
    (report,) = sms().read_report(pushed(URL, {**MESSAGE, "ErrorCode": "30008"}))
    assert (report.state, report.reason) == (DeliveryState.DELIVERED, None)


def test_our_words() -> None:
    assert set(MESSAGE_REASONS.values()) <= REASONS
    assert {reason for _, reason in CALL_STATES.values() if reason} <= REASONS
    assert set(SIP_REASONS.values()) <= REASONS


# Hostile


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
@pytest.mark.parametrize("url", [URL, "http://[", "", "?delivery=x"])
def test_hostile_bodies(body: bytes, url: str) -> None:
    for channel in (voice(), sms(), voice(status_callback=None)):
        refused(ReportRequest(method="POST", url=url, headers={"x-twilio-signature": "x"}, body=body), channel)


def test_gigantic() -> None:
    assert "longer" in str(refused(ReportRequest(method="POST", url=URL, headers={}, body=b"a" * (LONGEST_PUSH + 1))))
    refused(ReportRequest(method="POST", url=URL, headers={}, body=b"a=1&" * 1000))


@given(st.binary(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_nothing_unsigned_is_read(body: bytes, url: str, mac: str) -> None:
    refused(ReportRequest(method="POST", url=url, headers={"x-twilio-signature": mac}, body=body))
