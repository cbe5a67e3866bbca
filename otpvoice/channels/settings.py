"""Settings of a channel: a frozen dataclass whose fields carry rules, read strictly from a table.

All problems of a table are named at once, and no message repeats a value. The rules are in
:mod:`otpvoice.channels.rules`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self, TypeVar

from otpvoice.channels import rules
from otpvoice.channels.rules import Rule, Unfit, kind_of
from otpvoice.errors import ConfigurationError


def rule(check: Rule[Any]) -> Mapping[str, Rule[Any]]:
    """Metadata that gives a dataclass field its rule: ``field(metadata=rule(rules.text()))``."""
    return {"rule": check}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """The base of a channel's settings; each field has a :func:`rule`.

    Constructing one, in code or by :meth:`from_table`, raises :class:`~otpvoice.errors.ConfigurationError` that names
    every wrong field.
    """

    def __post_init__(self) -> None:
        problems = []
        for member in fields(self):
            value = getattr(self, member.name)
            if value is None and member.default is None:
                continue
            try:
                object.__setattr__(self, member.name, member.metadata["rule"](value))
            except Unfit as error:
                problems.append(f"{member.name} {error}")
        problems = problems or list(self.contradictions())
        if problems:
            raise ConfigurationError("; ".join(problems))

    def contradictions(self) -> Iterable[str]:
        """What is wrong between fields that are each right: sentences that name the keys."""
        return ()

    @classmethod
    def from_table(cls, table: str, values: Mapping[str, object]) -> Self:
        """The settings that a table of the configuration file holds.

        ``table`` is its name for messages (``channels.voice``). A key that is missing, unknown or wrong raises one
        :class:`~otpvoice.errors.ConfigurationError` that names all of them.
        """
        known = {member.name: member for member in fields(cls)}
        problems = [f"{name} is missing" for name, member in known.items() if _required(member) and name not in values]
        problems += [_unknown(key, known) for key in values if key not in known]
        taken = {}
        for name, member in known.items():
            if name in values and not (values[name] is None and member.default is None):
                try:
                    taken[name] = member.metadata["rule"](values[name])
                except Unfit as error:
                    problems.append(f"{name} {error}")
        if problems:
            raise ConfigurationError(f"[{table}] {'; '.join(problems)}")
        try:
            return cls(**taken)
        except ConfigurationError as error:
            raise ConfigurationError(f"[{table}] {error}") from None


def _required(member: Field[Any]) -> bool:
    return member.default is MISSING and member.default_factory is MISSING


def _unknown(key: object, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"
    return f"{str(key)[:40]!r} is not a setting ({hint})"


S = TypeVar("S", bound=ChannelSettings)


def nested(kind: type[S]) -> Rule[S]:
    """A table within the table, or an instance of the settings it is read to."""

    def check(value: object) -> S:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise Unfit(f"must be a table, not {kind_of(value)}")
        try:
            return kind.from_table("", value)
        except ConfigurationError as error:
            raise Unfit(str(error).removeprefix("[] ")) from None

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts(ChannelSettings):
    """How long one request may take, in seconds, by phase."""

    connect: float = field(default=5.0, metadata=rule(rules.seconds(0.05, 120)))
    """To open a connection, TLS included. Running out of it is safe to retry: nothing has been sent."""
    read: float = field(default=15.0, metadata=rule(rules.seconds(0.05, 120)))
    """Between two pieces of the answer. Running out of it leaves the outcome unknown."""
    write: float = field(default=10.0, metadata=rule(rules.seconds(0.05, 120)))
    """Between two pieces of the request."""
    pool: float = field(default=5.0, metadata=rule(rules.seconds(0.05, 120)))
    """To be given a connection by the client's pool."""

    def as_extensions(self) -> dict[str, Any]:
        """For ``httpx.Request(extensions=...)``."""
        return {"timeout": {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool}}
