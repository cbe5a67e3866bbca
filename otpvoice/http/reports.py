"""``/v1/reports/{secret}/{channel}``: where providers push what became of a delivery.

The path holds a secret that only the provider is told, and the channel checks what its provider signs. A report
changes what is known of a delivery, nothing else (property P86).
"""

from __future__ import annotations

import hmac
import logging
from typing import Annotated

from fastapi import APIRouter, Path, Request

from otpvoice import errors
from otpvoice.channels.base import ReportRejected, ReportRequest
from otpvoice.http import problems
from otpvoice.http.deps import deps_of
from otpvoice.http.docs import answers
from otpvoice.http.models import ReceivedOut
from otpvoice.http.problems import MalformedBody, NotFound, ReportRefused
from otpvoice.keys import Keyring

log = logging.getLogger("otpvoice.http.reports")

router = APIRouter(prefix="/v1/reports", tags=["providers"])

_LENGTH = 32
_PROBLEMS = (
    problems.MalformedBody,
    problems.BodyTimeout,
    problems.BodyTooLarge,
    problems.HeadersTooLarge,
    errors.InvalidRequest,
    errors.ServiceBusy,
)


def path_secrets(keyring: Keyring) -> tuple[str, ...]:
    """The path's secrets: the one to tell providers first, then those of older root secrets."""
    return tuple(key[:_LENGTH] for key in keyring.index("report-path", ""))


@router.post(
    "/{secret}/{channel}",
    summary="A provider's push",
    responses=answers(NotFound, ReportRefused, always=_PROBLEMS),
)
async def push(
    request: Request,
    secret: Annotated[str, Path(max_length=128)],
    channel: Annotated[str, Path(max_length=64)],
) -> ReceivedOut:
    """Repeated, late and out-of-order reports do no harm."""
    deps = deps_of(request)
    known = [hmac.compare_digest(secret.encode(), item.encode()) for item in path_secrets(deps.context.keyring)]
    if not any(known) or channel not in deps.context.channels:
        raise NotFound
    said = ReportRequest(
        method=request.method,
        url=str(request.url),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.body(),
        remote=request.scope.get("otpvoice.client"),
    )
    try:
        received = await deps.service.apply_report(channel, said)
    except ReportRejected as error:
        log.warning("a report for channel %r was refused: %s", channel, error)
        raise (MalformedBody() if error.authentic else ReportRefused()) from None
    return ReceivedOut(reports=received.reports, news=received.news)
