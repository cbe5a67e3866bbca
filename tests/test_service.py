"""The main story, end to end, on both databases and in both colours."""

from __future__ import annotations

from datetime import timedelta

import pytest

from otpvoice import ChallengeClosed, ChallengeState, CodeMismatch, DeliveryState, RateLimited
from tests.conftest import NUMBER, Otp


def test_a_code_is_issued_spoken_and_verified(otp: Otp) -> None:
    challenge = otp.service.issue_code(NUMBER, purpose="login", subject="alice")
    assert challenge.recipient == "+84•••••••78"
    assert challenge.state is ChallengeState.PENDING
    assert challenge.delivery is not None
    assert challenge.delivery.state is DeliveryState.DELIVERED
    assert challenge.attempts_left == 5
    with pytest.raises(CodeMismatch) as wrong:
        otp.service.verify_code(challenge.id, otp.wrong())
    assert wrong.value.attempts_left == 4
    verified = otp.service.verify_code(challenge.id, otp.code, purpose="login", subject="alice")
    assert verified.recipient == NUMBER
    assert verified.subject == "alice"
    assert verified.channel == "voice"
    with pytest.raises(ChallengeClosed):
        otp.service.verify_code(challenge.id, otp.code)
    assert otp.service.get(challenge.id).state is ChallengeState.APPROVED


def test_the_time_runs_from_the_opening_and_a_resend_does_not_extend_it(otp: Otp) -> None:
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(31)
    again = otp.service.resend_code(challenge.id)
    assert again.expires_at == challenge.expires_at
    otp.clock.advance(timedelta(minutes=5) - timedelta(seconds=32))
    assert otp.service.get(challenge.id).state is ChallengeState.PENDING
    otp.clock.advance(1)
    with pytest.raises(ChallengeClosed):
        otp.service.verify_code(challenge.id, otp.code)


def test_the_cooldown_grows(otp: Otp) -> None:
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    for wait in (30, 60, 120):
        with pytest.raises(RateLimited) as early:
            otp.service.resend_code(challenge.id)
        assert early.value.retry_after == timedelta(seconds=wait)
        otp.clock.advance(wait)
        otp.service.resend_code(challenge.id)
    assert len(otp.voice.sent) == 4
