"""Which language to speak: explicit, else the recipient's country (CLDR), else the default, else any there is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from babel.core import get_global
from babel.languages import get_territory_language_info

from otpvoice.errors import ContentRejected, InvalidRequest
from otpvoice.speech.wordings import Wordings
from otpvoice.types import Capabilities

SPOKEN_BY = 10.0
"""Per cent of a country's people that a language must reach to be chosen for a number of that country.

Official ones are chosen after those: CLDR gives Spanish in Paraguay 3 %, its first speakers.
"""
_OFFICIAL = frozenset({"official", "de_facto_official"})

_TAG = re.compile(
    r"[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|[0-9]{3}))?([-_]([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
)


def canonical(tag: str) -> str:
    """A BCP-47 tag as language, script and region, in its usual case: ``PT_br`` → ``pt-BR``.

    Variants are dropped, and CLDR's aliases are followed (``tl`` → ``fil``, ``in`` → ``id``). Raises
    :class:`~otpvoice.errors.InvalidRequest` for what is not such a tag.
    """
    if not _TAG.fullmatch(tag):
        raise InvalidRequest(f"{tag[:20]!a} is no locale: use a BCP-47 tag like pt-BR")
    language, *rest = re.split("[-_]", tag)
    parts = [*re.split("[-_]", get_global("language_aliases").get(language.lower(), language.lower()))]
    parts += [part.title() for part in rest if len(part) == 4 and part.isalpha()]
    parts += [part.upper() for part in rest if len(part) == 2 or (len(part) == 3 and part.isdigit())]
    return "-".join(parts)


def best(tag: str, available: Collection[str]) -> str | None:
    """The available tag that a reader of ``tag`` reads: the same, a CLDR parent, or the same language and script."""
    wanted = canonical(tag)
    for candidate in _parents(wanted):
        if candidate in available:
            return candidate
    script = _script(wanted)
    same = [other for other in available if _script(canonical(other)) == script]
    # "pt" is pt-BR and "pt-AO" is pt-PT in CLDR; any regional form is better than another language.
    family = set(_parents(_likely(wanted)))
    return next((other for other in sorted(same) if canonical(other) in family), None) or min(same, default=None)


def choose(
    wordings: Wordings,
    capabilities: Capabilities,
    *,
    locale: str | None,
    region: str | None,
    default_locale: str,
) -> tuple[str, str | None]:
    """The wording's tag and the provider's language code (None where the provider takes any text).

    Raises :class:`~otpvoice.errors.InvalidRequest` for a malformed locale and
    :class:`~otpvoice.errors.ContentRejected` where the provider speaks none of our languages.
    """
    wanted = [canonical(locale)] if locale else []
    wanted += [*spoken_in(region)] if region else []
    wanted += [canonical(default_locale), "en"]
    available = wordings.speaking(capabilities.medium)
    for tag in [*wanted, *available]:
        found = best(tag, available)
        if found is None:
            continue
        if capabilities.languages is None:
            return found, None
        code = _provider_code(tag, found, capabilities.languages)
        if code is not None:
            return found, code
    raise ContentRejected("the channel speaks no language that we have a wording for")


def spoken_in(region: str) -> Iterator[str]:
    """The languages of a country (ISO 3166-1 alpha-2), by how many of its people use them (CLDR)."""
    info = get_territory_language_info(region.upper())
    people = {language: float(facts["population_percent"] or 0) for language, facts in info.items()}
    for language in sorted(people, key=lambda language: (-people[language], language)):
        if people[language] >= SPOKEN_BY or info[language]["official_status"] in _OFFICIAL:
            yield f"{language.replace('_', '-')}-{region.upper()}"


def _provider_code(wanted: str, found: str, languages: Mapping[str, str]) -> str | None:
    # The person's own variety first: en-GB, where the provider has it.
    key = best(wanted, languages) or best(found, languages)
    return None if key is None else languages[key]


@cache
def _likely(tag: str) -> str:
    """The tag with its likely script and region: ``zh-TW`` → ``zh-Hant-TW``."""
    parts = tag.split("-")
    language = parts[0]
    script = next((part for part in parts[1:] if len(part) == 4), None)
    region = next((part for part in parts[1:] if len(part) != 4), None)
    likely = get_global("likely_subtags")
    for key in (f"{language}_{script}_{region}", f"{language}_{region}", f"{language}_{script}", language):
        if "None" not in key and key in likely:
            known = likely[key].split("_")
            return "-".join([language, script or known[1], region or known[-1]])
    return "-".join([language, script or "Zzzz", region or "ZZ"])


def _script(tag: str) -> tuple[str, ...]:
    return tuple(_likely(tag).split("-")[:2])


def _parents(tag: str) -> Iterator[str]:
    """The tag and its ancestors in CLDR: ``pt-AO``, ``pt-PT``, ``pt``. Never into another script."""
    exceptions: Mapping[str, str] = get_global("parent_exceptions")
    script = _script(tag)
    current: str | None = tag
    while current:
        if _script(current) == script:
            yield current
        parent = exceptions.get(current.replace("-", "_"))
        if parent == "root":
            return
        current = parent.replace("_", "-") if parent else current.rpartition("-")[0]
