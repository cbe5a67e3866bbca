"""Where a request comes from: the address and scheme that trusted proxies vouch for, and nobody else (P30)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_CHAIN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks, and how."""

    address: str | None
    """The nearest address that is no trusted proxy; None on a Unix socket."""
    scheme: str
    """``https`` or ``http``, as the client spoke it."""
    secure: bool
    """Over TLS, as far as this process or a trusted proxy can tell, or without leaving this machine."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of trusted proxies."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def origin(
    *,
    peer: str | None,
    scheme: str,
    forwarded_for: Sequence[str],
    forwarded_proto: Sequence[str],
    trusted: Sequence[Network],
) -> Origin:
    """Follow ``X-Forwarded-For`` from its end for as long as trusted proxies wrote it.

    What stands left of the first untrusted address was written by a stranger and is not read.
    """
    nearest = _address(peer)
    local = peer is None or (nearest is not None and nearest.is_loopback)
    said = [part.strip().lower() for line in forwarded_proto for part in line.split(",")]
    # Whoever says that a request came in the clear is believed; who says that it did not, only where trusted.
    in_the_clear = bool(said) and said[-1] != "https"
    if nearest is None or not _in(nearest, trusted):
        secure = scheme == "https" or (local and not in_the_clear)
        return Origin(address=None if nearest is None else str(nearest), scheme=scheme, secure=secure)
    chain = [part.strip() for line in forwarded_for for part in line.split(",")]
    current: Address = nearest
    for text in reversed(chain[-_LONGEST_CHAIN:]):
        earlier = _address(text)
        if earlier is None:
            break
        current = earlier
        if not _in(current, trusted):
            break
    spoken = ("http" if in_the_clear else "https") if said else scheme
    return Origin(address=str(current), scheme=spoken, secure=spoken == "https" or (local and not said))


def private(text: str) -> bool:
    """Whether an address belongs to this machine or a private network: an IPv4 address behind ``::ffff:``, too.

    Python before 3.13 takes all of the latter for private, and a socket for both families names every IPv4 caller so.
    """
    address = _address(text)
    return address is not None and address.is_private


def _in(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


def _address(text: str | None) -> Address | None:
    try:
        address = ipaddress.ip_address((text or "").strip("[]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
