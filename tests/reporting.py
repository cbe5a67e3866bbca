"""A channel whose provider reports and can be asked: what routes, reports and reconciliation are tested with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from otpvoice.channels.base import Inquiry, Message, Receipt, Report, ReportRejected, ReportRequest
from otpvoice.channels.memory import Memory, MemorySettings
from otpvoice.flow import Flow
from otpvoice.types import Capabilities, DeliveryState


class Reporting(Memory):
    """Accepts, and tells later. ``known`` is what the provider's records say, by delivery id."""

    def __init__(self, name: str, *, medium: str = "voice", poll_after: timedelta | None = None) -> None:
        super().__init__(name, MemorySettings(medium=medium))
        self.known: dict[str, Report] = {}
        self.asked: list[str] = []
        self.trouble: Callable[[], None] = lambda: None
        self.poll_after = poll_after

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(medium=self.medium, reports=True, look_ups=True, poll_after=self.poll_after)

    def deliver(self, message: Message) -> Flow[Receipt]:
        receipt = yield from super().deliver(message)
        return Receipt(reference=f"{self.name}-{receipt.reference}")

    def read_report(self, request: ReportRequest) -> Sequence[Report]:
        if request.headers.get("x-secret") != "hush":
            raise ReportRejected("the secret is wrong", authentic=False)
        try:
            said: Any = json.loads(request.body)
            return [Report(**(item | {"state": DeliveryState(item["state"])})) for item in said]
        except (ValueError, TypeError, KeyError) as error:
            raise ReportRejected(f"not a report: {type(error).__name__}") from None

    def look_up(self, inquiry: Inquiry) -> Flow[Report | None]:
        self.asked.append(inquiry.delivery_id)
        self.trouble()
        return self.known.get(inquiry.delivery_id)
        yield


def push(*reports: dict[str, Any], secret: str = "hush") -> ReportRequest:
    """A provider's request that carries these reports."""
    return ReportRequest(
        method="POST",
        url="https://example.org/reports",
        headers={"x-secret": secret},
        body=json.dumps(reports).encode(),
    )
