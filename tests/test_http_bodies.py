"""Bad input: refused with a documented status, before anything is evaluated; never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.conftest import NUMBER
from tests.http_tools import Client, House, Make, houses

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def house(sqlite_template: Any, tmp_path: Any, clock: Any) -> Iterator[House]:
    """SQLite is enough: the store is not asked."""
    path = tmp_path / "otpvoice.db"
    path.write_bytes(sqlite_template.read_bytes())
    makers: Iterator[Make] = houses(f"sqlite:///{path}", clock)
    yield next(makers)(http={"body_timeout": 0.2})
    next(makers, None)


@pytest.fixture
def shop(house: House) -> Client:
    return house.client()


def raw(shop: Client, body: bytes | str, path: str = "/v1/challenges", **headers: str) -> Any:
    content = body.encode() if isinstance(body, str) else body
    return shop.post(path, content=content, headers={**JSON, **headers})


@pytest.mark.parametrize(
    "body",
    [
        '{"recipient":"+84912345678","recipient":"+84987654321","purpose":"login"}',
        '{"recipient":"+84912345678","purpose":"login","binding":{"payee":"a","payee":"b"}}',
        '{"recipient":NaN,"purpose":"login"}',
        '{"recipient":Infinity,"purpose":"login"}',
        '{"recipient":"+84912345678","purpose":"\\ud800"}',
        "{",
        "{} {}",
        "[" * 8000,
        "\x00",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        "1" * 5000,
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused(house: House, shop: Client, body: bytes | str) -> None:
    answer = raw(shop, body)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:otpvoice:problem:malformed-body")
    assert not house.voice.sent


@pytest.mark.parametrize(
    "members",
    [
        {"recipient": [NUMBER]},
        {"recipient": {"number": NUMBER}},
        {"recipient": 84912345678},
        {"recipient": True},
        {"recipient": f"{NUMBER},+84987654321"},
        {"recipient": f"{NUMBER};+84987654321"},
        {"recipient": f"{NUMBER}\r\nBcc: x@example.org"},
        {"recipient": "a@example.org\r\nBcc: b@example.org"},
        {"recipient": "x" * 255},
        {"recipient": ""},
        {"recipient": None},
        {"purpose": 1},
        {"purpose": "nobody-has-this"},
        {"purpose": ""},
        {"channel": ["voice"]},
        {"channel": "fax"},
        {"locale": "../../etc/passwd"},
        {"binding": {}},
        {"binding": {"amount": 10, "currency": "EUR"}},
        {"binding": {"amount": "1e5", "currency": "EUR"}},
        {"binding": {"payee": "x\ny"}},
        {"binding": {"note": "x"}},
        {"subject": "a\x00b"},
        {"subject": "x" * 257},
        {"client": "\u202e"},
        {"attempts": 0, "verified": True, "ttl": 9999},
        {"tenant": "bank"},
    ],
)
def test_wrong_types_and_unknown_members_are_refused_and_nothing_is_sent(
    house: House, shop: Client, members: dict[str, Any]
) -> None:
    """P16, P88: one scalar recipient, no mass assignment."""
    answer = shop.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login", **members})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert not house.voice.sent


@pytest.mark.parametrize("code", ["482913", "0x12", "1e5", "true", "null", '["482913"]', '{"a":1}', '""'])
def test_a_code_that_is_no_text_is_refused_and_not_counted(house: House, shop: Client, code: str) -> None:
    """P45: a number has lost its leading zeros."""
    opened = shop.open()
    answer = raw(shop, f'{{"code": {code}}}', f"/v1/challenges/{opened['id']}/verify")
    assert answer.status_code in {400, 422}
    assert answer.json()["type"] != "urn:otpvoice:problem:verification-failed"
    assert shop.get(f"/v1/challenges/{opened['id']}").json()["attempts_left"] == 5


def test_no_answer_repeats_what_was_sent(shop: Client) -> None:
    """A validation error that echoes its input would put codes into clients' logs."""
    opened = shop.open()
    answer = shop.verify(opened["id"], "918273645546372819" * 4)
    assert answer.status_code == 422
    assert "918273645546372819" not in answer.text
    assert "918273" not in shop.post(f"/v1/challenges/{opened['id']}/verify", {"code": 918273, "x": "918273"}).text


@pytest.mark.parametrize(
    ("path", "most"), [("/v1/challenges", 16384), ("/v1/challenges/ch_1/verify", 4096), ("/v1/reports/a/b", 16384)]
)
def test_a_body_has_its_limit(house: House, shop: Client, path: str, most: int) -> None:
    """P47: announced or not, 10 MB cost no more than the limit."""
    fitting = raw(shop, json.dumps({"code": "1" * (most - 20)}), path)
    assert fitting.status_code in {404, 422}
    announced = raw(shop, b"x" * (10 << 20), path)
    assert announced.status_code == 413
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1024
            yield b" " * 1024

    async def send() -> Any:
        return await shop.http.post(path, content=endless(), headers=JSON)

    assert house.run(send()).status_code == 413
    assert taken <= most + 4096


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "9" * 30, ""])
def test_a_length_that_is_none_is_refused(shop: Client, length: str) -> None:
    assert shop.post("/v1/challenges", content=b"", headers={**JSON, "Content-Length": length}).status_code == 413


def test_a_slow_body_is_given_up(house: House, shop: Client) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def send() -> Any:
        return await shop.http.post("/v1/challenges", content=trickle(), headers=JSON)

    answer = house.run(send())
    assert (answer.status_code, answer.json()["type"]) == (408, "urn:otpvoice:problem:body-timeout")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": ""},
    ],
)
def test_only_plain_json_is_read(shop: Client, headers: dict[str, str]) -> None:
    answer = shop.post("/v1/challenges", content=b'{"recipient":"+84912345678","purpose":"login"}', headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "path",
    [
        "/v1/challenges/../keys",
        "/v1//challenges",
        "/v1/challenges/",
        "/v1/challenges/%2e%2e/events",
        "/v1/challenges/ch_%00",
        "/v1/challenges/..%2f..%2fetc%2fpasswd",
        "/V1/challenges/ch_1",
        "/v1/challenges/ch_1;x=1",
        "/v1/challenges/" + "a" * 129,
        "/.env",
        "/admin",
        "/%0d%0aSet-Cookie:x=1",
    ],
)
def test_path_tricks_lead_nowhere(shop: Client, path: str) -> None:
    answer = shop.get(path)
    assert answer.status_code in {404, 405, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers


def test_the_query_string_carries_nothing(house: House, shop: Client) -> None:
    """P80: what is there is in every proxy's log."""
    answer = shop.post("/v1/challenges?recipient=%2B84912345678", {"recipient": NUMBER, "purpose": "login"})
    assert answer.status_code == 422
    assert not house.voice.sent


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_methods_are_restricted(house: House, shop: Client, method: str) -> None:
    """P19: nothing but POST verifies."""
    opened = shop.open()
    answer = shop.request(method, f"/v1/challenges/{opened['id']}/verify")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert shop.verify(opened["id"], house.code).status_code == 200


def test_a_client_that_hangs_up_in_the_middle_of_its_body_changes_nothing(house: House) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/challenges",
        "raw_path": b"/v1/challenges",
        "query_string": b"",
        "headers": [(b"content-length", b"10")],
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "http_version": "1.1",
        "root_path": "",
    }
    house.run(house.app(scope, receive, send))
    assert not sent


def test_hostile_strings_are_only_strings(house: House, shop: Client) -> None:
    """P89: nothing from outside is part of a statement."""
    hostile = ["' OR 1=1 --", '"; DROP TABLE challenge; --', "%s%n", "${jndi:ldap://x}", "{{7*7}}", "\\", "\u0130"]
    for text in hostile:
        for member in ("subject", "client"):
            assert shop.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login", member: text}).status_code in {
                201,
                422,
                429,
            }
        assert shop.get(f"/v1/challenges/{text}").status_code in {404, 405}
        assert shop.verify("ch_" + "0" * 32, text).status_code == 422
    assert shop.get("/readyz").status_code == 200
