"""Proofs: what a verified challenge leaves behind for another program to act on.

A signed JWT (RFC 7519; Ed25519, RFC 8037) that says who proved what, for whom, and when. It lives for two minutes
and counts once: whoever acts on it redeems it first. It shows possession of the recipient and nothing more: one
factor, not multi-factor authentication (PCI DSS 8.5.1; property P96).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from otpvoice import inputs, recipients
from otpvoice.context import Context
from otpvoice.context import digest as _digest
from otpvoice.errors import ConfigurationError, ProofRejected
from otpvoice.flow import Flow, transact
from otpvoice.keys import Keyring
from otpvoice.store import events, proofs
from otpvoice.store.events import Event
from otpvoice.types import Binding, Masked, Verified

if TYPE_CHECKING:
    from sqlalchemy import Connection

ALGORITHM = "EdDSA"
"""The only one that is ever accepted (property P92)."""
TYPE = "otp-proof+jwt"
"""``typ`` of the header (RFC 8725 3.11): no other token of this issuer passes for a proof."""
LONGEST_TTL = timedelta(minutes=5)
LONGEST_TOKEN = 4096

_REQUIRED = ("iss", "aud", "iat", "exp", "jti", "challenge_id", "purpose", "tenant", "channel", "medium")


class ProofToken(Masked):
    """A signed proof. Its ``repr`` is masked: whoever has it may redeem it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What an authentic proof says."""

    id: str
    """``jti``: one for each approved challenge. Act on it once."""
    challenge_id: str
    tenant: str
    audience: str
    purpose: str
    subject: str | None
    recipient_key: str | None
    """The keyed hash of the recipient: equal for equal recipients of one installation."""
    binding_hash: str | None
    """:func:`binding_hash` of what was bound."""
    channel: str
    medium: str
    issued_at: datetime
    expires_at: datetime


def binding_hash(binding: Binding | Mapping[str, str]) -> str:
    """SHA-256, in hexadecimal, of the binding's members as JSON with sorted keys: what a proof names it by."""
    digest = _digest(inputs.binding(binding))
    assert digest is not None
    return digest.hex()


def claims_of(
    verified: Verified, *, keyring: Keyring, tenant: str, audience: str, issuer: str, ttl: timedelta
) -> dict[str, Any]:
    """The claims of a success. Every challenge has one ``jti``, so that no second proof of it could count."""
    issued = int(verified.approved_at.timestamp())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "iat": issued,
        "exp": issued + int(min(ttl, LONGEST_TTL).total_seconds()),
        "jti": f"pf_{verified.challenge_id.removeprefix('ch_')}",
        "sub": verified.subject,
        "tenant": tenant,
        "challenge_id": verified.challenge_id,
        "purpose": verified.purpose,
        "channel": verified.channel,
        "medium": verified.medium.value,
        "amr": ["otp"],
    }
    if verified.recipient is not None:
        claims["recipient_key"] = _recipient_keys(keyring, verified.recipient)[0]
    if verified.binding is not None:
        claims["binding_hash"] = binding_hash(verified.binding)
    return {name: value for name, value in claims.items() if value is not None}


def sign(claims: Mapping[str, Any], keyring: Keyring) -> ProofToken:
    """Sign claims with the ring's first key. The same claims give the same token."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    kid, seed = keyring.proof_seeds()[0]
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return ProofToken(_jwt().encode(dict(claims), key, algorithm=ALGORITHM, headers={"kid": kid, "typ": TYPE}))


def jwks(keyring: Keyring) -> dict[str, list[dict[str, str]]]:
    """The public keys, as a JWK Set (RFC 7517), the signing one first."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    keys = []
    for kid, seed in keyring.proof_seeds():
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
        keys.append({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": ALGORITHM, "kid": kid, "x": x})
    return {"keys": keys}


def verify_proof(
    token: str,
    *,
    keys: Mapping[str, Any],
    audience: str,
    issuer: str = "otpvoice",
    purpose: str | None = None,
    subject: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
    leeway: timedelta = timedelta(0),
    now: datetime | None = None,
    redeem: Callable[[str, datetime], bool] | None = None,
) -> Proof:
    """Check a proof on the side that acts on it, without a network.

    ``keys`` is the service's JWK Set (``GET /.well-known/jwks.json``; fetch it yourself, and again for a ``kid`` that
    it lacks), ``audience`` the tenant's. ``purpose``, ``subject`` and ``binding``, where given, must be those proved;
    a program that acts for an account gives its subject. ``redeem`` is called last, with the proof's id and expiry,
    and says whether nobody redeemed it before: without it the caller sees to that (``POST /v1/proofs/redeem``, or
    a unique key in its own database). ``leeway`` is for clocks that differ, ``now`` for tests.

    Only Ed25519 signatures count, whatever the token's header says (RFC 8725 3.1). Raises
    :class:`~otpvoice.errors.ProofRejected`, which does not say why. Needs ``otpvoice[http]`` (PyJWT).
    """
    claims = _authentic(token, keys, audience=audience, issuer=issuer)
    proof = _read(claims, audience)
    at = datetime.now(UTC) if now is None else now
    alive = proof.issued_at - leeway <= at < proof.expires_at + leeway
    short = proof.expires_at - proof.issued_at <= LONGEST_TTL
    same_purpose = purpose in {None, proof.purpose}
    same_subject = subject in {None, proof.subject}
    same_binding = binding is None or binding_hash(binding) == proof.binding_hash
    if not (alive and short and same_purpose and same_subject and same_binding):
        raise ProofRejected
    if redeem is not None and not redeem(proof.id, proof.expires_at):
        raise ProofRejected
    return proof


def redeem(
    ctx: Context,
    token: str,
    *,
    audience: str,
    issuer: str,
    purpose: str | None = None,
    subject: str | None = None,
    recipient: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
) -> Flow[Proof]:
    """Use up a proof of the context's tenant: the first caller gets what it says.

    Raises :class:`~otpvoice.errors.ProofRejected` for every other one, and where a claim is not what was proved.
    """
    keys = jwks(ctx.keyring)
    expected = None if recipient is None else _recipient_keys(ctx.keyring, str(recipients.parse(recipient).address))

    def use_up(connection: Connection, now: datetime) -> Proof | None:
        try:
            proof = verify_proof(
                token,
                keys=keys,
                audience=audience,
                issuer=issuer,
                purpose=purpose,
                subject=subject,
                binding=binding,
                now=now,
                leeway=timedelta(seconds=1),  # ``iat`` and ``exp`` are whole seconds.
            )
        except ProofRejected:
            return None
        if proof.tenant != ctx.tenant or (expected is not None and proof.recipient_key not in expected):
            return None
        forget_at = proof.expires_at + timedelta(seconds=1)
        if not proofs.redeem(connection, proof.id, tenant=ctx.tenant, expires_at=forget_at, now=now):
            return None
        happened = Event(kind="proof.redeemed", tenant=ctx.tenant, challenge_id=proof.challenge_id)
        events.record(connection, now, happened)
        return proof

    inputs.binding(binding)
    found = yield from transact(use_up)
    if found is None:
        raise ProofRejected
    return found


def _authentic(token: str, keys: Mapping[str, Any], *, audience: str, issuer: str) -> Mapping[str, Any]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    jwt = _jwt()
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN or not token.isascii():
        raise ProofRejected
    try:
        header = jwt.get_unverified_header(token)
        known = [
            key
            for key in keys["keys"]
            if key.get("kid") == header.get("kid") and key.get("kty") == "OKP" and key.get("crv") == "Ed25519"
        ]
        if header.get("typ") != TYPE or header.get("alg") != ALGORITHM or len(known) != 1:
            raise ProofRejected
        raw = base64.urlsafe_b64decode(known[0]["x"] + "==")
        # Times are judged by the caller's clock, in verify_proof.
        options: Any = {
            "require": list(_REQUIRED),
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "strict_aud": True,
        }
        claims: Mapping[str, Any] = jwt.decode(
            token,
            Ed25519PublicKey.from_public_bytes(raw),
            algorithms=[ALGORITHM],
            audience=audience,
            issuer=issuer,
            options=options,
        )
    except (jwt.PyJWTError, ValueError, KeyError, TypeError):
        raise ProofRejected from None
    return claims


def _read(claims: Mapping[str, Any], audience: str) -> Proof:
    texts = [claims[name] for name in _REQUIRED if name not in {"iat", "exp"}]
    texts += [claims.get(name) for name in ("sub", "recipient_key", "binding_hash") if claims.get(name) is not None]
    times = [claims["iat"], claims["exp"]]
    if not all(isinstance(text, str) for text in texts) or not all(type(time) is int for time in times):
        raise ProofRejected
    return Proof(
        id=claims["jti"],
        challenge_id=claims["challenge_id"],
        tenant=claims["tenant"],
        audience=audience,
        purpose=claims["purpose"],
        subject=claims.get("sub"),
        recipient_key=claims.get("recipient_key"),
        binding_hash=claims.get("binding_hash"),
        channel=claims["channel"],
        medium=claims["medium"],
        issued_at=datetime.fromtimestamp(claims["iat"], UTC),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )


def _recipient_keys(keyring: Keyring, address: str) -> tuple[str, ...]:
    # The address as the code was sent to it. Limits take mailboxes that differ in case for one; a proof must not.
    return keyring.index("proved", str(recipients.parse(address).address))


def _jwt() -> Any:
    try:
        import jwt
    except ModuleNotFoundError:
        raise ConfigurationError("proofs need PyJWT: pip install 'otpvoice[http]'") from None
    return jwt
