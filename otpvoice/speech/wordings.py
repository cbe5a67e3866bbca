"""Wordings: one data file a language, and a user's own on top of them.

The bundled files are ``otpvoice/speech/locales/<tag>.toml``. Adding a language is adding a file; its keys are those of
``en.toml``. A file in an override directory is laid over the bundled one of the same name, key by key, or adds a
language.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from otpvoice.errors import ConfigurationError
from otpvoice.speech.money import Money, NumberWords
from otpvoice.speech.spell import Spelling
from otpvoice.speech.templates import Template
from otpvoice.types import Medium

LARGEST_FILE = 256 * 1024
"""Bytes of a file of one's own; the bundled ones have 3 to 7 KiB."""
GENERIC = "generic"
"""The sentences for every purpose that has none of its own."""

_TOP = {"tag", "name", "checked", "voice", "sms", "email", "numbers"}
_KEYS = {
    Medium.VOICE: {"text", "again", "warning", "why", "espeak", "rate", "digit_seconds"}
    | {"digits", "pause", "middle", "last"},
    Medium.SMS: {"text", "warning"},
    Medium.EMAIL: {"text", "title", "warning"},
}
_NUMBERS = {"whole", "decimal", "rules", "feminine", "names"}
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What is particular to speaking a language."""

    spelling: Spelling
    money: Money
    why: str
    """Why the digits have this form."""
    rate: float
    """Characters a second outside the code, of a calm voice."""
    digit_seconds: float
    """A digit and the short pause after it."""
    espeak: str | None
    """espeak-ng's voice, where it has one that can be listened to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """What one medium says in one language, longest first."""

    texts: Mapping[str, tuple[Template, ...]]
    """By purpose."""
    titles: Mapping[str, Template] = field(default_factory=dict)
    """E-mail subjects, by purpose."""
    again: Template | None = None
    warning: Template | None = None

    def for_purpose(self, purpose: str) -> tuple[Template, ...]:
        """The sentences for a purpose, from the longest to the shortest."""
        return self.texts.get(purpose) or self.texts[GENERIC]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """One language."""

    tag: str
    """BCP-47."""
    name: str
    """In English, for people."""
    checked: str
    """How the wording was checked, and by whom not."""
    voice: Voice | None
    media: Mapping[Medium, Sentences]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wordings:
    """All languages at hand, by BCP-47 tag."""

    by_tag: Mapping[str, Wording]

    def speaking(self, medium: Medium) -> tuple[str, ...]:
        """The tags that have sentences for a medium."""
        return tuple(tag for tag, wording in self.by_tag.items() if medium in wording.media)


@cache
def bundled() -> Wordings:
    """The wordings that ship with otpvoice."""
    return Wordings(by_tag={tag: wording(tag, table) for tag, table in sorted(tables().items())})


def read_directory(directory: Path) -> tuple[dict[str, Wording], dict[str, str]]:
    """The wordings that a directory changes or adds, and what could not be read, both by file name.

    Only regular files (and links to them) of at most 256 KiB are opened.
    """
    read, unreadable = {}, {}
    for file in sorted(directory.glob("*.toml")):
        try:
            own = tomllib.loads(_content(file))
            read[file.name] = wording(file.stem, _overlay(tables().get(file.stem, {}), own))
        except (ConfigurationError, ValueError, OSError) as error:  # Bad TOML and bad UTF-8 are ValueErrors.
            unreadable[file.name] = str(error)
        except RecursionError:
            unreadable[file.name] = "its tables or lists are nested too deeply"
    return read, unreadable


def _content(file: Path) -> str:
    # A pipe never ends and a device has no size: ask before opening.
    if not file.is_file():
        raise ConfigurationError("it is no file that can be read")
    with file.open("rb") as opened:
        content = opened.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ConfigurationError(f"it is larger than {LARGEST_FILE // 1024} KiB")
    return content.decode("utf-8")


def wording(tag: str, table: Mapping[str, Any]) -> Wording:
    """A wording from the table of its file. Raises :class:`~otpvoice.errors.ConfigurationError`."""
    _only(table, _TOP, "the file")
    if table.get("tag") != tag:
        raise ConfigurationError(f"tag is {table.get('tag')!r}, but the file is called {tag}.toml")
    media, voice = {}, None
    if "voice" in table:
        voice = _voice(tag, table)
    for medium in (Medium.VOICE, Medium.SMS, Medium.EMAIL):
        if medium in table:
            media[medium] = _sentences(table[medium], medium)
    if not media:
        raise ConfigurationError("there is no [voice], [sms] or [email]")
    return Wording(tag=tag, name=_text(table, "name"), checked=_text(table, "checked"), voice=voice, media=media)


def _voice(tag: str, table: Mapping[str, Any]) -> Voice:
    voice, numbers = table["voice"], table.get("numbers", {})
    _only(voice, _KEYS[Medium.VOICE], "[voice]")
    _only(numbers, _NUMBERS, "[numbers]")
    digits = voice.get("digits")
    if not isinstance(digits, list) or len(digits) != 10 or not all(isinstance(word, str) for word in digits):
        raise ConfigurationError("[voice] digits are ten words, for 0 to 9")
    pauses = {key: str(voice[key]) for key in ("pause", "middle", "last") if key in voice}
    money = Money(
        words=NumberWords.parse(_text(numbers, "rules"), locale=tag),
        whole=_amount(numbers, "whole", {"number", "currency"}),
        decimal=_amount(numbers, "decimal", {"number", "currency", "digits", "fraction"}),
        feminine=frozenset(_currencies(numbers, "feminine", list)),
        names={code: _text(numbers["names"], code) for code in _currencies(numbers, "names", dict)},
    )
    return Voice(
        spelling=Spelling(digits=tuple(digits), **pauses),
        money=money,
        why=_text(voice, "why"),
        rate=_within(voice, "rate", 12.0, 2, 30),
        digit_seconds=_within(voice, "digit_seconds", 0.9, 0.3, 5),
        espeak=_text(voice, "espeak") if "espeak" in voice else None,
    )


def _sentences(table: Mapping[str, Any], medium: Medium) -> Sentences:
    _only(table, _KEYS[medium], f"[{medium}]")
    for key in {"text", "title"} & set(table):
        if not isinstance(table[key], dict):
            raise ConfigurationError(f"[{medium}.{key}] is not a table")
    texts = {purpose: Template.many(value) for purpose, value in table.get("text", {}).items()}
    titles = {purpose: Template(_text(table["title"], purpose)) for purpose in table.get("title", {})}
    if GENERIC not in texts or (medium is Medium.EMAIL and GENERIC not in titles):
        raise ConfigurationError(f"[{medium}] needs at least the texts (and, for e-mail, the title) called {GENERIC!r}")
    phrases = {key: Template(_text(table, key)) for key in ("again", "warning") if key in table}
    return Sentences(texts=texts, titles=titles, again=phrases.get("again"), warning=phrases.get("warning"))


def _amount(table: Mapping[str, Any], key: str, allowed: set[str]) -> Template:
    template = Template(_text(table, key), allowed)
    said, fraction = template.required, {"digits", "fraction"} & allowed
    if not {"number", "currency"} <= set(said) or (fraction and not fraction & set(said)):
        raise ConfigurationError(f"[numbers] {key} says the whole amount, with its currency: {template.source!r}")
    return template


def _currencies(table: Mapping[str, Any], key: str, kind: type[list[str]] | type[dict[str, str]]) -> Iterable[str]:
    codes = table.get(key, kind())
    if not isinstance(codes, kind) or not all(isinstance(code, str) and _CURRENCY.fullmatch(code) for code in codes):
        raise ConfigurationError(f"[numbers] {key} is a {kind.__name__} by currency codes of ISO 4217")
    return codes


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where} is not a table")
    if unknown := sorted(set(table) - known):
        raise ConfigurationError(f"{where} has unknown keys: {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{key} is missing or no text")
    return value.strip("\n")


def _within(table: Mapping[str, Any], key: str, default: float, least: float, most: float) -> float:
    value = table.get(key, default)
    # Speech that were faster than speech would be planned too short, and cut off.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigurationError(f"{key} is a number from {least} to {most}, not {value!r}")
    return float(value)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _overlay(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


@cache
def tables() -> dict[str, dict[str, Any]]:
    """The bundled files as they are, by tag. Not to be changed."""
    folder = resources.files("otpvoice.speech") / "locales"
    return {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }
