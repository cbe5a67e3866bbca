"""What Vonage says became of a call: events and records, and a search by recipient and time.

Vendor pages: developer.vonage.com/en/voice/voice-api/webhook-reference and /en/api/voice (``GET /v1/calls``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from otpvoice.channels.base import HttpDialogue, Inquiry, Report
from otpvoice.channels.sip import SIP_REASONS
from otpvoice.channels.vendor_fields import money, number, plain, seconds
from otpvoice.channels.vonage_api import CURRENCY, PROVIDER, moment, not_understood
from otpvoice.errors import OutcomeUnknown
from otpvoice.types import DeliveryState

PAGE = 100
BEFORE = timedelta(seconds=5)
"""By how much the two clocks may differ unnoticed."""
AFTER = timedelta(seconds=25)
"""A request that arrives has arrived after connecting and writing, and its call is made at once. Shorter than the
cooldown of a policy, so that the next delivery to the same person is not taken for this one."""

STATES: Mapping[str, tuple[DeliveryState, str | None]] = {
    **dict.fromkeys(("started", "ringing", "answered", "human", "machine"), (DeliveryState.ACCEPTED, None)),
    "completed": (DeliveryState.DELIVERED, None),
    "busy": (DeliveryState.FAILED, "busy"),
    **dict.fromkeys(("timeout", "unanswered"), (DeliveryState.FAILED, "no_answer")),
    "rejected": (DeliveryState.FAILED, "rejected"),
    **dict.fromkeys(("failed", "cancelled", "canceled"), (DeliveryState.FAILED, "failed")),
}
"""A call's status. ``failed`` is told apart by its SIP code; an answer is final when the call has ended."""

_UUID = re.compile(r"[0-9A-Za-z-]{8,64}")


def uuid_of(record: Mapping[str, Any]) -> str | None:
    """A call's id."""
    value = record.get("uuid")
    return value if isinstance(value, str) and _UUID.fullmatch(value) else None


def call_report(record: Mapping[str, Any], *, delivery_id: str | None, cut_short_below: int) -> Report | None:
    """What an event or a record says of a call; None where it names none, or a status that is not known.

    A *completed* that has neither a start nor a duration contradicts itself, and nothing is concluded from it.
    """
    uuid, status = uuid_of(record), plain(record.get("status"))
    if uuid is None or status not in STATES:
        return None
    state, reason = STATES[status]
    started_at, ended_at = moment(record.get("start_time")), moment(record.get("end_time"))
    talk = seconds(record.get("duration"))
    if state is DeliveryState.DELIVERED and started_at is None and not talk:
        state = DeliveryState.ACCEPTED
    if state is DeliveryState.ACCEPTED:
        return Report(delivery_id=delivery_id, reference=uuid, state=state)
    delivered = state is DeliveryState.DELIVERED
    sip = number(record.get("sip_code"))
    if delivered:
        reason = "voicemail_suspected" if talk is not None and talk < cut_short_below else None
    elif status == "failed":
        reason = SIP_REASONS.get(sip or 0, "failed")
    price = money(record.get("price"))
    return Report(
        delivery_id=delivery_id,
        reference=uuid,
        state=state,
        reason=reason,
        provider_code=str(sip) if sip and not delivered else status,
        talk_seconds=talk if delivered else None,
        answered_at=started_at if delivered else None,
        ended_at=ended_at,
        price=price,
        currency=None if price is None else CURRENCY,
    )


Ask = Callable[[str], HttpDialogue[Mapping[str, Any] | None]]


def search(ask: Ask, inquiry: Inquiry) -> HttpDialogue[Mapping[str, Any] | None]:
    """The one call to the recipient within 5 s before and 25 s after the sending; None: there is none.

    Vonage keeps no id of ours and lists by time only. Raises :class:`~otpvoice.errors.OutcomeUnknown` where several
    calls fit, or more than a page was made in that time: none of them is then taken for ours, and nothing rings
    again by itself.
    """
    if inquiry.recipient is None:
        raise _cannot_tell("the recipient is not known any more")
    window = {
        "date_start": _iso(inquiry.sent_at - BEFORE),
        "date_end": _iso(inquiry.sent_at + AFTER),
        "page_size": str(PAGE),
        "order": "asc",
    }
    answer = yield from ask(f"/v1/calls?{urlencode(window)}")
    embedded = (answer or {}).get("_embedded")
    calls = embedded.get("calls") if isinstance(embedded, dict) else None
    # An empty list says that the call was never placed: it must not be read out of anything else.
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise not_understood()
    ours = inquiry.recipient.address.removeprefix("+")
    fitting = [call for call in calls if plain(call.get("direction")) == "outbound" and ours in _called(call)]
    if len(fitting) > 1:
        raise _cannot_tell("several were made to this number at that time")
    if not fitting and (number((answer or {}).get("count")) or 0) > len(calls):
        raise _cannot_tell("more were made at that time than one page lists")
    return fitting[0] if fitting else None


def _called(call: Mapping[str, Any]) -> set[str]:
    to = call.get("to")
    ends = to if isinstance(to, list) else [to]
    return {plain(end.get("number")).removeprefix("+") for end in ends if isinstance(end, dict)}


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cannot_tell(words: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"{PROVIDER}: {words}", provider=PROVIDER)
