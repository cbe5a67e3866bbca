"""What Twilio's error codes and statuses mean.

Vendor pages: twilio.com/docs/api/errors, /docs/voice/api/call-resource and /docs/messaging/api/message-resource. The
vendor adds codes and splits old ones: a refusal with a code that is not listed goes by its HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    ProviderMisconfigured,
    ProviderThrottled,
    RecipientRejected,
)
from otpvoice.types import DeliveryState

Meaning: TypeAlias = tuple[type[DeliveryError], str]


def _meanings(error: type[DeliveryError], words: Mapping[int, str]) -> dict[int, Meaning]:
    return {code: (error, text) for code, text in words.items()}


ERRORS: Mapping[int, Meaning] = {
    **_meanings(
        ProviderMisconfigured,
        {
            # The account.
            10001: "the account is not active",
            10002: "trial accounts cannot do this",
            20003: "authentication failed; check account_sid and auth_token (or api_key and api_secret)",
            20005: "the account is not active",
            20006: "access is denied; check the rights of api_key",
            20008: "test credentials cannot do this",
            20403: "the request is forbidden; check the rights of api_key",
            20404: "there is no such resource; check account_sid and base_url",
            21219: "a trial account calls verified numbers only",
            21608: "a trial account writes to verified numbers only",
            # Countries that the account may not reach: another provider may.
            13227: "calls to this country are not enabled; see the console's voice geo permissions",
            21203: "international calls are not enabled",
            21215: "calls to this country are not enabled; see the console's voice geo permissions",
            21408: "messages to this country are not enabled; see the console's messaging geo permissions",
            # Who calls, or writes.
            13247: "the caller id is not valid; check from_number",
            21210: "from_number is not verified",
            21212: "the sender is not valid; check from_number or sender",
            21213: "the sender is missing",
            21603: "the sender is missing",
            21606: "the sender cannot write text messages to this number",
            21659: "the sender is not a number of Twilio's",
            21660: "the sender is of another account",
            21661: "the sender cannot write text messages",
            21703: "the messaging service has no sender",
            21704: "the messaging service has no sender for this country",
            21705: "the messaging service does not exist; check messaging_service_sid",
            # Parameters.
            13510: "the number of repeats is not valid",
            13511: "the voice is not known; check languages",
            13512: "the language is not known; check languages",
            20001: "a parameter is not known",
            21201: "the number is missing",
            21205: "a URL is not valid",
            21208: "max_ringing_time is not valid",
            21218: "the application does not exist",
            21604: "the number is missing",
            21609: "status_callback is not valid",
        },
    ),
    **_meanings(
        ProviderThrottled,
        {
            10004: "too many calls at once",
            14107: "too many messages at once",
            20429: "asked too often",
            21611: "too many messages wait for this sender",
        },
    ),
    **_meanings(
        RecipientRejected,
        {
            13223: "the number has not the form of one",
            13226: "there is no such country code",
            21211: "the number is not one",
            21217: "the number is not one",
            21421: "the number is not one",
        },
    ),
    # Not by this way: another provider or medium may do better, so the route goes on.
    **_meanings(
        DeliveryError,
        {
            13224: "this number cannot be called, or does not exist",
            13225: "calls to this number are blocked",
            21202: "premium numbers are not called",
            21214: "this number cannot be reached",
            21216: "calls to this number are blocked",
            21610: "the recipient has unsubscribed from this sender",
            21612: "this sender cannot reach this number",
            21614: "the number takes no text messages",
            21635: "the number is a landline",
        },
    ),
    **_meanings(
        ContentRejected,
        {
            13520: "the text cannot be spoken",
            21602: "the text is empty",
            21605: "the text is too long",
            21617: "the text is longer than 1600 characters",
            21618: "the text cannot be processed",
            21619: "the text is empty",
            30038: "the text was taken for a one-time code that the sender may not write",
        },
    ),
}
"""Documented codes of a refusal, and what may follow."""

CALL_STATES: Mapping[str, tuple[DeliveryState, str | None]] = {
    **dict.fromkeys(("queued", "initiated", "ringing", "in-progress"), (DeliveryState.ACCEPTED, None)),
    "completed": (DeliveryState.DELIVERED, None),
    "busy": (DeliveryState.FAILED, "busy"),
    "no-answer": (DeliveryState.FAILED, "no_answer"),
    "failed": (DeliveryState.FAILED, "failed"),
    "canceled": (DeliveryState.FAILED, "failed"),
}
"""A call's status. Each final one says what became of it; ``failed`` is told apart by its SIP code."""

MESSAGE_STATES: Mapping[str, DeliveryState] = {
    # Handed to the carrier, which may never say more: accepted, not delivered.
    **dict.fromkeys(
        ("accepted", "scheduled", "queued", "sending", "sent", "partially_delivered"), DeliveryState.ACCEPTED
    ),
    **dict.fromkeys(("delivered", "read"), DeliveryState.DELIVERED),
    **dict.fromkeys(("undelivered", "failed", "canceled"), DeliveryState.FAILED),
}
"""A text message's status."""

MESSAGE_REASONS: Mapping[int, str] = {
    **dict.fromkeys((21211, 21217, 21421), "invalid_number"),
    # 30005 is "unknown and may no longer exist": too little to keep the route from trying a call.
    **dict.fromkeys((21612, 21614, 21635, 30003, 30005, 30006), "unreachable"),
    **dict.fromkeys((21610, 30004, 30007, 30032, 30033, 30034, 30450, 30453), "blocked"),
    **dict.fromkeys((30017, 30018, 30022, 30023, 30024, 30410), "carrier_failure"),
    **dict.fromkeys((30019, 30038), "content_rejected"),
    30036: "expired",
    **dict.fromkeys((30001, 30002, 30008, 30009, 30010, 30035, 30039), "failed"),
}
"""``ErrorCode`` of a message that was not delivered; any other is ``failed``."""
