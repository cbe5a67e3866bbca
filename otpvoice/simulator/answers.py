"""What goes back over the wire: envelopes, and everything that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from otpvoice.simulator.checks import REASONS
from otpvoice.simulator.rules import Rule

JSON = "application/json;charset=UTF-8"
GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

Abort = Callable[[tuple[str, int]], None]
"""Cuts the connection of the client with that address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A response, and what to tell the observer of it."""

    response: Response
    status: str | None
    """The envelope's; None where the answer is no envelope."""
    reason: str


def envelope(content: Mapping[str, Any]) -> Response:
    """JSON as the provider sends it, always with HTTP 200."""
    return Response(json.dumps(content, ensure_ascii=False), headers={"content-type": JSON})


def counts(items: list[dict[str, str]], failed: int) -> dict[str, Any]:
    """The top level of an answer about text messages: accepted numbers only."""
    return {"success": str(len(items)), "fail": str(failed), "array": items}


def answer(rule: Rule, good: Mapping[str, Any]) -> Answered:
    """The answer that a rule wants, where ``good`` is what would be said without one."""
    if rule.answer.startswith("http-"):
        http_status = int(rule.answer.removeprefix("http-"))
        words = "" if http_status in {204, 304} else "the simulator was told to fail"
        return Answered(response=Response(words, http_status), status=None, reason="")
    if rule.answer in {"garbage", "html", "empty", "truncated"}:
        body = {
            "garbage": b'\x00\xff{"status":',
            "html": GATEWAY_PAGE.encode(),
            "empty": b"",
            "truncated": json.dumps(good).encode()[: len(json.dumps(good)) // 2],
        }[rule.answer]
        kind = "text/html" if rule.answer == "html" else JSON
        response = Response(body, headers={"content-type": kind})
        return Answered(response=response, status=None, reason=f"{rule.answer} body")
    said = _odd(rule.answer, dict(good))
    status, reason = str(said.get("status", said.get("code"))), str(said.get("reason", said.get("msg")))
    return Answered(response=envelope(said), status=status, reason=reason)


def _odd(kind: str, good: dict[str, Any]) -> dict[str, Any]:
    if kind.startswith("-"):
        return {"status": kind, "reason": REASONS.get(int(kind), "unknown")}
    if kind == "no-id":
        return good | (counts([], 1) if "array" in good else {"data": None})
    if kind == "number-status":
        return good | {"status": 0}
    if kind == "aliases":
        return {{"status": "code", "reason": "msg"}.get(name, name): value for name, value in good.items()}
    if kind == "number-id" and isinstance(good.get("data"), str):
        return good | {"data": int(good["data"])}
    if kind == "number-id" and "array" in good:
        return good | {"array": [item | {"msgId": int(item["msgId"])} for item in good["array"] if "msgId" in item]}
    return good


class Silence(Response):
    """No answer at all: the connection is closed at once, or when the client gives up or ``until`` is set."""

    def __init__(self, abort: Abort, *, until: asyncio.Event | None) -> None:
        super().__init__()
        self._abort = abort
        self._until = until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and cut the connection."""
        if self._until is not None:
            ends = [asyncio.ensure_future(receive()), asyncio.ensure_future(self._until.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        self._abort(scope["client"])
        while (await receive())["type"] != "http.disconnect":
            pass
