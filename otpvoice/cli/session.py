"""What one run of the command line knows: the global options, and the service they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from otpvoice import settings
from otpvoice.service import OTPService
from otpvoice.settings import Settings


@dataclass(slots=True, kw_only=True)
class Session:
    """The global options."""

    config_file: Path | None = None
    debug: bool = False
    json: bool = False
    """Whether the command that runs was given ``--json``: errors then speak it too."""

    def settings(self) -> Settings:
        """The settings. Raises :class:`~otpvoice.errors.ConfigurationError`."""
        return settings.read(self.config_file)

    def service(self) -> OTPService:
        """A service; close it. Raises :class:`~otpvoice.errors.ConfigurationError`."""
        # Without a worker, whatever the settings say: a command sends by itself and ends.
        return OTPService.from_env(self.config_file, worker=False)


def session(ctx: typer.Context) -> Session:
    """The session of a run, from any of its contexts."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):  # A command of ours inside somebody else's Typer application.
        root.obj = Session()
    return root.obj


def _speak_json(ctx: typer.Context, value: bool) -> bool:
    session(ctx).json = session(ctx).json or value
    return value


Json = Annotated[bool, typer.Option("--json", callback=_speak_json, help="Print JSON, errors included.")]
