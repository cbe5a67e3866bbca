"""What all ITNIO products share: signing, the envelope of an answer, the balance.

Vendor pages: itniotech.com/api/account and /api/account/getBalance. The same API is sold as Onbuka
and Laaffic under other hosts and path prefixes, so both are settings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx

from otpvoice.channels import rules
from otpvoice.channels.base import HttpDialogue
from otpvoice.channels.http_errors import http_date, map_http_status
from otpvoice.channels.http_requests import QuietHeaders, json_bytes, read_json
from otpvoice.channels.itnio_status import ACCOUNT_STATUS, TIMESTAMP_EXPIRED, Meaning
from otpvoice.channels.rules import Network, Secret
from otpvoice.channels.settings import ChannelSettings, Timeouts, nested, rule
from otpvoice.clock import Clock
from otpvoice.errors import DeliveryError, OutcomeUnknown, ProviderThrottled

PROVIDER = "itnio"

# Statuses have at most two digits today. A longer number is none, and could be an echo of the code.
_STATUS = re.compile(r"-?[0-9]{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItnioSettings(ChannelSettings):
    """An account at ITNIO, Onbuka or Laaffic."""

    api_key: str = field(metadata=rule(rules.secret()))
    """The console calls it authentication name."""
    api_secret: str = field(metadata=rule(rules.secret()))
    base_url: str = field(default="https://api.itniotech.com", metadata=rule(rules.url()))
    path_prefix: str = field(default="", metadata=rule(rules.path_prefix()))
    """Onbuka and Laaffic: ``/v3``."""
    sms_path: str = field(default="/sms", metadata=rule(rules.path_prefix()))
    """Where SMS and balance live below the prefix. Onbuka and Laaffic: empty."""
    report_ips: tuple[Network, ...] = field(default=(), metadata=rule(rules.networks()))
    """Who may push reports: the provider signs none and publishes no addresses. Empty: everybody."""
    confirm_reports: bool = field(default=False, metadata=rule(rules.flag()))
    """Whether a push is only a hint, and the provider's records are asked before anything of it is believed."""
    poll_after: float | None = field(default=None, metadata=rule(rules.seconds(1, 86_400)))
    """Seconds after the sending when the provider is asked what no push has told. None: as the product needs."""
    timeouts: Timeouts = field(default_factory=Timeouts, metadata=rule(nested(Timeouts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An answer in the vendor's form. Its ``repr`` shows the status only: the rest may echo what was sent."""

    status: int
    body: Mapping[str, Any] = field(repr=False)
    skew: timedelta | None = None
    """The provider's clock less ours, by the HTTP ``Date`` header, to the second."""

    @property
    def data(self) -> Any:
        """The payload of voice and OTP answers: text, object, list, null or absent."""
        return self.body.get("data")


def sign(api_key: str, api_secret: str, timestamp: int) -> str:
    """The ``Sign`` header: MD5 in lower-case hex of key, secret and Unix seconds, joined without separators."""
    # MD5 is the vendor's choice. It signs no method, path or body: only TLS protects those, and the header itself.
    return hashlib.md5(f"{api_key}{api_secret}{timestamp}".encode(), usedforsecurity=False).hexdigest()


def read_envelope(response: httpx.Response, skew: timedelta | None = None) -> Envelope | None:
    """The vendor's envelope in an answer, whatever its HTTP status; None where the body is something else.

    ``status`` comes as text or number, and under the name ``code`` on some pages.
    """
    body = read_json(response)
    if not isinstance(body, dict):
        return None
    raw = body.get("status", body.get("code"))
    text = str(raw).strip() if isinstance(raw, str | int) else ""
    if _STATUS.fullmatch(text) is None:
        return None
    if response.status_code >= 400 and int(text) == response.status_code:
        return None  # A web framework's error page in JSON repeats the HTTP status under the same name.
    return Envelope(status=int(text), body=body, skew=skew)


class ItnioAPI:
    """Speaks to the API for one account: signs, reads envelopes, re-signs once after a clock error."""

    def __init__(self, settings: ItnioSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def ask(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        *,
        statuses: Mapping[int, Meaning] = ACCOUNT_STATUS,
        answers: Collection[int] = (0,),
    ) -> HttpDialogue[Envelope]:
        """Ask, and return the envelope of a success, or of another status among ``answers``.

        A refusal for its timestamp (``-16``) is asked once more, signed with the time that the provider's own
        ``Date`` header tells. Any other status raises what ``statuses`` says, an unlisted one
        :class:`~otpvoice.errors.OutcomeUnknown`, and an answer that is no envelope what its HTTP status says.
        """
        body = None if payload is None else json_bytes(payload, PROVIDER)
        response = yield self._request(method, path, body, skew=timedelta(0))
        envelope = read_envelope(response, self._skew(response))
        if envelope is not None and envelope.status == TIMESTAMP_EXPIRED:
            response = yield self._request(method, path, body, skew=envelope.skew or timedelta(0))
            envelope = read_envelope(response, self._skew(response))
        if envelope is None:
            raise map_http_status(response, provider=PROVIDER, now=self._clock.now())
        if envelope.status not in answers:
            raise refusal(envelope, statuses)
        return envelope

    def balance(self) -> HttpDialogue[Balance]:
        """What is left on the account: the one query that costs nothing and proves the credentials."""
        envelope = yield from self.ask("GET", f"{self._settings.sms_path}/getBalance")
        return Balance(
            balance=_amount(envelope.body, "balance"),
            gift=_amount(envelope.body, "gift"),
            credit=_amount(envelope.body, "credit"),
            skew=envelope.skew,
        )

    def their_time(self, envelope: Envelope) -> datetime | None:
        """The provider's clock now, by its answer; None where that did not tell it."""
        return None if envelope.skew is None else self._clock.now() + envelope.skew

    def _request(self, method: str, path: str, body: bytes | None, *, skew: timedelta) -> httpx.Request:
        settings = self._settings
        timestamp = int((self._clock.now() + skew).timestamp())
        request = httpx.Request(
            method,
            f"{settings.base_url}{settings.path_prefix}{path}",
            content=body,
            headers={
                "Content-Type": "application/json;charset=UTF-8",
                "Accept": "application/json",
                "Api-Key": settings.api_key,
                "Timestamp": str(timestamp),
                "Sign": Secret(sign(settings.api_key, settings.api_secret, timestamp)),
            },
            extensions=settings.timeouts.as_extensions(),
        )
        request.headers = QuietHeaders(request.headers)
        return request

    def _skew(self, response: httpx.Response) -> timedelta | None:
        theirs = http_date(response.headers.get("date"))
        return None if theirs is None else theirs - self._clock.now().astimezone(UTC).replace(microsecond=0)


def refusal(envelope: Envelope, statuses: Mapping[int, Meaning]) -> DeliveryError:
    """The error that a status other than 0 stands for, with the raw status as its ``code``."""
    code = str(envelope.status)
    meaning = statuses.get(envelope.status)
    if meaning is None:
        # Not known to be a refusal: the vendor's lists differ between pages and grow.
        return OutcomeUnknown(
            f"{PROVIDER}: answered with status {code}, which its documentation does not name",
            provider=PROVIDER,
            code=code,
        )
    message = f"{PROVIDER}: {meaning.words} (status {code})"
    if envelope.status == TIMESTAMP_EXPIRED and envelope.skew is not None:
        message += f"; it is {describe_skew(envelope.skew)}"
    if issubclass(meaning.error, ProviderThrottled) and meaning.retry_after is not None:
        return meaning.error(message, provider=PROVIDER, code=code, retry_after=meaning.retry_after)
    return meaning.error(message, provider=PROVIDER, code=code)


def describe_skew(skew: timedelta) -> str:
    """How this machine's clock stands to the provider's, in words."""
    off = abs(round(skew.total_seconds()))
    if off == 0:
        return "in step with the provider's"
    return f"{off} s {'behind' if skew > timedelta(0) else 'ahead of'} the provider's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account's money, in the account's currency: the API does not name it."""

    balance: Decimal | None
    gift: Decimal | None
    credit: Decimal | None
    """How it counts into what can be spent is not documented."""
    skew: timedelta | None
    """The provider's clock less ours."""

    @property
    def spendable(self) -> bool:
        """Whether any of the three is above zero."""
        return any(amount is not None and amount > 0 for amount in (self.balance, self.gift, self.credit))


def _amount(body: Mapping[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        amount = Decimal(value.strip() if isinstance(value, str) else value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None
