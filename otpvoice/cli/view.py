"""What people and machines see of a challenge: nothing in it is a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    "delivery.reported": "the provider reported it as",
    "provider.alarm": "an alarm: a person must look at the provider's settings",
    "provider.resting": "the provider keeps failing and is skipped for a while",
    "provider.recovered": "the provider works again",
    "send.refused": "sending was refused",
    "route.advanced": "the next step of the route was taken",
    "route.stopped": "the next step of the route may not be taken",
}
"""What happened."""

CAUSES: Mapping[str, str] = {
    "asked": "the person asked for another code",
    "refused": "the provider did not take it",
    "failed": "it did not get through",
    "no_report": "no report came in time",
    "timer": "its time had run out",
}
"""Why a step was taken."""


_NAMES = {"code": "provider's code", "reference": "provider's id", "wait": "seconds to wait"}
_OF_A_CALL = frozenset({"ring_seconds", "talk_seconds", "answered_at", "ended_at", "price", "currency"})


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
    if sent.cause:
        parts.append(f"taken because {CAUSES.get(sent.cause, sent.cause)}")
    if sent.reason and sent.reason != sent.state:
        parts.append(sent.reason.replace("_", " "))
    if sent.provider_code:
        parts.append(f"provider's code {sent.provider_code}")
    if sent.reference:
        parts.append(f"provider's id {sent.reference}")
    parts += _call(plain(sent))
    if sent.used:
        parts.append("its code was typed")
    return ", ".join(parts)


def timeline(happened: Sequence[Event], sent: Sequence[Delivery] = ()) -> Table:
    """A challenge's story, oldest first. ``sent`` are its deliveries, which are called by their numbers."""
    numbers = {delivery.id: number for number, delivery in enumerate(sent, start=1)}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("what", overflow="fold")
    for event in happened:
        at = "" if event.at is None else f"{event.at:%H:%M:%S.%f}"[:-3]
        table.add_row(at, Text(printable(_told(event, numbers.get(event.delivery_id or "")))))
    return table


def _told(event: Event, number: int | None) -> str:
    """An event in one line."""
    data = dict(event.data)
    words = WORDS.get(event.kind, event.kind.replace(".", " "))
    if event.kind == "delivery.reported":
        words = f"{words} {data.pop('state', '')}"
        if data.pop("asked", False):
            words = f"asked, {words}"
    if event.kind == "route.advanced" and data.get("from") == data.get("to"):
        words = "the same step was taken again"
    if event.kind == "challenge.approved" and number is not None:
        return f"approved: the code of delivery {number}, {data.get('channel', '')}, was right"
    if number is not None:
        channel, provider = data.pop("channel", ""), data.pop("provider", "")
        by = f"{channel} by {provider}" if provider else channel
        words = f"delivery {number}{f', {by}' if by else ''}: {words}"
        data.pop("step", None)  # Its own line in the summary, and the event of the step, say so.
    facts = ", ".join([*_facts(data), *_call(data)])
    return f"{words}  ({facts})" if facts else words


def _facts(data: Mapping[str, Any]) -> Iterator[str]:
    """What an event says beside what became of a call."""
    for key, value in data.items():
        if value is None or key in _OF_A_CALL or (key, value) == ("reason", "failed"):
            continue
        if key == "step" and isinstance(value, int):
            yield f"step {value + 1}"
        elif key == "reason":
            yield str(value).replace("_", " ")
        elif key == "cause":
            yield f"because {CAUSES.get(value, value)}"
        elif key == "passed_over" and isinstance(value, Mapping):
            yield from (f"{channel} was passed over: {why}" for channel, why in value.items())
        else:
            yield f"{_NAMES.get(key, key.replace('_', ' '))} {value}"


def _call(data: Mapping[str, Any]) -> list[str]:
    """When it rang, how long, how long it talked, and what that cost."""
    parts = []
    ring, talk = data.get("ring_seconds"), data.get("talk_seconds")
    answered, ended = (_moment(data.get(name)) for name in ("answered_at", "ended_at"))
    if ring is not None:
        until = answered or ended
        parts.append(f"rang {ring} s" + (f" from {until - timedelta(seconds=ring):%H:%M:%S} UTC" if until else ""))
    if answered is not None:
        parts.append(f"answered {answered:%H:%M:%S} UTC")
    if talk is not None:
        parts.append(f"talked {talk} s")
    if data.get("price") is not None:
        parts.append(f"price {data['price']} {data.get('currency') or ''}".strip())
    return parts


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def clock(at: datetime) -> str:
    """A time for people, in UTC as the database keeps it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _next_send(challenge: Challenge) -> str:
    if challenge.resend_at is None:
        return ""
    by = f" by {challenge.next_step}" if challenge.next_step else ""
    return f"from {challenge.resend_at:%H:%M:%S} UTC{by}, {challenge.sends_left} left"
