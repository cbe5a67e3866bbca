"""Digits as words: how a code is spoken, and what a listener would type for a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

GROUPS = {4: (4,), 5: (5,), 6: (3, 3), 7: (3, 4), 8: (4, 4), 9: (3, 3, 3), 10: (3, 3, 4)}
"""How codes of 4 to 10 digits are grouped by the longer pause: what people can hold in mind."""

_WORD = re.compile(r"[^\s.,:;!?…。、，：！？।॥،؛؟()\[\]\"'“”„«»「」–—/\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How one language speaks digits one by one."""

    digits: tuple[str, ...]
    """The words for 0 to 9, as people read out telephone numbers."""
    pause: str = ", "
    """After a digit: what every engine turns into a short silence, and none reads aloud."""
    middle: str = ". "
    """Between the groups of a code: a longer silence."""
    last: str = "."
    """After the last digit."""

    def spell(self, code: str) -> str:
        """The words of a code of 4 to 10 ASCII digits, with a pause after each."""
        words = [self.digits[int(digit)] for digit in code]
        groups, start = [], 0
        for size in GROUPS[len(code)]:
            groups.append(self.pause.join(words[start : start + size]))
            start += size
        # A capital after the longer pause: espeak-ng takes "two. nine" for an abbreviation and runs it together.
        return self.middle.join([groups[0], *(capital(group) for group in groups[1:])]) + self.last

    def read_back(self, text: str) -> list[str]:
        """The codes that a listener hears in a text: every run of four or more digit words, as ASCII digits."""
        return ["".join(run) for run in self._runs(text) if len(run) >= min(GROUPS)]

    def read_words(self, text: str) -> str:
        """All digit words of a text as ASCII digits, wherever they stand."""
        return "".join("".join(run) for run in self._runs(text))

    def strays(self, text: str) -> list[str]:
        """Digit words that stand alone or in short runs: they could be taken for a part of the code."""
        return ["".join(run) for run in self._runs(text) if len(run) < min(GROUPS)]

    def _runs(self, text: str) -> Iterator[list[str]]:
        values = {word.casefold(): str(value) for value, word in enumerate(self.digits)}
        run: list[str] = []
        for word in _WORD.findall(text):
            digit = values.get(word.casefold())
            if digit is not None:
                run.append(digit)
            elif run:
                yield run
                run = []
        if run:
            yield run


def capital(text: str) -> str:
    """The text with its first letter in upper case; scripts without case stay as they are."""
    return text[:1].upper() + text[1:]
