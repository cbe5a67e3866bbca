"""The ``[tenants.NAME.webhooks]`` tables: networks that a tenant's webhooks may go to although they are not public."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from otpvoice.errors import ConfigurationError
from otpvoice.webhooks.addresses import Guard, Network


def guards(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Guard]:
    """The guards of tenants by name, for those that allow anything.

    Raises :class:`~otpvoice.errors.ConfigurationError` naming the table and key that is wrong.
    """
    found = {}
    for tenant, table in tables.items():
        where = f"[tenants.{tenant}.webhooks]"
        if not set(table) <= {"allow_networks"}:
            raise ConfigurationError(f"{where} takes allow_networks and nothing else")
        allowed = table.get("allow_networks", [])
        if not isinstance(allowed, list):
            raise ConfigurationError(f"{where} allow_networks must be a list")
        if allowed:
            found[tenant] = Guard(allowed=[_network(where, text) for text in allowed])
    return found


def _network(where: str, text: object) -> Network:
    try:
        return ipaddress.ip_network(str(text))
    except ValueError:
        raise ConfigurationError(f"{where} allow_networks holds what is no network, such as 10.1.2.0/24") from None
