"""Errors as RFC 9457 problems: one table from error to status, type and title, and nothing beside it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from otpvoice import errors

log = logging.getLogger("otpvoice.http")

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:otpvoice:problem:"
_COME_BACK = timedelta(seconds=5)
"""After a 503 that does not know better."""


class HttpProblem(errors.OTPVoiceError):
    """What is wrong with a request as HTTP sees it; its classes are rows of :data:`TABLE`."""

    def __init__(self, detail: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unauthenticated(HttpProblem):
    """No API key, or none that counts."""


class ScopeMissing(HttpProblem):
    """The key may not do that."""


class NotFound(HttpProblem):
    """No such resource, or not this tenant's."""


class MethodNotAllowed(HttpProblem):
    """The resource does not take that method."""


class MalformedBody(HttpProblem):
    """The body is no JSON document that can be read in one way only."""


class AmbiguousLength(MalformedBody):
    """The body has two lengths: a proxy in between may have taken the other one (RFC 9112 6.3)."""


class BodyTimeout(HttpProblem):
    """The body did not arrive in time."""


class BodyTooLarge(HttpProblem):
    """The body is longer than any valid one."""


class UnsupportedMediaType(HttpProblem):
    """The body is of a type that the resource does not take."""


class HeadersTooLarge(HttpProblem):
    """The request's headers are longer than any valid ones."""


class InsecureTransport(HttpProblem):
    """The request came without TLS."""


class Stopping(HttpProblem):
    """The process stops, and the request took longer than it waits."""


class IdempotencyMismatch(HttpProblem):
    """The Idempotency-Key was used with another request; this one was not evaluated."""


class IdempotencyConflict(HttpProblem):
    """The first request with this Idempotency-Key is not answered."""


class ReportRefused(HttpProblem):
    """A provider's report that is not authentic or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row of the table."""

    status: int
    slug: str
    title: str
    detail: str | None = None
    """Said instead of the error's own message, where that could tell internals."""
    nothing_happened: bool = False
    """Nothing was charged, stored or sent: a repetition with the same Idempotency-Key is evaluated anew."""

    @property
    def type(self) -> str:
        """The problem's type URI."""
        return f"{TYPE_PREFIX}{self.slug}"


_VERIFICATION = Kind(
    status=422,
    slug="verification-failed",
    title="That does not verify",
    detail="The code is wrong, or the challenge takes no attempts. Ask for a new code when no attempts are left.",
)

_UNAVAILABLE = Kind(
    status=503,
    slug="unavailable",
    title="The service cannot answer at this moment",
    detail="Nothing is approved or sent while the store does not answer.",
)

TABLE: Mapping[type[Exception], Kind] = {
    errors.OTPVoiceError: Kind(
        status=500, slug="internal", title="Something went wrong here", detail="The operator's logs say more."
    ),
    errors.InvalidRequest: Kind(
        status=422, slug="invalid-request", title="The request is not valid", nothing_happened=True
    ),
    errors.InvalidRecipient: Kind(
        status=422, slug="invalid-recipient", title="The recipient is not valid", nothing_happened=True
    ),
    errors.UnknownPurpose: Kind(
        status=422, slug="unknown-purpose", title="There is no such purpose", nothing_happened=True
    ),
    errors.UnknownChannel: Kind(
        status=422, slug="unknown-channel", title="The purpose does not use that channel", nothing_happened=True
    ),
    errors.UnknownFactor: Kind(status=404, slug="unknown-factor", title="There is no such factor"),
    errors.RateLimited: Kind(status=429, slug="rate-limited", title="Too many, too soon", nothing_happened=True),
    errors.LockedOut: Kind(
        status=429, slug="locked-out", title="Locked after too many failures", nothing_happened=True
    ),
    errors.RecipientDenied: Kind(
        status=403, slug="recipient-denied", title="The policy does not send there", nothing_happened=True
    ),
    errors.VerificationFailed: _VERIFICATION,
    errors.ChallengeClosed: Kind(status=404, slug="challenge-closed", title="The challenge is closed or unknown"),
    errors.ServiceBusy: Kind(
        status=503,
        slug="busy",
        title="Too busy at this moment",
        detail="Nothing was charged; try again in a moment.",
        nothing_happened=True,
    ),
    errors.StoreUnavailable: _UNAVAILABLE,
    errors.SchemaMismatch: _UNAVAILABLE,
    errors.DeliveryError: Kind(
        status=502,
        slug="delivery-failed",
        title="The provider did not take the message",
        detail="The challenge stays open; a resend may go another way.",
    ),
    Unauthenticated: Kind(status=401, slug="unauthenticated", title="A valid API key is needed", nothing_happened=True),
    ScopeMissing: Kind(status=403, slug="scope-missing", title="The API key may not do that", nothing_happened=True),
    NotFound: Kind(status=404, slug="not-found", title="There is nothing here", nothing_happened=True),
    MethodNotAllowed: Kind(
        status=405, slug="method-not-allowed", title="That method is not taken here", nothing_happened=True
    ),
    MalformedBody: Kind(status=400, slug="malformed-body", title="The body cannot be read", nothing_happened=True),
    BodyTimeout: Kind(status=408, slug="body-timeout", title="The body did not arrive in time", nothing_happened=True),
    BodyTooLarge: Kind(status=413, slug="body-too-large", title="The body is too large", nothing_happened=True),
    UnsupportedMediaType: Kind(
        status=415, slug="unsupported-media-type", title="The body is of another type", nothing_happened=True
    ),
    HeadersTooLarge: Kind(
        status=431, slug="headers-too-large", title="The headers are too large", nothing_happened=True
    ),
    InsecureTransport: Kind(status=403, slug="insecure-transport", title="TLS is needed", nothing_happened=True),
    Stopping: Kind(
        status=503,
        slug="stopping",
        title="The process is stopping",
        detail="What came of the request is not known: look at what it was about.",
    ),
    IdempotencyMismatch: Kind(
        status=422, slug="idempotency-mismatch", title="The Idempotency-Key belongs to another request"
    ),
    IdempotencyConflict: Kind(
        status=409, slug="idempotency-conflict", title="The first request with this key has no answer yet"
    ),
    errors.ProofRejected: Kind(
        status=422,
        slug="proof-invalid",
        title="The proof does not count",
        detail="It is not authentic, it has expired, it was redeemed already, or it is for somebody else.",
    ),
    ReportRefused: Kind(status=403, slug="report-refused", title="The report was not taken"),
}
"""An error's row is that of the nearest class in its MRO."""

_OF_STATUS: Mapping[int, type[HttpProblem]] = {
    404: NotFound,
    405: MethodNotAllowed,
    400: MalformedBody,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer before it is sent."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """The response; a problem carries its media type."""
        media_type = MEDIA_TYPE if self.status >= 400 else "application/json"
        return JSONResponse(dict(self.body), self.status, headers=dict(self.headers), media_type=media_type)

    def plain(self) -> JSONResponse:
        """The response as JSON, whatever its status."""
        return JSONResponse(dict(self.body), self.status, headers=dict(self.headers))


def kind_of(error: Exception | type[Exception]) -> Kind:
    """The error's row of :data:`TABLE`."""
    wanted = error if isinstance(error, type) else type(error)
    for ancestor in wanted.__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor]
    return TABLE[errors.OTPVoiceError]


def answer(error: Exception, *, more: Mapping[str, Any] | None = None) -> Answer:
    """The problem that tells of an error. ``more`` are extension members (RFC 9457 3.2)."""
    kind = kind_of(error)
    body: dict[str, Any] = {"type": kind.type, "title": kind.title, "status": kind.status}
    detail = kind.detail or str(error)
    if detail:
        body["detail"] = detail
    headers: dict[str, str] = {}
    retry_after = getattr(error, "retry_after", None) or (_COME_BACK if kind.status == 503 else None)
    if isinstance(retry_after, timedelta):
        body["retry_after"] = max(1, -int(-retry_after.total_seconds() // 1))
        headers["Retry-After"] = str(body["retry_after"])
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="otpvoice"'
    if isinstance(error, AmbiguousLength):
        headers["Connection"] = "close"  # What follows on this connection may be part of this request's body.
    return Answer(status=kind.status, body={**body, **(more or {})}, headers=headers)


def install(app: FastAPI) -> None:
    """Let every error of an application be answered from the table."""
    app.add_exception_handler(errors.OTPVoiceError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid)


async def _on_error(_request: Request, error: Exception) -> JSONResponse:
    told = answer(error)
    if told.status >= 500:
        log.error("answered %s after %s: %s", told.status, type(error).__name__, error)
    return told.response()


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    known = _OF_STATUS.get(error.status_code)
    told = answer(known()) if known is not None else answer(errors.OTPVoiceError())
    return Answer(status=told.status, body=told.body, headers={**told.headers, **(error.headers or {})}).response()


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    # What was sent is never repeated: it may hold a code.
    assert isinstance(error, RequestValidationError)
    wrong = [{"where": "/".join(str(part) for part in item["loc"]), "what": item["msg"]} for item in error.errors()]
    return answer(errors.InvalidRequest(f"{len(wrong)} members are not valid"), more={"errors": wrong[:20]}).response()
