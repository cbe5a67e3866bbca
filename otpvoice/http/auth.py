"""Who calls: API keys by Bearer or Basic authentication, and what each may do."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from otpvoice import tenant_keys
from otpvoice.http.deps import deps_of
from otpvoice.http.problems import ScopeMissing, Unauthenticated
from otpvoice.tenant_keys import Scope

BEARER = HTTPBearer(auto_error=False, scheme_name="apiKey", description="An API key: `otpvoice keys create`.")
"""For the OpenAPI document only: :func:`identify` reads the header itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A tenant's program, by the key it showed."""

    tenant: str
    """The configured name; :attr:`test` tells whether it is a test tenant."""
    key_id: str
    scopes: frozenset[str]
    test: bool
    username: str | None = None
    """With Basic authentication, who it says it is (Twilio's SDKs: an account SID). It proves nothing."""

    def may(self, *scopes: Scope) -> bool:
        """Whether the key has one of these scopes."""
        return bool(self.scopes & set(scopes))


async def identify(request: Request) -> Caller:
    """The caller of a request, whatever it may do. Raises :class:`~otpvoice.http.problems.Unauthenticated`.

    Bearer: the token is the key. Basic: the password is the key, the user name is handed on. Missing, malformed,
    unknown, revoked and another mode's keys look alike.
    """
    deps = deps_of(request)
    username, shown = _credentials(request.headers.getlist("authorization"))
    parsed = tenant_keys.parse(shown)
    row = None if parsed is None else await deps.run(tenant_keys.find(parsed.key_id))
    if not tenant_keys.matches(parsed, row) or row is None:
        raise Unauthenticated
    tenant = deps.tenants.get(row.tenant)
    if tenant is None or tenant.test != row.test:
        raise Unauthenticated
    caller = Caller(tenant=row.tenant, key_id=row.id, scopes=frozenset(row.scopes), test=row.test, username=username)
    request.scope["otpvoice.caller"] = caller
    return caller


def require(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, whose key has one of these scopes.

    Raises :class:`~otpvoice.http.problems.Unauthenticated` and :class:`~otpvoice.http.problems.ScopeMissing`.
    """

    async def caller(request: Request, _documented: Annotated[object, Depends(BEARER)]) -> Caller:
        found = await identify(request)
        if found.username is not None and found.username != found.key_id:
            raise Unauthenticated
        if not found.may(*scopes):
            raise ScopeMissing(f"this needs the scope {' or '.join(scopes)}")
        return found

    return caller


def _credentials(headers: list[str]) -> tuple[str | None, str]:
    if len(headers) != 1:
        return None, ""
    scheme, _, value = headers[0].partition(" ")
    if scheme.lower() == "bearer":
        return None, value.strip()
    if scheme.lower() != "basic":
        return None, ""
    try:
        username, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, ""
    return username, password
