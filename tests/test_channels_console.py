"""The console channel: for developers only, and it says so."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest

from otpvoice.channels.console import LABEL, Console, ConsoleSettings
from otpvoice.channels.contract import CODE, NUMBER, ChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.errors import ProviderUnavailable
from otpvoice.types import Medium, Text


class TestConsole(ChannelContract):
    settings: ClassVar[Mapping[str, object]] = {"medium": "sms"}
    shows_code = True

    def build(self, settings: Mapping[str, object]) -> Console:
        return Console.from_settings("sms", settings)


def _print(channel: Console, **changes: object) -> object:
    contract = TestConsole()
    return perform(channel.deliver(replace(contract.message(channel), **changes)), contract.answer)  # type: ignore[arg-type]


def test_prints_the_text_labelled_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The text goes to standard error, under a label, with the masked number; standard output stays clean."""
    receipt = _print(Console("voice"))
    out, err = capsys.readouterr()
    assert out == ""
    assert LABEL in err
    assert ", ".join(CODE) in err
    assert "+84•••••••78" in err
    assert NUMBER not in err
    assert receipt.delivered  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("medium", "verb"), [("voice", "would call"), ("sms", "would text"), ("email", "would e-mail")]
)
def test_says_what_it_stands_in_for(medium: str, verb: str) -> None:
    """Each medium is worded as what would have happened."""
    stream = io.StringIO()
    channel = Console("it", ConsoleSettings(medium=medium), stream=stream)
    assert channel.medium is Medium(medium)
    _print(channel)
    assert verb in stream.getvalue()


def test_text_cannot_steer_the_terminal() -> None:
    """Control characters in what is printed (a payee's name, say) become spaces."""
    stream = io.StringIO()
    _print(Console("voice", stream=stream), text=Text("pay\x1b[2J\r\nOK\x07 \u202eevil"), title="a\x1bb")
    printed = stream.getvalue()
    assert not set(printed) & set("\x1b\r\x07\u202e")
    assert printed.count("\n") == 3


def test_a_stream_that_is_closed_is_unavailable() -> None:
    """A stream that cannot be written to is a failed delivery, whose chain of causes does not hold the text."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(ProviderUnavailable) as caught:
        _print(Console("voice", stream=stream))
    assert CODE not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_narrow_stream_is_unavailable() -> None:
    """A terminal that cannot show the script is told as a failure; the encoding error would quote the text."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.raises(ProviderUnavailable) as caught:
        _print(Console("voice", stream=stream), text=Text(f"آپ کا کوڈ {CODE}"))
    assert caught.value.__context__ is None


def test_joiners_stay() -> None:
    """Zero-width joiners are spelling, not control."""
    stream = io.StringIO()
    _print(Console("voice", stream=stream), text=Text("क्\u200dष می\u200cخواهم"))
    assert "क्\u200dष می\u200cخواهم" in stream.getvalue()
