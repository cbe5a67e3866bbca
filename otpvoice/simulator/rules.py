"""What goes wrong on demand: rules, and the numbers that stand for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from otpvoice.simulator.records import MessageOutcome, Outcome

SENDS = frozenset({"/voice/sendCode", "/sms/sendSms"})
"""The requests that ring or write."""

Answer = Literal[
    "ok", "garbage", "html", "empty", "truncated", "no-id", "number-status", "number-id", "aliases", "drop", "hang"
]
ACCEPTING = frozenset({"ok", "no-id", "number-status", "number-id", "aliases"})
"""Answers that say 0: the call is placed."""
NAMED = ACCEPTING | {"garbage", "html", "empty", "truncated", "drop", "hang"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the simulator does with the requests that match. The newest rule that matches counts, alone.

    Only requests that the provider would take (signed, well-formed) meet a rule; others get their own refusal.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=False)

    on: str = "send"
    """``send`` (sendCode and sendSms), ``*`` (everything), or one path without prefix: ``/sms/getBalance``."""
    callee: str = ""
    """Only numbers that end like this; empty: every number."""
    times: int | None = None
    """How many requests it applies to; None: until it is removed."""
    answer: str = "ok"
    """``ok``; a provider status ``-1`` to ``-99``; ``http-500`` (any 3-digit status); ``garbage``, ``html``,
    ``empty``, ``truncated`` (half an envelope); ``no-id`` (status 0 without an id or accepted number);
    ``number-status``, ``number-id`` (JSON numbers for strings); ``aliases`` (``code``/``msg`` for
    ``status``/``reason``); ``drop`` (connection closed without a byte) or ``hang`` (no answer at all)."""
    delay: float = 0.0
    """Seconds before the answer. The call, if it is placed, rings at once."""
    accept: bool | None = None
    """Whether the call is placed or the message sent whatever the answer says; None: as the answer says."""
    outcome: Outcome | None = None
    """What becomes of the call; None: answered."""
    sip_code: int | None = None
    """The SIP code that is reported; None: the outcome's usual one."""
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    message: MessageOutcome | None = None
    """What becomes of the text message; None: delivered."""
    pushed: bool = True
    """Whether a report is pushed (where pushing is set up)."""

    def __post_init__(self) -> None:
        if self.answer not in NAMED and not re.fullmatch(r"-[1-9]\d?|http-[2-5]\d\d", self.answer):
            raise ValueError(f"unknown answer {self.answer!r}: a status like '-10', 'http-500', {sorted(NAMED)}")
        if self.on not in {"send", "*"} and not self.on.startswith("/"):
            raise ValueError(f"'on' is 'send', '*' or a path that starts with '/', not {self.on!r}")
        if not re.fullmatch(r"[0-9]*", self.callee):
            raise ValueError("'callee' is the last digits of a number, without '+'")
        if self.delay < 0 or (self.times is not None and self.times < 1):
            raise ValueError("'delay' is 0 or more, 'times' 1 or more")
        if self.sip_code is not None and not 100 <= self.sip_code <= 699:
            raise ValueError("'sip_code' is 100 to 699 (RFC 3261)")

    @property
    def accepts(self) -> bool:
        """Whether the call is placed or the message sent."""
        return self.answer in ACCEPTING if self.accept is None else self.accept

    def matches(self, path: str, callee: str) -> bool:
        """Whether it applies to a request for ``path`` that concerns ``callee`` (empty: no number)."""
        wanted = path in SENDS if self.on == "send" else self.on in {"*", path}
        return wanted and callee.endswith(self.callee)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Rule:
        """A rule from plain values. Raises ``ValueError`` naming the wrong or unknown key."""
        return _ADAPTER.validate_python(dict(values))

    def as_dict(self) -> dict[str, Any]:
        """Plain values; :meth:`of` is the reverse."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain


_ADAPTER = TypeAdapter(Rule)

TEST_RANGE = "84912345"
"""The last three digits of +84 912 345 xxx say what happens; see :data:`BY_NUMBER`."""

BY_NUMBER: Mapping[str, Rule] = {
    "200": Rule(),
    "299": Rule(outcome=Outcome.VOICEMAIL),
    "403": Rule(outcome=Outcome.BLOCKED),
    "404": Rule(outcome=Outcome.INVALID_NUMBER),
    "408": Rule(outcome=Outcome.NO_ANSWER, sip_code=408),
    "480": Rule(outcome=Outcome.NO_ANSWER),
    "486": Rule(outcome=Outcome.BUSY),
    "487": Rule(outcome=Outcome.NO_ANSWER, sip_code=487),
    "503": Rule(outcome=Outcome.CARRIER_FAILURE),
    "603": Rule(outcome=Outcome.REJECTED),
    "611": Rule(message=MessageOutcome.FAILED),
    "612": Rule(message=MessageOutcome.PENDING),
    "613": Rule(on="/sms/sendSms", answer="no-id", accept=False),
    "500": Rule(answer="http-500"),
    "701": Rule(answer="garbage"),
    "702": Rule(answer="html"),
    "703": Rule(answer="empty"),
    "704": Rule(delay=3.0),
    "705": Rule(answer="drop", accept=True),
    "706": Rule(answer="drop", accept=False),
    "707": Rule(answer="hang", accept=True),
    "708": Rule(answer="no-id"),
    "709": Rule(pushed=False),
} | {f"9{code:02}": Rule(answer=f"-{code}") for code in range(1, 33)}
"""Calls end with the SIP code that the number ends in; 9NN is refused with status -NN."""


class RuleBook:
    """The rules in force. Safe to share between threads."""

    def __init__(self, *, by_number: bool = True) -> None:
        self._lock = Lock()
        self._rules: list[Rule] = []
        self._by_number = by_number

    def add(self, rule: Rule) -> None:
        """Put a rule before all others."""
        with self._lock:
            self._rules.insert(0, rule)

    def clear(self) -> None:
        """Take all rules away; the test numbers stay."""
        with self._lock:
            self._rules.clear()

    def snapshot(self) -> list[Rule]:
        """The rules, the one that counts first at the front; ``times`` is what is left."""
        with self._lock:
            return list(self._rules)

    def take(self, path: str, callee: str = "") -> Rule:
        """The rule for one request, counted against its ``times``."""
        with self._lock:
            for index, rule in enumerate(self._rules):
                if rule.matches(path, callee):
                    if rule.times == 1:
                        del self._rules[index]
                    elif rule.times is not None:
                        self._rules[index] = replace(rule, times=rule.times - 1)
                    return rule
        known = BY_NUMBER.get(callee[-3:]) if callee.startswith(TEST_RANGE) and len(callee) == 11 else None
        return known if self._by_number and known is not None and known.matches(path, callee) else Rule()
