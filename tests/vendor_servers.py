"""Small local stand-ins for Twilio's and Vonage's APIs, over real HTTP: they check what the real ones check.

They are written from the vendors' pages and share no code with the channels.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree as ET

import jwt

from otpvoice.channels.base import ReportRequest
from otpvoice.clock import Clock, ManualClock

ACCOUNT = "AC" + "0a1b" * 8
TOKEN = "7f1e5c2b9d4a4e6f8b0c1d2e3f405162"
CALLER = "+15005550006"


@dataclass
class Server:
    """A provider on a port of its own. ``refuse`` answers every creation so; ``drop`` takes it and never answers."""

    clock: Clock = field(default_factory=ManualClock)
    refuse: tuple[int, dict[str, Any]] | None = None
    drop: bool = False
    made: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def start(self) -> Any:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.reply(*provider.post(self.path, dict(self.headers.items()), body))

            def do_GET(self) -> None:
                self.reply(*provider.get(self.path, dict(self.headers.items())))

            def reply(self, status: int, body: dict[str, Any]) -> None:
                if status == 0:
                    self.close_connection = True
                    return
                content = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("Date", format_datetime(provider.clock.now(), usegmt=True))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __enter__(self) -> Any:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        raise NotImplementedError

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        raise NotImplementedError

    def answer(self, status: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return (0, {}) if self.drop else (status, body)


@dataclass
class FakeTwilio(Server):
    """Calls and messages of one account."""

    def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests.append(f"POST {path}")
        if (wrong := self._wrong(headers)) is not None:
            return wrong
        resource = re.fullmatch(rf"/2010-04-01/Accounts/{ACCOUNT}/(Calls|Messages)\.json", path)
        if resource is None or headers.get("Content-Type") != "application/x-www-form-urlencoded":
            return 404, {"code": 20404, "message": f"{path} was not found", "status": 404}
        if self.refuse is not None:
            return self.refuse
        fields = dict(parse_qsl(body.decode(), strict_parsing=True))
        if re.fullmatch(r"\+[1-9][0-9]{6,14}", fields.get("To", "")) is None:
            return 400, {"code": 21211, "message": f"Invalid 'To' Phone Number: {fields.get('To')}", "status": 400}
        if fields.get("From") != CALLER:
            return 400, {"code": 21212, "message": "Invalid 'From' Phone Number", "status": 400}
        calls = resource[1] == "Calls"
        said = fields.get("Twiml", "") if calls else fields.get("Body", "")
        if not said or len(said) > (4000 if calls else 1600):
            return 400, {"code": 21617, "message": "too long", "status": 400}
        made = {
            "sid": f"{'CA' if calls else 'SM'}{len(self.made):032x}",
            "to": fields["To"],
            "from": fields["From"],
            "direction": "outbound-api",
            "status": "queued",
            "date_created": format_datetime(self.clock.now()),
            "price": None,
            "price_unit": "USD",
            "error_code": None,
            "said": "".join(ET.fromstring(said).itertext()) if calls else said,
            "callback": fields.get("StatusCallback"),
        }
        self.made.append(made)
        return self.answer(201, _shown(made))

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(path)
        self.requests.append(f"GET {parts.path}")
        if (wrong := self._wrong(headers)) is not None:
            return wrong
        base = f"/2010-04-01/Accounts/{ACCOUNT}"
        if parts.path == f"{base}/Balance.json":
            return 200, {"account_sid": ACCOUNT, "balance": "12.50", "currency": "USD"}
        for resource in ("Calls", "Messages"):
            if parts.path == f"{base}/{resource}.json":
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                wanted = {"to": query.get("To"), "from": query.get("From")}
                found = [
                    _shown(made)
                    for made in reversed(self.made)
                    if made["sid"].startswith(resource[0]) or (resource == "Messages" and made["sid"][0] == "S")
                    if all(value in (None, made[name]) for name, value in wanted.items())
                ]
                return 200, {resource.lower(): found[: int(query.get("PageSize", "50"))], "page": 0}
            for made in self.made:
                if parts.path == f"{base}/{resource}/{made['sid']}.json":
                    return 200, _shown(made)
        return 404, {"code": 20404, "message": "not found", "status": 404}

    def _wrong(self, headers: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        right = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        if headers.get("Authorization") == f"Basic {right}":
            return None
        return 401, {"code": 20003, "message": "Authenticate", "status": 401}

    def end(self, made: dict[str, Any], status: str, *, talk: int = 0) -> ReportRequest:
        """Let a call or message come to its end, and push that to its status callback."""
        made |= {"status": status, "duration": str(talk), "end_time": format_datetime(self.clock.now())}
        fields = {"AccountSid": ACCOUNT, "ApiVersion": "2010-04-01", "From": made["from"], "To": made["to"]}
        if made["sid"].startswith("CA"):
            fields |= {"CallSid": made["sid"], "CallStatus": status, "CallDuration": str(talk)}
            fields["Timestamp"] = made["end_time"]
        else:
            fields |= {"MessageSid": made["sid"], "MessageStatus": status}
        return pushed(made["callback"], fields)


def pushed(url: str, fields: dict[str, str], *, token: str = TOKEN) -> ReportRequest:
    """A callback as Twilio signs it: the URL, then each field's name and value in the order of the names."""
    signed = url
    for name in sorted(fields):
        signed += name + fields[name]
    mac = base64.b64encode(hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    return ReportRequest(
        method="POST",
        url=url,
        headers={"x-twilio-signature": mac, "content-type": "application/x-www-form-urlencoded"},
        body=urlencode(fields).encode(),
    )


def _shown(made: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if name not in {"said", "callback"}}


APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
SIGNATURE_SECRET = "signature-secret-of-32-characters-or-more"
API_KEY, API_SECRET = "a1b2c3d4", "Vk29sQpLx8Td"


@dataclass
class FakeVonage(Server):
    """An application's calls, and an account's text messages."""

    public_key: Any = None
    seen: set[str] = field(default_factory=set)

    def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests.append(f"POST {path}")
        said = json.loads(body)
        if path == "/sms/json":
            return self._sms(said)
        if (wrong := self._wrong(headers)) is not None:
            return wrong
        if path != "/v1/calls":
            return 404, {"type": "https://developer.vonage.com/api-errors#not-found", "title": "Not found"}
        if self.refuse is not None:
            return self.refuse
        (to,) = said["to"]
        (talk,) = said["ncco"]
        fits = talk["action"] == "talk" and 0 < len(talk["text"]) <= 1500 and 1 <= talk["loop"] <= 10
        if to["type"] != "phone" or re.fullmatch(r"[1-9][0-9]{6,14}", to["number"]) is None or not fits:
            return 400, {"type": "https://developer.vonage.com/api-errors#invalid-params", "title": "Bad Request"}
        made = {
            "uuid": f"63f61863-4a51-4f6b-86e1-{len(self.made):012x}",
            "conversation_uuid": "CON-f972836a-550f-45fa-956c-12a2ab5b7d22",
            "status": "started",
            "direction": "outbound",
            "to": {"type": "phone", "number": to["number"]},
            "created": self.clock.now().isoformat(),
            "said": talk["text"],
            "callback": said.get("event_url", [None])[0],
        }
        self.made.append(made)
        return self.answer(201, _shown(made))

    def _sms(self, said: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refuse is not None:
            return self.refuse
        if (said.get("api_key"), said.get("api_secret")) != (API_KEY, API_SECRET):
            return 200, {"message-count": "1", "messages": [{"status": "4", "error-text": "Bad Credentials"}]}
        made = {"message-id": f"0C0000002{len(self.made):07X}", "to": said["to"], "status": "0"}
        self.made.append(made | {"said": said["text"], "client-ref": said["client-ref"], "type": said["type"]})
        return self.answer(200, {"message-count": "1", "messages": [made]})

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(path)
        self.requests.append(f"GET {parts.path}")
        if (wrong := self._wrong(headers)) is not None:
            return wrong
        if parts.path == "/v1/calls":
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            start, end = query.get("date_start"), query.get("date_end")
            found = [
                _shown(made)
                for made in self.made
                if (start is None or datetime.fromisoformat(made["created"]) >= datetime.fromisoformat(start))
                and (end is None or datetime.fromisoformat(made["created"]) <= datetime.fromisoformat(end))
            ]
            return 200, {"count": len(found), "_embedded": {"calls": found[: int(query.get("page_size", "10"))]}}
        for made in self.made:
            if parts.path == f"/v1/calls/{made['uuid']}":
                return 200, _shown(made)
        return 404, {"type": "https://developer.vonage.com/api-errors#not-found", "title": "Not found"}

    def _wrong(self, headers: dict[str, str]) -> tuple[int, dict[str, Any]] | None:
        unauthorized = 401, {"type": "https://developer.vonage.com/api-errors#unauthorized", "title": "Unauthorized"}
        given = headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(
                given,
                self.public_key,
                algorithms=["RS256"],
                options={"require": ["iat", "exp", "jti", "application_id"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            return unauthorized
        now = self.clock.now().timestamp()
        if claims["application_id"] != APPLICATION or claims["jti"] in self.seen:
            return unauthorized
        if not claims["iat"] - 60 <= now <= claims["exp"]:
            return 401, {"type": "https://developer.vonage.com/api-errors#jwt-expired", "title": "Unauthorized"}
        self.seen.add(claims["jti"])
        return None

    def end(self, made: dict[str, Any], status: str, **more: Any) -> ReportRequest:
        """Let a call come to its end, and push that to the URL of its events."""
        made |= {"status": status, **more}
        return event(made["callback"], _shown(made))


def event(url: str, said: dict[str, Any], *, secret: str = SIGNATURE_SECRET, **claims: Any) -> ReportRequest:
    """An event as Vonage signs it: a token with the hash of the body."""
    body = json.dumps(said, separators=(",", ":")).encode()
    payload = {
        "iat": int(time.time()),
        "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": API_KEY,
        "application_id": APPLICATION,
        **claims,
    }
    token = jwt.encode(payload, secret, algorithm="HS256")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return ReportRequest(method="POST", url=url, headers=headers, body=body)
