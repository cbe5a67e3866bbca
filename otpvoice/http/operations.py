"""``/healthz``, ``/readyz`` and ``/metrics``: for those who run it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from otpvoice import errors
from otpvoice.http import addresses
from otpvoice.http.deps import Deps, deps_of
from otpvoice.http.docs import Responses, answers
from otpvoice.http.models import StatusOut
from otpvoice.http.problems import Answer, NotFound
from otpvoice.http.telemetry import channels_exposition

router = APIRouter(tags=["operations"])

_FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
"""Headers of proxies: one of them is enough."""
_UNAVAILABLE: Responses = {503: {"model": StatusOut, "description": "It cannot take requests."}}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process lives", responses=answers(always=()))
async def healthz() -> StatusOut:
    """Asks nothing of anybody: a database that is away is no reason to kill the process."""
    return StatusOut(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz", summary="Whether the process can take requests", responses=_UNAVAILABLE, response_model=StatusOut
)
async def readyz(request: Request) -> Response:
    """Not while it is stopping, and not while the database is away or of another revision."""
    deps = deps_of(request)
    status = "stopping" if deps.stopping else await _database(deps)
    return Answer(status=200 if status == "ok" else 503, body={"status": status}).plain()


@router.get("/metrics", summary="Prometheus metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Names and numbers only: tenants, purposes, channels, routes, outcomes; nothing about a person."""
    deps = deps_of(request)
    if deps.http.metrics == "off" or (deps.http.metrics == "private" and not _from_here(request)):
        raise NotFound
    content, media_type = deps.metrics.exposition()
    return Response(content + await _channels(deps), media_type=media_type)


async def _channels(deps: Deps) -> bytes:
    """The channels' health; without a database there is none, and the other numbers are told all the same."""
    try:
        return channels_exposition(await deps.service.health())
    except errors.OTPVoiceError:
        return b""


async def _database(deps: Deps) -> str:
    try:
        await deps.now()
    except errors.OTPVoiceError:
        return "unavailable"
    return "ok"


def _from_here(request: Request) -> bool:
    """Whether the request came straight from a private address: what a proxy hands on is the outside world's."""
    if not _FORWARDED.isdisjoint(request.headers.keys()):
        return False
    return request.client is None or addresses.private(request.client.host)
