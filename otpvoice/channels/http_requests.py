"""What HTTP channels share when they write requests and read answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from otpvoice.errors import ContentRejected

LONGEST_REFERENCE = 200
"""Characters of a provider's id that are kept; a longer one is no id."""


class QuietHeaders(httpx.Headers):
    """Headers whose ``repr`` shows names only: httpx masks ``Authorization``, but not a vendor's own."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self)})"


def json_bytes(payload: Mapping[str, Any], provider: str) -> bytes:
    """A JSON body. Raises :class:`~otpvoice.errors.ContentRejected` for text that UTF-8 cannot carry."""
    try:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        # The exception holds the text, and the text the code: it must not travel on as a cause.
        problem = ContentRejected("the text holds a character that is not Unicode", provider=provider)
    raise problem


def read_json(response: httpx.Response) -> Any:
    """The answer's JSON, numbers with a point as text so that nothing is rounded; None for anything else."""
    try:
        return json.loads(response.content, parse_float=str)
    except (ValueError, RecursionError):
        return None


def reference_of(value: object) -> str | None:
    """A provider's id of a message as text, where it is one: printable, 1 to 200 characters.

    A whole number is taken digit for digit: some ids are larger than 64 bits.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if text.isprintable() and 0 < len(text) <= LONGEST_REFERENCE else None
