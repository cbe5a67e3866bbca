"""``otpvoice twilio``: what a client of Twilio Verify is told to come here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from otpvoice.cli.session import Json, session
from otpvoice.errors import InvalidRequest
from otpvoice.http.twilio import sids

twilio_app = typer.Typer(help="For clients of Twilio Verify.", no_args_is_help=True)


@twilio_app.callback()
def twilio() -> None:
    """For clients of Twilio Verify."""


@twilio_app.command("account")
def account(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Option(help="Whose account.")] = "default",
    as_json: Json = False,
) -> None:
    """Print a tenant's account SID; the auth token beside it is an API key of `otpvoice keys create`."""
    tables = session(ctx).settings().tenants or {"default": {}}
    if tenant not in tables:
        raise InvalidRequest(f"no tenant is named {tenant!r}; known are: {', '.join(sorted(tables))}")
    sid = sids.account(tenant)
    typer.echo(json.dumps({"tenant": tenant, "account_sid": sid}) if as_json else sid)
