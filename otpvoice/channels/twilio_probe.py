"""What ``otpvoice doctor`` asks Twilio, for voice and messaging alike: the balance, which costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from otpvoice.channels.base import Finding, dialogue
from otpvoice.channels.twilio_api import PROVIDER, TwilioAPI
from otpvoice.channels.vendor_fields import currency, money
from otpvoice.errors import DeliveryError, OutcomeUnknown
from otpvoice.flow import Flow


def probe(name: str, api: TwilioAPI) -> Flow[Sequence[Finding]]:
    """Ask for the balance: it proves the credentials and shows the money.

    Vendor page: twilio.com/docs/usage/api/balance (the account's own; a subaccount has none).
    """
    credentials = f"{name}: {PROVIDER} credentials"
    try:
        said = yield from dialogue(api.balance())
    except DeliveryError as error:
        if error.retryable or isinstance(error, OutcomeUnknown):
            remedy = "check base_url and the way out to the network; then try again"
        else:
            remedy = "check account_sid and auth_token (or api_key and api_secret) against the console"
        return [Finding(name=credentials, ok=False, detail=str(error), remedy=remedy)]
    amount = money(said.get("balance"))
    known = f"balance {amount} {currency(said.get('currency')) or ''}".strip()
    # A negative one is not read as an amount: nothing is left either way.
    empty = amount is None or amount == 0
    return [
        Finding(name=credentials, ok=True, detail="accepted"),
        Finding(
            name=f"{name}: {PROVIDER} balance",
            ok=not empty,
            detail=known if amount is not None else "nothing is left, or the answer names no amount",
            remedy="add credit in the console: an empty account is suspended" if empty else "",
        ),
    ]
