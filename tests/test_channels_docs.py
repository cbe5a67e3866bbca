"""The code of docs/channels.md runs, and its channels keep the contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from otpvoice.channels.contract import CODE, NUMBER, ChannelContract, HttpChannelContract
from otpvoice.channels.contract_tools import perform
from otpvoice.channels.itnio import LEGACY_LANGUAGES
from otpvoice.channels.itnio_status import VOICE_STATUS
from otpvoice.channels.registry import BUNDLED

PAGE = (Path(__file__).parent.parent / "docs" / "channels.md").read_text(encoding="utf-8")
SENT: list[tuple[str, str]] = []


def run() -> ModuleType:
    """The page's Python, from top to bottom, as one module."""
    module = ModuleType("channels_page")
    sys.modules[module.__name__] = module  # Dataclasses look their module up.
    vars(module)["send_sms"] = lambda number, text: SENT.append((number, text))
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/channels.md", "exec", dont_inherit=True), vars(module))
    return module


MODULE = run()
TestAcmeOfThePage = MODULE.TestAcmeSMS
"""The page's HTTP channel under the page's own subclass of the suite."""


class TestOurSMSOfThePage(ChannelContract):
    """The page's ten-line channel under the suite."""

    settings: ClassVar[Mapping[str, object]] = {}

    def build(self, settings: Any) -> Any:
        return MODULE.OurSMS.from_settings("sms", settings)


def test_the_page_uses_the_suite() -> None:
    """The subclass above runs the shipped tests, not an empty class."""
    assert issubclass(TestAcmeOfThePage, HttpChannelContract)


def test_ten_lines_send() -> None:
    """The user's own function gets number and text as they are."""
    suite = TestOurSMSOfThePage()
    channel = suite.build({})
    SENT.clear()
    perform(channel.deliver(suite.message(channel)), suite.answer)
    ((number, text),) = SENT
    assert number == NUMBER
    assert CODE in text


@pytest.mark.parametrize("name", BUNDLED)
def test_every_type_is_described(name: str) -> None:
    """Each bundled type has a row and a section."""
    assert f"`{name}`" in PAGE
    assert f"\n## {name}\n" in PAGE


def test_statuses_and_languages_are_whole() -> None:
    """The page's tables name each documented status and each language."""
    for status in VOICE_STATUS:
        assert f"`{status}`" in PAGE
    for tag in LEGACY_LANGUAGES:
        assert f"`{tag}`" in PAGE
