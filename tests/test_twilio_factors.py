"""Authenticator apps over the Twilio-Verify front."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyotp
import pytest

from otpvoice.clock import ManualClock
from otpvoice.flow import transact
from otpvoice.http.twilio import sids
from otpvoice.store.tables import event
from tests.http_tools import Make, houses
from tests.twilio_tools import Front, told

IDENTITY = "user-0001-abcd"


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def front(make: Make) -> Front:
    return Front.make(make)


class App:
    """A person's authenticator app."""

    def __init__(self, front: Front, identity: str = IDENTITY, name: str = "phone") -> None:
        self.front = front
        self.url = f"{front.url}/Entities/{identity}"
        answer = front.post(f"{self.url}/Factors", {"FactorType": "totp", "FriendlyName": name})
        assert answer.status_code == 201, answer.text
        self.made: dict[str, Any] = answer.json()
        self.factor = f"{self.url}/Factors/{self.made['sid']}"
        self._app = pyotp.parse_uri(self.made["binding"]["uri"])
        assert isinstance(self._app, pyotp.TOTP)
        assert self._app.secret == self.made["binding"]["secret"]

    @property
    def code(self) -> str:
        """What the app shows; a new one each time, because a code counts once."""
        self.front.house.clock.advance(30)
        return str(self._app.at(self.front.house.clock.now()))

    @property
    def wrong(self) -> str:
        now = self.front.house.clock.now()
        near = {self._app.at(now + timedelta(seconds=30 * step)) for step in range(-2, 3)}
        return next(code for code in (f"{number:06}" for number in range(10)) if code not in near)

    def verified(self) -> App:
        assert self.front.post(self.factor, {"AuthPayload": self.code}).json()["status"] == "verified"
        return self

    def challenge(self, code: str | None = None) -> Any:
        data = {"FactorSid": self.made["sid"], **({} if code is None else {"AuthPayload": code})}
        return self.front.post(f"{self.url}/Challenges", data)


def test_the_story(front: Front) -> None:
    app = App(front)
    made = app.made
    assert (made["status"], made["factor_type"], made["identity"]) == ("unverified", "totp", IDENTITY)
    assert sids.is_sid("YF", made["sid"])
    assert sids.is_sid("YE", made["entity_sid"])
    assert made["config"] == {"alg": "sha1", "skew": 1, "code_length": 6, "time_step": 30}
    assert told(app.challenge(app.code)) == (403, 60318)
    wrong = front.post(app.factor, {"AuthPayload": app.wrong})
    assert (wrong.status_code, wrong.json()["status"]) == (200, "unverified")
    right = front.post(app.factor, {"AuthPayload": app.code})
    assert (right.status_code, right.json()["status"]) == (200, "verified")
    assert "binding" not in right.json()
    assert made["binding"]["secret"] not in right.text
    answer = app.challenge(app.code)
    assert answer.status_code == 201
    assert answer.json()["status"] == "approved"
    assert sids.is_sid("YC", answer.json()["sid"])
    assert answer.json()["date_responded"] is not None


def test_a_code_counts_once(front: Front) -> None:
    app = App(front).verified()
    code = app.code
    assert app.challenge(code).json()["status"] == "approved"
    assert app.challenge(code).json()["status"] == "pending"


def test_a_challenge_may_be_answered_later(front: Front) -> None:
    app = App(front).verified()
    opened = app.challenge().json()
    assert opened["status"] == "pending"
    url = f"{app.url}/Challenges/{opened['sid']}"
    assert front.post(url, {"AuthPayload": app.wrong}).json()["status"] == "pending"
    assert front.post(url, {"AuthPayload": app.code}).json()["status"] == "approved"
    assert told(front.post(url, {"AuthPayload": app.code})) == (403, 60322)
    assert front.get(url).json()["status"] == "approved"
    late = app.challenge().json()
    front.house.clock.advance(timedelta(minutes=5))
    assert told(front.post(f"{app.url}/Challenges/{late['sid']}", {"AuthPayload": app.code})) == (403, 60323)
    listed = front.get(f"{app.url}/Challenges", params={"Status": "expired"}).json()["challenges"]
    assert [item["sid"] for item in listed] == [late["sid"]]


def test_five_wrong_challenges_are_the_most_and_ten_guesses_lock(front: Front) -> None:
    app = App(front).verified()
    for _ in range(2):
        assert [app.challenge(app.wrong).status_code for _ in range(5)] == [201] * 5
        for code in (app.wrong, app.code):
            refused = app.challenge(code)
            assert told(refused) == (429, 60308)
            assert int(refused.headers["retry-after"]) > 0
        front.house.clock.advance(timedelta(minutes=5))
    assert told(app.challenge(app.code)) == (429, 60308)
    front.house.clock.advance(timedelta(minutes=31))
    assert app.challenge(app.code).json()["status"] == "approved"


def test_five_tries_to_verify_a_factor(front: Front) -> None:
    app = App(front)
    for _ in range(5):
        assert front.post(app.factor, {"AuthPayload": app.wrong}).json()["status"] == "unverified"
    assert told(front.post(app.factor, {"AuthPayload": app.code})) == (429, 60310)


def test_a_second_factor_replaces_the_first_once_it_is_verified(front: Front) -> None:
    first = App(front).verified()
    front.house.clock.advance(1)
    second = App(front, name="tablet")
    listed = front.get(f"{first.url}/Factors").json()["factors"]
    assert [(item["friendly_name"], item["status"]) for item in listed] == [
        ("tablet", "unverified"),
        ("phone", "verified"),
    ]
    second.verified()
    assert told(front.get(first.factor)) == (404, 20404)
    assert first.challenge(first.code).status_code == 404


def test_fetch_rename_and_delete(front: Front) -> None:
    app = App(front).verified()
    assert front.post(app.factor, {"FriendlyName": "new name"}).json()["friendly_name"] == "new name"
    assert front.get(app.factor).json()["friendly_name"] == "new name"
    gone = front.request("DELETE", app.factor)
    assert (gone.status_code, gone.content) == (204, b"")
    assert told(front.get(app.factor)) == (404, 20404)
    assert told(app.challenge(app.code)) == (404, 20404)
    happened = front.house.run(
        front.house.deps.run(transact(lambda connection, _now: connection.execute(event.select()).all()))
    )
    assert [row.data["factor"] for row in happened if row.kind == "totp.removed"] == [sids.ours("YF", app.made["sid"])]


def test_identities_and_services_are_apart(front: Front) -> None:
    app = App(front).verified()
    other = f"{front.url}/Entities/somebody-else"
    assert told(front.get(f"{other}/Factors/{app.made['sid']}")) == (404, 20404)
    data = {"FactorSid": app.made["sid"], "AuthPayload": app.code}
    assert told(front.post(f"{other}/Challenges", data)) == (404, 20404)
    service = front.post("/v2/Services", {"FriendlyName": "Other"}).json()["sid"]
    there = f"/v2/Services/{service}/Entities/{IDENTITY}"
    assert front.get(f"{there}/Factors").json()["factors"] == []
    assert told(front.post(f"{there}/Challenges", data)) == (404, 20404)


def test_the_same_identity_in_two_services_is_two_people(front: Front) -> None:
    here = App(front).verified()
    first = front.service_sid
    front.service_sid = front.post("/v2/Services", {"FriendlyName": "Other"}).json()["sid"]
    there = App(front).verified()
    front.service_sid = first
    assert front.get(here.factor).json()["status"] == "verified"
    assert here.challenge(here.code).json()["status"] == "approved"
    assert there.challenge(there.code).json()["status"] == "approved"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"FactorType": "push", "FriendlyName": "a"}, (403, 60204)),
        ({"FactorType": "totp"}, (400, 60200)),
        ({"FriendlyName": "a"}, (400, 60200)),
        ({"FactorType": "totp", "FriendlyName": "a", "Binding.Secret": "A" * 32}, (403, 60204)),
        ({"FactorType": "totp", "FriendlyName": "a", "Config.CodeLength": "8"}, (403, 60204)),
        ({"FactorType": "totp", "FriendlyName": "a", "Config.Alg": "sha256"}, (403, 60204)),
    ],
)
def test_what_a_factor_cannot_be(front: Front, data: dict[str, str], expected: tuple[int, int]) -> None:
    assert told(front.post(f"{front.url}/Entities/{IDENTITY}/Factors", data)) == expected


def test_identities_are_as_twilio_wants_them(front: Front) -> None:
    for identity in ("short", "x" * 65, "me@example.org", "a b c d e f"):
        answer = front.post(f"{front.url}/Entities/{identity}/Factors", {"FactorType": "totp", "FriendlyName": "a"})
        assert told(answer) == (400, 60200)


@pytest.mark.parametrize("code", ["", "12", "123456789", "abcdef", "１２３４５６"])
def test_codes_are_digits(front: Front, code: str) -> None:
    app = App(front).verified()
    opened = app.challenge().json()
    answer = front.post(f"{app.url}/Challenges/{opened['sid']}", {"AuthPayload": code})
    assert told(answer) == (400, 60200)
