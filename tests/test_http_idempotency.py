"""Idempotency-Key (P84): the same request twice happens once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Connection, event, text

from otpvoice.clock import ManualClock
from otpvoice.errors import ServiceBusy, StoreUnavailable
from otpvoice.store import idempotency as records
from tests.conftest import NUMBER
from tests.http_tools import House, Make, houses

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
BODY = {"recipient": NUMBER, "purpose": "login"}


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def test_ten_repetitions_make_one_call(house: House) -> None:
    shop = house.client()
    answers = [shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY}) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False] + [True] * 9
    assert len(house.voice.sent) == 1


def test_the_quoted_form_and_white_space_in_the_body_change_nothing(house: House) -> None:
    shop = house.client()
    shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    again = shop.post(
        "/v1/challenges",
        content=b'{ "purpose": "login",\n "recipient": "+84912345678" }',
        headers={"Idempotency-Key": f'"{KEY}"', "Content-Type": "application/json"},
    )
    assert (again.status_code, len(house.voice.sent)) == (201, 1)


def test_five_codes_under_one_key_are_one_guess(house: House) -> None:
    """The other four are refused without being evaluated."""
    shop = house.client()
    opened = shop.open()
    path = f"/v1/challenges/{opened['id']}/verify"
    right = house.code
    codes = [house.wrong(), right, "111111", "222222", "333333"]
    answers = [shop.post(path, {"code": code}, headers={"Idempotency-Key": KEY}) for code in codes]
    assert answers[0].json()["type"] == "urn:otpvoice:problem:verification-failed"
    assert {answer.json()["type"] for answer in answers[1:]} == {"urn:otpvoice:problem:idempotency-mismatch"}
    assert shop.get(f"/v1/challenges/{opened['id']}").json()["attempts_left"] == 4
    assert shop.verify(opened["id"], right).status_code == 200


def test_a_success_that_is_repeated_gives_the_same_proof_which_counts_once(house: House) -> None:
    shop = house.client()
    opened = shop.open()
    path = f"/v1/challenges/{opened['id']}/verify"
    first = shop.post(path, {"code": house.code}, headers={"Idempotency-Key": KEY})
    second = shop.post(path, {"code": house.code}, headers={"Idempotency-Key": KEY})
    assert first.status_code == 200
    assert first.content == second.content
    redeemed = [shop.post("/v1/proofs/redeem", {"proof": item.json()["proof"]}) for item in (first, second)]
    assert [answer.status_code for answer in redeemed] == [200, 422]


def test_nothing_secret_is_stored(house: House, database_url: str) -> None:
    """Neither the proof nor the code, nor anything that a code can be guessed from without the root secret."""
    shop = house.client()
    opened = shop.open()
    right = house.code
    answer = shop.post(
        f"/v1/challenges/{opened['id']}/verify", {"code": right}, headers={"Idempotency-Key": KEY}
    ).json()
    engine = house.deps.service._assembly.store.engine()
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM idempotency")).all()
    stored = repr([tuple(bytes(item) if isinstance(item, memoryview) else item for item in row) for row in rows])
    assert len(rows) == 1
    signature = answer["proof"].split(".")[2]
    for secret in (answer["proof"], signature, right, KEY, NUMBER, opened["id"]):
        assert secret not in stored


def test_keys_of_other_callers_are_other_keys(house: House) -> None:
    shop, twin, bank = house.client(), house.client(), house.client(house.key("bank"))
    for client in (shop, twin):
        assert (
            "idempotency-replayed" not in client.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY}).headers
        )
    other = bank.post("/v1/challenges", {**BODY, "purpose": "reset"}, headers={"Idempotency-Key": KEY})
    assert other.status_code == 201
    assert len(house.voice.sent) == 3


def test_a_request_that_is_under_way_is_a_conflict(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one whose process died stays one: it is never evaluated again."""
    shop = house.client()
    live = house.deps.live("shop")
    begun, go = asyncio.Event(), asyncio.Event()
    issue = type(live).issue_code

    async def slow(*args: object, **named: object) -> object:
        begun.set()
        await go.wait()
        return await issue(live, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(live, "issue_code", slow, raising=False)

    async def race() -> tuple[httpx.Response, httpx.Response]:
        first = asyncio.create_task(shop.http.post("/v1/challenges", json=BODY, headers={"Idempotency-Key": KEY}))
        await asyncio.wait_for(begun.wait(), 20)
        second = await shop.http.post("/v1/challenges", json=BODY, headers={"Idempotency-Key": KEY})
        go.set()
        return await first, second

    first, second = house.run(race())
    assert (first.status_code, second.status_code) == (201, 409)
    assert "retry-after" in second.headers
    assert len(house.voice.sent) == 1


def test_a_process_that_died_leaves_a_conflict_and_no_second_call(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = house.client()
    live = house.deps.live("shop")

    async def die(*_args: object, **_named: object) -> object:
        raise asyncio.CancelledError

    monkeypatch.setattr(live, "issue_code", die, raising=False)
    with pytest.raises(asyncio.CancelledError):
        shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    monkeypatch.undo()
    answer = shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    house.clock.advance(60)
    answer = shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    assert (answer.status_code, "retry-after" in answer.headers) == (409, False), "waiting brings nothing"
    assert not house.voice.sent
    house.clock.advance(24 * 3600)
    assert shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY}).status_code == 201


def test_a_refusal_without_effect_gives_the_key_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = house.client()
    opened = shop.open()
    path = f"/v1/challenges/{opened['id']}/resend"
    assert shop.post(path, headers={"Idempotency-Key": KEY}).status_code == 429
    house.clock.advance(30)
    assert shop.post(path, headers={"Idempotency-Key": KEY}).status_code == 200
    live = house.deps.live("shop")

    async def busy(*_args: object, **_named: object) -> object:
        raise ServiceBusy

    monkeypatch.setattr(live, "verify_code", busy, raising=False)
    verify = f"/v1/challenges/{opened['id']}/verify"
    other = {"Idempotency-Key": KEY[::-1]}
    answer = shop.post(verify, {"code": house.code}, headers=other)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.undo()
    assert shop.post(verify, {"code": house.code}, headers=other).status_code == 200


def test_a_key_given_back_between_two_looks_is_claimed(house: House) -> None:
    """The first request was refused without effect, just when the second had met its key: nothing is in the way."""
    engine = house.deps.service._assembly.store.engine()
    given_back: list[int] = []

    def give_back(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT") and "FROM idempotency" in statement and not given_back:
            given_back.append(1)
            connection.exec_driver_sql("DELETE FROM idempotency")

    shop = house.client()
    assert shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY}).status_code == 201
    event.listen(engine, "before_cursor_execute", give_back)
    answer = shop.post("/v1/challenges", {**BODY, "purpose": "reset"}, headers={"Idempotency-Key": KEY})
    assert given_back
    assert (answer.status_code, "idempotency-replayed" in answer.headers) == (201, False)


def test_an_answer_that_cannot_be_kept_is_given(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 would say that nothing was approved, and lose the only proof of it."""
    shop = house.client()
    opened = shop.open()

    def away(*_args: object, **_named: object) -> None:
        raise StoreUnavailable("the database went away")

    monkeypatch.setattr(records, "answer", away)
    path = f"/v1/challenges/{opened['id']}/verify"
    first = shop.post(path, {"code": house.code}, headers={"Idempotency-Key": KEY})
    assert first.status_code == 200
    assert shop.post("/v1/proofs/redeem", {"proof": first.json()["proof"]}).status_code == 200
    monkeypatch.undo()
    assert shop.post(path, {"code": house.code}, headers={"Idempotency-Key": KEY}).status_code == 409


def test_every_post_but_an_enrolment_takes_a_key(house: House) -> None:
    """As the page says; what a provider pushes is repeated by the provider."""
    document = house.app.openapi()
    without = {
        path
        for path, methods in document["paths"].items()
        if "post" in methods and all(item["in"] != "header" for item in methods["post"].get("parameters", []))
    }
    assert without == {"/v1/totp/factors", "/v1/reports/{secret}/{channel}"}
    shop = house.client()
    house.client().post("/v1/totp/factors", {"subject": "alice"})
    header = {"Idempotency-Key": KEY}
    answers = [shop.post("/v1/totp/remove", {"subject": "alice"}, headers=header) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"removed": 1}] * 2
    assert shop.post("/v1/totp/remove", {"subject": "bob"}, headers=header).status_code == 422


def test_a_key_is_forgotten_after_a_day(house: House) -> None:
    shop = house.client()
    shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    house.clock.advance(24 * 3600 - 1)
    assert "idempotency-replayed" in shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY}).headers
    house.clock.advance(1)
    assert "idempotency-replayed" not in shop.post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY}).headers


@pytest.mark.parametrize("key", ["", "short", "x" * 256, "with space in the middle of it", "ключ" * 8])
def test_a_key_that_could_be_guessed_is_refused(house: House, key: str) -> None:
    shop = house.client()
    answer = shop.post("/v1/challenges", BODY, headers={b"Idempotency-Key": key.encode()})  # type: ignore[dict-item]
    assert answer.status_code == 422
    assert not house.voice.sent


def test_a_key_survives_a_rotation_of_the_root_secret(make: Make) -> None:
    old = make()
    key = old.key()
    old.client(key).post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    new = make(secret=["another-root-secret-0123456789-abcdefgh", "correct-horse-battery-staple-0123456789"])
    again = new.client(key).post("/v1/challenges", BODY, headers={"Idempotency-Key": KEY})
    assert again.headers["idempotency-replayed"] == "true"
    assert not new.voice.sent


def test_an_enrolment_is_never_kept(house: House) -> None:
    answer = house.client().post("/v1/totp/factors", {"subject": "alice"}, headers={"Idempotency-Key": KEY})
    assert answer.status_code == 422
