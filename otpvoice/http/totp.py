"""``/v1/totp``: authenticator apps. Their codes are asked for by a challenge with a subject and no recipient."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from otpvoice import errors
from otpvoice.http import problems
from otpvoice.http.auth import Caller, require
from otpvoice.http.deps import deps_of
from otpvoice.http.docs import answers, once_header
from otpvoice.http.idempotency import Result, once
from otpvoice.http.models import ConfirmedOut, ConfirmIn, FactorIn, FactorOut, RemovedOut, SubjectIn
from otpvoice.http.problems import Answer

router = APIRouter(prefix="/v1/totp", tags=["authenticator apps"])

Issuer = Annotated[Caller, Depends(require("issue"))]
Verifier = Annotated[Caller, Depends(require("verify"))]
Admin = Annotated[Caller, Depends(require("admin"))]


@router.post("/factors", status_code=201, summary="Enrol an authenticator app", responses=answers())
async def enroll(request: Request, body: FactorIn, caller: Issuer) -> FactorOut:
    """The secret is shown this once: an answer that holds it is never stored, and so takes no Idempotency-Key."""
    if "idempotency-key" in request.headers:
        raise errors.InvalidRequest("Idempotency-Key is not taken here: the answer holds a secret and is not kept")
    service = await deps_of(request).plain(caller)
    made = await service.enroll_totp(body.subject, account=body.account)
    return FactorOut(factor_id=made.factor_id, secret=str(made.secret), provisioning_uri=str(made.provisioning_uri))


@router.post(
    "/factors/{factor_id}/confirm",
    response_model=ConfirmedOut,
    summary="Make an enrolled app the subject's only one, by a first code",
    responses=answers(errors.VerificationFailed, errors.UnknownFactor, problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def confirm(
    request: Request, factor_id: Annotated[str, Path(max_length=128)], body: ConfirmIn, caller: Verifier
) -> Response:
    """Five tries; then enrol again."""
    deps = deps_of(request)
    service = await deps.plain(caller)

    async def perform() -> Result:
        try:
            await service.confirm_totp(factor_id, body.code, subject=body.subject)
        except errors.CodeMismatch as error:
            more = {"attempts_left": error.attempts_left}
            return Result(answer=problems.answer(errors.VerificationFailed(), more=more))
        return Result(answer=Answer(status=200, body=ConfirmedOut(factor_id=factor_id).model_dump(mode="json")))

    return await once(request, caller, deps, service._context.keyring, perform)


@router.post(
    "/remove",
    response_model=RemovedOut,
    summary="Forget a subject's authenticator app",
    responses=answers(problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def remove(request: Request, body: SubjectIn, caller: Admin) -> Response:
    """The subject is in the body: nothing personal is in a URL."""
    deps = deps_of(request)
    service = await deps.plain(caller)

    async def perform() -> Result:
        removed = await service.remove_totp(body.subject)
        return Result(answer=Answer(status=200, body=RemovedOut(removed=removed).model_dump(mode="json")))

    return await once(request, caller, deps, service._context.keyring, perform)
