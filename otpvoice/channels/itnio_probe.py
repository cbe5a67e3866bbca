"""What ``otpvoice doctor`` asks ITNIO, for every product alike: the balance, which costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from otpvoice.channels.base import Finding, dialogue
from otpvoice.channels.itnio_api import PROVIDER, Balance, ItnioAPI, describe_skew
from otpvoice.errors import DeliveryError, OutcomeUnknown
from otpvoice.flow import Flow

CLOCK_TOLERANCE = timedelta(seconds=60)
"""Skew that :func:`probe` lets pass. The provider refuses at about 30 minutes."""


def probe(name: str, api: ItnioAPI) -> Flow[Sequence[Finding]]:
    """Ask for the balance: it proves the credentials, shows the money and tells the provider's time."""
    credentials = f"{name}: {PROVIDER} credentials"
    try:
        balance = yield from dialogue(api.balance())
    except DeliveryError as error:
        return [Finding(name=credentials, ok=False, detail=str(error), remedy=_remedy(error))]
    return [
        Finding(name=credentials, ok=True, detail="accepted"),
        _money(name, balance),
        *([] if balance.skew is None else [_clock(name, balance.skew)]),
    ]


def _money(name: str, balance: Balance) -> Finding:
    parts = {"balance": balance.balance, "gift": balance.gift, "credit": balance.credit}
    known = [f"{part} {amount}" for part, amount in parts.items() if amount is not None]
    return Finding(
        name=f"{name}: {PROVIDER} balance",
        ok=balance.spendable,
        detail=", ".join(known) or "the answer names no amount",
        remedy="" if balance.spendable else "add credit in the provider's console: calls are refused without it",
    )


def _clock(name: str, skew: timedelta) -> Finding:
    ok = abs(skew) <= CLOCK_TOLERANCE
    return Finding(
        name=f"{name}: {PROVIDER} clock",
        ok=ok,
        detail=f"this machine's clock is {describe_skew(skew)}",
        remedy="" if ok else "set this machine's clock by NTP (timedatectl set-ntp true)",
    )


def _remedy(error: DeliveryError) -> str:
    if error.retryable or isinstance(error, OutcomeUnknown):
        return "check base_url, path_prefix and the way out to the network; then try again"
    return "check api_key, api_secret, base_url and path_prefix against the provider's console"
