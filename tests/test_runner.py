"""The runners: the bounded hashing pool, seats that always come back, and exchanges that cannot be abused."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from otpvoice.clock import ManualClock
from otpvoice.errors import CodeMismatch, DeliveryError, OutcomeUnknown, ProviderUnavailable, ServiceBusy
from otpvoice.flow import Flow, call, exchange, slow_hash, take_seat, transact
from otpvoice.runner import LONGEST_ANSWER, AsyncRunner, HashingPool, Runner
from otpvoice.store.engine import Store
from tests.conftest import NUMBER, Otp
from tests.core_tools import embedded

Answer = Callable[[httpx.Request], httpx.Response]
WAIT = 20
"""Seconds after which a test that waits for a thread has failed."""


class Colour:
    """One runner, performed to the end of a flow whatever its colour."""

    def __init__(self, colour: str, hashing: HashingPool, answer: Answer | None = None) -> None:
        self.colour, self.hashing = colour, hashing
        self.store = Store("sqlite://", clock=ManualClock())
        transport = httpx.MockTransport(answer or (lambda _request: httpx.Response(200)))
        self.sync = Runner(self.store, hashing, client=httpx.Client(transport=transport))
        self.loop = asyncio.new_event_loop()
        self.asynchronous = AsyncRunner(self.store, hashing, client=httpx.AsyncClient(transport=transport))

    def run(self, flow: Flow[Any]) -> Any:
        if self.colour == "sync":
            return self.sync.run(flow)
        return self.loop.run_until_complete(self.asynchronous.run(flow))

    def close(self) -> None:
        self.sync.close()
        self.loop.run_until_complete(self.asynchronous.close())
        self.loop.close()


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Colour]]:
    made: list[Colour] = []

    def build(*, permits: int = 2, queue: int = 4, answer: Answer | None = None) -> Colour:
        made.append(Colour(request.param, HashingPool(permits=permits, queue=queue), answer))
        return made[-1]

    yield build
    for item in made:
        item.close()


def hashed(job: Callable[[], bytes]) -> Flow[bytes]:
    """As issuing and verifying do it: the place first, given back whatever happens."""
    seat = yield from take_seat()
    try:
        return (yield from slow_hash(seat, job))
    finally:
        seat.release()


# --- The hashing pool


def test_places_are_permits_and_queue() -> None:
    """One more is ``ServiceBusy`` at once, without waiting; a place given back is there again."""
    pool = HashingPool(permits=2, queue=3)
    seats = [pool.enter() for _ in range(5)]
    with pytest.raises(ServiceBusy):
        pool.enter()
    seats[0].release()
    seats[0].release()
    pool.enter()
    with pytest.raises(ServiceBusy):
        pool.enter()


def test_a_queue_of_none() -> None:
    """As many as hash, and nobody waits."""
    pool = HashingPool(permits=1, queue=0)
    pool.enter()
    with pytest.raises(ServiceBusy):
        pool.enter()


def test_permits_are_the_cpus() -> None:
    """Those this process may use."""
    import os

    assert HashingPool().permits == len(os.sched_getaffinity(0))
    assert HashingPool(permits=7).permits == 7


def test_no_more_hash_at_once_than_there_are_permits() -> None:
    """P71: twelve callers, two permits: two are inside at any time, and all are served."""
    pool = HashingPool(permits=2, queue=10)
    both, inside, most, lock = threading.Barrier(2), [0], [0], threading.Lock()

    def job() -> bytes:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        both.wait(WAIT)
        with lock:
            inside[0] -= 1
        return b"x"

    for _ in range(12):
        pool.enter().hand_over()
    threads = [threading.Thread(target=pool.compute, args=(job,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)
    assert (most[0], pool._inside) == (2, 0)


def test_a_hash_that_breaks_gives_its_place_back() -> None:
    """And its permit."""
    pool = HashingPool(permits=1, queue=0)

    def broken() -> bytes:
        raise MemoryError

    for _ in range(3):
        pool.enter().hand_over()
        with pytest.raises(MemoryError):
            pool.compute(broken)
    assert pool._inside == 0
    pool.enter().hand_over()
    assert pool.compute(lambda: b"x") == b"x"


# --- Seats, on every way out of a flow


def ends(otp: Otp) -> Iterator[Callable[[], Any]]:
    """Every way in which issuing, resending and verifying can end."""
    service = otp.service
    challenge = service.issue_code(NUMBER, purpose="login")
    code = otp.code
    yield lambda: service.verify_code(challenge.id, otp.wrong(code))
    yield lambda: service.verify_code(challenge.id, "x")
    yield lambda: service.verify_code(challenge.id, code, subject="mallory")
    yield lambda: service.verify_code("ch_" + "0" * 32, code)
    yield lambda: service.resend_code(challenge.id)
    yield lambda: service.resend_code("ch_" + "0" * 32)
    yield lambda: service.issue_code("+3290012345", purpose="login")
    yield lambda: service.issue_code(NUMBER, purpose="unknown")
    yield lambda: service.verify_code(challenge.id, code)
    yield lambda: service.verify_code(challenge.id, code)
    otp.voice.fail_with(ProviderUnavailable("down"))
    yield lambda: service.issue_code(NUMBER, purpose="login")
    otp.voice.fail_with(RuntimeError("a bug"))
    yield lambda: service.issue_code(NUMBER, purpose="login")
    yield lambda: service.issue_code(NUMBER, purpose="login")
    yield lambda: service.issue_code(NUMBER, purpose="login")


def test_every_way_out_gives_the_seat_back(otp: Otp) -> None:
    """Right, wrong, malformed, refused, failed or broken: no place is lost, none given back twice."""
    pool = otp.service._assembly.hashing
    outcomes = []
    for operation in ends(otp):
        try:
            operation()
            outcomes.append("returned")
        except Exception as error:
            outcomes.append(type(error).__name__)
        assert pool._inside == 0, outcomes
    assert len(set(outcomes)) >= 7, outcomes


@pytest.mark.parametrize("broken_at", range(12))
def test_a_flow_that_breaks_at_any_step_gives_the_seat_back(
    broken_at: int, sqlite_template: Any, tmp_path: Any
) -> None:
    """The database or the channel fails with anything at any step of issuing and verifying."""
    with embedded(sqlite_template, tmp_path) as otp:
        runner, pool = otp.service._runner, otp.service._assembly.hashing
        perform, steps = runner._perform, [0]

        def breaking(step: Any) -> Any:
            steps[0] += 1
            if steps[0] == broken_at + 1:
                raise RuntimeError("broken")
            return perform(step)

        runner._perform = breaking
        try:
            challenge = otp.service.issue_code(NUMBER, purpose="login")
            sent = otp.voice.sent  # None, where it was the channel that broke: the outcome is unknown then.
            otp.service.verify_code(challenge.id, sent[-1].code if sent else "000000")
        except (RuntimeError, CodeMismatch) as error:
            assert str(error) == "broken" or isinstance(error, CodeMismatch)  # noqa: PT017
        assert pool._inside == 0


def test_a_seat_is_given_back_when_the_flow_is_abandoned(make: Callable[..., Colour]) -> None:
    """A caller that goes away before its hash began holds nothing."""
    colour = make()
    flow = hashed(lambda: b"x")
    next(flow)
    flow.send(colour.hashing.enter())
    assert colour.hashing._inside == 1
    flow.close()
    assert colour.hashing._inside == 0


def test_a_cancelled_task_keeps_the_permit_until_its_hash_is_done() -> None:
    """P71: hanging up frees nothing early, so memory stays bounded by the permits."""
    hashing = HashingPool(permits=1, queue=0)
    started, go_on = threading.Event(), threading.Event()

    def job() -> bytes:
        started.set()
        assert go_on.wait(WAIT)
        return b"x"

    async def story() -> None:
        runner = AsyncRunner(Store("sqlite://"), hashing)
        task = asyncio.create_task(runner.run(hashed(job)))
        await asyncio.to_thread(started.wait, WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ServiceBusy):
            await runner.run(hashed(lambda: b"y"))
        go_on.set()
        await runner.close()
        assert hashing._inside == 0

    asyncio.run(story())


def test_a_task_cancelled_while_its_hash_waits_gives_the_place_back_once() -> None:
    """The hash that nobody waits for is done all the same, and then its place is free."""
    hashing = HashingPool(permits=1, queue=1)
    started, go_on, done = threading.Event(), threading.Event(), []

    def first() -> bytes:
        started.set()
        assert go_on.wait(WAIT)
        return b"x"

    async def story() -> None:
        runner = AsyncRunner(Store("sqlite://"), hashing)
        held = asyncio.create_task(runner.run(hashed(first)))
        await asyncio.to_thread(started.wait, WAIT)
        waiting = asyncio.create_task(runner.run(hashed(lambda: done.append(1) or b"y")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        assert await held == b"x"
        await runner.close()
        assert (done, hashing._inside) == ([1], 0)

    asyncio.run(story())


def test_a_cancelled_transaction_is_finished() -> None:
    """A charged attempt stays charged: the thread commits what it began."""
    started, go_on, finished = threading.Event(), threading.Event(), []

    def work(_connection: Any, _now: Any) -> None:
        started.set()
        assert go_on.wait(WAIT)
        finished.append(1)

    async def story() -> None:
        runner = AsyncRunner(Store("sqlite://"), HashingPool())
        task = asyncio.create_task(runner.run(transact(work)))
        await asyncio.to_thread(started.wait, WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await runner.close()
        assert finished == [1]

    asyncio.run(story())


# --- Performing flows


def test_results_and_errors_come_back_at_their_step(make: Callable[..., Colour]) -> None:
    """A flow may catch what a step raised and go on."""

    def broken() -> None:
        raise KeyError("mine")

    def story() -> Flow[list[Any]]:
        found: list[Any] = [(yield from call(lambda: 1)), (yield from transact(lambda _connection, _now: 2))]
        try:
            yield from call(broken)
        except KeyError as error:
            found.append(error.args[0])
        found.append((yield from hashed(lambda: b"3")))
        return found

    assert make().run(story()) == [1, 2, "mine", b"3"]


def test_an_error_that_nobody_catches_is_raised_and_the_flow_closed(make: Callable[..., Colour]) -> None:
    """With its ``finally`` run."""
    closed = []

    def story() -> Flow[None]:
        try:
            yield from call(lambda: 1 / 0)
        finally:
            closed.append(1)

    with pytest.raises(ZeroDivisionError):
        make().run(story())
    assert closed == [1]


# --- Exchanges with providers


def got(colour: Colour, url: str = "http://provider.test/") -> httpx.Response:
    response: httpx.Response = colour.run(exchange(httpx.Request("POST", url, content=b"{}")))
    return response


@pytest.mark.parametrize("status", [200, 204, 301, 404, 500])
def test_any_answer_is_handed_over_whole(make: Callable[..., Colour], status: int) -> None:
    """HTML, errors and redirects alike: what they mean is the channel's business. Redirects are not followed."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"location": "http://elsewhere.test/"}, html="<h1>Oops</h1>")

    response = got(make(answer=answer))
    assert (response.status_code, response.text) == (status, "<h1>Oops</h1>")
    assert asked == ["http://provider.test/"]


def test_a_compressed_answer_is_read_once(make: Callable[..., Colour]) -> None:
    """Decoded, without the headers that described its transfer."""
    body = gzip.compress(b'{"status": "0"}')
    response = got(make(answer=lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, content=body)))
    assert response.json() == {"status": "0"}
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("compressed", [False, True])
def test_an_endless_answer_is_cut_off(make: Callable[..., Colour], compressed: bool) -> None:
    """A megabyte is read, also of a compressed bomb; the request had left, so the outcome is unknown."""
    body = b"x" * (LONGEST_ANSWER + 1)
    headers = {"content-encoding": "gzip"} if compressed else {}
    content = gzip.compress(body) if compressed else body
    with pytest.raises(OutcomeUnknown, match="longer"):
        got(make(answer=lambda _: httpx.Response(200, headers=headers, content=content)))
    assert got(make(answer=lambda _: httpx.Response(200, content=body[1:]))).status_code == 200


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), ProviderUnavailable),
        (httpx.ConnectTimeout("slow"), ProviderUnavailable),
        (httpx.PoolTimeout("busy"), ProviderUnavailable),
        (httpx.ReadTimeout("slow"), OutcomeUnknown),
        (httpx.WriteTimeout("slow"), OutcomeUnknown),
        (httpx.ReadError("reset"), OutcomeUnknown),
        (httpx.RemoteProtocolError("rubbish"), OutcomeUnknown),
        (httpx.DecodingError("rubbish"), OutcomeUnknown),
    ],
)
def test_what_can_have_left_is_unknown(
    make: Callable[..., Colour], error: httpx.HTTPError, expected: type[DeliveryError]
) -> None:
    """Design 8: only where it cannot have left may it be sent again. The URL is not repeated."""

    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(expected) as mapped:
        got(make(answer=answer), url="http://provider.test/?code=482913")
    assert "482913" not in str(mapped.value)


def test_a_broken_encoding_is_unknown(make: Callable[..., Colour]) -> None:
    """It says gzip and is none: our error."""
    with pytest.raises(OutcomeUnknown):
        got(make(answer=lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=_Stream([b"no"]))))


def test_cookies_are_not_kept(make: Callable[..., Colour]) -> None:
    """One client speaks for every tenant: with the clients of our own, what one answer sets no other request says."""
    colour = make()
    for client in (Runner(colour.store, colour.hashing)._http(),):
        client.cookies.extract_cookies(
            httpx.Response(
                200, headers={"set-cookie": "session=1"}, request=httpx.Request("GET", "http://provider.test/")
            )
        )
        assert len(client.cookies.jar) == 0
        client.close()


def test_two_loops_one_after_the_other() -> None:
    """A script may call ``asyncio.run`` twice."""
    colour = Colour("async", HashingPool())
    own = AsyncRunner(colour.store, colour.hashing)

    async def client() -> httpx.AsyncClient:
        return own._http()

    first, second = asyncio.run(client()), asyncio.run(client())
    assert first is not second
    asyncio.run(own.close())
    colour.close()


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks

    async def __aiter__(self) -> Any:
        for chunk in self.chunks:
            yield chunk
