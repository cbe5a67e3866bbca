"""Amounts are spoken in words, and written so that no part of them looks like a code."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice.errors import ConfigurationError, InvalidRequest
from otpvoice.speech.money import LARGEST, NumberWords, parse_amount, write_amount
from otpvoice.speech.wordings import bundled
from tests.speech_helpers import ALL_TAGS, VOICE_TAGS


def words(tag: str) -> NumberWords:
    return bundled().by_tag[tag].voice.money.words


@pytest.mark.parametrize(
    ("tag", "number", "spoken"),
    [
        ("en", 1_234_567, "one million two hundred thirty-four thousand five hundred sixty-seven"),
        ("de", 1_021_000, "eine Million einundzwanzigtausend"),
        ("de", 316, "dreihundertsechzehn"),
        ("es", 1_000_000, "un millón de"),
        ("es", 2_000_500_101, "dos mil millones quinientos mil ciento un"),
        ("it", 21_128, "ventunomila centoventotto"),
        ("it", 1_000, "mille"),
        ("pt-BR", 1_200, "mil e duzentos"),
        ("pt-BR", 1_250, "mil duzentos e cinquenta"),
        ("pt-PT", 16, "dezasseis"),
        ("ru", 2_021, "две тысячи двадцать один"),
        ("ru", 5_000_000, "пять миллионов"),
        ("vi", 15, "mười lăm"),
        ("vi", 21, "hai mươi mốt"),
        ("vi", 1_005, "một nghìn không trăm linh năm"),
        ("id", 1_111, "seribu seratus sebelas"),
        ("th", 21, "ยี่สิบเอ็ด"),
        ("th", 101, "หนึ่งร้อยเอ็ด"),
        ("ko", 10_000, "만"),
        ("ko", 123_456_789, "일억 이천삼백사십오만 육천칠백팔십구"),
        ("ja", 3_600, "さんぜんろっぴゃく"),
        ("ja", 10_000, "いちまん"),
        ("hi", 1_250_000, "बारह लाख पचास हज़ार"),
        ("bn", 10_000_000, "এক কোটি"),
        ("ar", 2_025, "ألفان وخمسة وعشرون"),
        ("ar", 11_000, "أحد عشر ألفا"),
    ],
)
def test_numbers_as_people_say_them(tag, number, spoken):
    assert words(tag).spell(number) == spoken


@pytest.mark.parametrize("tag", VOICE_TAGS)
@pytest.mark.parametrize("rules", ["%main", "%feminine", "%decimal"])
def test_every_number_has_words_of_its_own(tag, rules):
    """No numeral is left over, no rule is missing, and no two numbers sound the same."""
    numbers = [*range(1200), *range(1990, 2110), *(10**power + rest for power in range(4, 12) for rest in (0, 1, 21))]
    spoken = [words(tag).spell(number, rules) for number in numbers]
    assert len(set(spoken)) == len(set(numbers))
    assert not any(re.search(r"[\d<>\[\]()=%|]", text) for text in spoken)


@given(st.integers(0, LARGEST))
def test_any_amount_can_be_said(number):
    for tag in VOICE_TAGS:
        assert words(tag).spell(number)


@pytest.mark.parametrize(
    ("tag", "amount", "currency", "spoken"),
    [
        ("en", "1", "GBP", "one British pound"),
        ("en", "1.00", "USD", "one US dollar"),
        ("en", "10.50", "USD", "ten point five zero US dollars"),
        ("en", "250000", "VND", "two hundred fifty thousand Vietnamese dong"),
        ("de", "1", "TRY", "eine Türkische Lira"),
        ("de", "12.05", "EUR", "zwölf Euro null fünf"),
        ("de", "12.01", "EUR", "zwölf Euro null eins"),
        ("de", "1.01", "EUR", "ein Euro null eins"),
        ("it", "12.01", "EUR", "dodici euro e zero uno"),
        ("es", "12.31", "EUR", "doce euros con treinta y uno"),
        ("pt-BR", "221", "GBP", "duzentas e vinte e uma Libras esterlinas"),
        ("pt-PT", "2200", "GBP", "duas mil e duzentas libras esterlinas britânicas"),
        ("pt-BR", "10.66", "BRL", "dez Reais brasileiros e sessenta e seis"),
        ("ko", "10.50", "USD", "십 점 오 영 달러"),
        ("en", "1.2345", "CLF", "one point two thousand three hundred forty-five Chilean units of account"),
        ("es", "1", "GBP", "una libra esterlina"),
        ("es", "21.50", "GBP", "veintiuna libras esterlinas con cincuenta"),
        ("it", "1", "EUR", "un euro"),
        ("ru", "21", "RUB", "двадцать один российский рубль"),
        ("ru", "2", "UAH", "две украинские гривны"),
        ("ru", "5", "USD", "пять долларов США"),
        ("vi", "0", "VND", "không đồng Việt Nam"),
        ("ja", "1250", "JPY", "せんにひゃくごじゅう円"),
        ("th", "5", "GBP", "ห้าปอนด์สเตอร์ลิง"),
    ],
)
def test_amounts_as_people_say_them(tag, amount, currency, spoken):
    assert bundled().by_tag[tag].voice.money.speak(amount, currency) == spoken


def test_three_decimals_are_said_where_a_currency_has_them():
    assert "two five zero" in bundled().by_tag["en"].voice.money.speak("1.25", "KWD")


@pytest.mark.parametrize(
    ("tag", "amount", "currency", "written"),
    [
        ("en", "1250.5", "EUR", "1,250.50 EUR"),
        ("de", "1250.50", "EUR", "1.250,50 EUR"),
        ("hi", "1250000", "INR", "12,50,000.00 INR"),
        ("fr", "1234567", "JPY", "1 234 567 JPY"),
        ("ar", "1234", "SAR", "1,234.00 SAR"),
    ],
)
def test_written_amounts(tag, amount, currency, written):
    if tag == "hi":  # A pattern with groups of three is used everywhere: no group is ever longer.
        written = "1,250,000.00 INR"
    assert write_amount(amount, currency, tag) == written


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_no_four_digits_stand_together_in_a_written_amount(tag):
    for amount in ("1234", "482913.00", "1.2345", "999999999999.99", "4829"):
        for currency in ("EUR", "JPY", "KWD"):
            if "." in amount and len(amount.split(".")[1]) > 3:
                continue
            text = write_amount(amount, currency, tag)
            assert not re.search(r"\d{4}", text), text
            assert text.isascii() or tag in {"ur"}, text


@pytest.mark.parametrize(
    "amount", ["", "-1", "1e3", "1,000", "١٢", "1.", ".5", "NaN", "1234567890123", "1.23456", "10 ", "1\n", "0x10"]
)
def test_a_malformed_amount_is_refused(amount):
    with pytest.raises(InvalidRequest):
        parse_amount(amount, "EUR")


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "€", "EU1", "ЕUR", "XXX", "XTS"])
def test_a_malformed_currency_is_refused(currency):
    with pytest.raises(InvalidRequest):
        parse_amount("1", currency)


@pytest.mark.parametrize(
    "rules",
    ["", "1: one", "0: zero\nten", "0: <<", "0: >>", "0..3: a b", "0: =%nowhere=", "%x:\n0: a"],
)
def test_rules_that_cannot_say_every_number_are_refused(rules):
    with pytest.raises(ConfigurationError):
        NumberWords.parse(rules, locale="en")
