"""Processes: what one of them counts, locks or redeems holds for all, and outlives each."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trustme
from sqlalchemy import text

from otpvoice.store.engine import Store
from tests.conftest import _database, _maintain
from tests.http_processes import Installation, Phone, Process

NUMBERS = (f"+849{n:08}" for n in range(12345678, 12349999))


@pytest.fixture(scope="module")
def shared(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, Process, Process, str]]:
    """Two processes on one PostgreSQL; one of them is two workers."""
    name = f"test_http_{os.getpid()}"
    installation = Installation(
        tmp_path_factory.mktemp("served"), _database(postgres, name, create_from="otpvoice_template"), Phone()
    )
    installation.configure()
    first, second = installation.start("--workers", "2"), installation.start()
    yield installation, first.wait(), second.wait(), installation.key()
    installation.close()
    _maintain(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def hasty(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process that waits for nobody: for callers that never end."""
    directory = tmp_path_factory.mktemp("hasty")
    shutil.copy(sqlite_template, directory / "otpvoice.db")
    installation = Installation(directory, f"sqlite:///{directory / 'otpvoice.db'}", Phone())
    installation.configure(http="header_timeout = 0.5\nbody_timeout = 0.5\nverify_body = 4096")
    yield installation.start().wait()
    installation.close()


def opened(client: httpx.Client, number: str) -> str:
    answer = client.post("/v1/challenges", json={"recipient": number, "purpose": "login"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def attempts(installation: Installation, challenge_id: str) -> int:
    """How many were charged, and so compared at the most."""
    store = Store(installation.database_url)
    with store.engine().connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM event WHERE challenge_id = :id AND kind = 'attempt.charged'"),
            {"id": challenge_id},
        ).scalar_one()
    store.close()
    return int(found)


def told(process: Process, bytes_: bytes) -> bytes:
    """All that a process says to these bytes before it ends the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.settimeout(20)
        connection.sendall(bytes_)
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
    return answer


async def storm(urls: list[str], key: str, path: str, bodies: list[dict[str, str]]) -> list[httpx.Response]:
    """All at once, over all of these processes."""
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=len(bodies))
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=120) as client:
        waiting = (client.post(urls[number % len(urls)] + path, json=body) for number, body in enumerate(bodies))
        return list(await asyncio.gather(*waiting))


def test_200_parallel_guesses_at_two_processes_compare_five(
    shared: tuple[Installation, Process, Process, str],
) -> None:
    """P20: with the right code among them, the one thing that must not happen is a sixth comparison."""
    installation, first, second, key = shared
    number = next(NUMBERS)
    with installation.client(first, key) as client:
        challenge = opened(client, number)
        right = installation.phone.code(number)
        guesses = [f"{(int(right) + step) % 10**6:06}" for step in range(1, 200)] + [right]
        answers = asyncio.run(
            storm([first.url, second.url], key, f"/v1/challenges/{challenge}/verify", [{"code": g} for g in guesses])
        )
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) <= {200, 422, 503}, statuses
        assert attempts(installation, challenge) == 5
        told = Counter(answer.json()["attempts_left"] for answer in answers if answer.status_code == 422)
        assert [told[left] for left in (4, 3, 2, 1)] == [1] * 4 if not statuses[200] else statuses[200] == 1
        assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": right}).status_code == 422


def test_fifty_right_codes_at_once_are_one_success(shared: tuple[Installation, Process, Process, str]) -> None:
    """P7."""
    installation, first, second, key = shared
    number = next(NUMBERS)
    with installation.client(second, key) as client:
        challenge = opened(client, number)
        code = installation.phone.code(number)
    answers = asyncio.run(
        storm([first.url, second.url], key, f"/v1/challenges/{challenge}/verify", [{"code": code}] * 50)
    )
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] == 1
    assert set(statuses) <= {200, 422, 503}


def test_two_processes_share_every_limit_on_sending(shared: tuple[Installation, Process, Process, str]) -> None:
    """P31, P33: three live challenges for a recipient, whoever opens them."""
    installation, first, second, key = shared
    number = next(NUMBERS)
    answers = asyncio.run(
        storm([first.url, second.url], key, "/v1/challenges", [{"recipient": number, "purpose": "login"}] * 30)
    )
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {201: 3, 429: 27}
    installation.phone.code(number)
    assert sum(item["recipient"] == number for item in installation.phone.heard) <= 3


def test_one_idempotency_key_at_two_processes_opens_once(
    shared: tuple[Installation, Process, Process, str],
) -> None:
    _installation, first, second, key = shared
    number = next(NUMBERS)

    async def race() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"two-processes-{number}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            body = {"recipient": number, "purpose": "login"}
            waiting = (client.post(f"{process.url}/v1/challenges", json=body) for process in (first, second) * 10)
            return list(await asyncio.gather(*waiting))

    answers = asyncio.run(race())
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1


def test_a_proof_of_one_process_is_redeemed_once_over_all(
    shared: tuple[Installation, Process, Process, str],
) -> None:
    installation, first, second, key = shared
    number = next(NUMBERS)
    with installation.client(first, key) as client:
        challenge = opened(client, number)
        verified = client.post(f"/v1/challenges/{challenge}/verify", json={"code": installation.phone.code(number)})
        proof = verified.json()["proof"]
        assert client.get("/.well-known/jwks.json").content == httpx.get(f"{second.url}/.well-known/jwks.json").content
    answers = asyncio.run(storm([first.url, second.url], key, "/v1/proofs/redeem", [{"proof": proof}] * 20))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 422: 19}


def test_a_client_that_hangs_up_spends_its_attempt(shared: tuple[Installation, Process, Process, str]) -> None:
    """P21: what was asked is counted, whoever waits for the answer."""
    installation, first, _second, key = shared
    number = next(NUMBERS)
    with installation.client(first, key) as client:
        challenge = opened(client, number)
        right = installation.phone.code(number)
        body = json.dumps({"code": f"{(int(right) + 1) % 10**6:06}"}).encode()
        head = (
            f"POST /v1/challenges/{challenge}/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", first.port)) as connection:
                connection.sendall(head.encode() + body)
        deadline = time.monotonic() + 20
        while (left := client.get(f"/v1/challenges/{challenge}").json()["attempts_left"]) > 2:
            assert time.monotonic() < deadline
        assert left == 2
        assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": right}).status_code == 200


@pytest.mark.parametrize(
    "bytes_",
    [
        b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        (
            b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        b"GET /v1/ch\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\nConnection: close\r\nX-C: d\r\n e\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        (
            b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: 9\r\n\r\n{"
        ),
        b"GET /healthz HTTP/1.1\r\nHo",
        b"",
    ],
)
def test_what_is_no_request_ends_its_connection_and_nothing_else(hasty: Process, bytes_: bytes) -> None:
    """Headers without end, two lengths, smuggling, TLS to a plain port, bytes that stop coming: all end."""
    answer = told(hasty, bytes_)
    assert b" 200 " not in answer.split(b"\r\n", 1)[0]
    assert b" 5" not in answer.split(b"\r\n", 1)[0]
    assert httpx.get(f"{hasty.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        ("Content-Length: 1000", b"408"),
        ("Content-Length: 100000", b"413"),
        ("Transfer-Encoding: chunked", b"408"),
    ],
)
def test_who_is_answered_and_sends_on_is_hung_up_on(hasty: Process, framing: str, status: bytes) -> None:
    """A byte now and then, for ever, would hold a connection for ever; and 4096 of them every place there is."""
    head = f"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    answer, ended = b"", False
    with socket.create_connection(("127.0.0.1", hasty.port)) as connection:
        connection.sendall(head.encode() + (b"1000\r\n" if "chunked" in framing else b""))
        connection.settimeout(0.1)
        for _ in range(400):
            try:
                if not (chunk := connection.recv(65536)):
                    ended = True
                    break
                answer += chunk
            except TimeoutError:
                connection.sendall(b" ")
            except ConnectionError:
                ended = True
                break
    assert ended
    assert answer.split(b" ")[1] == status


def test_what_is_no_http_after_an_answer_is_no_trouble(hasty: Process) -> None:
    """The answer is there already; a second one is neither sent nor tried."""
    head = b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n"
    with socket.create_connection(("127.0.0.1", hasty.port)) as connection:
        connection.settimeout(20)
        connection.sendall(head + b" " * 0x8000 + b"\r\n")
        answer = connection.recv(65536)
        connection.sendall(b"ZZZ\r\n")
        while connection.recv(65536):
            pass
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert "Fatal error" not in hasty.log.read_text()
    assert "LocalProtocolError" not in hasty.log.read_text()


def test_a_body_with_two_lengths_is_refused_and_its_connection_ends(hasty: Process) -> None:
    """RFC 9112 6.3: a proxy that takes the other length would hand us one caller's body as another's request."""
    smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = told(hasty, head % len(smuggled) + smuggled)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_the_numbers_of_all_workers_are_one(shared: tuple[Installation, Process, Process, str]) -> None:
    _installation, first, _second, _key = shared
    for _ in range(20):
        httpx.get(f"{first.url}/no-such-page")
    counted = httpx.get(f"{first.url}/metrics").text
    line = next(line for line in counted.splitlines() if 'route="unmatched"' in line and "requests_total" in line)
    assert float(line.rsplit(" ", 1)[1]) >= 20


def test_no_log_of_all_this_holds_a_code_a_number_or_a_key(
    shared: tuple[Installation, Process, Process, str],
) -> None:
    """P77, over everything that this module did."""
    installation, first, _second, key = shared
    number = next(NUMBERS)
    with installation.client(first, key) as client:
        challenge = opened(client, number)
        code = installation.phone.code(number)
        assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": code}).status_code == 200
    written = "".join(process.log.read_text() for process in installation.processes)
    assert challenge in written
    for secret in (key, key.rsplit("_", 1)[1]):
        assert secret not in written
    for message in installation.phone.heard:
        assert message["recipient"] not in written
        assert message["recipient"][1:] not in written
        assert f'"{message["code"]}"' not in written


def test_a_restart_keeps_locks_and_what_was_queued(sqlite_template: Path, tmp_path: Path) -> None:
    """And SIGTERM ends a process in good order."""
    shutil.copy(sqlite_template, tmp_path / "otpvoice.db")
    installation = Installation(tmp_path, f"sqlite:///{tmp_path / 'otpvoice.db'}", Phone())
    installation.configure("[tenants.shop.policy]\nlock_after = 3")
    try:
        key, number = installation.key(), next(NUMBERS)
        process = installation.start().wait()
        with installation.client(process, key) as client:
            challenge = opened(client, number)
            code = installation.phone.code(number)
            for step in (1, 2, 3):
                wrong = f"{(int(code) + step) % 10**6:06}"
                assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": wrong}).status_code == 422
            assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": code}).status_code == 429
        process.stop()
        assert "Application shutdown complete" in process.log.read_text()
        process = installation.start().wait()
        with installation.client(process, key) as client:
            assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": code}).status_code == 429
        process.stop(signal.SIGKILL)
    finally:
        installation.close()


@pytest.fixture
def alone(sqlite_template: Path, tmp_path: Path) -> Iterator[Installation]:
    """An installation of its own, on SQLite."""
    shutil.copy(sqlite_template, tmp_path / "otpvoice.db")
    installation = Installation(tmp_path, f"sqlite:///{tmp_path / 'otpvoice.db'}", Phone())
    yield installation
    installation.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_waits_for_a_request_and_takes_no_other(alone: Installation, workers: str) -> None:
    """What has begun gets its answer, on a connection that ends with it."""
    alone.configure()
    key = alone.key()
    process = alone.start("--workers", workers).wait()
    body = json.dumps({"recipient": next(NUMBERS), "purpose": "login"}).encode()
    head = (
        f"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.settimeout(60)
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        process.popen.send_signal(signal.SIGTERM)
        process.wrote("Waiting for connections to close")
        connection.sendall(body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 201 "), answer
    assert process.popen.wait(60) in {0, -signal.SIGTERM}
    assert "Application shutdown complete" in process.log.read_text()
    assert "Cancel" not in process.log.read_text()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", process.port))


def test_sigterm_waits_for_a_delivery(alone: Installation) -> None:
    """The provider has been asked: what it says is written down, and nobody is rung twice."""
    alone.configure()
    key, number = alone.key(), next(NUMBERS)
    alone.phone.picks_up.clear()
    process = alone.start().wait()
    with alone.client(process, key) as client:
        challenge = opened(client, number)
    code = alone.phone.code(number)
    process.popen.send_signal(signal.SIGTERM)
    process.wrote("1 deliveries are under way")
    alone.phone.picks_up.set()
    assert process.popen.wait(60) in {0, -signal.SIGTERM}
    process = alone.start().wait()
    with alone.client(process, key) as client:
        [delivery] = client.get(f"/v1/challenges/{challenge}").json()["deliveries"]
        assert delivery["state"] in {"accepted", "delivered"}
        assert client.post(f"/v1/challenges/{challenge}/verify", json={"code": code}).status_code == 200
    assert len(alone.phone.heard) == 1


def test_tls_ends_here_where_there_is_a_certificate(alone: Installation) -> None:
    """P90: and whoever speaks plain HTTP to it gets no answer."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    for name, blob in (("cert.pem", certificate.cert_chain_pems[0]), ("key.pem", certificate.private_key_pem)):
        (alone.directory / name).write_bytes(blob.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    alone.configure(http='tls_certificate = "cert.pem"\ntls_key = "key.pem"')
    process = alone.start(tls=context).wait()
    with alone.client(process, alone.key()) as client:
        opened(client, next(NUMBERS))
        assert "strict-transport-security" in client.get("/healthz").headers
    with pytest.raises(httpx.TransportError):
        httpx.get(process.url.replace("https", "http") + "/healthz", timeout=20)
