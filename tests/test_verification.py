"""Verifying: what counts as the code, what it is bound to, what an attempt costs, and what closes a challenge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from otpvoice import (
    Binding,
    ChallengeClosed,
    ChallengeState,
    CodeMismatch,
    InvalidRequest,
    LockedOut,
    MalformedCode,
    Policy,
    Route,
    ServiceBusy,
    Verified,
    codes,
)
from otpvoice.store import challenges, deliveries, ledgers
from tests.conftest import NUMBER, OTHER_NUMBER, SECRET, Otp, policies
from tests.core_tools import embedded
from tests.hostile import NO_CODES, NO_NAMES, NO_TEXT, SURROGATE
from tests.test_concurrency import enrol


@pytest.fixture(scope="module")
def hall(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Otp]:
    """One synchronous service on SQLite for the tests that need one colour and one database."""
    with embedded(sqlite_template, tmp_path_factory.mktemp("hall"), policies=OPEN) as desk:
        yield desk


OPEN = policies(max_live=10**6, max_sends_per_day=10**6, lock_after=10**6, longer_after=10**6, stop_after=10**6)


@pytest.fixture
def no_hash(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The codes that are hashed while the test runs."""
    hashed: list[str] = []
    tag = codes.tag

    def counted(code: Any, **options: Any) -> bytes:
        hashed.append(code)
        return tag(code, **options)

    monkeypatch.setattr(codes, "tag", counted)
    return hashed


def failures(otp: Any) -> int:
    """What the ledgers of login hold together."""
    store = otp.service._assembly.store
    keys = otp.service._context.keyring.index("recipient", f"phone:{NUMBER}")

    def look(connection: Any, now: Any) -> int:
        held = ledgers.hold(connection, tenant="default", purpose="login", owners=[keys], now=now)
        return sum(item.ledger.failures(now) for item in held)

    total: int = store.transact(look)
    return total


def zero(otp: Otp, options: dict[str, Any]) -> Any:
    """A challenge whose code begins with a zero: one in ten does."""
    for _ in range(500):
        challenge = otp.service.issue_code(NUMBER, purpose="login", **options)
        if otp.code.startswith("0"):
            return challenge
        otp.service.cancel(challenge.id)
    raise AssertionError("no code begins with 0: the generator is not uniform")


# --- What is the code


def test_a_leading_zero_belongs_to_the_code(hall: Otp) -> None:
    """P3: without it the code is malformed, as a number it is refused, with it it is right."""
    challenge = zero(hall, {})
    with pytest.raises(MalformedCode):
        hall.service.verify_code(challenge.id, hall.code[1:])
    with pytest.raises(InvalidRequest, match="str"):
        hall.service.verify_code(challenge.id, int(hall.code))  # type: ignore[arg-type]
    assert hall.service.verify_code(challenge.id, hall.code)


@pytest.mark.parametrize(
    "write",
    [
        lambda code: f" {code[:3]} {code[3:]}\r\n",
        "-".join,
        lambda code: "\u200e" + code,
        lambda code: "".join(chr(0x660 + int(digit)) for digit in code),
        lambda code: "".join(chr(0xFF10 + int(digit)) for digit in code),
        lambda code: code + " " * 58,
    ],
)
def test_the_code_as_people_write_it(hall: Otp, write: Any) -> None:
    """P46: blanks, hyphens, marks and other scripts' digits are the same code."""
    challenge = hall.service.issue_code(NUMBER, purpose="login")
    assert hall.service.verify_code(challenge.id, write(hall.code))


@pytest.mark.parametrize("typed", [*NO_CODES, "1234", "1234567", "12345678"])
def test_what_cannot_be_the_code_costs_no_attempt_and_no_hash(hall: Otp, typed: str, no_hash: list[str]) -> None:
    """P45, P47: nothing is charged, hashed or closed; the answer still says how many attempts are left."""
    challenge = hall.service.issue_code(NUMBER, purpose="login")
    no_hash.clear()
    before = failures(hall)
    for _ in range(7):
        with pytest.raises(MalformedCode) as malformed:
            hall.service.verify_code(challenge.id, typed)
        assert malformed.value.attempts_left == 5
        assert len(str(malformed.value)) < 100
    assert (no_hash, failures(hall)) == ([], before)
    assert hall.service.verify_code(challenge.id, hall.code)


@pytest.mark.parametrize("typed", [None, *NO_TEXT])
def test_a_code_that_is_no_text_is_a_mistake(hall: Otp, typed: Any) -> None:
    """P45: refused before anything is looked up or charged; the value is not repeated."""
    challenge = hall.service.issue_code(NUMBER, purpose="login")
    with pytest.raises(InvalidRequest, match="str") as refused:
        hall.service.verify_code(challenge.id, typed)
    assert "123456" not in str(refused.value)
    assert hall.service.get(challenge.id).attempts_left == 5


@pytest.mark.parametrize(
    "claim",
    [
        *({"subject": value} for value in (*NO_NAMES, *NO_TEXT)),
        *({"purpose": value} for value in (*NO_TEXT, SURROGATE, "login\x00", "", "x" * 300)),
        *({"binding": value} for value in (*NO_TEXT, {}, {"iban": "x"}, {"payee": SURROGATE}, Binding())),
    ],
)
def test_a_claim_that_cannot_be_one_is_a_mistake(hall: Otp, claim: dict[str, Any]) -> None:
    """A caller's bug is told before an attempt is spent, whatever type or text it is."""
    challenge = hall.service.issue_code(NUMBER, purpose="login", subject="alice")
    with pytest.raises(InvalidRequest):
        hall.service.verify_code(challenge.id, hall.code, **claim)
    assert hall.service.get(challenge.id).attempts_left == 5


# --- What it is bound to


FALSE_CLAIMS: tuple[dict[str, Any], ...] = (
    {"purpose": "reset"},
    {"purpose": "unheard-of"},
    {"subject": "mallory"},
    {"subject": "Alice"},
    {"binding": {"amount": "11.00", "currency": "EUR", "payee": "ACME"}},
    {"binding": {"amount": "10.00", "currency": "EUR", "payee": "Mallory"}},
    {"binding": {"amount": "10.00", "currency": "EUR"}},
    {"binding": {"amount": "10.0", "currency": "EUR", "payee": "ACME"}},
)


def test_a_false_claim_fails_like_a_wrong_code_and_is_charged(otp: Otp) -> None:
    """P11, P12, P14: the right code for something else is a wrong code, to the letter, and spends an attempt."""
    service = otp.again(policies=policies(max_attempts=10, lock_after=100))
    binding = {"amount": "10.00", "currency": "EUR", "payee": "ACME"}
    challenge = service.issue_code(NUMBER, purpose="login", subject="alice", binding=binding)
    for spent, claim in enumerate(FALSE_CLAIMS, start=1):
        with pytest.raises(CodeMismatch) as false:
            service.verify_code(challenge.id, otp.code, **claim)
        assert type(false.value) is CodeMismatch
        assert (false.value.attempts_left, failures(otp)) == (10 - spent, spent)
    proof = service.verify_code(challenge.id, otp.code, purpose="login", subject="alice", binding=binding)
    assert proof.binding == Binding(**binding)


def test_a_claim_of_more_than_was_bound_is_false(otp: Otp) -> None:
    """P12: a challenge without subject or binding proves nothing about one."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    for claim in ({"subject": "alice"}, {"binding": {"reference": "order-1"}}):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(challenge.id, otp.code, **claim)
    assert otp.service.verify_code(challenge.id, otp.code).subject is None


def test_each_account_is_confirmed_by_its_own_code(otp: Otp) -> None:
    """P10, P12: two accounts wait on one number; neither's code opens the other's challenge."""
    alice = otp.service.issue_code(NUMBER, purpose="signup", subject="alice")
    of_alice = otp.code
    mallory = otp.service.issue_code(NUMBER, purpose="signup", subject="mallory")
    of_mallory = otp.code
    if of_alice != of_mallory:
        for challenge, code in ((alice, of_mallory), (mallory, of_alice)):
            with pytest.raises(CodeMismatch):
                otp.service.verify_code(challenge.id, code)
    assert otp.service.verify_code(alice.id, of_alice).subject == "alice"
    assert otp.service.verify_code(mallory.id, of_mallory).subject == "mallory"


def test_the_proof_says_what_was_proved_and_hides_the_number(otp: Otp) -> None:
    """Everything from the challenge as it was opened; the repr is masked; it is one factor's proof."""
    challenge = otp.service.issue_code(NUMBER, purpose="login", subject="alice")
    proof = otp.service.verify_code(challenge.id, otp.code)
    assert isinstance(proof, Verified)
    assert (proof.challenge_id, proof.purpose, proof.recipient, proof.subject) == (
        challenge.id,
        "login",
        NUMBER,
        "alice",
    )
    assert (proof.channel, proof.medium, proof.delivery_id) == ("voice", "voice", challenge.delivery.id)
    assert proof.approved_at == otp.clock.now()
    assert NUMBER not in repr(proof)
    (used,) = otp.service.get(challenge.id).deliveries
    assert used.used


# --- What an attempt costs


def test_five_attempts_and_the_right_code_is_too_late(otp: Otp) -> None:
    """P8, P20: counted down, then closed for good on every way in."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(CodeMismatch) as wrong:
            otp.service.verify_code(challenge.id, otp.wrong())
        assert wrong.value.attempts_left == left
    for operation in (
        lambda: otp.service.verify_code(challenge.id, otp.code),
        lambda: otp.service.resend_code(challenge.id),
        lambda: otp.service.cancel(challenge.id),
    ):
        with pytest.raises(ChallengeClosed) as closed:
            operation()
    assert closed.value.reason in {"exhausted", "unknown"}
    assert otp.service.get(challenge.id).state is ChallengeState.EXHAUSTED


def test_a_resend_gives_no_attempt_back(otp: Otp) -> None:
    """P22: nor does another channel, another challenge or a success elsewhere."""
    service = otp.again(policies=policies(cooldowns=(timedelta(0),)))
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(4):
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, otp.wrong())
    assert service.resend_code(challenge.id).attempts_left == 1
    other = service.issue_code(NUMBER, purpose="login")
    service.verify_code(other.id, otp.code)
    assert service.get(challenge.id).attempts_left == 1
    assert failures(otp) == 4


def test_a_success_forgives_its_own_challenge_only(otp: Otp) -> None:
    """P23: three wrong guesses at another challenge stay, the owner's two typing errors go."""
    attacked = otp.service.issue_code(NUMBER, purpose="login")
    for _ in range(3):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(attacked.id, otp.wrong())
    own = otp.service.issue_code(NUMBER, purpose="login")
    for _ in range(2):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(own.id, otp.wrong())
    assert failures(otp) == 5
    assert otp.service.verify_code(own.id, otp.code)
    assert failures(otp) == 3


def test_a_guess_costs_as_many_failures_as_codes_it_was_compared_with(otp: Otp) -> None:
    """Design 4: after a resend two codes are live, and a guess counts two; ``newest`` compares and counts one."""
    for late, expected in (("all", 2), ("newest", 1)):
        before = failures(otp)
        service = otp.again(policies=policies(cooldowns=(timedelta(0),), late_codes=late))
        challenge = service.issue_code(NUMBER, purpose="login")
        first = otp.code
        otp.clock.advance(1)
        service.resend_code(challenge.id)
        guess = next(f"{n:06d}" for n in range(9) if f"{n:06d}" not in {first, otp.code})
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, guess)
        assert failures(otp) == before + expected


def test_late_codes_all_and_newest(otp: Otp) -> None:
    """``all``: any code of the open challenge; ``newest``: the last one only."""
    for late in ("all", "newest"):
        service = otp.again(policies=policies(cooldowns=(timedelta(0),), late_codes=late))
        challenge = service.issue_code(NUMBER, purpose="login")
        first = otp.code
        otp.clock.advance(1)
        service.resend_code(challenge.id)
        if late == "newest" and first != otp.code:
            with pytest.raises(CodeMismatch):
                service.verify_code(challenge.id, first)
            assert service.verify_code(challenge.id, otp.code)
        else:
            assert service.verify_code(challenge.id, first)


def test_ten_failures_lock_the_recipient_and_purpose(otp: Otp) -> None:
    """P25: also the right code of another open challenge waits; when the time is over it verifies or is expired."""
    opened = [otp.service.issue_code(NUMBER, purpose="login", subject=f"s{n}") for n in range(3)]
    last = otp.code
    for challenge in opened[:2]:
        for _ in range(5):
            with pytest.raises(CodeMismatch):
                otp.service.verify_code(challenge.id, "0000000"[: len(last)] if last != "000000" else "111111")
    with pytest.raises(LockedOut) as locked:
        otp.service.verify_code(opened[2].id, last)
    assert locked.value.retry_after == timedelta(minutes=30)
    assert otp.service.get(opened[2].id).attempts_left == 5, "a locked attempt is not spent"
    otp.clock.advance(timedelta(minutes=30))
    with pytest.raises(ChallengeClosed):
        otp.service.verify_code(opened[2].id, last)
    fresh = otp.service.issue_code(NUMBER, purpose="login")
    assert otp.service.verify_code(fresh.id, otp.code)


def test_a_subject_and_a_recipient_share_the_failures(otp: Otp) -> None:
    """P22, P23: another number for the same account, or another account on the same number, is no fresh budget."""
    service = otp.again(policies=policies(lock_after=3))
    challenge = service.issue_code(NUMBER, purpose="login", subject="alice")
    for _ in range(3):
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, otp.wrong())
    for recipient, subject in ((OTHER_NUMBER, "alice"), (NUMBER, "bob"), (NUMBER, None)):
        with pytest.raises(LockedOut):
            service.issue_code(recipient, purpose="login", subject=subject)
    assert service.issue_code(OTHER_NUMBER, purpose="login", subject="bob")


def test_after_fifty_failures_codes_are_longer(otp: Otp) -> None:
    """P24: eight digits, for that recipient; six of another length are malformed then; success shortens nothing."""
    service = otp.again(policies=policies(longer_after=3, lock_after=100))
    challenge = service.issue_code(NUMBER, purpose="login")
    assert len(otp.code) == 6
    for _ in range(3):
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, otp.wrong())
    for _ in range(2):
        longer = service.issue_code(NUMBER, purpose="login")
        assert len(otp.code) == 8
        with pytest.raises(MalformedCode):
            service.verify_code(longer.id, otp.code[:6])
        assert service.verify_code(longer.id, otp.code)
    service.issue_code(OTHER_NUMBER, purpose="login")
    assert len(otp.code) == 6


def test_nist_stops_at_its_bound(otp: Otp) -> None:
    """NIST SP 800-63B 3.2.2: at ``stop_after`` failures neither a code is sent nor an attempt taken, for a year."""
    nist = {
        name: Policy.nist(route=policy.route, hash_profile="fast", stop_after=4, longer_after=4)
        for name, policy in policies().items()
    }
    service = otp.again(policies=nist)
    spare = service.issue_code(NUMBER, purpose="login")
    code = otp.code
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(4):
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, otp.wrong())
    with pytest.raises(LockedOut) as stopped:
        service.verify_code(spare.id, code)
    assert stopped.value.retry_after > timedelta(days=365)
    with pytest.raises(LockedOut):
        service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(stopped.value.retry_after)
    assert service.issue_code(NUMBER, purpose="login")


def test_several_codes_at_once_do_not_outrun_the_bound(otp: Otp) -> None:
    """A guess counts once a code it meets: the last ones meet the newest codes only, and an app's three or none."""
    strict = {
        name: Policy(
            route=Route.of("totp", "voice"),
            hash_profile="fast",
            stop_after=4,
            longer_after=4,
            cooldowns=(timedelta(0),),
        )
        for name in policies()
    }
    service = otp.again(policies=strict)
    challenge = service.issue_code(NUMBER, purpose="login", channel="voice")
    codes = [otp.code]
    for _ in range(2):
        otp.clock.advance(1)
        service.resend_code(challenge.id, channel="voice")
        codes.append(otp.code)
    wrong = next(code for code in map("{:06}".format, range(10)) if code not in codes)
    for typed in (wrong, codes[0]):  # Three failures; then room for one, which the newest code takes.
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, typed)
    assert failures(otp) == 4
    with pytest.raises(LockedOut):
        service.verify_code(challenge.id, codes[-1])
    app = enrol(service, otp.clock)
    otp.clock.advance(60)
    on_app = service.issue_code(None, purpose="login", subject="alice")
    with pytest.raises(CodeMismatch):
        service.verify_code(on_app.id, app.at(otp.clock.now() + timedelta(hours=1)))
    with pytest.raises(LockedOut) as stopped:
        service.verify_code(on_app.id, app.at(otp.clock.now()))
    assert stopped.value.retry_after > timedelta(days=365)


# --- What closes a challenge


def test_a_payment_by_psd2(otp: Otp) -> None:
    """P95, RTS Art. 4 and 5: no code without what is paid to whom, said with it; five failures lock."""
    route = Route.of("voice")
    service = otp.again(policies={"payment": Policy.psd2(route=route, hash_profile="fast")})
    payment = Binding(amount="10.50", currency="EUR", payee="Flower Shop")
    for incomplete in (
        None,
        Binding(payee="Flower Shop"),
        Binding(amount="10.50", currency="EUR"),
        Binding(reference="1"),
    ):
        with pytest.raises(InvalidRequest, match="payee"):
            service.issue_code(NUMBER, purpose="payment", binding=incomplete)
    assert otp.voice.sent == ()
    challenge = service.issue_code(NUMBER, purpose="payment", locale="en", binding=payment)
    assert "Flower Shop" in otp.voice.sent[-1].text
    errors = []
    for other in (replace(payment, amount="10.51"), replace(payment, payee="Somebody")):
        with pytest.raises(CodeMismatch) as refused:
            service.verify_code(challenge.id, otp.code, binding=other)
        errors.append(type(refused.value))
    second = service.issue_code(NUMBER, purpose="payment", locale="en", binding=payment)
    for _ in range(3):
        with pytest.raises(CodeMismatch) as refused:
            service.verify_code(second.id, otp.wrong(), binding=payment)
        errors.append(type(refused.value))
    assert set(errors) == {CodeMismatch}
    with pytest.raises(LockedOut):
        service.verify_code(second.id, otp.code, binding=payment)
    assert [event.kind for event in service.events(second.id)].count("ledger.locked") == 1
    otp.clock.advance(timedelta(minutes=31))
    third = service.issue_code(NUMBER, purpose="payment", locale="en", binding=payment)
    assert service.verify_code(third.id, otp.code).binding == payment


def test_a_code_is_accepted_once(otp: Otp) -> None:
    """P7."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    assert otp.service.verify_code(challenge.id, otp.code)
    for code in (otp.code, otp.wrong()):
        with pytest.raises(ChallengeClosed) as closed:
            otp.service.verify_code(challenge.id, code)
        assert closed.value.reason == "approved"


@pytest.mark.parametrize(("early", "open_still"), [(1, True), (0, False)])
def test_the_last_moment(otp: Otp, early: int, open_still: bool) -> None:
    """P4: a microsecond before the end it is right, at the end it is over; nothing was charged then."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(challenge.expires_at - otp.clock.now() - timedelta(microseconds=early))
    if open_still:
        assert otp.service.verify_code(challenge.id, otp.code)
        return
    with pytest.raises(ChallengeClosed) as closed:
        otp.service.verify_code(challenge.id, otp.code)
    assert closed.value.reason == "expired"
    assert failures(otp) == 0


@pytest.mark.parametrize("end", ["approved", "cancelled", "exhausted", "expired"])
def test_nothing_to_compare_with_is_left_behind(otp: Otp, end: str) -> None:
    """P70: at every end salt and tags are gone from the database."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    if end == "approved":
        otp.service.verify_code(challenge.id, otp.code)
    elif end == "cancelled":
        otp.service.cancel(challenge.id)
    else:
        if end == "expired":
            otp.clock.advance(timedelta(minutes=5))
        for _ in range(5):
            with pytest.raises((CodeMismatch, ChallengeClosed)):
                otp.service.verify_code(challenge.id, otp.wrong())
    store = otp.service._assembly.store
    row, tags = store.transact(
        lambda connection, _now: (
            challenges.by_id(connection, "default", challenge.id),
            deliveries.live_tags(connection, challenge.id),
        )
    )
    assert (row.state.value, row.salt, list(tags)) == (end, None, [])


def test_somebody_elses_challenges_do_not_spend_mine(otp: Otp) -> None:
    """P18: an attacker burns ten guesses of his own; mine keeps its five and verifies, while nothing is locked."""
    service = otp.again(policies=policies(lock_after=100))
    mine = service.issue_code(NUMBER, purpose="login")
    code = otp.code
    for _ in range(2):
        theirs = service.issue_code(NUMBER, purpose="login")
        for _ in range(5):
            with pytest.raises(CodeMismatch):
                service.verify_code(theirs.id, otp.wrong())
    assert service.get(mine.id).attempts_left == 5
    assert service.verify_code(mine.id, code)


def test_a_full_hashing_queue_costs_nothing(hall: Otp) -> None:
    """``ServiceBusy`` before an attempt is charged or a code sent."""
    challenge = hall.service.issue_code(NUMBER, purpose="login")
    code, sent = hall.code, len(hall.voice.sent)
    busy = hall.again(hash_permits=1, hash_queue=0)
    seat = busy._assembly.hashing.enter()
    for operation in (
        lambda: busy.verify_code(challenge.id, code),
        lambda: busy.issue_code(NUMBER, purpose="login"),
        lambda: busy.resend_code(challenge.id),
    ):
        with pytest.raises(ServiceBusy) as refused:
            operation()
        assert refused.value.retry_after >= timedelta(seconds=1)
    assert len(hall.voice.sent) == sent
    assert busy.get(challenge.id).attempts_left == 5
    seat.release()
    assert busy.verify_code(challenge.id, code)


def test_an_unknown_challenge_costs_no_hash(hall: Otp, no_hash: list[str]) -> None:
    """P72: random ids are looked up and that is all."""
    for n in range(20):
        with pytest.raises(ChallengeClosed):
            hall.service.verify_code(f"ch_{n:032x}", "123456")
    assert no_hash == []
    assert hall.service._assembly.hashing._inside == 0, "every place was given back"


def test_a_code_whose_key_is_gone_is_an_alarm_not_a_mismatch(hall: Otp) -> None:
    """P69: a secret removed too early is a mistake of the installation, and says so."""
    from otpvoice import ConfigurationError

    challenge = hall.service.issue_code(NUMBER, purpose="login")
    other = hall.again(secret="another-root-secret-0815-with-Entropy-xyz")
    with pytest.raises(ConfigurationError, match="OTPVOICE_SECRET"):
        other.verify_code(challenge.id, hall.code)
    assert SECRET not in repr(other)
