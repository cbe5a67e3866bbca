"""What every route of the front stands on: the account that asks, its settings, and errors in Twilio's form."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute

from otpvoice import recipients
from otpvoice.context import Context
from otpvoice.errors import ConfigurationError, InvalidRecipient, OTPVoiceError
from otpvoice.flow import Flow, transact
from otpvoice.http import problems
from otpvoice.http.auth import Caller, identify
from otpvoice.http.deps import Deps, deps_of
from otpvoice.http.twilio import errors, sids
from otpvoice.http.twilio.errors import TwilioError, invalid, missing
from otpvoice.policy import Policy
from otpvoice.service import AsyncOTPService
from otpvoice.store import twilio
from otpvoice.store.twilio import ServiceRow
from otpvoice.tenant_keys import Scope
from otpvoice.types import Recipient

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

DEFAULT_PURPOSE = "verify"
_SETTINGS = frozenset({"purpose", "url"})


class Route(APIRoute):
    """A route whose every refusal has Twilio's four members."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See ``fastapi.routing.APIRoute``."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except TwilioError as error:
                return error.response()
            except OTPVoiceError as error:
                told = errors.of(error, request.url.path)
                if told.status >= 500:
                    problems.log.error("answered %s after %s: %s", told.status, type(error).__name__, error)
                return told.response()

        return handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A tenant's table ``[tenants.NAME.twilio]``."""

    purpose: str = DEFAULT_PURPOSE
    """Whose policy rules all verifications of the tenant's services."""
    url: str | None = None
    """How clients reach this front; what their requests say where it is not set."""

    @classmethod
    def of(cls, tenant: str, table: Mapping[str, Any], policies: Mapping[str, Policy]) -> Settings:
        """Read the table. Raises :class:`~otpvoice.errors.ConfigurationError` naming the wrong key."""
        unknown = sorted(set(table) - _SETTINGS)
        if unknown or not all(isinstance(value, str) for value in table.values()):
            raise ConfigurationError(f"[tenants.{tenant}.twilio] takes texts named {', '.join(sorted(_SETTINGS))}")
        settings = cls(**table)
        if settings.purpose not in policies:
            raise ConfigurationError(
                f"[tenants.{tenant}.twilio] purpose {settings.purpose!r} is none of {', '.join(sorted(policies))}"
            )
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A caller as this front sees it."""

    caller: Caller
    deps: Deps
    settings: Settings
    base_url: str
    """What all URLs of answers begin with: our own host, never Twilio's (SDKs follow them with credentials)."""
    path: str

    @property
    def sid(self) -> str:
        """The account SID."""
        return sids.account(self.caller.tenant)

    async def plain(self) -> Desk:
        """The tenant's service, for what concerns no recipient."""
        return Desk(await self.deps.plain(self.caller))

    async def service(self, sid: str) -> ServiceRow:
        """One of the account's services; raises 20404."""
        desk = await self.plain()
        found = None
        if sids.is_sid("VA", sid):
            found = await desk.transact(lambda connection, _now: twilio.service(connection, desk.context.tenant, sid))
        if found is None:
            raise missing(self.path)
        return found

    def purpose(self) -> str:
        """The purpose of this tenant's verifications."""
        return self.settings.purpose


@dataclass(frozen=True, slots=True)
class Desk:
    """A service and its own runner: a test tenant's has a clock of its own."""

    service: AsyncOTPService

    @property
    def context(self) -> Context:
        """Keys, policies and channels."""
        return self.service._context

    async def transact(self, work: Callable[[Connection, datetime], T]) -> T:
        """One transaction."""
        return await self.service._runner.run(_one(work))

    def with_policy(self, purpose: str, **changes: Any) -> Desk:
        """The same, with other numbers for one purpose."""
        policies = dict(self.context.policies)
        policies[purpose] = replace(policies[purpose], **changes)
        return Desk(self.service.for_tenant(self.context.tenant, policies=policies))

    def keys(self, recipient: Recipient) -> tuple[str, ...]:
        """By which a recipient is found."""
        return self.context.keyring.index("recipient", recipients.index_form(recipient))


def _one(work: Callable[[Connection, datetime], T]) -> Flow[T]:
    return (yield from transact(work))


def check(deps: Deps) -> None:
    """Read every tenant's table, so that a wrong one keeps the service from starting."""
    for tenant in deps.tenants.values():
        if "twilio" in tenant.extra:
            Settings.of(tenant.name, tenant.extra["twilio"], tenant.policies)


def require(*scopes: Scope) -> Callable[[Request], Awaitable[Account]]:
    """A function that finds the account of a request, whose key has one of these scopes.

    Basic authentication: the user name is the account SID (or the key's SID), the password an API key.
    """

    async def account(request: Request) -> Account:
        deps = deps_of(request)
        caller = await identify(request)
        if caller.username not in {sids.account(caller.tenant), sids.key(caller.key_id)}:
            raise problems.Unauthenticated
        if not caller.may(*scopes):
            raise problems.ScopeMissing
        tenant = deps.tenants[caller.tenant]
        settings = Settings.of(tenant.name, tenant.extra.get("twilio", {}), tenant.policies)
        return Account(
            caller=caller,
            deps=deps,
            settings=settings,
            base_url=settings.url.rstrip("/") if settings.url else _base_url(request, deps),
            path=request.url.path[len(_prefix(request)) + len("/v2") :],
        )

    return account


def parse_recipient(text: str, parameter: str = "To") -> Recipient:
    """A recipient; raises 60200 naming the parameter."""
    try:
        return recipients.parse(text)
    except InvalidRecipient:
        raise invalid(parameter) from None


def timestamp(at: datetime | None) -> str | None:
    """Twilio's form, without fractions: the Python SDK parses no other."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _prefix(request: Request) -> str:
    return request.url.path.partition("/v2/")[0]


def _base_url(request: Request, deps: Deps) -> str:
    url = request.url
    # With TLS demanded, whatever did not come from this machine came over it, if only as far as the proxy.
    scheme = url.scheme if _local(url.hostname or "") or deps.http.tls == "off" else "https"
    return f"{scheme}://{url.netloc}{_prefix(request)}"


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
