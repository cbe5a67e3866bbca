"""The outermost layer: where a request comes from, its id, its log line, its span, and the headers of its answer."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otpvoice import errors, inputs
from otpvoice.http import addresses, logs, problems, telemetry
from otpvoice.http.twilio.errors import refusal

if TYPE_CHECKING:
    from otpvoice.http.deps import Deps

log = logs.logger("otpvoice.access")
trouble = logs.logger("otpvoice.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PLAIN_HTTP = frozenset({"/healthz", "/readyz", "/metrics"})
"""What probes inside a cluster read without TLS."""
_DOCS = frozenset({"/docs", "/docs/oauth2-redirect"})
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_POLICY = "default-src 'none'; frame-ancestors 'none'"
_TRANSPORT = "max-age=31536000"


class Edge:
    """An ASGI middleware. No error passes it: the last resort answers with a problem that tells nothing."""

    def __init__(self, app: ASGIApp, *, deps: Deps) -> None:
        self._app = app
        self._deps = deps
        self._trusted = addresses.networks(deps.http.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        origin = self._origin(scope, headers)
        scope["otpvoice.client"] = origin.address
        scope["scheme"] = origin.scheme  # Providers sign the URL that they called.
        said = headers.get("x-request-id", "")
        request_id = said if _REQUEST_ID.fullmatch(said) else secrets.token_hex(12)
        answered = _Answered(send, request_id, secure=scope["scheme"] == "https", docs=self._docs(scope))
        span = telemetry.begin_span(telemetry.method(scope["method"]), headers.get("traceparent"))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            refused = self._refusal(scope, headers, origin)
            if refused is not None:
                await refusal(refused, scope["path"])(scope, receive, answered)
            else:
                await self._app(scope, receive, answered)
        except asyncio.CancelledError:
            # Only a process that stops, and has waited for as long as it may, cancels a request.
            if not answered.began:
                await problems.answer(problems.Stopping()).response()(scope, receive, answered)
            raise
        except Exception as error:
            # Its text and trace may repeat what was sent, so that production writes down its class alone.
            trouble.error("a request broke", error=type(error).__name__, exc_info=self._deps.http.development)
            if not answered.began:
                await refusal(errors.OTPVoiceError(), scope["path"])(scope, receive, answered)
        finally:
            route = _route(scope)
            seconds = time.perf_counter() - began
            method = telemetry.method(scope["method"])
            self._deps.metrics.answered(method=method, route=route, status=answered.status, seconds=seconds)
            telemetry.end_span(span, method=method, route=route, status=answered.status)
            _write(scope, method, route, answered.status, seconds)
            structlog.contextvars.clear_contextvars()

    def _origin(self, scope: Scope, headers: Headers) -> addresses.Origin:
        client = scope.get("client")
        return addresses.origin(
            peer=None if client is None else client[0],
            scheme=scope["scheme"],
            forwarded_for=headers.getlist("x-forwarded-for"),
            forwarded_proto=headers.getlist("x-forwarded-proto"),
            trusted=self._trusted,
        )

    def _docs(self, scope: Scope) -> bool:
        return self._deps.http.development and scope["path"] in _DOCS

    def _refusal(self, scope: Scope, headers: Headers, origin: addresses.Origin) -> errors.OTPVoiceError | None:
        http = self._deps.http
        if sum(len(name) + len(value) + 4 for name, value in headers.raw) > http.headers:
            return problems.HeadersTooLarge(f"headers have {http.headers} bytes at most")
        if "transfer-encoding" in headers and "content-length" in headers:
            return problems.AmbiguousLength("a body has one length: Transfer-Encoding or Content-Length")
        if http.tls == "required" and not http.development and not origin.secure and scope["path"] not in _PLAIN_HTTP:
            return problems.InsecureTransport("send it over TLS; a key that was sent without should be rotated")
        return None


class _Answered:
    """Sends on, with our headers, and keeps the status."""

    def __init__(self, send: Send, request_id: str, *, secure: bool, docs: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._secure = secure
        self._docs = docs
        self.began = False
        self.status = 499
        """Nobody waited for an answer, until one is sent."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in _HEADERS.items():
                headers[name] = value
            if not self._docs:
                headers["content-security-policy"] = _POLICY
            if self._secure:
                headers["strict-transport-security"] = _TRANSPORT
            headers["x-request-id"] = self._request_id
            message["headers"] = headers.raw
        await self._send(message)


def _route(scope: Scope) -> str:
    """The route's template: a path may hold an id, a log line and a label do not."""
    return str(getattr(scope.get("route"), "path", None) or "unmatched")


def _write(scope: Scope, method: str, route: str, status: int, seconds: float) -> None:
    facts: dict[str, Any] = {
        "method": method,
        "route": route,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "client": scope["otpvoice.client"],
    }
    caller = scope.get("otpvoice.caller")
    if caller is not None:
        facts |= {"tenant": caller.tenant, "key": caller.key_id}
    # Somebody may have put a number or a code where an id belongs: what is no id is not written down.
    challenge = inputs.challenge_id(str((scope.get("path_params") or {}).get("challenge_id", "")))
    if challenge is not None:
        facts["challenge"] = challenge
    log.info("request", **facts)
