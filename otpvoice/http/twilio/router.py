"""The front as one router: ``app.include_router(router)``, or with ``prefix="/twilio"``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from otpvoice.http.twilio import attempts, buckets, factors, services, verifications
from otpvoice.http.twilio.errors import missing, unsupported
from otpvoice.http.twilio.front import Route, require

router = APIRouter(route_class=Route, include_in_schema=False)
for part in (verifications, buckets, factors, services, attempts):
    router.include_router(part.router)

_anybody = require("issue", "verify", "read", "admin")
_ELSEWHERE = (
    "MessagingConfigurations",
    "Webhooks",
    "AccessTokens",
    "Passkeys",
    "Templates",
    "SafeList",
    "Forms",
    "NewFactors",
    "Entities",
    "Notifications",
)
"""Twilio's resources that are not here."""


_METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


@router.api_route("/v2", methods=_METHODS, include_in_schema=False)
@router.api_route("/v2/{rest:path}", methods=_METHODS, include_in_schema=False)
async def anything_else(request: Request) -> Response:
    """What is not served is answered in the same form: 60204 for Twilio's other resources, 20404 for all else."""
    account = await _anybody(request)
    parts = request.path_params.get("rest", "").split("/")
    for name in _ELSEWHERE:
        if name in parts:
            raise unsupported(name)
    raise missing(account.path)
