"""Brands and payees bring no links, no marks and no digits that could pass for the code."""

from __future__ import annotations

import pytest

from otpvoice.errors import InvalidRequest
from otpvoice.speech.names import brand_name, payee_name
from otpvoice.speech.wordings import bundled

ENGLISH = bundled().by_tag["en"].voice.money.words.spell


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", ""),
        ("Acme", "Acme"),
        ("  Acme \t Bank ", "Acme Bank"),
        ("Acme\r\nBcc: x", "Acme Bcc x"),
        ("“Acme” \U0001f680", "Acme"),
        ('O\'Reilly "Media"', "O'Reilly Media"),
        ("O’Reilly", "O'Reilly"),
        ("\u202eAcme\u200f", "Acme"),
        ("Ac\u200bme", "Acme"),
        ("Booking.com", "Booking com"),
        ("A&B (UK)", "A&B (UK)"),
        ("Société Générale", "Société Générale"),
        ("三菱ＵＦＪ", "三菱ＵＦＪ"),
        ("Studio 54", "Studio 54"),
        ("Studio ５４", "Studio 54"),
        ("<b>Acme</b>", "b Acme /b"),
        ("{code} [x]", "code x"),
    ],
)
def test_a_brand_as_it_is_written(name, said):
    assert brand_name(name) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Studio 54", "Studio fifty-four"),
        ("3M", "three M"),
        ("7-Eleven", "seven -Eleven"),
        ("Area51", "Area fifty-one"),
    ],
)
def test_digits_of_a_brand_are_spoken_as_a_number(name, said):
    assert brand_name(name, number_words=ENGLISH) == said


@pytest.mark.parametrize(
    "name",
    [
        "https://evil.example",
        "www.evil",
        "WWW.EVIL",
        "mailto:x",
        "A" * 41,
        "A" * 200,
        "Bank 482913",
        "4829",
        "1 2 3 4",
        "48.29-13",
        "٤٨٢٩١٣",
        "４８２９",
        "\U0001f680",
        '""',
        "\u202e\u200f",
        "\n",
    ],
)
def test_a_bad_brand_is_refused(name):
    with pytest.raises(InvalidRequest, match="brand"):
        brand_name(name)


@pytest.mark.parametrize(
    ("name", "written", "spoken"),
    [
        (None, "", ""),
        ("Acme GmbH", "Acme GmbH", "Acme GmbH"),
        ("Acme 12345678", "Acme *678", "Acme"),
        ("Acme 12 34 56 78 Ltd", "Acme *678 Ltd", "Acme Ltd"),
        ("Shop 24", "Shop 24", "Shop twenty-four"),
        ("https://evil.com Acme", "https //evil com Acme", "https //evil com Acme"),
    ],
)
def test_a_payee_is_told_but_not_its_account_number(name, written, spoken):
    assert payee_name(name) == written
    assert payee_name(name, number_words=ENGLISH) == spoken


@pytest.mark.parametrize("name", ["12345678", "\U0001f680", " ", "A" * 71])
def test_a_payee_of_whom_nothing_could_be_said_is_refused(name):
    with pytest.raises(InvalidRequest, match="payee"):
        payee_name(name)
