"""What a listener writes down."""

from __future__ import annotations

import string
import tomllib
from datetime import timedelta
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpvoice.simulator.hearing import ENGLISH, heard_code
from otpvoice.speech.compose import compose
from otpvoice.types import Binding, Capabilities, Code, Medium

unhurried = settings(deadline=None)  # the first call reads the locale files
CODES = st.text(string.digits, min_size=4, max_size=10)


def spelled(code: str, tag: str, separator: str = ", ") -> str:
    file = resources.files("otpvoice.speech") / "locales" / f"{tag}.toml"
    words = tomllib.loads(file.read_text(encoding="utf-8"))["voice"]["digits"]
    return separator.join(words[int(digit)] for digit in code)


@unhurried
@given(code=CODES, separator=st.sampled_from([", ", " ", "... ", " – ", ". ", ";\n"]))
def test_english_digit_words_are_heard(code: str, separator: str) -> None:
    """Whatever pause stands between them, in the middle of words that are no digits."""
    said = separator.join(ENGLISH[int(digit)] for digit in code)
    assert heard_code(f"Hello, someone. Your code is: {said}. Once more, your code is: {said.upper()}. Goodbye") == code


@unhurried
@given(code=CODES, zero=st.sampled_from("0٠०০๐０"))
def test_plain_digits_of_every_script_are_heard(code: str, zero: str) -> None:
    """Joined, or separated by pauses."""
    digits = "".join(chr(ord(zero) + int(digit)) for digit in code)
    assert heard_code(f"Code: {digits}") == code
    assert heard_code(f"Code: {', '.join(digits)}") == code


@pytest.mark.parametrize(
    "tag",
    sorted(
        file.name.removesuffix(".toml")
        for file in (resources.files("otpvoice.speech") / "locales").iterdir()
        if file.name.endswith(".toml") and "[voice]" in file.read_text(encoding="utf-8")
    ),
)
@unhurried
@given(code=CODES)
def test_every_language_with_a_file_is_heard(tag: str, code: str) -> None:
    """Spelled with its own words and said twice."""
    said = spelled(code, tag)
    assert heard_code(f"A: {said}. B: {said}.", language=tag) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", None),
        ("Hello", None),
        ("one two three", None),
        ("123", None),
        ("The number is one.", None),
        ("someone toone four five six", None),
        ("4829134829134829 13", "482913"),
        ("4, 8, 2, 9, 1, 3, 4, 8, 2, 9, 1, 3", "482913"),
        ("482913 is your code. @example.org #482913, pay 123456", "482913"),
        ("12345678901", None),
        ("\u200f482913\u200f", "482913"),
        ("four\u200b, eight, two, nine", "4829"),
        ("zero, zero, zero, zero", "0000"),
    ],
)
def test_what_is_and_what_is_no_code(text: str, code: str | None) -> None:
    """A code is 4 to 10 digits in a run; the one said most often counts."""
    assert heard_code(text) == code


def test_a_word_goes_on_with_its_vowel_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hindi: a digit word at the start of a longer word is not heard."""
    hindi = dict(zip(("शून्य", "एक", "दो", "तीन", "चार", "पाँच", "छह", "सात", "आठ", "नौ"), string.digits, strict=True))
    monkeypatch.setattr("otpvoice.simulator.hearing.vocabularies", lambda: {"hi": hindi})
    assert heard_code("चार, आठ, दो, नौ, एक, तीन", language="IN") == "482913"
    assert heard_code("चार, आठ, दो, एकांत", language="IN") is None


def test_scripts_without_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Japanese: the first digit follows a particle directly."""
    kana = ("ゼロ", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう")
    words = {word: str(value) for value, word in enumerate(kana)}
    monkeypatch.setattr("otpvoice.simulator.hearing.vocabularies", lambda: {"ja": words})
    assert heard_code("コードは、よん、はち、に、きゅう、いち、さん、です。", language="JP") == "482913"


@pytest.mark.parametrize("code", ["482913", "000000", "0123456789", "7766", "10203045"])
@pytest.mark.parametrize(
    "tag", ["en", "vi", "ja", "ar", "de", "hi", "it", "ko", "ru", "es", "pt-BR", "pt-PT", "id", "bn", "th"]
)
def test_what_otpvoice_says_is_heard(tag: str, code: str) -> None:
    """Whole sentences of the bundled wordings, with a brand, an amount and a payee around the code."""
    capabilities = Capabilities(medium=Medium.VOICE, languages={tag: tag}, max_text=800)
    for purpose, binding in (("login", None), ("payment", Binding(amount="1234.50", currency="EUR", payee="Acme"))):
        said = compose(
            Code(code),
            capabilities=capabilities,
            purpose=purpose,
            valid_for=timedelta(minutes=10),
            locale=tag,
            brand="Example",
            binding=binding,
        )
        assert heard_code(said.text, language=tag) == code
        assert heard_code(said.text) == code
