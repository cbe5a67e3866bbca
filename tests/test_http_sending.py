"""What a provider does reaches nobody who asks: sending is off the request path, and reports change reports only."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import httpx
import pytest

from otpvoice.channels.base import Channel, Message, Receipt, Report, ReportRejected, ReportRequest
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock
from otpvoice.flow import Flow, call
from otpvoice.http.reports import path_secrets
from otpvoice.types import Capabilities, DeliveryState, Medium
from tests.conftest import NUMBER
from tests.http_tools import House, Make, houses


class Slow(Channel):
    """A provider that answers when the test lets it, and pushes reports."""

    provider = "slow"
    medium = Medium.VOICE

    def __init__(self) -> None:
        super().__init__("voice")
        self.asked, self.answer = threading.Event(), threading.Event()
        self.code = ""
        self.pushes: list[ReportRequest] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(medium=Medium.VOICE, reports=True)

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        return cls()

    def deliver(self, message: Message) -> Flow[Receipt]:
        self.code = str(message.code)

        def wait() -> Receipt:
            self.asked.set()
            assert self.answer.wait(30)
            return Receipt(reference="ref-1")

        return (yield from call(wait))

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        self.pushes.append(request)
        if request.headers.get("x-signature") != "good":
            raise ReportRejected("the signature is wrong", authentic=False)
        if request.body == b"?":
            raise ReportRejected("not readable")
        return [Report(reference="ref-1", state=DeliveryState(request.body.decode()), reason=None)]


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


def test_opening_does_not_wait_for_the_provider(make: Make) -> None:
    """P82: the provider has been asked, has not answered, and the answers to all are there and alike."""
    channel = Slow()
    house = make(channels=[channel], worker=True)
    shop = house.client()
    try:
        opened = shop.open()
        assert channel.asked.wait(30)
        assert not channel.answer.is_set()
        assert shop.verify(opened["id"], channel.code).status_code == 200, "and the code that was heard counts"
    finally:
        channel.answer.set()


def _pushed(make: Make) -> tuple[House, Slow, dict[str, Any]]:
    channel = Slow()
    channel.answer.set()
    house = make(channels=[channel])
    return house, channel, house.client().open()


def test_a_report_changes_what_is_known_of_its_delivery_and_nothing_else(make: Make) -> None:
    """P86: no push approves, whatever it says."""
    house, channel, opened = _pushed(make)
    [secret] = path_secrets(house.deps.context.keyring)
    provider = house.client(None, peer="203.0.113.9")
    path = f"/v1/reports/{secret}/voice"

    def push(body: bytes, **headers: str) -> httpx.Response:
        return provider.post(path, content=body, headers={"X-Signature": "good", **headers})

    assert push(b"delivered").json() == {"reports": 1, "news": 1}
    assert push(b"delivered").json() == {"reports": 1, "news": 0}
    assert (channel.pushes[0].method, channel.pushes[0].body) == ("POST", b"delivered")
    assert channel.pushes[0].remote == "203.0.113.9"
    assert channel.pushes[0].url == f"http://otp.test{path}"
    assert push(b"delivered", **{"X-Signature": "bad"}).status_code == 403
    assert push(b"?").status_code == 400
    looked = house.client().get(f"/v1/challenges/{opened['id']}").json()
    assert looked["deliveries"][0]["state"] == "delivered"
    assert looked["state"] == "pending"


@pytest.mark.parametrize("path", ["/v1/reports/guess/voice", "/v1/reports/{secret}/sms", "/v1/reports/é/voice"])
def test_a_report_to_another_path_is_not_read(make: Make, path: str) -> None:
    house, channel, _opened = _pushed(make)
    [secret] = path_secrets(house.deps.context.keyring)
    stranger = house.client(None)
    answer = stranger.post(path.replace("{secret}", secret), content=b"delivered", headers={"X-Signature": "good"})
    assert answer.status_code == 404
    assert not channel.pushes
    assert stranger.get(f"/v1/reports/{secret}/voice").status_code == 405


def test_a_full_queue_is_a_503_that_spends_nothing(make: Make) -> None:
    """P71: whoever gets no place is told when to come back, and keeps the attempt."""
    house = make(hash_permits=1, hash_queue=1, channels=[Memory("voice")])
    shop = house.client()
    opened = shop.open(NUMBER)

    async def storm() -> list[httpx.Response]:
        path = f"/v1/challenges/{opened['id']}/verify"
        return list(await asyncio.gather(*(shop.http.post(path, json={"code": "000000"}) for _ in range(40))))

    answers = house.run(storm())
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {422, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    events = shop.get(f"/v1/challenges/{opened['id']}/events").json()["events"]
    charged = sum(item["kind"] == "attempt.charged" for item in events)
    assert charged == min(5, statuses[422])
