"""The command line, put together. Each command is a function of a module beside this one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from otpvoice.cli import challenges, demo, doctor, say, tenant_keys
from otpvoice.cli.db import db_app
from otpvoice.cli.keys import keys_app
from otpvoice.cli.serve import serve
from otpvoice.cli.session import Session
from otpvoice.cli.totp import totp_app
from otpvoice.cli.trouble import EXIT_CODES, Commands
from otpvoice.cli.twilio import twilio_app
from otpvoice.cli.webhooks import webhooks_app
from otpvoice.cli.worker import worker
from otpvoice.errors import ConfigurationError

HELP = """
One-time codes by voice call, SMS and e-mail: issued, delivered and verified.

Settings come from OTPVOICE_… in the environment and from otpvoice.toml; `otpvoice doctor` checks them. To see it work
without any: `otpvoice demo`.
"""

FIRST, INSTALLATION, SPEECH = "A code", "The installation", "Trying it"

_SIMULATOR = {"fastapi", "starlette", "uvicorn"}

app = typer.Typer(
    cls=Commands,
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # Its traces show local variables, and one of those may be a code.
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"otpvoice {version('otpvoice')}")
        raise typer.Exit


@app.callback()
def otpvoice(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The configuration; otpvoice.toml in this directory if there is one."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep the global options for the command."""
    ctx.obj = Session(config_file=config, debug=debug)


Command = Callable[..., None]
STORY: tuple[Command, ...] = (
    challenges.issue,
    challenges.verify,
    challenges.resend,
    challenges.cancel,
    challenges.show,
)
OPERATION: tuple[Command, ...] = (doctor.doctor, serve, worker)
TRYING: tuple[Command, ...] = (demo.demo, say.say)
TENANT_KEYS: dict[str, Command] = {
    "create": tenant_keys.create,
    "list": tenant_keys.list_keys,
    "rotate": tenant_keys.rotate,
    "revoke": tenant_keys.revoke,
}

for panel, commands in ((FIRST, STORY), (INSTALLATION, OPERATION), (SPEECH, TRYING)):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, command in TENANT_KEYS.items():
    keys_app.command(name)(command)
app.add_typer(totp_app, name="totp", rich_help_panel=FIRST)
app.add_typer(db_app, name="db", rich_help_panel=INSTALLATION)
app.add_typer(keys_app, name="keys", rich_help_panel=INSTALLATION)
app.add_typer(webhooks_app, name="webhooks", rich_help_panel=INSTALLATION)
app.add_typer(twilio_app, name="twilio", rich_help_panel=INSTALLATION)

try:
    from otpvoice.cli.simulate import simulate_app
except ModuleNotFoundError as missing:  # The simulator is an extra of its own.
    if (missing.name or "").split(".")[0] not in _SIMULATOR:
        raise

    @app.command(rich_help_panel=SPEECH, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def simulate() -> None:
        """Simulate a provider on this machine, with the simulator extra."""
        raise ConfigurationError("the simulator is an extra: pip install 'otpvoice[simulator]'")
else:
    app.add_typer(simulate_app, name="simulate", rich_help_panel=SPEECH)
