"""What ITNIO's status codes mean, one table per product.

Vendor pages: itniotech.com/api/voice/sendCode, /api/sms/statusCode, /api/otp/statusCode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from otpvoice.errors import (
    ContentRejected,
    DeliveryError,
    NoBalance,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    RecipientRejected,
)

TIMESTAMP_EXPIRED = -16


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a status says, in words that are ours, and what may follow."""

    error: type[DeliveryError]
    words: str
    retry_after: timedelta | None = None


def _meanings(error: type[DeliveryError], words: Mapping[int, str]) -> dict[int, Meaning]:
    return {status: Meaning(error=error, words=text) for status, text in words.items()}


def _throttled(words: Mapping[int, tuple[str, timedelta]]) -> dict[int, Meaning]:
    return {
        status: Meaning(error=ProviderThrottled, words=text, retry_after=wait) for status, (text, wait) in words.items()
    }


ACCOUNT_STATUS: Mapping[int, Meaning] = {
    **_meanings(
        ProviderMisconfigured,
        {
            -1: "authentication failed; check api_key and api_secret",
            -2: "this machine's IP address is not allowed; add it in the console",
            -13: "the account is locked",
            TIMESTAMP_EXPIRED: "the timestamp is outside the provider's window; set this machine's clock (NTP)",
            -30: "the API key is disabled",
            -31: "this machine's IP address is not on the key's allow-list",
            -32: "the API key has no right to this app_id",
        },
    ),
    -15: Meaning(error=ProviderThrottled, words="asked too often", retry_after=timedelta(seconds=30)),
    -18: Meaning(error=ProviderUnavailable, words="the platform reports a fault"),
}
"""Statuses that mean the same in every product; ``-18`` as it is to be read for a query, which can be repeated."""

_QUOTAS = _throttled(
    {
        -23: ("the account's quota is used up", timedelta(hours=1)),
        -27: ("the account's sends for this period are used up", timedelta(minutes=5)),
        -28: ("the sends to this number for this period are used up", timedelta(minutes=5)),
    }
)

# The sendCode page lists 0, -1, -2, -10, -16, -18, -22 and -26; the others stand on the platform's global lists.
# The e-mail product numbers its statuses differently, so no table is shared further than this.
VOICE_STATUS: Mapping[int, Meaning] = {
    **ACCOUNT_STATUS,
    # The vendor does not say that a faulted call was not placed: look before ringing again.
    -18: Meaning(error=OutcomeUnknown, words="the platform reports a fault; the call may have been placed"),
    -10: Meaning(error=NoBalance, words="the balance is used up"),
    **_meanings(
        ProviderMisconfigured,
        {
            -19: "no price or channel is agreed for this destination",
            -20: "the data already exists",
            -21: "the data was not valid",
            -22: "a parameter is wrong; check app_id and display_num",
            -24: "the data does not exist; check app_id",
            -25: "outside the time range",
            -26: "no price could be found for this destination",
            # The SMS list says workspace disabled, the OTP list sensitive words; voice has no list of its own.
            -29: "refused: the workspace is disabled, or the text holds sensitive words",
        },
    ),
    **_QUOTAS,
}
"""What a status of the voice product means for a call that was asked for."""

SMS_STATUS: Mapping[int, Meaning] = {
    **ACCOUNT_STATUS,
    -18: Meaning(error=OutcomeUnknown, words="the platform reports a fault; the message may have been sent"),
    -9: Meaning(error=RecipientRejected, words="the number is not one"),
    -10: Meaning(error=NoBalance, words="the balance is used up"),
    -12: Meaning(error=ProviderUnavailable, words="the platform could not submit the message"),
    **_meanings(
        ContentRejected,
        {
            -3: "the text holds what the provider calls sensitive",
            -6: "the text follows no approved template",
            -17: "the template is empty",
        },
    ),
    **_meanings(
        ProviderMisconfigured,
        {
            -4: "the text is empty",
            -5: "the text is too long",
            -7: "too many numbers",
            -8: "the number is empty",
            -11: "a time has the wrong form",
            -14: "a field is empty; check app_id",
            -19: "no price or channel is agreed for this destination",
            -20: "the data already exists",
            -21: "the data was not valid",
            -22: "a parameter is wrong; check app_id and sender_id",
            -24: "the data does not exist; check app_id",
            -25: "outside the time range",
            -26: "no price could be found for this destination",
            -29: "the workspace is disabled",
        },
    ),
    **_QUOTAS,
}
"""What a status of the SMS product means for a message that was handed over."""

NOT_FOUND = -24
BAD_PARAMETER = -22

QUERY_STATUS: Mapping[int, Meaning] = {
    **ACCOUNT_STATUS,
    **_meanings(
        ProviderMisconfigured,
        {
            -11: "a time has the wrong form",
            -14: "a query's id or field is wrong; check app_id",
            -19: "no price or channel is agreed",
            BAD_PARAMETER: "a query's parameter is wrong",
            NOT_FOUND: "the data does not exist",
            -25: "outside the time range",
        },
    ),
}
"""What a status means for a question about a call or message. A question can be repeated."""
