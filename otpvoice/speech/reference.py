"""The part of ``docs/speech.md`` that is made from the language files.

Run ``python -m otpvoice.speech.reference docs/speech.md`` after changing one; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from otpvoice.speech.compose import Utterance, compose
from otpvoice.speech.wordings import Wording, bundled
from otpvoice.types import Binding, Capabilities, Code, Medium

BEGIN = "<!-- begin: made by python -m otpvoice.speech.reference -->"
END = "<!-- end -->"
CODE = Code("482913")
PAYMENT = Binding(amount="1250.50", currency="EUR", payee="Example Shop")


def section() -> str:
    """Every language: its digits, why they have that form, and what is said and written."""
    wordings = bundled().by_tag.values()
    spoken = [item for item in wordings if item.voice]
    lines = ["| tag | language | voice | SMS, e-mail | 0 1 2 3 4 5 6 7 8 9 |", "|---|---|---|---|---|"]
    for item in wordings:
        words = " ".join(item.voice.spelling.digits) if item.voice else ""
        lines.append(f"| `{item.tag}` | {item.name} | {'yes' if item.voice else ''} | yes | {words} |")
    for item in (*spoken, *(item for item in wordings if not item.voice)):
        lines += ["", *_language(item)]
    return "\n".join(lines)


def _language(item: Wording) -> Iterator[str]:
    yield f"### {item.name} (`{item.tag}`)"
    yield ""
    if item.voice:
        said = _say(item, Medium.VOICE)
        yield f"Voice, {len(said.text)} characters, about {said.seconds:.0f} s:"
        yield from ("", f"> {said.text}", "", "A payment:", "", f"> {_say(item, Medium.VOICE, PAYMENT).text}", "")
        yield from (f"Why these digits: {item.voice.why}", "")
    yield from ("SMS:", "", f"> {_say(item, Medium.SMS).text}", "")
    yield f"How it was checked: {item.checked}"


def _say(item: Wording, medium: Medium, binding: Binding | None = None) -> Utterance:
    return compose(
        CODE,
        capabilities=Capabilities(medium=medium),
        purpose="login",
        valid_for=timedelta(minutes=5),
        locale=item.tag,
        brand="Example",
        binding=binding,
    )


def rewrite(page: str) -> str:
    """The page with its made part as it should be. Raises ``ValueError`` where the marks are missing."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{section()}\n{END}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(rewrite(file.read_text("utf-8")), "utf-8")
