"""What the provider checks before it takes a request: credentials, types, ranges.

Follows the vendor's pages of the generation that lists ``maxDuration`` and a text limit of 299 or 800 characters;
``newest`` switches to the page with 1000 characters, accents and the newer language table.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Generation = Literal["legacy", "newest"]

LEGACY_LANGUAGES: Final = frozenset(
    {"EN", "VN", "JP", "ARB", "DE", "IN", "IT", "KR", "RU", "ES", "PT", "IDN", "BD", "TH"}
)
NEWER_LANGUAGES: Final = frozenset(
    {"AR", "BAS", "CA", "GL", "BN", "GU", "HI", "KN", "ML", "MR", "PA", "TA", "BG", "CS", "DA", "NL", "EN", "TL", "FI"}
)
"""As far as the vendor's table could be read; it ends at Finnish."""
SHORT_TEXT_LANGUAGES: Final = frozenset({"IDN", "VN", "TH"})
TIMESTAMP_WINDOW: Final = 30 * 60
MAX_BODY: Final = 1 << 20

REASONS: Final[Mapping[int, str]] = {
    0: "success", -1: "authentication error", -2: "IP access is restricted", -3: "sensitive content",
    -4: "content is empty", -5: "content is too long", -6: "not an approved template", -7: "too many numbers",
    -8: "number is empty", -9: "number is abnormal", -10: "insufficient balance", -11: "wrong time format",
    -12: "platform submission failed", -13: "user is locked", -14: "field is empty or query id is abnormal",
    -15: "queried too frequently", -16: "timestamp expires", -17: "template is empty", -18: "interface fault",
    -19: "price is not confirmed", -20: "data already exists", -21: "data validation failed",
    -22: "parameter error", -23: "data limit reached", -24: "data does not exist", -25: "outside the time range",
    -26: "failed to obtain the rate", -27: "total sends in the period exceeded",
    -28: "sends to this phone in the period exceeded", -29: "disabled", -30: "api key is disabled",
    -31: "IP is not on the allow-list", -32: "api key has no right to this app",
}  # fmt: skip


class Problem(Exception):
    """A refusal: a status of the vendor's list and what was wrong, without the value that was sent."""

    def __init__(self, status: int, detail: str = "") -> None:
        words = REASONS.get(status, "unknown")
        self.status = status
        self.reason = f"{words}: {detail}" if detail else words
        super().__init__(self.reason)


def sign(api_key: str, api_secret: str, timestamp: str) -> str:
    """The ``Sign`` header: MD5 in hex of key, secret and timestamp."""
    return hashlib.md5((api_key + api_secret + timestamp).encode(), usedforsecurity=False).hexdigest()


def signed_headers(api_key: str, api_secret: str, *, at: float) -> dict[str, str]:
    """The headers of a request signed at that Unix time, as a client of the API sends them."""
    timestamp = str(int(at))
    return {
        "Content-Type": "application/json;charset=UTF-8",
        "Api-Key": api_key,
        "Timestamp": timestamp,
        "Sign": sign(api_key, api_secret, timestamp),
    }


def check_headers(headers: Mapping[str, str], *, api_key: str, api_secret: str, now: float) -> None:
    """Check ``Api-Key``, ``Sign``, ``Timestamp`` and ``Content-Type``. ``now`` is the server's Unix time.

    Raises :class:`Problem` -1, -16 or -22.
    """
    if headers.get("api-key") != api_key:
        raise Problem(-1, "unknown Api-Key")
    timestamp = headers.get("timestamp", "")
    signature = headers.get("sign", "")
    # The vendor says that the letter case of the hex does not matter.
    if not hmac.compare_digest(signature.lower().encode(), sign(api_key, api_secret, timestamp).encode()):
        raise Problem(-1, "Sign does not fit")
    if not re.fullmatch(r"[0-9]{1,11}", timestamp):
        raise Problem(-16, "Timestamp is not Unix time in seconds")
    if abs(now - int(timestamp)) > TIMESTAMP_WINDOW:
        raise Problem(-16)
    media, _, rest = headers.get("content-type", "").partition(";")
    charset = re.fullmatch(r'\s*(?:charset\s*=\s*"?([\w-]+)"?\s*)?', rest, re.IGNORECASE)
    if media.strip().lower() != "application/json" or not charset or (charset[1] or "utf-8").lower() != "utf-8":
        raise Problem(-22, "Content-Type is not application/json;charset=UTF-8")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. Raises :class:`Problem` -22."""
    if len(body) > MAX_BODY:
        raise Problem(-22, "the body is larger than 1 MiB")
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Problem(-22, "the body is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise Problem(-22, "the body is not a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCode:
    """A checked ``sendCode`` request."""

    callee: str
    display_num: str | None
    language: str
    text: str
    app_id: str
    loop_count: int
    called_info: str
    recall_count: int
    recall_interval: int
    max_duration: int | None
    max_ringing_time: int


def check_send_code(
    body: Mapping[str, Any], *, app_ids: frozenset[str], generation: Generation = "legacy", max_loop_count: int = 9
) -> SendCode:
    """Check types and ranges of a ``sendCode`` body. Raises :class:`Problem` -22."""
    newest = generation == "newest"
    language = _string(body, "language")
    if language not in (LEGACY_LANGUAGES | NEWER_LANGUAGES if newest else LEGACY_LANGUAGES):
        raise Problem(-22, "language is not on the list")
    text = _string(body, "text")
    limit = 1000 if newest else 299 if language in SHORT_TEXT_LANGUAGES else 800
    if not 1 <= len(text) <= limit:
        raise Problem(-22, f"text has {len(text)} characters, 1 to {limit} are taken for {language}")
    app_id = _string(body, "appId")
    if app_id not in app_ids:
        raise Problem(-22, "appId is unknown")
    recall_count = _integer(body, "recallCount", 0, 9) or 0
    if newest:
        _optional_string(body, "accent", r"[0-9]{1,3}")
        _integer(body, "ssmlGender", 1, 2)
        rate = body.get("speakingRate")
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.25 <= rate <= 4):
            raise Problem(-22, "speakingRate is not 0.25 to 4")
    return SendCode(
        callee=_string(body, "callee", r"[0-9]{7,15}"),
        display_num=_optional_string(body, "displayNum", r"[0-9]{7,15}"),
        language=language,
        text=text,
        app_id=app_id,
        loop_count=_integer(body, "loopCount", 1, max_loop_count) or 1,
        called_info=_optional_string(body, "calledInfo", r"(?s:.{0,1000})") or "",
        recall_count=recall_count,
        # The vendor's own sample sends an interval of 0 with a count of 0: it is read only with recalls.
        recall_interval=(_integer(body, "recallInterval", 1, 999) or 5) if recall_count else 5,
        max_duration=_integer(body, "maxDuration", 1, 120),
        max_ringing_time=_integer(body, "maxRingingTime", 20, 120) or 60,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSms:
    """A checked ``sendSms`` request."""

    app_id: str
    numbers: tuple[str, ...]
    content: str
    sender_id: str | None
    order_ids: tuple[str, ...] | None


def check_send_sms(body: Mapping[str, Any], *, app_ids: frozenset[str], max_numbers: int) -> SendSms:
    """Check a ``sendSms`` request. Raises :class:`Problem` with the SMS product's status.

    Malformed numbers among several are not a problem of the request: they are counted as failed.
    """
    for name in ("appId", "numbers", "content", "senderId", "orderId"):
        if not isinstance(body.get(name), str | None):
            raise Problem(-22, f"{name} is not a String")
    if body.get("appId") not in app_ids:
        raise Problem(-32, "appId is unknown")
    if not body.get("numbers"):
        raise Problem(-8)
    numbers = tuple(body["numbers"].split(","))
    if len(numbers) > max_numbers:
        raise Problem(-7, f"{len(numbers)} numbers, {max_numbers} are taken")
    if not any(map(is_number, numbers)):
        raise Problem(-9)
    if not body.get("content"):
        raise Problem(-4)
    if len(body["content"]) > 1024:
        raise Problem(-5, f"{len(body['content'])} characters, 1024 are taken")
    if len(body.get("senderId") or "") > 32:
        raise Problem(-22, "senderId is longer than 32 characters")
    orders = tuple(body["orderId"].split(",")) if body.get("orderId") else None
    if orders is not None and len(orders) != len(numbers):
        raise Problem(-22, "orderId has another count than numbers")
    return SendSms(
        app_id=body["appId"],
        numbers=numbers,
        content=body["content"],
        sender_id=body.get("senderId") or None,
        order_ids=orders,
    )


def is_number(number: str) -> bool:
    """Country code and number, digits only."""
    return re.fullmatch(r"[0-9]{7,15}", number) is not None


def _string(body: Mapping[str, Any], name: str, pattern: str = r"(?s:.+)") -> str:
    value = _optional_string(body, name, pattern)
    if value is None:
        raise Problem(-22, f"{name} is missing")
    return value


def _optional_string(body: Mapping[str, Any], name: str, pattern: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Problem(-22, f"{name} is not a String")
    if not re.fullmatch(pattern, value):
        raise Problem(-22, f"{name} is out of range")
    return value


def _integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Problem(-22, f"{name} is not an Int")
    if not low <= value <= high:
        raise Problem(-22, f"{name} is not {low} to {high}")
    return value
