"""What every route is given: settings, tenants and their services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

from fastapi import Request

from otpvoice.context import Context
from otpvoice.flow import Flow, transact
from otpvoice.http.settings import HttpSettings
from otpvoice.http.tenants import Tenant
from otpvoice.service import AsyncOTPService
from otpvoice.settings import Settings
from otpvoice.store import api_keys

if TYPE_CHECKING:
    from otpvoice.http.auth import Caller
    from otpvoice.http.telemetry import Metrics
    from otpvoice.http.testmode import TestMode

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Deps:
    """One process's state. ``app.state.deps``; in a route: :func:`deps_of`."""

    service: AsyncOTPService
    """The installation's; for a tenant's own use :meth:`opening` and :meth:`holding`."""
    settings: Settings
    http: HttpSettings
    tenants: Mapping[str, Tenant]
    test_mode: TestMode
    metrics: Metrics
    stopping: bool = False
    """Set when the process is shutting down: ``/readyz`` says so, so that no new work comes."""
    _live: dict[str, AsyncOTPService] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        """The installation's keys, policies and channels."""
        return self.service._context

    async def run(self, flow: Flow[T]) -> T:
        """Perform a flow (``transact(...)`` of a store function, mostly) on the service's runner."""
        return await self.service._runner.run(flow)

    async def now(self) -> datetime:
        """The database's time: a round trip. Raises what any transaction does."""
        return await self.run(transact(api_keys.ping, single=True))

    def live(self, tenant: str) -> AsyncOTPService:
        """A live tenant's service."""
        service = self._live.get(tenant)
        if service is None:
            service = self.service.for_tenant(tenant, policies=self.tenants[tenant].policies)
            self._live[tenant] = service
        return service

    async def opening(self, caller: Caller, recipient: str | None) -> AsyncOTPService:
        """The service to open a challenge with. A test tenant's sends nothing and knows listed recipients only."""
        if not caller.test:
            return self.live(caller.tenant)
        return await self.test_mode.opening(self, caller.tenant, recipient)

    async def holding(self, caller: Caller, challenge_id: str) -> AsyncOTPService:
        """The service to verify, resend, cancel or look at a challenge with."""
        if not caller.test:
            return self.live(caller.tenant)
        return await self.test_mode.holding(self, caller.tenant, challenge_id)

    async def plain(self, caller: Caller) -> AsyncOTPService:
        """The service for what belongs to no challenge: authenticator apps."""
        if not caller.test:
            return self.live(caller.tenant)
        return await self.test_mode.plain(self, caller.tenant)


def deps_of(request: Request) -> Deps:
    """The process's state, in a route or a dependency."""
    return cast(Deps, request.app.state.deps)
