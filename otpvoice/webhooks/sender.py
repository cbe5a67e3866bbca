"""One POST to a customer's URL, over a connection to an address that was judged first.

httpcore speaks the HTTP: it follows no redirects, knows no proxies, cookies or environment. Under it lies a network
backend that resolves, judges and connects; above it the name stays what it was, in ``Host``, in SNI and in the
certificate's check.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpcore

from otpvoice.errors import ConfigurationError
from otpvoice.webhooks.addresses import AddressDenied, Guard, Target

DEADLINE = timedelta(seconds=15)
"""For all of it, from resolving to the answer's headers; Standard Webhooks advises 15 to 30 s."""
LONGEST_REST = timedelta(hours=1)
"""How far a receiver's ``Retry-After`` is followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a POST. Of the answer only its status is kept: nothing of it is echoed anywhere."""

    status: int | None = None
    reason: str | None = None
    """None for success; else a word: ``denied``, ``unresolved``, ``unreachable``, ``tls``, ``timeout``,
    ``protocol``, ``redirected``, ``gone`` or ``status``."""
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: any 2xx."""
        return self.reason is None


class Sender:
    """Sends one message at a time; safe to share between threads.

    ``tls`` says which certificate authorities count. Where it is not given: the usual ones, and those of the file that
    the environment's ``SSL_CERT_FILE`` names, for receivers inside one's own network. Raises
    :class:`~otpvoice.errors.ConfigurationError` where that cannot be read.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        deadline: timedelta = DEADLINE,
        connect: httpcore.NetworkBackend | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Read once: it holds some 150 certificates, and every message needs it.
        self._tls = tls or _authorities()
        self._deadline = deadline.total_seconds()
        self._connect = connect or httpcore.SyncBackend()
        self._monotonic = monotonic

    def post(self, target: Target, headers: Mapping[str, str], body: bytes, *, guard: Guard) -> Answer:
        """POST JSON to the target; every failure is an :class:`Answer` with a reason."""
        until = _Until(self._monotonic, self._monotonic() + self._deadline)
        backend = _Judged(self._connect, guard, target, until)
        sent: dict[bytes | str, bytes | str] = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": "otpvoice-webhooks/1",
            "Accept": "*/*",
            "Connection": "close",
        }
        sent.update(headers.items())
        url = httpcore.URL(scheme="https", host=target.host, port=target.port, target=target.path)
        try:
            with (
                httpcore.ConnectionPool(
                    ssl_context=self._tls, network_backend=backend, max_keepalive_connections=0, http2=False
                ) as pool,
                pool.stream("POST", url, headers=sent, content=body) as response,
            ):
                return _judge(response)
        except AddressDenied:
            return Answer(reason="denied")
        except _Unresolved:
            return Answer(reason="unresolved")
        except httpcore.TimeoutException:
            return Answer(reason="timeout")
        except httpcore.NetworkError as error:
            return Answer(reason="tls" if isinstance(error.__context__, ssl.SSLError) else "unreachable")
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            return Answer(reason="protocol")


def _authorities() -> ssl.SSLContext:
    context = httpcore.default_ssl_context()
    more = os.environ.get("SSL_CERT_FILE")
    if more:
        try:
            context.load_verify_locations(cafile=more)
        except OSError:  # An SSLError, too, where it holds no certificate.
            raise ConfigurationError(f"SSL_CERT_FILE: no certificates can be read from {more!r}") from None
    return context


class _Unresolved(Exception):
    """The name has no address, or the resolver does not answer."""


class _Until:
    """A deadline over everything: no single operation may wait longer than what is left of it."""

    def __init__(self, monotonic: Callable[[], float], at: float) -> None:
        self._monotonic = monotonic
        self._at = at

    def left(self) -> float:
        left = self._at - self._monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return left


class _Judged(httpcore.NetworkBackend):
    """Connects to judged addresses only, whatever host it is asked for."""

    def __init__(self, connect: httpcore.NetworkBackend, guard: Guard, target: Target, until: _Until) -> None:
        self._connect = connect
        self._guard = guard
        self._target = target
        self._until = until

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if (host, port) != (self._target.host, self._target.port):
            raise AddressDenied("only the checked host is connected to")
        try:
            addresses = self._guard.addresses(self._target)
        except OSError as error:
            raise _Unresolved from error
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                stream = self._connect.connect_tcp(address, port, timeout=self._until.left())
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self._until)
        raise failure


class _Bounded(httpcore.NetworkStream):
    """A stream of which every operation ends by the deadline, so that a receiver cannot drip for ever."""

    def __init__(self, stream: httpcore.NetworkStream, until: _Until) -> None:
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._until.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._until.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._until.left())
        return _Bounded(secured, self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _judge(response: httpcore.Response) -> Answer:
    status = response.status
    if 200 <= status < 300:
        return Answer(status=status)
    reason = "redirected" if 300 <= status < 400 else "gone" if status == 410 else "status"
    return Answer(status=status, reason=reason, retry_after=_retry_after(response))


def _retry_after(response: httpcore.Response) -> timedelta | None:
    for name, value in response.headers:
        if name.lower() == b"retry-after" and len(value) <= 9 and value.isdigit():
            return min(timedelta(seconds=int(value)), LONGEST_REST)
    return None
