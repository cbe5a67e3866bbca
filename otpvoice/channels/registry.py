"""Finds a channel's class by the name of its type, and builds channels from settings.

Third parties list theirs in the entry-point group ``otpvoice.channels``::

    [project.entry-points."otpvoice.channels"]
    acme-sms = "acme_otpvoice:AcmeSMS"
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from otpvoice.channels.base import Channel
from otpvoice.errors import ConfigurationError

GROUP = "otpvoice.channels"

BUNDLED: Mapping[str, str] = {
    "itnio-voice": "otpvoice.channels.itnio:ItnioVoice",
    "itnio-sms": "otpvoice.channels.itnio_sms:ItnioSMS",
    "console": "otpvoice.channels.console:Console",
    "memory": "otpvoice.channels.memory:Memory",
    "smtp": "otpvoice.channels.smtp:Smtp",
    "twilio-voice": "otpvoice.channels.twilio:TwilioVoice",
    "twilio-sms": "otpvoice.channels.twilio_sms:TwilioSMS",
    "vonage-voice": "otpvoice.channels.vonage:VonageVoice",
    "vonage-sms": "otpvoice.channels.vonage_sms:VonageSMS",
    "webhook": "otpvoice.channels.webhook:Webhook",
}
"""Our own types, known without metadata: a source tree, a frozen application or a stale install has none of them."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def known_types() -> tuple[str, ...]:
    """The names of all channel types that are installed, sorted. Nothing is imported."""
    return tuple(sorted({*BUNDLED, *(point.name for point in _foreign())}))


def channel_class(type: str) -> type[Channel]:
    """The class of a channel type.

    Raises :class:`~otpvoice.errors.ConfigurationError` for a type that is unknown (with the known ones), claimed by
    two packages, cannot be imported, or is not a channel.
    """
    claims = {point.value: point for point in _foreign() if point.name == type}
    owners = sorted({_owner(point) for point in claims.values()} | ({"otpvoice"} if type in BUNDLED else set()))
    if len(owners) > 1 or len(claims) > 1:
        raise ConfigurationError(
            f"channel type {type!r} is claimed by {' and by '.join(owners)}: uninstall all but one"
        )
    if type in BUNDLED:
        return _load(EntryPoint(name=type, value=BUNDLED[type], group=GROUP), "otpvoice")
    if not claims:
        raise ConfigurationError(f"there is no channel type {str(type)[:60]!r}; known: {', '.join(known_types())}")
    ((_, point),) = claims.items()
    return _load(point, _owner(point))


def create(name: str, type: str, settings: Mapping[str, object]) -> Channel:
    """Build the channel ``name`` of a type from its table of settings (without the keys ``name`` and ``type``).

    Raises :class:`~otpvoice.errors.ConfigurationError`, as :func:`channel_class` and the class itself do.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigurationError("a channel's name is lower-case letters, digits, - and _, at most 63")
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"[channels.{name}] must be a table")
    kind = channel_class(type)
    try:
        return kind.from_settings(name, settings)
    except ConfigurationError:
        raise
    except Exception as error:
        # The message of a stranger's exception may repeat a value, and a value may be a secret.
        raise ConfigurationError(
            f"[channels.{name}] channel type {type!r} did not understand its settings: {_raised(error)}"
        ) from error


def _foreign() -> list[EntryPoint]:
    return [point for point in entry_points(group=GROUP) if _owner(point) != "otpvoice"]


def _owner(point: EntryPoint) -> str:
    return "an unnamed package" if point.dist is None else str(point.dist.name)


def _load(point: EntryPoint, owner: str) -> type[Channel]:
    try:
        found = point.load()
    except Exception as error:
        raise ConfigurationError(
            f"channel type {point.name!r} of {owner} cannot be loaded from {point.value}: {_raised(error)}: {error}"
        ) from error
    if not inspect.isclass(found) or not issubclass(found, Channel):
        raise ConfigurationError(f"channel type {point.name!r} of {owner}: {point.value} is not a Channel class")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigurationError(f"channel type {point.name!r} of {owner}: {point.value} lacks {missing}")
    return found


def _raised(error: Exception) -> str:
    return type(error).__name__
