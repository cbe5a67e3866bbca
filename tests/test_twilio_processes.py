"""Two service processes on one PostgreSQL: a limit of the Twilio front is one limit, whichever of them is asked."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import text

from otpvoice.http.twilio import sids
from otpvoice.store.engine import Store
from tests.conftest import _database, _maintain
from tests.http_processes import Installation, Phone
from tests.twilio_tools import told


@dataclass(frozen=True, slots=True)
class Two:
    """Both processes, and a caller of them."""

    installation: Installation
    urls: tuple[str, str]
    key: str
    service: str

    def at_once(self, path: str, bodies: list[dict[str, str]]) -> list[httpx.Response]:
        """Posted to both in turn, all together."""

        async def storm() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=len(bodies))
            auth = (sids.account("shop"), self.key)
            async with httpx.AsyncClient(auth=auth, limits=limits, timeout=120) as client:
                urls = (self.urls[number % 2] + self.service + path for number in range(len(bodies)))
                waiting = (client.post(url, data=data) for url, data in zip(urls, bodies, strict=True))
                return list(await asyncio.gather(*waiting))

        return asyncio.run(storm())

    def post(self, path: str, **data: str) -> httpx.Response:
        return self.at_once(path, [data])[0]


@pytest.fixture(scope="module")
def two(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    name = f"test_twilio_{os.getpid()}"
    url = _database(postgres, name, create_from="otpvoice_template")
    installation = Installation(tmp_path_factory.mktemp("twilio"), url, Phone())
    installation.configure()
    first, second = installation.start(), installation.start()
    urls = first.wait().url, second.wait().url
    key = installation.key()
    made = httpx.post(
        f"{urls[0]}/v2/Services", data={"FriendlyName": "Shop"}, auth=(sids.account("shop"), key), timeout=60
    )
    assert made.status_code == 201, made.text
    yield Two(installation, urls, key, f"/v2/Services/{made.json()['sid']}")
    installation.close()
    _maintain(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def codes(answers: list[httpx.Response]) -> Counter[int]:
    """How often which code was told; 0 where none was."""
    return Counter(told(answer)[1] if answer.status_code >= 400 else 0 for answer in answers)


def test_200_parallel_checks_compare_five(two: Two) -> None:
    number = "+84911000001"
    made = two.post("/Verifications", To=number, Channel="call")
    assert made.status_code == 201, made.text
    right = two.installation.phone.code(number)
    wrong = [f"{(int(right) + step) % 10**6:06}" for step in range(1, 201)]
    answers = two.at_once("/VerificationCheck", [{"To": number, "Code": code} for code in wrong])
    counted = codes(answers)
    assert counted[0] == 5, counted
    assert set(counted) <= {0, 60202, 20503}, counted
    assert not any(answer.json().get("valid") for answer in answers)
    assert told(two.post("/VerificationCheck", To=number, Code=right)) == (429, 60202)
    store = Store(two.installation.database_url)
    with store.engine().connect() as connection:
        charged = connection.execute(
            text("SELECT count(*) FROM event WHERE challenge_id = :id AND kind = 'attempt.charged'"),
            {"id": sids.ours("VE", made.json()["sid"])},
        ).scalar_one()
    store.close()
    assert charged == 5


def test_creates_at_once_are_one_verification_and_one_call(two: Two) -> None:
    number = "+84921000002"
    answers = two.at_once("/Verifications", [{"To": number, "Channel": "call"}] * 40)
    counted = codes(answers)
    assert counted[0] == 1, counted
    assert set(counted) <= {0, 60212, 20429}, counted
    two.installation.phone.code(number)
    made = next(answer.json()["sid"] for answer in answers if answer.status_code == 201)
    shown = httpx.get(
        f"{two.urls[1]}{two.service}/Verifications/{number}", auth=(sids.account("shop"), two.key), timeout=60
    )
    assert (shown.json()["sid"], len(shown.json()["send_code_attempts"])) == (made, 1)
    assert sum(item["recipient"] == number for item in two.installation.phone.heard) == 1


def test_a_bucket_is_one_for_both(two: Two) -> None:
    limit = two.post("/RateLimits", UniqueName="ip").json()["sid"]
    assert two.post(f"/RateLimits/{limit}/Buckets", Max="5", Interval="3600").status_code == 201
    # Each of another prefix, whose own limit would refuse sooner.
    bodies = [
        {"To": f"+849{1_000_000 + step * 130_007:08}", "Channel": "call", "RateLimits": '{"ip": "192.0.2.1"}'}
        for step in range(40)
    ]
    assert codes(two.at_once("/Verifications", bodies)) == {0: 5, 20429: 35}
