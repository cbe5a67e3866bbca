"""Twilio's channels: what they send, what they make of every answer, and what they can be asked."""

from __future__ import annotations

import base64
import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl

import httpx
import pytest

from otpvoice.channels.base import Inquiry, Message, Receipt, Report
from otpvoice.channels.contract import CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import HOSTILE_BODIES, perform
from otpvoice.channels.twilio import LANGUAGES, LONGEST_TWIML, TwilioVoice, TwilioVoiceSettings
from otpvoice.channels.twilio_api import QuietURL
from otpvoice.channels.twilio_records import AFTER, BEFORE, PAGE
from otpvoice.channels.twilio_sms import TwilioSMS, TwilioSMSSettings
from otpvoice.channels.twilio_status import CALL_STATES, ERRORS, MESSAGE_REASONS
from otpvoice.clock import ManualClock
from otpvoice.errors import (
    ConfigurationError,
    ContentRejected,
    DeliveryError,
    InvalidRequest,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    RecipientRejected,
)
from otpvoice.policy import Policy, Route
from otpvoice.speech.languages import best
from otpvoice.speech.overrides import load_wordings
from otpvoice.types import Address, DeliveryState, Medium, Text

ACCOUNT = "AC" + "0a1b" * 8
TOKEN = "7f1e5c2b9d4a4e6f8b0c1d2e3f405162"
KEY, KEY_SECRET = "SK" + "9f8e" * 8, "hV2kQ9sLwP3xT7bN"
CALL = "CA" + "4d5e" * 8
OTHER_CALL = "CA" + "6f70" * 8
SMS = "SM" + "1c2d" * 8
CALLBACK = "https://otp.example.com/v1/reports/s3cret/voice"
VOICE: Mapping[str, object] = {"account_sid": ACCOUNT, "auth_token": TOKEN, "from_number": "+15005550006"}
TEXTS: Mapping[str, object] = {"account_sid": ACCOUNT, "auth_token": TOKEN, "sender": "+15005550006"}
CLOCK = ManualClock()
PAGE_TEXT = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class TestTwilioVoice(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {**VOICE, "status_callback": CALLBACK, "max_duration": 45}
    secrets = (TOKEN, basic(ACCOUNT, TOKEN))

    def build(self, settings: Mapping[str, object]) -> TwilioVoice:
        return TwilioVoice.from_settings("voice", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json={"sid": CALL, "status": "queued"})


class TestTwilioVoiceWithKey(TestTwilioVoice):
    settings: ClassVar[Mapping[str, object]] = {
        **VOICE,
        "status_callback": CALLBACK,
        "api_key": KEY,
        "api_secret": KEY_SECRET,
    }
    secrets = (TOKEN, KEY_SECRET, basic(KEY, KEY_SECRET))


class TestTwilioSMS(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {**TEXTS, "status_callback": CALLBACK}
    secrets = (TOKEN, basic(ACCOUNT, TOKEN))

    def build(self, settings: Mapping[str, object]) -> TwilioSMS:
        return TwilioSMS.from_settings("sms", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json={"sid": SMS, "status": "queued", "error_code": None})


CONTRACT = TestTwilioVoice()


def voice(**settings: object) -> TwilioVoice:
    return TwilioVoice("voice", TwilioVoiceSettings.from_table("channels.voice", {**VOICE, **settings}), clock=CLOCK)


def sms(**settings: object) -> TwilioSMS:
    table = {name: value for name, value in {**TEXTS, **settings}.items() if value is not None}
    return TwilioSMS("sms", TwilioSMSSettings.from_table("channels.sms", table), clock=CLOCK)


Either = TwilioVoice | TwilioSMS


def message(channel: Either, **changes: Any) -> Message:
    return replace(CONTRACT.message(channel), **changes)


def request_of(channel: Either, **changes: Any) -> httpx.Request:
    return next(channel.exchange(message(channel, **changes)))


def form(request: httpx.Request) -> dict[str, str]:
    pairs = parse_qsl(request.content.decode(), strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def outcome(channel: Either, response: httpx.Response) -> Receipt | DeliveryError:
    try:
        return perform(channel.deliver(message(channel)), lambda _: response)
    except DeliveryError as error:
        return error


# What is sent


def test_a_call() -> None:
    channel = voice(status_callback=CALLBACK, max_duration=45, max_ringing_time=30)
    request = request_of(channel, repeats=2)
    assert request.method == "POST"
    assert str(request.url) == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    assert request.headers["authorization"] == f"Basic {basic(ACCOUNT, TOKEN)}"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    text = message(channel).text
    assert form(request) == {
        "To": NUMBER,
        "From": "+15005550006",
        "Twiml": f'<Response><Say language="en-US" voice="Polly.Joanna" loop="2">{text}</Say></Response>',
        "Timeout": "30",
        "TimeLimit": "45",
        "StatusCallback": f"{CALLBACK}?delivery={DELIVERY_ID}",
        "StatusCallbackEvent": "completed",
        "StatusCallbackMethod": "POST",
    }


def test_a_text_message() -> None:
    channel = sms(status_callback=CALLBACK)
    request = request_of(channel, text=Text("Mã: 907351\n\n@example.com #907351"))
    assert str(request.url) == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert form(request) == {
        "To": NUMBER,
        "From": "+15005550006",
        "Body": "Mã: 907351\n\n@example.com #907351",
        "StatusCallback": f"{CALLBACK}?delivery={DELIVERY_ID}",
    }


@pytest.mark.parametrize("channel", [voice(), sms()])
def test_fields_print_masked(channel: Either) -> None:
    """A traceback that shows its variables shows neither the code nor the number."""
    CONTRACT.expect_silent(repr(channel._fields(message(channel))), "the form")


def test_what_is_not_configured_is_not_sent() -> None:
    assert set(form(request_of(voice()))) == {"To", "From", "Twiml"}
    assert set(form(request_of(sms()))) == {"To", "From", "Body"}


@pytest.mark.parametrize(
    ("given", "sent"), [("15005550006", "+15005550006"), ("Example", "Example"), ("12345", "12345")]
)
def test_senders(given: str, sent: str) -> None:
    assert form(request_of(sms(sender=given)))["From"] == sent


def test_a_messaging_service_chooses_the_sender() -> None:
    service = "MG" + "aa01" * 8
    sent = form(request_of(sms(sender=None, messaging_service_sid=service)))
    assert sent["MessagingServiceSid"] == service
    assert "From" not in sent


def test_an_api_key_signs_in_the_account_is_still_named() -> None:
    request = request_of(voice(api_key=KEY, api_secret=KEY_SECRET, base_url="https://api.dublin.ie1.twilio.com/"))
    assert request.headers["authorization"] == f"Basic {basic(KEY, KEY_SECRET)}"
    assert str(request.url) == f"https://api.dublin.ie1.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Calls.json"


@pytest.mark.parametrize("text", ["a < b & c > d \"e\" 'f'", "</Say><Dial>+1900</Dial>", "mã là: một, hai", "验证码"])
def test_a_text_cannot_become_markup(text: str) -> None:
    """Whatever a brand or a payee's name holds, TwiML is one ``Say`` with that text."""
    document = ET.fromstring(form(request_of(voice(), text=Text(text)))["Twiml"])
    (say,) = document
    assert (document.tag, say.tag, say.text, list(say)) == ("Response", "Say", text, [])


@pytest.mark.parametrize("text", ["\x00", "a\x0bb", "\ufffe", "&" * 1000])
def test_what_twiml_cannot_carry_is_refused(text: str) -> None:
    """Control characters, and a text that escapes to more than the parameter takes, raise before anything is sent."""
    with pytest.raises(ContentRejected):
        next(voice().exchange(message(voice(), text=Text(text))))


def test_the_longest_text_fits_whatever_the_voice() -> None:
    channel = voice(languages={"en": "a" * 3 + "-abcdefgh" * 4 + "/" + "v" * 60})
    sent = form(request_of(channel, text=Text("é" * 3800), repeats=3))
    assert len(sent["Twiml"]) <= LONGEST_TWIML


@pytest.mark.parametrize("channel", [voice(), sms()])
def test_text_that_is_not_unicode_is_refused(channel: Either) -> None:
    with pytest.raises(ContentRejected) as caught:
        next(channel.exchange(message(channel, text=Text("\ud800"))))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("number", ["+123456", "+1234567890123456", "+8491234567x"])
@pytest.mark.parametrize("channel", [voice(), sms()])
def test_numbers_that_it_does_not_take(channel: Either, number: str) -> None:
    good = message(channel)
    with pytest.raises(InvalidRequest):
        channel.check(replace(good, recipient=replace(good.recipient, address=Address(number))))


@pytest.mark.parametrize("repeats", [0, 4])
def test_repeats_are_bounded(repeats: int) -> None:
    """``loop="0"`` would speak until the caller hangs up."""
    with pytest.raises(InvalidRequest):
        voice().check(message(voice(), repeats=repeats))


def test_languages() -> None:
    """Every language that we have a wording for, but for two that Twilio does not speak; a setting's goes first."""
    for tag in set(load_wordings(None).speaking(Medium.VOICE)) - {"sw", "ur"}:
        assert best(tag, LANGUAGES), tag
    sent = form(request_of(voice(languages={"en": "en-US"})))
    assert '<Say language="en-US" loop="1">' in sent["Twiml"]


# What comes back


def test_accepted() -> None:
    assert outcome(voice(), httpx.Response(201, json={"sid": CALL})) == Receipt(reference=CALL)
    assert outcome(sms(), httpx.Response(201, json={"sid": SMS, "status": "accepted"})) == Receipt(reference=SMS)


@pytest.mark.parametrize("body", [{}, {"sid": None}, {"sid": "x"}, {"sid": CODE}, [], {"sid": CALL + "0"}])
def test_a_success_without_an_id_is_unknown(body: object) -> None:
    """It may be ringing."""
    for channel in (voice(), sms()):
        assert type(outcome(channel, httpx.Response(201, json=body))) is OutcomeUnknown


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_documented_code(code: int) -> None:
    """Each arrives as its class with its raw code, in our words and not in Twilio's, which quote the number."""
    said = {"code": code, "message": f"the number {NUMBER} and {CODE}", "status": 400}
    for channel in (voice(), sms()):
        error = outcome(channel, httpx.Response(400, json=said))
        assert type(error) is ERRORS[code][0]
        assert isinstance(error, DeliveryError)
        assert (error.code, error.provider) == (str(code), "twilio")
        assert ERRORS[code][1] in str(error)
        assert NUMBER not in str(error)
        assert CODE not in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (20003, ProviderMisconfigured),
        (20429, ProviderThrottled),
        (21211, RecipientRejected),
        (21214, DeliveryError),
        (21217, RecipientRejected),
        (21408, ProviderMisconfigured),
        (21610, DeliveryError),
        (21612, DeliveryError),
        (21614, DeliveryError),
        (21617, ContentRejected),
        (13224, DeliveryError),
        (13227, ProviderMisconfigured),
    ],
)
def test_codes_that_decide_a_route(code: int, kind: type[DeliveryError]) -> None:
    """A landline, an opted-out sender or a blocked country is no reason not to try another way; no number is."""
    assert ERRORS[code][0] is kind


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"code": 29999}, ProviderMisconfigured, "29999"),
        (401, None, ProviderMisconfigured, "http 401"),
        (402, {}, NoBalance, "http 402"),
        (403, {"code": CODE}, ProviderMisconfigured, "http 403"),
        (429, {}, ProviderThrottled, "http 429"),
        (500, {"code": 20500}, OutcomeUnknown, "20500"),
        (500, {"code": 21211}, OutcomeUnknown, "21211"),
        (502, None, OutcomeUnknown, "http 502"),
        (503, {"code": 20503}, ProviderUnavailable, "20503"),
        (307, {"code": 20003}, ProviderMisconfigured, "20003"),
    ],
)
def test_codes_that_are_not_documented(status: int, body: object, kind: type[DeliveryError], code: str) -> None:
    """They go by the HTTP status; only in a 4xx has the provider refused. An echo of ours is no code."""
    error = outcome(voice(), httpx.Response(status, json=body))
    assert isinstance(error, DeliveryError)
    assert (type(error), error.code) == (kind, code)


def test_throttled_says_when() -> None:
    error = outcome(voice(), httpx.Response(429, json={"code": 20429}, headers={"retry-after": "77"}))
    assert isinstance(error, ProviderThrottled)
    assert error.retry_after == timedelta(seconds=77)


@pytest.mark.parametrize(("said", "code"), [(30034, "30034"), (None, ""), (907351, ""), ("x", "")])
def test_a_message_that_is_made_and_has_failed(said: object, code: str) -> None:
    error = outcome(sms(), httpx.Response(201, json={"sid": SMS, "status": "failed", "error_code": said}))
    assert isinstance(error, DeliveryError)
    assert (type(error), error.code) == (DeliveryError, code)


# What it can be asked

SENT_AT = datetime(2026, 1, 2, 3, 4, 15, tzinfo=UTC)
INQUIRY = Inquiry(
    delivery_id=DELIVERY_ID,
    reference=None,
    recipient=message(voice()).recipient,
    sent_at=SENT_AT,
    now=SENT_AT + timedelta(seconds=40),
)


def record(sid: str = CALL, *, seconds: float = 1, **more: Any) -> dict[str, Any]:
    """A Call resource, made so many seconds after the sending."""
    return {
        "sid": sid,
        "to": NUMBER,
        "from": "+15005550006",
        "direction": "outbound-api",
        "status": "completed",
        "duration": "12",
        "date_created": format_datetime(SENT_AT + timedelta(seconds=seconds)),
        "end_time": format_datetime(SENT_AT + timedelta(seconds=30)),
        "price": "-0.0130",
        "price_unit": "USD",
        "answered_by": None,
    } | more


def look_up(channel: Either, answer: httpx.Response, **inquiry: Any) -> tuple[Report | None, httpx.Request]:
    seen: list[httpx.Request] = []

    def answered(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer

    report = perform(channel.look_up(replace(INQUIRY, **inquiry)), answered)
    (asked,) = seen
    return report, asked


def found(*records: dict[str, Any], **inquiry: Any) -> Report | None:
    return look_up(voice(), httpx.Response(200, json={"calls": list(records)}), **inquiry)[0]


HEARD = Report(
    delivery_id=DELIVERY_ID,
    reference=CALL,
    state=DeliveryState.DELIVERED,
    provider_code="completed",
    talk_seconds=12,
    answered_at=SENT_AT + timedelta(seconds=18),
    ended_at=SENT_AT + timedelta(seconds=30),
    price=Decimal("0.0130"),
    currency="USD",
)


def test_by_its_id() -> None:
    report, asked = look_up(voice(), httpx.Response(200, json=record()), reference=CALL)
    assert report == HEARD
    assert (asked.method, asked.url.path) == ("GET", f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json")
    assert asked.headers["authorization"] == f"Basic {basic(ACCOUNT, TOKEN)}"


def test_a_message_by_its_id() -> None:
    said = {"sid": SMS, "status": "undelivered", "error_code": 30006, "price": "-0.0075", "price_unit": "usd"}
    report, asked = look_up(sms(), httpx.Response(200, json=said), reference=SMS)
    assert report == Report(
        delivery_id=DELIVERY_ID,
        reference=SMS,
        state=DeliveryState.FAILED,
        reason="unreachable",
        provider_code="30006",
        price=Decimal("0.0075"),
        currency="USD",
    )
    assert asked.url.path.endswith(f"/Messages/{SMS}.json")


def test_unknown_to_twilio() -> None:
    """Its own word that there is none; any other 404 is a wrong URL."""
    assert look_up(voice(), httpx.Response(404, json={"code": 20404}), reference=CALL)[0] is None
    with pytest.raises(ProviderMisconfigured):
        look_up(voice(), httpx.Response(404, text="not here"), reference=CALL)


def test_anothers_record_is_not_ours() -> None:
    with pytest.raises(OutcomeUnknown):
        look_up(voice(), httpx.Response(200, json=record(OTHER_CALL)), reference=CALL)


def test_without_an_id_by_recipient_and_time() -> None:
    """The answer was lost: the one call from our number to this person at that time is ours."""
    report, asked = look_up(voice(), httpx.Response(200, json={"calls": [record()]}))
    assert report == HEARD
    query = parse_qs(asked.url.query.decode())
    assert query == {"To": [NUMBER], "From": ["+15005550006"], "PageSize": [str(PAGE)]}


def test_a_question_prints_without_the_number() -> None:
    """httpx logs every URL it asks: this one holds the whole number."""
    _, asked = look_up(voice(), httpx.Response(200, json={"calls": []}))
    assert isinstance(asked.url, QuietURL)
    for printed in (str(asked.url), repr(asked.url), repr(asked), f"{asked.url}"):
        assert NUMBER.removeprefix("+") not in printed
    assert NUMBER.removeprefix("+") in asked.url.raw_path.decode()


def test_a_messaging_service_is_searched_without_a_sender() -> None:
    channel = sms(sender=None, messaging_service_sid="MG" + "aa01" * 8)
    made = {**record(SMS), "status": "delivered"}
    report, asked = look_up(channel, httpx.Response(200, json={"messages": [made]}))
    assert report is not None
    assert (report.reference, report.state) == (SMS, DeliveryState.DELIVERED)
    assert "From" not in parse_qs(asked.url.query.decode())


@pytest.mark.parametrize("seconds", [-BEFORE.total_seconds() - 1, AFTER.total_seconds() + 1])
def test_a_call_of_another_time_is_not_ours(seconds: float) -> None:
    """The delivery before this one, and the one after it, went to the same number."""
    assert found(record(seconds=seconds)) is None
    report = found(record(OTHER_CALL, seconds=seconds), record())
    assert report == HEARD


def test_a_window_is_shorter_than_a_cooldown() -> None:
    """The next delivery to the same person cannot fall into it."""
    assert Policy(route=Route.of("voice")).cooldowns[0] > AFTER


@pytest.mark.parametrize("more", [{"direction": "inbound"}, {"direction": "outbound-dial"}, {"to": "+15005550001"}])
def test_what_the_api_did_not_call_is_not_ours(more: dict[str, str]) -> None:
    assert found(record(**more)) is None


def test_none_means_never_placed() -> None:
    assert found() is None


def test_two_that_fit_are_neither() -> None:
    """Nothing says which is ours: nothing rings again by itself."""
    with pytest.raises(OutcomeUnknown):
        found(record(), record(OTHER_CALL, seconds=3))


def test_a_record_without_a_time_counts() -> None:
    """A call that may be ours is not read as never placed."""
    assert found(record(date_created=None)) is not None


def test_a_full_page_that_does_not_reach_back_tells_nothing() -> None:
    newer = [record(f"CA{n:032x}", seconds=40 + n) for n in range(PAGE)]
    with pytest.raises(OutcomeUnknown):
        found(*newer)
    assert found(*newer[:-1], record(seconds=-60)) is None


def test_the_window_is_of_twilios_clock() -> None:
    """Two minutes ahead of ours, by its own ``Date``: its times are read by its clock."""
    ahead = timedelta(minutes=2)
    answer = httpx.Response(
        200,
        json={"calls": [record(seconds=121)]},
        headers={"date": format_datetime(INQUIRY.now + ahead, usegmt=True)},
    )
    report = look_up(voice(), answer)[0]
    assert report is not None
    assert report.reference == CALL
    assert found(record(seconds=121)) is None


def test_without_the_recipient_nothing_is_concluded() -> None:
    with pytest.raises(OutcomeUnknown):
        perform(voice().look_up(replace(INQUIRY, recipient=None)), lambda _: httpx.Response(500))


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
@pytest.mark.parametrize("reference", [None, CALL])
def test_hostile_records(body: bytes, reference: str | None) -> None:
    """An answer that is not in Twilio's form never says that there was no call."""
    for channel in (voice(), sms()):
        with pytest.raises(DeliveryError):
            look_up(channel, httpx.Response(200, content=body), reference=reference)


@pytest.mark.parametrize("status", [*sorted(CALL_STATES), "new-word", None])
def test_states_of_a_record(status: str | None) -> None:
    report = found(record(status=status))
    if status not in CALL_STATES:
        assert report is None
    else:
        assert report is not None
        assert (report.state, report.reason) == CALL_STATES[status]
        assert (report.talk_seconds is not None) == (report.state is DeliveryState.DELIVERED)


def test_polls_when_a_call_can_be_over() -> None:
    assert voice().capabilities.poll_after == timedelta(seconds=135)
    assert voice(max_duration=30, max_ringing_time=25).capabilities.poll_after == timedelta(seconds=70)
    assert voice(poll_after=9).capabilities.poll_after == timedelta(seconds=9)
    assert sms().capabilities.poll_after == timedelta(seconds=60)


# doctor


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (
            httpx.Response(200, json={"balance": "12.5", "currency": "USD"}),
            [(True, "accepted"), (True, "balance 12.5 USD")],
        ),
        (httpx.Response(200, json={"balance": "0", "currency": "USD"}), [(True, "accepted"), (False, "balance 0 USD")]),
        (httpx.Response(200, json={"balance": "-3"}), [(True, "accepted"), (False, "nothing is left")]),
        (httpx.Response(401, json={"code": 20003}), [(False, "authentication failed")]),
        (httpx.Response(503), [(False, "out of service")]),
    ],
)
def test_probe(answer: httpx.Response, lines: list[tuple[bool, str]]) -> None:
    findings = perform(voice().probe(), lambda _: answer)
    assert [finding.ok for finding in findings] == [ok for ok, _ in lines]
    for finding, (ok, words) in zip(findings, lines, strict=True):
        assert words in finding.detail
        assert bool(finding.remedy) != ok
        assert finding.name.startswith("voice: twilio ")


# Settings


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "account_sid": ["", "AC1", "SK" + "0a1b" * 8, 5, None],
        "auth_token": ["", "a b", 5],
        "api_key": ["", ACCOUNT, 5],
        "from_number": ["Example", "123", 15005550006],
        "base_url": ["http://api.twilio.com", "api.twilio.com"],
        "status_callback": ["http://example.com/r", "https://example.com/r?x=1", "https://u:p@example.com/"],
        "max_duration": [0, 601, "45", True],
        "max_ringing_time": [4, 601],
        "cut_short_below": [-1, 61],
        "languages": [{"en": "bad voice"}, {"en": '"><Dial>'}, ["en"]],
        "poll_after": [0, "x"],
    }.items(),
)
def test_wrong_settings_are_named(key: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"\[channels\.voice\] {key}\b"):
            TwilioVoice.from_settings("voice", {**VOICE, key: value})


def test_half_a_key_is_refused() -> None:
    for half in ({"api_key": KEY}, {"api_secret": KEY_SECRET}):
        with pytest.raises(ConfigurationError, match="api_key and api_secret go together"):
            voice(**half)
        with pytest.raises(ConfigurationError, match="api_key and api_secret go together"):
            sms(**half)


@pytest.mark.parametrize("sender", ["", "x" * 12, "+12", "a\nb", "123456789012345678", 5])
def test_wrong_senders(sender: object) -> None:
    with pytest.raises(ConfigurationError, match="sender"):
        sms(sender=sender)


def test_one_sender() -> None:
    with pytest.raises(ConfigurationError, match="sender is missing"):
        sms(sender=None)
    with pytest.raises(ConfigurationError, match="exclude each other"):
        sms(messaging_service_sid="MG" + "aa01" * 8)


def test_the_page_names_everything() -> None:
    """Each setting, language and documented code stands in the documentation."""
    for kind in (TwilioVoiceSettings, TwilioSMSSettings):
        for member in dataclasses.fields(kind):
            assert f"`{member.name}`" in PAGE_TEXT, f"docs/channels.md does not name {member.name}"
    for number in (*ERRORS, *MESSAGE_REASONS):
        assert str(number) in PAGE_TEXT, f"docs/channels.md does not name {number}"
    for tag in LANGUAGES:
        assert f"`{tag}`" in PAGE_TEXT
