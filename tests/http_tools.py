"""What the tests of the HTTP service share: an application on a test's database, and clients with keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from otpvoice import AsyncOTPService, tenant_keys
from otpvoice.channels.base import Channel
from otpvoice.channels.memory import Memory
from otpvoice.clock import Clock, ManualClock
from otpvoice.http.app import create_app
from otpvoice.http.deps import Deps
from otpvoice.settings import Settings
from tests.conftest import SECRET, policies

T = TypeVar("T")

ALL = ("issue", "verify", "read", "admin")
TENANTS: Mapping[str, Any] = {
    "shop": {"audience": "https://shop.example"},
    "bank": {},
    "shop-test": {
        "test": True,
        "test_recipients": {
            "+12015550101": {"code": "012345"},
            "+12015550102": {"code": "123456", "outcome": "no_answer"},
            "+12015550103": {"outcome": "locked"},
            "+12015550104": {"code": "123456", "outcome": "unavailable"},
            "+12015550105": {"outcome": "denied"},
            "+12015550106": {"outcome": "rate_limited"},
        },
    },
}


@dataclass(slots=True)
class House:
    """An application, run in the test's own loop."""

    app: Any
    deps: Deps
    voice: Memory
    clock: Any
    loop: asyncio.AbstractEventLoop
    clients: list[httpx.AsyncClient]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def key(self, tenant: str = "shop", *scopes: str) -> str:
        test = self.deps.tenants[tenant].test
        return str(self.run(self.deps.run(tenant_keys.create(tenant, scopes=scopes or ALL, test=test))).key)

    def client(self, key: str | None = "", *, peer: str = "127.0.0.1", **headers: str) -> Client:
        if key == "":
            key = self.key()
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key}")
        transport = httpx.ASGITransport(self.app, client=(peer, 4711), raise_app_exceptions=True)
        made = httpx.AsyncClient(transport=transport, base_url="http://otp.test", headers=headers)
        self.clients.append(made)
        return Client(self, made)

    @property
    def code(self) -> str:
        return self.voice.sent[-1].code

    def wrong(self) -> str:
        return str((int(self.code) + 1) % 10 ** len(self.code)).zfill(len(self.code))


@dataclass(slots=True)
class Client:
    """A caller, synchronous."""

    house: House
    http: httpx.AsyncClient

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.house.run(self.http.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        if json is not None:
            more["json"] = json
        return self.request("POST", path, **more)

    def open(self, recipient: str | None = "+84912345678", **more: Any) -> dict[str, Any]:
        answer = self.post("/v1/challenges", {"recipient": recipient, "purpose": "login", **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def verify(self, challenge_id: str, code: str, **more: Any) -> httpx.Response:
        return self.post(f"/v1/challenges/{challenge_id}/verify", {"code": code, **more})


Make = Callable[..., House]


def houses(database_url: str, clock: ManualClock | None) -> Iterator[Make]:
    """Makes applications on a database; all are closed at the end. Sends in the request, so that tests see it."""
    made: list[tuple[House, AsyncOTPService]] = []

    def make(
        *,
        http: Mapping[str, Any] | None = None,
        tenants: Mapping[str, Any] = TENANTS,
        time: Clock | None = clock,
        worker: bool = False,
        channels: list[Channel] | None = None,
        **options: Any,
    ) -> House:
        voice = Memory("voice")
        options.setdefault("policies", policies())
        options.setdefault("secret", SECRET)
        service = AsyncOTPService(
            channels=channels or [voice],
            database_url=database_url,
            clock=time,
            worker=worker,
            **options,
        )
        settings = Settings(secret=[SECRET], http={"tls": "off", **(http or {})}, tenants=dict(tenants))
        app = create_app(settings, service=service)
        house = House(app, app.state.deps, voice, time, asyncio.new_event_loop(), [])
        made.append((house, service))
        return house

    yield make
    for house, service in made:
        for client in house.clients:
            house.run(client.aclose())
        house.run(house.deps.test_mode.close())
        house.run(service.close())
        house.loop.close()
