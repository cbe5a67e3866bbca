"""ItnioVoice: what it sends, and what it makes of every answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpvoice.channels.base import Finding, HttpDialogue, Receipt
from otpvoice.channels.contract import CODE, DELIVERY_ID, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.http_errors import map_http_error
from otpvoice.channels.itnio import G4_LANGUAGES, LEGACY_LANGUAGES, ItnioVoice, ItnioVoiceSettings
from otpvoice.channels.itnio_api import sign
from otpvoice.channels.itnio_status import VOICE_STATUS
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
from otpvoice.types import Address, Text

KEY, SECRET = "demo-key-5f2e", "demo-secret-91ab"
SETTINGS: Mapping[str, object] = {"api_key": KEY, "api_secret": SECRET, "app_id": "voice-app"}
ACCEPTED = {"status": "0", "reason": "success", "data": "22401020304050000001"}
CLOCK = ManualClock()
NOW = CLOCK.now()


class TestItnioVoice(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {
        **SETTINGS,
        "display_num": "15005550001",
        "languages": {"fr": "FR"},
        "timeouts": {"read": 9.5},
    }
    secrets = (KEY, SECRET)

    def build(self, settings: Mapping[str, object]) -> ItnioVoice:
        return ItnioVoice.from_settings("voice", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=ACCEPTED)

    def test_signatures_are_silent(self) -> None:
        """The signature opens the account for half an hour: it is as secret as what it is made of."""
        for request in self.requests():
            assert len(request.headers["sign"]) == 32
            assert request.headers["sign"] not in f"{request!r} {request.headers!r}"


class TestItnioVoiceNewest(TestItnioVoice):
    settings: ClassVar[Mapping[str, object]] = {
        **SETTINGS,
        "language_profile": "g4",
        "base_url": "http://127.0.0.1:9",
        "path_prefix": "v3",
    }


CONTRACT = TestItnioVoice()


def channel_with(**settings: object) -> ItnioVoice:
    return ItnioVoice("voice", ItnioVoiceSettings.from_table("channels.voice", {**SETTINGS, **settings}), clock=CLOCK)


def first_request(channel: ItnioVoice, **changes: Any) -> httpx.Request:
    return next(channel.exchange(replace(CONTRACT.message(channel), **changes)))


def body_of(channel: ItnioVoice, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(first_request(channel, **changes).content)
    return body


def reply(dialogue: HttpDialogue[Receipt], response: httpx.Response) -> httpx.Request | Receipt:
    try:
        return dialogue.send(response)
    except StopIteration as done:
        receipt: Receipt = done.value
        return receipt


def outcome(response: httpx.Response, channel: ItnioVoice | None = None) -> Receipt | DeliveryError:
    """What a delivery ends in whose every request gets this response."""
    channel = channel or channel_with()
    try:
        return perform(channel.deliver(CONTRACT.message(channel)), lambda _: response)
    except DeliveryError as error:
        return error


def envelope(status: object, http: int = 200, **more: object) -> httpx.Response:
    return httpx.Response(http, json={"status": status, "reason": f"bad text {CODE}", **more})


# What is sent


def test_signature_vector() -> None:
    """MD5 of key, secret and seconds: the vector of the reference."""
    assert sign("demo-key", "demo-secret", 1700000000) == "6eb1eb1912a2ba5c61d7bce736cbfa72"


def test_headers() -> None:
    """The four headers of the vendor's page, the timestamp in seconds of the clock that was given."""
    request = first_request(channel_with())
    timestamp = str(int(NOW.timestamp()))
    assert request.headers["content-type"] == "application/json;charset=UTF-8"
    assert request.headers["api-key"] == KEY
    assert request.headers["timestamp"] == timestamp
    assert request.headers["sign"] == sign(KEY, SECRET, int(timestamp))
    assert request.headers["content-length"] == str(len(request.content))


def test_the_least_request() -> None:
    """Unset optional fields are left out: never empty, never null."""
    channel = channel_with()
    message = CONTRACT.message(channel)
    assert body_of(channel) == {
        "callee": "84912345678",
        "language": "EN",
        "text": message.text,
        "appId": "voice-app",
        "loopCount": 1,
        "calledInfo": DELIVERY_ID,
    }


def test_every_parameter() -> None:
    """Each parameter of the page can be set and arrives under the vendor's name and type."""
    channel = channel_with(
        display_num="+15005550001",
        loop_count=2,
        recall_count=3,
        recall_interval=7,
        max_duration=45,
        max_ringing_time=30,
        app_id="other-app",
    )
    assert body_of(channel, language="VN", text=Text("mã")) == {
        "callee": "84912345678",
        "displayNum": "15005550001",
        "language": "VN",
        "text": "mã",
        "appId": "other-app",
        "loopCount": 2,
        "calledInfo": DELIVERY_ID,
        "recallCount": 3,
        "recallInterval": 7,
        "maxDuration": 45,
        "maxRingingTime": 30,
    }
    assert channel.capabilities.max_seconds == 45
    assert channel.capabilities.max_repeats == 2


def test_recall_interval_needs_recalls() -> None:
    """Without redials neither their number nor their interval is sent: 0 is outside the vendor's own range."""
    assert not {"recallCount", "recallInterval"} & set(body_of(channel_with(recall_interval=7)))
    assert "recallInterval" not in body_of(channel_with(recall_count=1))


def test_repeats_of_the_message() -> None:
    """Where ``loop_count`` is not set the message says how often it is played, up to what every brand takes."""
    channel = channel_with()
    assert body_of(channel, repeats=3)["loopCount"] == 3
    for repeats in (0, 4):
        with pytest.raises(InvalidRequest, match="1 to 3 times"):
            first_request(channel, repeats=repeats)


def test_max_duration_keeps_a_configured_loop_from_cutting_a_code_off() -> None:
    """``loop_count`` is for every message, but a call that the provider ends early plays what was composed for it."""
    assert body_of(channel_with(loop_count=3), play_seconds=19.0)["loopCount"] == 3
    assert body_of(channel_with(loop_count=3, max_duration=59), play_seconds=19.0)["loopCount"] == 3
    assert body_of(channel_with(loop_count=3, max_duration=58), play_seconds=19.0)["loopCount"] == 2
    assert body_of(channel_with(loop_count=3, max_duration=10), play_seconds=19.0)["loopCount"] == 1


def test_text_is_sent_as_utf8() -> None:
    """Every script arrives as it is, not escaped, and the signature headers stay ASCII."""
    channel = channel_with()
    request = first_request(channel, language="TH", text=Text("รหัส หนึ่ง 🔑"))
    assert "รหัส หนึ่ง 🔑".encode() in request.content


def test_text_that_is_not_unicode_is_refused() -> None:
    """A lone surrogate raises before anything is sent, and the exception that quotes the text does not travel on."""
    with pytest.raises(ContentRejected) as caught:
        first_request(channel_with(), text=Text(f"code {CODE} \ud800"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://api.itniotech.com/voice/sendCode"),
        ({"base_url": "https://api.onbuka.com/", "path_prefix": "v3/"}, "https://api.onbuka.com/v3/voice/sendCode"),
        ({"base_url": "http://127.0.0.1:8123/itnio"}, "http://127.0.0.1:8123/itnio/voice/sendCode"),
    ],
)
def test_url(settings: dict[str, object], url: str) -> None:
    """Base URL and prefix are settings: the same API is sold under other hosts."""
    request = first_request(channel_with(**settings))
    assert request.method == "POST"
    assert str(request.url) == url


def test_timeouts() -> None:
    """Connecting may take 5 s and reading 15 s unless it is said otherwise."""
    assert first_request(channel_with()).extensions["timeout"] == {"connect": 5, "read": 15, "write": 10, "pool": 5}
    changed = channel_with(timeouts={"connect": 1, "read": 2.5})
    assert first_request(changed).extensions["timeout"] == {"connect": 1, "read": 2.5, "write": 10, "pool": 5}


@pytest.mark.parametrize("number", ["+123456", "+1234567890123456", "+84 912345678", "84912345678,1", "+٨٤٩١٢٣٤٥٦٧"])
def test_callee_is_7_to_15_digits(number: str) -> None:
    """Anything else raises before a request is made."""
    channel = channel_with()
    recipient = replace(CONTRACT.message(channel).recipient, address=Address(number))
    with pytest.raises(InvalidRequest, match="7 to 15 digits"):
        first_request(channel, recipient=recipient)


# Languages and limits


def test_legacy_languages() -> None:
    """The fourteen codes of the seed-era page under their BCP-47 tags; Portuguese under three."""
    assert channel_with().capabilities.languages == LEGACY_LANGUAGES
    codes = {"EN", "VN", "JP", "ARB", "DE", "IN", "IT", "KR", "RU", "ES", "PT", "IDN", "BD", "TH"}
    assert set(LEGACY_LANGUAGES.values()) == codes
    assert LEGACY_LANGUAGES["hi"] == "IN"
    assert LEGACY_LANGUAGES["pt-BR"] == LEGACY_LANGUAGES["pt-PT"] == LEGACY_LANGUAGES["pt"] == "PT"


@pytest.mark.parametrize("language", sorted(set(LEGACY_LANGUAGES.values())))
def test_legacy_text_limits(language: str) -> None:
    """299 characters in Indonesian, Vietnamese and Thai, 800 in the others; one more raises."""
    limit = 299 if language in {"IDN", "VN", "TH"} else 800
    channel = channel_with()
    assert channel.capabilities.text_limit(language) == limit
    assert body_of(channel, language=language, text=Text("é" * limit))["language"] == language
    with pytest.raises(ContentRejected, match=f"{limit + 1} characters, itnio takes {limit}"):
        first_request(channel, language=language, text=Text("é" * (limit + 1)))


def test_g4_profile() -> None:
    """The newest page is opted into: its own codes, accents, and 1000 characters for every language."""
    channel = channel_with(language_profile="g4")
    assert channel.capabilities.languages == G4_LANGUAGES
    british = body_of(channel, language=G4_LANGUAGES["en-GB"], text=Text("x" * 1000))
    assert (british["language"], british["accent"]) == ("EN", "44")
    assert "accent" not in body_of(channel, language="FI")
    with pytest.raises(ContentRejected):
        first_request(channel, language="FI", text=Text("x" * 1001))


@pytest.mark.parametrize("language", [None, "", "en", "ZH", "EN/44"])
def test_unmapped_language_is_never_sent(language: str | None) -> None:
    """A tag that the map does not hold, or a code of another profile, raises."""
    with pytest.raises(ContentRejected, match="does not speak"):
        first_request(channel_with(), language=language)


def test_languages_can_be_changed() -> None:
    """The user's table adds to the profile's and wins over it."""
    channel = channel_with(languages={"fr": "FR", "pt-BR": "BR"})
    assert channel.capabilities.languages == {**LEGACY_LANGUAGES, "fr": "FR", "pt-BR": "BR"}
    assert body_of(channel, language="FR")["language"] == "FR"


# What answers mean


def test_accepted() -> None:
    """The receipt carries the voice id as text and does not claim delivery."""
    assert outcome(httpx.Response(200, json=ACCEPTED)) == Receipt(reference="22401020304050000001", delivered=False)


@pytest.mark.parametrize("status", ["0", 0, " 0 ", "-0"])
@pytest.mark.parametrize("names", [("status", "reason"), ("code", "msg")])
def test_envelope_is_read_tolerantly(status: object, names: tuple[str, str]) -> None:
    """Status as text or number, and under either of the two names that the vendor's pages use."""
    body = {names[0]: status, names[1]: "success", "data": "123", "unknown": [1]}
    assert outcome(httpx.Response(200, json=body)) == Receipt(reference="123")


def test_long_id_as_a_number_keeps_its_digits() -> None:
    """An id beyond 64 bits that comes as a JSON number is not rounded."""
    response = httpx.Response(200, content=b'{"status": 0, "data": 22401020304050000001}')
    assert outcome(response) == Receipt(reference="22401020304050000001")


@pytest.mark.parametrize("http", [200, 400, 401, 500, 503])
def test_body_comes_first(http: int) -> None:
    """The envelope counts, whatever the HTTP status: the vendor documents none."""
    assert outcome(httpx.Response(http, json=ACCEPTED)) == Receipt(reference=ACCEPTED["data"])
    assert isinstance(outcome(envelope("-10", http)), NoBalance)


@pytest.mark.parametrize("data", [None, "", "  ", {}, [], True, "x" * 201, "a\nb", {"voiceId": "1"}])
def test_success_without_an_id_is_unknown(data: object) -> None:
    """Status 0 says that the call may be placed: without an id that is all we know. It is not asked again."""
    asked = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return envelope("0", data=data)

    channel = channel_with()
    with pytest.raises(OutcomeUnknown):
        perform(channel.deliver(CONTRACT.message(channel)), answer)
    assert asked == 1


def test_success_without_data_is_unknown() -> None:
    """As above, with the field missing altogether."""
    assert isinstance(outcome(envelope("0")), OutcomeUnknown)


STATUSES: Mapping[int, type[DeliveryError]] = {
    -1: ProviderMisconfigured,
    -2: ProviderMisconfigured,
    -10: NoBalance,
    -13: ProviderMisconfigured,
    -15: ProviderThrottled,
    -16: ProviderMisconfigured,
    -18: OutcomeUnknown,
    -19: ProviderMisconfigured,
    -20: ProviderMisconfigured,
    -21: ProviderMisconfigured,
    -22: ProviderMisconfigured,
    -23: ProviderThrottled,
    -24: ProviderMisconfigured,
    -25: ProviderMisconfigured,
    -26: ProviderMisconfigured,
    -27: ProviderThrottled,
    -28: ProviderThrottled,
    -29: ProviderMisconfigured,
    -30: ProviderMisconfigured,
    -31: ProviderMisconfigured,
    -32: ProviderMisconfigured,
}
"""The reference's section 3.6, row by row."""


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_every_status(status: int, kind: type[DeliveryError]) -> None:
    """Each documented status is its own class; the raw code is kept, the provider's words are not repeated."""
    error = outcome(envelope(str(status)))
    assert type(error) is kind
    assert error.code == str(status)
    assert error.provider == "itnio"
    assert "bad text" not in str(error)
    assert f"status {status}" in str(error)


def test_status_table_is_whole() -> None:
    """The table holds the documented statuses, and no other."""
    assert set(VOICE_STATUS) == set(STATUSES)


@pytest.mark.parametrize("status", [-3, -6, -12, -33, -999, 1, 200])
def test_undocumented_status_is_unknown(status: int) -> None:
    """A status that voice does not document may mean anything: other products' tables are not borrowed."""
    error = outcome(envelope(status))
    assert type(error) is OutcomeUnknown
    assert error.code == str(status)


def test_throttled_says_when() -> None:
    """A quota takes longer to come back than a rate."""
    often, quota = outcome(envelope(-15)), outcome(envelope(-23))
    assert isinstance(often, ProviderThrottled)
    assert isinstance(quota, ProviderThrottled)
    assert often.retry_after == timedelta(seconds=30)
    assert quota.retry_after == timedelta(hours=1)


@pytest.mark.parametrize(
    ("http", "kind"),
    [
        (200, OutcomeUnknown),
        (204, OutcomeUnknown),
        (302, ProviderMisconfigured),
        (401, ProviderMisconfigured),
        (404, ProviderMisconfigured),
        (408, ProviderUnavailable),
        (429, ProviderThrottled),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (503, ProviderUnavailable),
        (504, OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("body", ["<html>oops</html>", "", '{"error": "x"}', '{"status": "zero"}', '{"status": 0.0}'])
def test_no_envelope_goes_by_http_status(http: int, kind: type[DeliveryError], body: str) -> None:
    """Where the body is no envelope the HTTP status decides, and what may have rung is never called safe."""
    assert type(outcome(httpx.Response(http, text=body))) is kind


def test_framework_error_is_no_envelope() -> None:
    """A web framework's own error object says ``status`` too, but repeats the HTTP status in it."""
    body = {"timestamp": 1, "status": 404, "error": "Not Found", "path": "/voice/sendCode"}
    assert type(outcome(httpx.Response(404, json=body))) is ProviderMisconfigured


def test_runner_errors_pass_with_the_provider_named() -> None:
    """What the transport says passes, and gets the provider's name where the runner did not know it."""
    channel = channel_with()
    with pytest.raises(ProviderUnavailable) as caught:
        perform(channel.deliver(CONTRACT.message(channel)), lambda _: map_http_error(httpx.ConnectError("")))
    assert caught.value.provider == "itnio"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    body=st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({}, optional={"status": JSON, "code": JSON, "data": JSON}).map(
        lambda v: json.dumps(v).encode()
    ),
    http=st.integers(200, 599),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_answer_breaks_it(body: bytes, http: int) -> None:
    """Whatever the body and status, a delivery ends in a receipt for status 0 with an id, or in a DeliveryError."""
    ended = outcome(httpx.Response(http, content=body))
    if isinstance(ended, Receipt):
        told = json.loads(body)
        assert int(str(told.get("status", told.get("code")))) == 0
        assert ended.reference
    else:
        assert ended.provider == "itnio"


# The clock


def expired(skew: timedelta | None) -> httpx.Response:
    headers = {} if skew is None else {"date": format_datetime(NOW + skew, usegmt=True)}
    return httpx.Response(200, json={"status": "-16", "reason": "timestamp expires"}, headers=headers)


@pytest.mark.parametrize("minutes", [45, -45, 0])
def test_expired_timestamp_is_signed_again_with_the_provider_time(minutes: int) -> None:
    """After -16 the same body goes out once more, signed for the time that the Date header tells."""
    skew = timedelta(minutes=minutes)
    channel = channel_with()
    dialogue = channel.exchange(CONTRACT.message(channel))
    first = next(dialogue)
    second = reply(dialogue, expired(skew))
    assert isinstance(second, httpx.Request)
    theirs = int((NOW + skew).timestamp())
    assert second.headers["timestamp"] == str(theirs)
    assert second.headers["sign"] == sign(KEY, SECRET, theirs)
    assert second.content == first.content
    assert reply(dialogue, httpx.Response(200, json=ACCEPTED)) == Receipt(reference=ACCEPTED["data"])


def test_without_a_date_it_is_signed_afresh() -> None:
    """No Date header: the local clock is read again, for the request may have waited in a queue."""
    clock = ManualClock()
    channel = ItnioVoice("voice", ItnioVoiceSettings(api_key=KEY, api_secret=SECRET, app_id="a"), clock=clock)
    dialogue = channel.exchange(CONTRACT.message(channel))
    before = next(dialogue).headers["timestamp"]
    clock.advance(90)
    second = reply(dialogue, expired(None))
    assert isinstance(second, httpx.Request)
    assert int(second.headers["timestamp"]) == int(before) + 90


def test_expired_twice_is_an_alarm() -> None:
    """It is signed again once and never more; the error says how far the clock is off and what to do."""
    asked = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return expired(timedelta(seconds=2700))

    channel = channel_with()
    with pytest.raises(ProviderMisconfigured, match=r"NTP.*2700 s behind the provider's") as caught:
        perform(channel.deliver(CONTRACT.message(channel)), answer)
    assert asked == 2
    assert caught.value.code == "-16"


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2026 25:61:61 GMT", "Fri, 31 Dec 9999 23:59:59 -1200"])
def test_a_date_that_is_none_is_ignored(date: str) -> None:
    """A broken Date header changes nothing but the measurement."""
    response = httpx.Response(200, json={"status": "-16"}, headers={"date": date})
    assert type(outcome(response)) is ProviderMisconfigured


# The probe


def probe(response: httpx.Response | Exception, channel: ItnioVoice | None = None) -> list[Finding]:
    return list(perform((channel or channel_with()).probe(), lambda _: response))


def test_probe_asks_for_the_balance() -> None:
    """It is a signed GET that places no call, under the path that the brand uses."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"status": "0", "balance": "1.00"})

    perform(channel_with().probe(), answer)
    perform(channel_with(base_url="https://api.onbuka.com", path_prefix="/v3", sms_path="").probe(), answer)
    assert [f"{request.method} {request.url}" for request in seen] == [
        "GET https://api.itniotech.com/sms/getBalance",
        "GET https://api.onbuka.com/v3/getBalance",
    ]
    assert seen[0].headers["sign"] == sign(KEY, SECRET, int(NOW.timestamp()))
    assert seen[0].headers["content-type"] == "application/json;charset=UTF-8"


def test_probe_finds_all_well() -> None:
    """Credentials, money to the last decimal and the clock: one line each."""
    response = httpx.Response(
        200,
        content=b'{"status": 0, "balance": "12.340000000000000001", "gift": 0.10, "credit": null}',
        headers={"date": format_datetime(NOW + timedelta(seconds=3), usegmt=True)},
    )
    credentials, money, clock = probe(response)
    assert all(finding.ok and not finding.remedy for finding in (credentials, money, clock))
    assert money.detail == "balance 12.340000000000000001, gift 0.10"
    assert "3 s behind" in clock.detail


@pytest.mark.parametrize("balance", ["0", "0.000", "-3.5", None, "n/a", "NaN", "Infinity", True, [], 0])
def test_probe_finds_no_money(balance: object) -> None:
    """Nothing to spend, or nothing readable, is not well, and the remedy says what to do."""
    money = probe(httpx.Response(200, json={"status": "0", "balance": balance}))[1]
    assert not money.ok
    assert "credit" in money.remedy


@pytest.mark.parametrize(("skew", "ok"), [(60, True), (61, False), (-60, True), (-61, False)])
def test_probe_finds_the_clock(skew: int, ok: bool) -> None:
    """A clock that is off by more than a minute is found long before the provider refuses at thirty."""
    date = format_datetime(NOW + timedelta(seconds=skew), usegmt=True)
    clock = probe(httpx.Response(200, json={"status": "0", "balance": "1"}, headers={"date": date}))[2]
    assert clock.ok is ok
    assert bool(clock.remedy) is not ok


def test_probe_without_a_date_says_nothing_of_the_clock() -> None:
    """No Date header, no finding: nothing is made up."""
    assert len(probe(httpx.Response(200, json={"status": "0", "balance": "1"}))) == 2


@pytest.mark.parametrize(
    ("answer", "words", "remedy"),
    [
        (envelope("-1"), "authentication failed", "api_key"),
        (envelope("-2"), "IP address", "api_key"),
        (httpx.Response(404, text="<html>"), "HTTP 404", "base_url"),
        (map_http_error(httpx.ConnectError("")), "no connection", "network"),
        (map_http_error(httpx.ReadTimeout("")), "no answer", "network"),
        (envelope("-18"), "fault", "network"),
    ],
)
def test_probe_says_what_is_wrong(answer: httpx.Response | Exception, words: str, remedy: str) -> None:
    """A failure is one finding with its remedy, not an exception."""
    (finding,) = probe(answer)
    assert not finding.ok
    assert words in finding.detail
    assert remedy in finding.remedy
    assert KEY not in finding.detail + finding.remedy


# Settings


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "api_key": ["", " ", 5, None, "a b", "ключ", "k\r\nX: y"],
        "api_secret": ["", 5, None, "a\nb"],
        "app_id": ["", 7, "a\nb", "x" * 201],
        "base_url": [
            "",
            "api.itniotech.com",
            "ftp://x",
            "https://",
            "https://user:pw@host",
            "https://h/?q=1",
            "https://h/#f",
            "http://api.itniotech.com",
            "http://8.8.8.8",
            5,
        ],
        "path_prefix": ["/a b", "/../x", "/a?b", "//evil.example/x?", 3],
        "sms_path": ["/a\r\nb"],
        "display_num": ["", "123456", "1234567890123456", "+1 500", 15005550001, "١٢٣٤٥٦٧٨"],
        "loop_count": [0, 10, "2", 2.0, True],
        "recall_count": [-1, 10, "1", None],
        "recall_interval": [0, 1000],
        "max_duration": [0, 121],
        "max_ringing_time": [19, 121],
        "language_profile": ["g3", "", 4, []],
        "languages": [[], {"en": ""}, {"en": 5}, {"": "EN"}, {"en": "en"}, {"en-GB": "EN/44"}, {5: "EN"}],
        "timeouts": [5, {"connect": 0}, {"read": "5"}, {"read": float("nan")}, {"total": 5}, {"write": True}],
    }.items(),
)
def test_wrong_settings_are_named(key: str, values: list[object]) -> None:
    """Each wrong value of each key raises at construction, and the message begins with table and key."""
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"\[channels\.voice\] {key}\b"):
            ItnioVoice.from_settings("voice", {**SETTINGS, key: value})


def test_all_wrong_settings_are_named_at_once() -> None:
    """Missing, unknown, wrong type and wrong range in one message: nobody mends a file ten times."""
    with pytest.raises(ConfigurationError) as caught:
        ItnioVoice.from_settings("voice", {"api_key": KEY, "loopcount": 2, "max_duration": 500, "app_id": 5})
    message = str(caught.value)
    for words in ("[channels.voice]", "api_secret is missing", "did you mean loop_count?", "max_duration", "app_id"):
        assert words in message


def test_settings_in_code_are_checked_too() -> None:
    """The dataclass refuses what the table refuses, naming the field, and prints without secrets."""
    with pytest.raises(ConfigurationError, match="max_ringing_time must be a whole number from 20 to 120"):
        ItnioVoiceSettings(api_key=KEY, api_secret=SECRET, app_id="a", max_ringing_time=5)
    settings = ItnioVoiceSettings(api_key=KEY, api_secret=SECRET, app_id="a")
    assert KEY not in repr(settings)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8080", "[::1]:1", "10.1.2.3", "simulator", "it.internal"])
def test_plain_http_is_for_private_networks(host: str) -> None:
    """The simulator on this machine or in a private network needs no certificate."""
    assert str(first_request(channel_with(base_url=f"http://{host}")).url).startswith("http://")


def test_every_setting_is_documented() -> None:
    """The documentation's table names every key."""
    from pathlib import Path

    page = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")
    for member in dataclasses.fields(ItnioVoiceSettings):
        assert f"`{member.name}`" in page, f"docs/channels.md does not name {member.name}"
