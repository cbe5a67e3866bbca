"""``otpvoice webhooks``: customers' URLs, what is on its way to them, and sending again what was given up."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Annotated, Any

import typer

from otpvoice.channels.console import printable
from otpvoice.cli.session import Json, Session, session
from otpvoice.cli.view import plain
from otpvoice.errors import InvalidRequest
from otpvoice.flow import Flow
from otpvoice.service import AsyncOTPService
from otpvoice.webhooks import config, endpoints
from otpvoice.webhooks.dispatch import Dispatcher
from otpvoice.webhooks.endpoints import Endpoint, NewSecret

DEFAULT_TENANT = "default"

Id = Annotated[str, typer.Argument(metavar="ID", help="The endpoint's id: we_…", show_default=False)]
Tenant = Annotated[str | None, typer.Option(help="One tenant's only.")]

webhooks_app = typer.Typer(help="Events out: customers' URLs and what is on its way to them.", no_args_is_help=True)


@webhooks_app.callback()
def webhooks() -> None:
    """Events out: customers' URLs and what is on its way to them."""


@webhooks_app.command("add")
def add(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="https://…, on the public internet.", show_default=False)],
    tenant: Annotated[str, typer.Option(help="Whose events.")] = DEFAULT_TENANT,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="A kind of event, or its beginning: challenge.*; may be given several times. All without it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a tenant's events to a URL from now on. Prints the signing secret, this once."""
    now = session(ctx)
    with now.service() as service:
        context = service.for_tenant(_stored(now, tenant))._context
        made = service._runner.run(endpoints.add(context, url, kinds=kind or None))
    _show_secret(made, as_json=as_json)


@webhooks_app.command("list")
def list_(ctx: typer.Context, tenant: Tenant = None, as_json: Json = False) -> None:
    """List the endpoints."""
    now = session(ctx)
    found = _run(now, endpoints.every(tenant=None if tenant is None else _stored(now, tenant)))
    if as_json:
        typer.echo(json.dumps(plain(found)))
        return
    for row in found:
        _line(row.id, row.tenant, row.url, ",".join(row.kinds or ["all"]), _state(row))


@webhooks_app.command("rotate")
def rotate(ctx: typer.Context, endpoint_id: Id, as_json: Json = False) -> None:
    """Give an endpoint a new signing secret, printed this once; the old one signs too for 24 hours."""
    with session(ctx).service() as service:
        made = service._runner.run(endpoints.rotate(service._context, endpoint_id))
    _show_secret(made, as_json=as_json)


@webhooks_app.command("disable")
def disable(ctx: typer.Context, endpoint_id: Id) -> None:
    """Send to an endpoint no more, until it is enabled again; what happens meanwhile follows then."""
    typer.echo(_state(_run(session(ctx), endpoints.switch(endpoint_id, on=False))))


@webhooks_app.command("enable")
def enable(ctx: typer.Context, endpoint_id: Id) -> None:
    """Send to an endpoint again, and what it missed."""
    typer.echo(_state(_run(session(ctx), endpoints.switch(endpoint_id, on=True))))


@webhooks_app.command("remove")
def remove(ctx: typer.Context, endpoint_id: Id) -> None:
    """Forget an endpoint and everything on its way to it."""
    _run(session(ctx), endpoints.remove(endpoint_id))
    typer.echo("removed")


@webhooks_app.command("messages")
def messages(
    ctx: typer.Context,
    state: Annotated[str, typer.Option(help="dead (given up), pending, delivered, or all.")] = "dead",
    endpoint: Annotated[str | None, typer.Option(help="One endpoint's only.")] = None,
    tenant: Tenant = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List messages, newest first: those that were given up, where nothing else is asked."""
    if state not in {"dead", "pending", "delivered", "all"}:
        raise InvalidRequest("--state is dead, pending, delivered or all")
    now = session(ctx)
    chosen = None if state == "all" else state
    whose = None if tenant is None else _stored(now, tenant)
    found = _run(now, endpoints.messages(state=chosen, tenant=whose, endpoint_id=endpoint, most=most))
    if as_json:
        typer.echo(json.dumps(plain(found)))
        return
    for row in found:
        said = " ".join(str(item) for item in (row.status, row.reason) if item is not None)
        tries = "1 try" if row.tries == 1 else f"{row.tries} tries"
        at = (row.tried_at or row.created_at).isoformat(timespec="seconds")
        _line(row.id, row.endpoint_id, row.kind, row.state, tries, said or "no answer yet", at)


@webhooks_app.command("redeliver")
def redeliver(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MESSAGE]...", help="Messages: msg_…")] = None,
    endpoint: Annotated[str | None, typer.Option(help="All of this endpoint that were given up.")] = None,
    tenant: Annotated[str | None, typer.Option(help="All of this tenant that were given up.")] = None,
    dead: Annotated[bool, typer.Option("--all", help="All that were given up.")] = False,
) -> None:
    """Send messages again, under the same ids: named ones, or those that were given up."""
    if not (ids or endpoint or tenant or dead):
        raise InvalidRequest("name messages, an --endpoint, a --tenant, or --all")
    now = session(ctx)
    whose = None if tenant is None else _stored(now, tenant)
    count = _run(now, endpoints.redeliver(ids=ids or None, tenant=whose, endpoint_id=endpoint))
    typer.echo(f"{count} {'message is' if count == 1 else 'messages are'} on the way again")


@webhooks_app.command("send")
def send(
    ctx: typer.Context,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when nothing is due.")] = False,
) -> None:
    """Send what is due, until told to stop: where no `serve` and no `worker` does. Run as many as you like."""
    asyncio.run(_send(session(ctx), until_idle))


async def _send(now: Session, until_idle: bool) -> None:
    tables = {name: table.get("webhooks", {}) for name, table in now.settings().tenants.items()}
    guards = config.guards(tables)
    service = AsyncOTPService.from_env(now.config_file, worker=False)
    dispatcher = Dispatcher(service._context, guards=guards)
    try:
        if until_idle:
            while await dispatcher.once_at_once(service._runner.run):
                pass
            return
        running = asyncio.ensure_future(dispatcher.run(service._runner.run))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        await asyncio.wait([running])
    finally:
        dispatcher.close()
        await service.close()


def _run(now: Session, flow: Flow[Any]) -> Any:
    with now.service() as service:
        return service._runner.run(flow)


def _stored(now: Session, tenant: str) -> str:
    """The tenant's name in the store. Raises :class:`~otpvoice.errors.InvalidRequest` for one that is not served."""
    tables = now.settings().tenants or {DEFAULT_TENANT: {}}
    if tenant not in tables:
        raise InvalidRequest(f"no tenant is named {tenant!r}; known are: {', '.join(sorted(tables))}")
    return f"test:{tenant}" if tables[tenant].get("test") else tenant


def _state(row: Endpoint) -> str:
    if row.disabled_at is not None:
        return f"disabled ({row.disabled_why})"
    return f"enabled, {row.failures} failures in a row" if row.failures else "enabled"


def _show_secret(made: NewSecret, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**plain(made.endpoint), "secret": str(made.secret)}))
        return
    typer.echo(f"{made.endpoint.id}  {made.endpoint.url}")
    typer.echo(f"secret: {made.secret!s}")
    typer.echo("The receiver checks signatures with it. It is shown this once.", err=True)


def _line(*parts: str) -> None:
    """One row. Whole ids, whatever the terminal's width: they are there to be copied."""
    typer.echo("  ".join(printable(part) for part in parts))
