"""Vonage voice: what it sends, what it makes of every answer and event, and what it can be asked."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from otpvoice.channels.base import REASONS, Inquiry, Message, Receipt, Report, ReportRejected, ReportRequest
from otpvoice.channels.contract import CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import HOSTILE_BODIES, perform
from otpvoice.channels.sip import SIP_REASONS
from otpvoice.channels.vonage import LANGUAGES, VonageVoice, VonageVoiceSettings
from otpvoice.channels.vonage_api import LONGEST_PUSH, PROBLEMS
from otpvoice.channels.vonage_records import AFTER, BEFORE, STATES
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
)
from otpvoice.policy import Policy, Route
from otpvoice.speech.languages import best
from otpvoice.speech.overrides import load_wordings
from otpvoice.types import Address, DeliveryState, Medium, Text
from tests.vendor_servers import APPLICATION, SIGNATURE_SECRET, event

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
UUID, OTHER = "63f61863-4a51-4f6b-86e1-46edebcf9356", "63f61863-4a51-4f6b-86e1-000000000000"
CALLBACK = "https://otp.example.com/v1/reports/s3cret/voice"
URL = f"{CALLBACK}?delivery={DELIVERY_ID}"
CLOCK = ManualClock()
PAGE_TEXT = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")


def pem(key: Any) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


PEM = pem(RSA)
SETTINGS: Mapping[str, object] = {"application_id": APPLICATION, "private_key": PEM, "from_number": "+15005550006"}
REPORTING = {"status_callback": CALLBACK, "signature_secret": SIGNATURE_SECRET}


class TestVonageVoice(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {**SETTINGS, **REPORTING, "max_duration": 45}
    secrets = (SIGNATURE_SECRET, *PEM.splitlines()[1:-1])

    def build(self, settings: Mapping[str, object]) -> VonageVoice:
        return shared() if settings is self.settings else VonageVoice.from_settings("voice", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json={"uuid": UUID, "status": "started", "direction": "outbound"})

    def test_tokens_are_silent(self) -> None:
        """The token lets anybody call on the account for five minutes."""
        for request in self.requests():
            token = request.headers["authorization"].removeprefix("Bearer ")
            assert token not in f"{request!r} {request.headers!r}"


CONTRACT = TestVonageVoice()


@functools.cache
def shared() -> VonageVoice:
    """Reading an RSA key takes longer than most tests; channels are made to be shared."""
    return VonageVoice.from_settings("voice", TestVonageVoice.settings)


@functools.cache
def usual() -> VonageVoice:
    return made()


def voice(**settings: object) -> VonageVoice:
    return made(**settings) if settings else usual()


def made(**settings: object) -> VonageVoice:
    table = {name: value for name, value in {**SETTINGS, **REPORTING, **settings}.items() if value is not None}
    counter = itertools.count()
    return VonageVoice(
        "voice",
        VonageVoiceSettings.from_table("channels.voice", table),
        clock=CLOCK,
        token_id=lambda: f"token-{next(counter)}",
    )


def message(channel: VonageVoice, **changes: Any) -> Message:
    return replace(CONTRACT.message(channel), **changes)


def request_of(channel: VonageVoice, **changes: Any) -> httpx.Request:
    return next(channel.exchange(message(channel, **changes)))


def outcome(response: httpx.Response) -> Receipt | DeliveryError:
    channel = voice()
    try:
        return perform(channel.deliver(message(channel)), lambda _: response)
    except DeliveryError as error:
        return error


# What is sent


def test_a_call() -> None:
    channel = voice(max_duration=45, max_ringing_time=30)
    request = request_of(channel, repeats=2)
    assert (request.method, str(request.url)) == ("POST", "https://api.nexmo.com/v1/calls")
    assert json.loads(request.content) == {
        "to": [{"type": "phone", "number": NUMBER.removeprefix("+")}],
        "from": {"type": "phone", "number": "15005550006"},
        "ncco": [{"action": "talk", "text": message(channel).text, "language": "en-US", "loop": 2}],
        "ringing_timer": 30,
        "length_timer": 45,
        "event_url": [f"{CALLBACK}?delivery={DELIVERY_ID}"],
        "event_method": "POST",
    }


def test_what_is_not_configured_is_not_sent() -> None:
    sent = json.loads(request_of(voice(from_number=None, status_callback=None, signature_secret=None)).content)
    assert set(sent) == {"to", "ncco", "random_from_number"}
    assert sent["random_from_number"] is True


def test_the_token() -> None:
    """RS256 with the application's key, five minutes long, and each has an id of its own."""
    channel = voice()
    ids = set()
    for _ in range(2):
        request = request_of(channel)
        token = request.headers["authorization"].removeprefix("Bearer ")
        assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT"}
        ignored = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, RSA.public_key(), algorithms=["RS256"], options=ignored)
        now = int(CLOCK.now().timestamp())
        assert claims | {"jti": ""} == {"application_id": APPLICATION, "iat": now, "exp": now + 300, "jti": ""}
        ids.add(claims["jti"])
    assert len(ids) == 2


def test_ids_of_tokens_are_random_where_nothing_is_given() -> None:
    channels = [VonageVoice.from_settings("voice", SETTINGS) for _ in range(2)]
    assert len({request_of(channel).headers["authorization"] for channel in channels}) == 2


def test_a_style() -> None:
    (talk,) = json.loads(request_of(voice(languages={"en": "en-GB/2"})).content)["ncco"]
    assert (talk["language"], talk["style"]) == ("en-GB", 2)


def test_languages() -> None:
    """Every language that we have a wording for, but for two that Vonage does not speak."""
    for tag in set(load_wordings(None).speaking(Medium.VOICE)) - {"sw", "ur"}:
        assert best(tag, LANGUAGES), tag


@pytest.mark.parametrize("number", ["+123456", "+1234567890123456", "+8491234567x"])
def test_numbers_that_it_does_not_take(number: str) -> None:
    good = message(voice())
    with pytest.raises(InvalidRequest):
        voice().check(replace(good, recipient=replace(good.recipient, address=Address(number))))


@pytest.mark.parametrize("repeats", [0, 4])
def test_repeats_are_bounded(repeats: int) -> None:
    """``"loop": 0`` would speak until the caller hangs up."""
    with pytest.raises(InvalidRequest):
        voice().check(message(voice(), repeats=repeats))


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ContentRejected):
        request_of(voice(), text=Text("\ud800"))


# What comes back


def test_accepted() -> None:
    assert outcome(httpx.Response(201, json={"uuid": UUID})) == Receipt(reference=UUID)


@pytest.mark.parametrize("body", [{}, {"uuid": None}, {"uuid": 5}, {"uuid": "a b"}, [], None])
def test_a_success_without_an_id_is_unknown(body: object) -> None:
    assert type(outcome(httpx.Response(201, json=body))) is OutcomeUnknown


@pytest.mark.parametrize("word", PROBLEMS)
@pytest.mark.parametrize(
    "base", ["https://developer.vonage.com/api-errors#", "https://developer.nexmo.com/api-errors/", ""]
)
def test_every_documented_problem(word: str, base: str) -> None:
    said = {"type": base + word, "title": NUMBER, "detail": f"{NUMBER} {CODE}"}
    error = outcome(httpx.Response(403, json=said))
    assert isinstance(error, DeliveryError)
    assert (type(error), error.code, error.provider) == (PROBLEMS[word][0], word, "vonage")
    assert PROBLEMS[word][1] in str(error)
    assert NUMBER not in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"type": "new-problem"}, ProviderMisconfigured, "http 400"),
        (401, {"type": f"x#{CODE}"}, ProviderMisconfigured, "http 401"),
        (401, {"type": "#" * 5000}, ProviderMisconfigured, "http 401"),
        (402, None, NoBalance, "http 402"),
        (429, None, ProviderThrottled, "http 429"),
        (500, {"type": "x#low-balance"}, OutcomeUnknown, "http 500"),
        (503, None, ProviderUnavailable, "http 503"),
    ],
)
def test_problems_that_are_not_documented(status: int, body: object, kind: type[DeliveryError], code: str) -> None:
    error = outcome(httpx.Response(status, json=body))
    assert isinstance(error, DeliveryError)
    assert (type(error), error.code) == (kind, code)


# Events

CALL: dict[str, Any] = {
    "uuid": UUID,
    "conversation_uuid": "CON-f972836a",
    "status": "completed",
    "direction": "outbound",
    "to": "84912345678",
    "from": "15005550006",
    "start_time": "2026-01-02T03:04:15.000Z",
    "end_time": "2026-01-02T03:04:27.000Z",
    "duration": "12",
    "rate": "0.0100",
    "price": "0.0020",
    "network": "45201",
    "timestamp": "2026-01-02T03:04:27.300Z",
}
ANSWERED_AT = datetime(2026, 1, 2, 3, 4, 15, tzinfo=UTC)
HEARD = Report(
    delivery_id=DELIVERY_ID,
    reference=UUID,
    state=DeliveryState.DELIVERED,
    provider_code="completed",
    talk_seconds=12,
    answered_at=ANSWERED_AT,
    ended_at=ANSWERED_AT + timedelta(seconds=12),
    price=Decimal("0.0020"),
    currency="EUR",
)


def read(channel: VonageVoice | None = None, **fields: Any) -> Report | None:
    reports = (channel or voice()).read_report(event(URL, CALL | fields))
    return reports[0] if reports else None


def refused(request: ReportRequest, channel: VonageVoice | None = None) -> ReportRejected:
    with pytest.raises(ReportRejected) as caught:
        (channel or voice()).read_report(request)
    return caught.value


def test_an_answered_call() -> None:
    assert read() == HEARD


@pytest.mark.parametrize("status", [*STATES, "new-word", None, 5])
def test_states(status: Any) -> None:
    report = read(status=status)
    if status not in STATES:
        assert report is None
    else:
        assert report is not None
        assert (report.state, report.reason) == STATES[status]
        assert (report.talk_seconds is not None) == (report.state is DeliveryState.DELIVERED)


def test_a_completed_that_was_never_answered() -> None:
    """Neither a start nor a duration: nothing is concluded from it."""
    for duration in ("0", None, ""):
        report = read(start_time=None, duration=duration)
        assert report is not None
        assert report.state is DeliveryState.ACCEPTED


@pytest.mark.parametrize("sip", [*SIP_REASONS, 200, 999])
def test_failed_goes_by_its_sip_code(sip: int) -> None:
    report = read(status="failed", sip_code=sip)
    assert report is not None
    assert (report.state, report.reason, report.provider_code) == (
        DeliveryState.FAILED,
        SIP_REASONS.get(sip, "failed"),
        str(sip),
    )


@pytest.mark.parametrize(
    ("duration", "reason"), [("6", "voicemail_suspected"), ("7", None), (6, "voicemail_suspected")]
)
def test_voicemail(duration: object, reason: str | None) -> None:
    report = read(duration=duration)
    assert report is not None
    assert report.reason == reason


def test_a_call_that_we_end_is_not_cut_short() -> None:
    report = read(voice(max_duration=5), duration="5")
    assert report is not None
    assert report.reason is None


@pytest.mark.parametrize("value", ["x", -1, {}, [], True, 1e400, "9" * 5000, "2026-13-45T99:00:00Z"])
def test_unreadable_details_cost_nothing_else(value: object) -> None:
    report = read(end_time=value, price=value, duration=value, sip_code=value)
    assert report is not None
    assert (report.state, report.price, report.ended_at) == (DeliveryState.DELIVERED, None, None)


def test_our_words() -> None:
    assert {reason for _, reason in STATES.values() if reason} <= REASONS


@pytest.mark.parametrize(
    "claims",
    [
        {"payload_hash": hashlib.sha256(b"{}").hexdigest()},
        {"payload_hash": None},
        {"payload_hash": 5},
        {"application_id": "bbbbbbbb-bbbb-cccc-dddd-0123456789ab"},
        {"secret": "another-secret-of-32-characters-or-more"},
    ],
)
def test_what_is_not_vonages_is_refused(claims: dict[str, Any]) -> None:
    """Another secret, another body, another application."""
    assert not refused(event(URL, CALL, **claims)).authentic


def test_a_changed_body_is_refused() -> None:
    good = event(URL, CALL)
    assert not refused(replace(good, body=good.body + b" ")).authentic
    assert not refused(replace(good, body=good.body.replace(b"completed", b"busy"))).authentic


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x.y.z",
        "Basic eDp5",
        "Bearer " + jwt.encode({"payload_hash": "x"}, None, algorithm="none"),
        "Bearer " + jwt.encode({"payload_hash": "x"}, RSA, algorithm="RS256"),
        "Bearer é",
    ],
)
def test_other_tokens_are_refused(header: str | None) -> None:
    """None, broken ones, and those of another algorithm."""
    headers = {} if header is None else {"authorization": header}
    assert not refused(replace(event(URL, CALL), headers=headers)).authentic


def test_without_a_secret_nothing_is_read() -> None:
    silent = voice(status_callback=None, signature_secret=None)
    assert not refused(event(URL, CALL), silent).authentic


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
def test_hostile_bodies(body: bytes) -> None:
    """Unsigned, and signed all the same."""
    refused(ReportRequest(method="POST", url=URL, headers={}, body=body))
    signed = replace(event(URL, CALL, payload_hash=hashlib.sha256(body).hexdigest()), body=body)
    if is_object(body):
        assert voice().read_report(signed) == []
    else:
        assert refused(signed).authentic


def is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body, parse_float=str), dict)
    except (ValueError, RecursionError):
        return False


def test_gigantic() -> None:
    assert "longer" in str(refused(ReportRequest(method="POST", url=URL, headers={}, body=b"a" * (LONGEST_PUSH + 1))))


# What it can be asked

SENT_AT = ANSWERED_AT - timedelta(seconds=8)
INQUIRY = Inquiry(
    delivery_id=DELIVERY_ID,
    reference=None,
    recipient=message(voice()).recipient,
    sent_at=SENT_AT,
    now=SENT_AT + timedelta(seconds=40),
)
RECORD = CALL | {"to": {"type": "phone", "number": NUMBER.removeprefix("+")}}


def look_up(answer: httpx.Response, **inquiry: Any) -> tuple[Report | None, httpx.Request]:
    seen: list[httpx.Request] = []

    def answered(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer

    report = perform(voice().look_up(replace(INQUIRY, **inquiry)), answered)
    (asked,) = seen
    return report, asked


def found(*calls: dict[str, Any], count: int | None = None) -> Report | None:
    body = {"count": len(calls) if count is None else count, "_embedded": {"calls": list(calls)}}
    return look_up(httpx.Response(200, json=body))[0]


def test_by_its_id() -> None:
    report, asked = look_up(httpx.Response(200, json=RECORD), reference=UUID)
    assert report == HEARD
    assert (asked.method, asked.url.path) == ("GET", f"/v1/calls/{UUID}")


def test_unknown_to_vonage() -> None:
    assert look_up(httpx.Response(404), reference=UUID)[0] is None


def test_anothers_record_is_not_ours() -> None:
    with pytest.raises(OutcomeUnknown):
        look_up(httpx.Response(200, json=RECORD | {"uuid": OTHER}), reference=UUID)


def test_without_an_id_by_recipient_and_time() -> None:
    """Asked by time alone, which Vonage's list takes; no URL holds a number."""
    body = {"count": 2, "_embedded": {"calls": [RECORD | {"uuid": OTHER, "to": {"number": "15005550001"}}, RECORD]}}
    report, asked = look_up(httpx.Response(200, json=body))
    assert report == HEARD
    query = {name: values[0] for name, values in parse_qs(asked.url.query.decode()).items()}
    assert datetime.fromisoformat(query["date_start"]) == SENT_AT - BEFORE
    assert datetime.fromisoformat(query["date_end"]) == SENT_AT + AFTER
    assert NUMBER.removeprefix("+") not in str(asked.url)


@pytest.mark.parametrize("to", [[{"type": "phone", "number": NUMBER}], {"number": NUMBER}])
def test_forms_of_the_recipient(to: object) -> None:
    assert found(RECORD | {"to": to}) == HEARD


@pytest.mark.parametrize("more", [{"direction": "inbound"}, {"to": None}, {"to": {"number": "1"}}, {"to": "x"}])
def test_other_calls_are_not_ours(more: dict[str, Any]) -> None:
    assert found(RECORD | more) is None


def test_none_means_never_placed() -> None:
    assert found() is None


def test_two_that_fit_are_neither() -> None:
    with pytest.raises(OutcomeUnknown):
        found(RECORD, RECORD | {"uuid": OTHER})


def test_more_than_a_page_tells_nothing() -> None:
    with pytest.raises(OutcomeUnknown):
        found(RECORD | {"to": None}, count=101)


def test_a_window_is_shorter_than_a_cooldown() -> None:
    assert Policy(route=Route.of("voice")).cooldowns[0] > AFTER


def test_without_the_recipient_nothing_is_concluded() -> None:
    with pytest.raises(OutcomeUnknown):
        perform(voice().look_up(replace(INQUIRY, recipient=None)), lambda _: httpx.Response(500))


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
@pytest.mark.parametrize("reference", [None, UUID])
def test_hostile_records(body: bytes, reference: str | None) -> None:
    """An answer that is not in Vonage's form never says that there was no call."""
    with pytest.raises(DeliveryError):
        look_up(httpx.Response(200, content=body), reference=reference)


def test_polls_when_a_call_can_be_over() -> None:
    assert voice().capabilities.poll_after == timedelta(seconds=135)
    assert voice(poll_after=9).capabilities.poll_after == timedelta(seconds=9)


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (httpx.Response(200, json={"count": 0, "_embedded": {"calls": []}}), True),
        (httpx.Response(401, json={"type": "x#unauthorized"}), False),
        (httpx.Response(404), False),
        (httpx.Response(503), False),
    ],
)
def test_probe(answer: httpx.Response, ok: bool) -> None:
    (finding,) = perform(voice().probe(), lambda _: answer)
    assert (finding.ok, bool(finding.remedy)) == (ok, not ok)


# Settings


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "application_id": ["", 5],
        "private_key": ["", "secret-text", 5, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"],
        "from_number": ["Example", 5],
        "status_callback": ["http://example.com/r", "https://example.com/r?x=1"],
        "signature_secret": ["", "a b", 5],
        "max_ringing_time": [0, 121],
        "max_duration": [0, 601],
        "languages": [{"en": "en-US/style"}, 5],
    }.items(),
)
def test_wrong_settings_are_named(key: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"\[channels\.voice\] {key}\b") as caught:
            VonageVoice.from_settings("voice", {**SETTINGS, **REPORTING, key: value})
        assert "secret-text" not in str(caught.value)


def test_keys_that_do_not_fit() -> None:
    """An elliptic curve's, a public one, one with a passphrase: named, and not quoted."""
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    locked = RSA.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    for wrong in (pem(ec.generate_private_key(ec.SECP256R1())), public.decode(), locked.decode()):
        with pytest.raises(ConfigurationError, match="private_key") as caught:
            voice(private_key=wrong)
        assert wrong.splitlines()[1] not in str(caught.value)
        assert caught.value.__cause__ is None


def test_the_key_s_file(tmp_path: Path) -> None:
    path = tmp_path / "private.key"
    path.write_text(PEM)
    from_file = voice(private_key=None, private_key_file=str(path))
    assert outcome_of(from_file) == Receipt(reference=UUID)
    path.write_text("nothing")
    public = tmp_path / "public.key"
    public.write_bytes(
        RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for wrong in (path, public, tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigurationError, match=r"\[channels\.voice\] private_key_file"):
            voice(private_key=None, private_key_file=str(wrong))


def outcome_of(channel: VonageVoice) -> Receipt:
    return perform(channel.deliver(message(channel)), CONTRACT.accept)


def test_one_key() -> None:
    with pytest.raises(ConfigurationError, match="private_key is missing"):
        voice(private_key=None)
    with pytest.raises(ConfigurationError, match="set one"):
        voice(private_key_file="/x")


def test_webhooks_need_a_secret() -> None:
    """Without one anybody who finds the URL could end a route."""
    with pytest.raises(ConfigurationError, match="signature_secret is missing"):
        voice(signature_secret=None)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jwt", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'otpvoice\[vonage\]'"):
        made()


def test_the_page_names_everything() -> None:
    for member in dataclasses.fields(VonageVoiceSettings):
        assert f"`{member.name}`" in PAGE_TEXT, f"docs/channels.md does not name {member.name}"
    for word in (*PROBLEMS, *LANGUAGES):
        assert f"`{word}`" in PAGE_TEXT, f"docs/channels.md does not name {word}"
