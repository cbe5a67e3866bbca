"""``/v2/Attempts``: the deliveries of the account's verifications, for as long as they are kept (a day after)."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from otpvoice.http.twilio import forms, pages, sids
from otpvoice.http.twilio.errors import invalid, missing
from otpvoice.http.twilio.front import Account, Desk, Route, parse_recipient, require, timestamp
from otpvoice.http.twilio.views import CHANNELS, NAMES
from otpvoice.store import twilio
from otpvoice.store.twilio import AttemptFilter, AttemptRow
from otpvoice.types import ChallengeState, DeliveryState, Medium

router = APIRouter(prefix="/v2/Attempts", route_class=Route, include_in_schema=False)

_reader = require("read", "admin")
_SEALED = ("Country", "DestinationPrefix")
"""What cannot be searched by: numbers are sealed, and so are their countries."""
_MESSAGE = {
    DeliveryState.QUEUED: "queued",
    DeliveryState.SENDING: "sending",
    DeliveryState.ACCEPTED: "sent",
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.FAILED: "undelivered",
    DeliveryState.UNKNOWN: "sent",
}
_CALL = {
    DeliveryState.QUEUED: "queued",
    DeliveryState.SENDING: "initiated",
    DeliveryState.ACCEPTED: "ringing",
    DeliveryState.DELIVERED: "completed",
    DeliveryState.FAILED: "failed",
    DeliveryState.UNKNOWN: "initiated",
}
_CALL_FAILURES = {"busy": "busy", "no_answer": "no-answer", "rejected": "busy"}


@router.get("")
async def every(request: Request) -> Response:
    """Attempts, newest first."""
    account = await _reader(request)
    page = pages.asked(request)
    desk = await account.plain()
    chosen = _filter(request, desk)
    rows = await _rows(desk, chosen, offset=page.offset, most=page.most)
    return pages.answer(request, account, "attempts", page, [_members(account, row) for row in rows])


@router.get("/Summary")
async def summary(request: Request) -> Response:
    """How many attempts there were, and of how many the verification was completed."""
    account = await _reader(request)
    desk = await account.plain()
    chosen = _filter(request, desk)
    tenant = desk.context.tenant
    total, converted = await desk.transact(lambda connection, _now: twilio.count_attempts(connection, tenant, chosen))
    return JSONResponse(
        {
            "total_attempts": total,
            "total_converted": converted,
            "total_unconverted": total - converted,
            "conversion_rate_percentage": f"{100 * converted / total if total else 0:.2f}",
            "url": f"{account.base_url}/v2/Attempts/Summary",
        }
    )


@router.get("/{sid}")
async def fetch(request: Request) -> Response:
    """One attempt."""
    account = await _reader(request)
    desk = await account.plain()
    delivery_id = sids.ours("VL", request.path_params["sid"])
    rows = [] if delivery_id is None else await _rows(desk, AttemptFilter(delivery_id=delivery_id), offset=0, most=1)
    if not rows:
        raise missing(account.path)
    return JSONResponse(_members(account, rows[0]))


async def _rows(desk: Desk, chosen: AttemptFilter, *, offset: int, most: int) -> list[AttemptRow]:
    work = partial(twilio.attempts, tenant=desk.context.tenant, chosen=chosen, offset=offset, most=most)
    return list(await desk.transact(lambda connection, _now: work(connection)))


def _filter(request: Request, desk: Desk) -> AttemptFilter:
    query = forms.query(request)
    for name in _SEALED:
        if query.text(name) is not None:
            raise invalid(name, "numbers are sealed; filter by ChannelData.To")
    wanted = query.recipient("ChannelData.To")
    medium = _medium(query.text("Channel"))
    service_sid = query.text("VerifyServiceSid")
    if service_sid is not None and not sids.is_sid("VA", service_sid):
        raise invalid("VerifyServiceSid")
    verification_sid = query.text("VerificationSid")
    challenge_id = None if verification_sid is None else sids.ours("VE", verification_sid)
    if verification_sid is not None and challenge_id is None:
        raise invalid("VerificationSid")
    status = query.text("Status")
    if status not in {None, "converted", "unconverted"}:
        raise invalid("Status")
    return AttemptFilter(
        after=query.time("DateCreatedAfter"),
        before=query.time("DateCreatedBefore"),
        recipient_keys=None if wanted is None else desk.keys(parse_recipient(wanted, "ChannelData.To")),
        medium=medium,
        service_sid=service_sid,
        challenge_id=challenge_id,
        converted=None if status is None else status == "converted",
    )


def _medium(channel: str | None) -> Medium | None:
    if channel is None:
        return None
    medium = CHANNELS.get(channel.lower())
    if medium is None:
        raise invalid("Channel")
    return medium


def _members(account: Account, row: AttemptRow) -> dict[str, Any]:
    sid = sids.of("VL", row.id)
    verification = sids.of("VE", row.challenge_id)
    over = row.challenge_state is not ChallengeState.PENDING
    return {
        "sid": sid,
        "account_sid": account.sid,
        "service_sid": row.service_sid,
        "verification_sid": verification,
        "date_created": timestamp(row.created_at),
        "date_updated": timestamp(row.reported_at or row.settled_at or row.created_at),
        "conversion_status": "converted" if row.converted else "unconverted",
        "channel": NAMES.get(row.medium, "sms"),
        "price": {"value": row.price, "currency": None if row.currency is None else row.currency.lower()},
        "channel_data": {
            "verification_sid": verification,
            # Masked: a list is read by people and copied into reports.
            "to": row.hint,
            "status": "confirmed" if row.converted else "expired" if over else "unconfirmed",
            "message_status": _delivery_status(row),
            "error_code": row.provider_code,
            "country": None,
            "code_length": row.code_length,
            "locale": None,
            "mcc": None,
            "mnc": None,
            "carrier": None,
        },
        "url": f"{account.base_url}/v2/Attempts/{sid}",
    }


def _delivery_status(row: AttemptRow) -> str:
    if row.medium is not Medium.VOICE:
        return _MESSAGE[row.state]
    if row.state is DeliveryState.FAILED:
        return _CALL_FAILURES.get(row.reason or "", "failed")
    return _CALL[row.state]
