"""What the tests of the command line share: running it, and a simulated provider in the environment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from otpvoice.cli.app import app
from otpvoice.simulator.server import SimulatedItnio


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str
    error: BaseException | None

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: str) -> Ran:
    """Run ``otpvoice ARGUMENTS`` in this process. An error that no command expected is raised."""
    result = CliRunner().invoke(app, list(arguments), prog_name="otpvoice")
    if result.exception is not None and not isinstance(result.exception, SystemExit) and "--debug" not in arguments:
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr, result.exception)


def configure(monkeypatch: pytest.MonkeyPatch, itnio: SimulatedItnio, database_url: str, secret: str) -> None:
    """Put a whole, working configuration in the environment."""
    settings = {
        "DATABASE_URL": database_url,
        "SECRET": secret,
        "HASH_PROFILE": "fast",
        "COUNTRIES": "VN",
        "ITNIO_BASE_URL": itnio.url,
        "ITNIO_API_KEY": itnio.account.api_key,
        "ITNIO_API_SECRET": itnio.account.api_secret,
        "ITNIO_APP_ID": "demo-app",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"OTPVOICE_{name}", value)
