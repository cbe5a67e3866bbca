"""The e-mail channel: SMTP (RFC 5321) with TLS by default, through a server of yours.

The code is in the body and never in the subject: subjects are shown on locked screens (NIST SP 800-63B 3.1.3.1).
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address as MailAddress
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, Self

from otpvoice import recipients
from otpvoice.channels import rules
from otpvoice.channels.base import Channel, Finding, Message, Receipt
from otpvoice.channels.rules import Unfit
from otpvoice.channels.settings import ChannelSettings, rule
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    InvalidRequest,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    RecipientRejected,
)
from otpvoice.flow import Flow, call
from otpvoice.types import Capabilities, Medium

PROVIDER = "smtp"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_UNKNOWN_MAILBOX = frozenset({550, 551, 553})
_FULL_OR_AWAY = frozenset({450, 452, 552})


def _mailbox(value: object) -> str:
    try:
        found = recipients.parse(value) if isinstance(value, str) else None
    except InvalidRequest:
        found = None
    if found is None or found.kind != "email":
        raise Unfit("must be one plain mailbox, such as login@example.org")
    return str(found.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings(ChannelSettings):
    """Which server takes the mail, and who it is from."""

    host: str = field(metadata=rule(rules.text()))
    port: int | None = field(default=None, metadata=rule(rules.integer(1, 65535)))
    """587 for ``starttls``, 465 for ``tls``, 25 for ``none`` where it is not given."""
    security: str = field(default="starttls", metadata=rule(rules.choice("starttls", "tls", "none")))
    """``starttls`` (RFC 3207) refuses to go on without it; ``none`` is for a server on this machine only."""
    username: str | None = field(default=None, metadata=rule(rules.text()))
    password: str | None = field(default=None, metadata=rule(rules.secret()))
    sender: str = field(metadata=rule(_mailbox))
    """The mailbox in ``From``."""
    sender_name: str | None = field(default=None, metadata=rule(rules.text(longest=70)))
    timeout: float = field(default=15.0, metadata=rule(rules.seconds(0.1, 120)))
    """Seconds for each answer of the server."""
    ca_file: str | None = field(default=None, metadata=rule(rules.text()))
    """Root certificates of a server that only your company trusts; the system's where it is not given."""

    def contradictions(self) -> Iterable[str]:
        """A password goes over TLS, and mail without TLS stays on this machine."""
        if (self.username is None) != (self.password is None):
            yield "username and password go together"
        if self.security == "none" and self.host not in _LOOPBACK:
            yield 'security = "none" is for a server on this machine: use "starttls" or "tls"'


class Smtp(Channel):
    """Writes a code to a mailbox."""

    provider = PROVIDER
    medium = Medium.EMAIL

    def __init__(self, name: str, settings: SmtpSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self._clock = clock or SystemClock()
        self._tls = None if settings.security == "none" else ssl.create_default_context(cafile=settings.ca_file)

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`SmtpSettings`."""
        return cls(name, SmtpSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """Any text in any language."""
        return Capabilities(medium=Medium.EMAIL)

    def check(self, message: Message) -> None:
        """Also refuse a subject that holds the code or a line break."""
        super().check(message)
        if message.code in message.title or not message.title.isprintable():
            raise ContentRejected("the subject holds the code or a control character", provider=PROVIDER)

    def deliver(self, message: Message) -> Flow[Receipt]:
        """Hand the message to the server; the receipt's reference is its ``Message-ID``."""
        self.check(message)
        mail = self._mail(message)
        yield from call(lambda: self._send(mail))
        return Receipt(reference=str(mail["Message-ID"]).strip("<>"))

    def probe(self) -> Flow[list[Finding]]:
        """Connect, start TLS and log in; nothing is sent."""
        name = f"{self.name}: {PROVIDER} server"
        try:
            yield from call(lambda: self._connected().quit())
        except DeliveryError as error:
            return [Finding(name=name, ok=False, detail=str(error), remedy="check host, port, security and password")]
        return [Finding(name=name, ok=True, detail="takes connections and the login")]

    def _mail(self, message: Message) -> EmailMessage:
        settings = self.settings
        mail = EmailMessage()
        mail["Subject"] = message.title or "Your code"
        mail["From"] = MailAddress(settings.sender_name or "", addr_spec=settings.sender)
        mail["To"] = MailAddress(addr_spec=str(message.recipient.address))
        mail["Date"] = format_datetime(self._clock.now())
        # The delivery's id, so that a bounce can be told apart; it opens nothing.
        mail["Message-ID"] = make_msgid(idstring=message.delivery_id, domain=settings.sender.rpartition("@")[2])
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers.
        mail.set_content(str(message.text))
        mail["Content-Language"] = message.locale
        return mail

    def _send(self, mail: EmailMessage) -> None:
        server = self._connected()
        try:
            server.send_message(mail)
        except smtplib.SMTPException as error:
            raise _refusal(error) from None  # Its text may quote the recipient.
        except OSError as error:
            # After the last line of the message and before the server's answer: it may have been taken.
            raise OutcomeUnknown(
                f"{PROVIDER}: the connection broke while the message was handed over", provider=PROVIDER
            ) from error
        finally:
            server.close()

    def _connected(self) -> smtplib.SMTP:
        """A server that is ready to take mail. Raises what is safe to try again: nothing has been sent."""
        settings = self.settings
        port = settings.port or {"starttls": 587, "tls": 465, "none": 25}[settings.security]
        server: smtplib.SMTP | None = None
        try:
            if settings.security == "tls":
                server = smtplib.SMTP_SSL(settings.host, port, timeout=settings.timeout, context=self._tls)
            else:
                server = smtplib.SMTP(settings.host, port, timeout=settings.timeout)
            if settings.security == "starttls":
                server.starttls(context=self._tls)
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            if server is not None:
                server.close()
            raise _not_ready(error) from None
        return server


def _not_ready(error: Exception) -> DeliveryError:
    name = type(error).__name__
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return ProviderMisconfigured(f"{PROVIDER}: the login was refused", provider=PROVIDER, code=str(error.smtp_code))
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProviderMisconfigured(
            f"{PROVIDER}: the server's certificate could not be verified", provider=PROVIDER, code=name
        )
    if isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLError | ValueError):
        return ProviderMisconfigured(
            f"{PROVIDER}: the server does not do what the settings ask (TLS or login)", provider=PROVIDER, code=name
        )
    return ProviderUnavailable(f"{PROVIDER}: the server cannot be reached", provider=PROVIDER, code=name)


def _refusal(error: smtplib.SMTPException) -> DeliveryError:
    """What a refusal means, by RFC 5321's reply codes."""
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return OutcomeUnknown(f"{PROVIDER}: the server hung up while the message was handed over", provider=PROVIDER)
    code = _code(error)
    said: dict[str, Any] = {"provider": PROVIDER, "code": str(code or type(error).__name__)}
    if isinstance(error, smtplib.SMTPRecipientsRefused) and code in _UNKNOWN_MAILBOX:
        return RecipientRejected(f"{PROVIDER}: the server knows no such mailbox", **said)
    if code in _FULL_OR_AWAY or (code is not None and code == 421):
        return ProviderThrottled(f"{PROVIDER}: the server asks to try later", **said)
    if isinstance(error, smtplib.SMTPSenderRefused) or code in {530, 535, 538}:
        return ProviderMisconfigured(f"{PROVIDER}: the server does not take mail from this sender", **said)
    if code is not None and 400 <= code < 500:
        return ProviderUnavailable(f"{PROVIDER}: the server cannot take it now", **said)
    return ContentRejected(f"{PROVIDER}: the server refused the message", **said)


def _code(error: smtplib.SMTPException) -> int | None:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return next((answer[0] for answer in error.recipients.values()), None)
    return error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else None
