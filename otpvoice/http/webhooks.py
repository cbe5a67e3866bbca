"""Webhooks beside the requests: where this process has a worker, it tells the customers' URLs too."""

from __future__ import annotations

from otpvoice.http.deps import Deps
from otpvoice.webhooks import config
from otpvoice.webhooks.addresses import Guard
from otpvoice.webhooks.dispatch import Dispatcher


def check(deps: Deps) -> None:
    """Read every tenant's table, so that a wrong one keeps the service from starting."""
    _guards(deps)


async def send(deps: Deps) -> None:
    """Send until cancelled."""
    if not deps.http.worker:
        return
    await Dispatcher(deps.context, guards=_guards(deps)).run(deps.run)


def _guards(deps: Deps) -> dict[str, Guard]:
    return config.guards({name: tenant.extra.get("webhooks", {}) for name, tenant in deps.tenants.items()})
