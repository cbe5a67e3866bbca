"""The one mapping from what HTTP can do wrong to what may follow."""

from __future__ import annotations

import inspect
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from otpvoice.channels.http_errors import HTTPX_ERRORS, http_date, map_http_error, map_http_status, retry_after
from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXPORTED = [value for value in vars(httpx).values() if inspect.isclass(value) and issubclass(value, Exception)]
CANNOT_HAVE_LEFT = {
    httpx.ConnectError: ProviderUnavailable,
    httpx.ConnectTimeout: ProviderUnavailable,
    httpx.PoolTimeout: ProviderUnavailable,
    httpx.ProxyError: ProviderUnavailable,
    httpx.UnsupportedProtocol: ProviderMisconfigured,
    httpx.InvalidURL: ProviderMisconfigured,
}


def made(kind: type[Exception]) -> Exception:
    """An exception of that class, whatever its constructor wants."""
    return kind.__new__(kind)


def test_the_mapping_is_whole() -> None:
    """Every exception class that httpx exports is in the table, and the table holds nothing else."""
    assert set(HTTPX_ERRORS) == set(EXPORTED)


@pytest.mark.parametrize("kind", EXPORTED, ids=lambda kind: kind.__name__)
def test_only_what_cannot_have_left_is_safe_to_repeat(kind: type[Exception]) -> None:
    """Six classes say that nothing was sent; every other one, base classes included, leaves the outcome unknown."""
    error = map_http_error(made(kind), provider="acme")
    assert type(error) is CANNOT_HAVE_LEFT.get(kind, OutcomeUnknown)
    assert error.code == kind.__name__
    assert error.provider == "acme"
    assert str(error).startswith("acme: ")


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError, ssl.SSLError, TimeoutError, Exception])
def test_strangers_are_unknown(kind: type[Exception]) -> None:
    """What is not httpx's may have happened after the request left."""
    assert type(map_http_error(kind("x"))) is OutcomeUnknown


def test_new_subclasses_follow_their_base() -> None:
    """A class that a later httpx adds is judged by the nearest one that is known."""

    class NewConnectError(httpx.ConnectError):
        pass

    class NewTransportError(httpx.TransportError):
        pass

    assert type(map_http_error(NewConnectError(""))) is ProviderUnavailable
    assert type(map_http_error(NewTransportError(""))) is OutcomeUnknown


def test_the_exception_is_not_quoted() -> None:
    """An exception's own text may repeat the URL or the answer."""
    assert "s3cret" not in str(map_http_error(httpx.ReadError("https://api/?key=s3cret")))


def test_refused_connection_over_a_socket() -> None:
    """A port that nobody listens on: the request cannot have left."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError) as caught:
        client.get(f"http://127.0.0.1:{port}/")
    assert type(map_http_error(caught.value)) is ProviderUnavailable


def test_connection_closed_without_an_answer() -> None:
    """A server that reads the request and hangs up: the call may be ringing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        with httpx.Client(trust_env=False) as client, pytest.raises(httpx.RemoteProtocolError) as caught:
            client.get(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
    assert type(map_http_error(caught.value)) is OutcomeUnknown


def test_certificate_that_does_not_verify() -> None:
    """A person must look at it, wherever in the chain it stands; other TLS failures may pass by themselves."""
    for depth in range(3):
        error: Exception = ssl.SSLCertVerificationError("self-signed")
        for _ in range(depth):
            outer = OSError("wrapped")
            outer.__cause__ = error
            error = outer
        connect = httpx.ConnectError("tls")
        connect.__context__ = error
        assert type(map_http_error(connect)) is ProviderMisconfigured
    plain = httpx.ConnectError("tls")
    plain.__cause__ = ssl.SSLError("handshake failure")
    assert type(map_http_error(plain)) is ProviderUnavailable


def test_a_ring_of_causes_ends() -> None:
    """Exceptions can be chained in a circle."""
    one, two = httpx.ConnectError("1"), OSError("2")
    one.__cause__, two.__cause__ = two, one
    assert type(map_http_error(one)) is ProviderUnavailable


STATUSES = {
    300: ProviderMisconfigured,
    301: ProviderMisconfigured,
    308: ProviderMisconfigured,
    400: ProviderMisconfigured,
    401: ProviderMisconfigured,
    402: NoBalance,
    403: ProviderMisconfigured,
    404: ProviderMisconfigured,
    408: ProviderUnavailable,
    413: ContentRejected,
    415: ProviderMisconfigured,
    422: ContentRejected,
    429: ProviderThrottled,
    499: ProviderMisconfigured,
    500: OutcomeUnknown,
    501: OutcomeUnknown,
    502: OutcomeUnknown,
    503: ProviderUnavailable,
    504: OutcomeUnknown,
    599: OutcomeUnknown,
    200: OutcomeUnknown,
    204: OutcomeUnknown,
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_statuses(status: int, kind: type[DeliveryError]) -> None:
    """Each HTTP status that is no usable answer says what may follow; the body is not repeated."""
    error = map_http_status(httpx.Response(status, text="s3cret"), provider="acme", now=NOW)
    assert type(error) is kind
    assert (error.provider, error.code) == ("acme", f"http {status}")
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, ProviderUnavailable), (501, ProviderUnavailable), (502, OutcomeUnknown)]
)
def test_a_provider_that_refuses_by_500(status: int, kind: type[DeliveryError]) -> None:
    """Where 500 is known to mean *not taken* it is safe to repeat; a gateway's 502 still says nothing."""
    error = map_http_status(httpx.Response(status), provider="acme", now=NOW, refuses_by_500=True)
    assert type(error) is kind


def wait(value: str | None, date: str | None = None) -> float:
    headers = {name: text for name, text in (("retry-after", value), ("date", date)) if text is not None}
    return retry_after(httpx.Response(429, headers=headers), NOW).total_seconds()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 1),
        ("-5", 30),
        ("1.5", 30),
        ("٣٠", 30),
        ("99999999", 86400),
        ("9" * 400, 30),
        ("soon", 30),
        ("", 30),
        (None, 30),
        (format_datetime(NOW + timedelta(minutes=3), usegmt=True), 180),
        (format_datetime(NOW - timedelta(minutes=3), usegmt=True), 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    """Seconds or a date, kept within 1 s and a day; 30 s for anything that is neither."""
    headers = httpx.Headers([(b"retry-after", (value or "").encode())] if value is not None else [])
    found = retry_after(httpx.Response(429, headers=headers), NOW).total_seconds()
    assert found == seconds


def test_retry_after_by_the_answers_own_clock() -> None:
    """A date is read against the answer's Date header: the provider's clock may differ from ours."""
    theirs = NOW + timedelta(hours=2)
    until = format_datetime(theirs + timedelta(seconds=50), usegmt=True)
    assert wait(until, format_datetime(theirs, usegmt=True)) == 50


def test_503_with_retry_after_is_throttling() -> None:
    """A provider that says when to come back is believed."""
    response = httpx.Response(503, headers={"retry-after": "9"})
    error = map_http_status(response, provider="acme", now=NOW)
    assert isinstance(error, ProviderThrottled)
    assert error.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize(
    "value",
    [None, "", "x", "Thu", "1", "Thu, 32 Jan 2026 00:00:00 GMT", "0" * 10_000, "Fri, 31 Dec 9999 23:59:59 -1200"],
)
def test_http_date_that_is_none(value: str | None) -> None:
    """Anything but a date is None, not an exception."""
    assert http_date(value) is None


def test_http_date_without_a_zone_is_utc() -> None:
    """``-0000`` gives a naive time in Python; HTTP dates are UTC."""
    assert http_date("Thu, 01 Jan 2026 00:00:00 -0000") == NOW
    assert http_date("Thu, 01 Jan 2026 01:00:00 +0100") == NOW
