"""Amounts are read in one way or not at all."""

from __future__ import annotations

import pytest

from otpvoice.http.twilio.amounts import binding
from otpvoice.http.twilio.errors import TwilioError


@pytest.mark.parametrize(
    ("written", "amount", "currency"),
    [
        ("€39.99", "39.99", "EUR"),
        ("39,99 EUR", "39.99", "EUR"),
        ("EUR 39.9", "39.9", "EUR"),
        ("$1,000.50", "1000.50", "USD"),
        ("1.000,50 €", "1000.50", "EUR"),
        ("USD 1,000", "1000", "USD"),
        ("1,234,567 VND", "1234567", "VND"),
        ("1.234.567 ₫", "1234567", "VND"),
        ("500000 VND", "500000", "VND"),
        ("£5.00", "5", "GBP"),
        ("R$ 7,25", "7.25", "BRL"),
    ],
)
def test_what_people_write(written: str, amount: str, currency: str) -> None:
    bound = binding(written, "Acme")
    assert (bound.amount, bound.currency, bound.payee, bound.reference) == (amount, currency, "Acme", written)


@pytest.mark.parametrize(
    "written",
    [
        "39.99", "€", "EUR", "€ EUR 5", "-5 EUR", "€1.000", "1.00.0 EUR", "1,00,000 EUR", "5 eur", "€1e3", "€.5", "€5.",
        "1 2 EUR", "€५", "5 EURO", "€" + "9" * 13,
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_or_in_none(written: str) -> None:
    with pytest.raises(TwilioError) as refused:
        binding(written, "Acme")
    assert refused.value.code == 60200
    assert written not in refused.value.message
