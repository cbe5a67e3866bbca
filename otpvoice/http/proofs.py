"""Proofs over HTTP: the public keys, redemption, and a test tenant's clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from otpvoice import errors, proof
from otpvoice.http import problems
from otpvoice.http.auth import Caller, require
from otpvoice.http.deps import Deps, deps_of
from otpvoice.http.docs import answers, once_header
from otpvoice.http.idempotency import Result, once
from otpvoice.http.models import ClockIn, ClockOut, ProofOut, RedeemIn
from otpvoice.http.problems import Answer, NotFound
from otpvoice.http.testmode import TestKeyring

router = APIRouter(tags=["proofs"])

Verifier = Annotated[Caller, Depends(require("verify"))]
Admin = Annotated[Caller, Depends(require("admin"))]


@router.get("/.well-known/jwks.json", summary="The public keys of live tenants' proofs", responses=answers(always=()))
async def live_keys(request: Request) -> dict[str, Any]:
    """A JWK Set (RFC 7517). The signing key comes first; others still verify."""
    return proof.jwks(deps_of(request).context.keyring)


@router.get("/v1/test/jwks.json", summary="The public keys of a test tenant's proofs", responses=answers(NotFound))
async def test_keys(request: Request, caller: Verifier) -> dict[str, Any]:
    """No live verifier knows them."""
    deps = _test_only(request, caller)
    return proof.jwks(TestKeyring(deps.context.keyring, caller.tenant))


@router.post(
    "/v1/proofs/redeem",
    response_model=ProofOut,
    summary="Use up a proof",
    responses=answers(errors.ProofRejected, problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def redeem(request: Request, body: RedeemIn, caller: Verifier) -> Response:
    """The first call gets what it says; every other one, and one whose claims differ, is refused alike."""
    deps = deps_of(request)
    service = await deps.plain(caller)

    async def perform() -> Result:
        found = await service._runner.run(
            proof.redeem(
                service._context,
                body.proof,
                audience=deps.tenants[caller.tenant].audience,
                issuer=deps.http.issuer,
                purpose=body.purpose,
                subject=body.subject,
                recipient=body.recipient,
                binding=None if body.binding is None else body.binding.members(),
            )
        )
        return Result(answer=Answer(status=200, body=ProofOut.of(found).model_dump(mode="json")))

    return await once(request, caller, deps, service._context.keyring, perform)


@router.get("/v1/test/clock", summary="A test tenant's time", responses=answers(NotFound))
async def read_clock(request: Request, caller: Verifier) -> ClockOut:
    """A live tenant has none."""
    deps = _test_only(request, caller)
    ahead = await deps.test_mode.ahead(deps, caller.tenant)
    return await _clock(deps, ahead)


@router.put("/v1/test/clock", summary="Set a test tenant's time", responses=answers(NotFound))
async def set_clock(request: Request, body: ClockIn, caller: Admin) -> ClockOut:
    """Ahead of the real one by this many seconds; 0 puts it back."""
    deps = _test_only(request, caller)
    ahead = timedelta(seconds=body.ahead)
    await deps.test_mode.set_ahead(deps, caller.tenant, ahead)
    return await _clock(deps, ahead)


async def _clock(deps: Deps, ahead: timedelta) -> ClockOut:
    return ClockOut(ahead=int(ahead.total_seconds()), now=await deps.now() + ahead)


def _test_only(request: Request, caller: Caller) -> Deps:
    if not caller.test:
        raise NotFound
    return deps_of(request)
