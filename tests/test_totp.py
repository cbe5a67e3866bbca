"""Authenticator-app codes: RFC 6238, one acceptance a time step, and the same ledger as everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice import (
    ChallengeClosed,
    ChallengeState,
    CodeMismatch,
    InvalidRequest,
    LockedOut,
    UnknownChannel,
    UnknownFactor,
    totp,
)
from otpvoice.clock import ManualClock
from otpvoice.keys import Keyring
from otpvoice.store import factors
from otpvoice.store.factors import FactorRow
from otpvoice.types import Code
from tests.conftest import NUMBER, OTHER_NUMBER, SECRET, Maker, Otp, policies
from tests.core_tools import of_tenant
from tests.hostile import NO_CODES, NO_NAMES, NO_TEXT, SURROGATE

RFC_SECRET = pyotp.TOTP("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").secret
RING = Keyring([SECRET])


@pytest.fixture(params=["sync", "async"])
def otp(request: pytest.FixtureRequest, services: Maker, clock: ManualClock) -> Otp:
    """As everywhere, with the app before the call."""
    desk = Otp(services, clock, request.param)
    desk.service = desk.again(policies=policies("totp", "voice"), brand="Example & Co")
    return desk


def app(enrollment: Any) -> pyotp.TOTP:
    """The person's app, after the QR code."""
    parsed = pyotp.parse_uri(str(enrollment.provisioning_uri))
    assert isinstance(parsed, pyotp.TOTP)
    return parsed


def shown(enrollment: Any, otp: Otp, *, steps: int = 0) -> str:
    """What the app shows now, or some time steps off."""
    return app(enrollment).at(otp.clock.now(), counter_offset=steps)


def enrolled(otp: Otp, subject: str = "alice") -> Any:
    """A confirmed factor, and the clock beyond the step that confirmed it."""
    enrollment = otp.service.enroll_totp(subject)
    otp.service.confirm_totp(enrollment.factor_id, shown(enrollment, otp), subject=subject)
    otp.clock.advance(90)
    return enrollment


def factor(secret: str, *, last_step: int = -1) -> FactorRow:
    return FactorRow(
        id="fa_1",
        tenant="default",
        subject_key="k",
        state="confirmed",
        sealed=RING.seal(secret.encode(), context="totp:fa_1"),
        last_step=last_step,
        attempts=0,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        confirmed_at=None,
    )


# --- The algorithm


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_vectors_of_rfc_6238(seconds: int, code: str) -> None:
    """Appendix B, SHA-1, the last six of their eight digits: accepted at their time, not one window away."""
    at = datetime.fromtimestamp(seconds, UTC)
    assert totp.matching_step(RING, factor(RFC_SECRET), Code(code[-6:]), at) == seconds // 30
    for away in (61, -61) if seconds > 100 else (61,):
        assert totp.matching_step(RING, factor(RFC_SECRET), Code(code[-6:]), at + timedelta(seconds=away)) is None


@given(st.integers(200, 2**33), st.integers(-3, 3))
def test_one_step_either_way_and_nothing_used(seconds: int, away: int) -> None:
    """P9: the window is ±1, and nothing at or below the last accepted step matches."""
    at = datetime.fromtimestamp(seconds, UTC)
    step = seconds // 30 + away
    code = Code(pyotp.TOTP(RFC_SECRET).generate_otp(step))
    found = totp.matching_step(RING, factor(RFC_SECRET), code, at)
    assert found == step if abs(away) <= 1 else found != step
    assert totp.matching_step(RING, factor(RFC_SECRET, last_step=seconds // 30 + 1), code, at) is None


# --- Enrolling


def test_an_app_is_enrolled_confirmed_and_used(otp: Otp) -> None:
    """The main story: no code is sent, the app's is accepted, the proof says so."""
    enrollment = otp.service.enroll_totp("alice", account="alice@example.org")
    uri = urlsplit(str(enrollment.provisioning_uri))
    query = parse_qs(uri.query)
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert (query["secret"], query["issuer"]) == ([str(enrollment.secret)], ["Example & Co"])
    assert "alice%40example.org" in uri.path
    assert len(str(enrollment.secret)) == 32, "160 bits (RFC 4226, requirement 6)"
    otp.service.confirm_totp(enrollment.factor_id, shown(enrollment, otp), subject="alice")
    otp.clock.advance(30)
    challenge = otp.service.issue_code(None, purpose="login", subject="alice")
    assert (challenge.delivery, challenge.recipient, otp.voice.sent) == (None, None, ())
    proof = otp.service.verify_code(challenge.id, shown(enrollment, otp))
    assert (proof.channel, proof.medium, proof.subject, proof.delivery_id) == ("totp", "app", "alice", None)


def test_what_was_enrolled_is_shown_once(otp: Otp) -> None:
    """Neither secret nor URI in a repr, an event or, in plain, the database; a QR code carries them."""
    enrollment = otp.service.enroll_totp("alice")
    assert str(enrollment.secret) not in repr(enrollment)
    assert "█" in enrollment.qr() or "▀" in enrollment.qr() or "▄" in enrollment.qr()
    store = otp.service._assembly.store
    dump = store.transact(
        lambda connection, _now: repr(
            connection.exec_driver_sql("SELECT * FROM totp_factor").all()
            + connection.exec_driver_sql("SELECT * FROM event").all()
        )
    )
    assert str(enrollment.secret) not in dump


def test_an_unconfirmed_app_proves_nothing(otp: Otp) -> None:
    """Until the person has shown that it works, the call is taken."""
    enrollment = otp.service.enroll_totp("alice")
    with pytest.raises(InvalidRequest):
        otp.service.issue_code(None, purpose="login", subject="alice")
    with pytest.raises(UnknownFactor):
        otp.service.issue_code(NUMBER, purpose="login", subject="alice", channel="totp")
    challenge = otp.service.issue_code(NUMBER, purpose="login", subject="alice")
    assert challenge.delivery.channel == "voice"
    with pytest.raises(CodeMismatch):
        otp.service.verify_code(challenge.id, shown(enrollment, otp))


def test_five_tries_to_confirm(otp: Otp) -> None:
    """The sixth is refused even when it is right; enrolling again starts anew."""
    enrollment = otp.service.enroll_totp("alice")
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(CodeMismatch) as wrong:
            otp.service.confirm_totp(enrollment.factor_id, otp.wrong(shown(enrollment, otp)), subject="alice")
        assert wrong.value.attempts_left == left
    with pytest.raises(UnknownFactor):
        otp.service.confirm_totp(enrollment.factor_id, shown(enrollment, otp), subject="alice")
    assert enrolled(otp)


def test_only_its_owner_confirms_it_and_only_once(otp: Otp) -> None:
    """Another subject, another tenant, a second time: unknown."""
    enrollment = otp.service.enroll_totp("alice")
    code = shown(enrollment, otp)
    with pytest.raises(UnknownFactor):
        otp.service.confirm_totp(enrollment.factor_id, code, subject="mallory")
    with pytest.raises(UnknownFactor):
        of_tenant(otp, "other").confirm_totp(enrollment.factor_id, code, subject="alice")
    otp.service.confirm_totp(enrollment.factor_id, code, subject="alice")
    with pytest.raises(UnknownFactor):
        otp.service.confirm_totp(enrollment.factor_id, shown(enrollment, otp, steps=1), subject="alice")


def test_a_new_app_replaces_the_old_one_when_it_is_confirmed(otp: Otp) -> None:
    """Not before: a started enrolment locks nobody out. Removing leaves none."""
    old = enrolled(otp)
    new = otp.service.enroll_totp("alice")
    challenge = otp.service.issue_code(None, purpose="login", subject="alice")
    assert otp.service.verify_code(challenge.id, shown(old, otp))
    otp.service.confirm_totp(new.factor_id, shown(new, otp), subject="alice")
    otp.clock.advance(60)
    challenge = otp.service.issue_code(None, purpose="login", subject="alice")
    with pytest.raises(CodeMismatch):
        otp.service.verify_code(challenge.id, shown(old, otp))
    assert otp.service.verify_code(challenge.id, shown(new, otp))
    assert otp.service.remove_totp("alice") == 1
    assert otp.service.remove_totp("alice") == 0
    with pytest.raises(InvalidRequest):
        otp.service.issue_code(None, purpose="login", subject="alice")


# --- Using


def test_a_step_is_accepted_once_over_all_challenges(otp: Otp) -> None:
    """P9, RFC 6238 5.2: the code that logged in does not log in again, nor does one of an earlier step."""
    enrollment = enrolled(otp)
    first = otp.service.issue_code(None, purpose="login", subject="alice")
    second = otp.service.issue_code(None, purpose="login", subject="alice")
    code, before = shown(enrollment, otp), shown(enrollment, otp, steps=-1)
    assert otp.service.verify_code(first.id, code)
    for stale in (code, before):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(second.id, stale)
    assert otp.service.verify_code(second.id, shown(enrollment, otp, steps=1))


def test_the_last_attempt_closes_where_another_challenge_took_its_step_first(
    otp: Otp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P70, P9: both were charged before either was approved; the loser's challenge is exhausted, not left open."""
    enrollment = enrolled(otp)
    service = otp.again(policies=policies("totp", max_attempts=1))
    challenge = service.issue_code(None, purpose="login", subject="alice")
    monkeypatch.setattr(factors, "use_step", lambda *_: False)
    with pytest.raises(CodeMismatch) as refused:
        service.verify_code(challenge.id, shown(enrollment, otp))
    assert refused.value.attempts_left == 0
    assert service.get(challenge.id).state is ChallengeState.EXHAUSTED


def test_the_code_that_confirmed_does_not_log_in(otp: Otp) -> None:
    """It was accepted already."""
    enrollment = otp.service.enroll_totp("alice")
    code = shown(enrollment, otp)
    otp.service.confirm_totp(enrollment.factor_id, code, subject="alice")
    challenge = otp.service.issue_code(None, purpose="login", subject="alice")
    with pytest.raises(CodeMismatch):
        otp.service.verify_code(challenge.id, code)


def test_an_app_moves_to_a_new_secret_when_it_is_used(otp: Otp) -> None:
    """P69: nobody enrolls again because a secret was rotated; the old secret may go once the app was used."""
    enrollment = enrolled(otp)
    own = policies("totp", "voice")
    newer = "a-newer-root-secret-with-Entropy-0815-and-more"
    rotated = otp.again(policies=own, secret=[newer, SECRET])
    wrong = rotated.issue_code(None, purpose="login", subject="alice")
    with pytest.raises(CodeMismatch):
        rotated.verify_code(wrong.id, shown(enrollment, otp, steps=2))
    assert rotated.verify_code(wrong.id, shown(enrollment, otp))
    otp.clock.advance(30)
    alone = otp.again(policies=own, secret=newer)
    challenge = alone.issue_code(None, purpose="login", subject="alice")
    assert alone.verify_code(challenge.id, shown(enrollment, otp)).channel == "totp"
    assert alone.remove_totp("alice") == 1


def test_an_older_challenge_moves_no_app_back(otp: Otp) -> None:
    """It was opened before the secret was rotated, and is approved after the app had moved."""
    enrollment = enrolled(otp)
    own = policies("totp", "voice")
    newer = "a-newer-root-secret-with-Entropy-0815-and-more"
    older = otp.service.issue_code(None, purpose="login", subject="alice")
    rotated = otp.again(policies=own, secret=[newer, SECRET])
    challenge = rotated.issue_code(None, purpose="login", subject="alice")
    assert rotated.verify_code(challenge.id, shown(enrollment, otp))
    otp.clock.advance(30)
    assert rotated.verify_code(older.id, shown(enrollment, otp))
    assert otp.again(policies=own, secret=newer).issue_code(None, purpose="login", subject="alice")


def test_falling_back_to_the_call(otp: Otp) -> None:
    """No phone at hand with the app on it: a resend calls; either code verifies, once."""
    enrollment = enrolled(otp)
    challenge = otp.service.issue_code(NUMBER, purpose="login", subject="alice")
    assert (challenge.delivery, challenge.next_step, challenge.sends_left) == (None, "voice", 5)
    called = otp.service.resend_code(challenge.id)
    assert (called.delivery.channel, called.sends_left) == ("voice", 4)
    otp.clock.advance(30)
    with pytest.raises(InvalidRequest):
        otp.service.resend_code(challenge.id, channel="totp")
    proof = otp.service.verify_code(challenge.id, otp.code)
    assert (proof.channel, proof.subject) == ("voice", "alice")
    with pytest.raises(ChallengeClosed):
        otp.service.verify_code(challenge.id, shown(enrollment, otp))


def test_the_app_still_counts_after_the_call(otp: Otp) -> None:
    """As any late code of the challenge."""
    enrollment = enrolled(otp)
    challenge = otp.service.issue_code(NUMBER, purpose="login", subject="alice")
    otp.service.resend_code(challenge.id)
    if shown(enrollment, otp) != otp.code:
        assert otp.service.verify_code(challenge.id, shown(enrollment, otp)).channel == "totp"


def test_nowhere_to_fall_back_to(otp: Otp) -> None:
    """Without a recipient there is no call; nothing is charged for asking."""
    enrolled(otp)
    challenge = otp.service.issue_code(None, purpose="login", subject="alice")
    assert challenge.next_step is None
    with pytest.raises(InvalidRequest):
        otp.service.resend_code(challenge.id)
    assert otp.service.get(challenge.id).sends_left == 5


def test_the_lock_is_shared_with_the_call(otp: Otp) -> None:
    """P25: guesses at the app lock calls for the account, and the other way round."""
    service = otp.again(policies=policies("totp", "voice", lock_after=5))
    enrollment = enrolled(otp)
    challenge = service.issue_code(None, purpose="login", subject="alice")
    right = {shown(enrollment, otp, steps=step) for step in (-1, 0, 1)}
    wrong = next(f"{n:06d}" for n in range(9) if f"{n:06d}" not in right)
    for _ in range(5):
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, wrong)
    for recipient in (None, NUMBER, OTHER_NUMBER):
        with pytest.raises(LockedOut):
            service.issue_code(recipient, purpose="login", subject="alice")


def test_a_guess_counts_three(otp: Otp) -> None:
    """P9: it is compared with three codes, so the year's budget holds."""
    service = otp.again(policies=policies("totp", "voice", longer_after=3))
    enrolled(otp)
    challenge = service.issue_code(NUMBER, purpose="login", subject="alice")
    with pytest.raises(CodeMismatch):
        service.verify_code(challenge.id, "000000")
    service.resend_code(challenge.id)
    assert len(otp.code) == 8, "three failures after one guess"


def test_a_false_claim_fails_with_the_right_app_code_too(otp: Otp) -> None:
    """P11, P12."""
    enrollment = enrolled(otp)
    challenge = otp.service.issue_code(None, purpose="login", subject="alice")
    for claim in ({"purpose": "reset"}, {"subject": "mallory"}, {"binding": {"reference": "x"}}):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(challenge.id, shown(enrollment, otp), **claim)
    assert otp.service.verify_code(challenge.id, shown(enrollment, otp), purpose="login", subject="alice")


def test_factors_are_their_tenants(otp: Otp) -> None:
    """P13: the same subject of another tenant has none."""
    enrolled(otp)
    with pytest.raises(InvalidRequest):
        of_tenant(otp, "other").issue_code(None, purpose="login", subject="alice")


def test_a_route_without_the_app_does_not_ask_it(otp: Otp) -> None:
    """The purpose's policy decides."""
    enrolled(otp)
    service = otp.again(policies=policies("voice"))
    with pytest.raises(InvalidRequest):
        service.issue_code(None, purpose="login", subject="alice")
    with pytest.raises(UnknownChannel):
        service.issue_code(NUMBER, purpose="login", subject="alice", channel="totp")


# --- Bad input


def test_bad_input_is_refused(otp: Otp) -> None:
    """Our errors, before anything is stored or tried; the same on both databases."""
    for value in (None, *NO_TEXT, *NO_NAMES):
        for operation in (otp.service.enroll_totp, otp.service.remove_totp):
            with pytest.raises(InvalidRequest):
                operation(value)
    enrollment = otp.service.enroll_totp("alice")
    for value in NO_TEXT:
        with pytest.raises(InvalidRequest):
            otp.service.confirm_totp(value, "123456", subject="alice")
        with pytest.raises(InvalidRequest):
            otp.service.confirm_totp(enrollment.factor_id, value, subject="alice")
    for value in ("", " ", "fa_", "\x00", f"fa_\x00{'0' * 31}", SURROGATE, "x" * 10**6, "' OR 1=1 --"):
        with pytest.raises(UnknownFactor):
            otp.service.confirm_totp(value, "123456", subject="alice")
    assert otp.service.confirm_totp(enrollment.factor_id, shown(enrollment, otp), subject="alice") is None


def test_what_cannot_be_a_code_does_not_confirm(otp: Otp) -> None:
    """And it is a try."""
    for typed in NO_CODES:
        enrollment = otp.service.enroll_totp("alice")
        with pytest.raises(CodeMismatch) as wrong:
            otp.service.confirm_totp(enrollment.factor_id, typed, subject="alice")
        assert wrong.value.attempts_left == 4
