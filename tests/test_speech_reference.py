"""The reference page shows what is really said."""

from __future__ import annotations

from pathlib import Path

import pytest

from otpvoice.speech.reference import rewrite
from tests.speech_helpers import ALL_TAGS

PAGE = Path(__file__).parent.parent / "docs" / "speech.md"


def test_the_page_is_up_to_date():
    page = PAGE.read_text("utf-8")
    assert rewrite(page) == page, "run python -m otpvoice.speech.reference docs/speech.md"


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_the_page_has_every_language(tag):
    assert f"(`{tag}`)\n" in PAGE.read_text("utf-8")


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="begin"):
        rewrite("# Speech")
