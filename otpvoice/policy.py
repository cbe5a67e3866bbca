"""Policies: the numbers that rule a purpose, and the profiles whose bounds a standard sets.

A challenge is opened with a frozen copy of its policy, so that a change of configuration never moves the limits of
what is already open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, Self, get_args

from otpvoice.errors import ConfigurationError
from otpvoice.types import Recipient

LateCodes = Literal["all", "newest"]
Profile = Literal["default", "nist", "pci", "psd2"]

PROFILE_LIMITS: Mapping[str, Mapping[str, float]] = {
    # NIST SP 800-63B-4: 3.1.3.2 (10 minutes, six digits), 3.2.2 (at most 100 failures, then disabled).
    "nist": {"ttl": 600, "code_length": 6, "stop_after": 100, "max_attempts": 100},
    # PCI DSS 4.0.1, 8.3.4: at most 10 attempts, then at least 30 minutes.
    "pci": {"ttl": 600, "code_length": 6, "max_attempts": 10, "lock_after": 10, "lock_for": 1800},
    # RTS (EU) 2018/389, Art. 4(3)(b): a block after at most five consecutive failures. See also Policy.pays.
    "psd2": {"ttl": 600, "code_length": 6, "max_attempts": 5, "lock_after": 5},
}
"""What a profile refuses to be weakened beyond: upper bounds, but for ``code_length`` and ``lock_for``."""

PROFILE_NUMBERS: Mapping[str, Mapping[str, int]] = {"nist": {"stop_after": 100}, "psd2": {"lock_after": 5}}
"""What a profile sets where nothing else is said, for the default would be beyond its limit."""

DENIED_CLASSES = frozenset(
    {"premium_rate", "shared_cost", "uan", "pager", "voicemail", "personal_number", "satellite", "unknown"}
)
"""Number classes that cost the caller or reach no person (property P38)."""


MOST = 1_000_000_000
"""The largest number that a limit of a policy may be: all of them fit into any database."""

FRAUD_LIMITS = ("max_sends_per_prefix", "max_sends_per_country", "max_sends_per_tenant")
"""What bounds the cost of many recipients together. None is off: the right number depends on the installation."""

GoOn = Literal["refused", "failed"]
"""What makes a route go on by itself: the provider's refusal, or its report of a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStep:
    """One step of a route: the channel to send through, for whom, and when to go on to the next one.

    A person who asks for another code always goes on. A timer alone never rings a phone unless :attr:`after` says
    so (property P54).
    """

    channel: str
    go_on: frozenset[GoOn] = frozenset({"refused", "failed"})
    """``refused``: the provider did not take it; ``failed``: it reported that it did not get through."""
    no_report_within: timedelta | None = None
    """Go on when no report came for so long after the provider took it; None: wait for the person."""
    after: timedelta | None = None
    """Go on after this time whatever was reported, unless the code was used; None: never."""
    only_classes: frozenset[str] | None = None
    """Number classes this step is for (``mobile``, ``fixed_line``, ``voip``, …); None: every class."""
    not_classes: frozenset[str] = frozenset()
    """Number classes that skip this step: SMS to a ``fixed_line`` reaches nobody."""
    only_countries: frozenset[str] | None = None
    not_countries: frozenset[str] = frozenset()
    """ISO 3166-1 alpha-2 codes that skip this step: where SMS is not sold or not delivered."""

    def __post_init__(self) -> None:
        _check_types("the route step", self)
        spans = [span for span in (self.no_report_within, self.after) if span is not None]
        if not self.go_on <= set(get_args(GoOn)):
            raise ConfigurationError(f"a route step's go_on takes {' and '.join(get_args(GoOn))}")
        if any(not timedelta(seconds=1) <= span <= timedelta(minutes=10) for span in spans):
            raise ConfigurationError("a route step's no_report_within and after are 1 s to 10 min")
        for codes in (self.only_countries or frozenset(), self.not_countries):
            if wrong := _no_countries(codes):
                raise ConfigurationError(f"a route step's countries {wrong}")

    def is_for(self, recipient: Recipient | None) -> bool:
        """Whether the step's conditions let this recipient in; a mailbox has neither class nor country."""
        if recipient is None or recipient.kind != "phone":
            return True
        allowed_class = self.only_classes is None or recipient.number_class in self.only_classes
        allowed_country = self.only_countries is None or recipient.region in self.only_countries
        denied = recipient.number_class in self.not_classes or recipient.region in self.not_countries
        return allowed_class and allowed_country and not denied

    def to_json(self) -> dict[str, Any]:
        """What differs from a step that names its channel only."""
        plain = RouteStep(channel=self.channel)
        return {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)
            if f.name == "channel" or getattr(self, f.name) != getattr(plain, f.name)
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The step that :meth:`to_json` wrote."""
        values = dict(stored)
        for name in ("no_report_within", "after"):
            if values.get(name) is not None:
                values[name] = timedelta(seconds=values[name])
        for name in ("go_on", "only_classes", "not_classes", "only_countries", "not_countries"):
            if values.get(name) is not None:
                values[name] = frozenset(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The ordered channels of a policy."""

    steps: tuple[RouteStep, ...]

    def __post_init__(self) -> None:
        _check_types("the route", self)

    @classmethod
    def of(cls, *channels: str) -> Self:
        """A route that tries these channels in this order, going on when the one before did not work."""
        return cls(steps=tuple(RouteStep(channel=name) for name in channels))

    @property
    def channels(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(step.channel for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What rules one purpose. Raises :class:`~otpvoice.errors.ConfigurationError` where it contradicts itself.

    Spans are ``timedelta``; all defaults are those of ``reference/security-properties.md`` section 5.
    """

    route: Route = field(default_factory=lambda: Route.of("voice"))
    """Empty in a configured policy means: the service's default route."""
    ttl: timedelta = timedelta(minutes=5)
    """How long a challenge takes attempts, from its opening: 30 s to 10 min (NIST SP 800-63B 3.1.3.2)."""
    code_length: int = 6
    """4 to 10 digits; fewer than 6 needs :attr:`short_code_reason`."""
    short_code_reason: str = ""
    """Why fewer than 6 digits are enough here. It is kept with the policy for whoever audits it."""
    max_attempts: int = 5
    """Attempts a challenge takes, 1 to 10 (RTS Art. 4(3)(b) says 5)."""
    late_codes: LateCodes = "all"
    """``all``: any code of the open challenge is accepted; ``newest``: only the last one sent."""
    cooldowns: tuple[timedelta, ...] = tuple(timedelta(seconds=s) for s in (30, 60, 120, 300))
    """How long after the 1st, 2nd, … send the next is allowed; the last one repeats."""
    max_sends: int = 5
    """Sends a challenge, the first included: 1 to 10."""
    max_sends_per_day: int = 10
    """Sends a recipient in 24 hours, over all purposes."""
    max_live: int = 3
    """Challenges of a recipient that are open at once."""
    max_opens_per_client: int = 20
    """Challenges an hour that one client may open, where the caller says which client asks."""
    max_sends_per_prefix: int | None = None
    """Calls and SMS an hour to numbers that differ in their last four digits only, over all purposes and tenants."""
    max_sends_per_country: int | None = None
    """Calls and SMS an hour to one country, over all purposes and tenants: they share one account at the provider."""
    max_sends_per_tenant: int | None = None
    """Sends of a tenant in 24 hours, over all purposes: times the dearest price, the most that a day can cost."""
    lock_after: int = 10
    """Consecutive failures of a recipient and purpose that lock it (PCI DSS 8.3.4: at most 10)."""
    lock_for: timedelta = timedelta(minutes=30)
    """The first lock; each further one doubles it, up to :attr:`lock_cap`."""
    lock_cap: timedelta = timedelta(hours=24)
    longer_after: int = 50
    """Unforgiven failures in a rolling year after which codes get :attr:`longer_length` digits."""
    longer_length: int = 8
    stop_after: int = 1050
    """Unforgiven failures in a rolling year after which nothing is sent or accepted (profile ``nist``: 100)."""
    denied_classes: frozenset[str] = DENIED_CLASSES
    """libphonenumber classes that are never called, and ``satellite`` for +870, +878, +881 to +883 and +979."""
    countries: frozenset[str] | None = None
    """ISO 3166-1 alpha-2 codes that may be called; None: every country. An allow-list is the better choice."""
    hash_profile: str = "owasp"
    """A name of :data:`otpvoice.codes.HASH_PROFILES`."""
    profile: Profile = "default"
    """The standard whose bounds are enforced."""

    def __post_init__(self) -> None:
        _check_types("the policy", self)
        problems = [*self._contradictions(), *self._beyond_profile()]
        if problems:
            raise ConfigurationError("the policy contradicts itself: " + "; ".join(problems))

    def _contradictions(self) -> list[str]:
        minute = timedelta(minutes=1)
        foreign = _no_countries(self.countries or frozenset())
        checks = {
            "route needs at least one step": bool(self.route.steps),
            "route names a channel twice": len(set(self.route.channels)) == len(self.route.steps),
            f"ttl is 30 s to 10 min, not {self.ttl}": minute / 2 <= self.ttl <= 10 * minute,
            f"code_length is 4 to 10, not {self.code_length}": 4 <= self.code_length <= 10,
            "fewer than 6 digits need short_code_reason": self.code_length >= 6 or bool(self.short_code_reason.strip()),
            f"max_attempts is 1 to 10, not {self.max_attempts}": 1 <= self.max_attempts <= 10,
            f"late_codes is 'all' or 'newest', not {self.late_codes!r}": self.late_codes in get_args(LateCodes),
            f"max_sends is 1 to 10, not {self.max_sends}": 1 <= self.max_sends <= 10,
            f"max_sends_per_day is 1 to {MOST}, not {self.max_sends_per_day}": 1 <= self.max_sends_per_day <= MOST,
            f"max_live is 1 to {MOST}, not {self.max_live}": 1 <= self.max_live <= MOST,
            f"max_opens_per_client is 1 to {MOST}, not {self.max_opens_per_client}": 1
            <= self.max_opens_per_client
            <= MOST,
            **{
                f"{name} is 1 to {MOST}, not {most}": 1 <= most <= MOST
                for name in FRAUD_LIMITS
                if (most := getattr(self, name)) is not None
            },
            "cooldowns are missing, negative, longer than a day, or shrink": bool(self.cooldowns)
            and min(self.cooldowns) >= timedelta(0)
            and max(self.cooldowns) <= timedelta(days=1)
            and list(self.cooldowns) == sorted(self.cooldowns),
            f"lock_after is 1 to {MOST}, not {self.lock_after}": 1 <= self.lock_after <= MOST,
            "lock_for is longer than lock_cap": timedelta(0) < self.lock_for <= self.lock_cap,
            "lock_cap is longer than a year": self.lock_cap <= timedelta(days=365),
            "longer_length is shorter than code_length": self.code_length <= self.longer_length <= 10,
            "longer_after is beyond stop_after": 1 <= self.longer_after <= self.stop_after,
            f"stop_after is at most {MOST}, not {self.stop_after}": self.stop_after <= MOST,
            f"countries {foreign}": not foreign,
            f"profile is one of {', '.join(get_args(Profile))}, not {self.profile!r}": self.profile
            in get_args(Profile),
        }
        return [problem for problem, holds in checks.items() if not holds]

    def _beyond_profile(self) -> list[str]:
        problems = []
        if self.pays and "totp" in self.route.channels:
            problems.append("profile 'psd2' routes through 'totp', and an app shows neither amount nor payee")
        for name, bound in PROFILE_LIMITS.get(self.profile, {}).items():
            value = getattr(self, name)
            number = value.total_seconds() if isinstance(value, timedelta) else value
            at_least = name in {"code_length", "lock_for"}
            if (number < bound) if at_least else (number > bound):
                word = "at least" if at_least else "at most"
                problems.append(f"profile {self.profile!r} demands {name} {word} {bound:g}, not {number:g}")
        return problems

    @classmethod
    def nist(cls, **changes: Any) -> Self:
        """NIST SP 800-63B-4: 10 minutes at most, and 100 failures in a year stop the recipient."""
        return cls(**{"profile": "nist", **PROFILE_NUMBERS["nist"], **changes})

    @classmethod
    def pci(cls, **changes: Any) -> Self:
        """PCI DSS 4.0.1 8.3.4: 10 failures lock for 30 minutes or more."""
        return cls(**{"profile": "pci", **changes})

    @classmethod
    def psd2(cls, **changes: Any) -> Self:
        """RTS (EU) 2018/389 for payments: five failures lock, and every code names its amount and payee (Art. 4, 5)."""
        return cls(**{"profile": "psd2", **PROFILE_NUMBERS["psd2"], **changes})

    @property
    def pays(self) -> bool:
        """Whether a challenge needs an amount and a payee, said with the code (dynamic linking, RTS Art. 5)."""
        return self.profile == "psd2"

    def with_route(self, *channels: str) -> Self:
        """The same policy over another route."""
        return replace(self, route=Route.of(*channels))

    def cooldown_after(self, sends: int) -> timedelta:
        """How long after the ``sends``-th send (from 1) the next one is allowed."""
        return self.cooldowns[min(max(sends, 1), len(self.cooldowns)) - 1]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the store; :meth:`from_json` is the reverse."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Policy:
        """The policy that :meth:`to_json` wrote. Equal ones are read once: every attempt asks."""
        return _read(json.dumps(stored))


@lru_cache(maxsize=256)
def _read(stored: str) -> Policy:
    values = json.loads(stored)
    values["route"] = Route(steps=tuple(RouteStep.from_json(step) for step in values["route"]))
    for name in ("ttl", "lock_for", "lock_cap"):
        values[name] = timedelta(seconds=values[name])
    values["cooldowns"] = tuple(timedelta(seconds=s) for s in values["cooldowns"])
    values["denied_classes"] = frozenset(values["denied_classes"])
    values["countries"] = None if values["countries"] is None else frozenset(values["countries"])
    return Policy(**values)


_IS: Mapping[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int,
    "str": lambda value: isinstance(value, str),
    "timedelta": lambda value: isinstance(value, timedelta),
    "Route": lambda value: isinstance(value, Route),
    "LateCodes": lambda value: isinstance(value, str),
    "Profile": lambda value: isinstance(value, str),
    "frozenset[str]": lambda value: isinstance(value, frozenset) and all(isinstance(item, str) for item in value),
    "tuple[timedelta, ...]": lambda value: isinstance(value, tuple) and all(isinstance(i, timedelta) for i in value),
    "tuple[RouteStep, ...]": lambda value: isinstance(value, tuple) and all(isinstance(i, RouteStep) for i in value),
}


def _check_types(what: str, made: Policy | Route | RouteStep) -> None:
    """Refuse what a type checker would have: a span of ``300`` or a set would fail only when it is used, or never."""
    for name, kind, optional in _KINDS[type(made)]:
        value = getattr(made, name)
        if not (_IS[kind](value) or (optional and value is None)):
            other = " or None" if optional else ""
            raise ConfigurationError(f"{what} has {name} as {_type(value)}, not as {kind}{other}")


def _type(value: Any) -> str:
    inner = {type(item).__name__ for item in value} if isinstance(value, tuple | frozenset) else set()
    return f"{type(value).__name__}" + (f" of {', '.join(sorted(inner))}" if inner else "")


def _kinds(of: type[Policy | Route | RouteStep]) -> tuple[tuple[str, str, bool], ...]:
    return tuple(
        (f.name, str(f.type).removesuffix(" | None").replace("GoOn", "str"), str(f.type).endswith(" | None"))
        for f in fields(of)
    )


_KINDS = {of: _kinds(of) for of in (Policy, Route, RouteStep)}
"""Of each field: its name, its type and whether None will do. Made once, for a policy is read with every challenge."""


def _no_countries(codes: frozenset[str]) -> str:
    """What is wrong with a set of countries: one that is written otherwise would match nobody, in silence."""
    wrong = sorted(code for code in codes if not (len(code) == 2 and code.isascii() and code.isupper()))
    return f"are ISO 3166-1 alpha-2 codes in capitals, such as VN, not {', '.join(wrong)[:80]}" if wrong else ""


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Route):
        return [step.to_json() for step in value.steps]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def default_policies(route: Route) -> dict[str, Policy]:
    """The purposes that exist without configuration."""
    return {name: Policy(route=route) for name in ("login", "signup", "reset", "payment", "verify")}
