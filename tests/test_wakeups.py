"""Workers are woken at once where the database can notify: no poll could have found the work in these tests."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from otpvoice import CodeMismatch
from otpvoice.channels.base import Message, Receipt
from otpvoice.flow import Flow, undo
from otpvoice.store import wakeups
from otpvoice.store.engine import Store
from otpvoice.store.wakeups import Listener
from otpvoice.worker import Worker
from tests.conftest import NUMBER, Maker, policies
from tests.reporting import Reporting, push

NEVER = timedelta(hours=1)


def test_a_notification_wakes_once_it_is_committed(store: Store) -> None:
    woken = threading.Semaphore(0)
    listener = Listener(store, woken.release)
    listener.start()
    try:
        if store.sqlite:
            store.transact(lambda connection, _now: wakeups.notify(connection))
            assert not woken.acquire(blocking=False)
            return
        assert woken.acquire(timeout=60)  # It listens now, and may have missed something.
        store.transact(lambda connection, _now: undo(wakeups.notify(connection)))
        store.transact(lambda connection, _now: wakeups.notify(connection))
        assert woken.acquire(timeout=60)
        assert not woken.acquire(blocking=False)
    finally:
        listener.stop()


def test_a_listener_that_was_cut_off_listens_again(store: Store) -> None:
    if store.sqlite:
        pytest.skip("SQLite cannot notify: it is polled")
    woken = threading.Semaphore(0)
    listener = Listener(store, woken.release)
    listener.start()
    others = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    try:
        assert woken.acquire(timeout=60)
        store.transact(lambda connection, _now: connection.execute(others).all())
        assert woken.acquire(timeout=60)
        store.transact(lambda connection, _now: wakeups.notify(connection))
        assert woken.acquire(timeout=60)
    finally:
        listener.stop()


def test_a_listener_gives_up_connecting_in_time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that swallows packets must not hold up a worker that is told to stop."""
    tried: list[float] = []
    once = threading.Event()

    def connect(_address: str, *, connect_timeout: float = 130, **_options: Any) -> None:
        tried.append(connect_timeout)
        once.set()
        raise psycopg.OperationalError("no answer")

    monkeypatch.setattr("psycopg.connect", connect)
    listener = Listener(Store("postgresql://192.0.2.1/otp"), lambda: None)
    listener.start()
    assert once.wait(60)
    listener.stop()
    assert max(tried) <= 10


class Tells(Reporting):
    """Says when it has sent."""

    def __init__(self, name: str, *, medium: str = "voice") -> None:
        super().__init__(name, medium=medium)
        self.done = threading.Event()

    def deliver(self, message: Message) -> Flow[Receipt]:
        receipt = yield from super().deliver(message)
        self.done.set()
        return receipt


def test_a_worker_that_does_not_poll_sends_at_once(services: Maker) -> None:
    voice = Tells("voice")
    service = services(channels=[voice], worker=True)
    service._housed = None
    if service._assembly.store.sqlite:
        pytest.skip("SQLite cannot notify: it is polled")
    worker = Worker(service._assembly, poll=NEVER)
    worker.start()
    try:
        for _ in range(3):
            voice.done.clear()
            service.issue_code(NUMBER, purpose="login")
            assert voice.done.wait(60)
    finally:
        worker.stop()
        worker.join(60)


@pytest.mark.parametrize("late_codes", ["all", "newest"])
def test_the_call_follows_a_failed_message_by_itself_and_at_once(
    services: Maker, monkeypatch: pytest.MonkeyPatch, late_codes: str
) -> None:
    """By the worker inside the service, which no poll wakes, on both databases; then the late message is read."""
    defaults = Worker.__init__.__kwdefaults__
    monkeypatch.setattr(Worker.__init__, "__kwdefaults__", defaults | {"poll": NEVER})
    sms, voice = Tells("sms", medium="sms"), Tells("voice")
    route = policies("sms", "voice", late_codes=late_codes)
    service = services(channels=[sms, voice], worker=True, policies=route)
    challenge = service.issue_code(NUMBER, purpose="login")
    assert sms.done.wait(60)
    failed = {"delivery_id": challenge.delivery.id, "state": "failed", "reason": "unreachable"}
    assert service.apply_report("sms", push(failed)).news == 1
    assert voice.done.wait(60)
    service.close()
    assert [d.cause for d in service.get(challenge.id).deliveries] == [None, "failed"]
    if late_codes == "newest":
        with pytest.raises(CodeMismatch):
            service.verify_code(challenge.id, sms.sent[-1].code)
    typed = sms if late_codes == "all" else voice
    assert service.verify_code(challenge.id, typed.sent[-1].code).channel == typed.name
