"""Signatures are those of Standard Webhooks: its own library takes them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from otpvoice import InvalidRequest
from otpvoice.webhooks import signing

BODY = b'{"type":"challenge.approved"}'


def test_the_specifications_own_library_takes_what_we_sign() -> None:
    secret = signing.new_secret()
    headers = signing.headers("msg_1", datetime.now(UTC), BODY, [secret])
    assert Webhook(str(secret)).verify(BODY, dict(headers)) == {"type": "challenge.approved"}
    for changed in (BODY.replace(b"approved", b"expired"), BODY + b" "):
        with pytest.raises(WebhookVerificationError):
            Webhook(str(secret)).verify(changed, dict(headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(str(secret)).verify(BODY, {**headers, "webhook-id": "msg_2"})


def test_the_specifications_example() -> None:
    """The vector of the specification's reference implementations."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}', [secret])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_after_a_rotation_both_secrets_are_taken() -> None:
    old, new = signing.new_secret(), signing.new_secret()
    headers = signing.headers("msg_1", datetime.now(UTC), BODY, [new, old])
    for secret in (old, new):
        Webhook(str(secret)).verify(BODY, dict(headers))


def test_a_secret_shows_nothing_and_is_never_the_same() -> None:
    secret = signing.new_secret()
    assert str(secret) not in repr(secret)
    assert secret != signing.new_secret()
    assert len(signing.key_of(secret)) == 32


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + base64.b64encode(b"short").decode()],
)
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        signing.key_of(secret)
    assert len(secret) < 7 or secret not in str(refused.value)
