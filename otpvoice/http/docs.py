"""What the OpenAPI document says of answers: the rows of the problem table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otpvoice import errors
from otpvoice.http import problems
from otpvoice.http.models import ProblemOut

ALWAYS: tuple[type[Exception], ...] = (
    problems.Unauthenticated,
    problems.ScopeMissing,
    problems.MalformedBody,
    problems.BodyTimeout,
    problems.BodyTooLarge,
    problems.UnsupportedMediaType,
    problems.HeadersTooLarge,
    errors.InvalidRequest,
    errors.ServiceBusy,
)
"""What any authenticated request may be answered with."""

Responses = dict[int | str, dict[str, Any]]


def answers(*kinds: type[Exception], always: tuple[type[Exception], ...] = ALWAYS) -> Responses:
    """The problems that a route may be answered with, besides those of all."""
    by_status: dict[int, list[problems.Kind]] = {}
    for error in (*kinds, *always):
        kind = problems.kind_of(error)
        known = by_status.setdefault(kind.status, [])
        if kind not in known:
            known.append(kind)
    schema = {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}
    return {
        status: {
            "description": "; ".join(kind.title for kind in known),
            "content": {
                problems.MEDIA_TYPE: {
                    "schema": schema,
                    "examples": {kind.slug: {"value": _example(kind)} for kind in known},
                }
            },
        }
        for status, known in sorted(by_status.items())
    }


def _example(kind: problems.Kind) -> Mapping[str, Any]:
    more = {"retry_after": 30} if kind.status in {429, 503} else {}
    if kind.slug == "verification-failed":
        more = {"attempts_left": 4, "resend_at": "2026-01-01T12:00:30Z", "next_step": "voice"}  # type: ignore[dict-item]
    detail = {} if kind.detail is None else {"detail": kind.detail}
    return {"type": kind.type, "title": kind.title, "status": kind.status, **detail, **more}


def once_header() -> dict[str, Any]:
    """The ``Idempotency-Key`` parameter."""
    return {
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and body are evaluated once, for 24 hours.",
                "schema": {"type": "string", "minLength": 22, "maxLength": 255, "pattern": "^[A-Za-z0-9_.:~+/=-]+$"},
                "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
            }
        ]
    }
