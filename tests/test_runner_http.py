"""The runners' HTTP: every failure of httpx is a DeliveryError, and nothing is carried from one request to the next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from otpvoice.channels.http_errors import HTTPX_ERRORS
from otpvoice.errors import DeliveryError, ProviderMisconfigured
from otpvoice.flow import Exchange, Flow
from otpvoice.runner import AsyncRunner, HashingPool, Runner
from otpvoice.store.engine import Store

Handler = Callable[[httpx.Request], httpx.Response]


def made(kind: type[Exception]) -> Exception:
    """An exception of a class whose constructors differ."""
    for arguments in ((), ("it failed",)):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    return kind("it failed", request=httpx.Request("GET", "http://x"), response=httpx.Response(500))  # type: ignore[call-arg]


def ask(url: str, times: int = 1) -> Flow[list[httpx.Response]]:
    answers = []
    for _ in range(times):
        answers.append((yield Exchange(httpx.Request("GET", url))))
    return answers


def run(
    colour: str, flow: Flow[list[httpx.Response]], tmp_path: Path, handler: Handler | None = None
) -> httpx.Client | httpx.AsyncClient | None:
    """Run a flow, with a client of this handler's or the runner's own; returns the client."""
    store, hashing = Store(f"sqlite:///{tmp_path}/x.db"), HashingPool(permits=1)
    transport = None if handler is None else httpx.MockTransport(handler)
    if colour == "sync":
        runner = Runner(store, hashing, client=None if transport is None else httpx.Client(transport=transport))
        try:
            runner.run(flow)
        finally:
            runner.close()
        return runner._client

    async def once() -> httpx.AsyncClient | None:
        client = None if transport is None else httpx.AsyncClient(transport=transport)
        runner = AsyncRunner(store, hashing, client=client)
        try:
            await runner.run(flow)
        finally:
            await runner.close()
        return runner._client

    return asyncio.run(once())


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("kind", HTTPX_ERRORS)
def test_every_exception_of_httpx(kind: type[Exception], colour: str, tmp_path: Path) -> None:
    """What may follow is said by :data:`HTTPX_ERRORS`; none of them comes out raw, to be taken for a broken channel."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise made(kind)

    with pytest.raises(DeliveryError) as raised:
        run(colour, ask("http://provider.example/"), tmp_path, fail)
    assert type(raised.value) is HTTPX_ERRORS[kind][0]
    assert raised.value.code == kind.__name__


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_body_that_breaks_off(colour: str, tmp_path: Path) -> None:
    """While the answer is read, too."""

    class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"{"
            raise httpx.StreamClosed

        async def __aiter__(self):
            yield b"{"
            raise httpx.StreamClosed

    with pytest.raises(DeliveryError) as raised:
        run(colour, ask("http://provider.example/"), tmp_path, lambda _: httpx.Response(200, stream=Broken()))
    assert raised.value.code == "StreamClosed"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_other_exceptions_stay_what_they_are(colour: str, tmp_path: Path) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(colour, ask("http://provider.example/"), tmp_path, fail)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_no_cookie_is_kept(colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client speaks for every tenant and delivery: what one answer sets is neither kept nor sent again."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    cookies: list[str | None] = []

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.append(self.headers["Cookie"])
            self.send_response(200)
            self.send_header("Set-Cookie", "session=of-the-first; Path=/")
            self.send_header("Set-Cookie", "route=3; Max-Age=600")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        client = run(colour, ask(f"http://127.0.0.1:{server.server_address[1]}/", times=3), tmp_path)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert cookies == [None] * 3
    assert client is not None
    assert list(client.cookies.jar) == []


def test_an_invalid_url_is_a_misconfiguration(tmp_path: Path) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.InvalidURL("https://user:secret@")

    with pytest.raises(ProviderMisconfigured) as raised:
        run("sync", ask("http://provider.example/"), tmp_path, fail)
    assert "secret" not in str(raised.value)
