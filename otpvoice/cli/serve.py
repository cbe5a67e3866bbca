"""``otpvoice serve``: the HTTP service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from otpvoice.cli.session import session
from otpvoice.errors import ConfigurationError
from otpvoice.settings import PREFIX

_EXTRA = {"fastapi", "starlette", "uvicorn", "jwt", "structlog", "prometheus_client", "opentelemetry", "h11"}


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; [http] host without it.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; [http] port without it.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes; [http] workers without it.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings and the database, and end.")] = False,
    report_paths: Annotated[
        bool, typer.Option("--report-paths", help="Print the paths to give to providers, and end. They are secret.")
    ] = False,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C; the worker inside sends."""
    try:
        from otpvoice.http import reports, server
        from otpvoice.http.app import create_app
        from otpvoice.http.settings import HttpSettings
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in _EXTRA:
            raise
        raise ConfigurationError("the HTTP service is an extra: pip install 'otpvoice[http]'") from None
    now = session(ctx)
    settings = now.settings()
    given = {"host": host, "port": port, "workers": workers}
    http = HttpSettings.from_table(settings.http | {key: value for key, value in given.items() if value is not None})
    server.check(http)
    # All that each process will read is read here, once: what is wrong keeps them from starting, and is told once.
    deps = create_app(settings).state.deps
    if report_paths:
        secret = reports.path_secrets(deps.context.keyring)[0]
        for name, channel in sorted(deps.context.channels.items()):
            if channel.capabilities.reports:
                typer.echo(f"/v1/reports/{secret}/{name}")
        return
    store = deps.service._assembly.store
    store.transact(lambda _connection, moment: moment, single=True)
    store.close()
    if check:
        typer.echo("the settings and the database are right")
        return
    if now.config_file is not None:
        os.environ[f"{PREFIX}CONFIG"] = str(now.config_file.resolve())
    server.serve(http)
