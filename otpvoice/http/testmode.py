"""Test tenants: listed recipients with fixed codes and outcomes, a clock that is set, and no way to a provider.

A test tenant's service has channels that send nothing, under names that no live channel has; keys of its own, so
that it shares no counter, lock or sealed value with a live tenant; and rows under a tenant name that no live tenant
can have. None of this depends on a flag that a request could carry: the tenant's table in the configuration and the
kind of API key decide (property P81).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from otpvoice import recipients
from otpvoice.channels.base import Channel, Message, Receipt
from otpvoice.clock import Clock
from otpvoice.config import Assembly
from otpvoice.context import TOTP, Context
from otpvoice.errors import (
    CodeMismatch,
    ConfigurationError,
    DeliveryError,
    InvalidRecipient,
    LockedOut,
    NoBalance,
    ProviderUnavailable,
    RateLimited,
    RecipientDenied,
    RecipientRejected,
)
from otpvoice.flow import Flow, call, transact
from otpvoice.http.tenants import Outcome, Tenant
from otpvoice.keys import Keyring
from otpvoice.policy import Policy, Route
from otpvoice.runner import AsyncRunner
from otpvoice.service import AsyncOTPService
from otpvoice.store import challenges, test_clocks
from otpvoice.store.engine import Store
from otpvoice.types import Binding, Capabilities, Challenge, Delivery, Verified

if TYPE_CHECKING:
    from otpvoice.http.deps import Deps

PREFIX = "test:"
"""Before the names of a test tenant and of its channels in the store. No configured name can hold a colon."""
FURTHEST_AHEAD = timedelta(days=3650)


class ShiftedClock:
    """Another clock, ahead of it by a span."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """The time, with ``tzinfo=UTC``."""
        return self._base.now() + self.ahead


class TestKeyring(Keyring):
    """A ring whose hashes, seals and signatures are worth nothing outside of one test tenant."""

    __test__ = False  # Not a class of tests, whatever pytest makes of its name.

    def __init__(self, base: Keyring, tenant: str) -> None:
        vars(self).update(vars(base))
        self._scope = f"{PREFIX}{tenant}"

    @property
    def scope(self) -> str:
        """See :meth:`Keyring.scope`."""
        return f"{self._scope}:"

    def proof_seeds(self) -> tuple[tuple[str, bytes], ...]:
        """Seeds whose public keys are in no live JWK Set."""
        return tuple(
            (f"test-{kid}", hmac.digest(seed, b"test proofs", hashlib.sha256)) for kid, seed in super().proof_seeds()
        )

    def index(self, kind: str, value: str) -> tuple[str, ...]:
        """See :meth:`Keyring.index`."""
        return super().index(f"{self._scope}:{kind}", value)

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """See :meth:`Keyring.seal`."""
        return super().seal(plaintext, context=f"{self._scope}:{context}")

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """See :meth:`Keyring.unseal`."""
        return super().unseal(sealed, context=f"{self._scope}:{context}")


def _failure(reason_: str) -> type[DeliveryError]:
    class Told(DeliveryError):
        reason = reason_

    return Told


_FAILURES: Mapping[str, type[DeliveryError]] = {
    "invalid_number": RecipientRejected,
    "no_balance": NoBalance,
    "unavailable": ProviderUnavailable,
    **{reason: _failure(reason) for reason in ("no_answer", "busy", "rejected", "unreachable")},
}


def _refusal(outcome: str) -> Exception | None:
    half_an_hour = timedelta(minutes=30)
    match outcome:
        case "locked":
            return LockedOut(retry_after=half_an_hour)
        case "rate_limited":
            return RateLimited("a test recipient's limit", retry_after=half_an_hour)
        case "denied":
            return RecipientDenied("the policy does not send to this test recipient")
    return None


class Nowhere(Channel):
    """Sends nothing: its outcome is written in the configuration."""

    provider = "test"

    def __init__(self, name: str, *, stands_for: Channel, outcome: str = "approved") -> None:
        super().__init__(name)
        self.medium = stands_for.medium
        self._outcome = outcome

    @property
    def capabilities(self) -> Capabilities:
        """No limits: any text, any language."""
        return Capabilities(medium=self.medium)

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object]) -> Self:
        """Cannot be configured."""
        raise ConfigurationError(f"channel {name!r}: test tenants make their channels themselves")

    def deliver(self, message: Message) -> Flow[Receipt]:
        """Do as told."""
        failure = _FAILURES.get(self._outcome)
        if failure is not None:
            raise failure("as the test recipient's outcome says", provider=self.provider)
        return (yield from call(lambda: Receipt(reference=f"test-{message.delivery_id}", delivered=True)))


class TestService(AsyncOTPService):
    """A test tenant's service. Its channels have the live ones' names as seen from outside."""

    __test__ = False

    @classmethod
    def build(cls, assembly: Assembly, runner: AsyncRunner, context: Context) -> Self:
        """Over its own store and clock."""
        service = cls.__new__(cls)
        service._assembly = assembly
        service._context = context
        service._housed = None
        service._runner = runner
        return service

    async def issue_code(
        self,
        recipient: str | None,
        *,
        purpose: str,
        subject: str | None = None,
        channel: str | None = None,
        locale: str | None = None,
        binding: Binding | Mapping[str, str] | None = None,
        client: str | None = None,
    ) -> Challenge:
        """See :meth:`AsyncOTPService.issue_code`."""
        return await self._outward(
            super().issue_code(
                recipient,
                purpose=purpose,
                subject=subject,
                channel=_inward(channel),
                locale=locale,
                binding=binding,
                client=client,
            )
        )

    async def resend_code(self, challenge_id: str, *, channel: str | None = None) -> Challenge:
        """See :meth:`AsyncOTPService.resend_code`."""
        return await self._outward(super().resend_code(challenge_id, channel=_inward(channel)))

    async def cancel(self, challenge_id: str) -> Challenge:
        """See :meth:`AsyncOTPService.cancel`."""
        return await self._outward(super().cancel(challenge_id))

    async def get(self, challenge_id: str) -> Challenge:
        """See :meth:`AsyncOTPService.get`."""
        return await self._outward(super().get(challenge_id))

    async def verify_code(
        self,
        challenge_id: str,
        code: str,
        *,
        purpose: str | None = None,
        subject: str | None = None,
        binding: Binding | Mapping[str, str] | None = None,
    ) -> Verified:
        """See :meth:`AsyncOTPService.verify_code`."""
        try:
            verified = await super().verify_code(challenge_id, code, purpose=purpose, subject=subject, binding=binding)
        except CodeMismatch as error:
            error.after = None if error.after is None else _seen(error.after)
            raise
        return replace(verified, channel=verified.channel.removeprefix(PREFIX))

    async def _outward(self, asked: Awaitable[Challenge]) -> Challenge:
        try:
            return _seen(await asked)
        except DeliveryError as error:
            if error.challenge is not None:
                error.challenge = _seen(error.challenge)
            raise


def _inward(channel: str | None) -> str | None:
    return channel if channel in {None, TOTP} else f"{PREFIX}{channel}"


def _seen(challenge: Challenge) -> Challenge:
    def delivery(item: Delivery) -> Delivery:
        return replace(item, channel=item.channel.removeprefix(PREFIX))

    return replace(
        challenge,
        next_step=None if challenge.next_step is None else challenge.next_step.removeprefix(PREFIX),
        delivery=None if challenge.delivery is None else delivery(challenge.delivery),
        deliveries=tuple(delivery(item) for item in challenge.deliveries),
    )


@dataclass(frozen=True, slots=True)
class _House:
    """What one test tenant has of its own in this process."""

    assembly: Assembly
    runner: AsyncRunner
    clock: ShiftedClock


class TestMode:
    """The test tenants' services of one process."""

    __test__ = False

    def __init__(self) -> None:
        self._houses: dict[str, _House] = {}

    async def plain(self, deps: Deps, tenant: str) -> AsyncOTPService:
        """The tenant's service, for what concerns no recipient."""
        return await self._service(deps, deps.tenants[tenant], Outcome())

    async def opening(self, deps: Deps, tenant: str, recipient: str | None) -> AsyncOTPService:
        """The service to open a challenge for a listed recipient with; raises what the recipient's outcome says."""
        listed = deps.tenants[tenant]
        if recipient is None:
            return await self.plain(deps, tenant)
        outcome = listed.test_recipients.get(str(recipients.parse(recipient).address))
        if outcome is None:
            raise InvalidRecipient("a test tenant sends to its listed test_recipients only, and this is none")
        refusal = _refusal(outcome.outcome)
        if refusal is not None:
            raise refusal
        return await self._service(deps, listed, outcome)

    async def holding(self, deps: Deps, tenant: str, challenge_id: str) -> AsyncOTPService:
        """The service for an open challenge, which knows its recipient's outcome."""
        listed = deps.tenants[tenant]
        service = await self._service(deps, listed, Outcome())
        row = await deps.run(
            transact(
                lambda connection, _now: challenges.by_id(connection, service._context.tenant, challenge_id),
                single=True,
            )
        )
        if row is None or row.recipient_key is None:
            return service
        keyring = service._context.keyring
        for address, outcome in listed.test_recipients.items():
            if row.recipient_key in keyring.index("recipient", recipients.index_form(recipients.parse(address))):
                return await self._service(deps, listed, outcome)
        return service

    async def ahead(self, deps: Deps, tenant: str) -> timedelta:
        """By how much the tenant's time is ahead of the real one."""
        seconds = await deps.run(transact(partial(_offset, tenant=tenant), single=True))
        return timedelta(seconds=seconds)

    async def set_ahead(self, deps: Deps, tenant: str, ahead: timedelta) -> None:
        """Set it, for all processes; never behind the real time. What had expired is judged by the new time again."""
        seconds = int(ahead.total_seconds())
        await deps.run(
            transact(lambda connection, _now: test_clocks.set_offset(connection, tenant, seconds), single=True)
        )

    async def close(self) -> None:
        """Close the tenants' connections."""
        for house in self._houses.values():
            await house.runner.close()
        self._houses.clear()

    async def _service(self, deps: Deps, tenant: Tenant, outcome: Outcome) -> AsyncOTPService:
        house = self._houses.get(tenant.name)
        if house is None:
            house = self._houses[tenant.name] = _house(deps)
        house.clock.ahead = await self.ahead(deps, tenant.name)
        return TestService.build(house.assembly, house.runner, _context(deps.context, tenant, outcome))


def _offset(connection: Any, _now: datetime, *, tenant: str) -> int:
    return test_clocks.offset(connection, tenant)


def _house(deps: Deps) -> _House:
    live = deps.service._assembly
    clock = ShiftedClock(live.store._clock)
    store = Store(live.store.url.render_as_string(hide_password=False), clock=clock, pool_size=2)
    assembly = replace(live, store=store, worker=False)
    return _House(assembly, AsyncRunner(store, live.hashing), clock)


def _context(live: Context, tenant: Tenant, outcome: Outcome) -> Context:
    return replace(
        live,
        keyring=TestKeyring(live.keyring, tenant.name),
        tenant=f"{PREFIX}{tenant.name}",
        deferred=False,
        policies={purpose: _rerouted(policy) for purpose, policy in tenant.policies.items()},
        channels={
            f"{PREFIX}{name}": Nowhere(f"{PREFIX}{name}", stands_for=channel, outcome=outcome.outcome)
            for name, channel in live.channels.items()
        },
        randbelow=live.randbelow if outcome.code is None else _always(outcome.code),
    )


def _rerouted(policy: Policy) -> Policy:
    steps = tuple(replace(step, channel=_inward(step.channel) or step.channel) for step in policy.route.steps)
    # A test recipient may be of any country and class: nothing is sent.
    return replace(policy, route=Route(steps=steps), countries=None, denied_classes=frozenset())


def _always(code: str) -> Callable[[int], int]:
    return lambda below: int(code) % below
