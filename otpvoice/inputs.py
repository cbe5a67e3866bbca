"""What callers hand in, checked before anything is charged, stored or sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation

from otpvoice.errors import InvalidRequest
from otpvoice.types import Binding

LONGEST_SUBJECT = 256
LONGEST_CLIENT = 256
_LONGEST_MEMBER = {"amount": 24, "currency": 3, "payee": 70, "reference": 512}
_CHALLENGE_ID = re.compile(r"ch_[0-9a-f]{32}")
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,4}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def subject(value: str | None) -> str | None:
    """The account a proof is for: any printable text of 1 to 256 characters."""
    return _printable("subject", value, LONGEST_SUBJECT)


def purpose(value: str | None) -> str | None:
    """What a caller says that a code is for; one that no policy has is a false claim, not a mistake."""
    return _printable("purpose", value, LONGEST_SUBJECT)


def client(value: str | None) -> str | None:
    """Who asks: an address or a device id, 1 to 256 printable characters."""
    return _printable("client", value, LONGEST_CLIENT)


def binding(value: Binding | Mapping[str, str] | None) -> Binding | None:
    """What else the proof is bound to. Raises :class:`~otpvoice.errors.InvalidRequest` naming the member."""
    if value is None:
        return None
    if not isinstance(value, Binding):
        known = {field.name for field in fields(Binding)}
        if not isinstance(value, Mapping) or not set(value) <= known:
            raise InvalidRequest(f"binding takes the members {', '.join(sorted(known))}")
        value = Binding.from_dict(value)
    for name, limit in _LONGEST_MEMBER.items():
        _printable(f"binding.{name}", getattr(value, name), limit)
    if not value.as_dict():
        raise InvalidRequest("binding is empty: leave it out, or set at least one member")
    if value.amount is not None and not _is_amount(value.amount):
        raise InvalidRequest("binding.amount is a positive decimal as text, such as '10.50'")
    if value.currency is not None and _CURRENCY.fullmatch(value.currency) is None:
        raise InvalidRequest("binding.currency is an ISO 4217 code such as 'EUR'")
    if (value.amount is None) != (value.currency is None):
        raise InvalidRequest("binding.amount and binding.currency go together")
    return value


def challenge_id(value: str) -> str | None:
    """The id, or None where it cannot be one: that is as unknown as any other."""
    if not isinstance(value, str):
        raise InvalidRequest(f"the challenge id is a str, not {type(value).__name__}")
    return value if _CHALLENGE_ID.fullmatch(value) else None


def code(value: str) -> str:
    """A typed code must be a str: a number has lost its leading zeros already (property P3)."""
    if not isinstance(value, str):
        raise InvalidRequest(f"the code is a str, as it was typed, not {type(value).__name__}")
    return value


def locale(value: str | None) -> str | None:
    """A BCP-47 language tag such as ``vi-VN``; which languages are spoken is decided when the text is written."""
    if value is None:
        return None
    if not isinstance(value, str) or _LOCALE.fullmatch(value) is None:
        raise InvalidRequest("locale is a BCP-47 language tag such as 'en' or 'vi-VN'")
    return value


def shown(value: object) -> str:
    """A name that somebody gave, as an error may repeat it: short and printable, and of what is no name its type."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _is_amount(value: str) -> bool:
    try:
        return _AMOUNT.fullmatch(value) is not None and Decimal(value) > 0
    except InvalidOperation:
        return False


def _printable(name: str, value: str | None, limit: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is a str, not {type(value).__name__}")
    if not value.strip() or len(value) > limit or not value.isprintable():
        raise InvalidRequest(f"{name} has 1 to {limit} printable characters")
    return value
