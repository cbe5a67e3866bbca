"""Vonage voice: ``POST /v1/calls`` calls a number, and the NCCO action ``talk`` reads a text to whoever answers.

Vendor pages: developer.vonage.com/en/api/voice, /en/voice/voice-api/ncco-reference (``talk``),
/en/voice/voice-api/guides/text-to-speech and /en/voice/voice-api/webhook-reference. There is no idempotency key and
no field for an id of ours: the delivery's id travels in the URL of the call's events.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx

from otpvoice.channels import rules
from otpvoice.channels.base import (
    Finding,
    HttpChannel,
    HttpDialogue,
    Inquiry,
    Message,
    Receipt,
    Report,
    ReportRejected,
    ReportRequest,
    dialogue,
)
from otpvoice.channels.http_requests import QuietHeaders, json_bytes, read_json
from otpvoice.channels.rules import Secret
from otpvoice.channels.settings import ChannelSettings, Timeouts, nested, rule
from otpvoice.channels.vonage_api import (
    LONGEST_PUSH,
    PROVIDER,
    check_token,
    load_key,
    not_understood,
    private_key,
    read_object,
    refusal,
    token,
)
from otpvoice.channels.vonage_records import call_report, search, uuid_of
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import DeliveryError, InvalidRequest, OutcomeUnknown
from otpvoice.flow import Flow
from otpvoice.types import Capabilities, Medium

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "ar",
        "bn": "bn-IN",
        "da": "da-DK",
        "de": "de-DE",
        "en": "en-US",
        "en-US": "en-US",
        "en-GB": "en-GB",
        "en-AU": "en-AU",
        "en-IN": "en-IN",
        "es": "es-ES",
        "es-ES": "es-ES",
        "es-MX": "es-MX",
        "es-US": "es-US",
        "fil": "fil-PH",
        "fr": "fr-FR",
        "fr-FR": "fr-FR",
        "fr-CA": "fr-CA",
        "hi": "hi-IN",
        "id": "id-ID",
        "it": "it-IT",
        "ja": "ja-JP",
        "ko": "ko-KR",
        "ms": "ms-MY",
        "nl": "nl-NL",
        "nl-BE": "nl-BE",
        "pl": "pl-PL",
        "pt": "pt-BR",
        "pt-BR": "pt-BR",
        "pt-PT": "pt-PT",
        "ru": "ru-RU",
        "sv": "sv-SE",
        "th": "th-TH",
        "tr": "tr-TR",
        "uk": "uk-UA",
        "vi": "vi-VN",
        "zh-Hans": "cmn-CN",
        "zh-Hant": "cmn-TW",
    }
)
"""BCP-47 tag → ``language`` of ``talk``, to which a setting may add a style: ``en-GB/2``."""

REPEATS = 3
LONGEST_TEXT = 1500
"""Characters of ``text``."""
RINGING = 60
"""Seconds that Vonage lets a phone ring where it is not told."""
TALKING = 60
"""Seconds that a call is expected to take where no limit is set: texts fit into them."""
UNTIL_RECORDED = timedelta(seconds=15)
"""How long after its end a call's record can lack its duration."""

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_SPOKEN = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*(/[0-9]{1,2})?")
_DELIVERY = "delivery"


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageVoiceSettings(ChannelSettings):
    """An application at Vonage, who calls, and how."""

    application_id: str = field(metadata=rule(rules.text()))
    private_key: str | None = field(default=None, metadata=rule(private_key()))
    """The application's private key as PEM text, or :attr:`private_key_file`."""
    private_key_file: str | None = field(default=None, metadata=rule(rules.text()))
    """The path of the key's file, as the dashboard gives it for download."""
    from_number: str | None = field(default=None, metadata=rule(rules.phone_digits()))
    """The caller id: a number of the account. None: one of the application's, at random."""
    base_url: str = field(default="https://api.nexmo.com", metadata=rule(rules.url()))
    """A region's: ``https://api-eu.vonage.com``."""
    status_callback: str | None = field(default=None, metadata=rule(rules.url()))
    """The report URL of this channel as Vonage is to call it; needs :attr:`signature_secret`."""
    signature_secret: str | None = field(default=None, metadata=rule(rules.secret()))
    """The account's, 32 characters or more: webhooks are signed with it."""
    max_duration: int | None = field(default=None, metadata=rule(rules.integer(1, 600)))
    """Seconds after the answer until Vonage hangs up (``length_timer``). None: no limit is sent."""
    max_ringing_time: int | None = field(default=None, metadata=rule(rules.integer(1, 120)))
    """Seconds to ring (``ringing_timer``). None: its 60."""
    cut_short_below: int = field(default=7, metadata=rule(rules.integer(0, 60)))
    """Seconds of talk below which an answered call is ``voicemail_suspected``; 0: never."""
    languages: Mapping[str, str] = field(
        default_factory=dict, metadata=rule(rules.pairs(_TAG, _SPOKEN, '{ "en-GB" = "en-GB/2" }'))
    )
    """BCP-47 tag → ``language`` or ``language/style``, added to ours or in place of them."""
    poll_after: float | None = field(default=None, metadata=rule(rules.seconds(1, 86_400)))
    """Seconds after the sending when Vonage is asked what no webhook has told. None: as long as a call takes."""
    timeouts: Timeouts = field(default_factory=Timeouts, metadata=rule(nested(Timeouts)))

    def contradictions(self) -> Iterable[str]:
        """A key, once; and no webhooks that cannot be told from a stranger's."""
        if (self.private_key is None) == (self.private_key_file is None):
            missing = self.private_key is None
            yield f"private_key {'is missing (or private_key_file)' if missing else 'and private_key_file: set one'}"
        if self.status_callback is not None and self.signature_secret is None:
            yield "signature_secret is missing: webhooks to status_callback are checked with it"


class VonageVoice(HttpChannel):
    """Reads a code to a person in a voice call through Vonage (once Nexmo)."""

    provider = PROVIDER
    medium = Medium.VOICE

    def __init__(
        self,
        name: str,
        settings: VonageVoiceSettings,
        *,
        clock: Clock | None = None,
        token_id: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        super().__init__(name)
        self.settings = settings
        self._clock = clock or SystemClock()
        self._token_id = token_id
        self._key = load_key(f"channels.{name}", settings.private_key, settings.private_key_file)
        longest = (settings.max_ringing_time or RINGING) + (settings.max_duration or TALKING)
        self._capabilities = Capabilities(
            medium=Medium.VOICE,
            languages={**LANGUAGES, **settings.languages},
            max_text=LONGEST_TEXT,
            max_repeats=REPEATS,
            max_seconds=settings.max_duration,
            reports=True,
            look_ups=True,
            poll_after=timedelta(seconds=longest) + UNTIL_RECORDED
            if settings.poll_after is None
            else timedelta(seconds=settings.poll_after),
        )

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`VonageVoiceSettings`."""
        return cls(name, VonageVoiceSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """The languages of :data:`LANGUAGES` and of the settings; up to 1500 characters, played up to 3 times."""
        return self._capabilities

    def check(self, message: Message) -> None:
        """Also refuse too many repeats."""
        super().check(message)
        if not 1 <= message.repeats <= REPEATS:
            raise InvalidRequest(f"channel {self.name!r} plays a text 1 to {REPEATS} times, not {message.repeats}")

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Ask for the call; the receipt's reference is its UUID."""
        self.check(message)
        body = json_bytes(self._payload(message), PROVIDER)
        response = yield self._request("POST", "/v1/calls", body)
        if not response.is_success:
            raise refusal(response, now=self._clock.now())
        answer = read_json(response)
        uuid = uuid_of(answer) if isinstance(answer, dict) else None
        if uuid is None:
            raise not_understood("accepted without an id; the call may be placed")
        return Receipt(reference=uuid)

    def _payload(self, message: Message) -> dict[str, Any]:
        settings = self.settings
        language, _, style = (message.language or "").partition("/")
        talk: dict[str, Any] = {"action": "talk", "text": message.text, "language": language, "loop": message.repeats}
        fields: dict[str, Any] = {
            "to": [{"type": "phone", "number": message.recipient.address.removeprefix("+")}],
            "ncco": [talk | ({"style": int(style)} if style else {})],
            "ringing_timer": settings.max_ringing_time,
            "length_timer": settings.max_duration,
        }
        if settings.from_number is None:
            fields["random_from_number"] = True
        else:
            fields["from"] = {"type": "phone", "number": settings.from_number}
        if settings.status_callback is not None:
            url = f"{settings.status_callback}?{urlencode({_DELIVERY: message.delivery_id})}"
            fields |= {"event_url": [url], "event_method": "POST"}
        return {name: value for name, value in fields.items() if value is not None}

    def _request(self, method: str, path: str, body: bytes | None = None) -> httpx.Request:
        settings = self.settings
        key = token(settings.application_id, self._key, now=self._clock.now(), token_id=self._token_id())
        headers = {"Accept": "application/json", "Authorization": Secret(f"Bearer {key}")}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = httpx.Request(
            method,
            f"{settings.base_url}{path}",
            content=body,
            headers=headers,
            extensions=settings.timeouts.as_extensions(),
        )
        request.headers = QuietHeaders(request.headers)
        return request

    def probe(self) -> Flow[Sequence[Finding]]:
        """List one call: it costs nothing and proves the application's key."""
        credentials = f"{self.name}: {PROVIDER} credentials"
        try:
            if (yield from dialogue(self._ask("/v1/calls?page_size=1"))) is None:
                raise not_understood("there is no list of calls")
        except DeliveryError as error:
            unclear = error.retryable or isinstance(error, OutcomeUnknown)
            remedy = (
                "check base_url and the way out to the network; then try again"
                if unclear
                else "check application_id and private_key against the dashboard, and this machine's clock"
            )
            return [Finding(name=credentials, ok=False, detail=str(error), remedy=remedy)]
        return [Finding(name=credentials, ok=True, detail="accepted")]

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What an event of a call says; it must carry a token that is signed with ``signature_secret``."""
        if self.settings.signature_secret is None:
            raise ReportRejected("signature_secret is not set: no report can be checked", authentic=False)
        if len(request.body) > LONGEST_PUSH:
            raise ReportRejected(f"the report is longer than {LONGEST_PUSH} bytes")
        check_token(request, self.settings.signature_secret, application_id=self.settings.application_id)
        event = read_object(request.body)
        named = parse_qs(urlsplit(request.url).query).get(_DELIVERY, [])
        delivery_id = named[0] if len(named) == 1 else None
        report = call_report(event, delivery_id=delivery_id, cut_short_below=self._cut_short_below)
        return [] if report is None else [report]

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        """The call's record, by its UUID; without one, the call to that number at that time.

        See :func:`otpvoice.channels.vonage_records.search` for what is then taken for ours.
        """
        if inquiry.reference is None:
            record = yield from dialogue(search(self._ask, inquiry))
        else:
            record = yield from dialogue(self._ask(f"/v1/calls/{quote(inquiry.reference, safe='')}"))
            if record is not None and uuid_of(record) != inquiry.reference:
                raise not_understood()
        if record is None:
            return None
        return call_report(record, delivery_id=inquiry.delivery_id, cut_short_below=self._cut_short_below)

    def _ask(self, path: str) -> HttpDialogue[Mapping[str, Any] | None]:
        response = yield self._request("GET", path)
        if response.status_code == 404:
            return None
        if not response.is_success:
            raise refusal(response, now=self._clock.now())
        answer = read_json(response)
        if not isinstance(answer, dict):
            raise not_understood()
        return answer

    @property
    def _cut_short_below(self) -> int:
        # A call that Vonage ends at max_duration was not cut short by who answered.
        return min(self.settings.cut_short_below, self.settings.max_duration or self.settings.cut_short_below)
