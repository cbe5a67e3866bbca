"""For any code and language: within limits, said once per repetition, no other digits, and read back unchanged."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otpvoice.codes import normalise
from otpvoice.errors import ContentRejected, InvalidRequest
from otpvoice.simulator.hearing import heard_code
from otpvoice.speech import gsm
from otpvoice.speech.names import brand_name, payee_name
from otpvoice.speech.wordings import bundled
from otpvoice.types import Binding
from tests.speech_helpers import ALL_TAGS, EMAIL, ITNIO, SMS, VOICE_TAGS, say

CODES = st.text("0123456789", min_size=4, max_size=10)
PURPOSES = st.sampled_from(["login", "payment", "signup", "reset", "x"])
NAMES = st.one_of(
    st.text(max_size=40),
    st.text("ab7 .,-&'\"/{}[]\u202e\u200f\U0001f680\n", max_size=40),
    st.sampled_from(
        ["7-Eleven", "3M", "Studio 54", "Booking.com", "Société Générale", "三菱UFJ銀行", "O'Reilly & Sons"]
    ),
)
AMOUNTS = st.decimals(min_value=0, max_value=10**12 - 1, places=2).map(lambda value: f"{value:.2f}")
CURRENCIES = st.sampled_from(["EUR", "USD", "GBP", "JPY", "VND", "INR", "KWD", "CHF", "BRL", "XAU"])
quick = settings(max_examples=60, deadline=None)


@quick
@given(code=CODES, tag=st.sampled_from(VOICE_TAGS), purpose=PURPOSES)
@example(code="0000000000", tag="th", purpose="login")
def test_a_spoken_code_reads_back_and_nothing_else_is_a_digit(code, tag, purpose):
    said = say(code, locale=tag, purpose=purpose)
    spelling = bundled().by_tag[tag].voice.spelling
    limit = ITNIO.text_limit(said.language)
    assert limit is not None
    assert len(said.text) <= limit
    assert spelling.read_back(said.text) == [code, code]
    assert spelling.strays(said.text) == []
    assert not any(unicodedata.category(character)[0] == "N" for character in said.text)


@quick
@given(code=CODES, tag=st.sampled_from(VOICE_TAGS))
def test_another_listener_writes_down_the_same_code(code, tag):
    """The simulator's ear was written apart from this speech."""
    assert heard_code(say(code, locale=tag).text, language=tag) == code


@quick
@given(code=CODES, tag=st.sampled_from(ALL_TAGS), purpose=PURPOSES, brand=st.sampled_from(["", "Acme", "Studio 54"]))
def test_a_written_code_is_there_once_and_reads_back(code, tag, purpose, brand):
    for capabilities in (SMS, EMAIL):
        said = say(code, capabilities=capabilities, locale=tag, purpose=purpose, brand=brand)
        assert [normalise(run) for run in re.findall(r"\d{4,}", said.text)] == [code]
    assert gsm.segments(say(code, capabilities=SMS, locale=tag, purpose=purpose, brand=brand).text) == 1


@quick
@given(tag=st.sampled_from(VOICE_TAGS), brand=NAMES, payee=NAMES, amount=AMOUNTS, currency=CURRENCIES)
def test_whatever_a_payment_says_only_the_code_is_heard_as_one(tag, brand, payee, amount, currency):
    binding = Binding(amount=amount, currency=currency, payee=payee)
    try:
        said = say("907182", locale=tag, brand=brand, binding=binding)
    except (InvalidRequest, ContentRejected):
        return
    assert bundled().by_tag[tag].voice.spelling.read_back(said.text) == ["907182", "907182"]
    assert not any(unicodedata.category(character) == "Nd" for character in said.text)
    assert len(said.text) <= (ITNIO.text_limit(said.language) or 0)


@quick
@given(tag=st.sampled_from(ALL_TAGS), brand=NAMES, payee=NAMES, amount=AMOUNTS, currency=CURRENCIES)
def test_whatever_a_written_payment_says_only_the_code_has_four_digits(tag, brand, payee, amount, currency):
    binding = Binding(amount=amount, currency=currency, payee=payee)
    for capabilities in (SMS, EMAIL):
        try:
            said = say("907182", capabilities=capabilities, locale=tag, brand=brand, binding=binding)
        except InvalidRequest:
            continue
        assert re.findall(r"\d{4,}", said.text) == ["907182"]
        assert "\n" not in said.title
        assert not re.search(r"://|[\x00-\x09\x0b-\x1f\u200f\u202e]", said.text + said.title)


@settings(max_examples=300, deadline=None)
@given(name=st.text(max_size=70))
def test_a_name_is_harmless_or_refused(name):
    for clean in (brand_name, payee_name):
        try:
            said = clean(name)
        except InvalidRequest:
            continue
        categories = {unicodedata.category(character)[0] for character in said} - {"L", "M", "N"}
        assert categories <= {"P", "Z", "S"}
        assert not re.search(r"[\r\n\t{}\[\]<>\"]|://|\w\.\w|\d{4}", said)
        assert said == " ".join(said.split())
        assert clean(said) == said


@pytest.mark.parametrize("text", ["four, eight, two", "four eight", "forty eight", ""])
def test_fewer_than_four_digit_words_are_no_code(text):
    assert bundled().by_tag["en"].voice.spelling.read_back(text) == []
