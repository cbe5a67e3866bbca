"""Twilio's own Python SDK, unchanged, against the service behind a real uvicorn: one line points it here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyotp
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from otpvoice.clock import ManualClock
from tests.http_tools import Make, houses
from tests.twilio_tools import MAIL, OTHER, PHONE, Front, served


@dataclass(frozen=True, slots=True)
class Served:
    """A front behind a server, and a client of it."""

    front: Front
    url: str
    client: Client

    @property
    def service(self):  # type: ignore[no-untyped-def]
        return self.client.verify.v2.services(self.front.service_sid)


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def sdk(make: Make) -> Iterator[Served]:
    front = Front.make(make)
    with served(front.house) as url:
        client = Client(front.account_sid, front.key)
        client.verify.base_url = url
        yield Served(front, url, client)


def refusal(call, *arguments, **more) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    with pytest.raises(TwilioRestException) as refused:
        call(*arguments, **more)
    return refused.value.status, refused.value.code


def test_verify_a_number(sdk: Served, clock: ManualClock) -> None:
    service = sdk.service
    made = service.verifications.create(to=PHONE, channel="sms")
    assert (made.status, made.valid, made.to, made.channel) == ("pending", False, PHONE, "sms")
    assert made.date_created == clock.now()
    assert refusal(service.verifications.create, to=PHONE, channel="call") == (429, 20429)
    clock.advance(31)
    again = service.verifications.create(to=PHONE, channel="call", rate_limits={}, tags='{"a": "b"}')
    assert (again.sid, again.channel, len(again.send_code_attempts)) == (made.sid, "call", 2)
    assert service.verifications(PHONE).fetch().sid == made.sid
    assert service.verifications(made.sid).fetch().status == "pending"
    wrong = service.verification_checks.create(to=PHONE, code=sdk.front.wrong("voice"))
    assert (wrong.status, wrong.valid) == ("pending", False)
    right = service.verification_checks.create(verification_sid=made.sid, code=sdk.front.sent("voice"))
    assert (right.status, right.valid, right.to) == ("approved", True, PHONE)
    check = service.verification_checks.create
    assert refusal(check, to=PHONE, code=sdk.front.sent("voice")) == (404, 20404)
    assert refusal(check, code="123456") == (400, 60221)
    assert refusal(service.verifications.create, to="nonsense", channel="sms") == (400, 60200)


def test_limits_and_endings(sdk: Served) -> None:
    service = sdk.service
    service.verifications.create(to=PHONE, channel="sms")
    for _ in range(5):
        assert service.verification_checks.create(to=PHONE, code=sdk.front.wrong()).valid is False
    assert refusal(service.verification_checks.create, to=PHONE, code=sdk.front.sent()) == (429, 60202)
    made = service.verifications.create(to=MAIL, channel="email")
    assert service.verifications(made.sid).update(status="canceled").status == "canceled"
    assert refusal(service.verifications(made.sid).fetch) == (404, 20404)
    service.verifications.create(to=OTHER, channel="sms")
    assert service.verifications(OTHER).update(status="approved").valid is True


def test_services_rate_limits_and_attempts(sdk: Served, clock: ManualClock) -> None:
    verify = sdk.client.verify.v2
    clock.advance(1)
    made = verify.services.create(friendly_name="My App", code_length=8, lookup_enabled=True)
    assert (made.friendly_name, made.code_length, made.account_sid) == ("My App", 8, sdk.front.account_sid)
    assert verify.services(made.sid).update(friendly_name="Other").friendly_name == "Other"
    assert verify.services(made.sid).fetch().lookup_enabled is True
    for number in range(3):
        clock.advance(1)
        verify.services.create(friendly_name=f"s{number}")
    assert [item.friendly_name for item in verify.services.list(page_size=2)] == ["s2", "s1", "s0", "Other", "Shop"]
    service = verify.services(made.sid)
    limit = service.rate_limits.create(unique_name="ip", description="by address")
    bucket = service.rate_limits(limit.sid).buckets.create(max=1, interval=60)
    assert (bucket.max, bucket.interval) == (1, 60)
    assert [item.unique_name for item in service.rate_limits.list()] == ["ip"]
    create = service.verifications.create
    assert create(to=PHONE, channel="sms", rate_limits={"ip": "1.2.3.4"}).status == "pending"
    assert refusal(create, to=OTHER, channel="sms", rate_limits={"ip": "1.2.3.4"}) == (429, 20429)
    (attempt,) = verify.verification_attempts.list(channel_data_to=PHONE)
    assert (attempt.channel, attempt.conversion_status) == ("sms", "unconverted")
    assert verify.verification_attempts(attempt.sid).fetch().sid == attempt.sid
    summary = verify.verification_attempts_summary().fetch(verify_service_sid=made.sid)
    assert (summary.total_attempts, summary.total_converted) == (1, 0)
    assert service.rate_limits(limit.sid).buckets(bucket.sid).update(max=5).max == 5
    assert service.rate_limits(limit.sid).buckets(bucket.sid).delete() is True
    assert service.rate_limits(limit.sid).delete() is True
    assert verify.services(made.sid).delete() is True
    assert refusal(verify.services(made.sid).fetch) == (404, 20404)


class Proxy:
    """Gives the front the path prefix ``/otp``, and takes it off, as a reverse proxy does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith("/otp/"), "a client left the prefix"
            scope = {**scope, "path": scope["path"][4:], "raw_path": scope["raw_path"][4:]}
        await self._app(scope, receive, send)


def test_behind_a_path_prefix_the_pages_of_a_list_lead_on_there(make: Make, clock: ManualClock) -> None:
    front = Front.make(make, tenants={"shop": {"twilio": {"url": "set below"}}})
    for number in range(3):
        clock.advance(1)
        front.post("/v2/Services", {"FriendlyName": f"s{number}"})
    with served(replace(front.house, app=Proxy(front.house.app))) as url:
        front.house.deps.tenants["shop"].extra["twilio"]["url"] = f"{url}/otp"  # type: ignore[index]
        client = Client(front.account_sid, front.key)
        client.verify.base_url = f"{url}/otp"
        listed = client.verify.v2.services.list(page_size=1)
        assert [item.friendly_name for item in listed] == ["s2", "s1", "s0", "Shop"]
        assert all(item.url == f"{url}/otp/v2/Services/{item.sid}" for item in listed)


def test_an_authenticator_app(sdk: Served, clock: ManualClock) -> None:
    entity = sdk.service.entities("user-0001-abcd")
    made = entity.new_factors.create(friendly_name="phone", factor_type="totp")
    app = pyotp.parse_uri(made.binding["uri"])
    assert isinstance(app, pyotp.TOTP)
    clock.advance(30)
    verified = entity.factors(made.sid).update(auth_payload=app.at(clock.now()))
    assert verified.status == "verified"
    clock.advance(30)
    login = entity.challenges.create(factor_sid=made.sid, auth_payload=app.at(clock.now()))
    assert login.status == "approved"
    assert [item.sid for item in entity.challenges.list()] == [login.sid]
    assert entity.factors(made.sid).fetch().friendly_name == "phone"
    assert entity.factors(made.sid).delete() is True


def test_wrong_credentials(sdk: Served) -> None:
    for account, key in ((sdk.front.account_sid, "wrong"), (f"AC{'0' * 32}", sdk.front.key)):
        stranger = Client(account, key)
        stranger.verify.base_url = sdk.url
        fetch = stranger.verify.v2.services(sdk.front.service_sid).fetch
        assert refusal(fetch) == (401, 20003)


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")  # aiohttp's words to Twilio's SDK.
@pytest.mark.filterwarnings("ignore:The 'auth' parameter is deprecated:DeprecationWarning")
def test_the_asynchronous_client(sdk: Served, clock: ManualClock) -> None:
    front = sdk.front

    async def story() -> None:
        async with AsyncTwilioHttpClient() as http:
            client = Client(front.account_sid, front.key, http_client=http)
            client.verify.base_url = sdk.url
            service = client.verify.v2.services(front.service_sid)
            made = await service.verifications.create_async(to=PHONE, channel="call")
            assert made.channel == "call"
            assert (await service.verifications(PHONE).fetch_async()).sid == made.sid
            with pytest.raises(TwilioRestException) as refused:
                await service.verifications.create_async(to=PHONE, channel="call")
            assert (refused.value.status, refused.value.code) == (429, 20429)
            code = front.sent("voice")
            right = await service.verification_checks.create_async(to=PHONE, code=code)
            assert (right.status, right.valid) == ("approved", True)
            assert len(await client.verify.v2.services.list_async()) == 1

    asyncio.run(asyncio.wait_for(story(), 30))
