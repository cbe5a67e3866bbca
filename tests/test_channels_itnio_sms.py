"""ItnioSMS: what it sends, what it makes of every answer, and what it can be asked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from otpvoice.channels.base import Inquiry, Receipt, Report
from otpvoice.channels.contract import CODE, DELIVERY_ID, NUMBER, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.itnio_sms import ItnioSMS, ItnioSMSSettings
from otpvoice.channels.itnio_status import SMS_STATUS
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
from otpvoice.types import Address, DeliveryState

KEY, SECRET = "demo-key-5f2e", "demo-secret-91ab"
SETTINGS: Mapping[str, object] = {"api_key": KEY, "api_secret": SECRET, "app_id": "sms-app"}
CLOCK = ManualClock()
DIGITS = NUMBER.removeprefix("+")
MSG_ID = "22401020304051000001"
ITEM = {"msgId": MSG_ID, "number": DIGITS, "orderId": DELIVERY_ID}
PAGE = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")


def accepted(*items: object, **more: object) -> httpx.Response:
    return httpx.Response(200, json={"status": "0", "reason": "success", "array": list(items), **more})


class TestItnioSMS(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {**SETTINGS, "sender_id": "Example", "report_ips": ["192.0.2.7"]}
    secrets = (KEY, SECRET)

    def build(self, settings: Mapping[str, object]) -> ItnioSMS:
        return ItnioSMS.from_settings("sms", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return accepted(ITEM, success="1", fail="0")


CONTRACT = TestItnioSMS()


def channel_with(**settings: object) -> ItnioSMS:
    return ItnioSMS("sms", ItnioSMSSettings.from_table("channels.sms", {**SETTINGS, **settings}), clock=CLOCK)


def outcome(response: httpx.Response) -> Receipt | DeliveryError:
    channel = channel_with()
    try:
        return perform(channel.deliver(CONTRACT.message(channel)), lambda _: response)
    except DeliveryError as error:
        return error


def first_request(channel: ItnioSMS) -> httpx.Request:
    return next(channel.exchange(CONTRACT.message(channel)))


def test_what_is_sent() -> None:
    channel = channel_with()
    request = first_request(channel)
    assert (request.method, str(request.url)) == ("POST", "https://api.itniotech.com/sms/sendSms")
    assert json.loads(request.content) == {
        "appId": "sms-app",
        "numbers": DIGITS,
        "content": CONTRACT.message(channel).text,
        "orderId": DELIVERY_ID,
    }


def test_sender_and_sister_brands() -> None:
    request = first_request(
        channel_with(base_url="https://api.onbuka.com", path_prefix="/v3", sms_path="", sender_id="Example")
    )
    assert str(request.url) == "https://api.onbuka.com/v3/sendSms"
    assert json.loads(request.content)["senderId"] == "Example"
    with pytest.raises(ConfigurationError, match="sender_id"):
        channel_with(sender_id="x" * 33)


@pytest.mark.parametrize("number", ["+123456", "+1234567890123456", "+8491234567x"])
def test_numbers_that_it_does_not_take(number: str) -> None:
    channel = channel_with()
    message = CONTRACT.message(channel)
    with pytest.raises(InvalidRequest):
        channel.check(replace(message, recipient=replace(message.recipient, address=Address(number))))


@pytest.mark.parametrize(
    "item",
    [
        ITEM,
        ITEM | {"msgId": int(MSG_ID), "number": int(DIGITS)},
        {"msgId": MSG_ID, "number": f"+{DIGITS}"},
        {"msgId": MSG_ID, "number": f"00{DIGITS}"},
        {"msgId ": MSG_ID, "orderId": DELIVERY_ID},
    ],
)
def test_an_accepted_number(item: dict[str, object]) -> None:
    """By number, whatever its form, or by the order id; among others' too."""
    assert outcome(accepted(item)) == Receipt(reference=MSG_ID)
    assert outcome(accepted({"msgId": "1", "number": "15005550006"}, "junk", item)) == Receipt(reference=MSG_ID)


def test_a_success_that_counts_our_number_as_failed() -> None:
    """Nothing was sent: a failure that is none of the number's or the account's, so the next step may do better."""
    for counts in ({"fail": "1", "success": "0"}, {"fail": 1}):
        refused = outcome(accepted(**counts))
        assert type(refused) is DeliveryError
        assert (refused.retryable, refused.code) == (False, "0")


@pytest.mark.parametrize(
    "response",
    [
        accepted(),
        accepted(success="1", fail="0"),
        accepted(success="1", fail="1"),
        accepted({"msgId": MSG_ID, "number": "15005550006"}),
        accepted(ITEM | {"msgId": ""}, fail="1"),
        accepted(ITEM | {"msgId": None}, fail="1"),
        httpx.Response(200, json={"status": "0", "array": None}),
        httpx.Response(200, json={"status": "0", "data": MSG_ID}),
        httpx.Response(200, json={"status": "0", "array": {"msgId": MSG_ID, "number": DIGITS}}),
        httpx.Response(200, json={"status": "-77"}),
        httpx.Response(200, json={"status": "-18"}),
    ],
)
def test_a_success_that_says_neither(response: httpx.Response) -> None:
    assert isinstance(outcome(response), OutcomeUnknown)


EXPECTED: dict[type[DeliveryError], tuple[int, ...]] = {
    ProviderMisconfigured: (
        *(-1, -2, -13, -30, -31, -32),
        *(-4, -5, -7, -8, -11, -14),
        *(-19, -20, -21, -22, -24, -25, -26, -29),
    ),
    ContentRejected: (-3, -6, -17),
    RecipientRejected: (-9,),
    NoBalance: (-10,),
    ProviderUnavailable: (-12,),
    ProviderThrottled: (-15, -23, -27, -28),
    OutcomeUnknown: (-18,),
}


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind, all_ in EXPECTED.items() for status in all_])
def test_statuses(kind: type[DeliveryError], status: int) -> None:
    """Each by its number as text or number; the vendor's words, which may echo the code, are not repeated."""
    for written in (status, str(status)):
        refused = outcome(httpx.Response(200, json={"status": written, "reason": f"bad text {CODE}"}))
        assert type(refused) is kind
        assert refused.code == str(status)
        assert CODE not in str(refused)


def test_every_status_is_expected_and_documented() -> None:
    section = PAGE.partition("## itnio-sms")[2].partition("\n## ")[0]
    assert {status for all_ in EXPECTED.values() for status in all_} | {-16} == set(SMS_STATUS)
    spans = {-20, -21, -25}  # Written as "-19 to -22" and "-24 to -26".
    for status in set(SMS_STATUS) - spans:
        assert f"`{status}`" in section, status


def test_every_setting_is_documented() -> None:
    section = PAGE.partition("## itnio-sms")[2].partition("\n## ")[0]
    for member in dataclasses.fields(ItnioSMSSettings):
        assert f"`{member.name}`" in section, member.name


# Asking


def inquiry(reference: str | None = MSG_ID) -> Inquiry:
    now = CLOCK.now()
    return Inquiry(delivery_id=DELIVERY_ID, reference=reference, recipient=None, sent_at=now, now=now)


def asked(response: httpx.Response, channel: ItnioSMS | None = None) -> Report | None:
    return perform((channel or channel_with()).look_up(inquiry()), lambda _: response)


def test_what_is_asked() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return accepted({"msgId": MSG_ID, "number": DIGITS, "status": "0"})

    channel = channel_with(app_id="sms app&1")
    found = perform(channel.look_up(inquiry()), answer)
    assert found == Report(delivery_id=DELIVERY_ID, reference=MSG_ID, state=DeliveryState.DELIVERED, provider_code="0")
    (request,) = seen
    assert (request.method, request.url.path) == ("GET", "/sms/getReport")
    assert dict(request.url.params) == {"appId": "sms app&1", "msgIds": MSG_ID}


@pytest.mark.parametrize(
    "response",
    [
        accepted(nofound="1"),
        accepted({"msgId": "7", "status": "1"}),
        accepted({"msgId": MSG_ID}),
        httpx.Response(200, json={"status": "0", "array": None}),
        httpx.Response(200, json={"status": "-24"}),
    ],
)
def test_a_message_that_is_not_known_yet(response: httpx.Response) -> None:
    assert asked(response) is None


def test_a_question_that_is_refused() -> None:
    for status, kind in ((-14, ProviderMisconfigured), (-15, ProviderThrottled), (-18, ProviderUnavailable)):
        with pytest.raises(kind):
            asked(httpx.Response(200, json={"status": status}))


def test_without_the_vendors_id_nothing_is_asked() -> None:
    assert perform(channel_with().look_up(inquiry(None)), CONTRACT.answer) is None


def test_when_it_asks() -> None:
    assert channel_with().capabilities.poll_after is not None
    poll = channel_with(poll_after=12).capabilities.poll_after
    assert poll is not None
    assert poll.total_seconds() == 12
    assert channel_with().capabilities.look_ups
    assert channel_with().capabilities.reports


def test_confirming() -> None:
    """With ``confirm_reports`` nothing counts but what the provider's own report says of that message."""
    forged = Report(delivery_id=DELIVERY_ID, reference=MSG_ID, state=DeliveryState.FAILED, reason="failed")

    def confirmed(report: Report, answer: Any, **settings: object) -> Report | None:
        return perform(channel_with(**settings).confirm(report), lambda _: answer)

    def never(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was asked")

    truth = accepted({"msgId": MSG_ID, "status": "0"})
    assert perform(channel_with().confirm(forged), never) is forged
    found = confirmed(forged, truth, confirm_reports=True)
    assert found is not None
    assert (found.state, found.delivery_id, found.reference) == (DeliveryState.DELIVERED, None, MSG_ID)
    assert confirmed(forged, accepted(), confirm_reports=True) is None
    assert confirmed(forged, OutcomeUnknown("no answer"), confirm_reports=True) is None
    assert perform(channel_with(confirm_reports=True).confirm(replace(forged, reference=None)), never) is None


def test_the_probe_asks_for_the_balance() -> None:
    response = httpx.Response(200, json={"status": "0", "balance": "3.20"})
    credentials, money = perform(channel_with().probe(), lambda _: response)
    assert credentials.ok
    assert money.ok
    assert credentials.name == "sms: itnio credentials"
