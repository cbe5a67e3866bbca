"""The e-mail channel, against a real SMTP server with real TLS on this machine."""

from __future__ import annotations

import email
import email.policy
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from otpvoice.channels.base import Message
from otpvoice.channels.contract import CODE, DELIVERY_ID, MAILBOX, ChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.smtp import Smtp
from otpvoice.errors import (
    ConfigurationError,
    ContentRejected,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    RecipientRejected,
)
from otpvoice.policy import Policy, Route
from otpvoice.types import Text
from tests.conftest import Maker

LOGIN = {"username": "login", "password": "hunter2-hunter2"}


class Postbox:
    """What the server says, and what it took."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.says: dict[str, str] = {}
        self.hangs_up = False

    async def handle_MAIL(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _o: Any) -> str:
        envelope.mail_from = address
        return self.says.get("MAIL", "250 OK")

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _o: Any) -> str:
        envelope.rcpt_tos.append(address)
        return self.says.get("RCPT", "250 OK")

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.hangs_up:
            server.transport.close()
            return "250 OK"
        if "DATA" not in self.says:
            mail = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.says.get("DATA", "250 OK")


class Server:
    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.tls)
        self.ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.postbox = Postbox()
        self.controller = Controller(
            self.postbox,
            hostname="127.0.0.1",
            port=0,
            tls_context=self.tls,
            require_starttls=True,
            auth_required=True,
            authenticator=self.authenticate,
        )

    @staticmethod
    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        right = (data.login, data.password) == (b"login", b"hunter2-hunter2")
        return AuthResult(success=right, handled=False)

    @property
    def port(self) -> int:
        assert self.controller.server is not None
        return int(self.controller.server.sockets[0].getsockname()[1])

    def greet(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.recv(1024)

    def settings(self, **changes: object) -> dict[str, object]:
        return {
            "host": "localhost",
            "port": self.port,
            "sender": "login@example.org",
            "sender_name": "Example, Inc.",
            "ca_file": self.ca_file,
            "timeout": 5.0,
            **LOGIN,
            **changes,
        }

    def channel(self, **changes: object) -> Smtp:
        return Smtp.from_settings("mail", self.settings(**changes))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    logging.getLogger("mail.log").disabled = True  # The server's own, which quotes what it receives.
    # The controller finds out that it is up by connecting to the port it was given, and 0 is none.
    server.controller._trigger_server = server.greet  # type: ignore[method-assign]
    server.controller.start()
    yield server
    server.controller.stop()


class TestSmtp(ChannelContract):
    settings: ClassVar[Mapping[str, object]] = {
        "host": "localhost",
        "sender": "login@example.org",
        "username": "login",
        "password": "hunter2-hunter2",
    }
    secrets = ("hunter2-hunter2",)

    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        self.server = server

    def build(self, settings: Mapping[str, object]) -> Smtp:
        local = {"port": self.server.port, "ca_file": self.server.ca_file}
        return Smtp.from_settings("mail", {**local, **settings})


def message(channel: Smtp, **changes: Any) -> Message:
    from dataclasses import replace

    return replace(ChannelContract().message(channel), **changes)


def deliver(channel: Smtp, sent: Message | None = None) -> Any:
    return perform(channel.deliver(sent or message(channel)), ChannelContract().answer)


def test_a_mail_arrives_over_tls_with_the_code_in_its_body_only(server: Server) -> None:
    channel = server.channel()
    receipt = deliver(channel, message(channel, text=Text(f"Ваш код: {CODE}\nсм. ниже"), locale="ru"))
    (mail,) = server.postbox.mails
    assert CODE in mail.get_content()
    assert CODE not in str(mail["Subject"])
    assert (mail["To"], mail["Content-Language"]) == (MAILBOX, "ru")
    assert str(mail["From"]) == '"Example, Inc." <login@example.org>'
    assert DELIVERY_ID in receipt.reference
    assert receipt.reference == str(mail["Message-ID"]).strip(" <>")
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_subject_with_the_code_or_a_line_break_is_refused(server: Server) -> None:
    channel = server.channel()
    for title in (f"{CODE} is your code", "Hello\r\nBcc: everybody@example.org"):
        with pytest.raises(ContentRejected):
            deliver(channel, message(channel, title=title))
    assert server.postbox.mails == []


@pytest.mark.parametrize(
    ("says", "meaning"),
    [
        ({"RCPT": "550 5.1.1 no such user"}, RecipientRejected),
        ({"RCPT": "552 5.2.2 full"}, ProviderThrottled),
        ({"RCPT": "450 4.2.1 greylisted"}, ProviderThrottled),
        ({"RCPT": "451 4.3.0 try later"}, ProviderUnavailable),
        ({"MAIL": "553 5.7.1 not yours"}, ProviderMisconfigured),
        ({"DATA": "554 5.7.1 spam"}, ContentRejected),
        ({"DATA": "421 4.3.2 closing"}, ProviderThrottled),
    ],
)
def test_refusals_mean_what_the_reply_codes_say(server: Server, says: dict[str, str], meaning: type) -> None:
    """RFC 5321 4.2.3."""
    server.postbox.says = says
    with pytest.raises(meaning) as refused:
        deliver(server.channel())
    assert refused.type is meaning
    assert refused.value.code == next(iter(says.values()))[:3]
    assert MAILBOX not in str(refused.value)


def test_a_server_that_hangs_up_after_the_message_leaves_the_outcome_unknown(server: Server) -> None:
    server.postbox.hangs_up = True
    with pytest.raises(OutcomeUnknown):
        deliver(server.channel())


def test_nothing_is_sent_without_verified_tls(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ProviderMisconfigured, match="certificate"):
        deliver(server.channel(ca_file=None))
    with pytest.raises(ProviderMisconfigured, match="login"):
        deliver(server.channel(password="another-password"))
    with pytest.raises(ProviderUnavailable):
        deliver(server.channel(port=1))
    assert server.postbox.mails == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"security": "none", "host": "mail.example.org"}, "security"),
        ({"username": None}, "password"),
        ({"sender": "Me <me@example.org>"}, "sender"),
        ({"port": 0}, "port"),
        ({"security": "ssl3"}, "security"),
    ],
)
def test_settings_that_contradict_themselves_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Smtp.from_settings("mail", {**TestSmtp.settings, **changes})


def test_doctor_learns_whether_the_server_takes_us(server: Server) -> None:
    (found,) = perform(server.channel().probe(), ChannelContract().answer)
    assert found.ok
    (found,) = perform(server.channel(password="another-password").probe(), ChannelContract().answer)
    assert not found.ok
    assert found.remedy


def test_a_code_is_issued_by_mail_and_verified(server: Server, services: Maker) -> None:
    policies = {"login": Policy(route=Route.of("mail"), hash_profile="fast")}
    service = services(channels=[server.channel()], policies=policies, brand="Example")
    challenge = service.issue_code(MAILBOX, purpose="login")
    body = server.postbox.mails[-1].get_content()
    code = next(word.strip(".") for word in body.split() if word.strip(".").isdigit() and len(word.strip(".")) == 6)
    assert service.verify_code(challenge.id, code).recipient == MAILBOX
