"""What the tests of speech share."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from otpvoice.speech.compose import Utterance, compose
from otpvoice.speech.wordings import Wordings, bundled
from otpvoice.types import Binding, Capabilities, Code, Medium

LEGACY = {
    "en": "EN",
    "vi": "VN",
    "ja": "JP",
    "ar": "ARB",
    "de": "DE",
    "hi": "IN",
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
"""ITNIO's sendCode, generations 1 to 3."""
ITNIO = Capabilities(
    medium=Medium.VOICE,
    languages=LEGACY,
    max_text=800,
    max_text_by_language={"VN": 299, "IDN": 299, "TH": 299},
    max_repeats=3,
    max_seconds=60,
)
VOICE = Capabilities(medium=Medium.VOICE)
SMS = Capabilities(medium=Medium.SMS)
EMAIL = Capabilities(medium=Medium.EMAIL)

VOICE_TAGS = bundled().speaking(Medium.VOICE)
ALL_TAGS = tuple(bundled().by_tag)


def say(
    code: str = "482913",
    *,
    capabilities: Capabilities = ITNIO,
    purpose: str = "login",
    minutes: float = 5,
    locale: str | None = None,
    region: str | None = None,
    default_locale: str = "en",
    brand: str = "",
    binding: Binding | None = None,
    wordings: Wordings | None = None,
    host: str | None = None,
    app_hash: str | None = None,
) -> Utterance:
    return compose(
        Code(code),
        capabilities=capabilities,
        purpose=purpose,
        valid_for=timedelta(minutes=minutes),
        locale=locale,
        region=region,
        default_locale=default_locale,
        brand=brand,
        binding=binding,
        wordings=wordings,
        host=host,
        app_hash=app_hash,
    )


def all_neighbours() -> tuple[str, ...]:
    """Six-digit codes that hold every digit beside every other and itself: a walk over all 100 pairs."""
    walk, used = [0], set()
    while free := [digit for digit in range(9, -1, -1) if (walk[-1], digit) not in used]:
        used.add((walk[-1], free[0]))
        walk.append(free[0])
    line = "".join(map(str, walk))
    codes = tuple(line[start : start + 6] for start in range(0, len(line) - 5, 5))
    assert len({first + second for code in codes for first, second in pairwise(code)}) == 100
    return codes
