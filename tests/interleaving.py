"""The third runner: interleaves any number of flows at every step, on the real store, and kills them at any step.

Each step (a transaction, a hash, a provider's call) is performed whole, and a seeded choice says whose step is next:
the schedule of any number of processes that share one database, replayed exactly by its seed. What happens *inside*
two transactions at once is the database's part; ``test_concurrency`` and ``test_processes`` show that.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from otpvoice.flow import Call, Exchange, Flow, Hash, Step, TakeSeat, Transact
from otpvoice.runner import HashingPool
from otpvoice.store.engine import Store


class Death(enum.Enum):
    """How a flow is ended by force."""

    BEFORE = "its process is killed before a step begins"
    AFTER = "its process is killed when the step is done (committed), before it hears so"
    FAILS = "the step fails, and an exception rises where it was asked for"
    LOST = "the step is done, but an exception rises in place of its result"


class Crash(Exception):
    """What a flow meets where its step was made to fail."""


@dataclass(slots=True)
class Ending:
    """What became of one flow. Exactly one of ``result``, ``error`` and ``death`` says so."""

    name: str
    result: Any = None
    error: BaseException | None = None
    death: Death | None = None
    steps: int = 0


@dataclass(slots=True)
class _Actor:
    ending: Ending
    start: Callable[[], Flow[Any]]
    flow: Flow[Any] | None = None
    step: Step | None = None


@dataclass(slots=True)
class Interleaver:
    """Runs flows, one step of one of them at a time. ``deaths`` is the chance that a step ends its flow by force."""

    store: Store
    seed: int
    deaths: float = 0.0
    hashing: HashingPool = field(default_factory=lambda: HashingPool(permits=1, queue=100))
    random: random.Random = field(init=False)
    _actors: list[_Actor] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def add(self, name: str, start: Callable[[], Flow[Any]]) -> None:
        """Have ``start()`` make a flow when it is first chosen: it may look at what others have done by then."""
        self._actors.append(_Actor(ending=Ending(name), start=start))

    def run(self) -> list[Ending]:
        """Run all flows to their ends, in the schedule of this seed."""
        living = list(self._actors)
        while living:
            actor = self.random.choice(living)
            if not self._advance(actor):
                living.remove(actor)
        return [actor.ending for actor in self._actors]

    def alone(self, flow: Flow[Any]) -> Any:
        """Run one flow by itself, undisturbed; its result is returned, its errors are raised."""
        actor = _Actor(ending=Ending("alone"), start=lambda: flow)
        deaths, self.deaths = self.deaths, 0.0
        try:
            while self._advance(actor):
                pass
        finally:
            self.deaths = deaths
        if actor.ending.error is not None:
            raise actor.ending.error
        return actor.ending.result

    def _advance(self, actor: _Actor) -> bool:
        """One step of a flow; False when it has ended."""
        try:
            if actor.flow is None:
                actor.flow = actor.start()
                actor.step = next(actor.flow)
                return True
            assert actor.step is not None
            actor.ending.steps += 1
            death = self._death()
            if death is not None:
                return self._die(actor, death)
            try:
                result = self._perform(actor.step)
            except Exception as error:
                actor.step = actor.flow.throw(error)
            else:
                actor.step = actor.flow.send(result)
            return True
        except StopIteration as done:
            actor.ending.result = done.value
        except Exception as error:
            actor.ending.error = error
        return False

    def _death(self) -> Death | None:
        return self.random.choice(list(Death)) if self.random.random() < self.deaths else None

    def _die(self, actor: _Actor, death: Death) -> bool:
        assert actor.flow is not None
        assert actor.step is not None
        # A place in the queue is this process's memory: it dies with the process, and taking it cannot be half done.
        if death in {Death.AFTER, Death.LOST} and not isinstance(actor.step, TakeSeat):
            # What the step itself raises (a provider's refusal) is lost with it.
            with suppress(Exception):
                self._perform(actor.step)
        if death in {Death.BEFORE, Death.AFTER}:
            actor.flow.close()
            actor.ending.death = death
            return False
        actor.step = actor.flow.throw(Crash(death.value))
        return True

    def _perform(self, step: Step) -> Any:
        match step:
            case Transact():
                return self.store.transact(step.work, single=step.single)
            case TakeSeat():
                return self.hashing.enter()
            case Hash():
                cast(Any, step.seat).hand_over()
                return self.hashing.compute(step.job)
            case Call():
                return step.work()
            case Exchange():
                raise AssertionError("these flows speak to no provider over HTTP")


def schedules(count: int, *, first: int = 0) -> Iterator[int]:
    """Seeds. A failure names its seed: run that one alone to see it again."""
    return iter(range(first, first + count))
