"""Rules for settings: each takes what a configuration file holds and returns the value to use, or raises.

No message repeats the value: a secret may stand in any key.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

import httpx

from otpvoice.types import Masked

T = TypeVar("T")
Rule: TypeAlias = Callable[[object], T]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")


class Unfit(ValueError):
    """What a rule raises: the end of a sentence that begins with the key (``must be …``)."""


class Secret(Masked):
    """A credential: a ``str`` whose ``repr`` shows nothing."""

    __slots__ = ()


def text(*, longest: int = 200) -> Rule[str]:
    """Printable text without line breaks, not empty."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise Unfit(f"must be text in quotes, not {kind_of(value)}")
        if not value.strip():
            raise Unfit("is empty")
        if not value.isprintable() or len(value) > longest:
            raise Unfit(f"must be at most {longest} printable characters on one line")
        return value.strip()

    return check


def secret() -> Rule[Secret]:
    """A credential that travels in a header: ASCII without spaces; kept as :class:`Secret`."""

    def check(value: object) -> Secret:
        plain = text(longest=500)(value)
        if _HEADER_SAFE.fullmatch(plain) is None:
            raise Unfit("must be ASCII without spaces")
        return Secret(plain)

    return check


def flag() -> Rule[bool]:
    """True or false."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise Unfit(f"must be true or false, not {kind_of(value)}")
        return value

    return check


def networks() -> Rule[tuple[Network, ...]]:
    """IP addresses and networks: ``["192.0.2.7", "2001:db8::/32"]``."""

    def check(value: object) -> tuple[Network, ...]:
        if not isinstance(value, list | tuple):
            raise Unfit(f"must be a list of IP addresses and networks, not {kind_of(value)}")
        try:
            return tuple(ipaddress.ip_network(str(item)) for item in value)
        except ValueError:
            raise Unfit('must be a list of IP addresses and networks, such as "192.0.2.0/24"') from None

    return check


def integer(low: int, high: int) -> Rule[int]:
    """A whole number within bounds, both included."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit(f"must be a whole number from {low} to {high}, not {kind_of(value)}")
        if not low <= value <= high:
            raise Unfit(f"must be a whole number from {low} to {high}")
        return value

    return check


def seconds(low: float, high: float) -> Rule[float]:
    """A number of seconds within bounds, both included."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit(f"must be a number of seconds from {low:g} to {high:g}, not {kind_of(value)}")
        if not low <= value <= high:  # Not a number is neither.
            raise Unfit(f"must be a number of seconds from {low:g} to {high:g}")
        return float(value)

    return check


def choice(*names: str) -> Rule[str]:
    """One of a few words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise Unfit(f"must be one of {', '.join(names)}")
        return str(value)

    return check


def phone_digits() -> Rule[str]:
    """A phone number as 7 to 15 ASCII digits; a leading ``+`` is taken off."""

    def check(value: object) -> str:
        digits = text()(value).removeprefix("+")
        if re.fullmatch(r"[0-9]{7,15}", digits) is None:
            raise Unfit("must be 7 to 15 digits, with the country code")
        return digits

    return check


def path_prefix() -> Rule[str]:
    """The beginning of a URL's path: empty, or ``/v3`` (``v3`` and ``/v3/`` are read as that)."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise Unfit(f"must be text in quotes, not {kind_of(value)}")
        path = "/" + value.strip("/") if value.strip("/") else ""
        if _PATH.fullmatch(path) is None or any(part in {".", ".."} for part in path.split("/")):
            raise Unfit("must be a path such as /v3")
        return path

    return check


def url() -> Rule[str]:
    """An ``https`` URL without user, query or fragment.

    ``http`` is taken only for this machine and for private networks (a loopback or private address, a name without
    a dot or under ``.internal`` or ``.localhost``): what is sent holds the code, and headers that can be replayed.
    """

    def check(value: object) -> str:
        plain = text(longest=2000)(value)
        try:
            parsed = httpx.URL(plain)
            valid = parsed.scheme in {"http", "https"} and bool(parsed.host)
        except httpx.InvalidURL:
            valid = False
        if not valid or re.search(r"\s", plain):
            raise Unfit("must be a URL that begins with https://")
        if parsed.userinfo or parsed.query or parsed.fragment or "?" in plain or "#" in plain:
            raise Unfit("must be a URL without user, query or fragment")
        if parsed.scheme == "http" and not _is_private(parsed.host):
            raise Unfit("must begin with https:// (http:// is for this machine and private networks only)")
        return plain.rstrip("/")

    return check


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".internal", ".localhost"))
    return address.is_loopback or address.is_private


def pairs(key: re.Pattern[str], value: re.Pattern[str], example: str) -> Rule[dict[str, str]]:
    """A table of texts whose keys and values have a form."""

    def check(table: object) -> dict[str, str]:
        if not isinstance(table, Mapping):
            raise Unfit(f"must be a table such as {example}, not {kind_of(table)}")
        for name, entry in table.items():
            if not isinstance(name, str) or not isinstance(entry, str) or not key.fullmatch(name):
                raise Unfit(f"must be a table such as {example}")
            if not value.fullmatch(entry):
                raise Unfit(f"must be a table such as {example}: the value of {name} is not of that form")
        return dict(table)

    return check


def kind_of(value: object) -> str:
    """The type of a value in the words of a configuration file."""
    return {"str": "text", "bool": "true or false", "dict": "a table", "list": "a list"}.get(
        type(value).__name__, type(value).__name__
    )
