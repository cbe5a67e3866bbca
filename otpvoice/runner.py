"""The two runners: the only place that holds an engine, an HTTP client and thread pools together."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar, cast

import httpx

from otpvoice.channels.http_errors import map_http_error
from otpvoice.errors import OutcomeUnknown, ServiceBusy
from otpvoice.flow import Call, Exchange, Flow, Hash, Step, TakeSeat, Transact
from otpvoice.store.engine import Store

T = TypeVar("T")

LONGEST_ANSWER = 1 << 20
"""Bytes of a provider's answer that are read; a longer one is not its API speaking."""
TRANSACTION_THREADS = 4
"""Threads that perform the transactions of asynchronous flows."""
CALL_THREADS = 4
"""Threads that perform the blocking functions of asynchronous flows (SMTP)."""
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
"""All that httpx raises: these four have no base of their own."""


def _no_cookies() -> CookieJar:
    """A jar that takes none: one client speaks for every tenant and delivery."""
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


class _Seat:
    """A place in the queue. It is given back exactly once: by whoever took it, or by the hash that it became."""

    __slots__ = ("_pool", "_taken")

    def __init__(self, pool: HashingPool) -> None:
        self._pool = pool
        self._taken = True

    def release(self) -> None:
        if self._taken:
            self._taken = False
            self._pool.leave()

    def hand_over(self) -> None:
        """The hashing thread owns the place from here on: a caller that goes away does not free it."""
        self._taken = False


class HashingPool:
    """Slow hashes on as many permits as CPUs, with a bounded queue before them.

    Memory is bounded by permits × the profile's memory, whatever the number of callers. A permit belongs to the
    thread that hashes: a client that hangs up frees nothing early (property P71).
    """

    def __init__(self, *, permits: int | None = None, queue: int = 64) -> None:
        self.permits = permits or _cpus()
        self.capacity = self.permits + queue
        self._permit = threading.BoundedSemaphore(self.permits)
        self._lock = threading.Lock()
        self._inside = 0

    def enter(self) -> _Seat:
        """Take a place, or raise :class:`~otpvoice.errors.ServiceBusy` at once."""
        with self._lock:
            if self._inside >= self.capacity:
                raise ServiceBusy
            self._inside += 1
        return _Seat(self)

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._inside -= 1

    def compute(self, job: Callable[[], bytes]) -> bytes:
        """Hash on the calling thread, which owns a place already, and give the place back."""
        try:
            with self._permit:
                return job()
        finally:
            self.leave()


def _cpus() -> int:
    """CPUs this process may use, which a container makes fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class Runner:
    """Performs flows on the calling thread. Safe to share between threads."""

    def __init__(self, store: Store, hashing: HashingPool, *, client: httpx.Client | None = None) -> None:
        self.store = store
        self.hashing = hashing
        self._client = client
        self._opening = threading.Lock()
        self._hashes: ThreadPoolExecutor | None = None

    def run(self, flow: Flow[T]) -> T:
        """Perform a flow to its end; its result is returned, its errors are raised."""
        try:
            step = next(flow)
            while True:
                try:
                    result = self._perform(step)
                except Exception as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as done:
            return cast(T, done.value)
        finally:
            flow.close()

    def close(self) -> None:
        """Finish what has begun, then close connections to providers and the database. It opens again when used."""
        with self._opening:
            hashes, self._hashes = self._hashes, None
        if hashes is not None:
            hashes.shutdown()
        if self._client is not None:
            self._client.close()
        self.store.close()

    def _hashing_threads(self) -> ThreadPoolExecutor:
        # Not the caller's thread: an allocator keeps what each thread that ever hashed has used, and two hundred
        # callers would hold many times the profile's memory.
        with self._opening:
            if self._hashes is None:
                self._hashes = ThreadPoolExecutor(self.hashing.permits, thread_name_prefix="otpvoice-hash")
            return self._hashes

    def _http(self) -> httpx.Client:
        # Made when first needed: loading the root certificates takes longer than opening a challenge.
        with self._opening:
            if self._client is None or self._client.is_closed:
                self._client = httpx.Client(follow_redirects=False, cookies=_no_cookies())
            return self._client

    def _perform(self, step: Step) -> Any:
        match step:
            case Transact():
                return self.store.transact(step.work, single=step.single)
            case Hash():
                cast(_Seat, step.seat).hand_over()
                return self._hashing_threads().submit(self.hashing.compute, step.job).result()
            case TakeSeat():
                return self.hashing.enter()
            case Exchange():
                return self._exchange(step.request)
            case Call():
                return step.work()

    def _exchange(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._http().send(request, stream=True)
            try:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    _bounded(body)
            finally:
                response.close()
        except _FAILURES as error:
            raise map_http_error(error) from error
        return _whole(response, bytes(body))


class AsyncRunner:
    """Performs flows on an event loop; transactions and hashes on small bounded thread pools of its own.

    A task that is cancelled stops waiting, but a transaction or a hash that has begun is finished by its thread:
    a charged attempt stays charged.
    """

    def __init__(
        self,
        store: Store,
        hashing: HashingPool,
        *,
        client: httpx.AsyncClient | None = None,
        threads: int = TRANSACTION_THREADS,
        calls: int = CALL_THREADS,
        closes_store: bool = True,
    ) -> None:
        self.store = store
        self._closes_store = closes_store
        self.hashing = hashing
        self._client = client
        self._client_loop: asyncio.AbstractEventLoop | None = None
        self._transactions = ThreadPoolExecutor(
            min(threads, store.pool_size), thread_name_prefix="otpvoice-transaction"
        )
        self._hashes = ThreadPoolExecutor(hashing.permits, thread_name_prefix="otpvoice-hash")
        self._calls = ThreadPoolExecutor(calls, thread_name_prefix="otpvoice-call")

    async def run(self, flow: Flow[T]) -> T:
        """Perform a flow to its end; its result is returned, its errors are raised."""
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._perform(step)
                except Exception as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as done:
            return cast(T, done.value)
        finally:
            flow.close()

    async def close(self) -> None:
        """Finish what has begun, then close connections to providers and the database."""
        if self._client is not None and self._client_loop in {None, asyncio.get_running_loop()}:
            await self._client.aclose()
        for pool in (self._transactions, self._hashes, self._calls):
            await asyncio.to_thread(pool.shutdown)
        if self._closes_store:
            self.store.close()

    async def _perform(self, step: Step) -> Any:
        match step:
            case Transact():
                return await self._in(self._transactions, lambda: self.store.transact(step.work, single=step.single))
            case Hash():
                cast(_Seat, step.seat).hand_over()
                # Not cancelled while it waits for a thread: the place it holds is given back by the hash alone.
                return await asyncio.shield(self._in(self._hashes, lambda: self.hashing.compute(step.job)))
            case TakeSeat():
                return self.hashing.enter()
            case Exchange():
                return await self._exchange(step.request)
            case Call():
                return await self._in(self._calls, step.work)

    def _http(self) -> httpx.AsyncClient:
        # Connections belong to the loop that opened them: a script that calls asyncio.run twice has two loops.
        loop = asyncio.get_running_loop()
        if self._client is None or self._client_loop not in {None, loop}:
            self._client = httpx.AsyncClient(follow_redirects=False, cookies=_no_cookies())
            self._client_loop = loop
        return self._client

    @staticmethod
    def _in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(pool, work)

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._http().send(request, stream=True)
            try:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    _bounded(body)
            finally:
                await response.aclose()
        except _FAILURES as error:
            raise map_http_error(error) from error
        return _whole(response, bytes(body))


def _bounded(body: bytearray) -> None:
    if len(body) > LONGEST_ANSWER:
        raise OutcomeUnknown(f"the provider's answer is longer than {LONGEST_ANSWER} bytes")


def _whole(response: httpx.Response, body: bytes) -> httpx.Response:
    """The response as if it had been read at once: decoded already, so without its transfer headers."""
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in {"content-encoding", "content-length"}]
    return httpx.Response(response.status_code, headers=headers, content=body, request=response.request)
