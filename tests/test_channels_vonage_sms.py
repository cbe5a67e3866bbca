"""Vonage SMS: what it sends, what it makes of every answer, and of delivery receipts."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice.channels.base import REASONS, Message, Receipt, Report, ReportRejected, ReportRequest
from otpvoice.channels.contract import CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import HOSTILE_BODIES, perform
from otpvoice.channels.vonage_api import LONGEST_PUSH, sig
from otpvoice.channels.vonage_sms import VonageSMS, VonageSMSSettings
from otpvoice.channels.vonage_status import ERR_REASONS, RECEIPT_STATES, SMS_STATUS
from otpvoice.clock import ManualClock
from otpvoice.errors import (
    ConfigurationError,
    DeliveryError,
    InvalidRequest,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    RecipientRejected,
)
from otpvoice.speech.gsm import segments
from otpvoice.types import Address, DeliveryState, Text
from tests.vendor_servers import API_KEY, API_SECRET, SIGNATURE_SECRET

CALLBACK = "https://otp.example.com/v1/reports/s3cret/sms"
SETTINGS: Mapping[str, object] = {"api_key": API_KEY, "api_secret": API_SECRET, "sender": "+15005550006"}
MESSAGE_ID = "0C000000217B7F02"
PAGE_TEXT = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")


def parts(*listed: object) -> httpx.Response:
    return httpx.Response(200, json={"message-count": str(len(listed)), "messages": list(listed)})


TAKEN = {"to": "84912345678", "message-id": MESSAGE_ID, "status": "0", "message-price": "0.0333", "network": "45201"}


class TestVonageSMS(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {
        **SETTINGS,
        "status_callback": CALLBACK,
        "signature_secret": SIGNATURE_SECRET,
    }
    secrets = (API_SECRET, SIGNATURE_SECRET)

    def build(self, settings: Mapping[str, object]) -> VonageSMS:
        return VonageSMS.from_settings("sms", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return parts(TAKEN)


CONTRACT = TestVonageSMS()


def sms(**settings: object) -> VonageSMS:
    return VonageSMS("sms", VonageSMSSettings.from_table("channels.sms", {**SETTINGS, **settings}), clock=ManualClock())


def message(**changes: Any) -> Message:
    return replace(CONTRACT.message(sms()), **changes)


def outcome(response: httpx.Response) -> Receipt | DeliveryError:
    try:
        return perform(sms().deliver(message()), lambda _: response)
    except DeliveryError as error:
        return error


# What is sent


def test_a_message() -> None:
    request = next(sms(status_callback=CALLBACK).exchange(message()))
    assert (request.method, str(request.url)) == ("POST", "https://rest.nexmo.com/sms/json")
    assert json.loads(request.content) == {
        "api_key": API_KEY,
        "api_secret": API_SECRET,
        "from": "15005550006",
        "to": NUMBER.removeprefix("+"),
        "text": message().text,
        "type": "text",
        "client-ref": DELIVERY_ID,
        "callback": CALLBACK,
    }
    assert "callback" not in json.loads(next(sms().exchange(message())).content)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_the_type_is_that_of_the_alphabet(text: str) -> None:
    """Of type ``text`` exactly where the whole message is GSM-7: 160 of them fit into one part."""
    sent = json.loads(next(sms().exchange(message(text=Text(text)))).content)
    gsm = all(segments(character * 71) == 1 for character in text)
    assert sent["type"] == ("text" if gsm else "unicode")
    assert sent["text"] == text


@pytest.mark.parametrize("number", ["+123456", "+1234567890123456", "+8491234567x"])
def test_numbers_that_it_does_not_take(number: str) -> None:
    with pytest.raises(InvalidRequest):
        sms().check(message(recipient=replace(message().recipient, address=Address(number))))


# What comes back


@pytest.mark.parametrize(
    "listed",
    [
        [TAKEN],
        [TAKEN | {"status": 0}],
        [TAKEN, TAKEN | {"message-id": "0C000000217B7F03"}],
        [{"status": "1"}, TAKEN],
        [TAKEN, {"status": "5"}],
    ],
)
def test_accepted(listed: list[object]) -> None:
    """By its first part that was taken."""
    assert outcome(parts(*listed)) == Receipt(reference=MESSAGE_ID)


@pytest.mark.parametrize(
    "body", [{"messages": []}, {"messages": ["0"]}, {"messages": {}}, {}, [], {"messages": [{"status": "0"}]}]
)
def test_a_success_without_an_id_is_unknown(body: object) -> None:
    assert type(outcome(httpx.Response(200, json=body))) is OutcomeUnknown


@pytest.mark.parametrize("status", SMS_STATUS)
def test_every_documented_status(status: int) -> None:
    error = outcome(parts({"status": str(status), "error-text": f"{NUMBER} {CODE}"}))
    assert isinstance(error, DeliveryError)
    assert (type(error), error.code, error.provider) == (SMS_STATUS[status][0], str(status), "vonage")
    assert SMS_STATUS[status][1] in str(error)
    assert NUMBER not in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (1, ProviderThrottled),
        (4, ProviderMisconfigured),
        (5, OutcomeUnknown),
        (7, DeliveryError),
        (9, NoBalance),
        (15, ProviderMisconfigured),
        (33, RecipientRejected),
    ],
)
def test_statuses_that_decide_a_route(status: int, kind: type[DeliveryError]) -> None:
    assert SMS_STATUS[status][0] is kind


@pytest.mark.parametrize(("said", "code"), [("13", "13"), ("999", "999"), (CODE, ""), (None, ""), ("x", ""), (-1, "")])
def test_statuses_that_are_not_documented(said: object, code: str) -> None:
    error = outcome(parts({"status": said}))
    assert isinstance(error, OutcomeUnknown)
    assert error.code == code


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ProviderMisconfigured),
        (402, NoBalance),
        (429, ProviderThrottled),
        (500, OutcomeUnknown),
        (503, ProviderUnavailable),
    ],
)
def test_http_statuses(status: int, kind: type[DeliveryError]) -> None:
    assert type(outcome(httpx.Response(status, json={"messages": [TAKEN]}))) is kind


# Receipts

RECEIPT = {
    "msisdn": "84912345678",
    "to": "15005550006",
    "network-code": "45201",
    "messageId": MESSAGE_ID,
    "price": "0.03330000",
    "status": "delivered",
    "scts": "2601020304",
    "err-code": "0",
    "api-key": API_KEY,
    "client-ref": DELIVERY_ID,
    "message-timestamp": "2026-01-02 03:04:27",
}
ARRIVED = Report(
    delivery_id=DELIVERY_ID,
    state=DeliveryState.DELIVERED,
    provider_code="delivered",
    price=Decimal("0.03330000"),
    currency="EUR",
)


def request(fields: Mapping[str, object], form: str = "json") -> ReportRequest:
    plain = {"method": "POST", "url": CALLBACK, "headers": {}, "body": b""}
    if form == "json":
        return ReportRequest(**plain | {"body": json.dumps(fields).encode()})
    if form == "form":
        return ReportRequest(**plain | {"body": urlencode(fields).encode()})
    return ReportRequest(**plain | {"method": "GET", "url": f"{CALLBACK}?{urlencode(fields)}"})


def read(channel: VonageSMS | None = None, form: str = "json", **fields: object) -> Report | None:
    reports = (channel or sms()).read_report(request(RECEIPT | fields, form))
    return reports[0] if reports else None


def refused(said: ReportRequest, channel: VonageSMS | None = None) -> ReportRejected:
    with pytest.raises(ReportRejected) as caught:
        (channel or sms()).read_report(said)
    return caught.value


@pytest.mark.parametrize("form", ["json", "form", "query"])
def test_forms(form: str) -> None:
    """As the dashboard has it: POST-JSON, POST or GET."""
    assert read(form=form) == ARRIVED


def test_named_by_its_own_id_where_ours_is_missing() -> None:
    assert read(**{"client-ref": ""}) == replace(ARRIVED, delivery_id=None, reference=MESSAGE_ID)
    assert read(**{"client-ref": "", "messageId": ""}) is None


@pytest.mark.parametrize("status", [*RECEIPT_STATES, "new-word", ""])
def test_states(status: str) -> None:
    report = read(status=status)
    if status not in RECEIPT_STATES:
        assert report is None
    else:
        assert report is not None
        assert report.state is RECEIPT_STATES[status]
        expected = {"expired": "expired"}.get(status, "failed")
        assert report.reason == (expected if report.state is DeliveryState.FAILED else None)


@pytest.mark.parametrize("code", [*ERR_REASONS, 98])
def test_codes(code: int) -> None:
    """A code other than 0 is a failure, beside *delivered* too."""
    for status in ("failed", "delivered"):
        report = read(status=status, **{"err-code": str(code)})
        assert report is not None
        assert (report.state, report.reason) == (DeliveryState.FAILED, ERR_REASONS.get(code, "failed"))
        assert report.provider_code == str(code)


def test_our_words() -> None:
    assert set(ERR_REASONS.values()) <= REASONS


def vonage_signs(fields: Mapping[str, str], method: str, secret: str = SIGNATURE_SECRET) -> str:
    """As the vendor's page describes it, step by step."""
    text = ""
    for name in sorted(fields):
        text += "&" + name + "=" + fields[name].replace("&", "_").replace("=", "_")
    if method == "md5hash":
        return hashlib.md5((text + secret).encode()).hexdigest()
    return hmac.new(secret.encode(), text.encode(), method).hexdigest().upper()


SIGNED = RECEIPT | {"timestamp": "1767323067", "nonce": "a=b&c"}


@pytest.mark.parametrize("method", ["md5hash", "md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("form", ["json", "form", "query"])
def test_a_right_signature(method: str, form: str) -> None:
    channel = sms(signature_secret=SIGNATURE_SECRET, signature_method=method)
    signed = SIGNED | {"sig": vonage_signs(SIGNED, method)}
    assert channel.read_report(request(signed, form)) == [ARRIVED]


@pytest.mark.parametrize(
    "change",
    [{"status": "failed"}, {"client-ref": "dl_0"}, {"more": "1"}, {"sig": ""}, {"sig": "é"}, {"timestamp": "0"}],
)
def test_anything_changed_is_not_authentic(change: dict[str, str]) -> None:
    channel = sms(signature_secret=SIGNATURE_SECRET)
    signed = SIGNED | {"sig": vonage_signs(SIGNED, "sha256")} | change
    assert not refused(request(signed), channel).authentic


def test_other_secrets_methods_and_none_are_not_authentic() -> None:
    channel = sms(signature_secret=SIGNATURE_SECRET)
    for wrong in (
        SIGNED,
        SIGNED | {"sig": vonage_signs(SIGNED, "sha256", "other")},
        SIGNED | {"sig": vonage_signs(SIGNED, "md5hash")},
    ):
        assert not refused(request(wrong), channel).authentic


def test_another_account_is_not_authentic() -> None:
    assert not refused(request(RECEIPT | {"api-key": "ffffffff"})).authentic


def test_the_order_of_fields_does_not_matter() -> None:
    pairs = list(SIGNED.items())
    assert sig("s", "sha256", pairs) == sig("s", "sha256", pairs[::-1])


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
def test_hostile_bodies(body: bytes) -> None:
    """Nothing but a refusal or nothing comes of them; signed-only lets none of them in."""
    said = ReportRequest(method="POST", url="http://[", headers={}, body=body)
    with contextlib.suppress(ReportRejected):
        assert sms().read_report(said) == []
    refused(said, sms(signature_secret=SIGNATURE_SECRET))


def test_gigantic() -> None:
    refused(ReportRequest(method="POST", url=CALLBACK, headers={}, body=b"a" * (LONGEST_PUSH + 1)))
    refused(ReportRequest(method="POST", url=CALLBACK, headers={}, body=b"a=1&" * 1000))


@pytest.mark.parametrize("value", [None, True, 5, {}, [], "9" * 5000, "\ud800"])
def test_wrong_types(value: object) -> None:
    for name in RECEIPT:
        said = ReportRequest(method="POST", url=CALLBACK, headers={}, body=json.dumps(RECEIPT | {name: value}).encode())
        try:
            assert len(sms().read_report(said)) <= 1
        except ReportRejected:
            assert name == "api-key" or value == "\ud800"


# Settings


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "api_key": ["", "a b", 5],
        "api_secret": ["", "a b", 5],
        "sender": ["", "x" * 12, "a&b", "12", 5],
        "status_callback": ["http://example.com/r", 5],
        "signature_method": ["sha3", "", 5],
        "base_url": ["http://rest.nexmo.com"],
    }.items(),
)
def test_wrong_settings_are_named(key: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"\[channels\.sms\] {key}\b"):
            VonageSMS.from_settings("sms", {**SETTINGS, key: value})


def test_it_cannot_be_asked() -> None:
    capabilities = sms().capabilities
    assert (capabilities.reports, capabilities.look_ups, capabilities.poll_after) == (True, False, None)


def test_the_page_names_everything() -> None:
    for member in dataclasses.fields(VonageSMSSettings):
        assert f"`{member.name}`" in PAGE_TEXT, f"docs/channels.md does not name {member.name}"
    section = PAGE_TEXT.split("\n## vonage-sms\n")[1].split("\n## ")[0]
    for number in (*SMS_STATUS, *ERR_REASONS):
        assert f"`{number}`" in section, f"docs/channels.md does not name {number}"
