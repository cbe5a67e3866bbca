"""The memory channel, for your tests: what would be sent is kept, and it fails when told to.

::

    channel = Memory("voice")
    ...
    assert service.verify_code(challenge.id, channel.sent[-1].code)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Self

from otpvoice.channels import rules
from otpvoice.channels.base import Channel, Message, Receipt
from otpvoice.channels.settings import ChannelSettings, rule
from otpvoice.flow import Flow, call
from otpvoice.types import Capabilities, Medium


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings(ChannelSettings):
    """Settings of :class:`Memory`."""

    medium: str = field(default="voice", metadata=rule(rules.choice("voice", "sms", "email")))
    """What it stands in for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message that was sent, in plain ``str``; its ``repr`` shows no secret all the same."""

    code: str = field(repr=False)
    text: str = field(repr=False)
    title: str = ""
    recipient: str = field(repr=False)
    hint: str
    purpose: str
    locale: str
    language: str | None
    repeats: int
    challenge_id: str
    delivery_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    taken: bool


class Memory(Channel):
    """Keeps messages in :attr:`sent`. May be used by any number of threads."""

    provider = "memory"
    medium = Medium.VOICE

    def __init__(self, name: str = "voice", settings: MemorySettings | None = None) -> None:
        super().__init__(name)
        self.medium = Medium((settings or MemorySettings()).medium)
        self._lock = Lock()
        self._sent: list[Sent] = []
        self._failures: deque[_Failure] = deque()

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`MemorySettings`."""
        return cls(name, MemorySettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """No limits: any text, any language."""
        return Capabilities(medium=self.medium)

    @property
    def sent(self) -> tuple[Sent, ...]:
        """What was sent so far, oldest first."""
        with self._lock:
            return tuple(self._sent)

    def clear(self) -> None:
        """Forget what was sent, and the failures still to come."""
        with self._lock:
            self._sent.clear()
            self._failures.clear()

    def fail_with(self, error: Exception, *, times: int = 1, taken: bool = False) -> None:
        """Let the next ``times`` messages raise ``error``; further calls queue behind it.

        ``taken``: the message is in :attr:`sent` all the same, as with a provider that calls the person and whose
        answer is then lost (:class:`~otpvoice.errors.OutcomeUnknown`).
        """
        if times < 1:
            raise ValueError("times is 1 or more")
        with self._lock:
            self._failures.extend(_Failure(error, taken) for _ in range(times))

    def deliver(self, message: Message) -> Flow[Receipt]:
        """Keep the message, or raise what :meth:`fail_with` was given."""
        self.check(message)
        return (yield from call(lambda: self._keep(message)))

    def _keep(self, message: Message) -> Receipt:
        with self._lock:
            failure = self._failures.popleft() if self._failures else None
            if failure is None or failure.taken:
                self._sent.append(_plain(message))
            if failure is not None:
                raise failure.error
            return Receipt(reference=f"memory-{len(self._sent)}", delivered=True)


def _plain(message: Message) -> Sent:
    return Sent(
        code=str(message.code),
        text=str(message.text),
        title=message.title,
        recipient=str(message.recipient.address),
        hint=message.recipient.hint,
        purpose=message.purpose,
        locale=message.locale,
        language=message.language,
        repeats=message.repeats,
        challenge_id=message.challenge_id,
        delivery_id=message.delivery_id,
        expires_at=message.expires_at,
    )
