"""Signatures as Standard Webhooks 1.0 asks for them: HMAC-SHA-256 over id, time and body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from otpvoice.errors import InvalidRequest
from otpvoice.types import Masked

PREFIX = "whsec_"
SECRET_BYTES = 32
"""The specification allows 24 to 64."""


class SigningSecret(Masked):
    """``whsec_`` and base64: what the receiver checks signatures with. Shown once."""

    __slots__ = ()


def new_secret() -> SigningSecret:
    """A fresh secret."""
    return SigningSecret(PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def key_of(secret: str) -> bytes:
    """The key that a secret holds. Raises :class:`~otpvoice.errors.InvalidRequest`, which does not repeat it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise InvalidRequest(f"a webhook secret is {PREFIX} followed by base64 of 24 to 64 bytes")
    return key


def headers(message_id: str, at: datetime, body: bytes, signing: Sequence[str]) -> Mapping[str, str]:
    """The three headers of the specification, with one signature for each secret that counts at this time."""
    timestamp = str(int(at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = [base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode() for secret in signing]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
