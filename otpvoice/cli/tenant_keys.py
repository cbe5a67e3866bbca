"""``otpvoice keys create|list|revoke|rotate``: API keys of the HTTP service's tenants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import typer

from otpvoice import tenant_keys
from otpvoice.cli.session import Json, session
from otpvoice.errors import ConfigurationError, InvalidRequest
from otpvoice.runner import HashingPool, Runner
from otpvoice.settings import Settings
from otpvoice.store.api_keys import ApiKeyRow
from otpvoice.store.engine import Store
from otpvoice.tenant_keys import SCOPES, Created

_DEFAULT_SCOPES = "issue,verify,read"


def create(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Option(help="Whose key; [tenants.NAME], or `default`.")] = "default",
    scopes: Annotated[str, typer.Option(help=f"Some of {','.join(SCOPES)}.")] = _DEFAULT_SCOPES,
    name: Annotated[str, typer.Option(help="What for, for people.")] = "",
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown this once; only a digest of it is kept."""
    settings = session(ctx).settings()
    test = _is_test(settings, tenant)
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _runner(settings) as runner:
        _show_new(runner.run(tenant_keys.create(tenant, scopes=wanted, name=name, test=test)), as_json=as_json)


def list_keys(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: Json = False,
) -> None:
    """List API keys: what they are called and may do, never the keys."""
    with _runner(session(ctx).settings()) as runner:
        rows = runner.run(tenant_keys.list_all(tenant))
    if as_json:
        typer.echo(json.dumps([_facts(row) for row in rows], indent=2))
        return
    for row in rows:
        ends = "" if row.expires_at is None else f"  ends {row.expires_at:%Y-%m-%d %H:%M} UTC"
        kind = "test" if row.test else "live"
        typer.echo(f"{row.id}  {row.tenant}  {kind}  {','.join(row.scopes)}  {row.name}{ends}".rstrip())


def revoke(ctx: typer.Context, key_id: Annotated[str, typer.Argument(help="Its id: the part after the kind.")]) -> None:
    """Let an API key count no more, at once and everywhere."""
    with _runner(session(ctx).settings()) as runner:
        row = runner.run(tenant_keys.revoke(key_id))
    typer.echo(f"revoked {row.id} of {row.tenant}")


def rotate(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The old key's id.")],
    overlap: Annotated[int, typer.Option(min=0, max=720, help="Hours that the old one counts for still.")] = 24,
    as_json: Json = False,
) -> None:
    """Make an API key like another, which runs out after the overlap."""
    with _runner(session(ctx).settings()) as runner:
        _show_new(runner.run(tenant_keys.rotate(key_id, overlap=timedelta(hours=overlap))), as_json=as_json)


def _is_test(settings: Settings, tenant: str) -> bool:
    if not settings.tenants and tenant == "default":
        return False
    table = settings.tenants.get(tenant)
    if table is None:
        known = ", ".join(sorted(settings.tenants)) or "default"
        raise InvalidRequest(f"no tenant {tenant[:64]!r} is configured; known: {known}")
    test = table.get("test", False)
    if not isinstance(test, bool):
        raise ConfigurationError(f"[tenants.{tenant}] test must be true or false")
    return test


@contextmanager
def _runner(settings: Settings) -> Iterator[Runner]:
    store = Store(settings.database_url)
    runner = Runner(store, HashingPool(permits=1))
    try:
        yield runner
    finally:
        runner.close()


def _show_new(made: Created, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"key": str(made.key), **_facts(made.row)}, indent=2))
        return
    typer.echo(str(made.key))
    typer.echo(f"Key {made.row.id} of {made.row.tenant}, for {', '.join(made.row.scopes)}. Not shown again.", err=True)


def _facts(row: ApiKeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "test": row.test,
        "scopes": list(row.scopes),
        "name": row.name,
        "created_at": row.created_at.isoformat(),
        "expires_at": None if row.expires_at is None else row.expires_at.isoformat(),
        "replaced_by": row.replaced_by,
    }
