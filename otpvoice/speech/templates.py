"""The small language of a wording: allow-listed variables and sections that drop out, nothing that can run.

``{name}`` is replaced by a value. ``[ ... ]`` is left out, whole, when a variable inside it is empty. Sections may
nest. Values are inserted as they are and never read as templates, so a brand called ``{code}`` stays a brand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Self, TypeAlias

from otpvoice.errors import ConfigurationError

VARIABLES = frozenset({"brand", "code", "again", "warning", "amount", "payee", "minutes"})
"""What a sentence may mention."""

DEEPEST = 50
"""Sections in one text, nested or not: more is a mistake, or an attack on the stack."""

_TOKEN = re.compile(r"\{[^{}]*\}|[\[\]{}]|[^\[\]{}]+")


@dataclass(frozen=True, slots=True)
class Variable:
    """A place for a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part that is left out when one of its variables is empty."""

    parts: tuple[Part, ...]


Part: TypeAlias = str | Variable | Section


@dataclass(frozen=True, slots=True)
class Template:
    """One sentence or message with places for values.

    Raises :class:`~otpvoice.errors.ConfigurationError` for unbalanced brackets and unknown variables.
    """

    source: str
    allowed: Set[str] = VARIABLES
    _parts: tuple[Part, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if "\0" in self.source:  # Its place in :attr:`literal` is a variable's.
            raise ConfigurationError(f"it holds the control character U+0000: {self.source!r}")
        if self.source.count("[") > DEEPEST:
            raise ConfigurationError(f"more than {DEEPEST} sections in one text")
        tokens = iter(_TOKEN.findall(self.source))
        object.__setattr__(self, "_parts", tuple(self._parse(tokens, nested=False)))

    def _parse(self, tokens: Iterator[str], *, nested: bool) -> Iterator[Part]:
        for piece in tokens:
            if piece == "[":
                yield Section(tuple(self._parse(tokens, nested=True)))
            elif piece == "]":
                if nested:
                    return
                raise ConfigurationError(f"a section is closed that was not opened: {self.source!r}")
            elif piece in {"{", "}"}:
                raise ConfigurationError(f"a brace has no partner: {self.source!r}")
            elif piece.startswith("{"):
                name = piece[1:-1]
                if name not in self.allowed:
                    raise ConfigurationError(
                        f"{{{name}}} is no variable; use {', '.join(sorted(self.allowed))}: {self.source!r}"
                    )
                yield Variable(name)
            else:
                yield piece
        if nested:
            raise ConfigurationError(f"a section is not closed: {self.source!r}")

    @property
    def variables(self) -> list[str]:
        """The names it mentions, in order, as often as it mentions them."""
        return list(_names(self._parts))

    @property
    def required(self) -> list[str]:
        """The names outside every section."""
        return [part.name for part in self._parts if isinstance(part, Variable)]

    @property
    def literal(self) -> str:
        """The text without its variables, sections kept: what a lint looks at."""
        return _literal(self._parts)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with the values in place; a missing value counts as empty."""
        return _render(self._parts, values)

    @classmethod
    def many(cls, sources: object) -> tuple[Self, ...]:
        """Templates from a string or a list of strings, as a data file holds them."""
        listed = [sources] if isinstance(sources, str) else sources
        if not isinstance(listed, list) or not listed or not all(isinstance(item, str) for item in listed):
            raise ConfigurationError(f"expected a text or a list of texts, not {sources!r}")
        return tuple(cls(item.strip("\n")) for item in listed)


def _names(parts: tuple[Part, ...]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Variable):
            yield part.name
        elif isinstance(part, Section):
            yield from _names(part.parts)


def _literal(parts: tuple[Part, ...]) -> str:
    return "".join(
        part if isinstance(part, str) else "\0" if isinstance(part, Variable) else _literal(part.parts)
        for part in parts
    )


def _render(parts: tuple[Part, ...], values: Mapping[str, str]) -> str:
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, Variable):
            out.append(values.get(part.name, ""))
        elif all(values.get(p.name) for p in part.parts if isinstance(p, Variable)):
            out.append(_render(part.parts, values))
    return "".join(out)
