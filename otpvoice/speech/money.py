"""Numbers as words, and amounts of money: so that no digit of an amount can pass for a digit of the code.

Babel has CLDR's currency names but not its number words, so a language file brings rules of its own, in a small part
of the notation of CLDR's rule-based number formats (Unicode TR35 part 3, section 6)::

    20: twenty[->>]        from 20 on; << is the quotient, >> the remainder, [..] is left out when that is 0
    100: << hundred[ >>]   [ >>| of] says " of" when the remainder is 0
    0..9: zero one two …   one word a number

The quotient is taken by the highest power of ten in the rule's number. ``%name:`` opens another set of rules, which
``<%name<``, ``>%name>`` and ``=%name=`` (the same number) use; ``(one:…|few:…|other:…)`` chooses by the plural
category of the quotient. ``%feminine`` is used before feminine currencies, ``%decimal`` before a decimal point and
``%alone`` where no noun follows (a fraction, a number in a name: ``Rai uno``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Self

from babel import Locale, UnknownLocaleError
from babel.numbers import format_decimal, get_currency_name, get_currency_precision

from otpvoice.errors import ConfigurationError, InvalidRequest
from otpvoice.speech.templates import Template

LARGEST = 10**12 - 1
"""The largest whole amount that is spoken."""

_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NO_CURRENCY = frozenset({"XXX", "XTS"})
"""ISO 4217 for "no currency" and "for tests": there is nothing to say."""
_RULE = re.compile(r"([0-9]{1,12})(\.\.[0-9]{1,12})?:\s?(.*)")
_PLURALS = frozenset({"zero", "one", "two", "few", "many", "other"})
_PART = re.compile(r"<(%\w+)?<|>(%\w+)?>|\[([^\]|]*)\|?([^\]|]*)\]|\(([^()]*:[^()]*)\)|=(%\w+)=")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberWords:
    """The number words of one language."""

    locale: str
    sets: Mapping[str, tuple[tuple[int, str], ...]] = field(repr=False)

    @classmethod
    def parse(cls, rules: str, *, locale: str) -> Self:
        """Read the rules of a data file. Raises :class:`~otpvoice.errors.ConfigurationError`."""
        if not _known(locale):
            raise ConfigurationError(f"CLDR has no data on {locale!r}: no plural forms, and no names of currencies")
        sets: dict[str, list[tuple[int, str]]] = {}
        name = "%main"
        for line in filter(None, (line.strip() for line in rules.splitlines())):
            if line.startswith("%"):
                name = line.rstrip(":")
                continue
            match = _RULE.fullmatch(line)
            if match is None:
                raise ConfigurationError(f"not a number rule (“20: twenty[->>]”): {line!r}")
            first, texts = int(match[1]), [match[3]]
            if match[2]:
                texts = match[3].split()
                if len(texts) != int(match[2][2:]) - first + 1:
                    raise ConfigurationError(f"{len(texts)} words for the numbers {match[1]}{match[2]}")
            sets.setdefault(name, []).extend(enumerate(texts, first))
        for text in (text for listed in sets.values() for _, text in listed):
            _check_rule(text, sets)
        words = cls(locale=locale, sets={name: tuple(sorted(listed)) for name, listed in sets.items()})
        for name in {"%main", *words.sets}:
            for sample in (0, 1, 11, 21, 99, 100, 999, 1000, 12_345, 999_999, 1_000_000, LARGEST):
                words.spell(sample, name)
        return words

    def spell(self, number: int, name: str = "%main") -> str:
        """A whole number of 0 to 999 999 999 999 in words. An unknown set of rules means the main one."""
        said = self._spell(number, name if name in self.sets else "%main")
        return " ".join(said.split())

    def _spell(self, number: int, name: str, depth: int = 0) -> str:
        rules = self.sets.get(name)
        if rules is None or rules[0][0] != 0 or depth > 24:
            raise ConfigurationError(f"the number rules {name} are missing, do not begin at 0 or never end")
        base, text = rules[bisect_right(rules, number, key=lambda rule: rule[0]) - 1]
        quotient, remainder = divmod(number, 10 ** (len(str(base)) - 1)) if base else (0, number)

        def replace(match: re.Match[str]) -> str:
            part = match.group()
            if part[0] == "<":
                return self._spell(quotient, match[1] or name, depth + 1)
            if part[0] == ">":
                return self._spell(remainder, match[2] or name, depth + 1)
            if part[0] == "[":
                return _PART.sub(replace, match[3]) if remainder else match[4]
            if part[0] == "=":
                return self._spell(number, match[6], depth + 1)
            forms = dict(form.split(":", 1) for form in match[5].split("|"))
            return forms.get(Locale.parse(self.locale, sep="-").plural_form(quotient), forms.get("other", ""))

        return _PART.sub(replace, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """How one language speaks an amount."""

    words: NumberWords
    whole: Template
    """``{number} {currency}``."""
    decimal: Template
    """``{number} point {digits} {currency}``, or ``{fraction}`` for the fraction as one number."""
    feminine: frozenset[str] = frozenset()
    """ISO 4217 codes whose names are feminine: they use the rules ``%feminine``."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names to say instead of CLDR's, by ISO 4217 code."""

    def speak(self, amount: str, currency: str) -> str:
        """``"10.50"``, ``"EUR"`` → ``ten point five zero euros``. Raises :class:`~otpvoice.errors.InvalidRequest`."""
        value = parse_amount(amount, currency)
        whole, _, fraction = f"{value:f}".partition(".")
        exact = not fraction.strip("0")
        rules = "%feminine" if currency in self.feminine else "%main"
        if not exact and "%decimal" in self.words.sets:
            rules = "%decimal"
        # "1" and "1.00" have different plurals in CLDR; an amount without a fraction is the former.
        count = int(whole) if exact else value
        name = self.names.get(currency) or get_currency_name(currency, count, self.words.locale.replace("-", "_"))
        # CLDR adds a country in brackets to some names: "(สหราชอาณาจักร)".
        said = {"number": self.words.spell(int(whole), rules), "currency": re.sub(r"\s*\([^)]*\)", "", name)}
        if exact:
            return self.whole.render(said)
        # Not the words of the code: in amounts, Koreans say another zero and Brazilians another six.
        zeros = len(fraction) - len(fraction.lstrip("0"))
        said["fraction"] = " ".join([self.words.spell(0)] * zeros + [self.words.spell(int(fraction), "%alone")])
        # Four digits one by one would be heard as a code.
        one_by_one = " ".join(self.words.spell(int(digit), "%alone") for digit in fraction)
        said["digits"] = one_by_one if len(fraction) < 4 else said["fraction"]
        return self.decimal.render(said)


def _known(locale: str) -> bool:
    try:
        Locale.parse(locale, sep="-")
    except (UnknownLocaleError, ValueError):
        return False
    return True


def _check_rule(text: str, sets: Mapping[str, object]) -> None:
    for match in _PART.finditer(text):
        for name in filter(None, (match[1], match[2], match[6])):
            if name not in sets:
                raise ConfigurationError(f"there are no number rules called {name}: {text!r}")
        if match[5]:
            forms = [form.partition(":")[0] for form in match[5].split("|")]
            if not _PLURALS.issuperset(forms) or "other" not in forms:
                raise ConfigurationError(f"not plural forms (“one:…|other:…”): {text!r}")
        for nested in filter(None, (match[3], match[4])):
            _check_rule(nested, sets)


def parse_amount(amount: str, currency: str) -> Decimal:
    """The amount with the decimals of its currency. Raises :class:`~otpvoice.errors.InvalidRequest`.

    Amounts are ASCII digits with at most one point: no sign, no grouping, no exponent, up to twelve digits before it.
    """
    if not _CURRENCY.fullmatch(currency) or currency in _NO_CURRENCY:
        raise InvalidRequest(f"a currency is three capital letters of ISO 4217, not {currency[:8]!r}")
    if not _AMOUNT.fullmatch(amount):
        raise InvalidRequest("an amount is digits with at most one point, like 1250.00")
    try:
        value = Decimal(amount)
        places = max(get_currency_precision(currency), -int(value.normalize().as_tuple().exponent))
        return value.quantize(Decimal(1).scaleb(-places))
    except InvalidOperation:
        raise InvalidRequest("that is not an amount") from None


def write_amount(amount: str, currency: str, locale: str) -> str:
    """An amount for SMS and e-mail: grouped as the language does, with the ISO 4217 code: ``1.250,00 EUR``.

    Four digits never stand together, so no part of it looks like a code. The code of the currency keeps a message
    inside the GSM alphabet, where most currency signs are missing.
    """
    value = parse_amount(amount, currency)
    places = max(0, -int(value.as_tuple().exponent))
    pattern = "#,##0" + ("." + "0" * places if places else "")
    # Of a few small languages CLDR has no data; they can be written nonetheless.
    text = format_decimal(value, format=pattern, locale=locale.replace("-", "_") if _known(locale) else "en")
    return re.sub(r"[\u00a0\u202f\u2009]", " ", text) + f" {currency}"
