"""Workers are killed at random moments under load. Every challenge gets its call or an explained failure.

Real processes, SIGKILL, real HTTP to the simulator, which counts the calls; both databases. Promise 5.6.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from otpvoice import DeliveryState, OTPService, Policy, Route
from otpvoice.channels.itnio import ItnioVoice
from otpvoice.simulator.rules import Rule
from otpvoice.simulator.server import SimulatedItnio
from otpvoice.store.tables import delivery
from tests.conftest import SECRET

CHALLENGES = 60
KILLS = 6
NUMBERS = [f"+8491200{number:04d}" for number in range(CHALLENGES)]


@pytest.fixture
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio(by_number=False) as simulator:
        # Slow enough that kills fall before, within and after the exchange.
        simulator.set_rule(Rule(delay=0.3))
        yield simulator


class Crew:
    """Worker processes, some of which are killed."""

    def __init__(self, database_url: str, itnio: SimulatedItnio) -> None:
        self.environment = os.environ | {
            "OTPVOICE_DATABASE_URL": database_url,
            "OTPVOICE_SECRET": SECRET,
            "OTPVOICE_ITNIO_BASE_URL": itnio.url,
            "OTPVOICE_ITNIO_API_KEY": "demo-key",
            "OTPVOICE_ITNIO_API_SECRET": "demo-secret",
            "OTPVOICE_ITNIO_APP_ID": "demo-app",
        }
        self.alive: list[subprocess.Popen[str]] = []

    def hire(self, *arguments: str) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_worker", *arguments],
            env=self.environment,
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.alive.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
        worker.send_signal(number)
        worker.wait(30)
        assert worker.stdout is not None
        worker.stdout.close()
        self.alive.remove(worker)

    def dismiss(self) -> None:
        for worker in list(self.alive):
            self.kill(worker)


@pytest.fixture
def crew(database_url: str, itnio: SimulatedItnio) -> Iterator[Crew]:
    crew = Crew(database_url, itnio)
    yield crew
    crew.dismiss()


def up(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline() == "up\n"


def test_killed_workers_lose_nothing_and_ring_nobody_twice(
    database_url: str, itnio: SimulatedItnio, crew: Crew
) -> None:
    chance = random.Random()
    voice = ItnioVoice.from_settings(
        "voice", {"base_url": itnio.url, "api_key": "demo-key", "api_secret": "demo-secret", "app_id": "demo-app"}
    )
    policies = {"login": Policy(route=Route.of("voice"), hash_profile="fast")}
    with OTPService(
        secret=SECRET, channels=[voice], database_url=database_url, policies=policies, worker=True
    ) as service:
        service._housed = None  # The crew sends, nobody else.
        for worker in [crew.hire(), crew.hire()]:
            up(worker)
        waiting = list(NUMBERS)
        challenges = []
        for _ in range(KILLS):
            for _ in range(CHALLENGES // KILLS):
                challenges.append(service.issue_code(waiting.pop(), purpose="login").id)
            successor = crew.hire()
            time.sleep(chance.uniform(0, 0.6))  # The moment of the kill is what varies; nothing waits for it.
            crew.kill(chance.choice(crew.alive[:-1]))
            up(successor)
        _wait_until_nothing_is_due(service)
        stories = [service.get(challenge) for challenge in challenges]
    rang = Counter(call.called_info for call in itnio.calls)
    for story in stories:
        (sent,) = story.deliveries
        if sent.state in {DeliveryState.ACCEPTED, DeliveryState.DELIVERED}:
            assert rang[sent.id] == 1
        else:
            assert (sent.state, sent.reason) == (DeliveryState.FAILED, "not_received")
            assert rang[sent.id] == 0
    assert max(rang.values()) == 1
    print(f"{KILLS} kills, {len(stories)} deliveries, {sum(rang.values())} calls")


def test_sigterm_finishes_what_has_begun(database_url: str, itnio: SimulatedItnio, crew: Crew) -> None:
    voice = ItnioVoice.from_settings(
        "voice", {"base_url": itnio.url, "api_key": "demo-key", "api_secret": "demo-secret", "app_id": "demo-app"}
    )
    policies = {"login": Policy(route=Route.of("voice"), hash_profile="fast")}
    with OTPService(
        secret=SECRET, channels=[voice], database_url=database_url, policies=policies, worker=True
    ) as service:
        service._housed = None
        challenges = [service.issue_code(number, purpose="login").id for number in NUMBERS[:8]]
        environment = crew.environment
        worker = subprocess.Popen(
            [sys.executable, "-m", "otpvoice", "worker"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        itnio.wait_for_calls(1, 30)
        worker.terminate()
        assert worker.wait(30) == 0
        begun = [service.get(challenge).deliveries[0].state for challenge in challenges]
    assert set(begun) <= {DeliveryState.ACCEPTED, DeliveryState.QUEUED}
    assert begun.count(DeliveryState.ACCEPTED) == len(itnio.calls)


def _wait_until_nothing_is_due(service: OTPService) -> None:
    """Poll the store, for at most three minutes, until no delivery waits to be sent or explained."""
    store = service._assembly.store
    open_states = [DeliveryState.QUEUED.value, DeliveryState.SENDING.value, DeliveryState.UNKNOWN.value]
    for _ in range(1800):
        left = store.transact(
            lambda connection, _now: connection.execute(
                select(func.count()).select_from(delivery).where(delivery.c.state.in_(open_states))
            ).scalar_one()
        )
        if left == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"{left} deliveries are neither sent nor explained")
