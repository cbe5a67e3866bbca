"""What Vonage's products share: application tokens, problems, signed webhooks.

Vendor pages: developer.vonage.com/en/getting-started/concepts/authentication (JWT RS256),
/concepts/webhooks (signed webhooks, JWT HS256), /concepts/signing-messages (``sig``) and /api-errors.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from otpvoice.channels import rules
from otpvoice.channels.base import ReportRejected, ReportRequest
from otpvoice.channels.http_errors import map_http_status, retry_after
from otpvoice.channels.http_requests import read_json
from otpvoice.channels.rules import Rule, Secret, Unfit
from otpvoice.errors import (
    ConfigurationError,
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
)

PROVIDER = "vonage"
CURRENCY = "EUR"
"""All prices are in euros."""

TOKEN_LIFE = timedelta(minutes=5)
LONGEST_PUSH = 1 << 16
"""Bytes of a webhook that are read."""

PROBLEMS: Mapping[str, tuple[type[DeliveryError], str]] = {
    "low-balance": (NoBalance, "the balance is used up"),
    "unauthorized": (ProviderMisconfigured, "authentication failed; check application_id and private_key"),
    "forbidden": (ProviderMisconfigured, "the account may not do this"),
    "not-found": (ProviderMisconfigured, "there is no such resource; check base_url"),
    "unprovisioned": (ProviderMisconfigured, "the credentials have no right to this product"),
    "account-suspended": (ProviderMisconfigured, "the account is suspended"),
    "jwt-expired": (ProviderMisconfigured, "the token has expired; set this machine's clock (NTP)"),
    "jwt-revoked": (ProviderMisconfigured, "the application's key is revoked"),
    "invalid-api-key": (ProviderMisconfigured, "the API key is not known"),
    "invalid-params": (ProviderMisconfigured, "a parameter is wrong; check from_number and languages"),
    "invalid-signature": (ProviderMisconfigured, "the signature is wrong"),
    "throttled": (ProviderThrottled, "asked too often"),
    "rate-limit": (ProviderThrottled, "asked too often"),
}
"""The last word of a problem's ``type`` (RFC 9457), and what may follow; any other goes by its HTTP status."""

_PROBLEM = re.compile(r"(?:.*[#/])?([a-z][a-z-]{2,40})/?")


def private_key() -> Rule[Secret]:
    """An RSA private key as PEM text."""

    def check(value: object) -> Secret:
        if not isinstance(value, str):
            raise Unfit(f"must be PEM text, not {rules.kind_of(value)}")
        if "PRIVATE KEY-----" not in value or len(value) > 10_000:
            raise Unfit("must be the PEM text of a private key (-----BEGIN PRIVATE KEY-----)")
        return Secret(value.strip() + "\n")

    return check


def load_key(table: str, text: str | None, path: str | None) -> Any:
    """The application's key, from the setting or its file.

    Raises :class:`~otpvoice.errors.ConfigurationError` where it cannot be read, and without PyJWT.
    """
    jwt = library()
    named = "private_key" if text is not None else "private_key_file"
    try:
        pem = text if text is not None else Path(path or "").read_text(encoding="ascii")
        key = jwt.get_algorithm_by_name("RS256").prepare_key(str(pem))
    except OSError as error:
        raise ConfigurationError(f"[{table}] {named} cannot be read: {type(error).__name__}") from None
    except Exception:
        # The libraries raise several kinds, and a message of theirs may quote the text.
        key = None
    if not hasattr(key, "private_numbers"):
        raise ConfigurationError(f"[{table}] {named} is not an RSA private key in PEM, without a passphrase")
    return key


def library() -> Any:
    """PyJWT; it is not among the library's own dependencies."""
    try:
        import jwt
    except ModuleNotFoundError:
        raise ConfigurationError("vonage-voice needs PyJWT: pip install 'otpvoice[vonage]'") from None
    return jwt


def token(application_id: str, key: Any, *, now: datetime, token_id: str) -> Secret:
    """A token for one request, good for five minutes."""
    issued = int(now.timestamp())
    claims = {
        "application_id": application_id,
        "iat": issued,
        "exp": issued + int(TOKEN_LIFE.total_seconds()),
        "jti": token_id,
    }
    return Secret(library().encode(claims, key, algorithm="RS256"))


def refusal(response: httpx.Response, *, now: datetime) -> DeliveryError:
    """What an answer that is no success means: by the problem's type in a 4xx, else by the HTTP status."""
    body = read_json(response)
    raw = body.get("type") if isinstance(body, dict) else None
    found = _PROBLEM.fullmatch(raw) if isinstance(raw, str) and len(raw) <= 200 else None
    word = found[1] if found else ""
    if word not in PROBLEMS or not 400 <= response.status_code < 500:
        return map_http_status(response, provider=PROVIDER, now=now)
    kind, words = PROBLEMS[word]
    message = f"{PROVIDER}: {words} ({word})"
    if issubclass(kind, ProviderThrottled):
        return kind(message, provider=PROVIDER, code=word, retry_after=retry_after(response, now))
    return kind(message, provider=PROVIDER, code=word)


def not_understood(words: str = "the answer's form is not known") -> OutcomeUnknown:
    """A success that is not in Vonage's form."""
    return OutcomeUnknown(f"{PROVIDER}: {words}", provider=PROVIDER, code="http 2xx")


def check_token(request: ReportRequest, secret: str, *, application_id: str) -> None:
    """Refuse a webhook without a token of Vonage's over exactly this body.

    The token has no end and says nothing of the URL: a webhook that is repeated changes nothing, and none is believed
    that names a delivery and another delivery's call. Raises :class:`~otpvoice.channels.base.ReportRejected`.
    """
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise ReportRejected("the report is not signed", authentic=False)
    jwt = library()
    try:
        claims = jwt.decode(
            given.strip(),
            secret,
            algorithms=["HS256"],
            # The clock that counts is not this library's, and no claim of time is needed.
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
        )
    except jwt.PyJWTError:
        raise ReportRejected("the report's signature is not Vonage's", authentic=False) from None
    if claims.get("application_id", application_id) != application_id:
        raise ReportRejected("the report is of another application", authentic=False)
    digest = hashlib.sha256(request.body).hexdigest()
    if not hmac.compare_digest(digest.encode(), str(claims.get("payload_hash")).lower().encode()):
        raise ReportRejected("the report's signature is of another body", authentic=False)


def read_object(body: bytes) -> dict[str, Any]:
    """A webhook's JSON object, numbers with a point as text so that nothing is rounded."""
    try:
        said = json.loads(body, parse_float=str)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ReportRejected("the report is not a JSON object")
    return said


METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")
"""How the dashboard says that messages are signed: MD5 of the text and the secret, or an HMAC."""


def sig(secret: str, method: str, fields: Iterable[tuple[str, str]]) -> str:
    """The parameter ``sig``, in lower case: over the other fields by name, with ``&`` and ``=`` in values as ``_``."""
    text = "".join(f"&{name}={re.sub('[&=]', '_', value)}" for name, value in sorted(fields) if name != "sig")
    if method == "md5hash":
        # The vendor's default, kept for accounts that cannot change it.
        return hashlib.md5((text + secret).encode(), usedforsecurity=False).hexdigest()
    return hmac.new(secret.encode(), text.encode(), method).hexdigest()


def moment(value: object) -> datetime | None:
    """A time as Vonage writes it, ISO 8601; in UTC where it names no zone."""
    if not isinstance(value, str) or not 10 <= len(value) <= 40:
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
