"""What Twilio's voice and messaging share: credentials, requests, refusals, signed callbacks.

Vendor pages: twilio.com/docs/usage/requests-to-twilio, /docs/usage/security (``X-Twilio-Signature``) and
/docs/usage/twilios-response.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import httpx

from otpvoice.channels import rules
from otpvoice.channels.base import HttpDialogue, ReportRejected, ReportRequest
from otpvoice.channels.http_errors import http_date, map_http_status, retry_after
from otpvoice.channels.http_requests import QuietHeaders, read_json
from otpvoice.channels.rules import Rule, Secret, Unfit
from otpvoice.channels.settings import ChannelSettings, Timeouts, nested, rule
from otpvoice.channels.twilio_status import ERRORS
from otpvoice.clock import Clock
from otpvoice.errors import ContentRejected, DeliveryError, OutcomeUnknown, ProviderThrottled

PROVIDER = "twilio"
NOT_FOUND = 20404

LONGEST_PUSH = 1 << 16
"""Bytes of a callback that are read."""
MOST_FIELDS = 100

_CODE = re.compile(r"[1-9][0-9]{4}")
_DELIVERY = "delivery"


def sid(prefix: str) -> Rule[str]:
    """An id of Twilio's: two letters and 32 hexadecimal digits."""

    def check(value: object) -> str:
        plain = rules.text()(value)
        if re.fullmatch(rf"{prefix}[0-9a-fA-F]{{32}}", plain) is None:
            raise Unfit(f"must be {prefix} and 32 hexadecimal digits")
        return plain

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioSettings(ChannelSettings):
    """An account at Twilio."""

    account_sid: str = field(metadata=rule(sid("AC")))
    auth_token: str = field(metadata=rule(rules.secret()))
    """The account's primary token. It checks the signature of callbacks, whatever requests are made with."""
    api_key: str | None = field(default=None, metadata=rule(sid("SK")))
    """With :attr:`api_secret`: requests are made with this key, which can be revoked by itself."""
    api_secret: str | None = field(default=None, metadata=rule(rules.secret()))
    base_url: str = field(default="https://api.twilio.com", metadata=rule(rules.url()))
    """A region's: ``https://api.dublin.ie1.twilio.com``."""
    status_callback: str | None = field(default=None, metadata=rule(rules.url()))
    """The report URL of this channel as Twilio is to call it. None: it is asked in its place."""
    poll_after: float | None = field(default=None, metadata=rule(rules.seconds(1, 86_400)))
    """Seconds after the sending when Twilio is asked what no callback has told. None: as the product needs."""
    timeouts: Timeouts = field(default_factory=Timeouts, metadata=rule(nested(Timeouts)))

    def contradictions(self) -> Iterable[str]:
        """Half an API key."""
        if (self.api_key is None) != (self.api_secret is None):
            yield "api_key and api_secret go together"


class QuietURL(httpx.URL):
    """A URL that prints without its query: httpx logs each request's URL, and this query holds a phone number."""

    def __str__(self) -> str:
        return str(self.copy_with(query=None)) + "?…"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class TwilioAPI:
    """Speaks to the API (version 2010-04-01) for one account."""

    def __init__(self, settings: TwilioSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def create(self, resource: str, fields: Sequence[tuple[str, str]]) -> HttpDialogue[Mapping[str, Any]]:
        """Make a call or message; what was made.

        Raises what the answer means for the delivery; :class:`~otpvoice.errors.OutcomeUnknown` for a success that is
        not in Twilio's form.
        """
        try:
            body = urlencode(fields).encode()
        except UnicodeEncodeError:
            body = None  # Raised below: this exception holds the text, and must not travel on as a cause.
        if body is None:
            raise ContentRejected("the text holds a character that is not Unicode", provider=PROVIDER)
        response = yield self._request("POST", f"{resource}.json", body=body)
        if not response.is_success:
            raise refusal(response, now=self._clock.now())
        made = read_json(response)
        if not isinstance(made, dict) or not is_sid(made.get("sid")):
            raise OutcomeUnknown(
                f"{PROVIDER}: accepted without an id; it may be under way", provider=PROVIDER, code="http 2xx"
            )
        return made

    def fetch(self, resource: str, reference: str) -> HttpDialogue[Mapping[str, Any] | None]:
        """A call or message by its id; None where Twilio knows of none."""
        response = yield self._request("GET", f"{resource}/{quote(reference, safe='')}.json")
        if response.status_code == 404 and error_code(response) == NOT_FOUND:
            return None
        record = self._answer(response)
        if record.get("sid") != reference:
            raise not_understood()
        return record

    def listed(
        self, resource: str, query: Mapping[str, str]
    ) -> HttpDialogue[tuple[Sequence[Mapping[str, Any]], datetime | None]]:
        """The newest calls or messages that a query finds, and the time by Twilio's clock where it tells it."""
        response = yield self._request("GET", f"{resource}.json?{urlencode(query)}")
        records = self._answer(response).get(resource.lower())
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise not_understood()
        return records, http_date(response.headers.get("date"))

    def balance(self) -> HttpDialogue[Mapping[str, Any]]:
        """What is left on the account: a question that costs nothing and proves the credentials."""
        response = yield self._request("GET", "Balance.json")
        return self._answer(response)

    def _answer(self, response: httpx.Response) -> Mapping[str, Any]:
        if not response.is_success:
            raise refusal(response, now=self._clock.now())
        record = read_json(response)
        if not isinstance(record, dict):
            raise not_understood()
        return record

    def _request(self, method: str, path: str, *, body: bytes | None = None) -> httpx.Request:
        settings = self._settings
        user, password = settings.api_key or settings.account_sid, settings.api_secret or settings.auth_token
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Accept": "application/json", "Authorization": Secret(f"Basic {credentials}")}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = httpx.URL(f"{settings.base_url}/2010-04-01/Accounts/{settings.account_sid}/{path}")
        request = httpx.Request(
            method, url, content=body, headers=headers, extensions=settings.timeouts.as_extensions()
        )
        request.headers = QuietHeaders(request.headers)
        if url.query:
            request.url = QuietURL(url)
        return request


def is_sid(value: object) -> bool:
    """Whether a value has the form of an id of Twilio's."""
    return isinstance(value, str) and re.fullmatch(r"[A-Z]{2}[0-9a-fA-F]{32}", value) is not None


def error_code(response: httpx.Response) -> int | None:
    """The five digits of Twilio's own code in an answer; anything else could be an echo of what was sent."""
    body = read_json(response)
    raw = body.get("code") if isinstance(body, dict) else None
    if isinstance(raw, bool) or not isinstance(raw, str | int) or _CODE.fullmatch(str(raw)) is None:
        return None
    return int(raw)


def refusal(response: httpx.Response, *, now: datetime) -> DeliveryError:
    """What an answer that is no success means: by Twilio's code in a 4xx, else by the HTTP status."""
    code = error_code(response)
    known = ERRORS.get(code or 0) if 400 <= response.status_code < 500 else None
    if known is None:
        error = map_http_status(response, provider=PROVIDER, now=now)
        error.code = error.code if code is None else str(code)
        return error
    return meaning(known, code or 0, response=response, now=now)


def meaning(
    known: tuple[type[DeliveryError], str], code: int, *, response: httpx.Response, now: datetime
) -> DeliveryError:
    """The error of a documented code."""
    kind, words = known
    message = f"{PROVIDER}: {words} (error {code})"
    if issubclass(kind, ProviderThrottled):
        return kind(message, provider=PROVIDER, code=str(code), retry_after=retry_after(response, now))
    return kind(message, provider=PROVIDER, code=str(code))


def not_understood() -> OutcomeUnknown:
    """An answer to a question that is not in Twilio's form."""
    return OutcomeUnknown(f"{PROVIDER}: the answer's form is not known", provider=PROVIDER, code="http 2xx")


def callback_url(settings: TwilioSettings, delivery_id: str) -> str | None:
    """The report URL of one delivery.

    Twilio keeps no field of ours, but it calls the URL that it was given, and signs it: the delivery's id is in it.
    """
    if settings.status_callback is None:
        return None
    return f"{settings.status_callback}?{urlencode({_DELIVERY: delivery_id})}"


def signature(auth_token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """``X-Twilio-Signature``: base64 of HMAC-SHA-1 over the URL and the sorted fields, joined without separators."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def read_callback(settings: TwilioSettings, request: ReportRequest) -> tuple[Mapping[str, str], str | None]:
    """The fields of a status callback and the delivery's id in its URL.

    What is signed is the URL that Twilio was given, so ``status_callback`` counts and not what a proxy has made of
    it; only the query is taken from the request. Raises :class:`~otpvoice.channels.base.ReportRejected`.
    """
    if len(request.body) > LONGEST_PUSH:
        raise ReportRejected(f"the report is longer than {LONGEST_PUSH} bytes")
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"
        )
        parts = urlsplit(request.url)
    except ValueError:
        raise ReportRejected("the report is not a form") from None
    base = settings.status_callback or urlunsplit(parts._replace(query="", fragment=""))
    url = f"{base}?{parts.query}" if parts.query else base
    given = request.headers.get("x-twilio-signature", "").encode("utf-8", "replace")
    matches = [
        hmac.compare_digest(signature(settings.auth_token, one, pairs).encode(), given) for one in _with_ports(url)
    ]
    if not any(matches):
        raise ReportRejected("the report's signature is missing or not Twilio's", authentic=False)
    fields = dict(pairs)
    if fields.get("AccountSid") != settings.account_sid:
        raise ReportRejected("the report is of another account", authentic=False)
    named = parse_qs(parts.query).get(_DELIVERY, [])
    return fields, named[0] if len(named) == 1 else None


def _with_ports(url: str) -> tuple[str, str]:
    """As it is, and with its default port written or left out: Twilio signs either."""
    parts = urlsplit(url)
    default = ":443" if parts.scheme == "https" else ":80"
    netloc = parts.netloc.removesuffix(default) if parts.netloc.endswith(default) else parts.netloc + default
    return url, urlunsplit(parts._replace(netloc=netloc))
