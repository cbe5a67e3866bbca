"""One run of a simulator: its socket, its thread, its event loop, and a clean end of all three."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from otpvoice.simulator.admin import Admin
from otpvoice.simulator.answers import Abort
from otpvoice.simulator.app import Api

T = TypeVar("T")

START_SECONDS = 10.0
STOP_SECONDS = 1.0


class _Protocol(H11Protocol):
    """Keeps no access log: the query of a text message by GET holds number and code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class _Server(uvicorn.Server):
    """uvicorn without its ticks of 0.1 s, so that starting and stopping take a few milliseconds."""

    def __init__(self, config: uvicorn.Config, api: Api, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._api = api
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def main_loop(self) -> None:
        await self._api.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        # Python 3.11 leaks a connection that is accepted and not yet set up when its server is closed: so accept no
        # more, let those become connections, cut all, and close the server last.
        for listener in sockets or []:
            loop.remove_reader(listener)
        await self._api.pusher.cancel()
        deadline = loop.time() + STOP_SECONDS
        while loop.time() < deadline:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if not others and not self.server_state.connections:
                break
            await (asyncio.wait(others, timeout=0.01) if others else asyncio.sleep(0))
        for server in self.servers:
            server.close()
            await server.wait_closed()


class Running:
    """One run: the listening socket, its thread and its event loop."""

    def __init__(self, address: tuple[str, int], make_api: Callable[[Abort], Api]) -> None:
        self._socket = listen(*address)
        self.port: int = self._socket.getsockname()[1]
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._make_api = make_api
        self._thread = threading.Thread(target=self._work, name=f"simulated-itnio-{self.port}", daemon=True)
        self._thread.start()
        if not self._started.wait(START_SECONDS) or self._failure is not None:
            self._socket.close()
            raise RuntimeError("the simulator did not start") from self._failure

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # Handed to the thread that waits in the constructor
            self._failure = failure
        finally:
            self._started.set()
            self._socket.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.api = self._make_api(self._abort)
        self.admin = Admin(self.api)
        self.api.routes.include_router(self.admin.router())
        config = uvicorn.Config(
            self.api,
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        self._server = _Server(config, self.api, self._started.set)
        await self._server.serve(sockets=[self._socket])

    def _abort(self, client: tuple[str, int]) -> None:
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.abort()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the simulator's loop and wait for it."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the simulator's own thread would wait for itself")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        """End the loop and its thread."""
        with suppress(RuntimeError):  # The loop may have ended by itself.
            self._loop.call_soon_threadsafe(self.api.stopping.set)
        self._thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one. Raises ``OSError``."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # Naming the protocol makes asyncio send without delay: with 0 every answer waits 40 ms for the client's ACK.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener
