"""What the tests of the Twilio front share: an application with three channels, and requests as the SDKs send them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from otpvoice import Policy
from otpvoice.channels.memory import Memory, MemorySettings
from otpvoice.http.twilio import sids
from tests.conftest import policies
from tests.http_tools import Client, House, Make

PHONE = "+84912345678"
OTHER = "+84987654321"
MAIL = "someone@example.org"


def channels() -> list[Memory]:
    return [Memory(name, MemorySettings(medium=name)) for name in ("sms", "voice", "email")]


def front_policies(**changes: Any) -> dict[str, Policy]:
    return policies("sms", "voice", "email", **changes)


@dataclass(slots=True)
class Front:
    """An application, a service of it, and a caller with Basic authentication."""

    house: House
    by_name: dict[str, Memory]
    tenant: str
    key: str
    client: Client
    service_sid: str = ""

    @classmethod
    def make(cls, make: Make, *, tenant: str = "shop", service: dict[str, str] | None = None, **options: Any) -> Front:
        made = channels()
        options.setdefault("policies", front_policies())
        house = make(channels=made, **options)
        key = house.key(tenant)
        front = cls(house, {item.name: item for item in made}, tenant, key, house.client(None))
        answer = front.post("/v2/Services", {"FriendlyName": "Shop", **(service or {})})
        assert answer.status_code == 201, answer.text
        front.service_sid = answer.json()["sid"]
        return front

    @property
    def account_sid(self) -> str:
        return sids.account(self.tenant)

    @property
    def url(self) -> str:
        return f"/v2/Services/{self.service_sid}"

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        more.setdefault("auth", (self.account_sid, self.key))
        return self.client.request(method, path, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, data: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return self.request("POST", path, data=data, **more)

    def create(self, to: str = PHONE, channel: str = "sms", **more: str) -> httpx.Response:
        return self.post(f"{self.url}/Verifications", {"To": to, "Channel": channel, **more})

    def check(self, code: str, **more: str) -> httpx.Response:
        return self.post(f"{self.url}/VerificationCheck", {"Code": code, **(more or {"To": PHONE})})

    def sent(self, channel: str = "sms") -> str:
        return self.by_name[channel].sent[-1].code

    def wrong(self, channel: str = "sms") -> str:
        right = self.sent(channel)
        return str((int(right) + 1) % 10 ** len(right)).zfill(len(right))


def told(answer: httpx.Response) -> tuple[int, int]:
    """Status and code of an error, whose body is exactly Twilio's four members."""
    body = answer.json()
    assert set(body) == {"code", "message", "more_info", "status"}, body
    assert body["status"] == answer.status_code
    assert body["more_info"] == f"https://www.twilio.com/docs/errors/{body['code']}"
    assert answer.headers["content-type"].startswith("application/json")
    return answer.status_code, body["code"]


@contextmanager
def served(house: House) -> Iterator[str]:
    """The application behind a real uvicorn on this machine, and its URL."""
    config = uvicorn.Config(house.app, host="127.0.0.1", port=0, log_level="warning", access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    started = threading.Event()
    while not server.started:
        started.wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
