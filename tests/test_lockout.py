"""Lockout: what past failures mean, as properties of a pure function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otpvoice import lockout
from otpvoice.lockout import Ledger
from otpvoice.policy import Policy

POLICY = Policy()
START = datetime(2026, 1, 1, tzinfo=UTC)
times = st.datetimes(datetime(2024, 1, 1), datetime(2035, 12, 31), timezones=st.just(UTC))
spans = st.timedeltas(timedelta(0), timedelta(days=800))
charges = st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(days=40)), st.integers(1, 5)), max_size=40)


def charged(history: list[tuple[timedelta, int]], at: datetime = START) -> tuple[Ledger, datetime]:
    """A ledger after attempts, each some time after the one before and compared with some codes."""
    ledger = Ledger()
    for wait, codes in history:
        at += wait
        ledger = ledger.charge(POLICY, at, codes=codes)
    return ledger, at


@given(charges)
def test_a_charge_adds_exactly_what_was_compared(history: list[tuple[timedelta, int]]) -> None:
    """Monotone: an attempt compared with three codes counts three; nothing else moves at that moment."""
    ledger, at = charged(history)
    for codes in (1, 3):
        assert ledger.charge(POLICY, at, codes=codes).failures(at) == ledger.failures(at) + codes


@given(charges, spans)
def test_failures_only_fade(history: list[tuple[timedelta, int]], span: timedelta) -> None:
    """Time alone never adds a failure, and none is negative."""
    ledger, at = charged(history)
    assert 0 <= ledger.failures(at + span) <= ledger.failures(at)


@given(charges)
def test_a_failure_counts_for_a_whole_year_and_no_longer_than_a_month_more(
    history: list[tuple[timedelta, int]],
) -> None:
    """Rolling: every failure of the last 365 days counts; none counts 397 days later."""
    ledger, at = charged(history)
    moment, youngest = START, []
    for wait, codes in history:
        moment += wait
        youngest.append((moment, codes))
    assert ledger.failures(at) >= sum(codes for when, codes in youngest if at - when <= timedelta(days=365))
    assert ledger.failures(at + timedelta(days=397)) == 0


def test_the_edge_of_the_year() -> None:
    """A failure of 15 January counts on the 15 January after, through that month's last moment, and then not."""
    ledger = Ledger().charge(POLICY, datetime(2026, 1, 15, tzinfo=UTC))
    assert ledger.failures(datetime(2027, 1, 15, tzinfo=UTC)) == 1
    assert ledger.failures(datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)) == 1
    assert ledger.failures(datetime(2027, 2, 1, tzinfo=UTC)) == 0


@given(charges, st.integers(0, 300), spans)
def test_forgiveness_is_exact(history: list[tuple[timedelta, int]], own: int, later: timedelta) -> None:
    """A success takes off its own challenge's failures, no more; the run and the lock end with it."""
    ledger, at = charged(history)
    after = ledger.forgive(own, at)
    assert after.failures(at) == max(0, ledger.failures(at) - own)
    assert (after.run, after.level, after.locked_until) == (0, 0, None)
    assert all(count > 0 for count in after.months.values())
    assert after.failures(at + later) <= ledger.failures(at + later)


@given(charges, st.integers(1, 5))
def test_charging_and_forgiving_leaves_the_others(history: list[tuple[timedelta, int]], own: int) -> None:
    """Section 1: an attacker's failures outlive every success of the owner."""
    ledger, at = charged(history)
    failed = ledger
    for _ in range(own):
        failed = failed.charge(POLICY, at)
    assert failed.forgive(own, at).failures(at) == ledger.failures(at)


def test_a_victim_who_logs_in_daily_forgives_nobody_else() -> None:
    """P23: four failures of the attacker and one success of the victim, thirty times: 120 count, codes are longer."""
    ledger, at = Ledger(), START
    for _ in range(30):
        for _ in range(4):
            ledger = ledger.charge(POLICY, at)
        ledger = ledger.charge(POLICY, at).forgive(1, at)
        at += timedelta(days=1)
    assert ledger.failures(at) == 120
    assert lockout.code_length(ledger, POLICY, at) == 8


def test_ten_in_a_row_lock_for_half_an_hour() -> None:
    """P25: nine do not; the tenth does, for 30 minutes to the moment."""
    ledger = Ledger()
    for number in range(1, 11):
        assert lockout.retry_after(ledger, POLICY, START) is None
        ledger = ledger.charge(POLICY, START)
        assert ledger.run == number % 10
    assert lockout.retry_after(ledger, POLICY, START) == timedelta(minutes=30)
    assert lockout.retry_after(ledger, POLICY, START + timedelta(minutes=29, seconds=59)) == timedelta(seconds=1)
    assert lockout.retry_after(ledger, POLICY, START + timedelta(minutes=30)) is None


def test_each_lock_doubles_up_to_a_day() -> None:
    """30 min, 1 h, 2 h … 16 h, 24 h, 24 h; a success starts over."""
    ledger, at, locks = Ledger(), START, []
    for _ in range(8):
        for _ in range(10):
            ledger = ledger.charge(POLICY, at)
        wait = lockout.retry_after(ledger, POLICY, at)
        assert wait is not None
        locks.append(wait)
        at += wait
    assert locks == [timedelta(minutes=minutes) for minutes in (30, 60, 120, 240, 480, 960, 1440, 1440)]
    ledger = ledger.forgive(1, at)
    for _ in range(10):
        ledger = ledger.charge(POLICY, at)
    assert lockout.retry_after(ledger, POLICY, at) == timedelta(minutes=30)


@given(st.integers(0, 10**9), st.timedeltas(timedelta(seconds=1), timedelta(days=30)))
@example(10**9, timedelta(days=30))
def test_no_level_outgrows_the_cap(level: int, cap: timedelta) -> None:
    """However long somebody is attacked: the lock is the cap at the most, and nothing overflows."""
    policy = Policy(lock_for=min(cap, POLICY.lock_for), lock_cap=cap, lock_after=1)
    ledger = Ledger(level=level).charge(policy, START)
    wait = lockout.retry_after(ledger, policy, START)
    assert wait is not None
    assert timedelta(0) < wait <= cap
    assert ledger.level == level + 1


@given(charges, spans)
@example(
    [(timedelta(0), 1), (timedelta(days=31), 5), (timedelta(0), 5), (timedelta(0), 5), (timedelta(0), 5)],
    timedelta(days=385),
)
def test_waiting_is_never_negative_and_always_enough(history: list[tuple[timedelta, int]], span: timedelta) -> None:
    """Whoever waits out ``retry_after`` is let in, if nobody fails meanwhile, whatever months count no more."""
    policy = Policy(longer_after=5, stop_after=20)
    ledger, at = charged(history)
    at += span
    wait = lockout.retry_after(ledger, policy, at)
    if wait is None:
        assert ledger.failures(at) < policy.stop_after
        return
    assert wait > timedelta(0)
    assert lockout.retry_after(ledger, policy, at + wait) is None


def test_at_fifty_codes_get_longer_and_no_success_shortens_them() -> None:
    """P24: 49 failures: six digits; 50: eight; forgiving another's failures is not in anybody's power."""
    ledger = Ledger(months={"2026-01": 49})
    assert lockout.code_length(ledger, POLICY, START) == 6
    ledger = ledger.charge(POLICY, START)
    assert lockout.code_length(ledger, POLICY, START) == 8
    assert lockout.code_length(ledger.forgive(0, START), POLICY, START) == 8


def test_nist_stops_at_a_hundred() -> None:
    """NIST SP 800-63B 3.2.2: 99 go on, 100 stop until enough of them are older than a year."""
    nist = Policy.nist()
    assert lockout.retry_after(Ledger(months={"2026-01": 99}), nist, START) is None
    stopped = Ledger(months={"2025-06": 60, "2026-01": 40})
    wait = lockout.retry_after(stopped, nist, START)
    assert wait is not None
    assert lockout.retry_after(stopped, nist, START + wait) is None
    assert lockout.retry_after(stopped, nist, START + wait - timedelta(seconds=1)) is not None
    assert START + wait == datetime(2026, 7, 1, tzinfo=UTC)
    assert lockout.retry_after(stopped, POLICY, START) is None


@given(times, st.integers(-14, 14))
def test_months_are_utc_wherever_the_machine_is(at: datetime, hours: int) -> None:
    """P6: the same moment in another zone is the same month."""
    from datetime import timezone

    elsewhere = at.astimezone(timezone(timedelta(hours=hours)))
    assert Ledger().charge(POLICY, at) == Ledger().charge(POLICY, elsewhere)


@given(st.dictionaries(st.dates(datetime(2024, 1, 1).date(), datetime(2027, 12, 31).date()), st.integers(-3, 9)))
def test_a_damaged_ledger_counts_nothing_negative(rows: dict[object, int]) -> None:
    """Zero and negative counts, wherever they come from, give nobody credit."""
    ledger = Ledger(months={f"{day:%Y-%m}": count for day, count in rows.items()})
    assert ledger.failures(START) >= 0
    assert ledger.forgive(10**6, START).failures(START) == 0


@pytest.mark.parametrize("codes", [1, 2, 5])
def test_the_run_counts_attempts_and_the_year_counts_codes(codes: int) -> None:
    """Ten attempts lock, whatever each was compared with."""
    ledger = Ledger()
    for _ in range(10):
        ledger = ledger.charge(POLICY, START, codes=codes)
    assert ledger.locked_until is not None
    assert ledger.failures(START) == 10 * codes
