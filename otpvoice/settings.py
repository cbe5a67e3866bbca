"""Settings: ``otpvoice.toml`` and the environment, read strictly.

Every key of the file is also an environment variable: ``brand`` is ``OTPVOICE_BRAND``. The environment wins over
the file. A secret that lives in a file of its own (a container's secret) is named by ``OTPVOICE_SECRET_FILE`` or
``OTPVOICE_ITNIO_API_SECRET_FILE``.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from otpvoice.errors import ConfigurationError

log = logging.getLogger("otpvoice.settings")

CONFIG_FILE = "otpvoice.toml"
DEFAULT_DATABASE = "sqlite:///otpvoice.db"
PREFIX = "OTPVOICE_"


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Words = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list, or text with commas between."""
Secrets = Annotated[list[SecretStr], NoDecode, BeforeValidator(_split)]
Table = dict[str, Any]

_ITNIO_VOICE_ONLY = frozenset(
    {
        "display_num",
        "loop_count",
        "recall_count",
        "recall_interval",
        "max_duration",
        "max_ringing_time",
        "language_profile",
    }
)


class Settings(BaseSettings):
    """What an installation is told. Raises :class:`~otpvoice.errors.ConfigurationError` through :func:`read`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, validate_default=False)

    database_url: str = DEFAULT_DATABASE
    """``sqlite:///otpvoice.db`` (creates itself) or ``postgresql://user:password@host/name``."""
    database_url_file: Path | None = None
    """A file that holds it, with its password."""
    secret: Secrets = []
    """Root secrets; the first writes, all read. Make one with ``otpvoice keys generate``."""
    secret_file: Path | None = None
    development: bool = False
    """Makes a secret of its own and prints codes where no provider is configured. Never for production."""
    brand: str = ""
    """Who the spoken text says it comes from."""
    default_locale: str = "en"
    wordings: Path | None = None
    """A directory with wordings of your own."""
    countries: Words | None = None
    """ISO 3166-1 alpha-2 codes that may be called; every country where it is not set."""
    route: Words = []
    """The default route: names of channels, in order."""
    hash_profile: str | None = None
    hash_permits: int | None = Field(default=None, ge=1, le=1024)
    """Hashes at once; as many as CPUs where it is not set."""
    hash_queue: int = Field(default=64, ge=0, le=100_000)
    pool_size: int = Field(default=5, ge=1, le=200)
    """Connections to PostgreSQL that one process holds."""
    worker: bool = False
    """Whether a service has a worker inside: issuing then only queues, and survives a provider that is down."""
    sms_host: str | None = None
    """The site of the WebOTP last line of an SMS."""
    sms_app_hash: str | None = None
    """The Android SMS Retriever hash of your app."""

    itnio_base_url: str | None = None
    itnio_path_prefix: str | None = None
    itnio_sms_path: str | None = None
    itnio_api_key: str | None = None
    itnio_api_secret: SecretStr | None = None
    itnio_api_secret_file: Path | None = None
    itnio_app_id: str | None = None
    """The voice application's id; makes the channel ``voice``."""
    itnio_sms_app_id: str | None = None
    """The SMS application's id; makes the channel ``sms``."""
    itnio_sender_id: str | None = None
    itnio_report_ips: Words | None = None
    """Addresses and networks that may push reports; everybody where it is not set."""
    itnio_confirm_reports: bool | None = None
    itnio_display_num: str | None = None
    itnio_loop_count: int | None = None
    itnio_recall_count: int | None = None
    itnio_recall_interval: int | None = None
    itnio_max_duration: int | None = None
    itnio_max_ringing_time: int | None = None
    itnio_language_profile: str | None = None

    policy: Table = {}
    """Numbers for every purpose; ``[purposes.NAME]`` has the last word."""
    purposes: dict[str, Table] = {}
    channels: dict[str, Table] = {}

    tenants: dict[str, Table] = {}
    """The HTTP service's tenants and their purposes; see :mod:`otpvoice.http.tenants`."""
    http: Table = {}
    """The HTTP service's own settings; see :mod:`otpvoice.http.settings`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, whose content comes in as the initial values."""
        return env_settings, init_settings

    def itnio(self, kind: str = "itnio-voice") -> dict[str, Any]:
        """The ``itnio_…`` keys that are set and that such a channel takes, without their prefix.

        Voice and SMS have application ids of their own: neither is given the other's.
        """
        found = {
            name.removeprefix("itnio_"): getattr(self, name)
            for name in type(self).model_fields
            if name.startswith("itnio_") and not name.endswith("_file")
        }
        if self.itnio_api_secret_file is not None:
            found["api_secret"] = _content("itnio_api_secret_file", self.itnio_api_secret_file)
        elif self.itnio_api_secret is not None:
            found["api_secret"] = self.itnio_api_secret.get_secret_value()
        sms_app_id = found.pop("sms_app_id")
        if kind == "itnio-sms":
            found = {key: value for key, value in found.items() if key not in _ITNIO_VOICE_ONLY}
            found["app_id"] = sms_app_id
        else:
            del found["sender_id"]
        return {key: value for key, value in found.items() if value is not None}

    def root_secrets(self) -> list[str]:
        """The root secrets, from the setting or its file; empty where none is set."""
        if self.secret_file is not None:
            return _split(_content("secret_file", self.secret_file).replace("\n", ","))  # type: ignore[no-any-return]
        return [secret.get_secret_value() for secret in self.secret]


def read(config_file: Path | str | None = None) -> Settings:
    """The settings of this process.

    ``config_file`` must exist where it is given; else ``OTPVOICE_CONFIG`` or an ``otpvoice.toml`` in the working
    directory is read if there is one. Raises :class:`~otpvoice.errors.ConfigurationError` naming every wrong key.
    """
    named = config_file or os.environ.get(f"{PREFIX}CONFIG")
    path = Path(named or CONFIG_FILE)
    values: Mapping[str, Any] = {}
    if named is not None or path.is_file():
        try:
            values = tomllib.loads(_content("configuration file", path))
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    _check_environment()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        wrong = [f"{_key(item['loc'])}: {item['msg']}" for item in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError(f"the configuration is wrong: {'; '.join(wrong)}") from None
    except SettingsError as error:
        raise ConfigurationError(f"the configuration is wrong: {error}") from None
    if settings.database_url_file is None:
        return settings
    return settings.model_copy(update={"database_url": _content("database_url_file", settings.database_url_file)})


def _check_environment() -> None:
    """Refuse variables that are no text; say which look like settings and are none, else ignored in silence."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name, value in os.environ.items():
        if name in known and any("\ud800" <= character <= "\udfff" for character in value):
            raise ConfigurationError(f"the configuration is wrong: {name} is not text in UTF-8")
        if name.startswith(PREFIX) and name not in known and name != f"{PREFIX}CONFIG":
            close = difflib.get_close_matches(name, known, n=1)
            log.warning("%s is no setting%s", name, f"; did you mean {close[0]}?" if close else "")


def _key(location: tuple[int | str, ...]) -> str:
    name = ".".join(str(part) for part in location)
    return f"{name} ({PREFIX}{name.split('.')[0].upper()})"


def _content(key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{key}: {path} cannot be read: {type(error).__name__}") from None
