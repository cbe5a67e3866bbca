"""Test mode (P81): fixed codes and outcomes for a test tenant's listed recipients, and nothing for a live one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from otpvoice import ProofRejected
from otpvoice.clock import ManualClock
from otpvoice.errors import ConfigurationError
from otpvoice.http.tenants import build
from otpvoice.policy import Route, default_policies
from otpvoice.proof import verify_proof
from otpvoice.settings import Settings
from tests.http_tools import House, Make, houses

FIXED, NO_ANSWER, LOCKED, DOWN, DENIED, LIMITED = (f"+1201555010{n}" for n in range(1, 7))


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def test_a_listed_recipient_has_its_code_and_nothing_is_sent(house: House) -> None:
    client = house.client(house.key("shop-test"))
    opened = client.open(FIXED)
    assert (opened["channel"], opened["next_step"]) == ("voice", "voice")
    wrong = client.verify(opened["id"], "999999")
    assert (wrong.status_code, wrong.json()["attempts_left"], wrong.json()["next_step"]) == (422, 4, "voice")
    right = client.verify(opened["id"], "012345")
    assert (right.status_code, right.json()["channel"]) == (200, "voice")
    looked = client.get(f"/v1/challenges/{opened['id']}").json()
    assert [item["state"] for item in looked["deliveries"]] == ["delivered"]
    assert not house.voice.sent


def test_a_resend_has_the_same_code(house: House) -> None:
    client = house.client(house.key("shop-test"))
    opened = client.open(FIXED)
    house.clock.advance(30)
    again = client.post(f"/v1/challenges/{opened['id']}/resend", {"channel": "voice"})
    assert again.status_code == 200, again.text
    assert client.verify(opened["id"], "012345").status_code == 200
    assert not house.voice.sent


@pytest.mark.parametrize(("recipient", "reason"), [(NO_ANSWER, "no_answer"), (DOWN, "unavailable")])
def test_a_delivery_fails_as_told(house: House, recipient: str, reason: str) -> None:
    client = house.client(house.key("shop-test"))
    opened = client.open(recipient)
    looked = client.get(f"/v1/challenges/{opened['id']}").json()
    assert [(item["state"], item["reason"]) for item in looked["deliveries"]] == [("failed", reason)]
    live = house.client()
    live.open()
    assert len(house.voice.sent) == 1, "what a test recipient is told says nothing about the live channel"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("no_answer", "no_answer"),
        ("busy", "busy"),
        ("rejected", "rejected"),
        ("unreachable", "unreachable"),
        ("invalid_number", "recipient_rejected"),
        ("no_balance", "no_balance"),
        ("unavailable", "unavailable"),
    ],
)
def test_every_outcome_of_a_delivery_is_shown_and_its_code_was_never_said(
    make: Make, outcome: str, reason: str
) -> None:
    house = make(tenants={"t": {"test": True, "test_recipients": {FIXED: {"code": "012345", "outcome": outcome}}}})
    client = house.client(house.key("t"))
    opened = client.open(FIXED)
    looked = client.get(f"/v1/challenges/{opened['id']}").json()
    assert [(item["state"], item["reason"]) for item in looked["deliveries"]] == [("failed", reason)]
    assert client.verify(opened["id"], "012345").status_code == 422


@pytest.mark.parametrize(
    ("recipient", "status", "slug"),
    [(LOCKED, 429, "locked-out"), (DENIED, 403, "recipient-denied"), (LIMITED, 429, "rate-limited")],
)
def test_an_opening_is_refused_as_told(house: House, recipient: str, status: int, slug: str) -> None:
    answer = house.client(house.key("shop-test")).post("/v1/challenges", {"recipient": recipient, "purpose": "login"})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:otpvoice:problem:{slug}")


def test_other_recipients_are_nobody_to_a_test_tenant(house: House) -> None:
    answer = house.client(house.key("shop-test")).post(
        "/v1/challenges", {"recipient": "+84912345678", "purpose": "login"}
    )
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:otpvoice:problem:invalid-recipient")
    assert not house.voice.sent


def test_the_clock_of_a_test_tenant_is_set_and_no_other(house: House) -> None:
    test, live = house.client(house.key("shop-test")), house.client()
    theirs, ours = test.open(FIXED), live.open()
    said = test.request("PUT", "/v1/test/clock", json={"ahead": 300}).json()
    assert said["ahead"] == 300
    assert (datetime.fromisoformat(said["now"]) - house.clock.now()).total_seconds() == 300
    assert test.get("/v1/test/clock").json()["ahead"] == 300
    assert test.get(f"/v1/challenges/{theirs['id']}").json()["state"] == "expired"
    assert test.verify(theirs["id"], "012345").status_code == 422
    assert live.get(f"/v1/challenges/{ours['id']}").json()["state"] == "pending"
    assert test.open(FIXED)["state"] == "pending"


def test_a_live_tenant_has_no_clock_and_no_fixed_code(house: House) -> None:
    live = house.client()
    for method, path in (("GET", "/v1/test/clock"), ("PUT", "/v1/test/clock"), ("GET", "/v1/test/jwks.json")):
        assert live.request(method, path, json={"ahead": 1} if method == "PUT" else None).status_code == 404
    house.deps.tenants["shop"].policies["login"]  # the same purposes
    opened = live.open(FIXED)
    assert house.voice.sent[-1].recipient == FIXED
    if house.code != "012345":
        assert live.verify(opened["id"], "012345").status_code == 422


def test_the_clock_is_never_behind_the_real_one_and_can_be_put_back_to_it(house: House) -> None:
    client = house.client(house.key("shop-test"))
    assert client.request("PUT", "/v1/test/clock", json={"ahead": -1}).status_code == 422
    opened = client.open(FIXED)
    for ahead, state in ((300, "expired"), (0, "pending")):
        assert client.request("PUT", "/v1/test/clock", json={"ahead": ahead}).json()["ahead"] == ahead
        assert client.get(f"/v1/challenges/{opened['id']}").json()["state"] == state


def test_a_code_that_was_used_is_used_whatever_the_clock_says(house: House) -> None:
    client = house.client(house.key("shop-test"))
    opened = client.open(FIXED)
    client.request("PUT", "/v1/test/clock", json={"ahead": 200})
    assert client.verify(opened["id"], "012345").status_code == 200
    client.request("PUT", "/v1/test/clock", json={"ahead": 0})
    assert client.verify(opened["id"], "012345").status_code == 422


def test_a_longer_code_than_the_listed_one_begins_with_zeros(make: Make) -> None:
    house = make(
        tenants={
            "t": {
                "test": True,
                "purposes": {"pay": {"code_length": 8}},
                "test_recipients": {FIXED: {"code": "012345"}},
            }
        }
    )
    client = house.client(house.key("t"))
    opened = client.post("/v1/challenges", {"recipient": FIXED, "purpose": "pay"}).json()
    assert client.verify(opened["id"], "00012345").status_code == 200


def test_a_test_proof_is_worth_nothing_to_a_live_verifier(make: Make) -> None:
    """Even where both tenants were given the same audience."""
    house = make(
        tenants={
            "shop": {"audience": "https://shop.example"},
            "shop-test": {
                "audience": "https://shop.example",
                "test": True,
                "test_recipients": {FIXED: {"code": "012345"}},
            },
        }
    )
    client, live = house.client(house.key("shop-test")), house.client()
    token = client.verify(client.open(FIXED)["id"], "012345").json()["proof"]
    live_keys = live.get("/.well-known/jwks.json").json()
    with pytest.raises(ProofRejected):
        verify_proof(token, keys=live_keys, audience="https://shop.example", now=house.clock.now())
    assert live.post("/v1/proofs/redeem", {"proof": token}).status_code == 422
    test_keys = client.get("/v1/test/jwks.json").json()
    assert verify_proof(token, keys=test_keys, audience="https://shop.example", now=house.clock.now())
    assert client.post("/v1/proofs/redeem", {"proof": token}).status_code == 200


def test_a_live_and_a_test_tenant_share_no_limit(house: House) -> None:
    """A test run does not use up a real person's calls, nor does it lock them out."""
    test, live = house.client(house.key("shop-test")), house.client()
    for _ in range(2):
        opened = test.open(FIXED)
        for _ in range(5):
            test.verify(opened["id"], "999999")
    assert test.post("/v1/challenges", {"recipient": FIXED, "purpose": "login"}).status_code == 429
    assert live.open(FIXED)["state"] == "pending"


def test_challenges_do_not_cross_between_a_live_and_a_test_tenant(house: House) -> None:
    test, live = house.client(house.key("shop-test")), house.client()
    theirs, ours = test.open(FIXED)["id"], live.open()["id"]
    assert live.get(f"/v1/challenges/{theirs}").status_code == 404
    assert test.get(f"/v1/challenges/{ours}").status_code == 404
    assert test.verify(ours, house.code).status_code == 422
    assert live.verify(ours, house.code).status_code == 200


@pytest.mark.parametrize(
    ("tenants", "named"),
    [
        ({"shop": {"test_recipients": {FIXED: {"code": "012345"}}}}, "live"),
        ({"shop": {"test": False, "test_recipients": {FIXED: {}}}}, "live"),
        ({"shop": {"test": "yes"}}, "test must be"),
        ({"shop": {"test": True, "test_recipients": {"12": {}}}}, "international"),
        ({"shop": {"test": True, "test_recipients": {FIXED: {"code": 123456}}}}, "code"),
        ({"shop": {"test": True, "test_recipients": {FIXED: {"code": "1234"}}}}, "4 digits; purposes send 6"),
        ({"shop": {"test": True, "test_recipients": {FIXED: {"code": "12345678"}}}}, "8 digits; purposes send 6"),
        ({"shop": {"test": True, "test_recipients": {FIXED: {"outcome": "luck"}}}}, "outcome"),
        ({"shop": {"test": True, "test_recipients": {FIXED: {"colour": "red"}}}}, "keys"),
        ({"test:shop": {}}, "name"),
        ({"shop": {"tset": True}}, "tset"),
        ({"shop": {"purposes": {"login": {"ttl": "1h"}}}}, "ttl"),
        ({"shop": {"policy": {"max_atempts": 3}}}, "max_atempts"),
        ({"shop": {"purposes": []}}, "table"),
        ({"shop": {"audience": ""}}, "audience"),
    ],
)
def test_a_configuration_that_is_wrong_does_not_start(tenants: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        build(Settings(tenants=tenants), default_policies(Route.of("voice")))


def test_test_sends_do_not_count_for_the_person_who_has_that_number(house: House) -> None:
    """A day's sends are counted over all tenants, but for test tenants, which send nothing."""
    test, live = house.client(house.key("shop-test")), house.client()
    for _ in range(10):
        assert test.verify(test.open(FIXED)["id"], "012345").status_code == 200
    assert test.post("/v1/challenges", {"recipient": FIXED, "purpose": "login"}).status_code == 429
    assert live.open(FIXED)["state"] == "pending"


def test_a_tenant_that_goes_live_sees_nothing_of_its_time_as_a_test(make: Make) -> None:
    tested = make(tenants={"x": {"test": True, "test_recipients": {FIXED: {"code": "012345"}}}})
    opened = tested.client(tested.key("x")).open(FIXED)
    live = make(tenants={"x": {}})
    client = live.client(live.key("x"))
    assert client.get(f"/v1/challenges/{opened['id']}").status_code == 404
    assert client.verify(opened["id"], "012345").status_code == 422


@pytest.mark.parametrize("ahead", ["300", True, 1.0, None, 1e300])
def test_the_clock_takes_a_number_of_seconds_and_nothing_like_it(house: House, ahead: object) -> None:
    client = house.client(house.key("shop-test"))
    assert client.request("PUT", "/v1/test/clock", json={"ahead": ahead}).status_code == 422
