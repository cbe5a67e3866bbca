"""Assembly: settings to keys, policies, channels, a store and a hashing pool."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from otpvoice.channels import registry
from otpvoice.channels.base import Channel
from otpvoice.clock import Clock
from otpvoice.codes import hash_profile
from otpvoice.context import TOTP, Context
from otpvoice.errors import ConfigurationError, InvalidRequest
from otpvoice.keys import Keyring, generate_secret
from otpvoice.policy import PROFILE_NUMBERS, Policy, Route, RouteStep, default_policies
from otpvoice.runner import HashingPool
from otpvoice.settings import DEFAULT_DATABASE, Settings
from otpvoice.speech.compose import check_defaults
from otpvoice.speech.overrides import load_wordings
from otpvoice.speech.wordings import Wordings
from otpvoice.store.engine import Store

log = logging.getLogger("otpvoice.config")

VOICE = "voice"
"""The channel that ITNIO's settings make, and the default route."""
SMS = "sms"
"""The channel that ITNIO's SMS application makes."""

_SPAN = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)?")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,62}")
_ITNIO_CREDENTIALS = ("api_key", "api_secret", "app_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a service stands on."""

    context: Context
    store: Store
    hashing: HashingPool
    worker: bool = False
    """Whether the service has a worker inside."""


def assemble(
    *,
    secret: str | Sequence[str],
    channels: Iterable[Channel],
    database_url: str = DEFAULT_DATABASE,
    policies: Mapping[str, Policy] | None = None,
    brand: str = "",
    default_locale: str = "en",
    wordings: Wordings | None = None,
    tenant: str = "default",
    sms_host: str | None = None,
    sms_app_hash: str | None = None,
    clock: Clock | None = None,
    hash_permits: int | None = None,
    hash_queue: int = 64,
    pool_size: int = 5,
    worker: bool = False,
) -> Assembly:
    """The parts of a service. Raises :class:`~otpvoice.errors.ConfigurationError` where they do not fit."""
    named: dict[str, Channel] = {}
    for channel in channels:
        if channel.name == TOTP:
            raise ConfigurationError(f"a channel cannot be named {TOTP!r}: that is the authenticator app's step")
        if named.setdefault(channel.name, channel) is not channel:
            raise ConfigurationError(f"two channels are named {channel.name!r}")
    if policies is None:
        policies = default_policies(Route.of(*named)) if named else {}
    if not policies:
        raise ConfigurationError("no channel is configured, and so no purpose has a route")
    for policy in policies.values():
        hash_profile(policy.hash_profile)
    try:  # Here, not with the first code: by then its send is charged.
        check_defaults(brand=brand, default_locale=default_locale, host=sms_host, app_hash=sms_app_hash)
    except InvalidRequest as error:
        raise ConfigurationError(f"brand, default_locale, sms_host or sms_app_hash: {error}") from None
    return Assembly(
        context=Context(
            keyring=Keyring([secret] if isinstance(secret, str) else list(secret)),
            policies=dict(policies),
            channels=named,
            tenant=tenant,
            brand=brand,
            default_locale=default_locale,
            wordings=wordings,
            sms_host=sms_host,
            sms_app_hash=sms_app_hash,
            deferred=worker,
        ),
        store=Store(database_url, clock=clock, pool_size=pool_size),
        hashing=HashingPool(permits=hash_permits, queue=hash_queue),
        worker=worker,
    )


def from_settings(settings: Settings, *, clock: Clock | None = None, worker: bool | None = None) -> Assembly:
    """The parts of a service from its settings. Raises :class:`~otpvoice.errors.ConfigurationError`."""
    channels = build_channels(settings)
    return assemble(
        secret=settings.root_secrets() or _development_secret(settings),
        channels=channels.values(),
        database_url=settings.database_url,
        policies=build_policies(settings, Route.of(*(settings.route or _default_route(channels)))),
        brand=settings.brand,
        default_locale=settings.default_locale,
        wordings=None if settings.wordings is None else load_wordings(settings.wordings),
        sms_host=settings.sms_host,
        sms_app_hash=settings.sms_app_hash,
        clock=clock,
        hash_permits=settings.hash_permits,
        hash_queue=settings.hash_queue,
        pool_size=settings.pool_size,
        worker=settings.worker if worker is None else worker,
    )


def build_channels(settings: Settings) -> dict[str, Channel]:
    """The configured channels by name; ITNIO's settings make ``voice`` and ``sms``.

    In development, ``voice`` prints to the terminal where nothing else is configured.
    """
    channels = {}
    for name, table in settings.channels.items():
        kind = table.get("type")
        if not isinstance(kind, str):
            raise ConfigurationError(f"[channels.{name}] needs a type, one of: {', '.join(registry.known_types())}")
        own = {key: value for key, value in table.items() if key != "type"}
        shared = settings.itnio(kind) if kind.startswith("itnio-") else {}
        channels[name] = registry.create(name, kind, {**shared, **own})
    channels |= _itnio_channels(settings, channels)
    if not channels and settings.development:
        channels[VOICE] = registry.create(VOICE, "console", {})
    if not channels:
        raise ConfigurationError(
            "no channel is configured: set OTPVOICE_ITNIO_API_KEY, OTPVOICE_ITNIO_API_SECRET and "
            "OTPVOICE_ITNIO_APP_ID, or [channels.NAME] in otpvoice.toml; to try without, OTPVOICE_DEVELOPMENT=1"
        )
    return channels


def _itnio_channels(settings: Settings, configured: Mapping[str, Channel]) -> dict[str, Channel]:
    """The channels that ITNIO's settings make by themselves: one for each application id.

    Credentials without any are configured in part, unless a table of the file uses them.
    """
    wanted = [pair for pair in ((VOICE, "itnio-voice"), (SMS, "itnio-sms")) if "app_id" in settings.itnio(pair[1])]
    used = any(str(table.get("type")).startswith("itnio-") for table in settings.channels.values())
    if not wanted and not used and set(_ITNIO_CREDENTIALS) & set(settings.itnio()):
        wanted = [(VOICE, "itnio-voice")]
    made = {}
    for name, kind in wanted:
        if name in configured:
            continue
        itnio = settings.itnio(kind)
        missing = [f"OTPVOICE_ITNIO_{key.upper()}" for key in _ITNIO_CREDENTIALS if key not in itnio]
        if missing:
            raise ConfigurationError(f"ITNIO is configured in part: set {' and '.join(missing)} too")
        made[name] = registry.create(name, kind, itnio)
    return made


def build_policies(settings: Settings, route: Route) -> dict[str, Policy]:
    """The purposes: the built-in ones and those of the file, each with the file's numbers."""
    base: dict[str, Any] = {"route": route}
    if settings.countries is not None:
        base["countries"] = frozenset(code.upper() for code in settings.countries)
    if settings.hash_profile is not None:
        base["hash_profile"] = settings.hash_profile
    base |= policy_values("policy", settings.policy)
    policies = {}
    for purpose in [*default_policies(route), *settings.purposes]:
        if _PURPOSE.fullmatch(purpose) is None:
            raise ConfigurationError(f"[purposes.{purpose[:40]}] is no name: use lower-case letters, digits, - _ . :")
        own = policy_values(f"purposes.{purpose}", settings.purposes.get(purpose, {}))
        try:
            policies[purpose] = Policy(**(base | own))
        except ConfigurationError as error:
            raise ConfigurationError(f"[purposes.{purpose}] {error}") from None
    return policies


def policy_values(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's numbers as the file writes them: spans as seconds or ``"5m"``, routes as lists of channels."""
    types = {field.name: str(field.type) for field in fields(Policy)}
    read: dict[str, Any] = {}
    for key, value in values.items():
        kind = types.get(key)
        if kind is None:
            raise ConfigurationError(f"[{table}] {key!r} is not a setting; known: {', '.join(sorted(types))}")
        try:
            read[key] = _policy_value(kind, value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"[{table}] {key} {error}") from None
        except OverflowError:
            raise ConfigurationError(f"[{table}] {key} is too large") from None
    return {**PROFILE_NUMBERS.get(read.get("profile", ""), {}), **read}


def _policy_value(kind: str, value: Any) -> Any:
    if kind == "timedelta":
        return _span(value)
    if kind.startswith("tuple"):
        return tuple(_span(item) for item in _list(value))
    if kind == "Route":
        return Route(steps=tuple(_step(item) for item in _list(value)))
    if kind.startswith("frozenset"):
        upper = "None" in kind
        return frozenset(str(item).upper() if upper else str(item) for item in _list(value))
    if kind == "int | None" and value is None:
        return None
    if kind.startswith("int"):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError("must be a whole number")
        return value
    if not isinstance(value, str):
        raise TypeError("must be text")
    return value


def _step(value: Any) -> RouteStep:
    """A step as the file writes it: a channel's name, or a table with its conditions and triggers."""
    if isinstance(value, str):
        return RouteStep(channel=value)
    if not isinstance(value, dict) or "channel" not in value:
        raise TypeError("has steps that are names of channels, or tables with a channel")
    types = {field.name: str(field.type) for field in fields(RouteStep)}
    unknown = sorted(set(value) - set(types))
    if unknown:
        raise ValueError(f"has a step with {', '.join(unknown)}; known: {', '.join(types)}")
    read: dict[str, Any] = {}
    for key, item in value.items():
        if "timedelta" in types[key]:
            read[key] = _span(item)
        elif "frozenset" in types[key]:
            words = [str(word) for word in _list(item)]
            read[key] = frozenset(word.upper() if key.endswith("countries") else word for word in words)
        else:
            read[key] = str(item)
    return RouteStep(**read)


def _span(value: Any) -> timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be seconds, or text such as '30s', '5m' or '24h'")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("must be a list")
    return value


def _default_route(channels: Mapping[str, Channel]) -> Sequence[str]:
    return [VOICE] if VOICE in channels else list(channels)


def _development_secret(settings: Settings) -> list[str]:
    """Without a secret: none in production (the keyring then says what to do), one kept beside the database else."""
    if not settings.development:
        return []
    path = _development_key_file(settings.database_url)
    if path is None:
        return [generate_secret()]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return [path.read_text(encoding="utf-8").strip()]
    except OSError as error:
        raise ConfigurationError(f"the development secret cannot be kept in {path}: {type(error).__name__}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        secret = generate_secret()
        file.write(secret + "\n")
    log.warning("development: made a secret and keeps it in %s; production needs OTPVOICE_SECRET", path)
    return [secret]


def _development_key_file(database_url: str) -> Path | None:
    url = Store(database_url).url
    if url.get_backend_name() != "sqlite":
        return Path("otpvoice-development.key")
    return None if url.database in {None, "", ":memory:"} else Path(f"{url.database}.key")
