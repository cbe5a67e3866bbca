"""Where a webhook may go: https to public addresses only, judged on what the name resolves to (property P87).

A name is resolved once, every address of the answer is judged, and the connection is made to one of those judged: a
name that answers differently the second time (DNS rebinding) gains nothing. Addresses that carry an IPv4 address
(IPv4-mapped, NAT64) are judged by what they carry.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from otpvoice.errors import InvalidRequest, Refused

LONGEST_URL = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]
"""A name and a port to addresses as text, as the system would. Raises ``OSError``."""

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_REST = re.compile(r"[!$&'()*+,\-./0-9:;=?@A-Z_a-z~%]*")

# IANA's special-purpose registries (RFC 6890 and its updates) written out, so that the verdict does not depend on
# which of them a version of Python knows; then what clouds serve their secrets on.
DENIED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata is 100.100.100.200
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; most clouds' metadata is 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata is 192.0.0.192
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
        "168.63.129.16/32",  # Azure's host, a public address that is not
        "::/96",  # unspecified, loopback, IPv4-compatible
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",  # unique local; Amazon's metadata is fd00:ec2::254
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")


class AddressDenied(Refused):
    """The name leads to an address that webhooks do not go to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A checked URL in its parts, so that nothing parses it a second time and differently."""

    host: str
    """A name in lower case, or an address without brackets."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """A webhook's URL. Raises :class:`~otpvoice.errors.InvalidRequest`, which does not repeat it.

    Names of other scripts are written in punycode. User names, fragments, blanks, backslashes and control
    characters are refused: parsers do not agree on them.
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        raise InvalidRequest(f"the webhook URL is text of at most {LONGEST_URL} characters")
    if not url.startswith("https://"):
        raise InvalidRequest("the webhook URL begins with https://")
    if not url.isascii() or re.search(r"[\x00-\x20\x7f\\#]", url):
        raise InvalidRequest("the webhook URL holds a character that is not allowed there: a blank, #, \\ or non-ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", 443 if parts.port is None else parts.port
    except ValueError:
        raise InvalidRequest("the webhook URL has no valid host and port") from None
    if "@" in parts.netloc or not 1 <= port <= 65535 or not (_HOST.fullmatch(host) or _literal(host)):
        raise InvalidRequest("the webhook URL has no plain host: a name or an address, without user or zone")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if _REST.fullmatch(path) is None:
        raise InvalidRequest("the webhook URL's path holds a character that must be percent-encoded")
    return Target(host=host, port=port, path=path)


def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the open internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address in _MAPPED or address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _PUBLIC_V6:
            return False
    return not any(address.version == network.version and address in network for network in DENIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Decides which addresses a target's connection may be made to."""

    resolver: Resolver = field(default=resolve, repr=False)
    allowed: Sequence[Network] = ()
    """Networks that are allowed although they are not public: a receiver inside the operator's own network."""

    def addresses(self, target: Target) -> Sequence[str]:
        """The judged addresses of a target, in the resolver's order.

        One bad address spoils the answer: an honest name does not mix them. Raises :class:`AddressDenied`, and
        ``OSError`` where the name does not resolve.
        """
        found = [target.host] if _literal(target.host) else list(self.resolver(target.host, target.port))
        if not found:
            raise OSError("the name has no address")
        for text in found:
            if not self._may(text):
                raise AddressDenied("the webhook's host leads to an address that is not on the public internet")
        return found

    def _may(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if is_public(address):
            return True
        return any(address.version == network.version and address in network for network in self.allowed)


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
