"""Where httpx's exceptions and bare HTTP statuses become :class:`~otpvoice.errors.DeliveryError`.

The question is always the same: can the request have left? Only where it cannot is it safe to send again. What is
not listed, or not known, counts as *may have left*.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)

HTTPX_ERRORS: Mapping[type[Exception], tuple[type[DeliveryError], str]] = {
    # The request cannot have left.
    httpx.ConnectError: (ProviderUnavailable, "no connection could be made"),
    httpx.ConnectTimeout: (ProviderUnavailable, "no connection could be made in time"),
    httpx.PoolTimeout: (ProviderUnavailable, "no connection of the pool was free in time"),
    # Raised while a tunnel is being opened; a forward proxy's refusal of the request itself is an HTTP status.
    httpx.ProxyError: (ProviderUnavailable, "the proxy did not open a connection"),
    httpx.UnsupportedProtocol: (ProviderMisconfigured, "the URL begins with neither https:// nor http://"),
    httpx.InvalidURL: (ProviderMisconfigured, "the URL is not valid"),
    # It may have left, in part or whole.
    httpx.WriteTimeout: (OutcomeUnknown, "the request was not taken in time"),
    httpx.WriteError: (OutcomeUnknown, "the connection broke while the request was sent"),
    httpx.ReadTimeout: (OutcomeUnknown, "no answer came in time"),
    httpx.ReadError: (OutcomeUnknown, "the connection broke before the answer was complete"),
    httpx.CloseError: (OutcomeUnknown, "the connection broke while it was closed"),
    httpx.RemoteProtocolError: (OutcomeUnknown, "the answer was not valid HTTP"),
    # Over HTTP/2 it is also raised for a connection that fails after the request was sent.
    httpx.LocalProtocolError: (OutcomeUnknown, "the exchange was not valid HTTP"),
    httpx.DecodingError: (OutcomeUnknown, "the answer could not be decoded"),
    httpx.TooManyRedirects: (OutcomeUnknown, "the answer was a chain of redirects"),
    httpx.HTTPStatusError: (OutcomeUnknown, "the answer was an HTTP error"),
    httpx.CookieConflict: (OutcomeUnknown, "the answer's cookies contradict each other"),
    httpx.StreamConsumed: (OutcomeUnknown, "the exchange was cut off"),
    httpx.StreamClosed: (OutcomeUnknown, "the exchange was cut off"),
    httpx.ResponseNotRead: (OutcomeUnknown, "the answer was not read"),
    httpx.RequestNotRead: (OutcomeUnknown, "the request was not read"),
    # Base classes: what a later httpx may add below them.
    httpx.TimeoutException: (OutcomeUnknown, "the exchange ran out of time"),
    httpx.NetworkError: (OutcomeUnknown, "the connection broke"),
    httpx.ProtocolError: (OutcomeUnknown, "the exchange was not valid HTTP"),
    httpx.TransportError: (OutcomeUnknown, "the exchange failed"),
    httpx.RequestError: (OutcomeUnknown, "the exchange failed"),
    httpx.HTTPError: (OutcomeUnknown, "the exchange failed"),
    httpx.StreamError: (OutcomeUnknown, "the exchange was cut off"),
}
"""Every exception that httpx exports, and what may follow; a test holds it whole."""

RETRY_AFTER_DEFAULT = timedelta(seconds=30)
RETRY_AFTER_CAP = timedelta(hours=24)

_BY_STATUS: Mapping[int, tuple[type[DeliveryError], str]] = {
    402: (NoBalance, "asks for payment"),
    # RFC 9110, 15.5.9 and 15.6.4: the request was not received whole, or is not handled for now.
    408: (ProviderUnavailable, "did not receive the request in time"),
    413: (ContentRejected, "finds the message too large"),
    415: (ProviderMisconfigured, "does not take JSON"),
    422: (ContentRejected, "cannot process the message"),
    503: (ProviderUnavailable, "is out of service for now"),
}


def map_http_error(error: Exception, *, provider: str = "") -> DeliveryError:
    """What an exception of sending a request means for the delivery.

    :class:`~otpvoice.errors.ProviderUnavailable` or :class:`~otpvoice.errors.ProviderMisconfigured` where the
    request cannot have left, :class:`~otpvoice.errors.OutcomeUnknown` for everything else, exceptions that are not
    httpx's included. The message is ours: httpx's may repeat the URL.
    """
    name = type(error).__name__
    who = provider or "provider"
    if isinstance(error, httpx.ConnectError) and _certificate_refused(error):
        return ProviderMisconfigured(
            f"{who}: its TLS certificate could not be verified; check the URL, this machine's clock and its root "
            "certificates",
            provider=provider,
            code=name,
        )
    for kind in type(error).__mro__:
        if kind in HTTPX_ERRORS:
            meaning, words = HTTPX_ERRORS[kind]
            return meaning(f"{who}: {words}", provider=provider, code=name)
    return OutcomeUnknown(f"{who}: the exchange failed", provider=provider, code=name)


def _certificate_refused(error: BaseException) -> bool:
    cause: BaseException | None = error
    for _ in range(10):  # A chain may be a ring.
        if cause is None or isinstance(cause, ssl.SSLCertVerificationError):
            break
        cause = cause.__cause__ or cause.__context__
    return isinstance(cause, ssl.SSLCertVerificationError)


def map_http_status(
    response: httpx.Response, *, provider: str, now: datetime, refuses_by_500: bool = False
) -> DeliveryError:
    """What an answer that is not a success, or not in the provider's own form, means for the delivery.

    A redirect is a failure: following it would hand the code to somebody else. Of the 5xx only 503 says that the
    request was not handled; behind any other the message may be on its way. ``refuses_by_500``: the provider is
    known to have taken nothing when it answers 500 itself (a gateway's 502 and 504 still say nothing).
    """
    status = response.status_code
    code = f"http {status}"
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        return ProviderThrottled(
            f"{provider}: asks to wait (HTTP {status})",
            provider=provider,
            code=code,
            retry_after=retry_after(response, now),
        )
    if status in _BY_STATUS:
        meaning, words = _BY_STATUS[status]
    elif 300 <= status < 400:
        meaning, words = ProviderMisconfigured, "answers with a redirect, which is never followed; check the URL"
    elif 400 <= status < 500:
        meaning, words = ProviderMisconfigured, "refuses the request; check the URL and the credentials"
    elif refuses_by_500 and status in {500, 501}:
        meaning, words = ProviderUnavailable, "failed"
    else:
        meaning, words = OutcomeUnknown, "gave no usable answer"
    return meaning(f"{provider}: {words} (HTTP {status})", provider=provider, code=code)


def retry_after(response: httpx.Response, now: datetime) -> timedelta:
    """The answer's ``Retry-After`` (RFC 9110, 10.2.3: seconds or a date), within 1 s and 24 h; 30 s without one."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        wait = timedelta(seconds=int(value))
    else:
        until = http_date(value)
        # The answer's own clock where it tells it: the two machines' clocks may differ.
        wait = RETRY_AFTER_DEFAULT if until is None else until - (http_date(response.headers.get("date")) or now)
    return min(max(wait, timedelta(seconds=1)), RETRY_AFTER_CAP)


def http_date(value: str | None) -> datetime | None:
    """An HTTP date (RFC 9110, 5.6.7) in UTC; None for anything else."""
    try:
        moment = parsedate_to_datetime(value or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
