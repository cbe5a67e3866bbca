"""The worker: what is queued is sent, what is unknown is asked about, and stopping loses nothing."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from otpvoice import (
    DeliveryState,
    OTPService,
    OutcomeUnknown,
    Policy,
    ProviderThrottled,
    ProviderUnavailable,
    Route,
    RouteStep,
)
from otpvoice.channels.base import Message, Receipt, Report
from otpvoice.clock import ManualClock
from otpvoice.flow import Flow, call
from otpvoice.reconciliation import look_after
from otpvoice.store import deliveries, history, tables
from otpvoice.worker import Worker
from tests.conftest import NUMBER, OTHER_NUMBER, Maker
from tests.reporting import Reporting, push

SECOND = timedelta(seconds=1)


class House:
    """A service whose issuing only queues, and workers that are run by hand."""

    def __init__(self, make: Maker, clock: ManualClock) -> None:
        self.make, self.clock = make, clock
        self.sms, self.voice = Reporting("sms", medium="sms"), Reporting("voice")

    def service(self, *steps: RouteStep, **policy: Any) -> OTPService:
        route = Route(steps=steps) if steps else Route.of("sms", "voice")
        service: OTPService = self.make(
            channels=[self.sms, self.voice],
            policies={"login": Policy(route=route, hash_profile="fast", **policy)},
            worker=True,
        )
        service._housed = None  # Nothing is sent but by the workers that the test runs.
        return service

    def work(self, service: OTPService, **options: Any) -> Worker:
        worker = Worker(service._assembly, poll=timedelta(milliseconds=5), **options)
        asyncio.run(worker.run(until_idle=True))
        return worker


@pytest.fixture
def house(services: Maker, clock: ManualClock) -> House:
    return House(services, clock)


def test_issuing_only_queues_and_a_worker_sends(house: House) -> None:
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    assert challenge.delivery is not None
    assert challenge.delivery.state is DeliveryState.QUEUED
    assert house.sms.sent == ()
    house.work(service)
    assert service.get(challenge.id).deliveries[0].state is DeliveryState.ACCEPTED
    assert service.verify_code(challenge.id, house.sms.sent[-1].code).channel == "sms"


def test_many_workers_send_each_delivery_once(house: House) -> None:
    service = house.service(max_live=1000, max_sends_per_day=1000)
    for _ in range(40):
        service.issue_code(NUMBER, purpose="login")

    async def four() -> None:
        workers = [Worker(service._assembly, poll=timedelta(milliseconds=5), concurrency=5) for _ in range(4)]
        await asyncio.gather(*(worker.run(until_idle=True) for worker in workers))

    asyncio.run(four())
    sent = [message.delivery_id for message in house.sms.sent]
    assert len(sent) == len(set(sent)) == 40


def test_a_timer_goes_on_only_where_the_route_says_so(house: House) -> None:
    plain = house.service()
    plain.issue_code(NUMBER, purpose="login")
    house.work(plain)
    house.clock.advance(200)
    house.work(plain)
    assert house.voice.sent == ()
    timed = house.service(RouteStep(channel="sms", after=20 * SECOND), RouteStep(channel="voice"))
    challenge = timed.issue_code(NUMBER, purpose="login")
    house.work(timed)
    house.clock.advance(19)
    house.work(timed)
    assert house.voice.sent == ()
    house.clock.advance(1)
    house.work(timed)
    assert [d.cause for d in timed.get(challenge.id).deliveries] == [None, "timer"]
    assert len(house.voice.sent) == 1


def test_no_report_goes_on_after_asking_the_provider(house: House) -> None:
    service = house.service(RouteStep(channel="sms", no_report_within=30 * SECOND), RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    house.clock.advance(30)
    house.work(service)
    assert house.sms.asked == [challenge.delivery.id if challenge.delivery else ""]
    assert [d.cause for d in service.get(challenge.id).deliveries] == [None, "no_report"]


def test_a_report_that_the_provider_has_is_found_in_time(house: House) -> None:
    service = house.service(RouteStep(channel="sms", no_report_within=30 * SECOND), RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    assert challenge.delivery is not None
    house.sms.known[challenge.delivery.id] = Report(delivery_id=challenge.delivery.id, state=DeliveryState.DELIVERED)
    house.clock.advance(30)
    house.work(service)
    assert [d.state for d in service.get(challenge.id).deliveries] == [DeliveryState.DELIVERED]
    assert house.voice.sent == ()


def test_a_reported_delivery_does_not_fall_to_no_report(house: House) -> None:
    service = house.service(RouteStep(channel="sms", no_report_within=30 * SECOND), RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    assert challenge.delivery is not None
    service.apply_report("sms", push({"delivery_id": challenge.delivery.id, "state": "delivered"}))
    house.clock.advance(60)
    house.work(service)
    assert house.voice.sent == ()


def test_an_unknown_outcome_is_reconciled_before_anything_rings(house: House) -> None:
    """Promise 5.6: the provider is asked by the delivery id that it echoes; only then is a call placed again."""
    house.sms.fail_with(OutcomeUnknown("silence"), taken=True)
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    assert challenge.delivery is not None
    unknown = challenge.delivery.id
    house.sms.known[unknown] = Report(delivery_id=unknown, reference="r9", state=DeliveryState.ACCEPTED)
    house.clock.advance(10)
    house.work(service)
    (seen,) = service.get(challenge.id).deliveries
    assert (seen.state, seen.reference) == (DeliveryState.ACCEPTED, "r9")
    assert len(house.sms.sent) == 1
    assert house.voice.sent == ()
    assert service.verify_code(challenge.id, house.sms.sent[-1].code).channel == "sms"


def test_a_worker_that_was_slow_lifts_no_cooldown(house: House) -> None:
    """Its lease ran out and another one sent: its own end is no failure of the call that rings (P50, P54)."""
    service = house.service(RouteStep(channel="voice"), cooldowns=(200 * SECOND,))
    challenge = service.issue_code(NUMBER, purpose="login")
    store, context = service._assembly.store, replace(service._context, deferred=True)

    def claim(owner: str) -> deliveries.DeliveryRow:
        return store.transact(
            lambda connection, now: deliveries.claim_due(
                connection, owner=owner, most=1, now=now, until=now + 60 * SECOND
            )
        )[0]

    slow = claim("slow")
    house.clock.advance(61)
    service._runner.run(look_after(context, claim("other")))
    service._runner.run(look_after(context, slow))
    assert len(house.voice.sent) == 1
    assert service.get(challenge.id).resend_at == challenge.resend_at


def test_a_timer_that_ran_out_while_the_outcome_was_unknown_is_acted_on(house: House) -> None:
    house.sms.fail_with(OutcomeUnknown("silence"), taken=True)
    service = house.service(RouteStep(channel="sms", no_report_within=30 * SECOND), RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    house.clock.advance(40)
    assert challenge.delivery is not None
    unknown = challenge.delivery.id
    house.sms.known[unknown] = Report(delivery_id=unknown, reference="r9", state=DeliveryState.ACCEPTED)
    house.work(service)
    assert [d.cause for d in service.get(challenge.id).deliveries] == [None, "no_report"]


def test_an_accepted_delivery_is_polled_until_it_is_known(house: House) -> None:
    house.sms.poll_after = 20 * SECOND
    service = house.service(RouteStep(channel="sms"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    for _ in range(8):
        house.clock.advance(10)
        house.work(service)
    assert 2 <= len(house.sms.asked) <= 5
    assert challenge.delivery is not None
    sent = challenge.delivery.id
    house.sms.known[sent] = Report(delivery_id=sent, state=DeliveryState.DELIVERED)
    house.clock.advance(60)
    house.work(service)
    assert service.get(challenge.id).deliveries[0].state is DeliveryState.DELIVERED
    asked = len(house.sms.asked)
    house.clock.advance(60)
    house.work(service)
    assert len(house.sms.asked) == asked


def test_what_the_provider_never_received_goes_on(house: House) -> None:
    house.sms.fail_with(OutcomeUnknown("silence"))
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(8):
        house.work(service)
        house.clock.advance(10)
    house.work(service)
    assert [(d.state, d.reason) for d in service.get(challenge.id).deliveries] == [
        (DeliveryState.FAILED, "not_received"),
        (DeliveryState.ACCEPTED, None),
    ]
    assert len(house.sms.asked) > 1


def test_what_was_never_received_is_explained_also_where_no_send_is_left(house: House) -> None:
    house.sms.fail_with(OutcomeUnknown("silence"))
    service = house.service(max_sends_per_day=1)
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(8):
        house.work(service)
        house.clock.advance(10)
    (seen,) = service.get(challenge.id).deliveries
    assert (seen.state, seen.reason) == (DeliveryState.FAILED, "not_received")
    assert house.voice.sent == ()


def test_a_provider_that_cannot_be_asked_decides_nothing(house: House) -> None:
    def down() -> None:
        raise ProviderUnavailable("down")

    house.sms.fail_with(OutcomeUnknown("silence"))
    house.sms.trouble = down
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(12):
        house.work(service)
        house.clock.advance(10)
    (seen,) = service.get(challenge.id).deliveries
    assert seen.state is DeliveryState.UNKNOWN
    assert house.voice.sent == ()


def test_an_unknown_delivery_whose_code_was_typed_is_never_called_lost(house: House) -> None:
    """The person answers and types before the call's record is there: it is asked about once more, at the end."""
    house.sms.fail_with(OutcomeUnknown("silence"), taken=True)
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    service.verify_code(challenge.id, house.sms.sent[-1].code)
    for _ in range(9):
        house.clock.advance(10)
        house.work(service)
    (seen,) = service.get(challenge.id).deliveries
    assert (seen.state, seen.used) == (DeliveryState.UNKNOWN, True)
    assert len(house.sms.asked) == 2


def test_a_closed_challenges_unknown_delivery_is_asked_about_when_its_record_would_be_there(house: House) -> None:
    house.sms.fail_with(OutcomeUnknown("silence"), times=2)
    service = house.service()
    found, lost = (service.issue_code(number, purpose="login") for number in (NUMBER, OTHER_NUMBER))
    house.work(service)
    for challenge in (found, lost):
        service.cancel(challenge.id)
    house.clock.advance(10)
    house.work(service)
    assert {service.get(challenge.id).deliveries[0].state for challenge in (found, lost)} == {DeliveryState.UNKNOWN}
    assert found.delivery is not None
    answered = Report(delivery_id=found.delivery.id, reference="r9", state=DeliveryState.DELIVERED, talk_seconds=20)
    house.sms.known[found.delivery.id] = answered
    house.clock.advance(50)
    house.work(service)
    (call_found,), (call_lost,) = service.get(found.id).deliveries, service.get(lost.id).deliveries
    assert (call_found.state, call_found.talk_seconds) == (DeliveryState.DELIVERED, 20)
    assert (call_lost.state, call_lost.reason) == (DeliveryState.FAILED, "not_received")
    assert house.voice.sent == ()


def test_a_channel_that_breaks_when_it_is_asked_stops_no_timer(house: House) -> None:
    def broken() -> None:
        raise RuntimeError("a third party's mistake")

    house.sms.trouble = broken
    service = house.service(RouteStep(channel="sms", no_report_within=30 * SECOND), RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    house.clock.advance(30)
    worker = house.work(service)
    assert worker.done.failures == 0
    assert [d.cause for d in service.get(challenge.id).deliveries] == [None, "no_report"]


def test_a_step_that_does_not_go_on_when_refused_is_tried_again_instead(house: House) -> None:
    house.sms.fail_with(ProviderUnavailable("down"))
    service = house.service(RouteStep(channel="sms", go_on=frozenset({"failed"})), RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(2):
        house.work(service)
        house.clock.advance(8)
    assert [(d.channel, d.state) for d in service.get(challenge.id).deliveries] == [("sms", DeliveryState.ACCEPTED)]


def test_nothing_is_put_off_until_after_the_challenges_end(house: House) -> None:
    house.voice.fail_with(ProviderThrottled("slowly", retry_after=timedelta(hours=1)))
    service = house.service(RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    house.work(service)
    (seen,) = service.get(challenge.id).deliveries
    assert (seen.state, seen.reason) == (DeliveryState.FAILED, "throttled")


def test_a_breaker_that_opens_while_a_step_is_tried_again_is_told(house: House) -> None:
    house.voice.fail_with(ProviderUnavailable("down"), times=5)
    service = house.service(RouteStep(channel="voice"), max_live=10)
    told: list[str] = []
    for _ in range(2):
        challenge = service.issue_code(NUMBER, purpose="login")
        for _ in range(4):
            house.work(service)
            house.clock.advance(8)
        told += [event.kind for event in service.events(challenge.id)]
    assert told.count("delivery.retried") == 4
    assert told.count("provider.resting") == 1
    assert told.count("provider.recovered") == 1


def test_a_provider_that_is_down_is_tried_again_with_a_fresh_code(house: House) -> None:
    house.voice.fail_with(ProviderUnavailable("down"), times=2)
    service = house.service(RouteStep(channel="voice"))
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(4):
        house.work(service)
        house.clock.advance(8)
    (seen,) = service.get(challenge.id).deliveries
    assert seen.state is DeliveryState.ACCEPTED
    assert len(house.voice.sent) == 1
    assert [event.kind for event in service.events(challenge.id)].count("delivery.retried") == 2


def test_a_dead_workers_lease_is_taken_over(house: House) -> None:
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    store = service._assembly.store
    lease = service._context.lease
    claimed = store.transact(
        lambda connection, now: deliveries.claim_due(connection, owner="dead", most=9, now=now, until=now + lease)
    )
    assert len(claimed) == 1
    house.work(service)
    assert house.sms.sent == ()
    house.clock.advance(lease)
    house.work(service)
    assert len(house.sms.sent) == 1
    assert service.get(challenge.id).deliveries[0].state is DeliveryState.ACCEPTED


def test_a_sender_that_died_after_asking_is_looked_up_and_nothing_rings_twice(house: House) -> None:
    class Dies(Reporting):
        def deliver(self, message: Message) -> Flow[Receipt]:
            yield from super().deliver(message)
            raise KeyboardInterrupt

    house.sms = Dies("sms", medium="sms")
    service = house.service()
    direct = house.make(channels=[house.sms, house.voice], policies=service._context.policies)
    with pytest.raises(KeyboardInterrupt):
        direct.issue_code(NUMBER, purpose="login")
    sent = house.sms.sent[-1]
    house.sms.known[sent.delivery_id] = Report(
        delivery_id=sent.delivery_id, reference="r1", state=DeliveryState.DELIVERED
    )
    house.clock.advance(61)
    house.work(service)
    (seen,) = service.get(sent.challenge_id).deliveries
    assert seen.state is DeliveryState.DELIVERED
    assert len(house.sms.sent) == 1
    assert house.voice.sent == ()
    assert service.verify_code(sent.challenge_id, sent.code).channel == "sms"


class Gated(Reporting):
    """Sends once it is let, by a blocking function, as an own sender does."""

    def __init__(self, name: str, *, medium: str = "voice") -> None:
        super().__init__(name, medium=medium)
        self.begun, self.go, self.done = threading.Semaphore(0), threading.Event(), threading.Event()

    def deliver(self, message: Message) -> Flow[Receipt]:
        yield from call(lambda: (self.begun.release(), self.go.wait(60)))
        receipt = yield from super().deliver(message)
        self.done.set()
        return receipt


def test_stopping_finishes_what_has_begun_and_leaves_the_rest_to_others(house: House) -> None:
    house.sms = gated = Gated("sms", medium="sms")
    service = house.service(max_live=10)
    for _ in range(3):
        service.issue_code(NUMBER, purpose="login")
    worker = Worker(service._assembly, per_channel=1, poll=timedelta(milliseconds=5))
    worker.start()
    assert gated.begun.acquire(timeout=60)
    worker.stop()
    gated.go.set()
    worker.join(60)
    assert not worker.alive
    assert len(house.sms.sent) == 1
    house.work(service)  # No time has passed: the others are not left to anybody's lease.
    assert len(house.sms.sent) == 3


def test_what_was_claimed_while_it_was_told_to_stop_is_handed_back(house: House) -> None:
    service = house.service()
    service.issue_code(NUMBER, purpose="login")

    class ToldInBetween(Worker):
        async def _claim(self) -> int:
            self._ask_to_stop()
            return await super()._claim()

    asyncio.run(ToldInBetween(service._assembly).run())
    assert house.sms.sent == ()
    house.work(service)
    assert len(house.sms.sent) == 1


def test_a_slow_channel_holds_up_no_other(house: House) -> None:
    """More are due through it than the worker takes in all, and more are under way than an event loop has threads."""
    house.sms, house.voice = Gated("sms", medium="sms"), Gated("voice")
    house.voice.go.set()
    service = house.service(max_live=100, max_sends_per_day=100)
    for _ in range(20):
        service.issue_code(NUMBER, purpose="login", channel="sms")
    service.issue_code(NUMBER, purpose="login", channel="voice")
    worker = Worker(service._assembly, concurrency=8, per_channel=6, poll=timedelta(milliseconds=5))
    worker.start()
    try:
        assert house.voice.done.wait(60)
        for _ in range(6):
            assert house.sms.begun.acquire(timeout=60)
        assert not house.sms.begun.acquire(blocking=False)
    finally:
        house.sms.go.set()
        worker.stop()
        worker.join(60)


def test_a_worker_whose_lease_ran_out_does_not_take_over_from_itself(house: House) -> None:
    """The database was away, or its clock jumped: the sending goes on, and nobody asks about it meanwhile."""
    house.sms = gated = Gated("sms", medium="sms")
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    claims = threading.Semaphore(0)

    class Tells(Worker):
        async def _claim(self) -> int:
            claimed = await super()._claim()
            claims.release()
            return claimed

    worker = Tells(service._assembly, poll=timedelta(milliseconds=5))
    worker.start()
    assert gated.begun.acquire(timeout=60)
    house.clock.advance(service._context.lease + SECOND)
    while claims.acquire(blocking=False):
        continue
    for _ in range(3):  # The first of them may have looked before the clock was moved.
        assert claims.acquire(timeout=60)
    gated.go.set()
    assert gated.done.wait(60)
    worker.stop()
    worker.join(60)
    assert house.sms.asked == []
    assert len(house.sms.sent) == 1
    assert [d.state for d in service.get(challenge.id).deliveries] == [DeliveryState.ACCEPTED]


def test_a_stopping_worker_keeps_its_leases(house: House) -> None:
    house.sms = gated = Gated("sms", medium="sms")
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    lease = timedelta(milliseconds=300)
    finishing, renewed = threading.Event(), threading.Semaphore(0)

    class Tells(Worker):
        async def _finish(self) -> None:
            finishing.set()
            await super()._finish()

        def _renewing(self, held: list[str]) -> Flow[int]:
            count = yield from super()._renewing(held)
            renewed.release()
            return count

    assembly = replace(service._assembly, context=replace(service._context, lease=lease))
    worker = Tells(assembly, poll=timedelta(milliseconds=5))
    worker.start()
    assert gated.begun.acquire(timeout=60)
    worker.stop()
    assert finishing.wait(60)
    house.clock.advance(lease / 2)
    while renewed.acquire(blocking=False):
        continue
    told = [renewed.acquire(timeout=60) for _ in range(2)]  # The first may have read the clock before it was moved.
    assert challenge.delivery is not None
    delivery_id = challenge.delivery.id
    row = service._assembly.store.transact(lambda connection, _now: deliveries.by_id(connection, delivery_id))
    gated.go.set()
    worker.join(60)
    assert told == [True, True]
    assert row is not None
    assert row.lease_until == house.clock.now() + lease
    assert len(house.sms.sent) == 1


def test_a_clock_that_is_put_back_holds_nothing_up(house: House) -> None:
    house.sms = gated = Gated("sms", medium="sms")
    gated.go.set()
    service = house.service()
    service.issue_code(NUMBER, purpose="login")
    house.clock.advance(timedelta(hours=-3))
    worker = Worker(service._assembly, poll=timedelta(milliseconds=5))
    worker.start()
    try:
        assert gated.done.wait(60)
    finally:
        worker.stop()
        worker.join(60)


def test_all_that_has_expired_is_swept_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otpvoice.worker.SWEPT", 2)
    service = house.service(max_live=10)
    for _ in range(5):
        service.issue_code(NUMBER, purpose="login")
    house.work(service)  # Else the worker below holds rows that the sweep skips.
    house.clock.advance(600)
    swept = threading.Event()

    def expire(connection: Connection, now: datetime, *, batch: int) -> int:
        count = history.expire(connection, now, batch=batch)
        if count < batch:
            swept.set()
        return count

    monkeypatch.setattr("otpvoice.worker.history", SimpleNamespace(expire=expire))
    worker = Worker(service._assembly, poll=timedelta(milliseconds=5))
    worker.start()
    assert swept.wait(60)
    worker.stop()
    worker.join(60)
    open_ones = select(tables.challenge.c.id).where(tables.challenge.c.state == "pending")
    left = service._assembly.store.transact(lambda connection, _now: connection.execute(open_ones).all())
    assert left == []


def test_a_service_with_a_worker_inside_sends_by_itself_and_closes(services: Maker) -> None:
    sent = threading.Event()

    class Tells(Reporting):
        def deliver(self, message: Message) -> Flow[Receipt]:
            receipt = yield from super().deliver(message)
            sent.set()
            return receipt

    voice = Tells("voice")
    service = services(channels=[voice], worker=True)
    challenge = service.issue_code(NUMBER, purpose="login")
    assert sent.wait(20)
    service.close()
    assert service.verify_code(challenge.id, voice.sent[-1].code).channel == "voice"


def test_a_closed_challenges_queued_delivery_is_never_sent(house: House) -> None:
    service = house.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    service.cancel(challenge.id)
    house.work(service)
    assert house.sms.sent == ()
    assert [d.reason for d in service.get(challenge.id).deliveries] == ["superseded"]
    late = service.issue_code(NUMBER, purpose="login")
    house.clock.advance(300)
    house.work(service)
    assert house.sms.sent == ()
    assert [d.state for d in service.get(late.id).deliveries] == [DeliveryState.FAILED]


def test_a_due_delivery_that_a_transaction_holds_is_waited_for(house: House) -> None:
    """Claims skip held rows, so a claim of nothing does not mean that nothing is due."""
    service = house.service()
    if service._assembly.store.sqlite:
        pytest.skip("SQLite has one writer: a claim waits for it and skips nothing")
    challenge = service.issue_code(NUMBER, purpose="login")
    assert challenge.delivery is not None
    holding = service._assembly.store.engine().connect()
    deliveries.hold(holding, challenge.delivery.id)
    rests = itertools.count(1)

    class Patient(Worker):
        async def _rest(self, seconds: float) -> None:
            if next(rests) == 3:
                holding.close()
            await super()._rest(seconds)

    asyncio.run(Patient(service._assembly, poll=timedelta(milliseconds=5)).run(until_idle=True))
    assert len(house.sms.sent) == 1
    assert next(rests) > 3
