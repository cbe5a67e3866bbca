"""What people and machines see of a challenge: nothing in it is a secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from rich.table import Table
from rich.text import Text

from otpvoice.channels.console import printable
from otpvoice.store.events import Event
from otpvoice.types import Challenge, Delivery

WORDS: Mapping[str, str] = {
    "challenge.opened": "opened",
    "challenge.approved": "approved: the code was right",
    "challenge.expired": "expired",
    "challenge.exhausted": "closed: no attempts left",
    "challenge.cancelled": "cancelled",
    "attempt.charged": "an attempt was spent",
    "ledger.locked": "locked after too many failures",
    "delivery.accepted": "the provider took it",
    "delivery.delivered": "delivered",
    "delivery.failed": "not delivered",
    "delivery.unknown": "the provider's answer did not come",
    "delivery.retried": "the provider did not take it; tried again",
    "delivery.reported": "the provider reported",
    "provider.alarm": "an alarm: a person must look at the provider's settings",
    "provider.resting": "the provider keeps failing and is skipped for a while",
    "provider.recovered": "the provider works again",
    "send.refused": "sending was refused",
    "route.advanced": "the next step of the route was taken",
    "route.stopped": "the next step of the route may not be taken",
}


def plain(value: Any) -> Any:
    """A value for JSON: dataclasses become objects, times ISO 8601, spans seconds, enumerations their text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def deliveries(challenge: Challenge) -> Sequence[Delivery]:
    """All that are known of a challenge, oldest first."""
    return challenge.deliveries or (() if challenge.delivery is None else (challenge.delivery,))


def summary(challenge: Challenge) -> Table:
    """A challenge in a few lines."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    rows = {
        "challenge": challenge.id,
        "purpose": challenge.purpose,
        "to": challenge.recipient or "authenticator app",
        "state": challenge.state.value,
        "opened": clock(challenge.created_at),
        "expires": clock(challenge.expires_at),
        "closed": clock(challenge.closed_at) if challenge.closed_at else "",
        "attempts left": str(challenge.attempts_left),
        "next send": _next_send(challenge),
    }
    for name, words in rows.items():
        if words:
            table.add_row(name, Text(printable(words)))
    for number, sent in enumerate(deliveries(challenge), start=1):
        table.add_row(f"delivery {number}", Text(printable(describe(sent))))
    return table


def describe(sent: Delivery) -> str:
    """A delivery in one line."""
    parts = [f"{sent.channel} by {sent.provider}: {sent.state.value}"]
    if sent.reason:
        parts.append(sent.reason.replace("_", " "))
    if sent.provider_code:
        parts.append(f"provider's code {sent.provider_code}")
    if sent.reference:
        parts.append(f"provider's id {sent.reference}")
    if sent.ring_seconds is not None:
        parts.append(f"rang {sent.ring_seconds} s")
    if sent.talk_seconds is not None:
        parts.append(f"talked {sent.talk_seconds} s")
    if sent.price is not None:
        parts.append(f"price {sent.price} {sent.currency or ''}".strip())
    if sent.used:
        parts.append("its code was typed")
    return ", ".join(parts)


def timeline(happened: Sequence[Event]) -> Table:
    """A challenge's story, oldest first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("what", overflow="fold")
    for event in happened:
        words = WORDS.get(event.kind, event.kind.replace(".", " "))
        facts = ", ".join(_fact(key, value) for key, value in event.data.items() if value is not None)
        table.add_row(
            "" if event.at is None else f"{event.at:%H:%M:%S.%f}"[:-3],
            Text(printable(f"{words}  ({facts})" if facts else words)),
        )
    return table


def clock(at: datetime) -> str:
    """A time for people, in UTC as the database keeps it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _fact(key: str, value: object) -> str:
    if key == "step" and isinstance(value, int):
        return f"step {value + 1}"
    return f"{'provider code' if key == 'code' else key.replace('_', ' ')} {value}"


def _next_send(challenge: Challenge) -> str:
    if challenge.resend_at is None:
        return ""
    by = f" by {challenge.next_step}" if challenge.next_step else ""
    return f"from {challenge.resend_at:%H:%M:%S} UTC{by}, {challenge.sends_left} left"
