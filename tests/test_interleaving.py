"""Thousands of schedules: any interleaving and any death of flows that share a database keeps every promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pyotp
import pytest
from sqlalchemy import event

from otpvoice import OTPService, Policy, Route, ServiceBusy, issuance, totp, verification
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock
from otpvoice.context import Context
from otpvoice.flow import Flow
from otpvoice.policy import default_policies
from otpvoice.store.engine import Store
from tests.conftest import SECRET
from tests.interleaving import Crash, Ending, Interleaver, schedules
from tests.promises import Watch, broken

SCHEDULES = 300
"""Schedules of each scenario on each database."""
DEATHS = 0.06
"""The chance that a step ends its flow by force."""


@dataclass(slots=True)
class House:
    """One database, and a tenant of its own for every schedule."""

    service: OTPService
    voice: Memory
    clock: ManualClock
    watch: Watch

    @property
    def store(self) -> Store:
        return self.service._assembly.store

    def tenant(self, seed: int, **changes: Any) -> Context:
        changes.setdefault("hash_profile", "fast")
        route = Route.of(*changes.pop("route", ("voice",)))
        policies = {purpose: Policy(route=route, **changes) for purpose in default_policies(route)}
        self.voice.clear()
        self.watch.clear()
        return self.service.for_tenant(f"t{seed}", policies=policies)._context

    def broken(self, ctx: Context, endings: list[Ending]) -> list[str]:
        return broken(
            self.store,
            tenant=ctx.tenant,
            watch=self.watch,
            channels=[self.voice],
            results=[ending.result for ending in endings],
        )


def make_house(database_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> House:
    voice = Memory("voice")
    service = OTPService(secret=SECRET, channels=[voice], database_url=database_url, clock=clock)
    _hurry(service._assembly.store)
    return House(service=service, voice=voice, clock=clock, watch=Watch(monkeypatch))


@pytest.fixture
def house(database_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = make_house(database_url, clock, monkeypatch)
    yield made
    made.service.close()


def _hurry(store: Store) -> None:
    """Commits need not survive a power cut here: nothing in these schedules pulls the plug."""
    statement = "PRAGMA synchronous = OFF" if store.sqlite else "SET synchronous_commit = off"

    def hurry(dbapi: Any, _record: Any) -> None:
        cursor = dbapi.cursor()
        cursor.execute(statement)
        cursor.close()
        if not store.sqlite:
            dbapi.commit()

    event.listen(store.engine(), "connect", hurry)


def number(seed: int) -> str:
    """A recipient of this schedule's own: the daily limit counts all tenants together."""
    return f"+8491{2_000_000 + seed:07d}"


def other(code: str, by: int = 1) -> str:
    """A wrong code of the same length."""
    return str((int(code) + by) % 10 ** len(code)).zfill(len(code))


def passes(clock: ManualClock, span: timedelta) -> Flow[None]:
    """Time goes by."""
    clock.advance(span)
    return
    yield


def crowd(house: House, ctx: Context, seed: int, *, deaths: float) -> list[Ending]:
    """Two challenges of one recipient; guesses right and wrong, resends, cancels, openings and time, all at once."""
    run = Interleaver(house.store, seed, deaths)
    draw = run.random
    to, clock = number(seed), house.clock
    first = run.alone(issuance.issue(ctx, to, purpose="login", subject="alice"))
    second = run.alone(issuance.issue(ctx, to, purpose="login"))
    codes = {sent.challenge_id: sent.code for sent in house.voice.sent}
    for which in range(draw.randint(2, 6)):
        target = draw.choice((first, second)).id
        run.add("wrong", lambda t=target, n=which: verification.verify(ctx, t, other(codes[t], n + 1)))
    for _ in range(draw.randint(0, 3)):
        target = draw.choice((first, second)).id
        run.add("right", lambda t=target: verification.verify(ctx, t, codes[t]))
    for _ in range(draw.randint(0, 2)):
        run.add("resend", lambda: issuance.resend(ctx, first.id))
    for _ in range(draw.randint(0, 2)):
        run.add("late", lambda: verification.verify(ctx, house.voice.sent[-1].challenge_id, house.voice.sent[-1].code))
    for _ in range(draw.randint(0, 2)):
        run.add("open", lambda: issuance.issue(ctx, to, purpose="signup"))
    if draw.random() < 0.3:
        run.add("cancel", lambda: issuance.cancel(ctx, draw.choice((first, second)).id))
    for span in draw.choice(((), (31,), (31, 90), (300,))):
        run.add("time", lambda s=span: passes(clock, timedelta(seconds=s)))
    return finish(run)


def finish(run: Interleaver) -> list[Ending]:
    """Run them all; whatever died, no place in the hashing queue stays taken and none is given back twice."""
    endings = run.run()
    seats = [run.hashing.enter() for _ in range(run.hashing.capacity)]
    with pytest.raises(ServiceBusy):
        run.hashing.enter()
    for seat in seats:
        seat.release()
    return endings


def app_crowd(house: House, ctx: Context, seed: int, *, deaths: float) -> tuple[list[Ending], pyotp.TOTP]:
    """Three challenges of a subject with an authenticator app; its right code is typed into all of them at once."""
    run = Interleaver(house.store, seed, deaths)
    draw = run.random
    enrolled = run.alone(totp.enroll(ctx, "alice"))
    app = pyotp.TOTP(str(enrolled.secret))
    confirmation = app.at(house.clock.now())
    run.alone(totp.confirm(ctx, enrolled.factor_id, confirmation, subject="alice"))
    opened = [run.alone(issuance.issue(ctx, None, purpose="login", subject="alice")).id for _ in range(3)]
    house.clock.advance(30)
    at = house.clock.now()
    run.add("replay", lambda: verification.verify(ctx, draw.choice(opened), confirmation))
    for _ in range(draw.randint(2, 5)):
        target = draw.choice(opened)
        run.add("right", lambda t=target: verification.verify(ctx, t, app.at(at)))
    for span in (-60, 60, 90)[: draw.randint(0, 3)]:
        target, typed = draw.choice(opened), app.at(at + timedelta(seconds=span))
        run.add("far", lambda t=target, c=typed: verification.verify(ctx, t, c))
    return finish(run), app


@pytest.mark.parametrize("deaths", [0.0, DEATHS], ids=["alive", "dying"])
def test_every_promise_holds_under_any_interleaving_and_any_death(house: House, deaths: float) -> None:
    """Design 5, promises 1 to 3 and 5: a crowd on two challenges of one recipient, in hundreds of schedules."""
    outcomes: set[str] = set()
    for seed in schedules(SCHEDULES, first=0 if deaths else 100_000):
        ctx = house.tenant(seed, max_attempts=3, lock_after=5, max_live=3, max_sends=2, max_sends_per_day=4)
        endings = crowd(house, ctx, seed, deaths=deaths)
        assert house.broken(ctx, endings) == [], f"seed {seed}"
        for ending in endings:
            outcome = ending.death or ending.error or ending.result
            outcomes.add(f"{ending.name} {type(outcome).__name__}")
    # The schedules reach what they are about: a crowd in which nobody wins or is refused would prove nothing.
    wanted = {
        "right Verified",
        "right ChallengeClosed",
        "right LockedOut",
        "wrong CodeMismatch",
        "wrong ChallengeClosed",
        "wrong LockedOut",
        "resend Challenge",
        "resend RateLimited",
        "open RateLimited",
        "cancel Challenge",
        "cancel ChallengeClosed",
        "late Verified",
    }
    assert wanted <= outcomes, sorted(wanted - outcomes)
    assert ("wrong Death" in outcomes) == (deaths > 0)


@pytest.mark.parametrize("deaths", [0.0, DEATHS], ids=["alive", "dying"])
def test_an_app_code_is_accepted_once_over_all_challenges(house: House, deaths: float) -> None:
    """RFC 6238 5.2 (P9): one acceptance a time step, whichever and however many challenges it is typed into."""
    accepted = 0
    for seed in schedules(SCHEDULES // 3, first=200_000 if deaths else 300_000):
        ctx = house.tenant(seed, route=("totp", "voice"), max_attempts=4)
        endings, _app = app_crowd(house, ctx, seed, deaths=deaths)
        assert house.broken(ctx, endings) == [], f"seed {seed}"
        winners = [ending.name for ending in endings if ending.result is not None]
        assert winners in ([], ["right"]), f"seed {seed}"
        assert winners or deaths, f"seed {seed}: the right code was refused everywhere"
        accepted += len(winners)
    assert accepted


def test_a_sending_that_dies_leaves_a_challenge_that_verifies_or_says_nothing_rang(house: House) -> None:
    """P99: killed at any step of issuing, a code that was spoken is right, and nothing is sent beyond the limits."""
    spoken_and_died = 0
    for seed in schedules(SCHEDULES, first=400_000):
        ctx = house.tenant(seed, max_live=2, max_sends_per_day=3, max_sends_per_tenant=3)
        run = Interleaver(house.store, seed, deaths=0.25)
        for purpose in ("login", "signup", "reset", "login"):
            run.add("open", partial(issuance.issue, ctx, number(seed), purpose=purpose))
        endings = finish(run)
        assert house.broken(ctx, endings) == [], f"seed {seed}"
        returned = {ending.result.id for ending in endings if ending.result is not None}
        for sent in house.voice.sent:
            spoken_and_died += sent.challenge_id not in returned
            endings.append(Ending("heard", run.alone(verification.verify(ctx, sent.challenge_id, sent.code))))
        assert house.broken(ctx, endings) == [], f"seed {seed}"
    assert spoken_and_died > SCHEDULES // 20


def test_a_dead_attempt_is_never_given_back(house: House) -> None:
    """P21: attempts are killed one after the other, at every one of their steps and in every way; all are spent."""
    killed = set()
    for seed in schedules(SCHEDULES // 2, first=500_000):
        ctx = house.tenant(seed, max_attempts=5)
        run = Interleaver(house.store, seed, deaths=0.0)
        opened = run.alone(issuance.issue(ctx, number(seed), purpose="login"))
        right = house.voice.sent[-1].code
        run.deaths = 0.5
        for guess in range(12):
            run.add("wrong", partial(verification.verify, ctx, opened.id, other(right, guess + 1)))
        endings = finish(run)
        killed |= {(ending.death, ending.steps) for ending in endings if ending.death is not None}
        assert any(isinstance(ending.error, Crash) for ending in endings) or any(e.death for e in endings)
        assert house.broken(ctx, endings) == [], f"seed {seed}"
        committed = [one for one in story(house, ctx, opened.id) if one == "attempt.charged"]
        assert run.alone(issuance.get(ctx, opened.id)).attempts_left in {0, 5 - len(committed)}, f"seed {seed}"
    # Each of the steps (place, charge, hash, exhaustion) met both deaths.
    assert {steps for _death, steps in killed} >= {1, 2, 3, 4}


def story(house: House, ctx: Context, challenge_id: str) -> list[str]:
    found = Interleaver(house.store, 0).alone(issuance.story(ctx, challenge_id))
    return [one.kind for one in found]
