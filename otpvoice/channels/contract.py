"""The contract of a channel, as tests: subclass it in your test file, and pytest runs it.

::

    class TestAcmeSMS(HttpChannelContract):
        settings = {"api_key": "k-8d1f", "sender": "Acme"}
        secrets = ("k-8d1f",)

        def build(self, settings):
            return AcmeSMS.from_settings("sms", settings)

        def accept(self, request):
            return httpx.Response(200, json={"id": "m-1"})

Nothing is sent: HTTP requests are answered by :meth:`HttpChannelContract.accept` and by hostile answers, blocking
calls are performed. pytest is not imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import ClassVar

import httpx

from otpvoice.channels.base import Channel, HttpChannel, Message, Receipt
from otpvoice.channels.contract_tools import HOSTILE_BODIES, HOSTILE_STATUSES, expect, perform, raises, recorded
from otpvoice.channels.http_errors import map_http_error
from otpvoice.errors import ConfigurationError, ContentRejected, DeliveryError, InvalidRequest
from otpvoice.flow import Exchange
from otpvoice.types import Address, Code, Medium, Recipient, Text

CODE = "907351"
NUMBER = "+84912345678"
MAILBOX = "somebody@example.org"
CHALLENGE_ID = "ch_contract7Zq1VvXw0"
DELIVERY_ID = "dl_contract4mB8sKd2"

MOST_REQUESTS = 5
"""A delivery that asks more often than this is taken to be in a loop."""


class ChannelContract:
    """What every channel keeps. A subclass gives :attr:`settings` and :meth:`build`."""

    settings: ClassVar[Mapping[str, object]] = MappingProxyType({})
    """A table that :meth:`build` accepts, as a configuration file would hold it."""
    secrets: ClassVar[Sequence[str]] = ()
    """The secrets in :attr:`settings`, and what is made of them: never in a log, a ``repr`` or an error."""
    shows_code: ClassVar[bool] = False
    """True only for a channel whose purpose is to show the code to the developer."""

    def build(self, settings: Mapping[str, object]) -> Channel:
        """``YourChannel.from_settings("name", settings)``."""
        raise NotImplementedError

    def answer(self, request: httpx.Request) -> httpx.Response | Exception:
        """What the provider answers to a request, for a message that it takes."""
        raise AssertionError(f"{type(self).__name__}.answer is not written, and the channel asks for a request")

    def message(self, channel: Channel) -> Message:
        """A message that the channel takes."""
        languages = channel.capabilities.languages or {}
        mailbox = channel.medium is Medium.EMAIL
        text = Text("Your code is " + ", ".join(CODE) + f". Again: {CODE}.")
        return Message(
            delivery_id=DELIVERY_ID,
            challenge_id=CHALLENGE_ID,
            purpose="login",
            recipient=Recipient(
                address=Address(MAILBOX if mailbox else NUMBER),
                kind="email" if mailbox else "phone",
                hint="s•••@example.org" if mailbox else "+84•••••••78",
            ),
            code=Code(CODE),
            text=text,
            title="Your code" if mailbox else "",
            locale="en",
            language=languages.get("en") or next(iter(languages.values()), None),
            expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        )

    def deliver(
        self, channel: Channel, message: Message, answer: Callable[[httpx.Request], httpx.Response | Exception]
    ) -> Receipt:
        """Deliver a message with these answers."""
        return perform(channel.deliver(message), answer)

    def forbidden(self) -> Sequence[str]:
        """What no log, ``repr`` or error may hold."""
        return (*self.secrets, CODE, ", ".join(CODE), NUMBER, NUMBER.removeprefix("+"), MAILBOX)

    def expect_silent(self, text: str, where: str) -> None:
        """Nothing :meth:`forbidden` is in the text."""
        for word in self.forbidden():
            expect(word not in text, f"{where} shows what is secret, {word[:2]}…: {text[:60]!r}…")

    def test_says_what_it_is(self) -> None:
        """It has its name, a provider in lower case, and capabilities of its own medium."""
        channel = self.build(self.settings)
        expect(isinstance(channel, Channel), "build() gives no Channel")
        expect(channel.name, "it has no name")
        expect(channel.provider and channel.provider == channel.provider.lower(), "the provider is not in lower case")
        expect(isinstance(channel.medium, Medium), "its medium is not a Medium")
        expect(channel.capabilities.medium is channel.medium, "its capabilities are of another medium")

    def test_settings_are_silent(self) -> None:
        """A printed channel, and everything it holds, shows no secret."""
        channel = self.build(self.settings)
        self.expect_silent(f"{channel!r} {channel} {vars(channel)!r}", "the channel's repr")

    def test_unknown_setting_is_named(self) -> None:
        """A misspelt key is refused by name, not ignored."""
        with raises(ConfigurationError) as caught:
            self.build({**self.settings, "no_such_setting": 1})
        expect("no_such_setting" in str(caught[0]), "the message does not name the unknown key")
        self.expect_silent(str(caught[0]), "the message")

    def test_wrong_type_is_named(self) -> None:
        """Whatever key holds a value of no sensible type, the message names it and repeats no secret."""
        for key in self.settings:
            with raises(ConfigurationError) as caught:
                self.build({**self.settings, key: object()})
            expect(key in str(caught[0]), f"the message does not name {key}")
            self.expect_silent(str(caught[0]), "the message")

    def test_missing_setting_is_named(self) -> None:
        """Without a key it is either built all the same, or the message names the key."""
        for key in self.settings:
            rest = {name: value for name, value in self.settings.items() if name != key}
            try:
                self.build(rest)
            except ConfigurationError as error:
                expect(key in str(error), f"the message does not name {key}")
                self.expect_silent(str(error), "the message")

    def test_delivers(self) -> None:
        """A message that it takes comes back as a receipt, whose reference is text."""
        channel = self.build(self.settings)
        message = self.message(channel)
        channel.check(message)
        receipt = self.deliver(channel, message, self.answer)
        expect(isinstance(receipt, Receipt), "deliver() returns no Receipt")
        expect(receipt.reference is None or isinstance(receipt.reference, str), "the reference is not text")

    def test_refuses_other_recipients(self) -> None:
        """A telephone channel takes no mailbox, and the other way round: nothing is sent."""
        channel = self.build(self.settings)
        message = self.message(channel)
        phone = message.recipient.kind == "phone"
        other = Recipient(
            address=Address(MAILBOX if phone else NUMBER),
            kind="email" if phone else "phone",
            hint="s•••@example.org" if phone else "+84•••••••78",
        )
        with raises(InvalidRequest) as caught:
            channel.check(replace(message, recipient=other))
        self.expect_silent(str(caught[0]), "the message")

    def test_refuses_what_it_cannot_carry(self) -> None:
        """Text beyond the limit and a language that the provider does not speak raise before anything is sent."""
        channel = self.build(self.settings)
        message = self.message(channel)
        limit = channel.capabilities.text_limit(message.language)
        if limit is not None:
            channel.check(replace(message, text=Text("1" * limit)))
            with raises(ContentRejected):
                channel.check(replace(message, text=Text("1" * (limit + 1))))
        if channel.capabilities.languages is not None:
            for language in ("xx-none", None):
                with raises(ContentRejected):
                    channel.check(replace(message, language=language))

    def test_is_shared(self) -> None:
        """Deliveries that overlap do not mix: each is a flow of its own, and the channel keeps nothing of them."""
        channel = self.build(self.settings)
        message = self.message(channel)
        flows = [channel.deliver(message) for _ in range(3)]
        steps = [next(flow) for flow in flows]
        expect(len(steps) == len(flows), "a delivery did not begin")
        for flow in flows:
            flow.close()
        expect(isinstance(self.deliver(channel, message, self.answer), Receipt), "it does not deliver after that")

    def test_logs_nothing_secret(self) -> None:
        """No log record at any level holds the code, the number or a secret."""
        if self.shows_code:
            return
        channel = self.build(self.settings)
        with recorded() as records:
            self.deliver(channel, self.message(channel), self.answer)
        for record in records:
            self.expect_silent(f"{record.getMessage()} {record.args!r} {record.exc_text or ''}", "a log record")


class HttpChannelContract(ChannelContract):
    """What every channel that speaks HTTP keeps besides. A subclass also writes :meth:`accept`."""

    echoes_delivery_id: ClassVar[bool] = True
    """Whether the delivery's id goes to the provider. False only where its API has no field for it."""

    def accept(self, request: httpx.Request) -> httpx.Response:
        """The provider's answer to a request that it takes."""
        raise NotImplementedError

    def answer(self, request: httpx.Request) -> httpx.Response | Exception:
        """As :meth:`accept`."""
        return self.accept(request)

    def requests(self) -> list[httpx.Request]:
        """The requests of one delivery that is taken."""
        channel = self.build(self.settings)
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return self.accept(request)

        self.deliver(channel, self.message(channel), answer)
        return seen

    def refused(self, answer: Callable[[], httpx.Response | Exception]) -> tuple[DeliveryError | Receipt, int]:
        """What a delivery ends in when every request gets this answer, and how many requests it made."""
        channel = self.build(self.settings)
        asked = 0

        def count(request: httpx.Request) -> httpx.Response | Exception:
            nonlocal asked
            asked += 1
            expect(asked <= MOST_REQUESTS, "it asks again and again")
            return answer()

        try:
            return self.deliver(channel, self.message(channel), count), asked
        except DeliveryError as error:
            expect(error.provider == channel.provider, "the error does not name the provider")
            self.expect_silent(f"{error} {error!r} {error.code}", "the error")
            return error, asked

    def test_is_an_http_channel(self) -> None:
        """It is driven as a generator of requests."""
        expect(isinstance(self.build(self.settings), HttpChannel), "it is no HttpChannel")

    def test_urls_are_silent(self) -> None:
        """URLs end up in access logs: they hold neither the code nor a secret (property P80)."""
        for request in self.requests():
            for word in (*self.secrets, CODE, CHALLENGE_ID):
                expect(word not in str(request.url), "the URL holds what is secret")

    def test_challenge_id_stays_here(self) -> None:
        """The provider learns the code, so it must not learn which challenge the code opens (property P66)."""
        for request in self.requests():
            sent = request.read() + repr(request.headers.raw).encode() + str(request.url).encode()
            expect(CHALLENGE_ID.encode() not in sent, "the challenge's id is sent")

    def test_delivery_id_is_sent(self) -> None:
        """The delivery's id is in a request, so that an unknown outcome can be looked up."""
        if self.echoes_delivery_id:
            sent = b"".join(r.read() + repr(r.headers.raw).encode() + str(r.url).encode() for r in self.requests())
            expect(DELIVERY_ID.encode() in sent, "the delivery's id is not sent")

    def test_requests_are_silent(self) -> None:
        """A printed request and its printed headers show no secret."""
        for request in self.requests():
            for word in (*self.secrets, CODE):
                expect(word not in f"{request!r} {request.headers!r}", "a printed request shows what is secret")

    def test_requests_end(self) -> None:
        """Every request says how long each phase may take: a provider that hangs holds nobody up."""
        for request in self.requests():
            limits = request.extensions.get("timeout", {})
            for phase in ("connect", "read", "write", "pool"):
                expect((limits.get(phase) or 0) > 0, f"the request sets no {phase} timeout")

    def test_transport_errors_pass(self) -> None:
        """Whatever the transport raises comes out as the same failure, or a more precise one, never as a receipt."""
        transport: list[Exception] = [
            httpx.ConnectError("no route"),
            httpx.ConnectTimeout("slow"),
            httpx.ReadTimeout("slow"),
            httpx.RemoteProtocolError("cut off"),
        ]
        for error in transport:
            mapped = map_http_error(error)
            ended, asked = self.refused(lambda mapped=mapped: mapped)  # type: ignore[misc]
            expect(isinstance(ended, type(mapped)), f"{type(error).__name__} ends in {type(ended).__name__}")
            expect(asked == 1, "it asks again after a failure of the transport: that is for the route to decide")

    def test_hostile_answers(self) -> None:
        """No answer breaks it: an HTTP failure raises a DeliveryError, and nothing else comes out of any body."""
        for status in HOSTILE_STATUSES:
            for kind, body in HOSTILE_BODIES.items():
                headers = {"location": "https://evil.example/", "retry-after": "soon"}
                ended, asked = self.refused(lambda: httpx.Response(status, content=body, headers=headers))  # noqa: B023
                success = 200 <= status < 300
                expect(success or isinstance(ended, DeliveryError), f"HTTP {status} with {kind} is taken for success")
                expect(asked == 1, f"HTTP {status} with {kind} is answered by another request")

    def test_answers_are_not_quoted(self) -> None:
        """An answer that echoes the message does not reach the error's text (see :meth:`expect_silent`)."""
        echo = json.dumps({"error": f"bad text {CODE} for {NUMBER}", "message": ", ".join(CODE), "code": CODE})
        for status in (400, 422, 500):
            ended, _ = self.refused(lambda: httpx.Response(status, content=echo))  # noqa: B023
            expect(isinstance(ended, DeliveryError), f"HTTP {status} is taken for success")

    def test_can_be_abandoned(self) -> None:
        """A flow that is closed while a request is out (a cancelled task) ends quietly and asks for nothing more."""
        channel = self.build(self.settings)
        flow = channel.deliver(self.message(channel))
        expect(isinstance(next(flow), Exchange), "it does not begin with a request")
        flow.close()
