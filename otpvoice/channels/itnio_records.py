"""Asking ITNIO what became of a call: by its id, or by the id of ours that it echoes.

Vendor pages: itniotech.com/api/voice/recordGroup and /api/voice/recordGroupQuery. The list can be asked for by time
only, so it is searched page by page.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from otpvoice.channels.base import HttpDialogue, Inquiry
from otpvoice.channels.itnio_api import PROVIDER, Envelope, ItnioAPI
from otpvoice.channels.itnio_reports import echoed
from otpvoice.channels.itnio_status import BAD_PARAMETER, NOT_FOUND, QUERY_STATUS
from otpvoice.channels.vendor_fields import VENDOR_ZONE, identifier, number, plain, stripped
from otpvoice.errors import OutcomeUnknown, ProviderUnavailable

log = logging.getLogger("otpvoice.channels.itnio")

PAGE = 100
"""Records a page: the most that the provider gives."""
MOST_PAGES = 50
MARGIN = timedelta(minutes=2)
"""By how much the window is wider than it need be, and how far clocks may differ unnoticed."""


def record_of(api: ItnioAPI, voice_id: str) -> HttpDialogue[Mapping[str, Any] | None]:
    """A call's record; None where there is none, or not yet: -24, -22 and a success without data all say so."""
    path = f"/voice/recordGroup/{quote(voice_id, safe='')}"
    envelope = yield from api.ask("GET", path, statuses=QUERY_STATUS, answers=(0, NOT_FOUND, BAD_PARAMETER))
    if envelope.status != 0 or envelope.data is None:
        return None
    if not isinstance(envelope.data, dict):
        raise _not_understood()
    record = stripped(envelope.data)
    if identifier(record.get("voiceId", voice_id)) != voice_id:
        log.warning("itnio: asked for one call's record, and was given another's")
        return None
    return record


def is_of(record: Mapping[str, Any], inquiry: Inquiry, *, by_echo: bool) -> bool:
    """Whether a record is of this delivery: it echoes its id exactly, and called its recipient.

    A record that was asked for by the call's id may lack both; one that was found by the echo may not.
    """
    echo = echoed(record)
    if echo != inquiry.delivery_id and (by_echo or plain(record.get("calledInfo"))):
        return False
    callee = plain(record.get("callee"))
    if inquiry.recipient is None or (not callee and not by_echo):
        return True
    if callee.lstrip("+0") == inquiry.recipient.address.removeprefix("+"):
        return True
    log.warning("itnio: a record echoes the id of a delivery and names another number")
    return False


@dataclass(slots=True)
class _Window:
    """The time in which the call must have been submitted, by the provider's clock."""

    start: datetime
    end: datetime

    def shifted(self, by: timedelta) -> _Window:
        return _Window(self.start + by, self.end + by)


def search(api: ItnioAPI, inquiry: Inquiry, *, within: timedelta) -> HttpDialogue[Mapping[str, Any] | None]:
    """The record that echoes the delivery's id, among those of ``within`` after the sending; None: there is none.

    The window follows the provider's clock where its answers tell it. Raises
    :class:`~otpvoice.errors.ProviderUnavailable` when there are more records than can be searched: whether the call
    was placed is then not known.
    """
    window = _Window(inquiry.sent_at - MARGIN, min(inquiry.now, inquiry.sent_at + within) + MARGIN)
    first = yield from _page(api, window, 1)
    theirs = api.their_time(first)
    if theirs is not None and abs(theirs - inquiry.now) > MARGIN / 2:
        window = window.shifted(theirs - inquiry.now)
        first = yield from _page(api, window, 1)
    envelope, seen, last = first, 0, None
    for page in range(1, MOST_PAGES + 1):
        if page > 1:
            envelope = yield from _page(api, window, page)
        records = _records(envelope)
        if not records or records == last:
            return None
        for record in records:
            if is_of(record, inquiry, by_echo=True):
                return record
        seen, last = seen + len(records), records
        if _is_last(envelope, page, seen):
            return None
    raise ProviderUnavailable(f"{PROVIDER}: too many records to find one among them", provider=PROVIDER)


def _page(api: ItnioAPI, window: _Window, page: int) -> HttpDialogue[Envelope]:
    payload = {
        "current": page,
        "size": PAGE,
        # The vendor's spelling: strTime, where one expects startTime.
        "params": {"strTime": _iso(window.start), "endTime": _iso(window.end)},
    }
    # -22 is an answer to an unknown id, but here it says that the question was wrong.
    return (
        yield from api.ask("POST", "/voice/recordGroupQuery", payload, statuses=QUERY_STATUS, answers=(0, NOT_FOUND))
    )


def _iso(at: datetime) -> str:
    return at.astimezone(VENDOR_ZONE).isoformat(timespec="seconds")


def _records(envelope: Envelope) -> Sequence[Mapping[str, Any]]:
    data = envelope.data
    if envelope.status == NOT_FOUND or data is None:
        return ()
    records = data.get("records") if isinstance(data, dict) else data
    if records is None and number(data.get("total")) == 0:
        return ()
    # An empty list says that the call was never placed: it must not be read out of anything else.
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise _not_understood()
    return [stripped(record) for record in records]


def _is_last(envelope: Envelope, page: int, seen: int) -> bool:
    """By what the answer counts. Where it counts nothing, an empty page ends the list: the size may be capped."""
    data = envelope.data
    if not isinstance(data, dict):
        return False
    pages, total = number(data.get("pages")), number(data.get("total"))
    if pages:  # 0 beside records: it was told not to count.
        return page >= pages
    return bool(total) and seen >= (total or 0)


def _not_understood() -> OutcomeUnknown:
    return OutcomeUnknown(f"{PROVIDER}: the record's form is not known", provider=PROVIDER, code="0")
