"""Twilio voice: ``POST /Calls.json`` calls a number, and the inline TwiML ``<Say>`` reads a text to whoever answers.

Vendor pages: twilio.com/docs/voice/api/call-resource, /docs/voice/twiml/say and /docs/voice/twiml/say/text-speech.
There is no idempotency key and no field for an id of ours: the delivery's id travels in the URL of its status
callback, which Twilio signs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Self
from xml.sax.saxutils import escape, quoteattr

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
from otpvoice.channels.settings import rule
from otpvoice.channels.twilio_api import PROVIDER, TwilioAPI, TwilioSettings, callback_url, read_callback
from otpvoice.channels.twilio_probe import probe
from otpvoice.channels.twilio_records import fetched_call, pushed_call, search
from otpvoice.clock import Clock, SystemClock
from otpvoice.errors import ContentRejected, InvalidRequest
from otpvoice.flow import Flow
from otpvoice.types import Address, Capabilities, Medium, Text

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "arb/Polly.Zeina",
        "bn": "bn-IN/Google.bn-IN-Standard-A",
        "da": "da-DK/Polly.Naja",
        "de": "de-DE/Polly.Vicki",
        "en": "en-US/Polly.Joanna",
        "en-US": "en-US/Polly.Joanna",
        "en-GB": "en-GB/Polly.Amy",
        "en-AU": "en-AU/Polly.Nicole",
        "en-IN": "en-IN/Polly.Raveena",
        "es": "es-ES/Polly.Lucia",
        "es-ES": "es-ES/Polly.Lucia",
        "es-MX": "es-MX/Polly.Mia",
        "es-US": "es-US/Polly.Lupe",
        "fil": "fil-PH/Google.fil-PH-Standard-A",
        "fr": "fr-FR/Polly.Lea",
        "fr-FR": "fr-FR/Polly.Lea",
        "fr-CA": "fr-CA/Polly.Chantal",
        "hi": "hi-IN/Polly.Aditi",
        "id": "id-ID/Google.id-ID-Standard-A",
        "it": "it-IT/Polly.Bianca",
        "ja": "ja-JP/Polly.Mizuki",
        "ko": "ko-KR/Polly.Seoyeon",
        "ms": "ms-MY/Google.ms-MY-Standard-A",
        "nl": "nl-NL/Polly.Lotte",
        "pl": "pl-PL/Polly.Maja",
        "pt": "pt-BR/Polly.Camila",
        "pt-BR": "pt-BR/Polly.Camila",
        "pt-PT": "pt-PT/Polly.Ines",
        "ru": "ru-RU/Polly.Tatyana",
        "sv": "sv-SE/Polly.Astrid",
        "th": "th-TH/Google.th-TH-Standard-A",
        "tr": "tr-TR/Polly.Filiz",
        "uk": "uk-UA/Google.uk-UA-Standard-A",
        "vi": "vi-VN/Google.vi-VN-Standard-A",
        "zh-Hans": "cmn-CN/Polly.Zhiyu",
        "zh-Hant": "cmn-TW/Google.cmn-TW-Standard-A",
    }
)
"""BCP-47 tag → ``language/voice`` of ``<Say>``. A voice is named for each: the default one speaks few languages."""

REPEATS = 3
LONGEST_TWIML = 4000
"""Characters of the parameter ``Twiml``."""
LONGEST_TEXT = 3800
"""Characters of a text, so that it fits into the TwiML. ``<Say>`` by itself takes 4096."""

RINGING = 60
"""Seconds that Twilio lets a phone ring where it is not told."""
TALKING = 60
"""Seconds that a call is expected to take where no limit is set: texts fit into them."""
UNTIL_RECORDED = timedelta(seconds=15)
"""Twilio rings up to 5 s longer than it is told, and a resource follows its call by a moment."""

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_SPOKEN = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*(/[A-Za-z0-9._-]{1,60})?")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioVoiceSettings(TwilioSettings):
    """The account, who calls, and how."""

    from_number: str = field(metadata=rule(rules.phone_digits()))
    """The caller id: a number of the account, or one that it has verified."""
    max_duration: int | None = field(default=None, metadata=rule(rules.integer(1, 600)))
    """Seconds after the answer until Twilio hangs up (``TimeLimit``). None: no limit is sent."""
    max_ringing_time: int | None = field(default=None, metadata=rule(rules.integer(5, 600)))
    """Seconds to ring (``Timeout``), to which Twilio adds 5. None: its 60."""
    cut_short_below: int = field(default=7, metadata=rule(rules.integer(0, 60)))
    """Seconds of talk below which an answered call is ``voicemail_suspected``; 0: never."""
    languages: Mapping[str, str] = field(
        default_factory=dict, metadata=rule(rules.pairs(_TAG, _SPOKEN, '{ "fr" = "fr-FR/Polly.Lea-Neural" }'))
    )
    """BCP-47 tag → ``language`` or ``language/voice``, added to ours or in place of them."""


class TwilioVoice(HttpChannel):
    """Reads a code to a person in a voice call through Twilio."""

    provider = PROVIDER
    medium = Medium.VOICE

    def __init__(self, name: str, settings: TwilioVoiceSettings, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.settings = settings
        self._api = TwilioAPI(settings, clock or SystemClock())
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
        """Build it from a table; the keys are the fields of :class:`TwilioVoiceSettings`."""
        return cls(name, TwilioVoiceSettings.from_table(f"channels.{name}", settings))

    @property
    def capabilities(self) -> Capabilities:
        """The voices of :data:`LANGUAGES` and of the settings; up to 3800 characters, played up to 3 times."""
        return self._capabilities

    def check(self, message: Message) -> None:
        """Also refuse too many repeats, and what TwiML cannot carry."""
        super().check(message)
        if not 1 <= message.repeats <= REPEATS:
            raise InvalidRequest(f"channel {self.name!r} plays a text 1 to {REPEATS} times, not {message.repeats}")
        if _NOT_XML.search(message.text):
            raise ContentRejected("the text holds a character that TwiML cannot carry", provider=PROVIDER)
        if len(twiml(message)) > LONGEST_TWIML:
            raise ContentRejected(f"the text's TwiML is longer than {LONGEST_TWIML} characters", provider=PROVIDER)

    def exchange(self, message: Message) -> HttpDialogue[Receipt]:
        """Ask for the call; the receipt's reference is its SID."""
        self.check(message)
        call = yield from self._api.create("Calls", self._fields(message))
        return Receipt(reference=call["sid"])

    def _fields(self, message: Message) -> list[tuple[str, str]]:
        settings = self.settings
        fields: dict[str, str | int | None] = {
            "To": Address(f"+{message.recipient.address.removeprefix('+')}"),
            "From": f"+{settings.from_number}",
            "Twiml": Text(twiml(message)),
            "Timeout": settings.max_ringing_time,
            "TimeLimit": settings.max_duration,
        }
        if (url := callback_url(settings, message.delivery_id)) is not None:
            # Fired once, when the call has ended, whatever came of it.
            fields |= {"StatusCallback": url, "StatusCallbackEvent": "completed", "StatusCallbackMethod": "POST"}
        # What is text stays of its own kind, which a traceback prints masked.
        return [
            (name, value if isinstance(value, str) else str(value))
            for name, value in fields.items()
            if value is not None
        ]

    def probe(self) -> Flow[Sequence[Finding]]:
        """Ask for the balance: it proves the credentials and shows the money."""
        return probe(self.name, self._api)

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        """What a status callback says; it must carry Twilio's signature."""
        fields, delivery_id = read_callback(self.settings, request)
        report = pushed_call(fields, delivery_id=delivery_id, cut_short_below=self._cut_short_below)
        return [] if report is None else [report]

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        """The Call resource, by its SID; without one, the call to that number at that time.

        See :func:`otpvoice.channels.twilio_records.search` for what is then taken for ours.
        """
        if inquiry.reference is None:
            sender = f"+{self.settings.from_number}"
            record = yield from dialogue(search(self._api, "Calls", inquiry, sender=sender))
        else:
            record = yield from dialogue(self._api.fetch("Calls", inquiry.reference))
        if record is None:
            return None
        return fetched_call(record, delivery_id=inquiry.delivery_id, cut_short_below=self._cut_short_below)

    @property
    def _cut_short_below(self) -> int:
        # A call that Twilio ends at max_duration was not cut short by who answered.
        return min(self.settings.cut_short_below, self.settings.max_duration or self.settings.cut_short_below)


def twiml(message: Message) -> str:
    """The document that says a message's text as often as it is to be said."""
    language, _, voice = (message.language or "").partition("/")
    named = {"language": language, "voice": voice, "loop": str(message.repeats)}
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in named.items() if value)
    return f"<Response><Say{attributes}>{escape(message.text)}</Say></Response>"
