"""The keyring: root secrets, and the keys derived from them.

Each root secret yields, by HKDF-SHA-256 (RFC 5869) with labels of their own: a *pepper* (mixed into every code's
tag), an *index key* (recipients are looked up by a keyed hash), a *seal key* (AES-256-GCM for what must be read
again) and a *key id*. The first secret writes; all of them read. To rotate, put a new secret in front and keep the
old one behind it until what it wrote is gone: ten minutes for codes, a day for sealed recipients, a year for the
failure ledger. Ledgers and authenticator apps move to the new key whenever they are used.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from otpvoice.errors import ConfigurationError, WeakSecret

MINIMUM_LENGTH = 32
"""Characters a root secret has at the least: 16 random bytes in hexadecimal, 24 in base64."""

_PLACEHOLDER = re.compile(r"change[-_ ]?me|replace[-_ ]?me|placeholder|your[-_ ]?secret|insert[-_ ]?secret", re.I)
_REPEATED = re.compile(r"(.{1,16}?)\1+.{0,15}", re.S)
_SEALED_VERSION = b"\x01"
_KID_BYTES = 4
_NONCE_BYTES = 12


def generate_secret() -> str:
    """A fresh root secret: 32 random bytes, URL-safe base64, 43 characters."""
    return secrets.token_urlsafe(32)


def check_strength(secret: str) -> None:
    """Raise :class:`~otpvoice.errors.WeakSecret` for a secret that is short, plain or a placeholder."""
    remedy = "make one with `otpvoice keys generate` and set OTPVOICE_SECRET to it"
    if not secret.strip():
        raise WeakSecret(f"OTPVOICE_SECRET is missing: {remedy}")
    if any("\ud800" <= character <= "\udfff" for character in secret):
        raise WeakSecret(f"OTPVOICE_SECRET is not text in UTF-8: {remedy}")
    if len(secret) < MINIMUM_LENGTH:
        raise WeakSecret(f"OTPVOICE_SECRET has {len(secret)} characters, {MINIMUM_LENGTH} are needed: {remedy}")
    if len(set(secret)) < 10 or _REPEATED.fullmatch(secret) or _PLACEHOLDER.search(secret):
        raise WeakSecret(f"OTPVOICE_SECRET is a placeholder or repeats itself: {remedy}")


@dataclass(frozen=True, slots=True)
class Key:
    """What one root secret yields. Its ``repr`` shows the key id only."""

    kid: str
    pepper: bytes = field(repr=False)
    index: bytes = field(repr=False)
    seal: bytes = field(repr=False)
    proof: bytes = field(repr=False)
    """The seed of the Ed25519 key that signs proofs."""

    @classmethod
    def derive(cls, secret: str) -> Self:
        """Derive the keys of a root secret. Raises :class:`~otpvoice.errors.WeakSecret`."""
        check_strength(secret)
        root = secret.encode()

        def derived(label: str, length: int = 32) -> bytes:
            return HKDF(SHA256(), length, salt=None, info=f"otpvoice/1/{label}".encode()).derive(root)

        return cls(
            kid=derived("kid", _KID_BYTES).hex(),
            pepper=derived("pepper"),
            index=derived("index"),
            seal=derived("seal"),
            proof=derived("proof"),
        )


class Keyring:
    """One or more :class:`Key`; the first writes, all read."""

    def __init__(self, root_secrets: Sequence[str]) -> None:
        if not root_secrets:
            check_strength("")
        self._keys = {key.kid: key for key in (Key.derive(secret) for secret in root_secrets)}
        if len(self._keys) != len(root_secrets):
            raise ConfigurationError("OTPVOICE_SECRET holds the same secret twice")
        self._ring = tuple(self._keys.values())
        self._ciphers = {key.kid: AESGCM(key.seal) for key in self._ring}

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self._keys)}>"

    @property
    def kid(self) -> str:
        """The id of the key that writes."""
        return self._ring[0].kid

    @property
    def scope(self) -> str:
        """What sets counters apart that are not found by a keyed hash: empty, but for a test tenant's ring."""
        return ""

    def pepper(self, kid: str) -> bytes:
        """The pepper of a key id. Raises :class:`~otpvoice.errors.ConfigurationError` when it left the ring."""
        key = self._keys.get(kid)
        if key is None:
            raise ConfigurationError(
                f"key {kid} is not in OTPVOICE_SECRET any more: keep an old secret behind the new one for a day"
            )
        return key.pepper

    def proof_seeds(self) -> tuple[tuple[str, bytes], ...]:
        """Key ids and Ed25519 seeds for proofs: the signing key's first, then the older ones'."""
        return tuple((key.kid, key.proof) for key in self._ring)

    def index(self, kind: str, value: str) -> tuple[str, ...]:
        """The keyed hashes by which a value is looked up: the writing key's first, then the older ones'."""
        material = framed(kind, value)
        return tuple(hmac.new(key.index, material, hashlib.sha256).hexdigest() for key in self._ring)

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Encrypt (AES-256-GCM). What is sealed for one context opens for no other."""
        nonce = os.urandom(_NONCE_BYTES)
        header = _SEALED_VERSION + bytes.fromhex(self.kid)
        return header + nonce + self._ciphers[self.kid].encrypt(nonce, plaintext, header + context.encode())

    def wrote(self, sealed: bytes) -> bool:
        """Whether it was sealed with the key that writes now, not with an older one."""
        return sealed[1 : 1 + _KID_BYTES].hex() == self.kid

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt. Raises :class:`~otpvoice.errors.ConfigurationError` for another ring's or a changed value."""
        split = 1 + _KID_BYTES
        header, nonce, body = sealed[:split], sealed[split : split + _NONCE_BYTES], sealed[split + _NONCE_BYTES :]
        cipher = self._ciphers.get(header[1:].hex())
        if header[:1] != _SEALED_VERSION or cipher is None:
            raise ConfigurationError("a stored value was sealed with a secret that is not in OTPVOICE_SECRET any more")
        try:
            return cipher.decrypt(nonce, body, header + context.encode())
        except (InvalidTag, ValueError):  # ValueError: cut short, so that not even a nonce is left.
            raise ConfigurationError(
                "a stored value was changed, or moved from another row: it does not open"
            ) from None


def framed(*fields: str | bytes | None) -> bytes:
    """Fields joined so that no two lists of them give the same bytes: each with its length; None is no empty text."""
    parts = []
    for item in fields:
        raw = item.encode() if isinstance(item, str) else item
        parts.append(b"\xff" * 4 if raw is None else len(raw).to_bytes(4, "big") + raw)
    return b"".join(parts)
