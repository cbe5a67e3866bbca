"""Twilio's ids: two letters and 32 hexadecimal digits. Those of challenges, deliveries and factors are ours renamed."""

from __future__ import annotations

import hashlib
import re
import secrets

_SID = re.compile(r"([A-Z]{2})([0-9a-fA-F]{32})")
_OURS = {"VE": "ch", "VL": "dl", "YF": "fa", "YC": "ch"}


def account(tenant: str) -> str:
    """The account SID of a tenant: an id, no secret, and the same for ever."""
    return f"AC{hashlib.sha256(f'otpvoice account:{tenant}'.encode()).hexdigest()[:32]}"


def key(key_id: str) -> str:
    """The API key SID of one of our keys' ids (16 hexadecimal digits)."""
    return f"SK{key_id}{'0' * 16}"


def new(prefix: str) -> str:
    """A fresh SID: ``VA`` a service, ``RK`` a rate limit, ``BL`` a bucket."""
    return f"{prefix}{secrets.token_hex(16)}"


def derived(prefix: str, digest: str) -> str:
    """A SID made of a keyed hash."""
    return f"{prefix}{digest[:32]}"


def of(prefix: str, our_id: str) -> str:
    """Our id as a SID of that kind: ``ch_…`` as ``VE…``."""
    return f"{prefix}{our_id.partition('_')[2]}"


def is_sid(prefix: str, text: str) -> bool:
    """Whether a text has the form of a SID of that kind."""
    match = _SID.fullmatch(text)
    return match is not None and match[1] == prefix


def ours(prefix: str, sid: str) -> str | None:
    """A SID of that kind as our id; None for what is none."""
    return f"{_OURS[prefix]}_{sid[2:].lower()}" if is_sid(prefix, sid) else None
