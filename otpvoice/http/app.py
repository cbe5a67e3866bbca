"""The application: routers, middleware and the process's life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI

import otpvoice.settings
from otpvoice import config
from otpvoice.channels.console import Console
from otpvoice.clock import Clock
from otpvoice.errors import ConfigurationError
from otpvoice.http import (
    challenges,
    housekeeping,
    logs,
    operations,
    problems,
    proofs,
    reports,
    telemetry,
    tenants,
    testmode,
    totp,
    webhooks,
)
from otpvoice.http.bodies import BodyLimits
from otpvoice.http.deps import Deps
from otpvoice.http.edge import Edge
from otpvoice.http.protocol import Patient
from otpvoice.http.settings import HttpSettings
from otpvoice.http.twilio import front
from otpvoice.http.twilio.router import router as twilio
from otpvoice.service import AsyncOTPService
from otpvoice.settings import Settings

log = logging.getLogger("otpvoice.http")

ROUTERS = (challenges.router, totp.router, proofs.router, reports.router, operations.router, twilio)
"""What an application answers. A front adds its router here."""

BACKGROUND: tuple[Callable[[Deps], Awaitable[None]], ...] = (webhooks.send, housekeeping.tidy)
"""What runs beside the requests from start to stop, each a task that is cancelled at the end."""

_PAUSE = 5.0
"""Seconds before what broke is begun again."""


def from_env() -> FastAPI:
    """The application of ``OTPVOICE_…`` and ``otpvoice.toml``, with its logs and spans: what uvicorn is given."""
    settings = otpvoice.settings.read()
    http = HttpSettings.from_table(settings.http)
    logs.configure(level=http.log_level, development=http.development)
    Patient.header_timeout = http.header_timeout
    log.info("spans: %s", telemetry.export_spans())
    return create_app(settings)


def create_app(
    settings: Settings | Path | str | None = None,
    *,
    service: AsyncOTPService | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """An application over a service.

    ``settings`` are read from the environment and the configuration file where they are not given. ``service``
    (tests: over a memory channel) is built from them where it is not given, and closed by whoever made it.
    Raises :class:`~otpvoice.errors.ConfigurationError` naming every wrong key.
    """
    if not isinstance(settings, Settings):
        settings = otpvoice.settings.read(settings)
    http = HttpSettings.from_table(settings.http)
    own = service is None
    if service is None:
        service = AsyncOTPService.__new__(AsyncOTPService)
        service._begin(config.from_settings(settings, clock=clock, worker=http.worker))
    served = tenants.build(settings, service._context.policies)
    purposes = {name for tenant in served.values() for name in tenant.policies}
    deps = Deps(
        service=service,
        settings=settings,
        http=http,
        tenants=served,
        test_mode=testmode.TestMode(),
        metrics=telemetry.Metrics(tenants=served, purposes=purposes),
    )

    _check_mode(deps)
    front.check(deps)
    webhooks.check(deps)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        deps.service._wake()  # What an earlier process had queued is sent without waiting for a request.
        running = [asyncio.create_task(_kept_running(work, deps)) for work in BACKGROUND]
        try:
            yield
        finally:
            deps.stopping = True
            for task in running:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await deps.test_mode.close()
            if own:
                await deps.service.close()
            await asyncio.to_thread(telemetry.flush_spans)

    app = FastAPI(
        title="otpvoice",
        version="1",
        description="One-time codes by voice call, SMS and e-mail: issued, delivered and verified.",
        lifespan=life,
        openapi_url="/openapi.json" if http.openapi else None,
        docs_url="/docs" if http.development else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.deps = deps
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimits, settings=http)
    app.add_middleware(Edge, deps=deps)
    return app


def _check_mode(deps: Deps) -> None:
    """What prints codes is no production (property P81). Raises :class:`~otpvoice.errors.ConfigurationError`."""
    printing = sorted(name for name, channel in deps.context.channels.items() if isinstance(channel, Console))
    if not printing and not deps.settings.development:
        return
    what = f"channel {printing[0]!r} prints codes" if printing else "development is on"
    if deps.settings.http.get("mode") == "production":
        raise ConfigurationError(f'{what}: not with mode = "production" in [http]')
    log.warning("%s: this is no production", what)


async def _kept_running(work: Callable[[Deps], Awaitable[None]], deps: Deps) -> None:
    """Run it to its end or its cancellation; what breaks is begun again."""
    while True:
        try:
            await work(deps)
        except Exception as error:
            log.error("%s broke and is begun again: %s", work.__module__, type(error).__name__)
            await asyncio.sleep(_PAUSE)
        else:
            return
