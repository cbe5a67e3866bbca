"""What Twilio says became of a call or message: callbacks, fetched resources, and a search by recipient and time.

Vendor pages: twilio.com/docs/voice/api/call-resource (``StatusCallback``, list of calls),
/docs/messaging/guides/track-outbound-message-status and /docs/messaging/api/message-resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from otpvoice.channels.base import HttpDialogue, Inquiry, Report
from otpvoice.channels.http_errors import http_date
from otpvoice.channels.sip import SIP_REASONS
from otpvoice.channels.twilio_api import PROVIDER, TwilioAPI, is_sid
from otpvoice.channels.twilio_status import CALL_STATES, MESSAGE_REASONS, MESSAGE_STATES
from otpvoice.channels.vendor_fields import currency, money, number, plain, seconds
from otpvoice.errors import OutcomeUnknown
from otpvoice.types import DeliveryState

PAGE = 50
BEFORE = timedelta(seconds=5)
"""By how much Twilio's clock, which tells whole seconds, may differ unnoticed."""
AFTER = timedelta(seconds=25)
"""A request that arrives has arrived after connecting and writing, and its call is made at once. Shorter than the
cooldown of a policy, so that the next delivery to the same person is not taken for this one."""


def pushed_call(fields: Mapping[str, str], *, delivery_id: str | None, cut_short_below: int) -> Report | None:
    """What a status callback says of a call; None where it names none, or a status that is not known."""
    return _call(
        sid=fields.get("CallSid"),
        status=fields.get("CallStatus"),
        duration=fields.get("CallDuration"),
        ended=fields.get("Timestamp"),
        answered_by=fields.get("AnsweredBy"),
        sip=fields.get("SipResponseCode"),
        delivery_id=delivery_id,
        cut_short_below=cut_short_below,
    )


def fetched_call(record: Mapping[str, Any], *, delivery_id: str, cut_short_below: int) -> Report | None:
    """What a Call resource says."""
    return _call(
        sid=record.get("sid"),
        status=record.get("status"),
        duration=record.get("duration"),
        ended=record.get("end_time"),
        answered_by=record.get("answered_by"),
        price=record.get("price"),
        paid_in=record.get("price_unit"),
        delivery_id=delivery_id,
        cut_short_below=cut_short_below,
    )


def _call(
    *,
    sid: object,
    status: object,
    duration: object,
    ended: object,
    answered_by: object,
    delivery_id: str | None,
    cut_short_below: int,
    sip: object = None,
    price: object = None,
    paid_in: object = None,
) -> Report | None:
    if not is_sid(sid) or not isinstance(sid, str) or plain(status) not in CALL_STATES:
        return None
    state, reason = CALL_STATES[plain(status)]
    if state is DeliveryState.ACCEPTED:
        return Report(delivery_id=delivery_id, reference=sid, state=state)
    ended_at = http_date(plain(ended))
    talk = seconds(duration) if state is DeliveryState.DELIVERED else None
    sip_code = number(sip)
    if state is DeliveryState.DELIVERED:
        machine = plain(answered_by).startswith(("machine", "fax"))
        reason = "voicemail_suspected" if machine or (talk is not None and talk < cut_short_below) else None
    elif plain(status) == "failed" or SIP_REASONS.get(sip_code or 0) == "rejected":
        reason = SIP_REASONS.get(sip_code or 0, "failed")
    paid = spent(price)
    return Report(
        delivery_id=delivery_id,
        reference=sid,
        state=state,
        reason=reason,
        provider_code=str(sip_code) if sip_code and state is DeliveryState.FAILED else plain(status),
        talk_seconds=talk,
        answered_at=None if ended_at is None or talk is None else ended_at - timedelta(seconds=talk),
        ended_at=ended_at,
        price=paid,
        currency=None if paid is None else currency(paid_in),
    )


def pushed_message(fields: Mapping[str, str], *, delivery_id: str | None) -> Report | None:
    """What a status callback says of a text message; None where it names none, or a status that is not known."""
    return _message(
        sid=fields.get("MessageSid"),
        status=fields.get("MessageStatus"),
        error=fields.get("ErrorCode"),
        delivery_id=delivery_id,
    )


def fetched_message(record: Mapping[str, Any], *, delivery_id: str) -> Report | None:
    """What a Message resource says."""
    return _message(
        sid=record.get("sid"),
        status=record.get("status"),
        error=record.get("error_code"),
        price=record.get("price"),
        paid_in=record.get("price_unit"),
        delivery_id=delivery_id,
    )


def _message(
    *,
    sid: object,
    status: object,
    error: object,
    delivery_id: str | None,
    price: object = None,
    paid_in: object = None,
) -> Report | None:
    state = MESSAGE_STATES.get(plain(status))
    if state is None or not is_sid(sid) or not isinstance(sid, str):
        return None
    code = number(error)
    failed = state is DeliveryState.FAILED
    paid = spent(price)
    return Report(
        delivery_id=delivery_id,
        reference=sid,
        state=state,
        reason=MESSAGE_REASONS.get(code or 0, "failed") if failed else None,
        provider_code=str(code) if failed and code else plain(status),
        price=paid,
        currency=None if paid is None else currency(paid_in),
    )


def spent(value: object) -> Decimal | None:
    """An amount that Twilio writes as what it takes off the account: ``-0.0075``."""
    return money(plain(value).removeprefix("-"))


def search(
    api: TwilioAPI, resource: str, inquiry: Inquiry, *, sender: str | None
) -> HttpDialogue[Mapping[str, Any] | None]:
    """The one call or message that we made to the recipient about the time of the sending; None: there is none.

    Twilio keeps no id of ours, so recipient, sender and time must do: ``date_created`` within 5 s before and 25 s
    after the sending, by Twilio's clock. Raises :class:`~otpvoice.errors.OutcomeUnknown` where several fit, or more
    than a page were made since: none of them is then taken for ours, and nothing rings again by itself.
    """
    if inquiry.recipient is None:
        raise _cannot_tell("the recipient is not known any more")
    query = {"To": _e164(inquiry.recipient.address), "PageSize": str(PAGE)}
    if sender is not None:
        query["From"] = sender
    records, theirs = yield from api.listed(resource, query)
    skew = timedelta(0) if theirs is None else theirs - inquiry.now
    skew = skew if abs(skew) > BEFORE / 2 else timedelta(0)  # Less is the way there and back.
    start, end = inquiry.sent_at + skew - BEFORE, inquiry.sent_at + skew + AFTER
    times = [http_date(plain(record.get("date_created"))) for record in records]
    fitting = [
        record
        for record, at in zip(records, times, strict=True)
        if _is_ours(record, query["To"]) and (at is None or start <= at <= end)
    ]
    if len(fitting) > 1:
        raise _cannot_tell("several were made to this number at that time")
    if not fitting and len(records) >= PAGE and not any(at is not None and at < start for at in times):
        raise _cannot_tell("more were made to this number since than one page lists")
    return fitting[0] if fitting else None


def _is_ours(record: Mapping[str, Any], to: str) -> bool:
    return plain(record.get("direction")) == "outbound-api" and plain(record.get("to")) == to


def _e164(address: str) -> str:
    return "+" + address.removeprefix("+")


def _cannot_tell(words: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"{PROVIDER}: {words}", provider=PROVIDER)
