"""ItnioVoice over real HTTP, against the simulated provider that checks what the real one checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import pytest

from otpvoice.channels.base import Finding, Receipt
from otpvoice.channels.contract import CHALLENGE_ID, CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.http_errors import map_http_error
from otpvoice.channels.itnio import LEGACY_LANGUAGES, ItnioVoice, ItnioVoiceSettings
from otpvoice.channels.itnio_status import VOICE_STATUS
from otpvoice.clock import ManualClock, SystemClock
from otpvoice.errors import (
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderUnavailable,
)
from otpvoice.flow import Exchange, Flow
from otpvoice.simulator.backend import Account
from otpvoice.simulator.server import SimulatedItnio
from otpvoice.types import Address, Text

T = TypeVar("T")

KEY, SECRET = "demo-key", "demo-secret"
CONTRACT = HttpChannelContract()


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatedItnio]:
    with SimulatedItnio() as simulated:
        yield simulated


@pytest.fixture
def itnio(running: SimulatedItnio) -> Iterator[SimulatedItnio]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def channel_at(url: str, *, clock: ManualClock | SystemClock | None = None, **settings: object) -> ItnioVoice:
    table = {"api_key": KEY, "api_secret": SECRET, "app_id": "demo-app", "base_url": url, **settings}
    return ItnioVoice("voice", ItnioVoiceSettings.from_table("channels.voice", table), clock=clock)


def over(client: httpx.Client, flow: Flow[T]) -> T:
    """Run a flow with a real client, as the synchronous runner does."""

    def answer(request: httpx.Request) -> httpx.Response | Exception:
        try:
            return client.send(request)
        except httpx.HTTPError as error:
            return map_http_error(error)

    return perform(flow, answer)


def deliver(client: httpx.Client, channel: ItnioVoice, *, number: str = NUMBER, text: str = "") -> Receipt:
    message = CONTRACT.message(channel)
    message = replace(message, recipient=replace(message.recipient, address=Address(number)))
    return over(client, channel.deliver(replace(message, text=Text(text)) if text else message))


def failure(client: httpx.Client, channel: ItnioVoice, *, number: str = NUMBER) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        deliver(client, channel, number=number)
    assert caught.value.provider == "itnio"
    return caught.value


def test_a_call_is_placed(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """The request passes every check of the provider, and what it speaks is the text."""
    receipt = deliver(client, channel_at(itnio.url))
    (call,) = itnio.calls
    assert receipt == Receipt(reference=call.voice_id)
    assert call.callee == NUMBER.removeprefix("+")
    assert call.text == CONTRACT.message(channel_at(itnio.url)).text
    assert call.called_info == DELIVERY_ID
    assert CHALLENGE_ID not in repr(call.parameters)


def test_every_parameter_is_taken(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """All optional parameters at once pass the provider's checks of type and range, at both ends of each."""
    low: dict[str, Any] = {
        "loop_count": 1,
        "recall_count": 1,
        "recall_interval": 1,
        "max_duration": 1,
        "max_ringing_time": 20,
    }
    high: dict[str, Any] = {
        "loop_count": 9,
        "recall_count": 9,
        "recall_interval": 999,
        "max_duration": 120,
        "max_ringing_time": 120,
    }
    for settings in (low, high):
        deliver(client, channel_at(itnio.url, display_num="15005550001", **settings))
        sent = itnio.calls[-1].parameters
        assert sent["displayNum"] == "15005550001"
        assert [sent[name] for name in ("loopCount", "recallCount", "recallInterval", "maxDuration")] == [
            settings[name] for name in ("loop_count", "recall_count", "recall_interval", "max_duration")
        ]
        assert sent["maxRingingTime"] == settings["max_ringing_time"]


def test_every_language_at_its_limit_is_taken(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """For each language the longest text that the channel lets through is not too long for the provider."""
    channel = channel_at(itnio.url)
    for language in sorted(set(LEGACY_LANGUAGES.values())):
        limit = channel.capabilities.text_limit(language)
        assert limit is not None
        message = replace(CONTRACT.message(channel), language=language, text=Text("é" * limit))
        over(client, channel.deliver(message))
    assert len(itnio.calls) == len(set(LEGACY_LANGUAGES.values()))


def test_voice_ids_keep_their_digits(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """Ids with and without the leading digit, beyond 64 bits, and as JSON numbers, come back digit for digit."""
    channel = channel_at(itnio.url)
    itnio.set_rule({"answer": "number-id", "times": 2})
    receipts = [deliver(client, channel) for _ in range(4)]
    assert [receipt.reference for receipt in receipts] == [call.voice_id for call in itnio.calls]
    assert any(int(receipt.reference or 0) >= 1 << 64 for receipt in receipts)


@pytest.mark.parametrize("answer", ["number-status", "aliases"])
def test_dialects_of_the_envelope(itnio: SimulatedItnio, client: httpx.Client, answer: str) -> None:
    """A numeric status, and ``code``/``msg``, are read as the rest of the vendor's pages have it."""
    itnio.set_rule({"answer": answer})
    assert deliver(client, channel_at(itnio.url)).reference == itnio.calls[-1].voice_id


@pytest.mark.parametrize("status", sorted(set(VOICE_STATUS) - {-16}))
def test_every_status(itnio: SimulatedItnio, client: httpx.Client, status: int) -> None:
    """Each documented status arrives as its class with its raw code, and is not asked a second time."""
    itnio.set_rule({"answer": str(status)})
    error = failure(client, channel_at(itnio.url))
    assert type(error) is VOICE_STATUS[status].error
    assert error.code == str(status)
    assert itnio.requests["/voice/sendCode"] == 1
    assert not itnio.calls


@pytest.mark.parametrize(
    ("answer", "kind", "rang"),
    [
        ("no-id", OutcomeUnknown, True),
        ("garbage", OutcomeUnknown, False),
        ("html", OutcomeUnknown, False),
        ("empty", OutcomeUnknown, False),
        ("truncated", OutcomeUnknown, False),
        ("http-500", OutcomeUnknown, False),
        ("http-503", ProviderUnavailable, False),
        ("http-302", ProviderMisconfigured, False),
        ("http-404", ProviderMisconfigured, False),
    ],
)
def test_a_provider_that_lies(
    itnio: SimulatedItnio, client: httpx.Client, answer: str, kind: type[DeliveryError], rang: bool
) -> None:
    """Whatever comes back is a failure of its class, after exactly one request."""
    itnio.set_rule({"answer": answer})
    assert type(failure(client, channel_at(itnio.url))) is kind
    assert itnio.requests["/voice/sendCode"] == 1
    assert len(itnio.calls) == rang


@pytest.mark.parametrize("accept", [True, False])
def test_answer_lost(itnio: SimulatedItnio, client: httpx.Client, accept: bool) -> None:
    """A connection that is cut before the answer leaves the outcome unknown, ringing or not: no second call."""
    itnio.set_rule({"answer": "drop", "accept": accept})
    assert type(failure(client, channel_at(itnio.url))) is OutcomeUnknown
    assert itnio.requests["/voice/sendCode"] == 1
    assert len(itnio.calls) == accept


def test_accepted_then_silence(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """The provider rings and never answers: the read timeout of the request ends the wait, outcome unknown."""
    itnio.set_rule({"answer": "hang", "accept": True})
    error = failure(client, channel_at(itnio.url, timeouts={"read": 0.1}))
    assert type(error) is OutcomeUnknown
    assert error.code == "ReadTimeout"
    assert len(itnio.wait_for_calls(1)) == 1


def test_nobody_listens(client: httpx.Client) -> None:
    """A provider that is down was not asked: it is safe to try again."""
    with SimulatedItnio() as gone:
        url = gone.url
    assert type(failure(client, channel_at(url))) is ProviderUnavailable


@pytest.mark.parametrize("hours", [2, -2])
def test_wrong_clock_is_put_right(itnio: SimulatedItnio, client: httpx.Client, hours: int) -> None:
    """Two hours off, the first signature is refused and the second, by the provider's Date, is taken: one call."""
    itnio.set_clock_skew(hours * 3600)
    receipt = deliver(client, channel_at(itnio.url))
    assert itnio.requests["/voice/sendCode"] == 2
    assert [call.voice_id for call in itnio.calls] == [receipt.reference]


def test_a_refusal_for_time_that_stays_is_an_alarm(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """A provider that says -16 whatever it is sent is asked twice and no more."""
    itnio.set_rule({"answer": "-16"})
    assert type(failure(client, channel_at(itnio.url))) is ProviderMisconfigured
    assert itnio.requests["/voice/sendCode"] == 2


@pytest.mark.parametrize("wrong", [{"api_key": "other"}, {"api_secret": "other"}])
def test_wrong_credentials(itnio: SimulatedItnio, client: httpx.Client, wrong: dict[str, Any]) -> None:
    """A wrong key or secret is refused, and is a matter for a person."""
    error = failure(client, channel_at(itnio.url, **wrong))
    assert (type(error), error.code) == (ProviderMisconfigured, "-1")


def test_wrong_app(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """An application id of another product is a parameter error whose words name the key to look at."""
    error = failure(client, channel_at(itnio.url, app_id="sms-app"))
    assert (type(error), error.code) == (ProviderMisconfigured, "-22")
    assert "app_id" in str(error)


def test_no_money(client: httpx.Client) -> None:
    """An account without money refuses, and the probe tells so beforehand."""
    from decimal import Decimal

    with SimulatedItnio(account=Account(balance=Decimal(0))) as poor:
        channel = channel_at(poor.url)
        assert type(failure(client, channel)) is NoBalance
        money = over(client, channel.probe())[1]
        assert not money.ok


@pytest.mark.parametrize("prefix_in_url", [True, False])
def test_sister_brands(client: httpx.Client, prefix_in_url: bool) -> None:
    """Under /v3 and with the balance outside /sms, as Onbuka and Laaffic have it, calls and probe work."""
    with SimulatedItnio(prefix="/v3") as onbuka:
        url = onbuka.url if prefix_in_url else onbuka.url.removesuffix("/v3")
        channel = channel_at(url, path_prefix="" if prefix_in_url else "/v3", sms_path="")
        assert deliver(client, channel).reference == onbuka.calls[-1].voice_id
        assert [finding.ok for finding in over(client, channel.probe())] == [True, True, True]


def test_newest_generation(client: httpx.Client) -> None:
    """The opt-in profile's codes, accents and longer texts are taken by the newest generation."""
    with SimulatedItnio(account=Account(generation="newest")) as newest:
        channel = channel_at(newest.url, language_profile="g4")
        for language in sorted(set((channel.capabilities.languages or {}).values())):
            message = replace(CONTRACT.message(channel), language=language, text=Text("x" * 1000))
            over(client, channel.deliver(message))
        assert {call.parameters.get("accent") for call in newest.calls} >= {"44", "1", None}


def test_probe(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """All is well: one signed request, no call."""
    findings = over(client, channel_at(itnio.url).probe())
    assert [finding.ok for finding in findings] == [True, True, True]
    assert "100" in findings[1].detail
    assert not itnio.calls


def test_probe_measures_the_clock(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """Ten minutes off the provider still takes the signature, and the probe already says so."""
    itnio.set_clock_skew(600)
    credentials, _, clock = over(client, channel_at(itnio.url).probe())
    assert credentials.ok
    assert not clock.ok
    assert "behind" in clock.detail
    assert "NTP" in clock.remedy


def test_probe_with_wrong_credentials(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """One finding, with what to look at."""
    (finding,) = over(client, channel_at(itnio.url, api_secret="other").probe())
    assert isinstance(finding, Finding)
    assert not finding.ok
    assert "api_secret" in finding.remedy


def test_nothing_secret_in_any_log(
    itnio: SimulatedItnio, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, httpx's and httpcore's own records included: no code, text, number, key, secret or signature."""
    signatures: list[str] = []

    def note(request: httpx.Request) -> None:
        signatures.append(request.headers["sign"])

    with httpx.Client(trust_env=False, event_hooks={"request": [note]}) as noisy, caplog.at_level(logging.DEBUG):
        channel = channel_at(itnio.url)
        deliver(noisy, channel)
        itnio.set_rule({"answer": "-22"})
        failure(noisy, channel)
        itnio.set_rule({"answer": "drop"})
        failure(noisy, channel)
    assert any(record.name.startswith("httpcore") for record in caplog.records), "nothing was recorded"
    assert len(signatures) == 3
    text = "".join(f"{record.getMessage()}{record.args!r}" for record in caplog.records)
    for secret in (CODE, ", ".join(CODE), NUMBER.removeprefix("+"), SECRET, KEY, *signatures):
        assert secret not in text


def test_from_an_event_loop(itnio: SimulatedItnio) -> None:
    """The same flow, driven by an asynchronous client, fifty at once: each call has its own receipt."""

    async def one(client: httpx.AsyncClient, number: int) -> Receipt:
        channel = channel_at(itnio.url)
        message = CONTRACT.message(channel)
        flow = channel.deliver(replace(message, delivery_id=f"dl-{number}"))
        try:
            step = next(flow)
            while True:
                assert isinstance(step, Exchange)
                step = flow.send(await client.send(step.request))
        except StopIteration as done:
            receipt: Receipt = done.value
            return receipt

    async def many() -> list[Receipt]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await asyncio.gather(*(one(client, number) for number in range(50)))

    receipts = asyncio.run(many())
    by_delivery = {call.called_info: call.voice_id for call in itnio.calls}
    assert [by_delivery[f"dl-{number}"] for number in range(50)] == [receipt.reference for receipt in receipts]


def test_a_clock_of_its_own(itnio: SimulatedItnio, client: httpx.Client) -> None:
    """The clock that the channel is given signs, not the machine's."""
    clock = ManualClock(SystemClock().now() - timedelta(hours=1))
    deliver(client, channel_at(itnio.url, clock=clock))
    assert itnio.requests["/voice/sendCode"] == 2
