"""Brands and payees: other people's text inside ours, made harmless before it is spoken or written.

A name cannot bring a link, a line break, a control character or anything that could pass for the code
(property P61).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from otpvoice.errors import InvalidRequest

LONGEST_BRAND = 40
LONGEST_PAYEE = 70
"""Characters. Longer names are refused: cutting a payee would show the person another name."""
MOST_DIGITS = 3
"""Digits in a row that a name may show: codes have four or more."""

_LINK = re.compile(r"://|\bwww\.|\bmailto:", re.IGNORECASE)
_DOMAIN_DOT = re.compile(r"(?<=\w)[.\u3002\uff0e\uff61](?=\w)")
_DIGITS = re.compile(r"[0-9](?:[\s.,\-]?[0-9])*")
_KEPT = frozenset("&'+-.,()/ ")
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": "", "”": "", '"': "", "«": "", "»": "", "–": "-", "—": "-"})


def brand_name(name: str, *, number_words: Callable[[int], str] | None = None) -> str:
    """A brand as it may be said: no marks but ``&'+-.,()/``, no emoji, no quotes, white space made one space.

    ``number_words`` is given for voice: digits become words (``Studio 54``). Raises
    :class:`~otpvoice.errors.InvalidRequest` for a link, more than 40 characters, four digits or more in a row (they
    could be taken for the code) or a name of which nothing is left.
    """
    if not name:
        return ""
    if len(name) > LONGEST_BRAND:
        raise InvalidRequest(f"the brand has {len(name)} characters: {LONGEST_BRAND} at most")
    if _LINK.search(name):
        raise InvalidRequest("the brand holds a link: use the name alone")
    plain = _plain(name)
    if any(_count(run) > MOST_DIGITS for run in _DIGITS.findall(plain)):
        raise InvalidRequest(f"the brand has more than {MOST_DIGITS} digits in a row: they could pass for the code")
    if not plain:
        raise InvalidRequest("of the brand nothing is left to say: use letters")
    return _in_words(plain, number_words)


def payee_name(name: str | None, *, number_words: Callable[[int], str] | None = None) -> str:
    """A payee as it may be said. Account numbers in it are cut to their last three digits, on voice left out.

    Raises :class:`~otpvoice.errors.InvalidRequest` for more than 70 characters or a name of which nothing is left:
    the person must learn who is paid (PSD2 RTS Art. 5(1)(a)).
    """
    if not name:
        return ""
    if len(name) > LONGEST_PAYEE:
        raise InvalidRequest(f"the payee has {len(name)} characters: {LONGEST_PAYEE} at most")
    plain = _LINK.sub(" ", _plain(name))

    def shorten(match: re.Match[str]) -> str:
        run = match.group()
        if _count(run) <= MOST_DIGITS:
            return run
        return " " if number_words else "*" + re.sub(r"\D", "", run)[-MOST_DIGITS:]

    plain = " ".join(_DIGITS.sub(shorten, plain).split()).strip(" -,/.")
    if not any(character.isalpha() for character in plain):
        raise InvalidRequest("of the payee nothing is left to say: use a name, not only an account number")
    return _in_words(plain, number_words)


def _plain(name: str) -> str:
    kept = []
    for character in unicodedata.normalize("NFC", name).translate(_PLAIN):
        category = unicodedata.category(character)
        if category == "Nd":  # Other scripts' digits are digits too: a full-width 7 must not slip through.
            kept.append(str(unicodedata.decimal(character)))
        elif category[0] in "LM" or character in _KEPT:
            kept.append(character)
        else:  # Controls, bidi marks, emoji, symbols, brackets: nothing that is spoken.
            kept.append("" if category == "Cf" else " ")
    # "shop.example" becomes "shop example": a phone would turn it into a link.
    return " ".join(_DOMAIN_DOT.sub(" ", "".join(kept)).split())


def _count(run: str) -> int:
    return sum(character.isdigit() for character in run)


def _in_words(name: str, number_words: Callable[[int], str] | None) -> str:
    if number_words is None:
        return name
    return " ".join(re.sub(r"[0-9]+", lambda m: f" {number_words(int(m.group()))} ", name).split())
