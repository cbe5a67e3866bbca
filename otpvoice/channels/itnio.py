"""ITNIO voice: ``POST /voice/sendCode`` calls a number and reads a text to whoever answers.

Vendor page: itniotech.com/api/voice/sendCode. The API has no idempotency key: a request that is sent twice can ring
twice, so nothing here is repeated but a refusal for its timestamp. The delivery's id travels in ``calledInfo``,
which the provider echoes in its records and reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self

from otpvoice.channels import rules
from otpvoice.channels.base import Finding, HttpChannel, HttpDialogue, Message, Receipt, dialogue
from otpvoice.channels.http_requests import reference_of
from otpvoice.channels.itnio_api import PROVIDER, Balance, ItnioAPI, ItnioSettings, describe_skew
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

REPEATS = 3
"""``loopCount`` that every brand and generation takes; newer ones take 9."""

CLOCK_TOLERANCE = timedelta(seconds=60)
"""Skew that :meth:`ItnioVoice.probe` lets pass. The provider refuses at about 30 minutes."""

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LANGUAGE = re.compile(r"[A-Z]{2,5}(/[0-9]{1,3})?")
_CALLEE = re.compile(r"\+?([0-9]{7,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItnioVoiceSettings(ItnioSettings):
    """The account, and every parameter of ``sendCode`` that is not the message's own."""

    app_id: str = field(metadata=rule(rules.text()))
    """The voice application's: SMS and OTP have ids of their own."""
    display_num: str | None = field(default=None, metadata=rule(rules.phone_digits()))
    """The caller id, one that the account may show. None: the provider chooses."""
    loop_count: int | None = field(default=None, metadata=rule(rules.integer(1, 9)))
    """How often the provider plays a text: 1 to 9, for every message. None: as often as the message asks, up to 3."""
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
        """Also refuse a number that is not 7 to 15 digits, and more repeats than the capabilities say."""
        super().check(message)
        if _CALLEE.fullmatch(message.recipient.address) is None:
            raise InvalidRequest(f"channel {self.name!r} calls numbers of 7 to 15 digits")
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
            "loopCount": settings.loop_count or message.repeats,
            "calledInfo": message.delivery_id,
            "maxDuration": settings.max_duration,
            "maxRingingTime": settings.max_ringing_time,
        }
        if settings.recall_count:
            fields |= {"recallCount": settings.recall_count, "recallInterval": settings.recall_interval}
        return {name: value for name, value in fields.items() if value is not None}

    def probe(self) -> Flow[Sequence[Finding]]:
        """Ask for the balance: it proves the credentials, shows the money and tells the provider's time."""
        credentials = f"{self.name}: {PROVIDER} credentials"
        try:
            balance = yield from dialogue(self._api.balance())
        except DeliveryError as error:
            return [Finding(name=credentials, ok=False, detail=str(error), remedy=_remedy(error))]
        return [
            Finding(name=credentials, ok=True, detail="accepted"),
            self._money(balance),
            *([] if balance.skew is None else [self._clock_finding(balance.skew)]),
        ]

    def _money(self, balance: Balance) -> Finding:
        parts = {"balance": balance.balance, "gift": balance.gift, "credit": balance.credit}
        known = [f"{name} {amount}" for name, amount in parts.items() if amount is not None]
        return Finding(
            name=f"{self.name}: {PROVIDER} balance",
            ok=balance.spendable,
            detail=", ".join(known) or "the answer names no amount",
            remedy="" if balance.spendable else "add credit in the provider's console: calls are refused without it",
        )

    def _clock_finding(self, skew: timedelta) -> Finding:
        ok = abs(skew) <= CLOCK_TOLERANCE
        return Finding(
            name=f"{self.name}: {PROVIDER} clock",
            ok=ok,
            detail=f"this machine's clock is {describe_skew(skew)}",
            remedy="" if ok else "set this machine's clock by NTP (timedatectl set-ntp true)",
        )


def _remedy(error: DeliveryError) -> str:
    if error.retryable or isinstance(error, OutcomeUnknown):
        return "check base_url, path_prefix and the way out to the network; then try again"
    return "check api_key, api_secret, base_url and path_prefix against the provider's console"
