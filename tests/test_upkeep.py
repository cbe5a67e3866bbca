"""Upkeep: what is purged when, in batches, and that what still counts stays."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.event import listen

from otpvoice import ChallengeClosed, ChallengeState, CodeMismatch
from otpvoice.channels.base import Finding
from otpvoice.channels.memory import Memory
from otpvoice.errors import ProviderUnavailable, StoreUnavailable
from otpvoice.flow import Flow, undo
from otpvoice.store import history, tables
from otpvoice.upkeep import EVENTS_KEPT, LEDGERS_KEPT, purge
from tests.conftest import NUMBER, OTHER_NUMBER, Maker, Otp

DAY = timedelta(days=1)


def rows(otp: Otp, name: str, *conditions: Any) -> int:
    """How many rows a table holds."""
    table = tables.metadata.tables[name]
    statement = select(func.count()).select_from(table).where(*conditions)
    count: int = otp.service._assembly.store.transact(
        lambda connection, _now: connection.execute(statement).scalar_one()
    )
    return count


def test_nothing_that_counts_is_purged(otp: Otp) -> None:
    """An open challenge, its tags, today's counters and the year's failures are as they were."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    with pytest.raises(CodeMismatch):
        otp.service.verify_code(challenge.id, otp.wrong())
    purged = otp.service.purge()
    assert purged == type(purged)(expired=0, challenges=0, events=0, counters=0, ledgers=0, factors=0)
    assert otp.service.verify_code(challenge.id, otp.code)


def test_what_has_run_out_is_written_down_and_wiped(otp: Otp) -> None:
    """P70: nobody came back to it, and its tags are gone all the same; it ended when its time ran out."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(timedelta(minutes=6))
    assert rows(otp, "delivery", tables.delivery.c.tag.is_not(None)) == 1
    assert otp.service.purge().expired == 1
    assert rows(otp, "delivery", tables.delivery.c.tag.is_not(None)) == 0
    assert rows(otp, "challenge", tables.challenge.c.salt.is_not(None)) == 0
    found = otp.service.get(challenge.id)
    assert (found.state, found.closed_at) == (ChallengeState.EXPIRED, challenge.expires_at)
    assert otp.service.events(challenge.id)[-1].kind == "challenge.expired"
    assert otp.service.purge().expired == 0


def test_who_issues_wipes_what_has_run_out_where_no_worker_does(otp: Otp) -> None:
    """P70: with neither a worker nor a purge, its tags are gone with the next code that anybody asks for."""
    lost = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(timedelta(minutes=6))
    other = otp.service.issue_code(OTHER_NUMBER, purpose="login")
    assert otp.service.get(lost.id).state is ChallengeState.EXPIRED
    assert rows(otp, "delivery", tables.delivery.c.tag.is_not(None)) == 1
    assert rows(otp, "challenge", tables.challenge.c.state == "expired") == 1
    assert otp.service.verify_code(other.id, otp.code)
    assert not otp.service._context.sweeps.due(otp.clock.now())


def test_a_sweep_that_fails_takes_nothing_from_who_asked(otp: Otp, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> int:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(history, "expire", away)
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    assert otp.service.verify_code(challenge.id, otp.code)


def test_what_has_run_out_is_found_among_the_open_ones_only(database_url: str, services: Maker) -> None:
    """The cost of a sweep does not grow with history: it reads the index of what is open."""
    store = services()._assembly.store
    seen: list[tuple[str, Any]] = []

    def look(connection: Connection, now: datetime) -> str:
        if not store.sqlite:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("DROP INDEX ix_challenge_expiry"))  # As good, while there is no history.
        listen(
            connection, "before_cursor_execute", lambda _c, _u, statement, given, *_: seen.append((statement, given))
        )
        history.expire(connection, now, batch=10)
        statement, given = seen[0]
        explain = "EXPLAIN QUERY PLAN " if store.sqlite else "EXPLAIN "
        return undo(str(connection.exec_driver_sql(explain + statement, given).all()))

    plan = store.transact(look)
    assert "ix_challenge_open" in plan
    assert re.search(r"\(expires_at<\?\)" if store.sqlite else r"Index Cond: \(\(?expires_at <=", plan), plan


def test_challenges_are_kept_a_day(otp: Otp) -> None:
    """P76: with their sealed recipients and deliveries; a moment before they are there, then they are not."""
    ended = otp.service.issue_code(NUMBER, purpose="login")
    otp.service.verify_code(ended.id, otp.code)
    forgotten = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(DAY + timedelta(minutes=5) - timedelta(seconds=1))
    assert otp.service.purge().challenges == 0
    otp.clock.advance(1)
    assert otp.service.purge().challenges == 2
    assert (rows(otp, "challenge"), rows(otp, "delivery")) == (0, 0)
    for challenge in (ended, forgotten):
        with pytest.raises(ChallengeClosed):
            otp.service.get(challenge.id)


def test_counters_go_with_their_window(otp: Otp) -> None:
    """A day after the first send; not before."""
    otp.service.issue_code(NUMBER, purpose="login", client="192.0.2.1")
    assert rows(otp, "counter") == 2
    otp.clock.advance(DAY - timedelta(seconds=1))
    assert (otp.service.purge().counters, rows(otp, "counter")) == (1, 1)
    otp.clock.advance(1)
    assert (otp.service.purge().counters, rows(otp, "counter")) == (1, 0)


def test_failures_are_kept_as_long_as_they_count(otp: Otp) -> None:
    """P76: the ledger stays for more than a year, the audit for half of one."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    with pytest.raises(CodeMismatch):
        otp.service.verify_code(challenge.id, otp.wrong())
    otp.clock.advance(EVENTS_KEPT)
    purged = otp.service.purge()
    assert purged.events > 0
    assert rows(otp, "event", tables.event.c.kind == "attempt.charged") == 0
    otp.clock.advance(LEDGERS_KEPT - EVENTS_KEPT - timedelta(seconds=1))
    assert (otp.service.purge().ledgers, rows(otp, "ledger")) == (0, 1)
    otp.clock.advance(1)
    assert (otp.service.purge().ledgers, rows(otp, "ledger")) == (1, 0)


def test_unconfirmed_apps_go_after_a_day(otp: Otp) -> None:
    """A confirmed one stays."""
    import pyotp

    kept = otp.service.enroll_totp("alice")
    code = pyotp.TOTP(str(kept.secret)).at(otp.clock.now())
    otp.service.confirm_totp(kept.factor_id, code, subject="alice")
    otp.service.enroll_totp("alice")
    otp.clock.advance(DAY - timedelta(seconds=1))
    assert otp.service.purge().factors == 0
    otp.clock.advance(1)
    assert (otp.service.purge().factors, rows(otp, "totp_factor")) == (1, 1)


def test_batches_are_bounded_and_go_on_to_the_end(otp: Otp) -> None:
    """No transaction removes more than its batch; together they remove everything."""
    for number in range(5):
        otp.service.issue_code(f"+8491234{number:04d}", purpose="login")
    otp.clock.advance(2 * DAY)
    removed: list[int] = []
    flow = purge(otp.service._context, batch=2)
    store = otp.service._assembly.store
    step = next(flow)
    try:
        while True:
            result = store.transact(step.work)
            removed.append(result)
            step = flow.send(result)
    except StopIteration as done:
        total = done.value
    assert max(removed) == 2
    assert (total.expired, total.challenges, total.counters) == (5, 5, 5)
    assert (rows(otp, "challenge"), rows(otp, "delivery"), rows(otp, "counter")) == (0, 0, 0)


class Probed(Memory):
    """A channel whose provider answers a probe, or does not."""

    def __init__(self, name: str, error: Exception | None) -> None:
        super().__init__(name)
        self.error = error

    def probe(self) -> Flow[list[Finding]]:
        if self.error is not None:
            raise self.error
        return [Finding(name="balance", ok=True, detail="12.50")]
        yield


def test_a_provider_that_does_not_answer_is_a_finding(otp: Otp) -> None:
    """The others are asked all the same."""
    service = otp.again(
        channels=[Probed("down", ProviderUnavailable("no connection could be made")), Probed("voice", None)]
    )
    found = service.probe()
    assert [(item.ok, item.detail) for item in found["voice"]] == [(True, "12.50")]
    assert [(item.ok, item.detail) for item in found["down"]] == [(False, "no connection could be made")]
