"""What ITNIO says became of a call or a text message: pushed reports and queried records, old and new.

Vendor pages: itniotech.com/api/voice/pushVoiceReport, /api/voice/pushVoiceReportBatch, /api/voice/recordGroup,
/api/sms/pushSmsReport and /api/sms/getReport. Their generations write the same things differently, and the pages
contradict each other: everything is read as tolerantly as it can be read without guessing.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

from otpvoice.channels.base import Report, ReportRejected, ReportRequest
from otpvoice.channels.rules import Network
from otpvoice.channels.sip import SIP_REASONS
from otpvoice.channels.vendor_fields import (
    between,
    currency,
    identifier,
    moment,
    money,
    number,
    plain,
    seconds,
    stripped,
)
from otpvoice.types import DeliveryState

log = logging.getLogger("otpvoice.channels.itnio")

LONGEST_PUSH = 1 << 20
"""Bytes of a push that are read."""
MOST_REPORTS = 1000
"""Reports of a push that are read: each costs a transaction."""

ESTABLISHED = 200
SUBMITTED = 0
"""``terminationCode`` of an answered call in the older generation."""

UNREACHABLE_IF_SILENT = frozenset({408, 480})
"""Switched off or out of reach where it certainly never rang: networks give both for either (RFC 3398, 7.2.4.1)."""

_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{1,31}")


def check_sender(request: ReportRequest, networks: Sequence[Network]) -> None:
    """Refuse a push from an address that is not on the list; an empty list lets everybody in."""
    if not networks:
        return
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        raise ReportRejected("the report's sender has no address", authentic=False) from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # A socket for both families writes ::ffff:192.0.2.1.
    if not any(address in network for network in networks):
        raise ReportRejected("the report's sender is not on the list report_ips", authentic=False)


def read_push(body: bytes) -> list[dict[str, Any]]:
    """The reports in a push: one object, a list, or a list under ``array``; the vendor's pages show all three.

    Raises :class:`~otpvoice.channels.base.ReportRejected` for what is too long or not JSON, and for lists of something
    else. Numbers with a point stay text, so that nothing is rounded.
    """
    if len(body) > LONGEST_PUSH:
        raise ReportRejected(f"the report is longer than {LONGEST_PUSH} bytes")
    try:
        said = json.loads(body, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # One of the vendor's samples has single quotes. Guessing what a broken report means is worse than asking.
        raise ReportRejected("the report is not JSON") from None
    if isinstance(said, dict):
        wrapped = stripped(said).get("array")
        said = wrapped if isinstance(wrapped, list) else [said]
    if not isinstance(said, list) or not all(isinstance(item, dict) for item in said):
        raise ReportRejected("the report is neither an object nor a list of objects")
    if len(said) > MOST_REPORTS:
        raise ReportRejected(f"the push holds more than {MOST_REPORTS} reports")
    return [stripped(item) for item in said]


def _no_constant(name: str) -> Never:
    raise ValueError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How a call ended, as far as its codes say. ``answered`` None: they say nothing."""

    answered: bool | None
    sip: int | None = None
    raw: str | None = None


def _ending(record: Mapping[str, Any]) -> _Ending:
    """By ``sipCode`` first, which only the newer generation has; ``terminationCode`` means two things by itself."""
    sip = number(record.get("sipCode"))
    if sip is not None and sip >= 100:
        return _Ending(answered=sip == ESTABLISHED, sip=sip, raw=str(sip))
    termination = number(record.get("terminationCode"))
    if termination is None:
        return _Ending(answered=None)
    return _Ending(answered=termination in {SUBMITTED, ESTABLISHED}, sip=termination, raw=str(termination))


def call_report(record: Mapping[str, Any], *, cut_short_below: int) -> Report | None:
    """What a push or a record says of a call; None where it names none.

    An answered call of fewer than ``cut_short_below`` seconds is ``voicemail_suspected``: a machine answered, or a
    person hung up, before the code was said once. An *answered* that has neither an answer's time nor a duration
    contradicts itself, and nothing is concluded from it: ``ACCEPTED``, as for a call that has not ended.
    """
    delivery_id, reference = echoed(record), identifier(record.get("voiceId"))
    if delivery_id is None and reference is None:
        return None
    ending = _ending(record)
    answered_at, ended_at = moment(record.get("answerTime")), moment(record.get("hangupTime"))
    talk = seconds(record.get("callDuration"))
    if ending.answered and answered_at is None and not talk:
        log.warning("itnio: a call is reported as answered, without an answer's time or a duration")
        ending = _Ending(answered=None)
    if ending.answered is None:
        return Report(delivery_id=delivery_id, reference=reference, state=DeliveryState.ACCEPTED)
    rang_at = moment(record.get("ringingTime"))
    ring = seconds(record.get("ringDuration")) or between(rang_at, answered_at or ended_at)
    price = money(record.get("cost"))
    paid_in = currency(record.get("currency"))
    if price is None and (price := money(record.get("costEur"))) is not None:
        paid_in = "EUR"
    if ending.answered:
        talk = between(answered_at, ended_at) if talk is None else talk
        reason = "voicemail_suspected" if talk is not None and talk < cut_short_below else None
    else:
        reason = _reason(record, ending.sip)
    return Report(
        delivery_id=delivery_id,
        reference=reference,
        state=DeliveryState.DELIVERED if ending.answered else DeliveryState.FAILED,
        reason=reason,
        provider_code=ending.raw,
        ring_seconds=ring or None,
        talk_seconds=talk if ending.answered else None,
        answered_at=answered_at if ending.answered else None,
        ended_at=ended_at,
        price=price,
        currency=paid_in,
    )


def echoed(record: Mapping[str, Any]) -> str | None:
    """The id of ours in ``calledInfo``, which is to come back exactly as it was sent."""
    value = record.get("calledInfo")
    return value if isinstance(value, str) and reference_like(value) else None


def reference_like(text: str) -> bool:
    """Whether a text can be an id: one printable word of up to 200 characters."""
    return identifier(text) == text and " " not in text


def _reason(record: Mapping[str, Any], sip: int | None) -> str:
    if sip in UNREACHABLE_IF_SILENT and _never_rang(record):
        return "unreachable"
    return SIP_REASONS.get(sip or 0, "failed")


def _never_rang(record: Mapping[str, Any]) -> bool:
    """Whether it says that it did not ring, rather than nothing of it."""
    if (ring := seconds(record.get("ringDuration"))) is not None:
        return ring == 0
    return "ringingTime" in record and moment(record["ringingTime"]) is None


def pushed_message(item: Mapping[str, Any]) -> Report | None:
    """What a push says of a text message; None where it names none, or says nothing of it. Only status 0 is success.

    The message's own words for a failure (``UNDELIV``) are kept as the code where they are a word.
    """
    reference = identifier(item.get("msgid", item.get("msgId")))
    order = item.get("orderId")
    delivery_id = order if isinstance(order, str) and reference_like(order) else None
    status = number(item.get("status"))
    if status is None or (delivery_id is None and reference is None):
        return None
    paid = item.get("pricedetail")
    paid = stripped(paid) if isinstance(paid, dict) else {}
    words = plain(item.get("reason"))
    return Report(
        delivery_id=delivery_id,
        reference=reference,
        state=DeliveryState.FAILED if status else DeliveryState.DELIVERED,
        reason="failed" if status else None,
        provider_code=words if status and _WORD.fullmatch(words) else str(status),
        price=money(paid.get("pay")),
        currency=currency(paid.get("currency")),
    )


QUERY_UNDER_WAY = -1


def queried_message(item: Mapping[str, Any], *, delivery_id: str | None) -> Report | None:
    """What ``getReport`` says of a message: 0 is sent, -1 under way, anything else failed; None for no status."""
    status = number(item.get("status"))
    if status is None:
        return None
    states = {0: DeliveryState.DELIVERED, QUERY_UNDER_WAY: DeliveryState.ACCEPTED}
    state = states.get(status, DeliveryState.FAILED)
    return Report(
        delivery_id=delivery_id,
        reference=identifier(item.get("msgId", item.get("msgid"))),
        state=state,
        reason="failed" if state is DeliveryState.FAILED else None,
        provider_code=str(status),
    )
