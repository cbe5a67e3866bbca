"""Bodies: short, in time, and JSON that can be read in one way only.

All of a body is read before anything is evaluated, so that a slow or endless one costs no more than its limit.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otpvoice.errors import InvalidRequest, OTPVoiceError
from otpvoice.http.problems import BodyTimeout, BodyTooLarge, MalformedBody, UnsupportedMediaType
from otpvoice.http.settings import HttpSettings
from otpvoice.http.twilio.errors import refusal

JSON_PATHS = "/v1/"
OTHER_PATHS = "/v1/reports/"
"""Under :data:`JSON_PATHS`, but in the provider's own format."""
_SHORT = ("/verify", "/confirm")


class Disconnected(Exception):
    """The client hung up before its request was whole."""


class BodyLimits:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, *, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = scope["path"]
        try:
            body = await self._read(path, headers, receive)
            if path.startswith(JSON_PATHS) and not path.startswith(OTHER_PATHS):
                _check(scope, headers, body)
        except Disconnected:
            return
        except OTPVoiceError as error:
            await refusal(error, path)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, path: str, headers: Headers, receive: Receive) -> bytes:
        limit = self._settings.verify_body if path.endswith(_SHORT) else self._settings.body
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > limit:
            raise BodyTooLarge(f"a body has {limit} bytes at most here")
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Disconnected
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise BodyTooLarge(f"a body has {limit} bytes at most here")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise BodyTimeout(f"a body arrives within {self._settings.body_timeout:g} seconds") from None


def _check(scope: Scope, headers: Headers, body: bytes) -> None:
    if scope.get("query_string"):
        # A parameter there would be logged by every proxy, and read by nobody (properties P80 and P88).
        raise InvalidRequest("nothing is read from the query string; leave it out")
    if not body.strip():
        return
    types = headers.getlist("content-type")
    media_type, _, parameters = (types[0] if len(types) == 1 else "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise UnsupportedMediaType("the body is application/json in UTF-8")
    if "content-encoding" in headers:
        raise UnsupportedMediaType("the body comes as it is, not compressed")
    try:
        read_json(body.decode())
    except (ValueError, RecursionError) as error:
        told = str(error) if isinstance(error, _Twice) else "the body is not one JSON document (RFC 8259)"
        raise MalformedBody(told) from None


def read_json(text: str) -> Any:
    """A JSON document that can be read in one way only. Raises ``ValueError`` or ``RecursionError`` for any other."""
    parsed = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    # A lone surrogate is a character that nothing can store or send.
    json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
    return parsed


class _Twice(ValueError):
    """A member that is given twice: which one counts differs between parsers."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Twice("a member is given twice")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("not a number")


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
