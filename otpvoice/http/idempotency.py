"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header-07): the same request twice happens once.

The first request with a key claims it, in the database, before anything is evaluated. Its answer is kept for a day,
sealed, without the proof that it held: that is signed anew from the same claims, is the same token, and counts once.
A request that ended without any effect (a limit, a busy process) gives the key back. One whose end nobody saw,
because the process died, stays without an answer: 409, and never a second call or attempt.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from otpvoice import proof
from otpvoice.errors import InvalidRequest, OTPVoiceError
from otpvoice.flow import transact
from otpvoice.http import problems
from otpvoice.http.auth import Caller
from otpvoice.http.deps import Deps
from otpvoice.http.problems import Answer, IdempotencyConflict, IdempotencyMismatch
from otpvoice.keys import Keyring, framed
from otpvoice.store import idempotency as records

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("otpvoice.http")

KEPT = timedelta(hours=24)
HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_LONGEST = timedelta(minutes=1)
"""No request is under way for longer: one without an answer has lost its process, and waiting brings none."""
_KEY = re.compile(r"[A-Za-z0-9_.:~+/=-]{22,255}")
"""At least 22 characters: 128 bits in base64, a UUID in its usual form (property P84)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a request came to. ``claims`` are signed into the answer's ``proof``, with ``keyring``."""

    answer: Answer
    claims: Mapping[str, Any] | None = None
    keyring: Keyring | None = None

    def response(self) -> Response:
        """The response, with its proof."""
        if self.claims is None or self.keyring is None:
            return self.answer.response()
        body = {**self.answer.body, "proof": str(proof.sign(self.claims, self.keyring))}
        return replace(self.answer, body=body).response()


Perform = Callable[[], Awaitable[Result]]


async def once(request: Request, caller: Caller, deps: Deps, keyring: Keyring, perform: Perform) -> Response:
    """Perform a request, or answer as it was answered before. Without the header: just perform it.

    ``keyring`` signs the proof of an answer that is given again.
    """
    shown = request.headers.getlist(HEADER)
    if not shown:
        return (await perform()).response()
    keys = deps.context.keyring.index("idempotency", _framed(caller.tenant, caller.key_id, _parse(shown)))
    fingerprints = await _fingerprints(request, deps.context.keyring)
    found, now = await deps.run(transact(partial(_claim, keys=keys, fingerprint=fingerprints[0])))
    if found is not None:
        if found.fingerprint not in fingerprints:
            raise IdempotencyMismatch("this key was used with another request; use a fresh one")
        if found.status is None or found.sealed is None:
            if now - found.created_at < _LONGEST:
                raise IdempotencyConflict("it is under way", retry_after=timedelta(seconds=1))
            raise IdempotencyConflict(
                "it ended without one, so that what came of it is not known: look at what it was about, "
                "or use a fresh key"
            )
        result = _open(found, deps.context.keyring, keyring)
        again = {**result.answer.headers, REPLAYED: "true"}
        return replace(result, answer=replace(result.answer, headers=again)).response()
    result = await _perform(deps, keys[0], perform)
    sealed = _sealed(result, keys[0], deps.context.keyring)
    status = result.answer.status
    try:
        await deps.run(
            transact(lambda connection, _now: records.answer(connection, keys[0], status=status, sealed=sealed))
        )
    except OTPVoiceError as error:
        # It has happened, and whoever asked is told: only a repetition is not.
        log.error("an answer could not be kept for its Idempotency-Key: %s", type(error).__name__)
    return result.response()


async def _perform(deps: Deps, key: str, perform: Perform) -> Result:
    try:
        return await perform()
    except OTPVoiceError as error:
        if problems.kind_of(error).nothing_happened:
            await deps.run(transact(lambda connection, _now: records.release(connection, key), single=True))
            raise
        told = problems.answer(error)
        if told.status >= 500:
            raise
        return Result(answer=told)


def _claim(
    connection: Connection, now: datetime, *, keys: tuple[str, ...], fingerprint: str
) -> tuple[records.Record | None, datetime]:
    return records.claim(connection, keys, fingerprint, now=now, expires_at=now + KEPT), now


def _parse(shown: list[str]) -> str:
    """The key, bare or as a structured-field string (RFC 8941)."""
    value = shown[0].strip() if len(shown) == 1 else ""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if _KEY.fullmatch(value) is None:
        raise InvalidRequest(f"{HEADER} is one key of 22 to 255 letters, digits and . _ : ~ + / = -, such as a UUID")
    return value


async def _fingerprints(request: Request, keyring: Keyring) -> tuple[str, ...]:
    """The request as a keyed hash: a plain one of a body with a code in it would give the code away."""
    body = await request.body()
    canonical = json.dumps(json.loads(body), sort_keys=True) if body.strip() else ""
    return keyring.index("idempotent-request", _framed(request.method, request.url.path, canonical))


def _framed(*fields: str) -> str:
    return framed(*fields).hex()


def _sealed(result: Result, key: str, keyring: Keyring) -> bytes:
    members = {
        "body": dict(result.answer.body),
        "headers": dict(result.answer.headers),
        "claims": None if result.claims is None else dict(result.claims),
    }
    return keyring.seal(json.dumps(members).encode(), context=f"idempotency:{key}")


def _open(record: records.Record, own: Keyring, signing: Keyring) -> Result:
    assert record.status is not None
    assert record.sealed is not None
    members = json.loads(own.unseal(record.sealed, context=f"idempotency:{record.key}"))
    answer = Answer(status=record.status, body=members["body"], headers=members["headers"])
    return Result(answer=answer, claims=members["claims"], keyring=signing)
