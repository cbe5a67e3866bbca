"""Which counters one send is charged to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import timedelta

from otpvoice import recipients
from otpvoice.keys import Keyring
from otpvoice.policy import Policy
from otpvoice.store.counters import Limit
from otpvoice.types import Recipient

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

SLOTS = 8
"""Rows for a counter that every send of a country or tenant is charged to: at one row they would queue."""


def of_send(policy: Policy, recipient: Recipient | None, *, keyring: Keyring, tenant: str) -> Sequence[Limit]:
    """The limits of any send. A recipient's daily limit counts all purposes and tenants together (property P55).

    So do a prefix's and a country's: a ring that is paid for calls asks at whichever tenant's form is open to it, and
    the account at the provider that pays for them is one (property P51).
    """
    if recipient is None:
        return ()
    most = policy.max_sends_per_day
    name = f"{most} sends a day to this recipient"
    found = [_hashed("recipient", keyring, recipients.index_form(recipient), most, DAY, name)]
    if recipient.kind == "phone" and policy.max_sends_per_prefix is not None:
        most = policy.max_sends_per_prefix
        name = f"{most} sends an hour to numbers that begin alike"
        found.append(_hashed("prefix", keyring, recipient.address[:-4], most, HOUR, name))
    if recipient.kind == "phone" and policy.max_sends_per_country is not None:
        most = policy.max_sends_per_country
        name = f"{most} sends an hour to {recipient.region or 'numbers of no country'}"
        key = f"country:{keyring.scope}{recipient.region or 'none'}"
        found.append(Limit(key=key, most=most, window=HOUR, name=name, slots=SLOTS))
    if policy.max_sends_per_tenant is not None:
        most = policy.max_sends_per_tenant
        name = f"{most} sends a day by this tenant"
        found.append(Limit(key=f"tenant:{tenant}", most=most, window=DAY, name=name, slots=SLOTS))
    return found


def _hashed(kind: str, keyring: Keyring, value: str, most: int, window: timedelta, name: str) -> Limit:
    """A limit of what must not be read in the database; counted on through a rotation of the secret."""
    newest, *older = (f"{kind}:{key}" for key in keyring.index(kind, value))
    return Limit(key=newest, older_keys=tuple(older), most=most, window=window, name=name)


def of_client(policy: Policy, client_keys: tuple[str, ...]) -> Sequence[Limit]:
    """The limit of who asks for new challenges, where the caller says who that is."""
    if not client_keys:
        return ()
    newest, *older = (f"client:{key}" for key in client_keys)
    most = policy.max_opens_per_client
    name = f"{most} challenges an hour from this client"
    return (Limit(key=newest, older_keys=tuple(older), most=most, window=HOUR, name=name),)


def network(client: str) -> str:
    """An IPv4 address as it is, an IPv6 address as its /64 (one household), anything else as it is."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)
