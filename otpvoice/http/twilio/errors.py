"""Errors as Twilio's API tells them: four members, and codes from its dictionary.

They are no RFC 9457 problems on purpose: a body with ``type``, ``title``, ``status`` and ``code`` makes both SDKs
raise an exception that existing handlers do not catch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from fastapi.responses import JSONResponse

from otpvoice import errors
from otpvoice.http import problems


@dataclass(frozen=True, slots=True)
class Row:
    """One row of :data:`TABLE`."""

    status: int
    message: str


TABLE: Mapping[int, Row] = {
    20001: Row(400, "The request cannot be read"),
    20003: Row(401, "Authenticate"),
    20404: Row(404, "The requested resource was not found"),
    20429: Row(429, "Too many requests"),
    20500: Row(500, "Internal server error"),
    20503: Row(503, "Service is temporarily unavailable"),
    60200: Row(400, "Invalid parameter"),
    60202: Row(429, "Max check attempts reached"),
    60203: Row(429, "Max send attempts reached"),
    60204: Row(403, "Service does not support this feature"),
    60205: Row(403, "SMS is not supported by landline phone number"),
    60206: Row(400, "PSD2 parameters (Amount and Payee) required"),
    60207: Row(400, "Max rate limits reached"),
    60208: Row(400, "A rate limit of this unique name exists"),
    60209: Row(400, "Rate limit unique name is not valid: letters, digits, hyphens, underscores and dots"),
    60210: Row(400, "Max buckets reached"),
    60211: Row(400, "A bucket of this interval exists"),
    60212: Row(429, "Too many concurrent requests for phone number"),
    60217: Row(400, "Channel is not configured"),
    60221: Row(400, "To or VerificationSid is required"),
    60223: Row(400, "Delivery channel is disabled"),
    60308: Row(429, "Max challenge attempts reached"),
    60310: Row(429, "Max factor verification attempts reached"),
    60318: Row(403, "Factor is unverified"),
    60322: Row(403, "Challenge was already answered"),
    60323: Row(403, "Challenge expired"),
    60326: Row(429, "Max factor creations reached"),
    60410: Row(403, "Verification delivery attempt blocked: the policy does not send to such numbers"),
    60602: Row(400, "AppHash is for the sms channel"),
    60605: Row(403, "Verification delivery attempt blocked: the country is not allowed"),
}
"""Code → status and message; ``docs/twilio.md`` says when."""

MORE_INFO = "https://www.twilio.com/docs/errors/"
CONTENT_TYPE = "application/json"


class TwilioError(Exception):
    """What is answered instead of a result."""

    def __init__(
        self,
        code: int,
        message: str | None = None,
        *,
        status: int | None = None,
        retry_after: timedelta | None = None,
        parameter: str | None = None,
    ) -> None:
        row = TABLE[code]
        self.code = code
        self.status = row.status if status is None else status
        self.message = message or (row.message if parameter is None else f"{row.message}: {parameter}")
        self.retry_after = retry_after
        super().__init__(self.message)

    def response(self) -> JSONResponse:
        """The four members, and the headers of Twilio's contract."""
        body = {
            "code": self.code,
            "message": self.message,
            "more_info": f"{MORE_INFO}{self.code}",
            "status": self.status,
        }
        headers: dict[str, str] = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, -int(-self.retry_after.total_seconds() // 1)))
        if self.status == 429:
            headers["Twilio-Reached-Rate-Limit"] = "true"
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
        return JSONResponse(body, self.status, headers=headers, media_type=CONTENT_TYPE)


def invalid(parameter: str, why: str = "") -> TwilioError:
    """60200, which names the parameter and never repeats its value."""
    return TwilioError(60200, parameter=f"{parameter} ({why})" if why else parameter)


def unsupported(parameter: str, why: str = "") -> TwilioError:
    """60204: what this service does not do is refused, never dropped in silence."""
    row = TABLE[60204]
    return TwilioError(60204, f"{row.message}: {parameter}{f' ({why})' if why else ''}")


def missing(path: str) -> TwilioError:
    """20404 in Twilio's words."""
    return TwilioError(20404, f"The requested resource {path} was not found")


def refusal(error: errors.OTPVoiceError, path: str) -> JSONResponse:
    """The answer to a request that no route saw to its end, in the form of the API that it was meant for."""
    if path == "/v2" or path.startswith("/v2/"):
        return of(error, path).response()
    return problems.answer(error).response()


def of(error: errors.OTPVoiceError, path: str) -> TwilioError:
    """What any error of the core or of the HTTP layer is here; an error's row is that of its nearest class."""
    retry_after = getattr(error, "retry_after", None)
    match error:
        case problems.Unauthenticated():
            return TwilioError(20003)
        case problems.ScopeMissing():
            return TwilioError(20003, "Permission denied", status=403)
        case (
            problems.BodyTooLarge() | problems.BodyTimeout() | problems.HeadersTooLarge() | problems.InsecureTransport()
        ):
            return TwilioError(20001, str(error), status=problems.kind_of(error).status)
        case problems.NotFound() | errors.ChallengeClosed() | errors.UnknownFactor():
            return missing(path)
        case errors.InvalidRecipient():
            return invalid("To")
        case errors.UnknownChannel():
            return invalid("Channel")
        case errors.InvalidRequest():
            return TwilioError(60200, f"Invalid parameter: {error}")
        case errors.LockedOut():
            return TwilioError(60202, retry_after=retry_after)
        case errors.RateLimited():
            return TwilioError(60203, retry_after=retry_after)
        case errors.RecipientDenied():
            return TwilioError(60410)
        case errors.ServiceBusy():
            return TwilioError(20503, retry_after=retry_after)
    return TwilioError(20500)
