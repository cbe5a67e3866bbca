"""The contract suite itself: each of its tests goes red for a channel that breaks it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import httpx
import pytest

from otpvoice.channels import contract, rules
from otpvoice.channels.base import HttpChannel, HttpDialogue, Message, Receipt
from otpvoice.channels.contract import HttpChannelContract
from otpvoice.channels.http_errors import map_http_status
from otpvoice.channels.http_requests import QuietHeaders
from otpvoice.channels.settings import ChannelSettings, Timeouts, rule
from otpvoice.clock import SystemClock
from otpvoice.errors import DeliveryError, ProviderMisconfigured
from otpvoice.types import Capabilities, Medium

TOKEN = "tok-41f7aa"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeSettings(ChannelSettings):
    token: str = field(metadata=rule(rules.secret()))


class Acme(HttpChannel):
    """A channel that keeps the contract; the broken ones below each break one promise."""

    provider = "acme"
    medium = Medium.SMS

    def __init__(self, name: str, settings: AcmeSettings) -> None:
        super().__init__(name)
        self.settings = settings

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        return cls(name, AcmeSettings.from_table(name, settings))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(medium=self.medium, max_text=100)

    def url(self, message: Message) -> str:
        return f"https://acme.example/send/{message.delivery_id}"

    def request(self, message: Message) -> httpx.Request:
        request = httpx.Request(
            "POST",
            self.url(message),
            json={"to": message.recipient.address, "text": message.text},
            headers={"X-Token": self.settings.token},
            extensions=Timeouts().as_extensions(),
        )
        request.headers = QuietHeaders(request.headers)
        return request

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        response = yield self.request(message)
        if not response.is_success:
            raise map_http_status(response, provider=self.provider, now=SystemClock().now())
        return Receipt()


class TestAcme(HttpChannelContract):
    settings: ClassVar[Mapping[str, object]] = {"token": TOKEN}
    secrets = (TOKEN,)
    channel = Acme

    def build(self, settings: Mapping[str, object]) -> Acme:
        return self.channel.from_settings("sms", settings)

    def accept(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200)


class AnotherMedium(Acme):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(medium=Medium.VOICE)


class TalkativeRepr(Acme):
    def __repr__(self) -> str:
        return f"Acme({self.settings.token!s})"


class IgnoresUnknown(Acme):
    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        return super().from_settings(name, {"token": settings.get("token", TOKEN)})


class TakesAnything(Acme):
    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        return super().from_settings(name, {**settings, "token": type(settings.get("token")).__name__})


class NamesNothing(Acme):
    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        from otpvoice.errors import ConfigurationError

        if "token" not in settings:
            raise ConfigurationError("something is missing")
        return super().from_settings(name, settings)


class NumberReference(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        yield self.request(message)
        return Receipt(reference=5)  # type: ignore[arg-type]


class ChecksNothing(Acme):
    def check(self, message: Message) -> None:
        pass


class Forgetful(Acme):
    """Keeps what it is doing in itself, and is confused by a second delivery."""

    busy: Message | None = None

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        if self.busy is not None:
            raise ProviderMisconfigured("busy", provider="acme")
        self.busy = message
        receipt = yield from super().exchange(message)
        self.busy = None
        return receipt


class Logs(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        import logging

        logging.getLogger("acme").debug("sending %s", message.text)
        return super().exchange(message)


class CodeInUrl(Acme):
    def url(self, message: Message) -> str:
        return f"{super().url(message)}?code={message.code}"


class ChallengeInUrl(Acme):
    def url(self, message: Message) -> str:
        return f"{super().url(message)}/{message.challenge_id}"


class NoDeliveryId(Acme):
    def url(self, message: Message) -> str:
        return "https://acme.example/send"


class LoudHeaders(Acme):
    def request(self, message: Message) -> httpx.Request:
        request = super().request(message)
        request.headers = httpx.Headers(request.headers)
        return request


class NoTimeout(Acme):
    def request(self, message: Message) -> httpx.Request:
        request = super().request(message)
        request.extensions = {}
        return request


class SwallowsErrors(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        try:
            return (yield from super().exchange(message))
        except DeliveryError:
            return Receipt()


class AsksAgain(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        while True:
            try:
                return (yield from super().exchange(message))
            except DeliveryError:
                continue


class TrustsJson(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        response = yield self.request(message)
        answer: dict[str, Any] = response.json()
        return Receipt(reference=answer["id"])


class FollowsRedirects(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        response = yield self.request(message)
        if response.has_redirect_location:
            response = yield self.request(message)
        if not response.is_success:
            raise map_http_status(response, provider=self.provider, now=SystemClock().now())
        return Receipt()


class QuotesAnswers(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        response = yield self.request(message)
        if not response.is_success:
            raise ProviderMisconfigured(f"acme says {response.text}", provider="acme")
        return Receipt()


class Clings(Acme):
    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        try:
            return (yield from super().exchange(message))
        finally:
            yield self.request(message)


BROKEN = {
    "test_says_what_it_is": AnotherMedium,
    "test_settings_are_silent": TalkativeRepr,
    "test_unknown_setting_is_named": IgnoresUnknown,
    "test_wrong_type_is_named": TakesAnything,
    "test_missing_setting_is_named": NamesNothing,
    "test_delivers": NumberReference,
    "test_refuses_other_recipients": ChecksNothing,
    "test_refuses_what_it_cannot_carry": ChecksNothing,
    "test_is_shared": Forgetful,
    "test_logs_nothing_secret": Logs,
    "test_urls_are_silent": CodeInUrl,
    "test_challenge_id_stays_here": ChallengeInUrl,
    "test_delivery_id_is_sent": NoDeliveryId,
    "test_requests_are_silent": LoudHeaders,
    "test_requests_end": NoTimeout,
    "test_transport_errors_pass": SwallowsErrors,
    "test_hostile_answers": TrustsJson,
    "test_answers_are_not_quoted": QuotesAnswers,
    "test_can_be_abandoned": Clings,
}


@pytest.mark.parametrize(("name", "broken"), BROKEN.items())
def test_each_test_can_fail(name: str, broken: type[Acme]) -> None:
    """A channel that breaks one promise fails the test of that promise."""
    suite = TestAcme()
    suite.channel = broken
    with pytest.raises((AssertionError, RuntimeError, ValueError, TypeError, KeyError, DeliveryError)):
        getattr(suite, name)()


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("test_transport_errors_pass", AsksAgain),
        ("test_hostile_answers", FollowsRedirects),
        ("test_hostile_answers", SwallowsErrors),
    ],
)
def test_more_ways_to_fail(name: str, broken: type[Acme]) -> None:
    """Repeating, following and swallowing are caught as well."""
    test_each_test_can_fail(name, broken)


def test_every_test_is_proved() -> None:
    """No test of the suite is without a channel that fails it, but the one that only looks at the class."""
    tests = {name for name in dir(HttpChannelContract) if name.startswith("test_")}
    assert tests - {"test_is_an_http_channel"} == set(BROKEN)


def test_the_suite_does_not_need_pytest() -> None:
    """It ships with the package, and importing it imports no test framework."""
    code = f"import sys, {contract.__name__}; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
