"""Whether the policy sends to such a recipient at all."""

from __future__ import annotations

from otpvoice.errors import RecipientDenied
from otpvoice.policy import Policy
from otpvoice.types import Recipient


def check(policy: Policy, recipient: Recipient) -> None:
    """Raise :class:`~otpvoice.errors.RecipientDenied` for numbers that cost the caller or are off the list."""
    if recipient.kind != "phone":
        return
    if recipient.number_class in policy.denied_classes:
        named = (recipient.number_class or "unknown").replace("_", " ")
        raise RecipientDenied(f"{recipient.hint} is a {named} number: the policy does not send to those")
    if policy.countries is not None and recipient.region not in policy.countries:
        raise RecipientDenied(
            f"{recipient.hint} is in {recipient.region or 'no country'}, which is not among the policy's countries"
        )
