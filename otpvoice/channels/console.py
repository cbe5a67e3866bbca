"""The console channel, for development: what would be spoken or written is printed instead.

It prints the code. Never configure it where somebody else reads the terminal, or where standard error is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Self, TextIO

from otpvoice.channels import rules
from otpvoice.channels.base import Channel, Message, Receipt
from otpvoice.channels.settings import ChannelSettings, rule
from otpvoice.errors import ProviderUnavailable
from otpvoice.flow import Flow, call
from otpvoice.types import Capabilities, Medium

LABEL = "DEVELOPMENT ONLY: nothing is sent"

# Zero-width space, non-joiner and joiner: how Thai, Hindi or Persian is spelled.
_JOINERS = "\u200b\u200c\u200d"
_VERBS = {Medium.VOICE: "would call", Medium.SMS: "would text", Medium.EMAIL: "would e-mail"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings(ChannelSettings):
    """Settings of :class:`Console`."""

    medium: str = field(default="voice", metadata=rule(rules.choice("voice", "sms", "email")))
    """What it stands in for."""


class Console(Channel):
    """Prints messages to a stream, standard error by default."""

    provider = "console"
    medium = Medium.VOICE

    def __init__(self, name: str, settings: ConsoleSettings | None = None, *, stream: TextIO | None = None) -> None:
        super().__init__(name)
        self.medium = Medium((settings or ConsoleSettings()).medium)
        self._stream = stream
        self._lock = Lock()

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`ConsoleSettings`."""
        return cls(name, ConsoleSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """No limits: any text, any language."""
        return Capabilities(medium=self.medium)

    def deliver(self, message: Message) -> Flow[Receipt]:
        """Print the message. A closed or broken stream raises :class:`~otpvoice.errors.ProviderUnavailable`."""
        self.check(message)
        return (yield from call(lambda: self._print(message)))

    def _print(self, message: Message) -> Receipt:
        title = f" {printable(message.title)!r}" if message.title else ""
        lines = (
            f"── otpvoice ── {LABEL} ──",
            f"{self.name} {_VERBS[self.medium]} {message.recipient.hint} ({message.locale}){title}:",
            f"    {printable(message.text)}",
        )
        # Looked up late: a test or a server may have put another stream in its place since.
        stream = self._stream if self._stream is not None else sys.stderr
        try:
            with self._lock:
                stream.write("\n".join(lines) + "\n")
                stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed, or its encoding is too narrow.
            reason = type(error).__name__
        else:
            return Receipt(delivered=True)
        raise ProviderUnavailable("console: the stream cannot be written to", provider=self.provider, code=reason)


def printable(text: str) -> str:
    """Text without what could steer a terminal: control and direction characters become spaces."""
    return "".join(character if character.isprintable() or character in _JOINERS else " " for character in text)
