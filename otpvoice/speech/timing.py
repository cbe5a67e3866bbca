"""How long a text takes to say: so that no provider hangs up in the middle of a code."""

from __future__ import annotations

from otpvoice.speech.spell import GROUPS
from otpvoice.speech.wordings import Voice

BETWEEN_PLAYS = 1.0
"""Seconds a provider is silent before it plays a text again."""
GROUP_SECONDS = 0.4
"""The longer pause within and after a code."""


def seconds(text: str, *, code: str, voice: Voice) -> float:
    """Expected seconds of one play: the codes digit by digit, the rest by characters. A little too long on purpose."""
    spoken = voice.spelling.spell(code)
    times = text.count(spoken)
    other = len(text) - times * len(spoken)
    one_code = len(code) * voice.digit_seconds + len(GROUPS[len(code)]) * GROUP_SECONDS
    return round(times * one_code + other / voice.rate, 1)


def plays(one: float, *, wanted: int, longest: float | None) -> int:
    """How many times a text of ``one`` second can be played within ``longest`` seconds; 0: not even once."""
    if longest is None:
        return wanted
    return max((n for n in range(wanted + 1) if whole_call(one, n) <= longest), default=0)


def whole_call(one: float, plays: int) -> float:
    """The seconds of a call that plays a text so many times."""
    return plays * one + max(plays - 1, 0) * BETWEEN_PLAYS
