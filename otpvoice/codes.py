"""Codes: made uniformly, read leniently, stored as tags, compared in constant time."""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw

from otpvoice.errors import ConfigurationError
from otpvoice.keys import framed
from otpvoice.types import Code

LONGEST = 10
LONGEST_TYPED = 64
"""Characters of input that are looked at; a longer one cannot be a code (property P47)."""
SALT_BYTES = 16
TAG_BYTES = 32
_FORMAT = "otpvoice-code-1"


@dataclass(frozen=True, slots=True)
class HashProfile:
    """Parameters of argon2id (RFC 9106). ``memory`` is in KiB."""

    name: str
    memory: int
    passes: int
    lanes: int = 1


HASH_PROFILES = {
    profile.name: profile
    for profile in (
        # 12 MiB, t=3, p=1: on OWASP's Password Storage list and within ASVS 5.0 appendix C. About 18 ms.
        HashProfile("owasp", memory=12_288, passes=3),
        # For high volume, about 0.3 ms. Given up: time, if the database and OTPVOICE_SECRET leak together, until a
        # live six-digit code is found: no affordable setting resists that for long (its million values take
        # minutes with `owasp` on one GPU). Kept: a leaked database alone tells nothing, thanks to the pepper.
        HashProfile("fast", memory=256, passes=1),
    )
}
"""The named profiles. argon2-cffi's own default (64 MiB and four lanes) is wrong for codes that live minutes."""


def hash_profile(name: str) -> HashProfile:
    """A profile by name. A stored row names its profile; it never sets parameters of its own (property P73)."""
    try:
        return HASH_PROFILES[name]
    except KeyError:
        raise ConfigurationError(
            f"hash_profile {name!r} is unknown: use one of {', '.join(sorted(HASH_PROFILES))}"
        ) from None


def generate(length: int, *, randbelow: Callable[[int], int] = secrets.randbelow) -> Code:
    """A code of ``length`` digits, uniform over all ``10**length``, leading zeros kept (NIST SP 800-63B 3.2.12)."""
    return Code(str(randbelow(10**length)).zfill(length))


def normalise(typed: str) -> Code | None:
    """What a person typed as ASCII digits, or None where it cannot be a code (property P46).

    Any Unicode decimal digit counts (Arabic-Indic, full-width, Devanagari, …). White space, hyphens and dashes,
    and invisible format characters (bidi marks, zero-width spaces) are dropped. Everything else, and any length
    but 4 to 10 digits, gives None.
    """
    if len(typed) > LONGEST_TYPED:
        return None
    digits = []
    for character in typed:
        category = unicodedata.category(character)
        if category == "Nd":
            digits.append(str(unicodedata.decimal(character)))
        elif not (category in {"Zs", "Pd", "Cf"} or character in "\t\n\r"):
            return None
    return Code("".join(digits)) if 4 <= len(digits) <= LONGEST else None


def new_salt() -> bytes:
    """A salt for one challenge: all its deliveries share it, so that an attempt costs one hash."""
    return secrets.token_bytes(SALT_BYTES)


def tag(
    code: Code,
    *,
    profile: HashProfile,
    pepper: bytes,
    salt: bytes,
    tenant: str,
    challenge_id: str,
    purpose: str,
    subject: str | None,
    recipient_key: str | None,
    binding: bytes | None,
) -> bytes:
    """argon2id over a keyed HMAC of the code and of all it is bound to.

    The bindings inside the HMAC make a tag worthless on any other row: a copy verifies nothing (property P68).
    """
    keyed = hmac.digest(
        pepper,
        framed(_FORMAT, tenant, challenge_id, purpose, subject, recipient_key, binding, code),
        "sha256",
    )
    return hash_secret_raw(
        keyed, salt, profile.passes, profile.memory, profile.lanes, TAG_BYTES, Type.ID, ARGON2_VERSION
    )


def matching(candidate: bytes, tags: Iterable[tuple[str, bytes]]) -> str | None:
    """The id whose tag equals the candidate, or None. Looks at every tag, each in constant time."""
    found = None
    for identity, stored in tags:
        if hmac.compare_digest(candidate, stored):
            found = identity
    return found
