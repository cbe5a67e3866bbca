"""Codes: how they are made, read, tagged and compared."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otpvoice import codes
from otpvoice.errors import ConfigurationError
from otpvoice.keys import framed
from otpvoice.types import Code
from tests.hostile import NO_CODES

FAST = codes.hash_profile("fast")
TAG: dict[str, Any] = {
    "profile": FAST,
    "pepper": b"p" * 32,
    "salt": b"s" * 16,
    "tenant": "default",
    "challenge_id": "ch_1",
    "purpose": "login",
    "subject": "alice",
    "recipient_key": "r",
    "binding": b"b",
}


def test_codes_are_uniform() -> None:
    """P1: every digit at every place, first digits and leading zeros as often as chance wants.

    χ² with 9 degrees of freedom exceeds 50 by chance once in ten million; six places leave less than one false
    alarm in a million runs. ``randint(100000, 999999)`` gives about 2 200 at the first place, ``byte % 10`` about
    100 at each.
    """
    made = [codes.generate(6) for _ in range(20_000)]
    assert all(re.fullmatch("[0-9]{6}", code) for code in made)
    for place in range(6):
        seen = Counter(code[place] for code in made)
        expected = len(made) / 10
        chi_squared = sum((seen[digit] - expected) ** 2 / expected for digit in string.digits)
        assert chi_squared < 50, f"place {place}: {seen}"
    # 20 000 draws from a million: 199 repeats are expected, with a standard deviation of about 14.
    repeats = len(made) - len(set(made))
    assert abs(repeats - 199) < 8 * 14


def test_the_whole_space_is_asked_for() -> None:
    """The generator is given 10 to the length, no less: every code can come, the first and the last included."""
    asked: list[int] = []

    def last(bound: int) -> int:
        asked.append(bound)
        return bound - 1

    assert [codes.generate(length, randbelow=last) for length in (4, 6, 8, 10)] == [
        "9" * length for length in (4, 6, 8, 10)
    ]
    assert asked == [10**length for length in (4, 6, 8, 10)]


def test_leading_zeros_stay() -> None:
    """P3: ``000042`` is six characters and a ``str``; its repr shows none of them."""
    code = codes.generate(6, randbelow=lambda _: 42)
    assert code == "000042"
    assert isinstance(code, Code)
    assert "42" not in repr(code)


@pytest.mark.parametrize(
    "typed",
    [
        "012345",
        " 012345 ",
        "012 345",
        "012-345",
        "0 1 2 3 4 5",
        "012\u00a0345",
        "012–345",
        "012—345",
        "\u200e012345\u200f",
        "0\u200b1\u200b2\u200d345\ufeff",
        "\u2066012345\u2069",
        "012\t345\r\n",
        "٠١٢٣٤٥",
        "۰۱۲۳۴۵",
        "０１２３４５",
        "०१२३४५",
        "๐๑๒๓๔๕",
        "０1٢३४๕",
        "𝟎𝟏𝟐𝟑𝟒𝟓",
    ],
)
def test_what_people_type_is_understood(typed: str) -> None:
    """P46: any script's decimal digits, blanks, dashes and invisible marks."""
    assert codes.normalise(typed) == "012345"


@pytest.mark.parametrize("typed", NO_CODES)
def test_everything_else_is_no_code(typed: str) -> None:
    """P46: refused, never an exception and never a guess at what was meant."""
    assert codes.normalise(typed) is None


@given(st.text(max_size=80))
@example("1" * 64)
def test_what_is_read_is_always_ascii_digits(typed: str) -> None:
    """Whatever comes in: None, or 4 to 10 ASCII digits that read as themselves."""
    code = codes.normalise(typed)
    if code is None:
        return
    assert re.fullmatch("[0-9]{4,10}", code)
    assert codes.normalise(code) == code


@given(st.from_regex("[0-9]{4,10}", fullmatch=True), st.sampled_from([0x30, 0x660, 0x6F0, 0x966, 0xE50, 0xFF10]))
def test_scripts_do_not_change_the_digits(code: str, zero: int) -> None:
    """The same digits in another script are the same code."""
    assert codes.normalise("".join(chr(zero + int(digit)) for digit in code)) == code


def test_length_is_looked_at_before_the_text() -> None:
    """P47: 65 characters are refused unread; 64 that hold six digits are read."""
    assert codes.normalise("123456" + " " * 58) == "123456"
    assert codes.normalise("123456" + " " * 59) is None


@pytest.mark.parametrize(
    "other",
    [
        {"pepper": b"q" * 32},
        {"salt": b"t" * 16},
        {"tenant": "other"},
        {"challenge_id": "ch_2"},
        {"purpose": "reset"},
        {"subject": "mallory"},
        {"subject": None},
        {"recipient_key": "s"},
        {"recipient_key": None},
        {"binding": b"c"},
        {"binding": None},
    ],
)
def test_a_tag_is_bound_to_everything(other: dict[str, Any]) -> None:
    """P11 to P14 and P68: one changed member gives another tag, so a copied row verifies nothing."""
    code = Code("012345")
    assert codes.tag(code, **TAG) == codes.tag(code, **TAG)
    assert codes.tag(code, **TAG) != codes.tag(code, **(TAG | other))


def test_a_tag_is_of_its_code_and_profile() -> None:
    """Another code, a lost leading zero and another profile give other tags; 32 bytes each."""
    tags = {
        codes.tag(Code("012345"), **TAG),
        codes.tag(Code("12345"), **TAG),
        codes.tag(Code("012346"), **TAG),
        codes.tag(Code("012345"), **(TAG | {"profile": codes.hash_profile("owasp")})),
    }
    assert len(tags) == 4
    assert {len(tag) for tag in tags} == {codes.TAG_BYTES}


def test_fields_cannot_flow_into_each_other() -> None:
    """``("a", "bc")`` and ``("ab", "c")`` differ, and None is not the empty text."""
    assert codes.tag(Code("1234"), **(TAG | {"tenant": "a", "challenge_id": "bc"})) != codes.tag(
        Code("1234"), **(TAG | {"tenant": "ab", "challenge_id": "c"})
    )
    assert codes.tag(Code("1234"), **(TAG | {"subject": ""})) != codes.tag(Code("1234"), **(TAG | {"subject": None}))


@given(
    st.lists(st.none() | st.binary(max_size=6), max_size=5),
    st.lists(st.none() | st.binary(max_size=6), max_size=5),
)
def test_framing_is_injective(one: list[bytes | None], other: list[bytes | None]) -> None:
    """No two lists of fields give the same bytes."""
    assert (framed(*one) == framed(*other)) == (one == other)


def test_profiles_are_the_documented_ones() -> None:
    """OWASP's row of 12 MiB, t=3, p=1; and one for volume. A row cannot name parameters of its own (P73)."""
    owasp = codes.hash_profile("owasp")
    assert (owasp.memory, owasp.passes, owasp.lanes) == (12_288, 3, 1)
    assert FAST.memory < owasp.memory
    for wrong in ("", "OWASP", "argon2id", "m=4194304", "../owasp"):
        with pytest.raises(ConfigurationError, match="fast, owasp"):
            codes.hash_profile(wrong)


def test_matching_finds_the_one_that_is_equal() -> None:
    """All tags are looked at; none that merely begins alike is taken."""
    tags = [("a", b"x" * 32), ("b", b"x" * 31 + b"y"), ("c", b"z" * 32)]
    assert codes.matching(b"x" * 31 + b"y", tags) == "b"
    assert codes.matching(b"x" * 31, tags) is None
    assert codes.matching(b"", []) is None


def test_salts_differ() -> None:
    """16 random bytes each."""
    assert len({codes.new_salt() for _ in range(100)}) == 100
    assert len(codes.new_salt()) == 16
    assert math.log2(256**codes.SALT_BYTES) == 128
