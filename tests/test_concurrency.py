"""Threads and tasks: what holds when many ask at once, on both databases and in both colours."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from sqlalchemy import select, update

from otpvoice import (
    ChallengeClosed,
    ChallengeState,
    CodeMismatch,
    ConfigurationError,
    LockedOut,
    OTPService,
    OutcomeUnknown,
    RateLimited,
    ServiceBusy,
    Verified,
    codes,
)
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock
from otpvoice.store import tables
from tests.conftest import NUMBER, OTHER_NUMBER, SECRET, Maker, Otp, policies
from tests.promises import Watch, broken


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service's method, to be made at the same time as others."""

    method: str
    args: tuple[Any, ...]
    options: dict[str, Any]


def call(method: str, *args: Any, **options: Any) -> Call:
    return Call(method, args, options)


def at_once(service: Any, calls: Sequence[Call]) -> list[Any]:
    """Make all calls at once, by threads or tasks; the result or the error of each.

    A full hashing queue is no decision: such a call is made again, until all are decided.
    """
    if isinstance(service, OTPService):
        return in_threads([lambda c=one: getattr(service, c.method)(*c.args, **c.options) for one in calls])
    return service.loop.run_until_complete(_gathered(service.service, calls))


def in_threads(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each of these on a thread of its own; they start together."""
    start = threading.Barrier(len(work))

    def decided(job: Callable[[], Any]) -> Any:
        start.wait(timeout=30)
        while True:
            try:
                return job()
            except Exception as error:
                if type(error) is not ServiceBusy:
                    return error

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(decided, work))


async def _gathered(service: Any, calls: Sequence[Call]) -> list[Any]:
    async def decided(one: Call) -> Any:
        while True:
            try:
                return await getattr(service, one.method)(*one.args, **one.options)
            except Exception as error:
                if type(error) is not ServiceBusy:
                    return error
            await asyncio.sleep(0)

    return await asyncio.gather(*(decided(one) for one in calls))


def kinds(outcomes: Sequence[Any]) -> Counter[str]:
    return Counter(type(outcome).__name__ for outcome in outcomes)


def check(otp: Otp, watch: Watch, outcomes: Sequence[Any]) -> None:
    """Every promise of the design's section 5, over what happened."""
    store = otp.service._assembly.store
    assert broken(store, watch=watch, channels=[otp.voice], results=outcomes) == []


def guesses(right: str, count: int) -> list[str]:
    """Distinct wrong codes."""
    return [str((int(right) + n) % 10 ** len(right)).zfill(len(right)) for n in range(1, count + 1)]


def test_two_hundred_guesses_at_once_compare_exactly_five(otp: Otp, watch: Watch) -> None:
    """P20: distinct guesses, all decided; five are compared and charged, and the right code is worth nothing then."""
    opened = otp.service.issue_code(NUMBER, purpose="login")
    outcomes = at_once(otp.service, [call("verify_code", opened.id, code) for code in guesses(otp.code, 200)])
    assert kinds(outcomes) == {"CodeMismatch": 5, "ChallengeClosed": 195}
    assert len(watch.sent) == 5
    assert sorted(one.attempts_left for one in outcomes if isinstance(one, CodeMismatch)) == [0, 1, 2, 3, 4]
    with pytest.raises(ChallengeClosed):
        otp.service.verify_code(opened.id, otp.code)
    assert otp.service.get(opened.id).state is ChallengeState.EXHAUSTED
    check(otp, watch, outcomes)


def test_the_right_code_among_two_hundred_guesses_wins_at_most_once(otp: Otp, watch: Watch) -> None:
    """P20, P7: the right code is guess number six of every ten."""
    opened = otp.service.issue_code(NUMBER, purpose="login")
    tried = [otp.code if n % 10 == 6 else wrong for n, wrong in enumerate(guesses(otp.code, 200))]
    outcomes = at_once(otp.service, [call("verify_code", opened.id, code) for code in tried])
    assert len(watch.sent) <= 5
    assert kinds(outcomes)["Verified"] <= 1
    check(otp, watch, outcomes)


def test_fifty_right_codes_at_once_approve_exactly_once(otp: Otp, watch: Watch) -> None:
    """P7: one winner, and the losers' charges are forgiven with its own."""
    opened = otp.service.issue_code(NUMBER, purpose="login")
    outcomes = at_once(otp.service, [call("verify_code", opened.id, otp.code)] * 50)
    assert kinds(outcomes) == {"Verified": 1, "ChallengeClosed": 49}
    assert otp.service.get(opened.id).state is ChallengeState.APPROVED
    check(otp, watch, outcomes)


def test_ten_failures_lock_though_they_are_spread_over_parallel_challenges(services: Maker, watch: Watch) -> None:
    """P22, P25: a hundred guesses over four challenges compare ten; then nothing of that recipient works."""
    for colour, number in (("sync", NUMBER), ("async", OTHER_NUMBER)):
        watch.clear()
        voice = Memory("voice")
        many = policies(max_attempts=10, max_live=4)
        service = services(colour, channels=[voice], policies=many)
        opened = [service.issue_code(number, purpose="login") for _ in range(4)]
        right = {sent.challenge_id: sent.code for sent in voice.sent}
        tries = [call("verify_code", one.id, code) for code in guesses(voice.sent[0].code, 25) for one in opened]
        tries = [one for one in tries if one.args[1] != right[one.args[0]]]
        outcomes = at_once(service, tries)
        assert len(watch.sent) == 10
        assert kinds(outcomes)["CodeMismatch"] == 10
        assert kinds(outcomes)["LockedOut"] == len(tries) - 10
        # Restarted, in another process: the lock is the database's, and every path asks for it.
        later = services(colour, channels=[voice], policies=many)
        for one in opened:
            with pytest.raises(LockedOut) as locked:
                later.verify_code(one.id, right[one.id])
            assert locked.value.retry_after == timedelta(minutes=30)
            with pytest.raises(LockedOut):
                later.resend_code(one.id)
        with pytest.raises(LockedOut):
            later.issue_code(number, purpose="login")
        assert len(voice.sent) == 4
        # The lock is the purpose's (P27).
        assert broken(service._assembly.store, watch=watch, channels=[voice], results=outcomes) == []


def test_a_success_forgives_its_own_failures_only(otp: Otp, watch: Watch) -> None:
    """P23: an attacker's failures survive the owner's log-in; the owner's own typing errors do not."""
    mine = otp.service.issue_code(NUMBER, purpose="login")
    code = otp.code
    theirs = otp.service.issue_code(NUMBER, purpose="login")
    tries = [call("verify_code", theirs.id, wrong) for wrong in guesses(otp.code, 4)]
    tries += [call("verify_code", mine.id, wrong) for wrong in guesses(code, 3)]
    outcomes = at_once(otp.service, tries)
    assert kinds(outcomes) == {"CodeMismatch": 7}
    assert failures(otp.service) == [7]
    outcomes.append(otp.service.verify_code(mine.id, code))
    assert failures(otp.service) == [4]
    check(otp, watch, outcomes)


def failures(service: Any) -> list[int]:
    """What each ledger holds."""
    rows = service._assembly.store.transact(lambda c, _now: c.execute(select(tables.ledger.c.months)).scalars().all())
    return [sum(months.values()) for months in rows]


def test_a_hundred_openings_at_once_make_five_calls(services: Maker, clock: ManualClock, watch: Watch) -> None:
    """P33, P55: the day's limit is reserved before the provider is asked, over all purposes together."""
    for colour, number in (("sync", NUMBER), ("async", OTHER_NUMBER)):
        voice = Memory("voice")
        own = policies(max_sends_per_day=5, max_live=100)
        service = services(colour, channels=[voice], policies=own)
        wishes = [call("issue_code", number, purpose=purpose) for purpose in own for _ in range(20)]
        outcomes = at_once(service, wishes)
        assert kinds(outcomes) == {"Challenge": 5, "RateLimited": 95}
        assert len(voice.sent) == 5
        assert broken(service._assembly.store, watch=watch, channels=[voice], results=outcomes) == []


def test_a_provider_that_refuses_is_asked_no_more_often(services: Maker) -> None:
    """P33: a call that failed was reserved too: refusals are no way to more calls."""
    voice = Memory("voice")
    voice.fail_with(OutcomeUnknown("no answer came"), times=100, taken=True)
    own = policies(max_sends_per_day=5, max_live=100)
    service = services(channels=[voice], policies=own)
    outcomes = at_once(service, [call("issue_code", NUMBER, purpose=purpose) for purpose in own for _ in range(8)])
    assert len(voice.sent) == 5
    assert kinds(outcomes)["RateLimited"] == 35


def test_openings_at_once_leave_three_live_challenges(otp: Otp, watch: Watch) -> None:
    """P50: no more than max_live, whichever purposes they are of."""
    wishes = [call("issue_code", NUMBER, purpose=purpose) for purpose in policies() for _ in range(8)]
    outcomes = at_once(otp.service, wishes)
    assert kinds(outcomes) == {"Challenge": 3, "RateLimited": 37}
    assert len(otp.voice.sent) == 3
    check(otp, watch, outcomes)


def test_app_challenges_at_once_leave_three_live_ones(otp: Otp, watch: Watch) -> None:
    """P50, where nothing is sent and so no counter of sends is held: the subject's purposes all at once."""
    own = policies("totp", "voice")
    service = otp.again(policies=own)
    enrol(service, otp.clock)
    wishes = [call("issue_code", None, purpose=purpose, subject="alice") for purpose in own for _ in range(6)]
    outcomes = at_once(service, wishes)
    assert kinds(outcomes)["Challenge"] == 3, kinds(outcomes)
    check(otp, watch, outcomes)


def test_resends_at_once_make_one_call(otp: Otp, watch: Watch) -> None:
    """P50: the cooldown has room for one."""
    opened = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(31)
    outcomes = at_once(otp.service, [call("resend_code", opened.id)] * 30)
    assert kinds(outcomes) == {"Challenge": 1, "RateLimited": 29}
    assert len(otp.voice.sent) == 2
    check(otp, watch, outcomes)


def enrol(service: Any, clock: ManualClock, subject: str = "alice") -> pyotp.TOTP:
    enrolled = service.enroll_totp(subject)
    app = pyotp.TOTP(str(enrolled.secret))
    service.confirm_totp(enrolled.factor_id, app.at(clock.now()), subject=subject)
    return app


def test_an_app_code_is_accepted_once_over_parallel_challenges(otp: Otp, watch: Watch) -> None:
    """RFC 6238 5.2 (P9): one acceptance a time step; a replay inside it, and two steps off, fail."""
    service = otp.again(policies=policies("totp", "voice"))
    app = enrol(service, otp.clock)
    otp.clock.advance(60)
    opened = [service.issue_code(None, purpose="login", subject="alice") for _ in range(3)]
    now = otp.clock.now()
    for off in (-60, 60):
        with pytest.raises(CodeMismatch):
            service.verify_code(opened[0].id, app.at(now + timedelta(seconds=off)))
    outcomes = at_once(service, [call("verify_code", one.id, app.at(now)) for one in opened for _ in range(3)])
    assert kinds(outcomes)["Verified"] == 1
    check(otp, watch, outcomes)
    left = next(one for one in opened if service.get(one.id).state is ChallengeState.PENDING)
    with pytest.raises(CodeMismatch):
        service.verify_code(left.id, app.at(now))
    otp.clock.advance(30)
    assert service.verify_code(left.id, app.at(otp.clock.now()))


def test_what_ended_never_approves(otp: Otp) -> None:
    """P8, P94: cancelled, expired and exhausted are final, for the right code and for a resend alike."""
    ended = {}
    cancelled = otp.service.issue_code(NUMBER, purpose="login")
    ended[cancelled.id] = otp.code
    otp.service.cancel(cancelled.id)
    exhausted = otp.service.issue_code(NUMBER, purpose="login")
    ended[exhausted.id] = otp.code
    for wrong in guesses(otp.code, 5):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(exhausted.id, wrong)
    expired = otp.service.issue_code(NUMBER, purpose="login")
    ended[expired.id] = otp.code
    otp.clock.advance(timedelta(minutes=5))
    for challenge_id, code in ended.items():
        for _ in range(2):
            with pytest.raises(ChallengeClosed):
                otp.service.verify_code(challenge_id, code)
        with pytest.raises(ChallengeClosed):
            otp.service.resend_code(challenge_id)
        with pytest.raises(ChallengeClosed):
            otp.service.cancel(challenge_id)
    assert [otp.service.get(one).state for one in ended] == ["cancelled", "exhausted", "expired"]


def test_an_exception_after_the_charge_gives_no_attempt_back(
    otp: Otp, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P21: the hash fails, five times; the five attempts stay spent, and the ledger stays charged."""
    opened = otp.service.issue_code(NUMBER, purpose="login")

    def fails(*_args: Any, **_options: Any) -> bytes:
        raise MemoryError("argon2 could not allocate")

    with monkeypatch.context() as broken_hash:
        broken_hash.setattr(codes, "tag", fails)
        for left in (4, 3, 2, 1, 0):
            with pytest.raises(MemoryError):
                otp.service.verify_code(opened.id, otp.code)
            assert otp.service.get(opened.id).attempts_left == left
    assert watch.sent == []
    assert failures(otp.service) == [5]
    with pytest.raises(ChallengeClosed):
        otp.service.verify_code(opened.id, otp.code)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Semaphore, threading.Event]]:
    """Holds every hash until the event is set; the semaphore counts those that wait."""
    waiting, go = threading.Semaphore(0), threading.Event()
    tag = codes.tag

    def held(*args: Any, **options: Any) -> bytes:
        waiting.release()
        assert go.wait(30)
        return tag(*args, **options)

    go.set()
    monkeypatch.setattr(codes, "tag", held)
    yield waiting, go
    go.set()


def test_a_cancelled_task_gives_no_attempt_back_and_no_place_early(
    services: Maker, clock: ManualClock, watch: Watch, gate: tuple[threading.Semaphore, threading.Event]
) -> None:
    """P21, P71: clients hang up while their guesses are hashed; the attempts are spent, the places stay taken."""
    waiting, go = gate
    voice = Memory("voice")
    service = services("async", channels=[voice], hash_permits=2, hash_queue=3)
    opened = service.issue_code(NUMBER, purpose="login")
    right = voice.sent[-1].code
    assert waiting.acquire(timeout=30)
    go.clear()

    async def hang_up() -> None:
        tasks = [asyncio.create_task(service.service.verify_code(opened.id, wrong)) for wrong in guesses(right, 5)]
        while failures(service) != [5]:
            await asyncio.sleep(0)
        for _ in range(2):
            assert await asyncio.to_thread(waiting.acquire, timeout=30)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        with pytest.raises(ServiceBusy):
            await service.service.verify_code(opened.id, right)
        go.set()
        while service._assembly.hashing._inside:
            await asyncio.sleep(0)

    service.loop.run_until_complete(hang_up())
    assert service.get(opened.id).attempts_left == 0
    with pytest.raises(ChallengeClosed):
        service.verify_code(opened.id, right)
    assert service._assembly.hashing._inside == 0
    assert watch.sent == []


def test_tasks_cancelled_at_any_moment_spend_what_they_charged(services: Maker, watch: Watch) -> None:
    """P21: sixty guesses, two in three hung up, each after another number of turns of the loop."""
    voice = Memory("voice")
    service = services("async", channels=[voice])
    opened = service.issue_code(NUMBER, purpose="login")
    tries = guesses(voice.sent[-1].code, 60)

    async def storm() -> list[Any]:
        async def one(index: int, code: str) -> Any:
            task = asyncio.create_task(service.service.verify_code(opened.id, code))
            for _ in range(index % 7):
                await asyncio.sleep(0)
            if index % 3:
                task.cancel()
            return (await asyncio.gather(task, return_exceptions=True))[0]

        return await asyncio.gather(*(one(index, code) for index, code in enumerate(tries)))

    outcomes = service.loop.run_until_complete(storm())
    service.loop.run_until_complete(service.service.close())
    assert len(watch.sent) <= 5
    assert kinds(outcomes)["Verified"] == 0
    assert broken(service._assembly.store, watch=watch, channels=[voice], results=outcomes) == []


def move(service: Any, source: str, target: str, *, salt: bool, sealed: bool = False) -> None:
    """What somebody who can write to the database would do: put one challenge's secrets under another's id."""

    def work(connection: Any, _now: Any) -> None:
        challenge, delivery = tables.challenge, tables.delivery
        tag = connection.execute(select(delivery.c.tag).where(delivery.c.challenge_id == source)).scalar_one()
        connection.execute(update(delivery).where(delivery.c.challenge_id == target).values(tag=tag))
        row = connection.execute(select(challenge).where(challenge.c.id == source)).one()
        changes = ({"salt": row.salt, "kid": row.kid} if salt else {}) | ({"sealed": row.sealed} if sealed else {})
        if changes:
            connection.execute(update(challenge).where(challenge.c.id == target).values(**changes))

    service._assembly.store.transact(work)


@pytest.mark.parametrize("salt", [False, True], ids=["tag", "tag and salt"])
def test_a_tag_moved_to_another_challenge_verifies_nothing(otp: Otp, *, salt: bool) -> None:
    """P68: the attacker's own code, moved to the victim's challenge, and even to another one of the same number."""
    mine = otp.service.issue_code(OTHER_NUMBER, purpose="login")
    code = otp.code
    for target in (
        otp.service.issue_code(NUMBER, purpose="login"),
        otp.service.issue_code(OTHER_NUMBER, purpose="login"),
    ):
        move(otp.service, mine.id, target.id, salt=salt)
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(target.id, code)
    assert otp.service.verify_code(mine.id, code)


def test_a_sealed_recipient_moved_to_another_challenge_does_not_open(otp: Otp) -> None:
    """P68, P74: with recipient, tag and salt all moved, the row does not even open: no call, no proof."""
    mine = otp.service.issue_code(OTHER_NUMBER, purpose="login")
    code = otp.code
    target = otp.service.issue_code(NUMBER, purpose="login")
    move(otp.service, mine.id, target.id, salt=True, sealed=True)
    with pytest.raises(ConfigurationError):
        otp.service.verify_code(target.id, code)
    otp.clock.advance(31)
    with pytest.raises(ConfigurationError):
        otp.service.resend_code(target.id)
    assert len(otp.voice.sent) == 2


def test_two_services_on_one_database_share_every_limit(otp: Otp, watch: Watch) -> None:
    """P31: guesses, sends and live challenges count together, whichever process is asked."""
    other = otp.again()
    opened = otp.service.issue_code(NUMBER, purpose="login")
    code = otp.code
    for index, wrong in enumerate(guesses(code, 5)):
        with pytest.raises(CodeMismatch):
            (otp.service, other)[index % 2].verify_code(opened.id, wrong)
    for service in (otp.service, other):
        with pytest.raises(ChallengeClosed):
            service.verify_code(opened.id, code)
    for service in (other, otp.service, other):
        service.issue_code(NUMBER, purpose="signup")
    for service in (other, otp.service):
        with pytest.raises(RateLimited):
            service.issue_code(NUMBER, purpose="signup")
    assert len(otp.voice.sent) == 4
    check(otp, watch, [])


def test_a_rotated_secret_opens_what_is_live_and_gives_no_fresh_budget(otp: Otp, watch: Watch) -> None:
    """Rotation: a live challenge verifies, the ledger, the lock and the day's sends go on counting."""
    live = otp.service.issue_code(NUMBER, purpose="login")
    code = otp.code
    for wrong in guesses(code, 4):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(live.id, wrong)
    rotated = otp.again(secret=["a-new-root-secret-9876543210-zyxwvutsrq", SECRET])
    assert rotated.verify_code(live.id, code).recipient == NUMBER
    attacked = otp.service.issue_code(NUMBER, purpose="login")
    old_code = otp.code
    for wrong in guesses(old_code, 5):
        with pytest.raises(CodeMismatch):
            otp.service.verify_code(attacked.id, wrong)
    again = rotated.issue_code(NUMBER, purpose="login")
    for wrong in guesses(otp.code, 5):
        with pytest.raises(CodeMismatch):
            rotated.verify_code(again.id, wrong)
    assert failures(rotated) == [10]
    with pytest.raises(LockedOut):
        rotated.issue_code(NUMBER, purpose="login")
    for _ in range(10 - 3):
        otp.clock.advance(timedelta(minutes=6))
        rotated.issue_code(NUMBER, purpose="signup")
    otp.clock.advance(timedelta(minutes=6))
    with pytest.raises(RateLimited, match="10 sends a day to this recipient"):
        rotated.issue_code(NUMBER, purpose="signup")


def test_the_verified_value_is_the_only_truthy_answer(otp: Otp) -> None:
    """P93: nothing but a Verified comes back from verify_code; every failure raises."""
    opened = otp.service.issue_code(NUMBER, purpose="login")
    outcomes = at_once(otp.service, [call("verify_code", opened.id, code) for code in (otp.code, otp.wrong(), "x")])
    assert [isinstance(one, Verified | Exception) for one in outcomes] == [True] * 3
