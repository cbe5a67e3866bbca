"""``/_simulator``: set rules, read what was spoken, move the clock, push reports. For tests in other processes.

Not protected: the simulator listens on the loopback address, holds nothing real and is not to be exposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from otpvoice.simulator.app import ADMIN, Api
from otpvoice.simulator.push import Push
from otpvoice.simulator.records import MessageOutcome, Outcome, SimulatedCall, SimulatedMessage
from otpvoice.simulator.reports import iso, sms_report, voice_report
from otpvoice.simulator.rules import Rule


def call_as_dict(call: SimulatedCall) -> dict[str, Any]:
    """A call for people and tests: what was spoken, what was heard, what became of it."""
    line = call.timeline
    return {
        "voice_id": call.voice_id,
        "callee": call.callee,
        "display_num": call.display_num,
        "language": call.language,
        "text": call.text,
        "heard_code": call.heard_code,
        "loop_count": call.loop_count,
        "called_info": call.called_info,
        "app_id": call.app_id,
        "parameters": call.parameters,
        "at": iso(call.at),
        "outcome": call.outcome,
        "sip_code": call.sip_code,
        "ring_seconds": line.ring_seconds,
        "talk_seconds": line.talk_seconds,
        "recalls": call.recalls,
        "cost": f"{call.cost}",
    }


def message_as_dict(message: SimulatedMessage) -> dict[str, Any]:
    """A text message for people and tests."""
    return {
        "msg_id": message.msg_id,
        "number": message.number,
        "content": message.content,
        "heard_code": message.heard_code,
        "app_id": message.app_id,
        "sender_id": message.sender_id,
        "order_id": message.order_id,
        "at": iso(message.at),
        "outcome": message.outcome,
        "segments": message.segments,
        "cost": f"{message.cost}",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """The clock's setting."""

    skew: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A report to push now. An outcome makes it contradict what became of the call or message."""

    outcome: str | None = None


class Admin:
    """What can be asked of a running simulator, over HTTP and (through the server's methods) from Python."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def reset(self) -> None:
        """Back to the state at the start, push settings apart."""
        await self._api.pusher.cancel()
        self._api.rules.clear()
        self._api.requests.clear()
        self._api.backend.reset()

    def push_again(self, reference: str, outcome: str | None = None) -> None:
        """Push the report of a call or message at once. Raises ``KeyError``, or ``ValueError`` for the outcome."""
        push, backend, pusher = self._api.push, self._api.backend, self._api.pusher
        if call := backend.call(reference):
            if push.voice_url is None:
                raise ValueError("no voice_url is set to push to")
            report = voice_report(
                call,
                backend.account,
                terminations=push.terminations,
                oddities=push.oddities,
                outcome=None if outcome is None else Outcome(outcome),
            )
            pusher.now(push, push.voice_url, push.shape, report)
        elif message := backend.message(reference):
            if push.sms_url is None:
                raise ValueError("no sms_url is set to push to")
            odd = None if outcome is None else MessageOutcome(outcome)
            report = sms_report(message, backend.account, backend.now(), oddities=push.oddities, outcome=odd)
            pusher.now(push, push.sms_url, "object", report)
        else:
            raise KeyError(reference)

    def router(self) -> APIRouter:
        """The endpoints."""
        api, backend = self._api, self._api.backend
        router = APIRouter(prefix=ADMIN)

        @router.get("/calls")
        async def calls(callee: str = "") -> Response:
            return JSONResponse([call_as_dict(c) for c in backend.calls if c.callee.endswith(callee.lstrip("+"))])

        @router.get("/messages")
        async def messages(number: str = "") -> Response:
            found = [m for m in backend.messages if m.number.endswith(number.lstrip("+"))]
            return JSONResponse([message_as_dict(m) for m in found])

        @router.get("/requests")
        async def requests() -> Response:
            return JSONResponse(dict(api.requests))

        @router.get("/rules")
        async def rules() -> Response:
            return JSONResponse([rule.as_dict() for rule in api.rules.snapshot()])

        @router.post("/rules")
        async def add_rule(request: Request) -> Response:
            rule = _read(Rule, await _json_body(request))
            api.rules.add(rule)
            return JSONResponse(rule.as_dict(), 201)

        @router.delete("/rules")
        async def clear_rules() -> Response:
            api.rules.clear()
            return Response(status_code=204)

        @router.get("/clock")
        async def clock() -> Response:
            return JSONResponse({"skew": backend.skew, "now": iso(backend.now())})

        @router.post("/clock")
        async def set_clock(skew: Skew) -> Response:
            backend.skew = skew.skew
            return await clock()

        @router.get("/push")
        async def push() -> Response:
            attempts = [
                {"body": made.body, "http_status": made.http_status, "at": iso(made.at)} for made in api.pusher.attempts
            ]
            return JSONResponse({"settings": api.push.as_dict(), "attempts": attempts})

        @router.post("/push")
        async def set_push(request: Request) -> Response:
            api.push = _read(Push, await _json_body(request))
            return JSONResponse(api.push.as_dict())

        @router.post("/push/flush")
        async def flush() -> Response:
            return JSONResponse({"pushed": api.pusher.flush(api.push)})

        @router.post("/push/{reference}")
        async def push_again(reference: str, again: Again) -> Response:
            try:
                self.push_again(reference, again.outcome)
            except KeyError:
                raise HTTPException(404, "no call or message has that id") from None
            except ValueError as error:
                raise HTTPException(422, str(error)) from None
            return Response(status_code=202)

        @router.post("/reset")
        async def reset() -> Response:
            await self.reset()
            return Response(status_code=204)

        return router


async def _json_body(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A web page in the developer's browser can post a form here, but not JSON (it would be asked for first).
        raise HTTPException(415, "send application/json")
    try:
        value = await request.json()
    except ValueError:
        raise HTTPException(422, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(422, "the body is not a JSON object")
    return value


T = TypeVar("T", Rule, Push)


def _read(kind: type[T], values: Mapping[str, Any]) -> T:
    try:
        return kind.of(values)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
