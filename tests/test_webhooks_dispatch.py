"""Events reach the customers' URLs: each once fed, tried until taken or given up, by any number of processes."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from standardwebhooks import Webhook

from otpvoice import InvalidRequest, StoreUnavailable
from otpvoice.clock import ManualClock
from otpvoice.flow import transact
from otpvoice.store import events, outbox
from otpvoice.store.engine import Store
from otpvoice.store.events import Event
from otpvoice.store.tables import event
from otpvoice.webhooks import dispatch, endpoints
from otpvoice.webhooks.addresses import Guard, Target
from otpvoice.webhooks.dispatch import Dispatcher
from otpvoice.webhooks.sender import Answer, Sender
from tests.conftest import NUMBER, SECRET, Maker
from tests.test_webhooks_sender import HOST, Receiver, make_certificate

URL = "https://hooks.example.com/in"
TAKEN = Answer(status=200)
DOWN = Answer(status=500, reason="status")


class Hooks(Sender):
    """A sender that sends nowhere: it notes what it was given and answers as told."""

    def __init__(self, answer: Answer = TAKEN) -> None:
        super().__init__()
        self.answer = answer
        self.sent: list[tuple[Target, Mapping[str, str], bytes]] = []
        self._lock = threading.Lock()

    def post(self, target: Target, headers: Mapping[str, str], body: bytes, *, guard: Guard) -> Answer:
        with self._lock:
            self.sent.append((target, headers, body))
        return self.answer

    @property
    def kinds(self) -> list[str]:
        return [json.loads(body)["type"] for _target, _headers, body in self.sent]


class Shop:
    """A service, one endpoint, and a dispatcher that sends nowhere."""

    def __init__(self, services: Maker, clock: ManualClock, *, kinds: list[str] | None = None) -> None:
        self.service = services()
        self.clock = clock
        self.hooks = Hooks()
        self.dispatcher = Dispatcher(self.service._context, sender=self.hooks, random=lambda: 0.0)
        self.made = self.run(endpoints.add(self.service._context, URL, kinds=kinds))

    def run(self, flow: Any) -> Any:
        return self.service._runner.run(flow)

    def once(self) -> int:
        return int(self.run(self.dispatcher.once()))

    def all(self) -> int:
        """Send until nothing is due; how many were sent."""
        total = 0
        while sent := self.once():
            total += sent
        return total

    def messages(self, **chosen: Any) -> list[outbox.MessageRow]:
        return list(self.run(endpoints.messages(**chosen)))

    def happen(self) -> Any:
        return self.service.issue_code(NUMBER, purpose="login")


@pytest.fixture
def shop(services: Maker, clock: ManualClock) -> Shop:
    return Shop(services, clock)


def test_what_happens_is_told_signed_and_without_a_secret(shop: Shop) -> None:
    challenge = shop.happen()
    code = shop.service._context.channels["voice"].sent[-1].code
    shop.service.verify_code(challenge.id, code)
    while shop.once():
        pass
    assert shop.hooks.kinds[0] == "challenge.opened"
    assert "challenge.approved" in shop.hooks.kinds
    assert not any(kind.startswith("webhook.") for kind in shop.hooks.kinds)
    for target, headers, body in shop.hooks.sent:
        assert target == Target(host="hooks.example.com", port=443, path="/in")
        told = json.loads(body)
        assert told["data"]["challenge_id"] == challenge.id
        assert code.encode() not in body
        assert NUMBER.encode() not in body
        signed = {**headers, "webhook-timestamp": headers["webhook-timestamp"]}
        key = str(shop.made.secret)
        # The library judges the time by its own clock; the signature is checked by making it again.
        at = shop.clock.now()
        assert signed["webhook-signature"] == Webhook(key).sign(headers["webhook-id"], at, body.decode())
    ids = [headers["webhook-id"] for _target, headers, _body in shop.hooks.sent]
    assert len(set(ids)) == len(ids)
    assert all(message.state == "delivered" and message.status == 200 for message in shop.messages())


def test_nothing_that_happened_before_is_told_and_nothing_twice(services: Maker, clock: ManualClock) -> None:
    services().issue_code(NUMBER, purpose="login")
    shop = Shop(services, clock)
    assert shop.once() == 0
    shop.happen()
    told = shop.once()
    assert told > 0
    for wait in (0, 60, 600):
        clock.advance(wait)
        assert shop.once() == 0
    assert len(shop.hooks.sent) == told


def test_only_wanted_kinds_and_only_ones_own_tenant(services: Maker, clock: ManualClock) -> None:
    shop = Shop(services, clock, kinds=["challenge.*", "delivery.failed"])
    shop.happen()
    shop.service.for_tenant("other").issue_code("+84987654321", purpose="login")
    shop.once()
    assert shop.hooks.kinds == ["challenge.opened"]


def test_a_failure_is_tried_again_after_longer_and_longer_and_given_up(services: Maker, clock: ManualClock) -> None:
    shop = Shop(services, clock, kinds=["challenge.opened"])
    shop.hooks.answer = DOWN
    shop.happen()
    shop.once()
    first = shop.messages(state="pending")
    assert {message.tries for message in first} == {1}
    assert {message.reason for message in first} == {"status"}
    assert {message.due_at - shop.clock.now() for message in first} == {timedelta(seconds=5)}
    for wait in dispatch.BACK_OFF:
        assert shop.once() == 0
        shop.clock.advance(wait + timedelta(minutes=5))
        assert shop.once() == len(first)
    dead = shop.messages(state="dead")
    assert {message.tries for message in dead} == {10}
    shop.clock.advance(timedelta(days=3))
    assert shop.once() == 0
    kinds = {
        item.kind for item in shop.run(transact(lambda connection, _now: connection.execute(event.select()).all()))
    }
    assert "webhook.given_up" in kinds


def test_what_was_given_up_is_sent_again_on_demand_under_the_same_id(shop: Shop) -> None:
    shop.hooks.answer = DOWN
    shop.happen()
    while shop.once() or shop.messages(state="pending"):
        shop.clock.advance(timedelta(hours=30))
    before = {headers["webhook-id"]: body for _target, headers, body in shop.hooks.sent}
    dead = shop.messages(state="dead")
    shop.hooks.sent.clear()
    shop.hooks.answer = TAKEN
    assert shop.run(endpoints.redeliver(ids=["msg_unknown"])) == 0
    assert shop.run(endpoints.redeliver(ids=[dead[0].id], tenant="other")) == 0
    assert shop.run(endpoints.redeliver(ids=[dead[0].id])) == 1
    assert shop.run(endpoints.redeliver(endpoint_id=shop.made.endpoint.id)) == len(dead) - 1
    shop.clock.advance(timedelta(minutes=5))
    assert shop.all() == len(dead)
    again = {headers["webhook-id"]: body for _target, headers, body in shop.hooks.sent}
    assert {key: before[key] for key in again} == again
    assert shop.messages(state="dead") == []


def test_the_receivers_word_on_when_to_come_back_is_kept(shop: Shop) -> None:
    shop.hooks.answer = Answer(status=429, reason="status", retry_after=timedelta(minutes=9))
    shop.happen()
    sent = shop.all()
    shop.hooks.answer = TAKEN
    shop.clock.advance(timedelta(minutes=9) - timedelta(seconds=1))
    assert shop.once() == 0
    shop.clock.advance(1)
    assert shop.all() >= sent > 0


def test_an_endpoint_that_is_down_rests_and_does_not_hold_up_another(shop: Shop) -> None:
    shop.hooks.answer = DOWN
    for number in range(3):
        shop.service.issue_code(f"+8491234567{number}", purpose="login")
        shop.once()
    (down,) = shop.run(endpoints.every())
    assert down.failures >= 3
    shop.hooks.sent.clear()
    shop.service.issue_code(NUMBER, purpose="login")
    other = shop.run(endpoints.add(shop.service._context, "https://other.example.com/", kinds=["challenge.opened"]))
    shop.service.issue_code("+84987654321", purpose="login")
    shop.once()
    assert {target.host for target, _headers, _body in shop.hooks.sent} == {"other.example.com"}
    assert {message.tries for message in shop.messages(endpoint_id=other.endpoint.id)} == {1}
    shop.clock.advance(dispatch.RESTS[-1])
    shop.once()
    assert "hooks.example.com" in {target.host for target, _headers, _body in shop.hooks.sent}


def backlog(shop: Shop, url: str, count: int) -> str:
    """Another endpoint with so many messages due; its id."""
    made = shop.run(endpoints.add(shop.service._context, url, kinds=["attempt.*"]))
    happened = [Event(kind="attempt.charged", tenant="default", challenge_id=f"ch_{n}") for n in range(count)]
    shop.run(transact(lambda connection, now: events.record(connection, now, *happened)))
    return str(made.endpoint.id)


def claimed(shop: Shop, most: int = 100) -> list[str]:
    return sorted(item.endpoint.id for item in shop.run(dispatch.claim(shop.service._context, most=most)))


def test_endpoints_take_turns_and_none_has_more_under_way_than_its_share(services: Maker, clock: ManualClock) -> None:
    shop = Shop(services, clock, kinds=["challenge.opened"])
    busy = backlog(shop, "https://busy.example.com/", 50)
    shop.happen()
    other = shop.made.endpoint.id
    assert claimed(shop, most=2) == sorted([busy, other])
    assert claimed(shop) == [busy] * (dispatch.EACH - 1)
    assert claimed(shop) == [], "what is under way is counted, whoever claimed it"
    clock.advance(dispatch.LEASE)
    assert claimed(shop) == sorted([busy] * dispatch.EACH + [other])


def test_an_endpoint_that_failed_is_asked_with_one_message_until_it_takes_one(
    services: Maker, clock: ManualClock
) -> None:
    shop = Shop(services, clock, kinds=["challenge.opened"])
    backlog(shop, "https://busy.example.com/", 12)
    shop.hooks.answer = DOWN
    assert shop.once() == dispatch.EACH
    clock.advance(dispatch.RESTS[-1])
    assert shop.once() == 1
    clock.advance(dispatch.RESTS[-1])
    shop.hooks.answer = TAKEN
    assert [shop.once() for _ in range(4)] == [1, 4, 4, 3]


def test_what_an_endpoint_does_not_take_for_days_is_given_up_untried(services: Maker, clock: ManualClock) -> None:
    """One message at a time is tried: without an end the others would pile up for as long as the endpoint is down."""
    shop = Shop(services, clock, kinds=["challenge.opened"])
    down = backlog(shop, "https://busy.example.com/", 30)
    shop.hooks.answer = DOWN
    shop.once()
    clock.advance(dispatch.PATIENCE)
    shop.run(dispatch.purge())
    assert len(shop.messages(state="pending")) == 30, "it has not failed often enough in a row"
    for _ in range(10):
        clock.advance(dispatch.RESTS[-1])
        shop.once()
    shop.happen()
    shop.run(dispatch.purge())
    dead = shop.messages(state="dead", endpoint_id=down)
    assert len(dead) == 30
    assert {message.reason for message in dead} == {"status", "down"}
    assert shop.messages(state="dead", endpoint_id=shop.made.endpoint.id) == []
    rows = shop.run(transact(lambda connection, _now: connection.execute(event.select()).all()))
    told = [row.data for row in rows if row.kind == "webhook.given_up"]
    assert told == [{"endpoint": down, "messages": 30, "reason": "down"}]


class Stuck(Hooks):
    """One host does not answer until it is let go."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.waiting = threading.Semaphore(0)
        self.released = threading.Event()

    def post(self, target: Target, headers: Mapping[str, str], body: bytes, *, guard: Guard) -> Answer:
        if target.host == self.host:
            self.waiting.release()
            self.released.wait()
        return super().post(target, headers, body, guard=guard)


def test_an_endpoint_that_answers_slowly_does_not_hold_up_another(services: Maker, clock: ManualClock) -> None:
    shop = Shop(services, clock, kinds=["challenge.opened"])
    slow = Stuck("slow.example.com")
    dispatcher = Dispatcher(shop.service._context, sender=slow, interval=0.01)
    backlog(shop, "https://slow.example.com/", 60)

    async def perform(flow: Any) -> Any:
        return await asyncio.to_thread(shop.run, flow)

    async def story() -> None:
        running = asyncio.ensure_future(dispatcher.run(perform))
        try:
            await asyncio.to_thread(slow.waiting.acquire)
            await asyncio.to_thread(shop.happen)
            while not await perform(endpoints.messages(state="delivered")):
                await asyncio.sleep(0.01)
        finally:
            slow.released.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 60))
    assert next(target.host for target, _headers, _body in slow.sent) == "hooks.example.com"


def test_who_stops_writes_down_what_was_on_its_way(
    services: Maker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "GRACE", timedelta(seconds=60))
    shop = Shop(services, clock, kinds=["challenge.opened"])
    slow = Stuck("hooks.example.com")
    dispatcher = Dispatcher(shop.service._context, sender=slow, interval=0.01)
    shop.happen()

    async def perform(flow: Any) -> Any:
        return await asyncio.to_thread(shop.run, flow)

    async def story() -> None:
        running = asyncio.ensure_future(dispatcher.run(perform))
        await asyncio.to_thread(slow.waiting.acquire)
        running.cancel()
        asyncio.get_running_loop().call_soon(slow.released.set)
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 60))
    assert [message.state for message in shop.messages()] == ["delivered"]


def test_gone_disables_the_endpoint_and_enabling_it_tells_what_was_missed(shop: Shop) -> None:
    shop.hooks.answer = Answer(status=410, reason="gone")
    shop.happen()
    shop.once()
    (row,) = shop.run(endpoints.every(tenant="default"))
    assert row.disabled_why == "gone"
    shop.clock.advance(timedelta(minutes=31))
    missed = shop.happen()
    shop.hooks.sent.clear()
    shop.hooks.answer = TAKEN
    assert shop.once() == 0
    shop.run(endpoints.switch(row.id, on=True))
    shop.once()
    assert missed.id in {json.loads(body)["data"]["challenge_id"] for _t, _h, body in shop.hooks.sent}


def test_after_a_rotation_both_secrets_sign_for_a_day(shop: Shop) -> None:
    renewed = shop.run(endpoints.rotate(shop.service._context, shop.made.endpoint.id))
    assert renewed.secret != shop.made.secret

    def signatures() -> list[str]:
        shop.hooks.sent.clear()
        shop.happen()
        shop.once()
        _target, headers, body = shop.hooks.sent[0]
        made = [
            Webhook(str(secret)).sign(headers["webhook-id"], shop.clock.now(), body.decode())
            for secret in (renewed.secret, shop.made.secret)
        ]
        return [name for name, one in zip(("new", "old"), made, strict=True) if one in headers["webhook-signature"]]

    assert signatures() == ["new", "old"]
    shop.clock.advance(timedelta(hours=24))
    assert signatures() == ["new"]


def test_a_claim_that_was_not_settled_comes_back_and_its_late_word_changes_nothing(shop: Shop) -> None:
    shop.happen()
    lost = shop.run(dispatch.claim(shop.service._context))
    assert shop.once() == 0
    shop.clock.advance(dispatch.LEASE)
    assert shop.once() == len(lost)
    assert shop.run(dispatch.settle(lost[0], DOWN, random=lambda: 0.0)) == "taken over"
    assert {message.state for message in shop.messages()} == {"delivered"}
    assert {message.tries for message in shop.messages()} == {2}


def test_many_processes_send_each_message_once(services: Maker, clock: ManualClock, shop: Shop) -> None:
    for number in range(5):
        shop.service.issue_code(f"+8491234567{number}", purpose="login")
    others = [services() for _ in range(4)]
    start = threading.Barrier(len(others))
    failures: list[BaseException] = []

    def work(service: Any) -> None:
        mine = Dispatcher(service._context, sender=shop.hooks)
        start.wait()
        try:
            while service._runner.run(mine.once()):
                pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[service]) for service in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    while shop.once():
        pass
    ids = [headers["webhook-id"] for _target, headers, _body in shop.hooks.sent]
    told = [json.loads(body)["data"]["event_id"] for _target, _headers, body in shop.hooks.sent]
    assert len(ids) == len(set(ids)) == len(set(told)) == len(shop.messages())


def test_an_event_that_commits_late_with_an_early_number_is_not_skipped(shop: Shop, database_url: str) -> None:
    """PostgreSQL commits in another order than numbers are drawn; SQLite's writers take turns."""
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer: numbers are drawn in the order of commits")
    store = Store(database_url)
    late = {"at": shop.clock.now(), "tenant": "default", "kind": "challenge.late", "data": {}}
    with store.engine().connect() as connection, connection.begin() as transaction:
        connection.execute(insert(event), late)
        shop.happen()
        shop.once()
        shop.clock.advance(outbox.SETTLED - timedelta(seconds=1))
        shop.once()
        assert "challenge.late" not in shop.hooks.kinds
        transaction.commit()
    store.close()
    shop.once()
    assert shop.hooks.kinds.count("challenge.late") == 1


def test_the_cursor_follows_so_that_old_events_are_not_looked_at_for_ever(shop: Shop) -> None:
    shop.happen()
    shop.once()
    before = shop.run(transact(lambda connection, _now: outbox.endpoints(connection)))[0].cursor
    shop.clock.advance(outbox.SETTLED)
    shop.once()
    after = shop.run(transact(lambda connection, _now: outbox.endpoints(connection)))[0].cursor
    newest = max(message.event_id for message in shop.messages())
    assert before < newest <= after


def test_a_batch_that_is_full_does_not_let_the_cursor_pass_what_is_behind_it(shop: Shop) -> None:
    for number in range(4):
        shop.service.issue_code(f"+8491234567{number}", purpose="login")
    shop.clock.advance(outbox.SETTLED)
    fed = [shop.run(transact(lambda connection, now: outbox.feed(connection, now, most=2))) for _ in range(12)]
    assert fed[0] == 2
    assert fed[-1] == 0
    rows = shop.run(transact(lambda connection, _now: connection.execute(event.select()).all()))
    wanted = {row.id for row in rows if not row.kind.startswith("webhook.")}
    assert {message.event_id for message in shop.messages()} == wanted


def test_settled_messages_are_purged_and_pending_ones_are_not(shop: Shop) -> None:
    shop.happen()
    shop.once()
    shop.clock.advance(timedelta(days=8))
    shop.hooks.answer = DOWN
    shop.happen()
    shop.once()
    pending = len(shop.messages(state="pending"))
    assert shop.run(dispatch.purge(batch=1)) > 0
    assert shop.messages(state="delivered") == []
    assert len(shop.messages(state="pending")) == pending > 0


def test_a_secret_is_sealed_for_its_endpoint(shop: Shop) -> None:
    row = shop.run(transact(lambda connection, _now: outbox.endpoints(connection)))[0]
    assert str(shop.made.secret).encode() not in row.sealed
    assert SECRET.encode() not in row.sealed
    assert str(shop.made.secret) not in repr(shop.made)


def test_an_endpoint_whose_key_left_the_ring_does_not_stop_the_others(services: Maker, clock: ManualClock) -> None:
    shop = Shop(services, clock)
    shop.happen()
    changed = services(secret="another-secret-of-enough-length-98765")
    made = changed._runner.run(endpoints.add(changed._context, "https://new.example.com/"))
    changed.issue_code("+84987654321", purpose="login")
    mine = Dispatcher(changed._context, sender=shop.hooks)
    while changed._runner.run(mine.once()):
        pass
    assert {target.host for target, _headers, _body in shop.hooks.sent} == {"new.example.com"}
    assert {message.reason for message in shop.messages(endpoint_id=shop.made.endpoint.id)} <= {"unsigned", None}
    assert made.endpoint.url == "https://new.example.com/"


@pytest.mark.parametrize("kinds", [[], [""], ["challenge approved"], ["*.approved"], ["x" * 65], ["challenge.%"]])
def test_kinds_are_names(shop: Shop, kinds: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        shop.run(endpoints.add(shop.service._context, URL, kinds=kinds))


def test_unknown_endpoints_are_said_to_be_unknown(shop: Shop) -> None:
    for flow in (
        endpoints.rotate(shop.service._context, "we_none"),
        endpoints.switch("we_none", on=False),
        endpoints.remove("we_none"),
    ):
        with pytest.raises(InvalidRequest):
            shop.run(flow)
    shop.happen()
    shop.once()
    shop.run(endpoints.remove(shop.made.endpoint.id))
    assert shop.messages() == []


def test_a_round_that_breaks_does_not_end_the_next_ones(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.happen()
    troubles: list[Exception] = [StoreUnavailable("away"), RuntimeError("secret text")]
    dispatcher = Dispatcher(shop.service._context, sender=shop.hooks, interval=0.001)

    async def perform(flow: Any) -> Any:
        if troubles:
            flow.close()
            raise troubles.pop(0)
        return shop.run(flow)

    async def story() -> None:
        running = asyncio.ensure_future(dispatcher.run(perform))
        while not shop.hooks.sent:
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 20))
    assert troubles == []
    assert "secret text" not in caplog.text


def test_over_a_real_connection_beside_an_event_loop(services: Maker, clock: ManualClock, tmp_path: Path) -> None:
    pem = make_certificate(tmp_path)
    receiver = Receiver(pem)
    service = services("async")
    context = service.service._context
    guard = Guard(resolver=lambda host, port: ["127.0.0.1"], allowed=[ipaddress.ip_network("127.0.0.0/8")])
    sender = Sender(tls=ssl.create_default_context(cafile=str(pem)))
    dispatcher = Dispatcher(context, sender=sender, guards={"default": guard}, interval=0.01)

    async def story() -> None:
        perform = service.service._runner.run
        await perform(endpoints.add(context, f"https://{HOST}:{receiver.port}/in", kinds=["challenge.opened"]))
        running = asyncio.ensure_future(dispatcher.run(perform))
        await service.service.issue_code(NUMBER, purpose="login")
        while not await perform(endpoints.messages(state="delivered")):
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    service.loop.run_until_complete(asyncio.wait_for(story(), 20))
    receiver.close()
    assert len(receiver.requests) == 1
    assert b"webhook-signature: v1," in receiver.requests[0]
