"""The challenge routes, end to end, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otpvoice.clock import ManualClock
from otpvoice.errors import ProviderUnavailable, RecipientRejected
from tests.conftest import NUMBER, OTHER_NUMBER
from tests.http_tools import House, Make, houses


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def test_a_code_is_issued_and_verified(house: House) -> None:
    shop = house.client()
    opened = shop.open(subject="alice")
    assert opened["recipient"] == "+84•••••••78"
    assert (opened["attempts_left"], opened["sends_left"], opened["next_step"]) == (5, 4, "voice")
    wrong = shop.verify(opened["id"], house.wrong())
    assert wrong.status_code == 422
    assert wrong.headers["content-type"] == "application/problem+json"
    assert wrong.json()["attempts_left"] == 4
    assert wrong.json()["next_step"] == "voice"
    assert wrong.json()["resend_at"] == opened["resend_at"]
    right = shop.verify(opened["id"], house.code, subject="alice")
    assert right.status_code == 200
    assert right.json()["state"] == "approved"
    looked = shop.get(f"/v1/challenges/{opened['id']}").json()
    assert looked["state"] == "approved"
    assert [item["used"] for item in looked["deliveries"]] == [True]


def test_wrong_used_expired_cancelled_exhausted_unknown_and_foreign_look_alike(house: House) -> None:
    """P83, P13: byte for byte the same, once no attempts are left to the holder."""
    shop, bank = house.client(), house.client(house.key("bank"))
    bodies = set()
    used = shop.open()
    shop.verify(used["id"], house.code)
    bodies.add(shop.verify(used["id"], house.code).content)
    exhausted = shop.open()
    for _ in range(4):
        shop.verify(exhausted["id"], house.wrong())
    bodies.add(shop.verify(exhausted["id"], house.wrong()).content)
    bodies.add(shop.verify(exhausted["id"], house.code).content)
    cancelled = shop.open(OTHER_NUMBER)
    assert shop.post(f"/v1/challenges/{cancelled['id']}/cancel").json()["state"] == "cancelled"
    bodies.add(shop.verify(cancelled["id"], house.code).content)
    foreign = shop.open(OTHER_NUMBER)
    bodies.add(bank.verify(foreign["id"], house.code).content)
    expired = shop.open("+84901112233")
    house.clock.advance(300)
    bodies.add(shop.verify(expired["id"], house.code).content)
    bodies.add(shop.verify("ch_" + "0" * 32, house.code).content)
    bodies.add(shop.verify("nothing-like-an-id", house.code).content)
    assert len(bodies) == 1, bodies


def test_another_tenants_challenge_is_as_unknown_as_a_random_one(house: House) -> None:
    shop, bank = house.client(), house.client(house.key("bank"))
    mine = shop.open()["id"]
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/resend"), ("POST", "/cancel")):
        theirs = bank.request(method, f"/v1/challenges/{mine}{path}")
        random = bank.request(method, f"/v1/challenges/ch_{'1' * 32}{path}")
        assert theirs.status_code == random.status_code == 404
        assert theirs.content == random.content
    assert shop.verify(mine, house.code).status_code == 200


def test_a_false_claim_fails_and_spends_an_attempt(house: House) -> None:
    """P11, P12, P14: purpose, subject and binding are compared, never taken from the request."""
    shop = house.client()
    opened = shop.open(subject="alice", binding={"amount": "10.00", "currency": "EUR", "payee": "Ann"})
    code = house.code
    for left, claim in enumerate(
        [
            {"purpose": "reset"},
            {"subject": "mallory"},
            {"binding": {"amount": "11.00", "currency": "EUR", "payee": "Ann"}},
        ]
    ):
        answer = shop.verify(opened["id"], code, **claim)
        assert (answer.status_code, answer.json()["attempts_left"]) == (422, 4 - left)
    assert shop.verify(opened["id"], code, subject="alice").status_code == 200


@pytest.mark.parametrize("error", [ProviderUnavailable("away"), RecipientRejected("no such number")])
def test_opening_says_nothing_about_the_recipient(house: House, error: Exception) -> None:
    """P82: the same status and shape when the provider fails or refuses the number."""
    shop = house.client()
    well = shop.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login"})
    house.voice.fail_with(error)
    failing = shop.post("/v1/challenges", {"recipient": OTHER_NUMBER, "purpose": "login"})
    assert well.status_code == failing.status_code == 201
    assert well.json().keys() == failing.json().keys()
    same = ("state", "attempts_left", "sends_left", "next_step", "channel", "medium", "deliveries")
    assert {name: well.json()[name] for name in same} == {name: failing.json()[name] for name in same}
    looked = shop.get(f"/v1/challenges/{failing.json()['id']}").json()
    assert looked["deliveries"][0]["state"] == "failed"


def test_resend_waits_for_its_cooldown_and_says_how_long(house: House) -> None:
    shop = house.client()
    opened = shop.open()
    early = shop.post(f"/v1/challenges/{opened['id']}/resend")
    assert early.status_code == 429
    assert early.headers["retry-after"] == "30"
    assert early.json()["retry_after"] == 30
    house.clock.advance(30)
    again = shop.post(f"/v1/challenges/{opened['id']}/resend", {"channel": "voice"})
    assert again.status_code == 200
    assert again.json()["sends_left"] == 3
    assert again.json()["expires_at"] == opened["expires_at"]
    assert len(house.voice.sent) == 2


def test_a_lock_is_told_with_its_end_at_every_door(house: House) -> None:
    """P25: at opening, at resending and at verifying."""
    shop = house.client()
    opened = [shop.open() for _ in range(3)]
    for challenge in opened[:2]:
        for _ in range(5):
            shop.verify(challenge["id"], "000000" if house.code != "000000" else "000001")
    right = house.code
    locked = shop.verify(opened[2]["id"], right)
    assert (locked.status_code, locked.json()["type"]) == (429, "urn:otpvoice:problem:locked-out")
    assert int(locked.headers["retry-after"]) == 1800
    house.clock.advance(60)
    assert shop.post(f"/v1/challenges/{opened[2]['id']}/resend").status_code == 429
    assert shop.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login"}).status_code == 429


def test_the_story_holds_every_step_and_no_secret(house: House) -> None:
    shop = house.client()
    opened = shop.open()
    shop.verify(opened["id"], house.wrong())
    told = shop.get(f"/v1/challenges/{opened['id']}/events")
    kinds = [item["kind"] for item in told.json()["events"]]
    assert kinds[0] == "challenge.opened"
    assert "attempt.charged" in kinds
    assert house.code not in told.text
    assert NUMBER not in told.text


def test_each_scope_opens_its_own_doors_only(house: House) -> None:
    """P85: verify is split from send, and neither administers."""
    challenge = house.client().open()["id"]
    doors = {
        ("POST", "/v1/challenges"): {"issue"},
        ("POST", f"/v1/challenges/{challenge}/verify"): {"verify"},
        ("POST", f"/v1/challenges/{challenge}/resend"): {"issue"},
        ("POST", f"/v1/challenges/{challenge}/cancel"): {"issue"},
        ("GET", f"/v1/challenges/{challenge}"): {"issue", "verify", "read", "admin"},
        ("GET", f"/v1/challenges/{challenge}/events"): {"read", "admin"},
        ("POST", "/v1/totp/factors"): {"issue"},
        ("POST", "/v1/totp/factors/fa_1/confirm"): {"verify"},
        ("POST", "/v1/totp/remove"): {"admin"},
        ("POST", "/v1/proofs/redeem"): {"verify"},
        ("GET", "/v1/test/clock"): {"verify"},
        ("PUT", "/v1/test/clock"): {"admin"},
    }
    for scope in ("issue", "verify", "read", "admin"):
        client = house.client(house.key("shop", scope))
        for (method, path), allowed in doors.items():
            answer = client.request(method, path, json={"subject": "x"} if method != "GET" else None)
            missing = answer.json().get("type") == "urn:otpvoice:problem:scope-missing"
            assert missing == (scope not in allowed), (scope, method, path, answer.text)


def test_an_app_is_enrolled_confirmed_and_asked(house: House) -> None:
    import pyotp

    policy = house.deps.tenants["shop"].policies["login"]
    house.deps.tenants["shop"].policies["app"] = policy.with_route("totp", "voice")  # type: ignore[index]
    shop = house.client()
    made = shop.post("/v1/totp/factors", {"subject": "alice"}).json()
    app = pyotp.TOTP(made["secret"])
    wrong = shop.post(f"/v1/totp/factors/{made['factor_id']}/confirm", {"subject": "alice", "code": "0" * 6})
    assert (wrong.status_code, wrong.json()["attempts_left"]) == (422, 4)
    right = {"subject": "alice", "code": app.at(house.clock.now())}
    assert shop.post(f"/v1/totp/factors/{made['factor_id']}/confirm", right).json()["state"] == "confirmed"
    house.clock.advance(30)
    opened = shop.post("/v1/challenges", {"subject": "alice", "purpose": "app"})
    assert opened.status_code == 201, opened.text
    verified = shop.verify(opened.json()["id"], app.at(house.clock.now()))
    assert (verified.status_code, verified.json()["medium"]) == (200, "app")
    assert shop.post("/v1/totp/remove", {"subject": "alice"}).json() == {"removed": 1}
    assert not house.voice.sent
