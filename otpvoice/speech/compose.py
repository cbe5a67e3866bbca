"""What exactly is said or written to a person who gets a code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from otpvoice.errors import ContentRejected, InvalidRequest
from otpvoice.speech import gsm, languages, names, timing
from otpvoice.speech.money import write_amount
from otpvoice.speech.wordings import Sentences, Voice, Wording, Wordings, bundled
from otpvoice.types import Binding, Capabilities, Code, Medium, Text

WANTED_PLAYS = 2
"""How often the provider is asked to play a text that itself says the code twice."""
COMFORTABLE_CALL = 60.0
"""Seconds after which a repetition costs more (most calls are billed by the minute) than it helps."""
APP_HASH_BYTES = 140
"""Android's SMS Retriever: the longest message it reads."""

_DIGITS = re.compile(r"[0-9]{4,10}")
_LETTERS = re.compile(r"[0-9A-Za-z]{4,16}")
_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.I
)
_APP_HASH = re.compile(r"[A-Za-z0-9+/]{11}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One code in words. Its ``repr`` does not show the text."""

    text: Text
    """What is spoken or written, complete."""
    title: str = ""
    """E-mail: the subject line. It never holds the code."""
    locale: str
    """BCP-47 tag of the wording."""
    language: str | None
    """The provider's own code for the language; None if the channel takes any text."""
    repeats: int = 1
    """How many times the provider is to play the text (ITNIO ``loopCount``)."""
    seconds: float | None = None
    """Voice: the expected length of the whole call, all plays included."""


def compose(
    code: Code,
    *,
    capabilities: Capabilities,
    purpose: str,
    valid_for: timedelta,
    locale: str | None = None,
    region: str | None = None,
    default_locale: str = "en",
    brand: str = "",
    binding: Binding | None = None,
    wordings: Wordings | None = None,
    host: str | None = None,
    app_hash: str | None = None,
) -> Utterance:
    """Put a code into the person's language, within what the channel can carry.

    The language is ``locale``, else the most spoken one of ``region`` (CLDR), else ``default_locale``, else any that
    the channel speaks. Of the sentences for ``purpose`` the longest that fits is taken; a binding with an amount or a
    payee takes those for ``payment``. On voice the code is digits, spelled in words, at least twice. ``host`` adds
    the last line of a WebOTP message (WICG sms-one-time-codes), ``app_hash`` Android's (SMS Retriever) above it.

    Raises :class:`~otpvoice.errors.InvalidRequest` for a malformed locale, code, brand, payee, amount or host, and
    :class:`~otpvoice.errors.ContentRejected` when even the shortest wording does not fit, or none tells the binding.
    """
    wordings = bundled() if wordings is None else wordings
    medium = capabilities.medium
    _check_code(code, medium)
    tag, language = languages.choose(
        wordings, capabilities, locale=locale, region=region, default_locale=default_locale
    )
    wording = wordings.by_tag[tag]
    sentences = wording.media[medium]
    values = _values(wording, medium, brand, binding or Binding(), valid_for)
    wanted = "payment" if values["amount"] or values["payee"] else purpose
    title = _title(sentences, wanted, values)
    finish = partial(Utterance, title=title, locale=tag, language=language)
    limit = capabilities.text_limit(language)
    if medium is Medium.VOICE and wording.voice is not None:
        texts = _spoken(code, sentences, wanted, values, wording.voice)
        return _fit_call(texts, code, wording.voice, capabilities, limit, finish)
    lines = _machine_lines(code, host, app_hash) if medium is Medium.SMS else ""
    texts = (text + lines for text in _texts(sentences, wanted, values, code))
    return finish(text=Text(_fit_message(texts, medium, limit, app_hash)))


def check_defaults(*, brand: str, default_locale: str, host: str | None, app_hash: str | None) -> None:
    """What every message of a service will hold, before there is one. Raises :class:`~otpvoice.errors.InvalidRequest`.

    A brand made of number words is found later, and on voice only: in which language it is one depends on the person.
    """
    names.brand_name(brand)
    languages.canonical(default_locale)
    _machine_lines("0000", host, app_hash)


def _check_code(code: str, medium: Medium) -> None:
    if medium is Medium.VOICE and not _DIGITS.fullmatch(code):
        raise InvalidRequest("a code that is spoken has 4 to 10 digits and no letters")
    if not _DIGITS.fullmatch(code) and not _LETTERS.fullmatch(code):
        raise InvalidRequest("a code has 4 to 10 digits, or 4 to 16 letters and digits of ASCII")


def _values(wording: Wording, medium: Medium, brand: str, binding: Binding, valid_for: timedelta) -> dict[str, str]:
    voice = wording.voice if medium is Medium.VOICE else None
    words = partial(voice.money.words.spell, name="%alone") if voice else None
    if (binding.amount is None) != (binding.currency is None):
        raise InvalidRequest("an amount needs a currency, and a currency an amount")
    amount = ""
    if binding.amount is not None and binding.currency is not None:
        amount = (
            voice.money.speak(binding.amount, binding.currency)
            if voice
            else write_amount(binding.amount, binding.currency, wording.tag)
        )
    return {
        "brand": names.brand_name(brand, number_words=words),
        "amount": amount,
        "payee": names.payee_name(binding.payee, number_words=words),
        # Rounded down: what the person is promised must hold.
        "minutes": "" if voice else str(max(1, int(valid_for.total_seconds() // 60))),
    }


def _title(sentences: Sentences, purpose: str, values: Mapping[str, str]) -> str:
    template = sentences.titles.get(purpose) or sentences.titles.get("generic")
    return template.render(values) if template else ""


def _texts(sentences: Sentences, purpose: str, values: Mapping[str, str], said: str) -> Iterator[str]:
    values = {**values, "code": said}
    for name, phrase in (("again", sentences.again), ("warning", sentences.warning)):
        values[name] = phrase.render(values) if phrase else ""
    told = {values["amount"], values["payee"]}
    texts = [template.render(values).strip() for template in sentences.for_purpose(purpose)]
    texts = [text for text in texts if all(value in text for value in told)]
    if not texts:  # A file of one's own may have no sentence for payments, or one that needs both.
        raise ContentRejected("the wording has no sentence that tells the amount and the payee")
    yield from texts


def _spoken(code: str, sentences: Sentences, purpose: str, values: Mapping[str, str], voice: Voice) -> Iterator[str]:
    for text in _texts(sentences, purpose, values, voice.spelling.spell(code)):
        heard = voice.spelling.read_back(text)
        if len(heard) < 2 or set(heard) != {code}:
            # Only a value can do this: a brand called "One Two Three Four", an amount of 1.0001.
            raise InvalidRequest("the brand, the payee or the amount would be heard as a code")
        yield text


def _fit_call(
    texts: Iterator[str],
    code: str,
    voice: Voice,
    capabilities: Capabilities,
    limit: int | None,
    finish: Callable[..., Utterance],
) -> Utterance:
    for text in texts:
        one = timing.seconds(text, code=code, voice=voice)
        if (limit is not None and len(text) > limit) or not timing.plays(
            one, wanted=1, longest=capabilities.max_seconds
        ):
            continue
        wanted = min(WANTED_PLAYS, max(capabilities.max_repeats, 1))
        longest = min(COMFORTABLE_CALL, capabilities.max_seconds or COMFORTABLE_CALL)
        repeats = timing.plays(one, wanted=wanted, longest=longest) or 1
        return finish(text=Text(text), repeats=repeats, seconds=round(timing.whole_call(one, repeats), 1))
    raise ContentRejected(
        f"even the shortest wording is longer than {limit} characters or {capabilities.max_seconds} seconds"
    )


def _fit_message(texts: Iterator[str], medium: Medium, limit: int | None, app_hash: str | None) -> str:
    fitting = [
        text
        for text in texts
        if (limit is None or len(text) <= limit)
        and (app_hash is None or medium is not Medium.SMS or len(text.encode()) <= APP_HASH_BYTES)
    ]
    if not fitting:
        raise ContentRejected(f"even the shortest wording is longer than {limit} characters or an SMS to an app")
    # One message costs half of two, and never arrives in the wrong order: a shorter wording is worth it.
    return min(fitting, key=gsm.segments) if medium is Medium.SMS else fitting[0]


def _machine_lines(code: str, host: str | None, app_hash: str | None) -> str:
    if app_hash is not None and not _APP_HASH.fullmatch(app_hash):
        raise InvalidRequest("an Android app hash has 11 characters of base64")
    if host is not None and not _HOST.fullmatch(host):
        raise InvalidRequest("the host of a WebOTP message is a domain name, without scheme and port")
    lines = [app_hash or "", f"@{host} #{code}" if host else ""]
    return "".join(f"\n{line}" for line in lines if line)
