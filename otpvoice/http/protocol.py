"""uvicorn's HTTP protocol, with patience that ends: what trickles in does not hold a connection for ever."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Patient(H11Protocol):
    """Closes a connection whose request line and headers are not whole in time.

    So, too, one that was answered before its body was whole (too long, too slow) and sends on: until then nobody
    reads it but to throw it away, and every byte of it would put off uvicorn's own end of an idle connection.
    """

    header_timeout: ClassVar[float] = 10.0
    """Seconds; :func:`otpvoice.http.app.from_env` sets it from the configuration."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on while headers are missing; the first byte of them does not begin the time anew."""
        super().data_received(data)
        their = self.conn.their_state
        if their is not h11.IDLE and not (their is h11.SEND_BODY and self.conn.our_state is h11.DONE):
            self._stop_waiting()
        elif self._waiting is None:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Say what is no HTTP, where that can still be said: an answer that was given is not given twice."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.header_timeout, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.close()
