"""Proofs: signed, short-lived, for one audience, redeemed once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otpvoice import ProofRejected
from otpvoice.channels.memory import Memory, MemorySettings
from otpvoice.clock import ManualClock
from otpvoice.keys import Keyring
from otpvoice.proof import ALGORITHM, TYPE, binding_hash, jwks, sign, verify_proof
from tests.conftest import NUMBER, OTHER_NUMBER, SECRET, policies
from tests.http_tools import Client, House, Make, houses

AUDIENCE = "https://shop.example"
BINDING = {"amount": "10.50", "currency": "EUR", "payee": "Ann"}


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def proved(house: House, shop: Client, **more: Any) -> str:
    opened = shop.open(**more)
    return str(shop.verify(opened["id"], house.code).json()["proof"])


def keys(house: House) -> dict[str, Any]:
    return dict(house.client(None).get("/.well-known/jwks.json").json())


def test_a_proof_says_what_was_proved(house: House) -> None:
    shop = house.client()
    token = proved(house, shop, subject="alice", binding=BINDING)
    proof = verify_proof(
        token, keys=keys(house), audience=AUDIENCE, purpose="login", subject="alice", binding=BINDING,
        now=house.clock.now(),
    )  # fmt: skip
    assert (proof.purpose, proof.subject, proof.channel, proof.medium) == ("login", "alice", "voice", "voice")
    assert proof.binding_hash == binding_hash(BINDING)
    assert proof.expires_at - proof.issued_at == timedelta(seconds=120)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["amr"] == ["otp"]
    assert NUMBER not in json.dumps(claims)
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": Keyring([SECRET]).kid, "typ": TYPE}


def test_equal_recipients_have_equal_keys_and_others_others(house: House) -> None:
    shop = house.client()

    def key(token: str) -> Any:
        return jwt.decode(token, options={"verify_signature": False})["recipient_key"]

    first, second, other = (proved(house, shop, recipient=number) for number in (NUMBER, NUMBER, OTHER_NUMBER))
    assert key(first) == key(second) != key(other)


def test_mailboxes_that_differ_in_case_prove_nothing_of_each_other(make: Make) -> None:
    """P40: on some servers they are two people's. Limits take them for one, a proof is for the one written to."""
    mail = Memory("mail", MemorySettings(medium="email"))
    house = make(channels=[mail], policies=policies("mail"))
    shop = house.client()
    opened = shop.open("MIKE@example.org")
    token = str(shop.verify(opened["id"], mail.sent[-1].code).json()["proof"])
    other = shop.post("/v1/proofs/redeem", {"proof": token, "recipient": "mike@example.org"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:otpvoice:problem:proof-invalid")
    assert shop.post("/v1/proofs/redeem", {"proof": token, "recipient": "MIKE@EXAMPLE.ORG"}).status_code == 200


def test_a_proof_is_redeemed_once(house: House) -> None:
    shop = house.client()
    token = proved(house, shop, subject="alice")
    first = shop.post("/v1/proofs/redeem", {"proof": token, "subject": "alice", "recipient": "+84 912 345 678"})
    assert first.status_code == 200
    assert first.json()["subject"] == "alice"
    second = shop.post("/v1/proofs/redeem", {"proof": token})
    assert (second.status_code, second.json()["type"]) == (422, "urn:otpvoice:problem:proof-invalid")


def test_every_reason_to_refuse_a_proof_looks_alike_and_uses_nothing_up(house: House) -> None:
    shop, bank = house.client(), house.client(house.key("bank"))
    token = proved(house, shop, subject="alice", binding=BINDING)
    refused = [
        shop.post("/v1/proofs/redeem", {"proof": token, **claim})
        for claim in (
            {"subject": "mallory"},
            {"purpose": "payment"},
            {"recipient": OTHER_NUMBER},
            {"binding": {**BINDING, "amount": "99.00"}},
        )
    ]
    refused.append(bank.post("/v1/proofs/redeem", {"proof": token}))
    refused.append(shop.post("/v1/proofs/redeem", {"proof": "x.y.z"}))
    assert {answer.status_code for answer in refused} == {422}
    assert len({answer.content for answer in refused}) == 1
    assert shop.post("/v1/proofs/redeem", {"proof": token}).status_code == 200


def test_an_expired_proof_is_refused_wherever(house: House) -> None:
    shop = house.client()
    token = proved(house, shop)
    house.clock.advance(121)
    assert shop.post("/v1/proofs/redeem", {"proof": token}).status_code == 422
    with pytest.raises(ProofRejected):
        verify_proof(token, keys=keys(house), audience=AUDIENCE, now=house.clock.now())


def test_redemption_is_remembered_for_as_long_as_the_proof_could_count(house: House) -> None:
    shop = house.client()
    token = proved(house, shop)
    assert shop.post("/v1/proofs/redeem", {"proof": token}).status_code == 200
    for _ in range(130):
        house.clock.advance(1)
        assert shop.post("/v1/proofs/redeem", {"proof": token}).status_code == 422


def test_proofs_of_an_older_root_secret_count_until_it_leaves(make: Make) -> None:
    old = make()
    token = proved(old, old.client())
    new_secret = "another-root-secret-0123456789-abcdefgh"
    both = make(secret=[new_secret, SECRET])
    assert [key["kid"] for key in keys(both)["keys"]] == [Keyring([new_secret]).kid, Keyring([SECRET]).kid]
    verify_proof(token, keys=keys(both), audience=AUDIENCE, now=both.clock.now())
    with pytest.raises(ProofRejected):
        verify_proof(token, keys=keys(make(secret=new_secret)), audience=AUDIENCE, now=both.clock.now())


def _claims(clock: ManualClock, **changes: Any) -> dict[str, Any]:
    now = int(clock.now().timestamp())
    claims: dict[str, Any] = {
        "iss": "otpvoice", "aud": AUDIENCE, "iat": now, "exp": now + 120, "jti": "pf_1", "tenant": "shop",
        "challenge_id": "ch_1", "purpose": "login", "channel": "voice", "medium": "voice",
    }  # fmt: skip
    claims.update(changes)
    return {name: value for name, value in claims.items() if value is not ...}


def test_a_proof_of_ours_is_the_measure_of_the_forgeries_below(clock: ManualClock) -> None:
    ring = Keyring([SECRET])
    assert verify_proof(sign(_claims(clock), ring), keys=jwks(ring), audience=AUDIENCE, now=clock.now()).id == "pf_1"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.example"},
        {"aud": [AUDIENCE]},
        {"iss": "somebody"},
        {"exp": 0},
        {"exp": "soon"},
        {"exp": 1e300},
        {"exp": True},
        {"jti": ...},
        {"jti": 7},
        {"purpose": ...},
        {"sub": ["alice"]},
        {"iat": 0},
    ],
)
def test_wrong_claims_are_refused(clock: ManualClock, changes: dict[str, Any]) -> None:
    ring = Keyring([SECRET])
    key = Ed25519PrivateKey.from_private_bytes(ring.proof_seeds()[0][1])
    segments = [{"alg": "EdDSA", "kid": ring.kid, "typ": TYPE}, _claims(clock, **changes)]
    signing = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in segments)
    token = b".".join([signing, base64.urlsafe_b64encode(key.sign(signing)).rstrip(b"=")]).decode()
    with pytest.raises(ProofRejected):
        verify_proof(token, keys=jwks(ring), audience=AUDIENCE, now=clock.now())


def _forgeries(clock: ManualClock) -> Iterator[tuple[str, str]]:
    ring, stranger = Keyring([SECRET]), Ed25519PrivateKey.generate()
    claims, kid = _claims(clock), ring.kid
    public = Ed25519PrivateKey.from_private_bytes(ring.proof_seeds()[0][1]).public_key()
    pem = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    header = {"kid": kid, "typ": TYPE}

    def segment(part: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

    yield "none", f"{segment({**header, 'alg': 'none'})}.{segment(claims)}."
    yield "None", f"{segment({**header, 'alg': 'None'})}.{segment(claims)}."
    yield "HS256 with the public key", jwt.encode(claims, pem, algorithm="HS256", headers=header)
    yield "another key", jwt.encode(claims, stranger, algorithm=ALGORITHM, headers=header)
    yield "another kid", jwt.encode(claims, stranger, algorithm=ALGORITHM, headers={**header, "kid": "x"})
    own = {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": segment("x")}, "jku": "https://evil.example/jwks"}
    yield "its own key", jwt.encode(claims, stranger, algorithm=ALGORITHM, headers={**header, **own})
    good = str(sign(claims, ring))
    yield "another type", jwt.encode(
        claims, Ed25519PrivateKey.from_private_bytes(ring.proof_seeds()[0][1]), algorithm=ALGORITHM,
        headers={"kid": kid, "typ": "JWT"},
    )  # fmt: skip
    yield "no signature", good.rsplit(".", 1)[0] + "."
    head, _body, signature = good.split(".")
    yield "changed claims", f"{head}.{segment({**claims, 'purpose': 'payment'})}.{signature}"
    yield "too long", good + "A" * 5000
    yield "no token", ""
    yield "no ASCII", good + "é"


def test_forgeries_are_refused(clock: ManualClock) -> None:
    """P92: one algorithm, our keys, whatever the header says."""
    ring = Keyring([SECRET])
    accepted = []
    for name, token in _forgeries(clock):
        try:
            verify_proof(token, keys=jwks(ring), audience=AUDIENCE, now=clock.now())
        except ProofRejected:
            continue
        accepted.append(name)
    assert not accepted


def test_the_verifiers_own_store_can_redeem(clock: ManualClock) -> None:
    ring = Keyring([SECRET])
    token = str(sign(_claims(clock), ring))
    seen: set[str] = set()

    def first(jti: str, _expires: Any) -> bool:
        known = jti in seen
        seen.add(jti)
        return not known

    def check() -> Any:
        return verify_proof(token, keys=jwks(ring), audience=AUDIENCE, now=clock.now(), redeem=first)

    assert check().id == "pf_1"
    with pytest.raises(ProofRejected):
        check()


def test_a_proof_is_its_tenants_even_where_audiences_are_shared(make: Make) -> None:
    house = make(tenants={"shop": {"audience": AUDIENCE}, "bank": {"audience": AUDIENCE}})
    shop, bank = house.client(), house.client(house.key("bank"))
    token = proved(house, shop)
    assert bank.post("/v1/proofs/redeem", {"proof": token}).status_code == 422
    assert shop.post("/v1/proofs/redeem", {"proof": token}).status_code == 200
