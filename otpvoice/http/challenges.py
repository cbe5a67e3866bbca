"""``/v1/challenges``: open, verify, resend, cancel, look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from otpvoice import errors, proof
from otpvoice.http import problems
from otpvoice.http.auth import Caller, require
from otpvoice.http.deps import deps_of
from otpvoice.http.docs import answers, once_header
from otpvoice.http.idempotency import Result, once
from otpvoice.http.models import (
    BindingIn,
    ChallengeIn,
    ChallengeOut,
    EventOut,
    EventsOut,
    NextOut,
    Nothing,
    ResendIn,
    VerifiedOut,
    VerifyIn,
)
from otpvoice.http.problems import Answer, NotFound
from otpvoice.service import AsyncOTPService
from otpvoice.types import Challenge

router = APIRouter(prefix="/v1/challenges", tags=["challenges"])

Issuer = Annotated[Caller, Depends(require("issue"))]
Verifier = Annotated[Caller, Depends(require("verify"))]
Holder = Annotated[Caller, Depends(require("issue", "verify", "read", "admin"))]
Reader = Annotated[Caller, Depends(require("read", "admin"))]
ChallengeId = Annotated[str, Path(description="`ch_` and 32 hexadecimal digits.", max_length=128)]


@router.post(
    "",
    status_code=201,
    response_model=ChallengeOut,
    summary="Open a challenge and send its first code",
    responses=answers(errors.InvalidRequest, errors.RecipientDenied, errors.RateLimited, problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def open_challenge(request: Request, body: ChallengeIn, caller: Issuer) -> Response:
    """The answer is the same, and as fast, whether or not a provider takes the message."""
    deps = deps_of(request)
    service = await deps.opening(caller, body.recipient)
    client = body.client or (request.scope.get("otpvoice.client") if deps.http.limit_by_address else None)

    async def perform() -> Result:
        try:
            challenge = await service.issue_code(
                body.recipient,
                purpose=body.purpose,
                subject=body.subject,
                channel=body.channel,
                locale=body.locale,
                binding=_members(body.binding),
                client=client,
            )
        except errors.DeliveryError as error:
            challenge = _still_open(error)
        except errors.OTPVoiceError as error:
            deps.metrics.opened(caller.tenant, body.purpose, problems.kind_of(error).slug)
            raise
        deps.metrics.opened(caller.tenant, challenge.purpose, "opened")
        return _told(challenge, status=201)

    return await once(request, caller, deps, service._context.keyring, perform)


@router.post(
    "/{challenge_id}/verify",
    response_model=VerifiedOut,
    summary="Check what a person typed",
    responses=answers(errors.VerificationFailed, errors.LockedOut, problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def verify(request: Request, challenge_id: ChallengeId, body: VerifyIn, caller: Verifier) -> Response:
    """A wrong code, and a challenge that is expired, used, cancelled, exhausted or unknown, are answered alike.

    Only the number of attempts left, for a challenge that is open, tells more. An attempt is spent before anything
    is compared.
    """
    deps = deps_of(request)
    service = await deps.holding(caller, challenge_id)

    async def perform() -> Result:
        try:
            verified = await service.verify_code(
                challenge_id, body.code, purpose=body.purpose, subject=body.subject, binding=_members(body.binding)
            )
        except (errors.CodeMismatch, errors.ChallengeClosed) as error:
            deps.metrics.verified(caller.tenant, "failed", guessed=isinstance(error, errors.CodeMismatch), of=body.code)
            return Result(answer=await _failed(service, challenge_id, error))
        except errors.OTPVoiceError as error:
            deps.metrics.verified(caller.tenant, problems.kind_of(error).slug)
            raise
        deps.metrics.verified(caller.tenant, "approved")
        context = service._context
        claims = proof.claims_of(
            verified,
            keyring=context.keyring,
            tenant=context.tenant,
            audience=deps.tenants[caller.tenant].audience,
            issuer=deps.http.issuer,
            ttl=timedelta(seconds=deps.http.proof_ttl),
        )
        said = VerifiedOut(
            challenge_id=verified.challenge_id,
            purpose=verified.purpose,
            channel=verified.channel,
            medium=verified.medium,
            approved_at=verified.approved_at,
            proof="",
            proof_expires_at=verified.approved_at.replace(microsecond=0) + timedelta(seconds=deps.http.proof_ttl),
        )
        body_out = said.model_dump(mode="json")
        return Result(answer=Answer(status=200, body=body_out), claims=claims, keyring=context.keyring)

    return await once(request, caller, deps, service._context.keyring, perform)


@router.post(
    "/{challenge_id}/resend",
    response_model=ChallengeOut,
    summary="Send a fresh code by the next step of the route",
    responses=answers(errors.InvalidRequest, errors.ChallengeClosed, errors.RateLimited, problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def resend(request: Request, challenge_id: ChallengeId, caller: Issuer, body: ResendIn | None = None) -> Response:
    """Neither the attempts nor the time of the challenge are renewed."""
    deps = deps_of(request)
    service = await deps.holding(caller, challenge_id)

    async def perform() -> Result:
        try:
            challenge = await service.resend_code(challenge_id, channel=None if body is None else body.channel)
        except errors.DeliveryError as error:
            challenge = _still_open(error)
        return _told(challenge)

    return await once(request, caller, deps, service._context.keyring, perform)


@router.post(
    "/{challenge_id}/cancel",
    response_model=ChallengeOut,
    summary="Close a challenge for good",
    responses=answers(errors.InvalidRequest, errors.ChallengeClosed, problems.IdempotencyConflict),
    openapi_extra=once_header(),
)
async def cancel(request: Request, challenge_id: ChallengeId, caller: Issuer, _body: Nothing | None = None) -> Response:
    """No code of it counts any more."""
    deps = deps_of(request)
    service = await deps.holding(caller, challenge_id)

    async def perform() -> Result:
        return _told(await service.cancel(challenge_id))

    return await once(request, caller, deps, service._context.keyring, perform)


@router.get(
    "/{challenge_id}",
    response_model=ChallengeOut,
    summary="Look at a challenge",
    responses=answers(errors.ChallengeClosed),
)
async def look(request: Request, challenge_id: ChallengeId, caller: Holder) -> Response:
    """What became of its deliveries, attempts left, and the next step."""
    deps = deps_of(request)
    service = await deps.holding(caller, challenge_id)
    return _told(await service.get(challenge_id), whole=True).response()


@router.get(
    "/{challenge_id}/events",
    response_model=EventsOut,
    summary="A challenge's story, for support people",
    responses=answers(NotFound),
)
async def story(request: Request, challenge_id: ChallengeId, caller: Reader) -> Response:
    """Every send, attempt and report, oldest first; never a code or a full number."""
    deps = deps_of(request)
    service = await deps.holding(caller, challenge_id)
    happened = await service.events(challenge_id)
    if not happened:
        raise NotFound
    told = EventsOut(events=[EventOut.of(item) for item in happened])
    return Answer(status=200, body=told.model_dump(mode="json")).response()


def _members(binding: BindingIn | None) -> Mapping[str, str] | None:
    return None if binding is None else binding.members()


def _told(challenge: Challenge, *, status: int = 200, whole: bool = False) -> Result:
    body = ChallengeOut.of(challenge, whole=whole).model_dump(mode="json")
    headers = {"Location": f"/v1/challenges/{challenge.id}"} if status == 201 else {}
    return Result(answer=Answer(status=status, body=body, headers=headers))


def _still_open(error: errors.DeliveryError) -> Challenge:
    if error.challenge is None:
        raise error
    return error.challenge


async def _failed(
    service: AsyncOTPService, challenge_id: str, error: errors.CodeMismatch | errors.ChallengeClosed
) -> Answer:
    """The one answer to every failure; its members differ only for the holder of an open challenge."""
    more: dict[str, Any] = {"attempts_left": 0, "resend_at": None, "next_step": None}
    if isinstance(error, errors.CodeMismatch) and error.attempts_left:
        after = error.after or await service.get(challenge_id)
        told = NextOut(resend_at=after.resend_at, next_step=after.next_step)
        more = {"attempts_left": error.attempts_left, **told.model_dump(mode="json")}
    return problems.answer(errors.VerificationFailed(), more=more)
