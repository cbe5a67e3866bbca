"""The two services: one line a method, the same signatures, the same flows."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from otpvoice import config, issuance, reports, settings, totp, upkeep, verification
from otpvoice.channels.base import Channel, Finding, ReportRequest
from otpvoice.clock import Clock
from otpvoice.config import Assembly
from otpvoice.flow import Flow
from otpvoice.policy import Policy
from otpvoice.reports import Received
from otpvoice.runner import AsyncRunner, Runner
from otpvoice.speech.wordings import Wordings
from otpvoice.store.events import Event
from otpvoice.totp import TotpEnrollment
from otpvoice.types import Binding, Challenge, Verified
from otpvoice.worker import HousedWorker

T = TypeVar("T")


class _Base:
    """What both services are made of."""

    def __init__(
        self,
        *,
        secret: str | Sequence[str],
        channels: Iterable[Channel],
        database_url: str = settings.DEFAULT_DATABASE,
        policies: Mapping[str, Policy] | None = None,
        brand: str = "",
        default_locale: str = "en",
        wordings: Wordings | None = None,
        tenant: str = "default",
        sms_host: str | None = None,
        sms_app_hash: str | None = None,
        clock: Clock | None = None,
        hash_permits: int | None = None,
        hash_queue: int = 64,
        pool_size: int = 5,
        worker: bool = False,
    ) -> None:
        """Assemble a service in code; :meth:`from_env` reads it from the configuration instead.

        ``secret`` is one root secret, or several of which the first writes and all read. ``channels`` are found in
        routes by their names. Without ``policies`` the built-in purposes route through all channels in their
        order. With ``worker`` a worker inside this process sends: issuing only queues and never waits for a
        provider. Nothing is opened before the first call. Raises :class:`~otpvoice.errors.ConfigurationError`.
        """
        self._begin(
            config.assemble(
                secret=secret,
                channels=channels,
                database_url=database_url,
                policies=policies,
                brand=brand,
                default_locale=default_locale,
                wordings=wordings,
                tenant=tenant,
                sms_host=sms_host,
                sms_app_hash=sms_app_hash,
                clock=clock,
                hash_permits=hash_permits,
                hash_queue=hash_queue,
                pool_size=pool_size,
                worker=worker,
            )
        )

    @classmethod
    def from_env(
        cls, config_file: Path | str | None = None, *, clock: Clock | None = None, worker: bool | None = None
    ) -> Self:
        """A service from ``OTPVOICE_…`` and ``otpvoice.toml``; see :mod:`otpvoice.settings` for the keys.

        ``worker`` decides instead of the setting. Raises :class:`~otpvoice.errors.ConfigurationError` naming every
        setting that is missing or wrong.
        """
        service = cls.__new__(cls)
        service._begin(config.from_settings(settings.read(config_file), clock=clock, worker=worker))
        return service

    def _begin(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._context = assembly.context
        self._housed = HousedWorker(assembly) if assembly.worker else None

    def for_tenant(self, tenant: str, *, policies: Mapping[str, Policy] | None = None) -> Self:
        """The same service for another tenant, over the same connections: tenants see only their own.

        ``policies`` are the tenant's purposes; this service's where they are not given. Close the service that it
        came from, not this one.
        """
        twin = copy.copy(self)
        policies = self._context.policies if policies is None else dict(policies)
        twin._context = replace(self._context, tenant=tenant, policies=policies)
        return twin

    def _wake(self) -> None:
        """Something may have been queued."""
        if self._housed is not None:
            self._housed.wake()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._assembly.store!r} via {', '.join(self._context.channels)}>"


class OTPService(_Base):
    """One-time codes for synchronous code: Django, Flask, scripts. Safe to share between threads.

    A context manager, or call :meth:`close` when done.
    """

    def _begin(self, assembly: Assembly) -> None:
        super()._begin(assembly)
        self._runner = Runner(assembly.store, assembly.hashing)

    def issue_code(
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
        """Open a challenge and send its first code.

        ``recipient`` is a phone number in international form or a mailbox; None only for a ``subject`` whose
        authenticator app is asked. ``purpose`` names the policy. ``subject`` is the account that the proof is for.
        ``channel`` picks a step of the purpose's route. ``locale`` is a BCP-47 tag; without one the recipient's
        country decides. ``binding`` is an amount and payee to bind the proof to and to speak (PSD2 RTS Art. 5).
        ``client`` is who asks, an address or a device id, for the limit on openings.

        An unknown outcome is no failure: the call may be ringing, the code would verify, and the returned
        challenge's delivery says ``unknown``.

        Raises :class:`~otpvoice.errors.InvalidRequest` (nothing charged), :class:`~otpvoice.errors.RateLimited`,
        :class:`~otpvoice.errors.LockedOut` and :class:`~otpvoice.errors.RecipientDenied` (nothing sent),
        :class:`~otpvoice.errors.ServiceBusy`, and :class:`~otpvoice.errors.DeliveryError` when the provider refused;
        the challenge stays open then and is the error's ``challenge``.
        """
        return self._sending(
            issuance.issue(
                self._context,
                recipient,
                purpose=purpose,
                subject=subject,
                channel=channel,
                locale=locale,
                binding=binding,
                client=client,
            )
        )

    def verify_code(
        self,
        challenge_id: str,
        code: str,
        *,
        purpose: str | None = None,
        subject: str | None = None,
        binding: Binding | Mapping[str, str] | None = None,
    ) -> Verified:
        """Check what a person typed. Returns only on success; everything else raises.

        ``purpose``, ``subject`` and ``binding``, where given, must be those of the challenge: otherwise the attempt
        fails as with a wrong code. Spaces, hyphens and other scripts' digits in ``code`` are understood.

        The attempt is spent and committed before anything is compared; no error, disconnect or crash gives it
        back. Raises :class:`~otpvoice.errors.CodeMismatch` (``attempts_left``),
        :class:`~otpvoice.errors.ChallengeClosed`, :class:`~otpvoice.errors.LockedOut` (``retry_after``),
        :class:`~otpvoice.errors.ServiceBusy` (nothing was spent), and :class:`~otpvoice.errors.InvalidRequest` for
        a code that is no ``str``.
        """
        return self._runner.run(
            verification.verify(self._context, challenge_id, code, purpose=purpose, subject=subject, binding=binding)
        )

    def resend_code(self, challenge_id: str, *, channel: str | None = None) -> Challenge:
        """Send a fresh code by the route's next step, or by ``channel`` where the route has it.

        Neither the attempts nor the time of the challenge are renewed. Raises
        :class:`~otpvoice.errors.ChallengeClosed`, :class:`~otpvoice.errors.RateLimited` (the cooldown and the
        limits), :class:`~otpvoice.errors.LockedOut`, and what :meth:`issue_code` raises for a delivery.
        """
        return self._sending(issuance.resend(self._context, challenge_id, channel=channel))

    def apply_report(self, channel: str, request: ReportRequest) -> Received:
        """Apply a provider's push about deliveries through ``channel``.

        It can change what is known of a delivery, and so take the route's next step; never a verification. Raises
        :class:`~otpvoice.channels.base.ReportRejected` and :class:`~otpvoice.errors.UnknownChannel`.
        """
        return self._sending(reports.receive(self._context, channel, request))

    def cancel(self, challenge_id: str) -> Challenge:
        """Close a challenge for good. Raises :class:`~otpvoice.errors.ChallengeClosed` when it is not open."""
        return self._runner.run(issuance.cancel(self._context, challenge_id))

    def get(self, challenge_id: str) -> Challenge:
        """Look at a challenge. Raises :class:`~otpvoice.errors.ChallengeClosed` when there is none."""
        return self._runner.run(issuance.get(self._context, challenge_id))

    def events(self, challenge_id: str) -> Sequence[Event]:
        """A challenge's story, oldest first, for support people: it holds no secret."""
        return self._runner.run(issuance.story(self._context, challenge_id))

    def enroll_totp(self, subject: str, *, account: str | None = None) -> TotpEnrollment:
        """Make an authenticator-app factor for a subject (RFC 6238, SHA-1, 6 digits, 30 s).

        ``account`` is what the app shows; the subject where it is not given. The factor counts once
        :meth:`confirm_totp` has seen a code of it; an earlier factor works until then.
        """
        return self._runner.run(totp.enroll(self._context, subject, account=account))

    def confirm_totp(self, factor_id: str, code: str, *, subject: str) -> None:
        """Make an enrolled factor the subject's only one, by a first code of the app; five tries.

        Raises :class:`~otpvoice.errors.CodeMismatch` and :class:`~otpvoice.errors.UnknownFactor`.
        """
        return self._runner.run(totp.confirm(self._context, factor_id, code, subject=subject))

    def remove_totp(self, subject: str) -> int:
        """Forget a subject's authenticator app; returns how many factors there were."""
        return self._runner.run(totp.remove(self._context, subject))

    def purge(self) -> upkeep.Purged:
        """Remove history whose retention time is over, in bounded batches. Run it daily."""
        return self._runner.run(upkeep.purge(self._context))

    def health(self) -> Mapping[str, upkeep.ChannelHealth]:
        """How every channel's provider has done in the last 15 minutes, and whether it is passed over."""
        return self._runner.run(upkeep.health(self._context))

    def probe(self) -> Mapping[str, Sequence[Finding]]:
        """Ask every channel's provider, at no cost, whether its settings work."""
        return self._runner.run(upkeep.probe(self._context))

    def close(self) -> None:
        """Finish what has begun, then close connections to providers and the database."""
        if self._housed is not None:
            self._housed.close()
        self._runner.close()

    def _sending(self, flow: Flow[T]) -> T:
        result = self._runner.run(flow)
        self._wake()
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncOTPService(_Base):
    """One-time codes for asynchronous code: FastAPI, Starlette, aiohttp. The twin of :class:`OTPService`.

    An asynchronous context manager, or await :meth:`close` when done.
    """

    def _begin(self, assembly: Assembly) -> None:
        super()._begin(assembly)
        self._runner = AsyncRunner(assembly.store, assembly.hashing)

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
        """See :meth:`OTPService.issue_code`."""
        return await self._sending(
            issuance.issue(
                self._context,
                recipient,
                purpose=purpose,
                subject=subject,
                channel=channel,
                locale=locale,
                binding=binding,
                client=client,
            )
        )

    async def verify_code(
        self,
        challenge_id: str,
        code: str,
        *,
        purpose: str | None = None,
        subject: str | None = None,
        binding: Binding | Mapping[str, str] | None = None,
    ) -> Verified:
        """See :meth:`OTPService.verify_code`."""
        return await self._runner.run(
            verification.verify(self._context, challenge_id, code, purpose=purpose, subject=subject, binding=binding)
        )

    async def resend_code(self, challenge_id: str, *, channel: str | None = None) -> Challenge:
        """See :meth:`OTPService.resend_code`."""
        return await self._sending(issuance.resend(self._context, challenge_id, channel=channel))

    async def apply_report(self, channel: str, request: ReportRequest) -> Received:
        """See :meth:`OTPService.apply_report`."""
        return await self._sending(reports.receive(self._context, channel, request))

    async def cancel(self, challenge_id: str) -> Challenge:
        """See :meth:`OTPService.cancel`."""
        return await self._runner.run(issuance.cancel(self._context, challenge_id))

    async def get(self, challenge_id: str) -> Challenge:
        """See :meth:`OTPService.get`."""
        return await self._runner.run(issuance.get(self._context, challenge_id))

    async def events(self, challenge_id: str) -> Sequence[Event]:
        """See :meth:`OTPService.events`."""
        return await self._runner.run(issuance.story(self._context, challenge_id))

    async def enroll_totp(self, subject: str, *, account: str | None = None) -> TotpEnrollment:
        """See :meth:`OTPService.enroll_totp`."""
        return await self._runner.run(totp.enroll(self._context, subject, account=account))

    async def confirm_totp(self, factor_id: str, code: str, *, subject: str) -> None:
        """See :meth:`OTPService.confirm_totp`."""
        return await self._runner.run(totp.confirm(self._context, factor_id, code, subject=subject))

    async def remove_totp(self, subject: str) -> int:
        """See :meth:`OTPService.remove_totp`."""
        return await self._runner.run(totp.remove(self._context, subject))

    async def purge(self) -> upkeep.Purged:
        """See :meth:`OTPService.purge`."""
        return await self._runner.run(upkeep.purge(self._context))

    async def health(self) -> Mapping[str, upkeep.ChannelHealth]:
        """See :meth:`OTPService.health`."""
        return await self._runner.run(upkeep.health(self._context))

    async def probe(self) -> Mapping[str, Sequence[Finding]]:
        """See :meth:`OTPService.probe`."""
        return await self._runner.run(upkeep.probe(self._context))

    async def close(self) -> None:
        """See :meth:`OTPService.close`."""
        if self._housed is not None:
            await asyncio.to_thread(self._housed.close)
        await self._runner.close()

    async def _sending(self, flow: Flow[T]) -> T:
        result = await self._runner.run(flow)
        self._wake()
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
