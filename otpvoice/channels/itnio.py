"""ITNIO voice: ``POST /voice/sendCode`` calls a number and reads a text to whoever answers.

Vendor page: itniotech.com/api/voice/sendCode. The API has no idempotency key: a request that is sent twice can ring
twice, so nothing here is repeated but a refusal for its timestamp. The delivery's id travels in ``calledInfo``,
which the provider echoes in its records and reports.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self

from otpvoice.channels import rules
from otpvoice.channels.base import (
    Finding,
    HttpChannel,
    HttpDialogue,
    Inquiry,
    Message,
    Receipt,
    Report,
    ReportRequest,
    dialogue,
)
from otpvoice.channels.http_requests import reference_of
from otpvoice.channels.itnio_api import PROVIDER, ItnioAPI, ItnioSettings
from otpvoice.channels.itnio_probe import probe
from otpvoice.channels.itnio_records import is_of, record_of, search
from otpvoice.channels.itnio_reports import call_report, check_sender, read_push
from otpvoice.channels.itnio_status import VOICE_STATUS
from otpvoice.channels.settings import rule
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import DeliveryError, InvalidRequest, OutcomeUnknown
from otpvoice.flow import Flow
from otpvoice.types import Capabilities, Medium

LEGACY_LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "en": "EN",
        "vi": "VN",
        "ja": "JP",
        "ar": "ARB",
        "de": "DE",
        "hi": "IN",  # Hindi, not the country.
        "it": "IT",
        "ko": "KR",
        "ru": "RU",
        "es": "ES",
        "pt": "PT",
        "pt-BR": "PT",
        "pt-PT": "PT",
        "id": "IDN",
        "bn": "BD",
        "th": "TH",
    }
)
"""BCP-47 tag → the code of the page's first three generations."""

G4_LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "AR",
        "eu": "BAS",
        "ca": "CA",
        "gl": "GL",
        "bn": "BN",
        "gu": "GU",
        "hi": "HI",
        "kn": "KN",
        "ml": "ML",
        "mr": "MR",
        "pa": "PA",
        "ta": "TA",
        "bg": "BG",
        "cs": "CS",
        "da": "DA",
        "nl": "NL/31",
        "nl-NL": "NL/31",
        "nl-BE": "NL/32",
        "en": "EN/1",
        "en-US": "EN/1",
        "en-GB": "EN/44",
        "en-AU": "EN/61",
        "en-IN": "EN/91",
        "fil": "TL",
        "fi": "FI",
    }
)
"""The rows that are known of the newest page, as ``language`` or ``language/accent``; it has more."""

LEGACY_SHORT_TEXTS: Mapping[str, int] = MappingProxyType({"IDN": 299, "VN": 299, "TH": 299})
LEGACY_TEXT = 800
G4_TEXT = 1000

PAUSE = 1.0
"""Seconds between two plays of a text."""
REPEATS = 3
"""``loopCount`` that every brand and generation takes; newer ones take 9."""

RINGING = 60
"""Seconds that the provider lets a phone ring where it is not told."""
TALKING = 60
"""Seconds that an answered call takes at most where the provider is not told to hang up: texts fit into them."""
RECALL_INTERVAL = 5
"""Minutes between two redials where the provider is not told."""
UNTIL_RECORDED = timedelta(seconds=15)
"""How long after its end a call can be missing from the records: the vendor does not say."""

log = logging.getLogger("otpvoice.channels.itnio")

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LANGUAGE = re.compile(r"[A-Z]{2,5}(/[0-9]{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItnioVoiceSettings(ItnioSettings):
    """The account, and every parameter of ``sendCode`` that is not the message's own."""

    app_id: str = field(metadata=rule(rules.text()))
    """The voice application's: SMS and OTP have ids of their own."""
    display_num: str | None = field(default=None, metadata=rule(rules.phone_digits()))
    """The caller id, one that the account may show. None: the provider chooses."""
    loop_count: int | None = field(default=None, metadata=rule(rules.integer(1, 9)))
    """How often the provider plays a text: 1 to 9, for every message; with :attr:`max_duration` only as often
    as fits. None: as often as the message asks, up to 3."""
    recall_count: int = field(default=0, metadata=rule(rules.integer(0, 9)))
    """How often the provider itself redials a call that failed. Its smallest pause is a minute: prefer a route."""
    recall_interval: int | None = field(default=None, metadata=rule(rules.integer(1, 999)))
    """Minutes between two redials; not sent while :attr:`recall_count` is 0. None: the provider's 5."""
    max_duration: int | None = field(default=None, metadata=rule(rules.integer(1, 120)))
    """Seconds after the answer until the provider hangs up. None: no limit is sent."""
    max_ringing_time: int | None = field(default=None, metadata=rule(rules.integer(20, 120)))
    """Seconds to ring. None: the provider's 60."""
    language_profile: str = field(default="legacy", metadata=rule(rules.choice("legacy", "g4")))
    """``legacy``: the language codes and text limits that all accounts take; ``g4``: those of the newest page."""
    cut_short_below: int = field(default=7, metadata=rule(rules.integer(0, 60)))
    """Seconds of talk below which an answered call is ``voicemail_suspected``; 0: never.

    A greeting and six digits take no less in any bundled language (0.9 s a digit, two pauses): whoever was on the line
    for a shorter time has not heard the code once.
    """
    languages: Mapping[str, str] = field(
        default_factory=dict, metadata=rule(rules.pairs(_TAG, _LANGUAGE, '{ "pt-BR" = "PT" }'))
    )
    """BCP-47 tag → provider's code, added to the profile's or in place of its entries."""

    def contradictions(self) -> Iterable[str]:
        """An accent needs the newest profile: older backends do not know the field."""
        if self.language_profile == "legacy" and any("/" in code for code in self.languages.values()):
            yield 'languages: an accent ("EN/44") needs language_profile = "g4"'


class ItnioVoice(HttpChannel):
    """Reads a code to a person in a voice call through ITNIO, Onbuka or Laaffic."""

    provider = PROVIDER
    medium = Medium.VOICE

    def __init__(self, name: str, settings: ItnioVoiceSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self._api = ItnioAPI(settings, clock or SystemClock())
        g4 = settings.language_profile == "g4"
        self._capabilities = Capabilities(
            medium=Medium.VOICE,
            languages={**(G4_LANGUAGES if g4 else LEGACY_LANGUAGES), **settings.languages},
            max_text=G4_TEXT if g4 else LEGACY_TEXT,
            max_text_by_language={} if g4 else LEGACY_SHORT_TEXTS,
            max_repeats=settings.loop_count or REPEATS,
            max_seconds=settings.max_duration,
            reports=True,
            look_ups=True,
            poll_after=_longest_call(settings)
            if settings.poll_after is None
            else timedelta(seconds=settings.poll_after),
            recorded_within=_longest_call(settings),
        )

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Build it from a table; the keys are the fields of :class:`ItnioVoiceSettings`."""
        return cls(name, ItnioVoiceSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """Languages and limits of the configured profile."""
        return self._capabilities

    def check(self, message: Message) -> None:
        """Also refuse more repeats than the capabilities say."""
        super().check(message)
        most = self._capabilities.max_repeats
        if self.settings.loop_count is None and not 1 <= message.repeats <= most:
            raise InvalidRequest(f"channel {self.name!r} plays a text 1 to {most} times, not {message.repeats}")

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Ask for the call; the receipt's reference is the vendor's ``voiceId``, as text.

        A success without an id raises :class:`~otpvoice.errors.OutcomeUnknown`: the call may be placed.
        """
        self.check(message)
        envelope = yield from self._api.ask("POST", "/voice/sendCode", self._payload(message), statuses=VOICE_STATUS)
        voice_id = reference_of(envelope.data)
        if voice_id is None:
            raise OutcomeUnknown(
                f"{PROVIDER}: accepted without an id; the call may be placed", provider=PROVIDER, code="0"
            )
        return Receipt(reference=voice_id)

    def _payload(self, message: Message) -> dict[str, Any]:
        settings = self.settings
        language, _, accent = (message.language or "").partition("/")
        fields: dict[str, Any] = {
            "callee": message.recipient.address.removeprefix("+"),
            "displayNum": settings.display_num,
            "language": language,
            "accent": accent or None,
            "text": message.text,
            "appId": settings.app_id,
            "loopCount": self._loops(message),
            "calledInfo": message.delivery_id,
            "maxDuration": settings.max_duration,
            "maxRingingTime": settings.max_ringing_time,
        }
        if settings.recall_count:
            fields |= {"recallCount": settings.recall_count, "recallInterval": settings.recall_interval}
        return {name: value for name, value in fields.items() if value is not None}

    def _loops(self, message: Message) -> int:
        """As many as configured, or as the text was composed for; never so many that max_duration cuts a code off."""
        loops = self.settings.loop_count or message.repeats
        longest = self.settings.max_duration
        if longest is not None and message.play_seconds is not None:
            while loops > 1 and loops * message.play_seconds + (loops - 1) * PAUSE > longest:
                loops -= 1
        return loops

    def probe(self) -> Flow[Sequence[Finding]]:
        """Ask for the balance: it proves the credentials, shows the money and tells the provider's time."""
        return probe(self.name, self._api)

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What a status report of calls says; see :mod:`otpvoice.channels.itnio_reports` for what it may look like.

        The provider signs nothing: keep the URL secret, and see the settings ``report_ips`` and ``confirm_reports``.
        """
        check_sender(request, self.settings.report_ips)
        found = (call_report(item, cut_short_below=self._cut_short_below) for item in read_push(request.body))
        return [report for report in found if report is not None]

    def confirm(self, report: Report) -> Flow[Report | None]:
        """With ``confirm_reports``, what the provider's own record of that call says, and nothing of the push."""
        if not self.settings.confirm_reports:
            return report
        if report.reference is None:
            return None
        try:
            record = yield from dialogue(record_of(self._api, report.reference))
        except DeliveryError as error:
            log.warning("channel %r: a report could not be confirmed: %s", self.name, error)
            return None
        return None if record is None else self._said({"voiceId": report.reference, **record})

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        """The call's record: by the vendor's id, or by the delivery's own that the records echo."""
        by_echo = inquiry.reference is None
        if inquiry.reference is None:
            within = self._capabilities.recorded_within or UNTIL_RECORDED
            record = yield from dialogue(search(self._api, inquiry, within=within))
        else:
            record = yield from dialogue(record_of(self._api, inquiry.reference))
        if record is None or not is_of(record, inquiry, by_echo=by_echo):
            return None
        known = {} if inquiry.reference is None else {"voiceId": inquiry.reference}
        return self._said({**known, **record, "calledInfo": inquiry.delivery_id})

    def _said(self, record: Mapping[str, Any]) -> Report | None:
        return call_report(record, cut_short_below=self._cut_short_below)

    @property
    def _cut_short_below(self) -> int:
        # A call that the provider ends at max_duration was not cut short by who answered.
        return min(self.settings.cut_short_below, self.settings.max_duration or self.settings.cut_short_below)


def _longest_call(settings: ItnioVoiceSettings) -> timedelta:
    """How long a call takes until its record can be read, redials included."""
    once = timedelta(seconds=(settings.max_ringing_time or RINGING) + (settings.max_duration or TALKING))
    pause = timedelta(minutes=settings.recall_interval or RECALL_INTERVAL)
    return once + settings.recall_count * (once + pause) + UNTIL_RECORDED
