"""PSD2 amounts as people write them: ``€39.99``, ``39,99 EUR``, ``1,000.50 USD``."""

from __future__ import annotations

import re

from otpvoice.http.twilio.errors import invalid
from otpvoice.types import Binding

SYMBOLS = {
    "€": "EUR",
    "$": "USD",
    "US$": "USD",
    "£": "GBP",
    "¥": "JPY",
    "₫": "VND",
    "₹": "INR",
    "₩": "KRW",
    "฿": "THB",
    "₱": "PHP",
    "₺": "TRY",
    "₦": "NGN",
    "₪": "ILS",
    "₽": "RUB",
    "R$": "BRL",
    "zł": "PLN",
}
_WRITTEN = re.compile(r"([^\d\s.,+-]{1,3})?\s?([0-9][0-9.,]{0,20})\s?([^\d\s.,+-]{1,3})?")
_PLAIN = re.compile(r"[0-9]{1,12}")


def binding(amount: str, payee: str) -> Binding:
    """What a payment's verification is bound to. The text itself is bound too: a check repeats it to the letter.

    Raises 60200 for what is no amount with a currency, and for ``1.000``, which is one in London and a thousand in
    Hanoi.
    """
    match = _WRITTEN.fullmatch(amount.strip())
    marks = [] if match is None else [mark for mark in (match[1], match[3]) if mark]
    if match is None or len(marks) != 1:
        raise invalid("Amount", "a number and one currency")
    currency = SYMBOLS.get(marks[0], marks[0])
    value = _value(match[2])
    if re.fullmatch(r"[A-Z]{3}", currency) is None or value is None:
        raise invalid("Amount", "a number and one currency")
    return Binding(amount=value, currency=currency, payee=payee, reference=amount)


def _value(written: str) -> str | None:
    """A decimal with a point; None where it can be read in two ways or in none."""
    point = max(written.rfind("."), written.rfind(","))
    if point < 0:
        return written if _PLAIN.fullmatch(written) else None
    whole, fraction, mark = written[:point], written[point + 1 :], written[point]
    other = "," if mark == "." else "."
    if written.count(mark) > 1 or (mark == "," and other not in whole and len(fraction) == 3):
        groups = written.split(mark)  # 1,000,000 or 1,000: groups of three, nothing behind.
        grouped = len(groups[0]) in {1, 2, 3} and all(len(group) == 3 for group in groups[1:])
        whole, fraction = ("".join(groups), "0") if grouped else ("", "")
    elif other in whole:
        groups = whole.split(other)
        grouped = len(groups[0]) in {1, 2, 3} and all(len(group) == 3 for group in groups[1:])
        whole = "".join(groups) if grouped else ""
    elif len(fraction) == 3:
        return None
    if _PLAIN.fullmatch(whole) is None or re.fullmatch(r"[0-9]{1,3}", fraction) is None:
        return None
    return f"{int(whole)}.{fraction}" if int(fraction) else f"{int(whole)}"
