"""What may never happen (design, section 5), as one checker over a database and what was seen from outside it.

:class:`Watch` counts what only this process can know: comparisons really made and calls to the provider.
:func:`broken` reads the database and names every promise that does not hold. ``test_guards`` shows that it would
notice: with a guarding line replaced by its naive version, it does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, select

from otpvoice import Verified, codes, totp
from otpvoice.channels.memory import Memory, Sent
from otpvoice.policy import Policy
from otpvoice.store import tables
from otpvoice.store.engine import Store
from otpvoice.types import Challenge, ChallengeState, Medium


class Watch:
    """Counts comparisons, whoever makes them and whatever the database says of them. Safe for threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self.sent: list[tuple[str, ...]] = []
        """The deliveries whose codes an attempt was compared with, one entry an attempt."""
        self.app: list[str] = []
        """The authenticator-app factor that an attempt was compared with, one entry an attempt."""
        matching, matching_step = codes.matching, totp.matching_step

        def watched_matching(candidate: bytes, tags: Iterable[tuple[str, bytes]]) -> str | None:
            known = list(tags)
            with self._lock:
                self.sent.append(tuple(identity for identity, _ in known))
            return matching(candidate, known)

        def watched_step(keyring: Any, row: Any, typed: Any, at: Any) -> int | None:
            with self._lock:
                self.app.append(row.id)
            return matching_step(keyring, row, typed, at)

        monkeypatch.setattr(codes, "matching", watched_matching)
        monkeypatch.setattr(totp, "matching_step", watched_step)

    def clear(self) -> None:
        with self._lock:
            self.sent.clear()
            self.app.clear()


@dataclass(slots=True, kw_only=True)
class Seen:
    """A tenant's rows, and what was seen from outside."""

    now: datetime
    challenges: dict[str, Any]
    deliveries: dict[str, Any]
    ledgers: dict[str, Any]
    events: Sequence[Any]
    counters: dict[str, int]
    compared: Counter[str] = field(default_factory=Counter)
    """Attempts that were compared, by challenge."""
    codes_compared: Counter[str] = field(default_factory=Counter)
    """Codes that those attempts were compared with, by challenge."""
    calls: Sequence[Sent] = ()
    verified: Sequence[Verified] = ()
    cancelled: Sequence[Challenge] = ()


def broken(
    store: Store,
    *,
    tenant: str = "default",
    watch: Watch | None = None,
    channels: Sequence[Memory] = (),
    results: Iterable[Any] = (),
) -> list[str]:
    """Every promise that does not hold, in words; empty when all do. ``results`` are what flows returned."""
    results = list(results)
    seen = store.transact(lambda connection, now: _read(connection, now, tenant))
    seen.calls = [call for channel in channels for call in channel.sent if call.challenge_id in seen.challenges]
    seen.verified = [result for result in results if isinstance(result, Verified)]
    seen.cancelled = [
        result for result in results if isinstance(result, Challenge) and result.state is ChallengeState.CANCELLED
    ]
    for deliveries in [] if watch is None else list(watch.sent):
        owners = {seen.deliveries[item].challenge_id for item in deliveries if item in seen.deliveries}
        for owner in owners:
            seen.compared[owner] += 1
            seen.codes_compared[owner] += len(deliveries)
    return [problem for promise in PROMISES for problem in promise(seen)]


def _read(connection: Connection, now: datetime, tenant: str) -> Seen:
    challenges = connection.execute(select(tables.challenge).where(tables.challenge.c.tenant == tenant)).all()
    deliveries = connection.execute(
        select(tables.delivery).where(tables.delivery.c.challenge_id.in_([row.id for row in challenges]))
    )
    recipients = {f"recipient:{row.recipient_key}" for row in challenges if row.recipient_key}
    return Seen(
        now=now,
        challenges={row.id: row for row in challenges},
        deliveries={row.id: row for row in deliveries},
        ledgers={
            row.id: row for row in connection.execute(select(tables.ledger).where(tables.ledger.c.tenant == tenant))
        },
        events=connection.execute(select(tables.event).where(tables.event.c.tenant == tenant)).all(),
        counters={
            row.key: row.used
            for row in connection.execute(
                select(tables.counter).where(
                    tables.counter.c.key.in_(recipients) | tables.counter.c.key.startswith(f"tenant:{tenant}#")
                )
            )
        },
    )


def _budget_of_a_challenge(seen: Seen) -> Iterable[str]:
    """Promise 1 (P20, P21): no more comparisons than attempts charged, no more attempts than allowed."""
    for row in seen.challenges.values():
        most = Policy.from_json(row.policy).max_attempts
        if row.attempts > most:
            yield f"{row.attempts} attempts were charged to a challenge that takes {most}"
        if seen.compared[row.id] > most:
            yield f"{seen.compared[row.id]} attempts were compared on a challenge that takes {most}"
        if seen.compared[row.id] > row.attempts:
            yield f"{seen.compared[row.id]} attempts were compared, {row.attempts} charged"
        if seen.codes_compared[row.id] > row.charged:
            yield f"{seen.codes_compared[row.id]} codes were compared, {row.charged} charged"


def _ledger_adds_up(seen: Seen) -> Iterable[str]:
    """Promises 1 and 3 (P22, P23): a ledger holds every failure of every challenge that was not approved."""
    for ledger in seen.ledgers.values():
        own = [row for row in seen.challenges.values() if ledger.id in {row.recipient_ledger, row.subject_ledger}]
        owed = sum(row.charged for row in own if row.state != "approved")
        held = sum(ledger.months.values())
        if held != owed:
            yield f"a ledger holds {held} failures, its challenges charged {owed}"


def _lock_holds(seen: Seen) -> Iterable[str]:
    """P25: nothing is charged, and so nothing compared, while a ledger is locked."""
    for ledger in seen.ledgers.values():
        if ledger.locked_until is not None and ledger.locked_until > seen.now and ledger.run:
            yield f"{ledger.run} attempts were taken by a locked ledger"


def _one_end(seen: Seen) -> Iterable[str]:
    """Promise 2 (P7, P8, P94): one end, final, inside the time; approved only by that end."""
    approvals = Counter(result.challenge_id for result in seen.verified)
    cancels = Counter(result.id for result in seen.cancelled)
    ends = {"challenge.approved", "challenge.cancelled", "challenge.expired", "challenge.exhausted"}
    ended = Counter(event.challenge_id for event in seen.events if event.kind in ends)
    for row in seen.challenges.values():
        if approvals[row.id] > 1:
            yield f"approved {approvals[row.id]} times"
        if approvals[row.id] + cancels[row.id] > 1:
            yield "two callers were told that they closed it"
        if approvals[row.id] and row.state != "approved":
            yield f"a caller was told approved, the database says {row.state}"
        if ended[row.id] > 1:
            yield f"ended {ended[row.id]} times"
    for event in seen.events:
        row = seen.challenges.get(event.challenge_id)
        if row is not None and event.kind in {"challenge.approved", "attempt.charged"} and event.at >= row.expires_at:
            yield f"{event.kind} after it expired"


def _one_acceptance_a_time_step(seen: Seen) -> Iterable[str]:
    """P9: an authenticator app's code is accepted once (no test types two neighbouring steps' codes at one time)."""
    steps = Counter(
        (result.subject, result.approved_at.timestamp() // totp.PERIOD)
        for result in seen.verified
        if result.medium is Medium.APP
    )
    for count in steps.values():
        if count > 1:
            yield f"an app's code was accepted {count} times"


def _nothing_left_of_what_ended(seen: Seen) -> Iterable[str]:
    """P8, P70: what ended, or has no attempts left, can be compared with nothing."""
    for row in seen.challenges.values():
        if row.state == "pending":
            continue
        if row.salt is not None:
            yield f"a challenge that is {row.state} kept its salt"
        if any(item.tag is not None for item in seen.deliveries.values() if item.challenge_id == row.id):
            yield f"a challenge that is {row.state} kept a tag"


def _sends_are_reserved(seen: Seen) -> Iterable[str]:
    """Promise 5 (P33, P50): no call that was not reserved, none beyond a limit, none that left no trace."""
    calls = Counter(call.challenge_id for call in seen.calls)
    for row in seen.challenges.values():
        policy = Policy.from_json(row.policy)
        if row.sends > policy.max_sends:
            yield f"{row.sends} sends were reserved, {policy.max_sends} are allowed"
        if calls[row.id] > row.sends:
            yield f"{calls[row.id]} calls for {row.sends} reserved sends"
    for recipient, count in Counter(row.recipient_key for row in seen.challenges.values()).items():
        if recipient is None or not count:
            continue
        own = [row for row in seen.challenges.values() if row.recipient_key == recipient]
        made = sum(calls[row.id] for row in own)
        most = Policy.from_json(own[0].policy).max_sends_per_day
        if made > most:
            yield f"{made} calls to a recipient in a day, {most} are allowed"
        counted, reserved = seen.counters.get(f"recipient:{recipient}", 0), sum(row.sends for row in own)
        if made > counted:
            yield f"{made} calls to a recipient, {counted} counted"
        if counted != reserved:
            yield f"{counted} sends to a recipient counted, {reserved} reserved"
    limits = [Policy.from_json(row.policy).max_sends_per_tenant for row in seen.challenges.values()]
    if limits and limits[0] is not None:
        counted = sum(used for key, used in seen.counters.items() if key.startswith("tenant:"))
        reserved = sum(row.sends for row in seen.challenges.values())
        if calls.total() > limits[0]:
            yield f"{calls.total()} calls by a tenant in a day, {limits[0]} are allowed"
        if counted != reserved:
            yield f"{counted} sends by a tenant counted, {reserved} reserved"
    for call in seen.calls:
        row = seen.deliveries.get(call.delivery_id)
        if row is None or row.sent_at is None or row.state == "queued":
            yield "a call was made that the database does not know of"


def _live_challenges(seen: Seen) -> Iterable[str]:
    """P50: no more open challenges of a recipient, or of a subject without one, than allowed."""
    live: Counter[str] = Counter()
    for row in seen.challenges.values():
        if row.state == "pending" and row.expires_at > seen.now:
            live[row.recipient_key or row.subject_key] += 1
    for row in seen.challenges.values():
        most = Policy.from_json(row.policy).max_live
        if live[row.recipient_key or row.subject_key] > most:
            yield f"{live[row.recipient_key or row.subject_key]} challenges are open, {most} are allowed"


PROMISES: Sequence[Callable[[Seen], Iterable[str]]] = (
    _budget_of_a_challenge,
    _ledger_adds_up,
    _lock_holds,
    _one_end,
    _one_acceptance_a_time_step,
    _nothing_left_of_what_ended,
    _sends_are_reserved,
    _live_challenges,
)
