"""A service on a SQLite file, for tests that need neither both databases nor both colours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otpvoice import OTPService
from otpvoice.clock import ManualClock
from tests.conftest import SECRET, Blocking, Otp, policies


@contextmanager
def embedded(template: Path, folder: Path, **options: Any) -> Iterator[Otp]:
    """What the ``otp`` fixture is, synchronous and on SQLite."""
    url = f"sqlite:///{shutil.copy(template, folder / 'otpvoice.db')}"
    made: list[OTPService] = []

    def make(_colour: str = "sync", **more: Any) -> OTPService:
        made.append(
            OTPService(
                **({"secret": SECRET, "database_url": url, "policies": policies(), "clock": clock} | options | more)
            )
        )
        return made[-1]

    clock = ManualClock()
    try:
        yield Otp(make, clock, "sync")
    finally:
        for service in made:
            service.close()


def of_tenant(otp: Otp, tenant: str) -> Any:
    """The same service for another tenant, in the same colour and on the same event loop."""
    twin = otp.service.for_tenant(tenant)
    if otp.colour == "sync":
        return twin
    blocking = Blocking(twin)
    blocking.loop.close()
    blocking.loop = otp.service.loop
    return blocking
