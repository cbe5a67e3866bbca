"""What a listener writes down: the digits in a spoken text."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHORTEST, LONGEST = 4, 10
PROVIDER_LANGUAGES = {"vn": "vi", "jp": "ja", "arb": "ar", "in": "hi", "kr": "ko", "idn": "id", "bd": "bn"}
"""The provider's language codes that are not the language's own."""
SPACELESS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff]")
"""Thai, kana and han are written without spaces: a digit word there may follow another word directly."""
UNHEARD = str.maketrans("", "", "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069\ufeff")


def heard_code(text: str, *, language: str | None = None) -> str | None:
    """The code that a person listening to ``text`` writes down, or None.

    Understands digits of every script and the digit words of every language that otpvoice has a locale file for
    (English always). A code is a run of 4 to 10 digits with nothing but pauses between them; of several runs the
    one said most often counts, then the longest, then the first. ``language`` (BCP-47, ``vi-VN``, or the
    provider's code, ``VN``) settles which language's words are tried first.
    """
    clean = _fold(text)
    # Words that languages share are heard under each: the language that understands most digits is the text's.
    runs = max((list(_runs(clean, words)) for words in _vocabularies(language)), key=lambda runs: sum(map(len, runs)))
    said = Counter(code for run in runs for code in _unfold(run) if SHORTEST <= len(code) <= LONGEST)
    return max(said, key=lambda code: (said[code], len(code)), default=None)


def _runs(text: str, words: Mapping[str, str]) -> Iterator[str]:
    folded, one, run = _patterns(tuple(words.items()))
    for found in run.finditer(text):
        yield "".join(_value(part, folded) for part in one.findall(found.group()))


@lru_cache(maxsize=128)
def _patterns(words: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, str], re.Pattern[str], re.Pattern[str]]:
    """The words as they are found, one digit, and a run of digits with nothing between that is read aloud."""
    folded = {_fold(word): value for word, value in words}
    ends = r"(?<![^\W\d_])", r"(?![^\W\d_])"
    one = "|".join(
        [r"\d"]
        + [
            re.escape(word) if SPACELESS.search(word) else re.escape(word).join(ends)
            for word in sorted(folded, key=len, reverse=True)
        ]
    )
    return folded, re.compile(one), re.compile(rf"(?:{one})(?:[\W_]*(?:{one}))*")


def _fold(text: str) -> str:
    """One form of every word. Vowel signs and tone marks become letters: a word goes on with them."""
    return unicodedata.normalize("NFC", text.translate(UNHEARD).casefold()).translate(_marks_as_letters())


@lru_cache(maxsize=1)
def _marks_as_letters() -> Mapping[int, int]:
    """Every combining mark of the Basic Multilingual Plane, mapped to a letter of a plane that no text here uses."""
    marks = (point for point in range(0x10000) if unicodedata.category(chr(point)) in {"Mn", "Mc"})
    return {point: 0x20000 + place for place, point in enumerate(marks)}


def _value(part: str, words: Mapping[str, str]) -> str:
    return words[part] if part in words else str(unicodedata.decimal(part))


def _unfold(digits: str) -> list[str]:
    """A run longer than any code is the same code said several times without a word between."""
    if len(digits) <= LONGEST:
        return [digits]
    for size in range(LONGEST, SHORTEST - 1, -1):
        times, rest = divmod(len(digits), size)
        if not rest and digits == digits[:size] * times:
            return [digits[:size]] * times
    return [digits]


def _vocabularies(language: str | None) -> list[Mapping[str, str]]:
    by_language = vocabularies()
    wanted = (language or "en").casefold()
    wanted = PROVIDER_LANGUAGES.get(wanted, wanted)
    return [by_language[tag] for tag in sorted(by_language, key=lambda tag: tag.split("-")[0] != wanted.split("-")[0])]


@lru_cache(maxsize=1)
def vocabularies() -> Mapping[str, Mapping[str, str]]:
    """Language tag → digit word → digit, from the locale files that are there; English in any case."""
    found: dict[str, dict[str, str]] = {"en": {word: str(value) for value, word in enumerate(ENGLISH)}}
    folder = resources.files("otpvoice.speech") / "locales"
    if folder.is_dir():
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                words = _digit_words(tomllib.loads(file.read_text(encoding="utf-8")))
                found.setdefault(file.name.removesuffix(".toml").casefold(), {}).update(words)
    return {tag: words for tag, words in found.items() if words}


def _digit_words(data: Mapping[str, object]) -> dict[str, str]:
    """The ten words of a file; none for a language that is written and not spoken."""
    voice = data.get("voice")
    digits = voice.get("digits") if isinstance(voice, dict) else None
    return {word: str(value) for value, word in enumerate(digits or ())}
