"""What the statuses of Vonage's SMS API mean.

Vendor pages: developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms, /en/api-errors/sms and
/en/messaging/sms/guides/delivery-receipts.
"""

from __future__ import annotations

from collections.abc import Mapping

from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    RecipientRejected,
)
from otpvoice.types import DeliveryState

SMS_STATUS: Mapping[int, tuple[type[DeliveryError], str]] = {
    1: (ProviderThrottled, "messages are sent faster than the account may"),
    2: (ProviderMisconfigured, "a parameter is missing"),
    3: (ProviderMisconfigured, "a parameter is wrong; check sender and status_callback"),
    4: (ProviderMisconfigured, "authentication failed; check api_key and api_secret"),
    # The vendor does not say that the message was not sent.
    5: (OutcomeUnknown, "the platform reports a fault; the message may have been sent"),
    # "For example an unrecognized number prefix": of this provider's, so another may know it.
    6: (DeliveryError, "the platform cannot process the message or its number"),
    7: (DeliveryError, "the number is barred"),
    8: (ProviderMisconfigured, "the account is suspended"),
    9: (NoBalance, "the balance is used up"),
    10: (ProviderThrottled, "too many connections at once"),
    11: (ProviderMisconfigured, "the account has no access to the SMS API"),
    12: (ContentRejected, "the text is too long"),
    14: (ProviderMisconfigured, "the signature is wrong"),
    15: (ProviderMisconfigured, "the sender may not be used here; check sender"),
    22: (ProviderMisconfigured, "the network code is wrong"),
    23: (ProviderMisconfigured, "status_callback is not a URL that it takes"),
    29: (ProviderMisconfigured, "a trial account writes to listed numbers only"),
    32: (ProviderMisconfigured, "the account wants requests that are signed in place of api_secret"),
    33: (RecipientRejected, "the number is de-activated"),
}
"""A part's ``status`` other than 0; the vendor's list has gaps. A ``DeliveryError`` of no class: the next step."""

RECEIPT_STATES: Mapping[str, DeliveryState] = {
    "delivered": DeliveryState.DELIVERED,
    **dict.fromkeys(("accepted", "buffered", "submitted"), DeliveryState.ACCEPTED),
    **dict.fromkeys(("expired", "failed", "rejected", "deleted", "undeliverable"), DeliveryState.FAILED),
    # Nothing is known, and so nothing is concluded.
    "unknown": DeliveryState.ACCEPTED,
}
"""A receipt's ``status``."""

ERR_REASONS: Mapping[int, str] = {
    **dict.fromkeys((1, 99), "failed"),
    **dict.fromkeys((2, 7, 12, 15), "unreachable"),
    3: "invalid_number",
    **dict.fromkeys((4, 6, 9, 13, 14, 50, 51, 53, 54), "blocked"),
    **dict.fromkeys((5, 8, 11), "carrier_failure"),
    **dict.fromkeys((10, 52), "content_rejected"),
}
"""A receipt's ``err-code`` in our words; any other goes by its status."""
