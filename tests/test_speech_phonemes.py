"""Engines speak every digit, one by one, in order: espeak-ng in every voice language, flite in English."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from otpvoice.speech import render
from otpvoice.speech.wordings import bundled
from tests.speech_helpers import VOICE, VOICE_TAGS, all_neighbours, say

CODES = (*all_neighbours(), "000000", "007007", "555555", "0042", "12345678", "9988776655")
"""Every digit, every pair of neighbours, leading zeros, repeated digits, other lengths."""

needs_espeak = pytest.mark.skipif(not render.available(), reason="espeak-ng is not installed (apt install espeak-ng)")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed (apt install flite)")


def clauses(texts: list[str], voice: str) -> list[str]:
    """What is said between two pauses, without stress and spaces, of many texts in one run."""
    spoken = render.phonemes("\n\n".join(texts), voice=voice)
    plain = (re.sub(r"[ˈˌ\s]|\([a-z-]+\)", "", clause) for clause in spoken)
    return [clause for clause in plain if clause]


def times(wanted: list[str], spoken: list[str]) -> int:
    return sum(spoken[start : start + len(wanted)] == wanted for start in range(len(spoken)))


def ten_words(tag: str) -> list[str]:
    voice = bundled().by_tag[tag].voice
    return clauses([voice.spelling.pause.join(voice.spelling.digits) + voice.spelling.last], voice.espeak)


@needs_espeak
@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_ten_digit_words_are_ten_sounds(tag):
    words = ten_words(tag)
    assert len(words) == 10
    assert len(set(words)) == 10


@needs_espeak
@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_each_digit_of_a_code_is_a_clause_of_its_own_twice_and_in_order(tag):
    words, voice = ten_words(tag), bundled().by_tag[tag].voice.espeak
    spoken = clauses([say(code, capabilities=VOICE, locale=tag).text for code in CODES], voice)
    for code in CODES:
        assert times([words[int(digit)] for digit in code], spoken) == 2, code


@needs_espeak
@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_the_bare_number_is_not_heard_digit_by_digit(tag):
    """The reason for spelling: not one bare number is ten words with pauses, and none without a leading zero
    has the sounds of its digits in order."""
    words, voice = ten_words(tag), bundled().by_tag[tag].voice.espeak
    spoken = clauses(list(CODES), voice)
    assert len(spoken) == len(CODES), "a number has no pauses"
    for code, sounds in zip(CODES, spoken, strict=True):
        if not code.startswith("0"):
            assert "".join(words[int(digit)] for digit in code) not in sounds, code


@needs_espeak
def test_forms_that_engines_read_differently_are_avoided_for_a_reason():
    assert "dæʃ" in "".join(clauses(["4-8-2"], "en-us"))
    assert clauses(["４８２９１３"], "en-us") == []
    assert len(clauses(["four, eight, two. nine, one, three."], "en-us")) == 5, "a small letter swallows the pause"
    assert len(clauses(["four, eight, two. Nine, one, three."], "en-us")) == 6


@needs_espeak
@pytest.mark.parametrize("tag", sorted({*VOICE_TAGS} - {"ar", "ja", "th"}))
def test_number_words_sound_like_espeaks_own_reading_of_the_number(tag):
    """An independent check of the number rules. Not for Arabic (espeak-ng leaves out unwritten vowels), Japanese
    (it reads other words for 4 and 7) and Thai (it cannot spell)."""
    from difflib import SequenceMatcher

    voice = bundled().by_tag[tag].voice
    numbers = [*range(10, 31), *range(31, 100, 4), 100, 101, 305, 999, 1100, 2300]
    ours = clauses([voice.money.words.spell(number) for number in numbers], voice.espeak)
    theirs = clauses([str(number) for number in numbers], voice.espeak)
    assert len(ours) == len(theirs) == len(numbers)
    for number, mine, its in zip(numbers, ours, theirs, strict=True):
        if (tag, number) not in {("bn", 20)}:  # espeak-ng says the older word, কুড়ি.
            assert SequenceMatcher(None, mine, its).ratio() > 0.5, (number, mine, its)


@needs_espeak
@pytest.mark.parametrize("tag", sorted({*VOICE_TAGS} - {"ja"}))
def test_a_call_is_expected_to_last_at_least_as_long_as_it_does(tag, tmp_path):
    """At a calm speed, and not half as long again: a provider that hangs up on time does so after the last word.
    Not for Japanese, whose kanji espeak-ng spells out."""
    import wave

    voice = bundled().by_tag[tag].voice
    for code in ("482913", "9081726354"):
        said = say(code, capabilities=VOICE, locale=tag, brand="Example")
        render.render(said.text, voice=voice.espeak, path=tmp_path / "call.wav")
        with wave.open(str(tmp_path / "call.wav")) as recording:
            lasts = recording.getnframes() / recording.getframerate()
        assert lasts <= said.seconds * 1.01
        assert said.seconds <= lasts * 1.5


@needs_flite
def test_flite_confirms_that_english_digits_are_spoken_one_by_one():
    def segments(text: str) -> list[str]:
        done = subprocess.run(["flite", "-ps", "-t", text, "none"], capture_output=True, text=True, check=True)
        return [part.replace(" ", "") for part in done.stdout.split(" pau ") if part.strip(" pau\n")]

    words = [sound.removeprefix("pau") for sound in segments(", ".join(bundled().by_tag["en"].voice.spelling.digits))]
    assert len(set(words)) == 10
    for code in CODES:
        spoken = segments(say(code, capabilities=VOICE, locale="en").text)
        assert times([words[int(digit)] for digit in code], spoken) == 2, code
        assert times([words[int(digit)] for digit in code], segments(f"Your code is: {code}.")) == 0, code
