"""Readers for the fields of vendors' reports and records, which come as text or number, null, 0 or not at all.

Each returns None for what it cannot read: a field that is missing must not cost the rest of a report. What comes out
fits the database, whatever a stranger puts in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from otpvoice.channels.http_requests import reference_of

VENDOR_ZONE = timezone(timedelta(hours=8))
"""The zone of every time that the vendor prints, and of those without one."""

LONGEST_CALL = 86_400
"""Seconds; a longer call is a mistake."""

_FRACTION = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE]\+?[0-9]{1,2})?")
_EPOCH = re.compile(r"([0-9]{10})([0-9]{3})?(\.[0-9]+)?")
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,10})?([eE]-?[0-9])?")
_SECONDS = re.compile(r"([0-9]{1,5})(\.[0-9]{1,6})?")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_EARLIEST, _LATEST = 2000, 2100


def plain(value: object) -> str:
    """A text or number as text without spaces around; empty for anything else."""
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def identifier(value: object) -> str | None:
    """An id digit for digit: some are larger than 2^64, and a sender may write them as ``2.24e19``."""
    text = reference_of(value)
    if text is not None and not text.isdigit() and _FRACTION.fullmatch(text):
        exact = Decimal(text)
        return f"{exact:.0f}" if exact.adjusted() < 40 and exact == exact.to_integral_value() else text
    return text


def number(value: object) -> int | None:
    """A status, a SIP code or a count."""
    text = plain(value)
    return int(text) if _NUMBER.fullmatch(text) else None


def seconds(value: object) -> int | None:
    """A duration, rounded down: 0 to one day."""
    found = _SECONDS.fullmatch(plain(value))
    return int(found[1]) if found and int(found[1]) <= LONGEST_CALL else None


def money(value: object) -> Decimal | None:
    """An amount, exact."""
    text = plain(value)
    return Decimal(f"{Decimal(text):f}") if _MONEY.fullmatch(text) else None


def currency(value: object) -> str | None:
    """An ISO 4217 code."""
    text = plain(value).upper()
    return text if re.fullmatch(r"[A-Z]{3}", text) else None


def moment(value: object) -> datetime | None:
    """A time in UTC: epoch milliseconds or seconds, ``yyyyMMddHHmmss``, or ISO 8601; 0 is none.

    Without a zone it is the vendor's, UTC+8.
    """
    text = plain(value)
    epoch = _EPOCH.fullmatch(text)
    try:
        if epoch is not None:
            at = datetime.fromtimestamp(int(epoch[1]), UTC) + timedelta(milliseconds=int(epoch[2] or 0))
        elif re.fullmatch(r"[0-9]{14}", text):
            at = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=VENDOR_ZONE)
        elif len(text) >= len("2024-01-02T03:04"):
            at = datetime.fromisoformat(text)
        else:
            return None
    except ValueError:
        return None
    if not _EARLIEST <= at.year < _LATEST:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=VENDOR_ZONE)).astimezone(UTC)


def between(start: datetime | None, end: datetime | None) -> int | None:
    """Whole seconds from one time to another, where both are known and in order."""
    if start is None or end is None or not timedelta(0) <= end - start <= timedelta(seconds=LONGEST_CALL):
        return None
    return round((end - start).total_seconds())


def stripped(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their names without spaces: one of the vendor's samples has a space behind a key."""
    return {name.strip(): value for name, value in fields.items() if name != name.strip()} | {
        name: value for name, value in fields.items() if name == name.strip()
    }
