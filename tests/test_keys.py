"""The keyring: which secrets start, what they yield, and that rotation loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice.errors import ConfigurationError, WeakSecret
from otpvoice.keys import MINIMUM_LENGTH, Key, Keyring, check_strength, generate_secret

OLD = "an-old-root-secret-with-Entropy-4711-and-more"
NEW = "a-new-root-secret-with-Entropy-0815-and-more!"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        " " * 40,
        "short",
        "x" * 31,
        "a" * 64,
        "abababababababababababababababababab",
        "0123456789" * 4,
        "passwordpasswordpasswordpassword",
        "change-me-change-me-please-0123456789",
        "changeme_abcdefghijklmnopqrstuvwxyz",
        "CHANGE_ME_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "replace-me-abcdefghijklmnopqrstuvwxyz",
        "your-secret-abcdefghijklmnopqrstuvwxyz",
        "insert secret here abcdefghijklmnopqrst",
        "placeholder-abcdefghijklmnopqrstuvwxyz",
        "\udcff\udcfe-abcdefghijklmnopqrstuvwxyz-0123456789",
    ],
)
def test_a_weak_secret_does_not_start(secret: str) -> None:
    """P69: missing, short, plain, repeated or a placeholder; the message says what to do, never the secret."""
    with pytest.raises(WeakSecret, match="otpvoice keys generate") as refused:
        Keyring([secret])
    assert not secret.strip() or secret not in str(refused.value)


def test_no_secret_at_all_does_not_start() -> None:
    """An empty ring is a missing secret."""
    with pytest.raises(WeakSecret, match="missing"):
        Keyring([])


def test_generated_secrets_are_strong_and_differ() -> None:
    """What the command makes is taken, every time."""
    made = {generate_secret() for _ in range(200)}
    assert len(made) == 200
    for secret in made:
        check_strength(secret)
        assert len(secret) >= MINIMUM_LENGTH


def test_keys_of_one_secret_are_independent_and_stable() -> None:
    """Derived by labels: four different keys, the same at every start, others for every other secret."""
    key, again, other = Key.derive(OLD), Key.derive(OLD), Key.derive(NEW)
    assert key == again
    assert len({key.pepper, key.index, key.seal, key.proof}) == 4
    assert {key.pepper, key.index, key.seal, key.proof}.isdisjoint({other.pepper, other.index, other.seal, other.proof})
    assert key.kid != other.kid


def test_nothing_prints_a_secret() -> None:
    """``repr`` of a key and a ring show key ids only."""
    key = Key.derive(OLD)
    shown = repr(key) + repr(Keyring([NEW, OLD]))
    assert OLD not in shown
    assert NEW not in shown
    assert repr(key.pepper)[2:-1] not in shown
    assert key.kid in shown


def test_the_first_writes_and_all_read() -> None:
    """Rotation: what the old secret sealed or indexed is found; new things carry the new key's id."""
    before, during, after = Keyring([OLD]), Keyring([NEW, OLD]), Keyring([NEW])
    sealed = before.seal(b"+84912345678", context="challenge:1")
    assert during.unseal(sealed, context="challenge:1") == b"+84912345678"
    assert during.kid == after.kid
    assert during.pepper(before.kid) == before.pepper(before.kid)
    assert during.index("recipient", "x") == after.index("recipient", "x") + before.index("recipient", "x")
    fresh = during.seal(b"y", context="c")
    assert after.unseal(fresh, context="c") == b"y"
    with pytest.raises(ConfigurationError, match="OTPVOICE_SECRET"):
        after.unseal(sealed, context="challenge:1")
    with pytest.raises(ConfigurationError, match="keep an old secret"):
        after.pepper(before.kid)


def test_the_same_secret_twice_is_a_mistake() -> None:
    """It would look like a rotation and be none."""
    with pytest.raises(ConfigurationError, match="twice"):
        Keyring([OLD, OLD])


def test_what_is_sealed_opens_only_where_it_belongs() -> None:
    """P68: moved to another row, or changed in any byte, it does not open."""
    ring = Keyring([OLD])
    sealed = ring.seal(b"+84912345678", context="challenge:1")
    with pytest.raises(ConfigurationError, match="moved"):
        ring.unseal(sealed, context="challenge:2")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(ConfigurationError):
            ring.unseal(bytes(changed), context="challenge:1")


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + b"\x00" * 4, b"\x01" * 16, b"\x00" * 64])
def test_rubbish_does_not_open(sealed: bytes) -> None:
    """Cut short or made up: our error, no other."""
    ring = Keyring([OLD])
    with pytest.raises(ConfigurationError):
        ring.unseal(sealed, context="c")
    own_header = ring.seal(b"", context="c")[:5]
    with pytest.raises(ConfigurationError):
        ring.unseal(own_header + sealed, context="c")


def test_sealing_twice_gives_two_texts() -> None:
    """A nonce of its own each time: equal recipients cannot be told from the database."""
    ring = Keyring([OLD])
    assert ring.seal(b"x", context="c") != ring.seal(b"x", context="c")


@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), max_size=30))
def test_sealing_is_undone_by_unsealing(plaintext: bytes, context: str) -> None:
    """For every plaintext and context."""
    assert RING.unseal(RING.seal(plaintext, context=context), context=context) == plaintext


def test_an_index_says_nothing_and_depends_on_kind_and_key() -> None:
    """P74: a keyed hash, another one for another kind, value or secret; no plain hash of the number."""
    import hashlib

    number = "phone:+84912345678"
    (index,) = Keyring([OLD]).index("recipient", number)
    assert index != Keyring([OLD]).index("subject", number)[0]
    assert index != Keyring([NEW]).index("recipient", number)[0]
    assert index == Keyring([OLD]).index("recipient", number)[0]
    plain = {
        hashlib.new(name, text.encode()).hexdigest()
        for name in ("md5", "sha1", "sha256")
        for text in (number, "+84912345678", "84912345678")
    }
    assert index not in plain


RING = Keyring([OLD])
