"""The memory channel: what users' tests rely on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from otpvoice.channels.contract import CODE, DELIVERY_ID, MAILBOX, NUMBER, ChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.memory import Memory, MemorySettings
from otpvoice.errors import ConfigurationError, OutcomeUnknown, ProviderUnavailable
from otpvoice.types import Medium


class TestMemory(ChannelContract):
    settings: ClassVar[Mapping[str, object]] = {"medium": "voice"}

    def build(self, settings: Mapping[str, object]) -> Memory:
        return Memory.from_settings("voice", settings)


class TestMemoryForEmail(TestMemory):
    settings: ClassVar[Mapping[str, object]] = {"medium": "email"}


def _send(channel: Memory) -> object:
    return perform(channel.deliver(TestMemory().message(channel)), TestMemory().answer)


def test_sent_holds_plain_values() -> None:
    """``sent[-1].code`` is an ordinary ``str``, to be typed, compared and printed."""
    channel = Memory("voice")
    _send(channel)
    sent = channel.sent[-1]
    assert sent.code == CODE
    assert type(sent.code) is type(sent.text) is type(sent.recipient) is str
    assert sent.recipient == NUMBER
    assert sent.delivery_id == DELIVERY_ID
    assert CODE in sent.text


def test_repr_of_sent_is_silent() -> None:
    """A printed message shows neither code, text nor number: test logs are kept, too."""
    channel = Memory("voice")
    _send(channel)
    for secret in (CODE, NUMBER, ", ".join(CODE)):
        assert secret not in repr(channel.sent)


def test_medium_is_selectable() -> None:
    """One class stands in for any medium; the default is voice."""
    assert Memory().medium is Medium.VOICE
    assert Memory("sms", MemorySettings(medium="sms")).capabilities.medium is Medium.SMS
    mail = Memory("mail", MemorySettings(medium="email"))
    _send(mail)
    assert mail.sent[-1].recipient == MAILBOX
    with pytest.raises(ConfigurationError, match="medium must be one of voice, sms, email"):
        MemorySettings(medium="fax")


def test_fail_with_fails_so_often_and_no_more() -> None:
    """Failures come in the order they were asked for; a failed message was not sent."""
    channel = Memory("voice")
    channel.fail_with(ProviderUnavailable("down"), times=2)
    channel.fail_with(OutcomeUnknown("lost"))
    for kind in (ProviderUnavailable, ProviderUnavailable, OutcomeUnknown):
        with pytest.raises(kind):
            _send(channel)
    assert channel.sent == ()
    _send(channel)
    assert len(channel.sent) == 1


def test_taken_and_failed() -> None:
    """``taken``: the person is called, and the answer is lost."""
    channel = Memory("voice")
    channel.fail_with(OutcomeUnknown("lost"), taken=True)
    with pytest.raises(OutcomeUnknown):
        _send(channel)
    assert channel.sent[-1].code == CODE


def test_fail_with_refuses_nonsense() -> None:
    """Failing zero times is a mistake in the test that asks for it."""
    with pytest.raises(ValueError, match="1 or more"):
        Memory().fail_with(ProviderUnavailable("down"), times=0)


def test_clear() -> None:
    """``clear`` forgets messages and failures still to come."""
    channel = Memory()
    _send(channel)
    channel.fail_with(ProviderUnavailable("down"))
    channel.clear()
    assert channel.sent == ()
    _send(channel)


def test_is_thread_safe() -> None:
    """Of 400 deliveries in 8 threads exactly the 50 that were told to fail do, and no message is lost."""
    channel = Memory()
    channel.fail_with(ProviderUnavailable("down"), times=50)

    def one(_: int) -> bool:
        try:
            _send(channel)
        except ProviderUnavailable:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(400)))
    assert outcomes.count(False) == 50
    assert len(channel.sent) == 350
