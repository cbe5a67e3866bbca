"""Every guarding line, replaced by its naive version: the checker must then find a broken promise (P100).

A test of concurrency that would pass without the fix proves nothing ("passed with and without the fix"). So each
case here names a line of the core, puts the version in its place that a hurried programmer would have written, and
demands that the schedules and the races of this directory notice.

| guarding line | naive version | goes red, as |
|---|---|---|
| the charge is committed before the comparison | its transaction is rolled back | `crowd`: compared beyond the limit |
| `challenges.claim` | nothing is claimed | `crowd`: compared, not charged |
| `charge_attempt`: `attempts_left == 0` refuses | goes on while open | `crowd`: attempts beyond the limit |
| `charge_attempt`: a failure for each code compared | one an attempt | `crowd`: codes compared, not charged |
| `charge_attempt`: `state_at(now)` | the stored state | `crowd`: charged after it expired |
| `charge_attempt`: `routing.locked` | not asked at verify | `crowd`: attempts taken by a locked ledger |
| `Ledger.charge` | charged on failure later, or never | `crowd`: the ledger does not add up |
| `Ledger.forgive` its own challenge's failures | a success clears the ledger | `crowd`: the ledger does not add up |
| `_APPROVE … state = 'pending'` | `UPDATE … WHERE id` | `crowd`: approved twice |
| `_APPROVE … expires_at > now` | no time | `crowd`: approved after it expired |
| `_CLOSE` wipes the salt | keeps it | `crowd`: kept its salt |
| `_WIPE_TAGS` | keeps them | `crowd`: kept a tag |
| `_EXHAUST` closes what has no attempts left | left open | its salt and tags are still there |
| `_ARM … EXISTS (open challenge)` | armed whatever became of the challenge | `crowd`: kept a tag |
| `routing.charge` in the issuing transaction | not reserved | `crowd`: calls that nobody counted |
| `challenges.live` | not looked at | `crowd`: too many open |
| `challenges.note_send` | the send is not reserved | `crowd`: calls beyond what is reserved |
| `undo` of a refused opening | the refused reservation is committed | `crowd`: counted, not reserved |
| `_USE_STEP … last_step < step` | `UPDATE … WHERE id` | `app_crowd`: accepted twice |
| `matching_step`: one step either way | two steps | two steps off is accepted |
| `_HOLD … FOR UPDATE` (PostgreSQL) | plain `SELECT` | race: the ledger loses a failure |
| `_HOLD` and `_CLAIM … attempts = :seen` (PostgreSQL) | read, then write | race: compared beyond the limit |
| `_HOLD … FOR UPDATE` at resend (PostgreSQL) | plain `SELECT` | race: two calls in one cooldown |
| `counters.charge`: one conditional upsert (PostgreSQL) | read, then write | race: calls beyond the day's limit |
| `counters._share` of a slot (PostgreSQL) | the sum is looked at, any slot charged | race: beyond the tenant's day |
| `counters._count` in a slot (PostgreSQL) | charged because it had room | race: calls beyond the tenant's day |
| a missed slot is let go (PostgreSQL) | its lock is kept | `test_slots`: it is locked still |
| `challenges._take_turns` before the look at what is live (PostgreSQL) | nothing is held | race: too many open |
| `BEGIN IMMEDIATE` (SQLite) | the driver's own BEGIN, at the first write | race: the ledger loses a failure |
| `_Seat.hand_over` | the caller keeps the place | a place is given back twice |
| `codes.tag` binds the challenge's id | not bound | a moved tag verifies |
| `Keyring.seal(context=challenge)` | no context | a moved recipient opens |
| `routing.locked` at issue and resend | not asked | a locked recipient is called |
| `DatabaseClock` (PostgreSQL) | the machine's clock | two processes judge differently |
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, or_, select, update

import otpvoice.clock
from otpvoice import CodeMismatch, OTPService, codes, issuance, lockout, routing, runner, totp, verification
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock, SystemClock
from otpvoice.errors import OTPVoiceError
from otpvoice.flow import undo
from otpvoice.keys import Keyring
from otpvoice.store import challenges, counters, deliveries, engine, factors, tables
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.counters import Limit, Reached
from otpvoice.types import ChallengeState
from tests.conftest import NUMBER, OTHER_NUMBER, Maker, policies
from tests.interleaving import schedules
from tests.promises import Watch, broken
from tests.test_concurrency import enrol, in_threads, move
from tests.test_interleaving import House, app_crowd, crowd, house

__all__ = ["house"]  # A fixture.

ENOUGH = 150
"""Schedules within which the checker must notice."""

Naive = Callable[[pytest.MonkeyPatch], None]


def _rolled_back(patch: pytest.MonkeyPatch) -> None:
    charge = verification.charge_attempt
    patch.setattr(verification, "charge_attempt", lambda *args, **options: undo(charge(*args, **options)))


def _not_claimed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(challenges, "claim", lambda *_args, **_options: True)


def _never_out_of_attempts(patch: pytest.MonkeyPatch) -> None:
    left = ChallengeRow.attempts_left.fget
    patch.setattr(ChallengeRow, "attempts_left", property(lambda row: max(1, left(row))))


def _one_failure_an_attempt(patch: pytest.MonkeyPatch) -> None:
    claim, charge = challenges.claim, lockout.Ledger.charge
    patch.setattr(challenges, "claim", lambda connection, row, **_: claim(connection, row, codes=1))
    patch.setattr(lockout.Ledger, "charge", lambda self, policy, now, **_: charge(self, policy, now, codes=1))


def _stored_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChallengeRow, "state_at", lambda row, _now: row.state)


def _lock_not_asked_at_verify(patch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        locked = staticmethod(lambda *_, **__: None)

    patch.setattr(verification, "routing", Forgetful)


def _ledger_not_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lockout.Ledger, "charge", lambda self, *_, **__: self)


def _success_clears_the_ledger(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lockout.Ledger, "forgive", lambda *_: lockout.Ledger())


def _closing(*, pending: bool = True, in_time: bool = True, salt: bool = True) -> Any:
    """``_APPROVE`` as it is, but for what is left out."""
    challenge = tables.challenge
    statement = update(challenge).where(
        challenge.c.id == bindparam("row"), challenge.c.tenant == bindparam("of_tenant")
    )
    if pending:
        statement = statement.where(challenge.c.state == "pending")
    if in_time:
        statement = statement.where(challenge.c.expires_at > bindparam("now", type_=challenge.c.expires_at.type))
    values = {"state": bindparam("new_state"), "closed_at": bindparam("now"), "used_delivery": bindparam("used")}
    return statement.values(**values, **({"salt": None} if salt else {})).returning(challenge.c.charged)


def _approved_whatever_its_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(challenges, "_APPROVE", _closing(pending=False))


def _approved_whatever_the_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(challenges, "_APPROVE", _closing(in_time=False))


def _salt_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(challenges, "_APPROVE", _closing(salt=False))


def _tags_kept(patch: pytest.MonkeyPatch) -> None:
    kept = update(tables.delivery).where(tables.delivery.c.challenge_id == bindparam("row")).values(step=0)
    patch.setattr(challenges, "_WIPE_TAGS", kept)


def _armed_whatever_became_of_the_challenge(patch: pytest.MonkeyPatch) -> None:
    delivery = tables.delivery
    naive = (
        update(delivery)
        .where(delivery.c.id == bindparam("row"), delivery.c.lease_owner == bindparam("owner"))
        .values(tag=bindparam("new_tag"), sent_at=bindparam("now"))
    )
    patch.setattr(deliveries, "_ARM", naive)


def _sends_not_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(routing, "charge", lambda *_: None)


def _live_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(challenges, "live", lambda *_, **__: (0, None))


def _send_not_reserved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(challenges, "note_send", lambda *_, **__: None)


def _refusals_committed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(issuance, "undo", lambda value: value)


CROWDS: Sequence[tuple[Naive, str]] = (
    (_rolled_back, "attempts were compared"),
    (_not_claimed, "attempts were compared, 0 charged"),
    (_never_out_of_attempts, "attempts were charged to a challenge that takes 3"),
    (_one_failure_an_attempt, "codes were compared"),
    (_stored_state, "after it expired"),
    (_lock_not_asked_at_verify, "taken by a locked ledger"),
    (_ledger_not_charged, "a ledger holds 0 failures"),
    (_success_clears_the_ledger, "a ledger holds"),
    (_approved_whatever_its_state, "approved 2 times"),
    (_approved_whatever_the_time, "challenge.approved after it expired"),
    (_salt_kept, "kept its salt"),
    (_tags_kept, "kept a tag"),
    (_armed_whatever_became_of_the_challenge, "kept a tag"),
    (_sends_not_charged, "calls to a recipient, 0 counted"),
    (_live_not_looked_at, "challenges are open"),
    (_send_not_reserved, "calls for 1 reserved"),
    (_refusals_committed, "sends to a recipient counted"),
)


@pytest.mark.parametrize(("naive", "said"), CROWDS, ids=lambda value: getattr(value, "__name__", None))
def test_the_schedules_notice(house: House, monkeypatch: pytest.MonkeyPatch, naive: Naive, said: str) -> None:
    """The line is replaced, and within a hundred and fifty schedules the promise breaks, under its own name."""
    naive(monkeypatch)
    found: set[str] = set()
    for seed in schedules(ENOUGH, first=600_000):
        ctx = house.tenant(seed, max_attempts=3, lock_after=5, max_live=3, max_sends=3, max_sends_per_day=6)
        found.update(house.broken(ctx, crowd(house, ctx, seed, deaths=0.0)))
        if any(said in one for one in found):
            return
    pytest.fail(f"nothing noticed; found only {sorted(found)}")


def test_the_schedules_notice_a_time_step_accepted_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """``UPDATE totp_factor … WHERE id`` without ``last_step < step``."""
    factor = tables.totp_factor
    blind = update(factor).where(factor.c.id == bindparam("row")).values(last_step=bindparam("step"))
    monkeypatch.setattr(factors, "_USE_STEP", blind)
    for seed in schedules(ENOUGH, first=700_000):
        ctx = house.tenant(seed, route=("totp", "voice"), max_attempts=4)
        endings, _app = app_crowd(house, ctx, seed, deaths=0.0)
        if any("an app's code was accepted" in one for one in house.broken(ctx, endings)):
            return
    pytest.fail("nothing noticed")


class Rendezvous:
    """Wraps a function so that its first callers wait for each other behind it, where locks let them get there.

    With the lock in place only one arrives; it goes on after a moment, alone. Without it, all go on together with
    what they have read: the race that is otherwise rare. Where the lock is missing on purpose the moment is long: a
    busy machine is not to be mistaken for a lock.
    """

    def __init__(self, function: Callable[..., Any], parties: int = 2, *, moment: float = 0.3) -> None:
        self.function, self.moment = function, moment
        self.barrier = threading.Barrier(parties)

    def __call__(self, *args: Any, **options: Any) -> Any:
        result = self.function(*args, **options)
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(timeout=self.moment)
        return result


class Race:
    """Services on one database, each with connections of its own, and what is seen from outside them."""

    def __init__(self, make: Maker, clock: ManualClock, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.clock = patch, clock
        self.watch = Watch(patch)
        self.voice = Memory("voice")
        self.make = make
        self.services: list[OTPService] = []
        self.results: list[Any] = []
        self.moment = 0.3

    def unlocked(self) -> None:
        """A lock is missing: both arrive at the rendezvous, however long it takes them."""
        self.moment = 30.0

    def open(self, **numbers: Any) -> None:
        route = numbers.pop("route", ("voice",))
        own = policies(*route, **numbers)
        self.services = [self.make(channels=[self.voice], policies=own) for _ in range(2)]
        for service in self.services:
            service._assembly.store.now()
            service.probe()

    def meet(self, owner: Any, name: str) -> None:
        self.patch.setattr(owner, name, Rendezvous(getattr(owner, name), moment=self.moment))

    def both(self, *calls: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
        work = [
            lambda s=service, c=call: getattr(s, c[0])(*c[1], **c[2])
            for service, call in zip(self.services, calls, strict=True)
        ]
        self.results += in_threads(work)

    def broken(self) -> list[str]:
        store = self.services[0]._assembly.store
        return broken(store, watch=self.watch, channels=[self.voice], results=self.results)


@pytest.fixture
def race(services: Maker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Race:
    return Race(services, clock, monkeypatch)


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""Row locks are PostgreSQL's. SQLite has one writer: ``BEGIN IMMEDIATE`` is its line."""


def _hold_without_a_lock(race: Race) -> None:
    challenge, ledger = tables.challenge, tables.ledger
    naive = (
        select(
            challenge,
            ledger.c.id.label("ledger_id"),
            ledger.c.months,
            ledger.c.run,
            ledger.c.level,
            ledger.c.locked_until,
        )
        .join(ledger, or_(ledger.c.id == challenge.c.recipient_ledger, ledger.c.id == challenge.c.subject_ledger))
        .where(challenge.c.id == bindparam("id"), challenge.c.tenant == bindparam("tenant"))
        .order_by(ledger.c.id)
    )
    race.patch.setattr(challenges, "_HOLD", naive)


def _claim_without_looking(race: Race) -> None:
    def claim(connection: Connection, row: ChallengeRow, *, codes: int) -> bool:
        changes = {"attempts": row.attempts + 1, "charged": row.charged + codes}
        connection.execute(update(tables.challenge).where(tables.challenge.c.id == row.id).values(**changes))
        return True

    race.patch.setattr(challenges, "claim", claim)


def _no_begin_immediate(race: Race) -> None:
    race.patch.setattr(engine, "_begin_immediate", lambda _connection: None)


def guess_on_two_challenges(race: Race) -> list[str]:
    """Two wrong guesses at one moment, on two challenges of one recipient, by two processes."""
    opened = [race.services[0].issue_code(NUMBER, purpose="login").id for _ in range(2)]
    race.meet(challenges, "hold")
    race.both(*(("verify_code", (one, wrong_of(race)), {}) for one in opened))
    return race.broken()


def guess_on_one_challenge(race: Race) -> list[str]:
    """The last attempt of a challenge, asked for twice at one moment."""
    opened = race.services[0].issue_code(NUMBER, purpose="login").id
    for _ in range(4):
        with pytest.raises(CodeMismatch):
            race.services[0].verify_code(opened, wrong_of(race))
    race.meet(challenges, "hold")
    race.both(*[("verify_code", (opened, wrong_of(race)), {})] * 2)
    return race.broken()


def resend_twice(race: Race) -> list[str]:
    """Two resends at one moment, when the cooldown has just ended."""
    opened = race.services[0].issue_code(NUMBER, purpose="login").id
    race.clock.advance(31)
    race.meet(challenges, "hold")
    race.both(*[("resend_code", (opened,), {})] * 2)
    return [*race.broken(), *(["two calls in one cooldown"] if len(race.voice.sent) > 2 else [])]


def open_beyond_the_day(race: Race) -> list[str]:
    """The last send of the day, asked for by two purposes at one moment."""
    for _ in range(3):
        race.services[0].issue_code(NUMBER, purpose="login")
    race.both(*(("issue_code", (NUMBER,), {"purpose": purpose}) for purpose in ("signup", "reset")))
    return race.broken()


def open_beyond_the_live(race: Race) -> list[str]:
    """The last place for a live challenge, asked for by two purposes at one moment."""
    for _ in range(2):
        race.services[0].issue_code(NUMBER, purpose="login")
    race.meet(challenges, "live")
    race.both(*(("issue_code", (NUMBER,), {"purpose": purpose}) for purpose in ("signup", "reset")))
    return race.broken()


def open_beyond_the_live_of_an_app(race: Race) -> list[str]:
    """The same, for a subject whose authenticator app is asked: nothing is sent, so no send is counted."""
    enrol(race.services[0], race.clock)
    for _ in range(2):
        race.services[0].issue_code(None, purpose="login", subject="alice")
    race.meet(challenges, "live")
    race.both(*(("issue_code", (None,), {"purpose": p, "subject": "alice"}) for p in ("signup", "reset")))
    return race.broken()


def wrong_of(race: Race) -> str:
    """Wrong for every challenge of the race."""
    sent = {one.code for one in race.voice.sent}
    return next(code for code in (f"{n:06d}" for n in range(1, 50)) if code not in sent)


RACES = (
    guess_on_two_challenges,
    guess_on_one_challenge,
    resend_twice,
    open_beyond_the_live,
    open_beyond_the_live_of_an_app,
)


@pytest.mark.parametrize("scene", RACES, ids=lambda scene: scene.__name__)
def test_the_races_keep_every_promise(race: Race, scene: Callable[[Race], list[str]]) -> None:
    """The same races with the lines in place: what the others meet is the missing line, not the rendezvous."""
    race.open(route=("totp", "voice") if scene is open_beyond_the_live_of_an_app else ("voice",), max_sends_per_day=4)
    assert scene(race) == []


def test_the_race_for_the_days_last_send_keeps_every_promise(race: Race) -> None:
    race.open(max_sends_per_day=4, max_live=9)
    race.meet(counters, "charge")
    assert open_beyond_the_day(race) == []


@on_postgresql
def test_the_race_notices_an_unlocked_ledger(race: Race) -> None:
    """``SELECT`` without ``FOR UPDATE``: two failures are written as one."""
    race.open()
    race.unlocked()
    _hold_without_a_lock(race)
    assert "a ledger holds 1 failures, its challenges charged 2" in guess_on_two_challenges(race)


@on_postgresql
def test_the_race_notices_read_then_write(race: Race) -> None:
    """Neither lock nor condition: the last attempt is had twice. (Either of the two lines is enough to hold it.)"""
    race.open()
    race.unlocked()
    _hold_without_a_lock(race)
    _claim_without_looking(race)
    assert "6 attempts were compared on a challenge that takes 5" in guess_on_one_challenge(race)


@on_postgresql
def test_the_race_notices_an_unlocked_resend(race: Race) -> None:
    race.open()
    race.unlocked()
    _hold_without_a_lock(race)
    assert "two calls in one cooldown" in resend_twice(race)


@on_postgresql
def test_the_race_notices_a_counter_that_is_read_then_written(race: Race) -> None:
    """``SELECT used``, compare, ``UPDATE``: what most rate limiters do."""
    race.open(max_sends_per_day=4, max_live=9)
    counter = tables.counter

    def read(connection: Connection, key: str) -> int:
        return connection.execute(select(counter.c.used).where(counter.c.key == key)).scalar_one_or_none() or 0

    def charge(connection: Connection, limits: Sequence[Limit], now: datetime) -> Reached | None:
        for limit in limits:
            used = meet(connection, limit.key)
            if used >= limit.most:
                return Reached(limit=limit, ends_at=now + limit.window)
            row = {"used": used + 1, "ends_at": now + limit.window}
            if used:
                connection.execute(update(counter).where(counter.c.key == limit.key).values(**row))
            else:
                connection.execute(insert(counter).values(key=limit.key, **row))
        return None

    def meet(connection: Connection, key: str) -> int:
        return (reading if race.voice.sent[2:] else read)(connection, key)

    race.unlocked()
    reading = Rendezvous(read, moment=race.moment)
    race.patch.setattr(counters, "charge", charge)
    assert "5 calls to a recipient in a day, 4 are allowed" in open_beyond_the_day(race)


def open_beyond_the_tenant(race: Race) -> list[str]:
    """The tenant's last send of the day, asked for at one moment for two numbers that have nothing else in common."""
    race.open(max_sends_per_tenant=4)
    for number in (NUMBER, NUMBER, OTHER_NUMBER):
        race.services[0].issue_code(number, purpose="login")
    looked = SimpleNamespace(choice=Rendezvous(secrets.choice, moment=race.moment))
    race.patch.setattr(counters, "secrets", looked)
    race.both(*(("issue_code", (number,), {"purpose": "login"}) for number in ("+66812345678", "+4915123456789")))
    return race.broken()


def test_the_race_for_the_tenants_last_send_keeps_every_promise(race: Race) -> None:
    assert open_beyond_the_tenant(race) == []
    assert len(race.voice.sent) == 4


@on_postgresql
def test_the_race_notices_slots_that_only_their_sum_limits(race: Race) -> None:
    """Both see room for one more, and each is charged to a slot, maybe of its own, that does not know the other."""
    race.unlocked()
    race.patch.setattr(counters, "_share", lambda limit, _slot: limit.most)
    assert "5 calls by a tenant in a day, 4 are allowed" in open_beyond_the_tenant(race)


@on_postgresql
def test_the_race_notices_a_slot_that_is_charged_without_looking(race: Race) -> None:
    race.unlocked()
    count = counters._count
    race.patch.setattr(
        counters,
        "_count",
        lambda connection, limit, key, most, now: count(connection, limit, key, most + ("#" in key), now),
    )
    assert "5 calls by a tenant in a day, 4 are allowed" in open_beyond_the_tenant(race)


@on_postgresql
def test_the_race_notices_a_look_at_the_live_that_nothing_serialises(race: Race) -> None:
    """Purposes have ledgers of their own, and an app's challenge counts no send: nothing else holds the two back."""
    race.open(route=("totp", "voice"))
    race.unlocked()
    race.patch.setattr(challenges, "_take_turns", lambda *_: None)
    assert "4 challenges are open, 3 are allowed" in open_beyond_the_live_of_an_app(race)


@on_sqlite
def test_the_race_notices_a_missing_begin_immediate(race: Race) -> None:
    """SQLite without ``BEGIN IMMEDIATE``: each statement by itself."""
    _no_begin_immediate(race)
    race.open()
    race.unlocked()
    assert "a ledger holds 1 failures, its challenges charged 2" in guess_on_two_challenges(race)


def test_a_seat_that_the_caller_keeps_is_noticed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """P71: a place given back by the caller and by the hash alike lets more hashes in than there is memory for."""
    monkeypatch.setattr(runner._Seat, "hand_over", lambda _seat: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        crowd(house, house.tenant(800_000), 800_000, deaths=0.0)


@pytest.mark.parametrize("naive", [False, True], ids=["closed", "left open"])
def test_an_exhausted_challenge_left_open_is_noticed(
    services: Maker, monkeypatch: pytest.MonkeyPatch, *, naive: bool
) -> None:
    """P8, P70: after the last attempt there is nothing left to compare with."""
    if naive:
        monkeypatch.setattr(challenges, "exhaust", lambda *_: False)
    voice = Memory("voice")
    service = services(channels=[voice])
    opened = service.issue_code(NUMBER, purpose="login").id
    for by in range(1, 6):
        with pytest.raises(CodeMismatch):
            service.verify_code(opened, f"{(int(voice.sent[0].code) + by) % 10**6:06d}")
    left = service._assembly.store.transact(
        lambda connection, _now: connection.execute(
            select(tables.challenge.c.salt, tables.delivery.c.tag).join(tables.delivery)
        ).one()
    )
    assert (left.salt is not None, left.tag is not None) == (naive, naive)


def test_a_tag_that_is_not_bound_to_its_challenge_is_noticed(services: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = codes.tag
    monkeypatch.setattr(codes, "tag", lambda code, **of: tag(code, **(of | {"challenge_id": "any"})))
    voice = Memory("voice")
    service = services(channels=[voice])
    source, target = (service.issue_code(NUMBER, purpose="login").id for _ in range(2))
    code = voice.sent[0].code
    move(service, source, target, salt=True)
    assert service.verify_code(target, code)


def test_a_recipient_that_is_not_sealed_for_its_challenge_is_noticed(
    services: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal, unseal = Keyring.seal, Keyring.unseal
    monkeypatch.setattr(Keyring, "seal", lambda self, plain, *, context: seal(self, plain, context=""))
    monkeypatch.setattr(Keyring, "unseal", lambda self, sealed, *, context: unseal(self, sealed, context=""))
    voice = Memory("voice")
    service = services(channels=[voice], policies=policies(cooldowns=(timedelta(0),)))
    source = service.issue_code(OTHER_NUMBER, purpose="login").id
    target = service.issue_code(NUMBER, purpose="login").id
    move(service, source, target, salt=True, sealed=True)
    service.resend_code(target)
    assert voice.sent[-1].recipient == OTHER_NUMBER


def test_a_lock_that_issue_and_resend_forget_is_noticed(services: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-9798: the lock was asked for on one path only."""
    voice = Memory("voice")
    service = services(channels=[voice], policies=policies(lock_after=1, cooldowns=(timedelta(0),)))
    opened = service.issue_code(NUMBER, purpose="login").id
    with pytest.raises(CodeMismatch):
        service.verify_code(opened, f"{(int(voice.sent[0].code) + 1) % 10**6:06d}")
    for ask in (lambda: service.issue_code(NUMBER, purpose="login"), lambda: service.resend_code(opened)):
        with pytest.raises(OTPVoiceError):
            ask()
        assert len(voice.sent) == 1
    monkeypatch.setattr(routing, "locked", lambda *_: None)
    service.issue_code(NUMBER, purpose="login")
    service.resend_code(opened)
    assert len(voice.sent) == 3


def test_two_steps_off_is_noticed(services: Maker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matching that looks two steps either way accepts what ``test_concurrency`` says must fail."""
    matching_step = totp.matching_step

    def wide(keyring: Keyring, row: Any, typed: Any, at: datetime) -> int | None:
        found = [matching_step(keyring, row, typed, at + timedelta(seconds=off)) for off in (-30, 0, 30)]
        return next((step for step in found if step is not None), None)

    service = services(policies=policies("totp", "voice"))
    app = enrol(service, clock)
    clock.advance(120)
    opened = service.issue_code(None, purpose="login", subject="alice").id
    far = app.at(clock.now() + timedelta(seconds=60))
    with pytest.raises(CodeMismatch):
        service.verify_code(opened, far)
    monkeypatch.setattr(totp, "matching_step", wide)
    assert service.verify_code(opened, far)


class _Wrong(datetime):
    """A wall clock that is an hour ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(hours=1)


@on_postgresql
@pytest.mark.parametrize("naive", [False, True], ids=["database clock", "machine's clock"])
def test_a_wrong_local_clock_judges_alike_by_the_database_clock(
    services: Maker, monkeypatch: pytest.MonkeyPatch, *, naive: bool
) -> None:
    """P6: a process whose wall clock is an hour ahead sees a fresh challenge open; by its own clock, expired."""
    voice = Memory("voice")
    clock = SystemClock() if naive else None
    right = services(channels=[voice], clock=clock)
    opened = right.issue_code(NUMBER, purpose="login")
    monkeypatch.setattr(otpvoice.clock, "datetime", _Wrong)
    wrong = services(channels=[voice], clock=clock)
    expected = ChallengeState.EXPIRED if naive else ChallengeState.PENDING
    assert wrong.get(opened.id).state is expected
