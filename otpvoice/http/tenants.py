"""The ``[tenants.NAME]`` tables: whom the service serves, and by which policies.

::

    [tenants.shop]
    audience = "https://shop.example"

    [tenants.shop.policy]             # numbers for all of the tenant's purposes
    countries = ["VN", "TH"]

    [tenants.shop.purposes.login]
    ttl = "3m"

    [tenants.shop-test]
    test = true

    [tenants.shop-test.test_recipients."+12015550123"]
    code = "123456"
    outcome = "approved"

A tenant has the installation's purposes, with its own numbers over them, and those it adds. Without any such table
there is one tenant, ``default``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from otpvoice import recipients
from otpvoice.codes import hash_profile
from otpvoice.config import policy_values
from otpvoice.errors import ConfigurationError, InvalidRecipient
from otpvoice.policy import Policy, Route
from otpvoice.settings import Settings

DEFAULT = "default"
OUTCOMES = frozenset(
    {
        "approved",
        "no_answer",
        "busy",
        "rejected",
        "unreachable",
        "invalid_number",
        "no_balance",
        "unavailable",
        "locked",
        "rate_limited",
        "denied",
    }
)
"""What can be told to happen to a test recipient; see ``docs/http.md``."""
OTHERS = frozenset({"twilio", "webhooks"})
"""Tables of a tenant that other modules read."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,62}")
_CODE = re.compile(r"[0-9]{4,10}")
_KNOWN = {"audience", "test", "policy", "purposes", "test_recipients"} | OTHERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happens to a test recipient."""

    code: str | None = field(default=None, repr=False)
    """The code it gets, always; None: a random one that nobody learns."""
    outcome: str = "approved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One customer of the installation."""

    name: str
    audience: str
    """``aud`` of its proofs."""
    policies: Mapping[str, Policy]
    test: bool = False
    test_recipients: Mapping[str, Outcome] = field(default_factory=dict)
    """By canonical address (E.164 or addr-spec); only a test tenant has any."""
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The tables of :data:`OTHERS`, unread."""


def build(settings: Settings, policies: Mapping[str, Policy]) -> dict[str, Tenant]:
    """The tenants by name. ``policies`` are the installation's.

    Raises :class:`~otpvoice.errors.ConfigurationError` naming the table and key that is wrong.
    """
    if not settings.tenants:
        return {DEFAULT: Tenant(name=DEFAULT, audience=DEFAULT, policies=policies)}
    return {name: _tenant(name, table, policies) for name, table in settings.tenants.items()}


def _tenant(name: str, table: Mapping[str, Any], policies: Mapping[str, Policy]) -> Tenant:
    where = f"tenants.{name[:64]}"
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"[{where}] is no name: use lower-case letters, digits, - _ .")
    unknown = sorted(set(table) - _KNOWN)
    if unknown:
        raise ConfigurationError(f"[{where}] {unknown[0]!r} is not a setting; known: {', '.join(sorted(_KNOWN))}")
    test = table.get("test", False)
    audience = table.get("audience", name)
    if not isinstance(test, bool):
        raise ConfigurationError(f"[{where}] test must be true or false")
    if not isinstance(audience, str) or not audience.isprintable() or not audience:
        raise ConfigurationError(f"[{where}] audience must be text")
    listed = _table(where, "test_recipients", table)
    if listed and not test:
        # A number whose code is known in advance would open any account of a live tenant (property P81).
        raise ConfigurationError(f"[{where}] test_recipients need test = true: a live tenant cannot have them")
    built = _policies(where, table, policies)
    lengths = {policy.code_length for policy in built.values()}
    return Tenant(
        name=name,
        audience=audience,
        policies=built,
        test=test,
        test_recipients=dict(_test_recipient(where, address, entry, lengths) for address, entry in listed.items()),
        extra={key: _table(where, key, table) for key in sorted(OTHERS & set(table))},
    )


def _policies(where: str, table: Mapping[str, Any], policies: Mapping[str, Policy]) -> dict[str, Policy]:
    common = policy_values(f"{where}.policy", _table(where, "policy", table))
    own = _table(where, "purposes", table)
    built = {}
    for purpose in [*policies, *(name for name in own if name not in policies)]:
        if _PURPOSE.fullmatch(purpose) is None:
            raise ConfigurationError(f"[{where}.purposes.{purpose[:40]}] is no name")
        values = policy_values(f"{where}.purposes.{purpose}", _table(f"{where}.purposes", purpose, own))
        base = policies.get(purpose) or Policy(route=_any_route(policies))
        try:
            built[purpose] = replace(base, **(common | values))
            hash_profile(built[purpose].hash_profile)
        except ConfigurationError as error:
            raise ConfigurationError(f"[{where}.purposes.{purpose}] {error}") from None
    return built


def _any_route(policies: Mapping[str, Policy]) -> Route:
    return next(iter(policies.values())).route


def _test_recipient(where: str, address: str, entry: object, lengths: Set[int]) -> tuple[str, Outcome]:
    table = f"{where}.test_recipients"
    if not isinstance(entry, Mapping) or not set(entry) <= {"code", "outcome"}:
        raise ConfigurationError(f"[{table}] an entry has the keys code and outcome")
    code, outcome = entry.get("code"), entry.get("outcome", "approved")
    try:
        parsed = recipients.parse(address)
    except InvalidRecipient as error:
        raise ConfigurationError(f"[{table}] {error}") from None
    if code is not None and (not isinstance(code, str) or _CODE.fullmatch(code) is None):
        raise ConfigurationError(f"[{table}] the code of {parsed.hint} must be text of 4 to 10 digits")
    if code is not None and len(code) not in lengths:
        # It would be sent with zeros before it, or cut, and verify nothing as it stands here.
        digits = " or ".join(str(length) for length in sorted(lengths))
        raise ConfigurationError(f"[{table}] the code of {parsed.hint} has {len(code)} digits; purposes send {digits}")
    if outcome not in OUTCOMES:
        raise ConfigurationError(f"[{table}] the outcome of {parsed.hint} is one of: {', '.join(sorted(OUTCOMES))}")
    return str(parsed.address), Outcome(code=code, outcome=outcome)


def _table(where: str, key: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"[{where}] {key} must be a table")
    return found
