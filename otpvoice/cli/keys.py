"""``otpvoice keys``: root secrets."""

from __future__ import annotations

import sys

import typer

from otpvoice.keys import generate_secret

keys_app = typer.Typer(help="Root secrets, and the HTTP service's API keys.", no_args_is_help=True)


@keys_app.callback()
def keys() -> None:
    """Root secrets, and the HTTP service's API keys."""


@keys_app.command("generate")
def generate() -> None:
    """Print a fresh root secret for OTPVOICE_SECRET: 32 random bytes.

    To rotate, put it in front of the old one with a comma between: the first writes, all read.
    """
    typer.echo(generate_secret())
    if sys.stdout.isatty():
        typer.echo("Set OTPVOICE_SECRET to it, or keep it in a file named by OTPVOICE_SECRET_FILE.", err=True)
