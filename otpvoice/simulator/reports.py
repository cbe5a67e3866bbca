"""How the vendor writes a call or a message down: records, report queries and pushed reports."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal

from otpvoice.simulator.backend import SIP_CODES, VENDOR_ZONE, Account
from otpvoice.simulator.checks import Problem
from otpvoice.simulator.records import MessageOutcome, Outcome, SimulatedCall, SimulatedMessage

Terminations = Literal["new", "old"]
"""``new``: terminationCode is the SIP code, ``"200"`` is success. ``old``: ``"0"`` is success, and no sipCode."""
Shape = Literal["object", "list", "array"]
Oddity = Literal["spaced-key", "single-quotes", "string-numbers", "zero-times", "missing-times", "no-sip-code"]


def iso(at: datetime | None) -> str | None:
    """A time as records have it: ISO 8601 with the vendor's offset."""
    return None if at is None else at.astimezone(VENDOR_ZONE).isoformat(timespec="seconds")


def milliseconds(at: datetime | None) -> int | None:
    """A time as pushes have it: epoch milliseconds."""
    return None if at is None else round(at.timestamp() * 1000)


def parse_time(value: object, name: str) -> datetime:
    """A request's time: ISO 8601 with an offset. Raises :class:`Problem` -22."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Problem(-22, f"{name} is not ISO 8601 with an offset")
    return at


def _common(call: SimulatedCall, account: Account, terminations: Terminations) -> dict[str, Any]:
    sip = call.sip_code
    return {
        "voiceId": call.voice_id,
        "callee": call.callee,
        "displayNum": call.display_num or "",
        "callDuration": call.timeline.talk_seconds,
        "chargedDuration": call.charged_seconds,
        "billPeriod": f"{account.bill_seconds}+{account.bill_seconds}",
        "code": "Simulation(Any)",
        "voiceFileId": "",
        "rate": f"{call.rate}",
        "baseCost": "0.000",
        "cost": f"{call.cost}",
        "terminationCode": ("0" if sip == 200 else str(sip)) if terminations == "old" else str(sip),
        "terminationReason": "success" if sip == 200 else call.outcome.value,
        "feedbackValue": "-1",
        "calledInfo": call.called_info,
        "currency": account.currency,
    }


def _stages(call: SimulatedCall) -> dict[str, datetime | None]:
    line = call.timeline
    return {
        "submitTime": line.submitted,
        "callTime": line.called,
        "ringingTime": line.rang,
        "answerTime": line.answered,
        "hangupTime": line.hung_up,
    }


def record(call: SimulatedCall, account: Account, terminations: Terminations = "new") -> dict[str, Any]:
    """What ``recordGroup`` says of a call: times as ISO 8601, no sipCode, no type."""
    return _common(call, account, terminations) | {name: iso(at) for name, at in _stages(call).items()}


def voice_report(
    call: SimulatedCall,
    account: Account,
    *,
    terminations: Terminations = "new",
    oddities: Collection[Oddity] = (),
    outcome: Outcome | None = None,
) -> dict[str, Any]:
    """What is pushed about a call: times as epoch milliseconds. ``outcome`` makes it contradict the record."""
    times: dict[str, Any] = {name: milliseconds(at) for name, at in _stages(call).items()}
    report = _common(call, account, terminations) | {"type": 2} | times
    if terminations == "new":
        report |= {
            "sipCode": str(call.sip_code),
            "ringDuration": call.timeline.ring_seconds,
            "outRecallCount": call.recalls,
        }
    if outcome is not None:
        sip = str(SIP_CODES[outcome])
        report["terminationCode"] = "0" if terminations == "old" and sip == "200" else sip
        report["terminationReason"] = "success" if sip == "200" else outcome.value
        if terminations == "new":
            report["sipCode"] = sip
        if not outcome.answered:
            report |= {"answerTime": None, "callDuration": 0, "chargedDuration": 0}
        elif report["answerTime"] is None:
            report |= {"answerTime": report["hangupTime"], "callDuration": 1}
    return _odd(report, oddities)


def sms_report(
    message: SimulatedMessage,
    account: Account,
    at: datetime,
    *,
    oddities: Collection[Oddity] = (),
    outcome: MessageOutcome | None = None,
) -> dict[str, Any]:
    """What is pushed about a message; the id's key is ``msgid`` here."""
    delivered = (outcome or message.outcome) is MessageOutcome.DELIVERED
    report = {
        "appId": message.app_id,
        "msgid": message.msg_id,
        "mobile": message.number,
        "status": 0 if delivered else 1,
        "reason": "0" if delivered else "UNDELIV",
        "timestamp": milliseconds(at),
        "mcc": "-1",
        "mnc": "-1",
        "pricedetail": {
            "pay": f"{message.cost}",
            "chargeCnt": message.segments,
            "currency": account.currency,
            "price": f"{message.price}",
        },
    }
    if message.order_id is not None:
        report["orderId"] = message.order_id
    return _odd(report, oddities)


def _odd(report: dict[str, Any], oddities: Collection[Oddity]) -> dict[str, Any]:
    if "no-sip-code" in oddities:
        report.pop("sipCode", None)
    for name in [name for name, value in report.items() if value is None]:
        if "zero-times" in oddities:
            report[name] = 0
        elif "missing-times" in oddities:
            del report[name]
    if "string-numbers" in oddities:
        report = {name: str(value) if isinstance(value, int) else value for name, value in report.items()}
    if "spaced-key" in oddities:
        # As in one of the vendor's samples: a key with a space behind it.
        report = {f"{name} " if name in {"terminationReason", "reason"} else name: v for name, v in report.items()}
    return report


def body(reports: Sequence[dict[str, Any]], shape: Shape, oddities: Collection[Oddity] = ()) -> str:
    """The body of one push: a single object (of the first report), a bare list, or a list under ``array``."""
    content: object = {"array": list(reports)} if shape == "array" else list(reports)
    if shape == "object":
        content = reports[0]
    text = json.dumps(content, ensure_ascii=False)
    # As in one of the vendor's samples: not JSON at all.
    return text.replace('"', "'") if "single-quotes" in oddities else text
