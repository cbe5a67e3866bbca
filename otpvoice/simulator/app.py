"""The simulated API over HTTP: routes, and what goes wrong on the wire."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formatdate
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from otpvoice.simulator.answers import Abort, Silence, answer, counts, envelope
from otpvoice.simulator.backend import Backend
from otpvoice.simulator.checks import (
    REASONS,
    Problem,
    check_headers,
    check_send_code,
    check_send_sms,
    parse_object,
)
from otpvoice.simulator.push import Push, Pusher
from otpvoice.simulator.records import MessageOutcome, SimulatedCall, SimulatedMessage, SimulatedRequest
from otpvoice.simulator.reports import iso, parse_time, record, sms_report, voice_report
from otpvoice.simulator.rules import ACCEPTING, Rule, RuleBook

T = TypeVar("T")
log = logging.getLogger("otpvoice.simulator")

ADMIN = "/_simulator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Called on worker threads, before the request is answered."""

    on_call: Callable[[SimulatedCall], None] | None = None
    on_message: Callable[[SimulatedMessage], None] | None = None
    on_request: Callable[[SimulatedRequest], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request that passed the provider's checks."""

    perform: Callable[[Rule], Awaitable[dict[str, Any]]]
    """Does it and returns the successful envelope."""
    callee: str = ""


class Api:
    """The endpoints of one simulated provider, as an ASGI application. Runs on one event loop."""

    def __init__(
        self,
        backend: Backend,
        rules: RuleBook,
        *,
        prefix: str,
        push: Push,
        hooks: Hooks,
        abort: Abort,
    ) -> None:
        self.backend = backend
        self.rules = rules
        self.prefix = prefix
        self.push = push
        self.pusher = Pusher(backend.now)
        self.requests: Counter[str] = Counter()
        self.stopping = asyncio.Event()
        self._hooks = hooks
        self._abort = abort
        self.routes = self._routes()

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        sms = ["/sms"]
        if self.prefix:
            sms.append("")  # The sister brands have a version prefix and no sms/ part.

        def route(method: str, path: str, prepare: Callable[[Request, bytes], Prepared]) -> None:
            name = path.partition("/{")[0]

            async def endpoint(request: Request) -> Response:
                return await self._serve(request, name, prepare)

            app.add_api_route(self.prefix + path, endpoint, methods=[method], response_model=None)

        route("POST", "/voice/sendCode", self._send_code)
        route("GET", "/voice/recordGroup/{voice_id}", self._record_group)
        route("POST", "/voice/recordGroupQuery", self._record_group_query)
        for part in sms:
            route("GET", f"{part}/getBalance", self._get_balance)
            route("POST", f"{part}/sendSms", self._send_sms)
            route("GET", f"{part}/sendSms", self._send_sms)
            route("GET", f"{part}/getReport", self._get_report)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; count it, date the answer by the simulator's clock, tell the observer."""
        admin = scope["path"].startswith(ADMIN)
        path = str(scope["path"]).removeprefix(self.prefix)
        path = re.sub(r"^(/voice/recordGroup)/.*", r"\1", path)
        if not admin:
            self.requests[path] += 1
        at = self.backend.now()
        sent: list[int] = []

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])
                date = formatdate(self.backend.now().timestamp(), usegmt=True)
                message["headers"] = [*message.get("headers", []), (b"date", date.encode())]
            await send(message)

        try:
            await self.routes(scope, receive, dated)
        except ClientDisconnect:
            self._abort(scope["client"])
        if not admin and self._hooks.on_request:
            status, reason = scope.get("state", {}).get("envelope", (None, ""))
            seen = SimulatedRequest(
                method=scope["method"],
                path=path,
                at=at,
                http_status=sent[0] if sent else None,
                status=status,
                reason=reason,
            )
            await self._tell(self._hooks.on_request, seen)

    async def _serve(self, request: Request, path: str, prepare: Callable[[Request, bytes], Prepared]) -> Response:
        account = self.backend.account
        good: dict[str, Any] = {"status": "0", "reason": REASONS[0]}
        canonical = path if path.startswith(("/voice/", "/sms/")) else f"/sms{path}"
        body = await request.body()
        try:
            check_headers(
                request.headers,
                api_key=account.api_key,
                api_secret=account.api_secret,
                now=self.backend.now().timestamp(),
            )
            prepared = prepare(request, body)
            rule = self.rules.take(canonical, prepared.callee)
            if rule.accepts or rule.answer in ACCEPTING:
                good |= await prepared.perform(rule)
        except Problem as problem:
            request.state.envelope = (str(problem.status), problem.reason)
            return envelope({"status": str(problem.status), "reason": problem.reason})
        if rule.delay:
            await self._pause(rule.delay)
        if rule.answer in {"hang", "drop"} or self.stopping.is_set():
            hangs = rule.answer == "hang"
            request.state.envelope = (None, "never answered" if hangs else "connection dropped")
            return Silence(self._abort, until=self.stopping if hangs else None)
        answered = answer(rule, good)
        request.state.envelope = (answered.status, answered.reason)
        return answered.response

    def _send_code(self, _: Request, body: bytes) -> Prepared:
        parameters = parse_object(body)
        account = self.backend.account
        checked = check_send_code(
            parameters,
            app_ids=frozenset(account.app_ids),
            generation=account.generation,
            max_loop_count=account.max_loop_count,
        )

        async def perform(rule: Rule) -> dict[str, Any]:
            self.backend.check_funds(account.call_price)
            if not rule.accepts:  # The provider says that it took the call, and nothing rings.
                return {"data": self.backend.unused_id()}
            call = self.backend.place_call(checked, parameters, rule)
            if rule.pushed and self.push.voice_url:
                self.push_call(call, wait=(call.ends_at - call.at).total_seconds())
            await self._tell(self._hooks.on_call, call)
            return {"data": call.voice_id}

        return Prepared(perform=perform, callee=checked.callee)

    def _record_group(self, request: Request, _: bytes) -> Prepared:
        async def perform(_: Rule) -> dict[str, Any]:
            voice_id = request.path_params["voice_id"]
            for call in self.backend.records():
                if call.voice_id == voice_id:
                    return {"data": record(call, self.backend.account, self.push.terminations)}
            unknown = self.backend.account.unknown_record
            if unknown != "null":
                raise Problem(int(unknown))
            return {"data": None}

        return Prepared(perform=perform)

    def _record_group_query(self, _: Request, body: bytes) -> Prepared:
        wanted = parse_object(body)
        current, size = _page_number(wanted, "current", 1, 10**6), _page_number(wanted, "size", 25, 100)
        window = wanted.get("params")
        if not isinstance(window, dict):
            raise Problem(-22, "params is missing")
        start, end = parse_time(window.get("strTime"), "strTime"), parse_time(window.get("endTime"), "endTime")
        if not timedelta(0) <= end - start <= timedelta(days=31):
            raise Problem(-25, "strTime to endTime is 0 to 31 days")
        if start < self.backend.now() - timedelta(days=62):
            raise Problem(-25, "records are kept for two months")

        async def perform(_: Rule) -> dict[str, Any]:
            found = [call for call in self.backend.records() if start <= call.at.replace(microsecond=0) <= end]
            page = found[(current - 1) * size : current * size]
            account = self.backend.account
            return {
                "data": {
                    "total": len(found),
                    "size": size,
                    "current": current,
                    "pages": -(-len(found) // size),
                    "searchCount": True,
                    "records": [record(call, account, self.push.terminations) for call in page],
                }
            }

        return Prepared(perform=perform)

    def _get_balance(self, _: Request, __: bytes) -> Prepared:
        async def perform(_: Rule) -> dict[str, Any]:
            return {"balance": f"{self.backend.balance}", "gift": "0.000", "credit": "0.000"}

        return Prepared(perform=perform)

    def _send_sms(self, request: Request, body: bytes) -> Prepared:
        by_get = request.method == "GET"
        values: Mapping[str, Any] = dict(request.query_params) if by_get else parse_object(body)
        account = self.backend.account
        checked = check_send_sms(values, app_ids=frozenset(account.app_ids), max_numbers=100 if by_get else 1000)

        async def perform(rule: Rule) -> dict[str, Any]:
            self.backend.check_funds(account.message_price)
            if not rule.accepts:
                lost = [{"msgId": self.backend.unused_id(), "number": number} for number in checked.numbers]
                return counts(lost, 0)
            messages = self.backend.send_messages(checked, rule)
            for message in messages:
                if rule.pushed and self.push.sms_url and message.outcome is not MessageOutcome.PENDING:
                    self.push_message(message)
                await self._tell(self._hooks.on_message, message)
            items = [{"msgId": message.msg_id, "number": message.number} for message in messages]
            for item, message in zip(items, messages, strict=True):
                if message.order_id is not None:
                    item["orderId"] = message.order_id
            return counts(items, len(checked.numbers) - len(items))

        # With one number a rule or a test number can be meant; with several only a rule for all of them.
        return Prepared(perform=perform, callee=checked.numbers[0] if len(checked.numbers) == 1 else "")

    def _get_report(self, request: Request, _: bytes) -> Prepared:
        ids = [part for part in request.query_params.get("msgIds", "").split(",") if part]
        if request.query_params.get("appId") not in self.backend.account.app_ids or not ids or len(ids) > 200:
            raise Problem(-14)

        async def perform(_: Rule) -> dict[str, Any]:
            found = [message for part in dict.fromkeys(ids) if (message := self.backend.message(part))]
            codes = {MessageOutcome.DELIVERED: "0", MessageOutcome.PENDING: "-1", MessageOutcome.FAILED: "1"}
            tally = Counter(message.outcome for message in found)
            return {
                "success": str(tally[MessageOutcome.DELIVERED]),
                "fail": str(tally[MessageOutcome.FAILED]),
                "sending": str(tally[MessageOutcome.PENDING]),
                "nofound": str(len(set(ids)) - len(found)),
                "array": [
                    {
                        "msgId": message.msg_id,
                        "number": message.number,
                        "receiveTime": iso(message.at),
                        "status": codes[message.outcome],
                    }
                    for message in found
                ],
            }

        return Prepared(perform=perform)

    def push_call(self, call: SimulatedCall, *, wait: float = 0.0) -> None:
        """Push the report of a call, in the shape and with the oddities that are set."""
        push = self.push
        report = voice_report(call, self.backend.account, terminations=push.terminations, oddities=push.oddities)
        if push.voice_url:
            self.pusher.report(push, push.voice_url, push.shape, report, wait=wait)

    def push_message(self, message: SimulatedMessage) -> None:
        """Push the report of a message, with the oddities that are set."""
        push = self.push
        report = sms_report(message, self.backend.account, self.backend.now(), oddities=push.oddities)
        if push.sms_url:
            self.pusher.report(push, push.sms_url, "object", report, wait=0.0)

    async def _tell(self, hook: Callable[[T], None] | None, value: T) -> None:
        if hook is None:
            return
        try:
            # On a thread: an observer may well ask this very simulator something over HTTP.
            await asyncio.to_thread(hook, value)
        except Exception:
            log.exception("an observer of the simulator failed")

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not into the simulator's end."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return


def _page_number(wanted: Mapping[str, Any], name: str, default: int, limit: int) -> int:
    value = wanted.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise Problem(-22, f"{name} is not 1 to {limit}")
    return value
