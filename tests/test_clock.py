"""Clocks: what the pace of a process's own chores is. The database's clock is tested where processes disagree."""

from __future__ import annotations

import threading
from datetime import timedelta

from otpvoice.clock import ManualClock, Pace

SECOND = timedelta(seconds=1)


def test_a_pace_is_due_once_in_its_span() -> None:
    clock, pace = ManualClock(), Pace(15 * SECOND)
    assert [pace.due(clock.now()) for _ in range(3)] == [True, False, False]
    clock.advance(14)
    assert not pace.due(clock.now())
    clock.advance(1)
    assert [pace.due(clock.now()) for _ in range(2)] == [True, False]


def test_a_clock_put_back_makes_it_due() -> None:
    clock, pace = ManualClock(), Pace(15 * SECOND)
    assert pace.due(clock.now())
    clock.advance(-3600)
    assert [pace.due(clock.now()) for _ in range(2)] == [True, False]


def test_of_many_who_ask_at_once_one_is_told() -> None:
    clock, pace = ManualClock(), Pace(SECOND)
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(pace.due(clock.now()))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(told) == 1
