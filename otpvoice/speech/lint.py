"""What is wrong with a wording, found before anybody hears it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path

from otpvoice.errors import OTPVoiceError
from otpvoice.speech import gsm, languages
from otpvoice.speech.compose import compose
from otpvoice.speech.money import LARGEST
from otpvoice.speech.templates import Template
from otpvoice.speech.wordings import Sentences, Voice, Wording, Wordings, read_directory
from otpvoice.types import Binding, Capabilities, Code, Medium

TEXT_LIMIT = 800
SHORT_TEXT_LIMITS = {"id": 299, "vi": 299, "th": 299}
"""Characters that every generation of ITNIO's sendCode takes, by language: the tightest limits known."""
LONGEST_CALL = 60
"""Seconds that one play of the shortest wording may last: calls are billed, and hung up, by the minute."""
SAMPLE_CODES = ("0011223344", "5566778899", "9081726354")
"""The longest codes, with every digit and repeated ones."""
SAMPLE_BRAND = "Example Bank"
SAMPLE_PAYMENTS = (
    Binding(amount="98765.40", currency="USD", payee="Example Trading and Shipping Company"),
    Binding(amount="98765.40", currency="USD"),
    Binding(payee="Example Trading and Shipping Company"),
)

_LINK = re.compile(
    r"://|\b(?:www\.|mailto:|(?:tel|sms):\+?\d)|\b[\w-]+[.\uff0e][^\W\d_]{2,}\b(?!\.)|\b\d+(?:\.\d+){3}\b",
    re.IGNORECASE,
)
_JOINERS = "\u200c\u200d"
_PAUSES = frozenset(" ,.;:!?…、。，．，；：！？।॥،؛؟۔")
_READ_ALOUD = frozenset("&*#@/\\_%")
_ESPEAK = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    file: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.what}" if self.where else f"{self.file}: {self.what}"


def lint_directory(directory: Path) -> tuple[dict[str, Wording], list[Problem]]:
    """The wordings of a directory by tag, and all that is wrong with them."""
    if not directory.is_dir():
        return {}, [Problem(file=str(directory), where="", what="there is no such directory")]
    read, unreadable = read_directory(directory)
    problems = [Problem(file=file, where="", what=what) for file, what in unreadable.items()]
    if not read and not problems:
        problems = [Problem(file=str(directory), where="", what="it holds no .toml file")]
    for file, item in read.items():
        problems += [Problem(file=file, where=where, what=what) for where, what in lint(item)]
    return {item.tag: item for item in read.values()}, problems


def lint(wording: Wording) -> list[tuple[str, str]]:
    """Everything that is wrong with a wording, as place and problem."""
    found = list(_language(wording))
    if wording.voice:
        found += [*_digits(wording.voice), *_numbers(wording.voice)]
    for medium, sentences in wording.media.items():
        for where, template in _templates(sentences):
            place = f"[{medium}] {where}"
            lines = medium is Medium.EMAIL and not where.startswith("title ")
            found += [(place, what) for what in _literal(template, medium, wording.voice, lines=lines)]
        found += [(f"[{medium}] {where}", what) for where, what in _variables(sentences, medium)]
        if not found:  # What does not parse as a wording is not worth composing.
            found += _composed(wording, medium)
    return found


def _templates(sentences: Sentences) -> Iterator[tuple[str, Template]]:
    for purpose, texts in sentences.texts.items():
        for number, template in enumerate(texts, 1):
            yield f"{purpose} {number}", template
    for purpose, title in sentences.titles.items():
        yield f"title {purpose}", title
    for name, phrase in (("again", sentences.again), ("warning", sentences.warning)):
        if phrase:
            yield name, phrase


def _language(wording: Wording) -> Iterator[tuple[str, str]]:
    try:
        usual = languages.canonical(wording.tag)
    except OTPVoiceError as error:
        yield "tag", str(error)
        return
    if usual != wording.tag:
        yield "tag", f"the usual form of {wording.tag} is {usual}: name the file and its tag so"


def _digits(voice: Voice) -> Iterator[tuple[str, str]]:
    words = [word.casefold() for word in voice.spelling.digits]
    if len(set(words)) < len(words):
        yield "[voice] digits", "two digits have the same word"
    for value, word in enumerate(voice.spelling.digits):
        if any(unicodedata.category(character)[0] == "N" for character in word):
            yield "[voice] digits", f"{value} is not spelled: {word!r} is a numeral, and engines disagree on those"
        elif not word or not all(unicodedata.category(character)[0] in "LM" for character in word):
            yield "[voice] digits", f"{value} is not one word of letters: {word!r}"
    pauses = {"pause": voice.spelling.pause, "middle": voice.spelling.middle, "last": voice.spelling.last}
    for name, pause in pauses.items():
        if not pause.strip() or not _PAUSES.issuperset(pause):
            yield f"[voice] {name}", f"{pause!r} is no pause: use a comma or a full stop; dashes are read aloud"
    if voice.espeak is not None and not _ESPEAK.fullmatch(voice.espeak):
        yield "[voice] espeak", f"{voice.espeak!r} is no name of a voice"


def _numbers(voice: Voice) -> Iterator[tuple[str, str]]:
    money = voice.money
    texts = [text for rules in money.words.sets.values() for _, text in rules]
    texts += [money.whole.literal.replace("\0", " "), money.decimal.literal.replace("\0", " "), *money.names.values()]
    for text in texts:
        # "|", ":", "<" and the like are the notation of a rule.
        for what in _characters(re.sub(r"[<>=%|]", " ", text), Medium.VOICE, lines=False):
            yield "[numbers]", f"{what}: {text!r}"
    try:
        for name, rules in money.words.sets.items():
            # At both ends of each rule: one that never ends must not wait for a payment to be found.
            for base in (base for base, _ in rules):
                for number in {base, max(base - 1, 0), LARGEST}:
                    money.words.spell(number, name)
    except OTPVoiceError as error:
        yield "[numbers]", str(error)


def _literal(template: Template, medium: Medium, voice: Voice | None, *, lines: bool) -> Iterator[str]:
    text = template.literal
    yield from _characters(text.replace("\0", "x"), medium, lines=lines)
    if medium is Medium.VOICE and voice:
        for word in voice.spelling.strays(text) + voice.spelling.read_back(text):
            spelled = " ".join(voice.spelling.digits[int(digit)] for digit in word)
            yield f"it says the digit word {spelled!r} outside the code"


def _characters(text: str, medium: Medium, *, lines: bool) -> Iterator[str]:
    for character in text:
        category = unicodedata.category(character)
        hidden = category[0] == "C" or category in {"Zl", "Zp"}
        if hidden and character not in _JOINERS and not (lines and character == "\n"):
            yield f"it holds the control character U+{ord(character):04X}"
        elif medium is Medium.VOICE and (category[0] == "S" or character in _READ_ALOUD):
            yield f"it holds the sign {character!r}, which engines read aloud or stumble over"
    if _LINK.search(text):
        yield "it holds a link: people are taught not to follow links in such messages"
    numerals = re.findall(r"\d+", text)
    if medium is Medium.VOICE:
        numerals += [character for character in text if unicodedata.category(character) in {"Nl", "No"}]
    if medium is Medium.VOICE and numerals:
        yield f"digits are not spelled ({', '.join(numerals)}): they could be heard as a part of the code"
    elif any(len(run) > 3 for run in numerals):
        yield f"digits that could pass for the code: {', '.join(numerals)}"
    elif not "".join(numerals).isascii():
        yield f"digits are written 0 to 9 in every language: {', '.join(numerals)}"


def _variables(sentences: Sentences, medium: Medium) -> Iterator[tuple[str, str]]:
    again = sentences.again.required.count("code") if sentences.again else 0
    voice = medium is Medium.VOICE
    if sentences.warning is None:
        yield "warning", "there is no “do not share” line"
    elif sentences.warning.variables:
        yield "warning", "it takes no variables"
    if sentences.again and {"again", "warning"} & set(sentences.again.variables):
        yield "again", "it cannot hold {again} or {warning}"
    for purpose, texts in sentences.texts.items():
        for number, template in enumerate(texts, 1):
            where, names = f"{purpose} {number}", template.variables
            certain = template.required
            said = certain.count("code") + (certain.count("again") * again if voice else 0)
            if said < (2 if voice else 1):
                yield where, "the code is missing" if not said else "the code is said only once: a call needs it twice"
            elif not voice and names.count("code") > 1:
                yield where, "the code is written more than once: phones could fill in the wrong place"
            if purpose == "payment" and not {"amount", "payee"} <= set(names):
                yield where, "a payment needs {amount} and {payee} (PSD2 RTS Art. 5)"
            if voice and "minutes" in names:
                yield where, "{minutes} is not spoken: its number could be heard as a part of the code"
            if not voice and "again" in names:
                yield where, "{again} is for voice"
    for purpose, title in sentences.titles.items():
        if {"code", "again"} & set(title.variables):
            yield f"title {purpose}", "the code must not be in a subject: previews show it on locked screens"


def _composed(wording: Wording, medium: Medium) -> Iterator[tuple[str, str]]:
    alone = Wordings(by_tag={wording.tag: wording})
    limit = SHORT_TEXT_LIMITS.get(wording.tag.split("-")[0], TEXT_LIMIT) if medium is Medium.VOICE else None
    capabilities = Capabilities(
        medium=medium, max_text=limit, max_seconds=LONGEST_CALL if medium is Medium.VOICE else None
    )
    for purpose in wording.media[medium].texts:
        bindings = SAMPLE_PAYMENTS if purpose == "payment" else (None,)
        for binding, code in product(bindings, SAMPLE_CODES):
            try:
                said = compose(
                    Code(code if binding is None else code[:6]),
                    capabilities=capabilities,
                    purpose=purpose,
                    valid_for=timedelta(minutes=5),
                    locale=wording.tag,
                    brand=SAMPLE_BRAND,
                    binding=binding,
                    wordings=alone,
                )
            except OTPVoiceError as error:
                yield f"[{medium}] {purpose}", f"too long, or it cannot be said: {error}"
                break
            if medium is Medium.SMS and gsm.segments(said.text) > (1 if binding is None else 2):
                yield f"[{medium}] {purpose}", f"{gsm.segments(said.text)} SMS: add a shorter wording"
                break
