"""The default service, built from the environment or ``otpvoice.toml`` at the first call, and its functions."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from otpvoice.service import AsyncOTPService, OTPService
from otpvoice.types import Binding, Challenge, Verified

_building = threading.Lock()
_service: OTPService | None = None
_async_service: AsyncOTPService | None = None


def default_service() -> OTPService:
    """The service behind :func:`issue_code` and :func:`verify_code`."""
    global _service  # noqa: PLW0603 — the one process-wide default, built once under a lock.
    with _building:
        if _service is None:
            _service = OTPService.from_env()
        return _service


def default_async_service() -> AsyncOTPService:
    """The service behind :func:`aissue_code` and :func:`averify_code`."""
    global _async_service  # noqa: PLW0603 — as above.
    with _building:
        if _async_service is None:
            _async_service = AsyncOTPService.from_env()
        return _async_service


def issue_code(
    recipient: str | None,
    *,
    purpose: str,
    subject: str | None = None,
    channel: str | None = None,
    locale: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
    client: str | None = None,
) -> Challenge:
    """Open a challenge and send its first code: :meth:`otpvoice.OTPService.issue_code` of the default service."""
    return default_service().issue_code(
        recipient, purpose=purpose, subject=subject, channel=channel, locale=locale, binding=binding, client=client
    )


def verify_code(
    challenge_id: str,
    code: str,
    *,
    purpose: str | None = None,
    subject: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
) -> Verified:
    """Check what a person typed: :meth:`otpvoice.OTPService.verify_code` of the default service."""
    return default_service().verify_code(challenge_id, code, purpose=purpose, subject=subject, binding=binding)


def resend_code(challenge_id: str, *, channel: str | None = None) -> Challenge:
    """Send a fresh code: :meth:`otpvoice.OTPService.resend_code` of the default service."""
    return default_service().resend_code(challenge_id, channel=channel)


async def aissue_code(
    recipient: str | None,
    *,
    purpose: str,
    subject: str | None = None,
    channel: str | None = None,
    locale: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
    client: str | None = None,
) -> Challenge:
    """Open a challenge and send its first code: the asynchronous twin of :func:`issue_code`."""
    return await default_async_service().issue_code(
        recipient, purpose=purpose, subject=subject, channel=channel, locale=locale, binding=binding, client=client
    )


async def averify_code(
    challenge_id: str,
    code: str,
    *,
    purpose: str | None = None,
    subject: str | None = None,
    binding: Binding | Mapping[str, str] | None = None,
) -> Verified:
    """Check what a person typed: the asynchronous twin of :func:`verify_code`."""
    return await default_async_service().verify_code(
        challenge_id, code, purpose=purpose, subject=subject, binding=binding
    )


async def aresend_code(challenge_id: str, *, channel: str | None = None) -> Challenge:
    """Send a fresh code: the asynchronous twin of :func:`resend_code`."""
    return await default_async_service().resend_code(challenge_id, channel=channel)
