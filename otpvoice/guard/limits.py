"""Which counters one send is charged to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import timedelta

from otpvoice.policy import Policy
from otpvoice.store.counters import Limit

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def of_send(policy: Policy, recipient_keys: tuple[str, ...]) -> Sequence[Limit]:
    """The limits of any send. A recipient's daily limit counts all purposes and tenants together (property P55)."""
    if not recipient_keys:
        return ()
    newest, *older = (f"recipient:{key}" for key in recipient_keys)
    return (
        Limit(
            key=newest,
            older_keys=tuple(older),
            most=policy.max_sends_per_day,
            window=DAY,
            name=f"{policy.max_sends_per_day} sends a day to this recipient",
        ),
    )


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
