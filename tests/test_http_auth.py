"""API keys: shown once, kept as a digest, scoped, of one tenant, rotated and revoked."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from otpvoice import InvalidRequest, tenant_keys
from otpvoice.clock import ManualClock
from tests.http_tools import House, Make, houses


@pytest.fixture
def make(sqlite_template: Path, tmp_path: Path, clock: ManualClock) -> Iterator[Make]:
    """SQLite is enough: every test of the other files authenticates on both."""
    path = tmp_path / "otpvoice.db"
    path.write_bytes(sqlite_template.read_bytes())
    yield from houses(f"sqlite:///{path}", clock)


@pytest.fixture
def house(make: Make) -> House:
    return make()


PATH = "/v1/challenges/ch_" + "0" * 32


def status(house: House, authorization: str | None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = house.client(None).get(PATH, headers=headers)
    if answer.status_code == 401:
        assert answer.json()["type"] == "urn:otpvoice:problem:unauthenticated"
        assert answer.headers["www-authenticate"].startswith("Bearer")
    return answer.status_code


def test_bearer_and_basic_carry_the_same_key(house: House) -> None:
    key = house.key()
    key_id = key.split("_")[2]
    basic = base64.b64encode(f"{key_id}:{key}".encode()).decode()
    assert status(house, f"Bearer {key}") == status(house, f"bearer {key}") == status(house, f"Basic {basic}") == 404


def test_what_is_not_a_key_is_refused_alike(house: House) -> None:
    key = house.key()
    other = house.key()
    foreign_secret = "_".join([*key.split("_")[:3], other.split("_", 3)[3]])
    flipped = key.replace("live", "test")
    wrong = [
        None,
        "",
        "Bearer",
        f"Bearer {key}x",
        f"Bearer {key[:-1]}",
        f"Bearer {foreign_secret}",
        f"Bearer {flipped}",
        f"Token {key}",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        "Basic " + base64.b64encode(f"somebody:{key}".encode()).decode(),
        f"Bearer otpv_live_{'0' * 16}_{'A' * 43}",
    ]
    assert [status(house, authorization) for authorization in wrong] == [401] * len(wrong)
    client = house.client(None)
    twice = client.get(PATH, headers=[("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")])
    assert twice.status_code == 401
    bodies = {client.get(PATH, headers={"Authorization": item or ""}).content for item in wrong}
    assert len(bodies) == 1


def test_only_a_digest_is_stored(house: House) -> None:
    key = house.key()
    with house.deps.service._assembly.store.engine().connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_key")).all())
    assert key.split("_", 3)[3] not in stored
    made = house.run(house.deps.run(tenant_keys.create("shop", scopes=["read"])))
    assert str(made.key) not in repr(made)


def test_a_revoked_key_counts_no_more_at_once(house: House) -> None:
    key = house.key()
    assert status(house, f"Bearer {key}") == 404
    house.run(house.deps.run(tenant_keys.revoke(key.split("_")[2])))
    assert status(house, f"Bearer {key}") == 401
    with pytest.raises(InvalidRequest):
        house.run(house.deps.run(tenant_keys.revoke(key.split("_")[2])))


def test_a_rotated_key_overlaps_with_its_successor(house: House) -> None:
    old = house.key("shop", "verify")
    made = house.run(house.deps.run(tenant_keys.rotate(old.split("_")[2], overlap=timedelta(hours=1))))
    assert made.row.scopes == ("verify",)
    assert status(house, f"Bearer {old}") == status(house, f"Bearer {made.key}") == 404
    house.clock.advance(3600)
    assert status(house, f"Bearer {old}") == 401
    assert status(house, f"Bearer {made.key}") == 404


def test_a_key_of_a_tenant_that_is_gone_or_changed_its_kind_counts_no_more(make: Make) -> None:
    """A live key cannot become a test key by a change of the configuration, nor the other way round."""
    key = make().key("shop")
    test_key = make().key("shop-test")
    assert status(make(tenants={"bank": {}}), f"Bearer {key}") == 401
    assert status(make(tenants={"shop": {"test": True}, "shop-test": {}}), f"Bearer {key}") == 401
    assert status(make(tenants={"shop": {}, "shop-test": {}}), f"Bearer {test_key}") == 401


@pytest.mark.parametrize("scopes", [[], ["root"], ["issue", "everything"]])
def test_unknown_scopes_are_refused(house: House, scopes: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        house.run(house.deps.run(tenant_keys.create("shop", scopes=scopes)))
