"""Form bodies and queries, read strictly: one value a name, UTF-8, no value ever repeated in an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from otpvoice.http.bodies import read_json
from otpvoice.http.twilio.errors import TwilioError, invalid

MOST_FIELDS = 100
_FORM = "application/x-www-form-urlencoded"
_UNENCODED_PLUS = re.compile(r" [0-9]{6,15}")


class Form:
    """The parameters of a request by Twilio's names."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def given(self, prefix: str) -> list[str]:
        """The names that begin so, where they hold something."""
        return sorted(name for name, value in self._values.items() if name.startswith(prefix) and value)

    def text(self, name: str, *, longest: int = 512) -> str | None:
        """A text, None where it is missing or empty."""
        value = self._values.get(name)
        if not value:
            return None
        if len(value) > longest or not value.isprintable():
            raise invalid(name)
        return value

    def required(self, name: str, *, longest: int = 512) -> str:
        """A text that must be there."""
        value = self.text(name, longest=longest)
        if value is None:
            raise invalid(name)
        return value

    def recipient(self, name: str) -> str | None:
        """A phone number or mailbox. A plus that was not percent-encoded has become a blank: it is put back."""
        value = self.text(name, longest=254)
        if value is not None and _UNENCODED_PLUS.fullmatch(value):
            return f"+{value[1:]}"
        return value

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in {"true", "false"}:
            raise invalid(name)
        return value.lower() == "true"

    def number(self, name: str, least: int, most: int) -> int | None:
        """A whole number between two others."""
        value = self.text(name)
        if value is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}", value) is None or not least <= int(value) <= most:
            raise invalid(name)
        return int(value)

    def members(self, name: str) -> dict[str, str]:
        """A JSON object of texts, numbers and truth values, each named once."""
        value = self._values.get(name)
        if not value:
            return {}
        try:
            parsed = read_json(value)
        except (ValueError, RecursionError):
            raise invalid(name) from None
        if not isinstance(parsed, dict) or len(parsed) > 20:
            raise invalid(name)
        if not all(isinstance(item, str | int | float | bool) and len(str(item)) <= 256 for item in parsed.values()):
            raise invalid(name)
        return {str(key): str(item) for key, item in parsed.items()}

    def time(self, name: str) -> datetime | None:
        """An ISO 8601 time; without a zone it is UTC."""
        value = self.text(name)
        if value is None:
            return None
        try:
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            raise invalid(name) from None


async def body(request: Request) -> Form:
    """The form that a request carries."""
    raw = await request.body()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and media_type != _FORM:
        raise TwilioError(20001, f"The request's body is {_FORM}")
    return _read(raw)


def query(request: Request) -> Form:
    """The parameters of a request's URL."""
    raw: Any = request.scope.get("query_string", b"")
    return _read(raw)


def _read(raw: bytes) -> Form:
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MOST_FIELDS
        )
    except (ValueError, UnicodeDecodeError):
        raise TwilioError(20001) from None
    values = dict(pairs)
    if len(values) != len(pairs):
        # Which of two counts differs between parsers (property P88).
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise invalid(twice if re.fullmatch(r"[A-Za-z.]{1,64}", twice) else "a name given twice")
    return Form(values)
