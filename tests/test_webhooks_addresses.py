"""Where webhooks may go (property P87)."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from otpvoice import InvalidRequest
from otpvoice.webhooks.addresses import AddressDenied, Guard, Target, is_public, parse_url

PUBLIC = "93.184.216.34"


def guard(*answers: str, allowed: tuple[str, ...] = ()) -> Guard:
    return Guard(resolver=lambda host, port: answers, allowed=[ipaddress.ip_network(item) for item in allowed])


def target(host: str = "hooks.example.com") -> Target:
    return Target(host=host, port=443, path="/")


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("https://hooks.example.com", Target(host="hooks.example.com", port=443, path="/")),
        (
            "https://Hooks.Example.com:8443/a/b?x=1&y=%20",
            Target(host="hooks.example.com", port=8443, path="/a/b?x=1&y=%20"),
        ),
        ("https://xn--bcher-kva.example/", Target(host="xn--bcher-kva.example", port=443, path="/")),
        ("https://[2606:4700::1111]/h", Target(host="2606:4700::1111", port=443, path="/h")),
    ],
)
def test_a_plain_https_url_is_taken_apart_once(url: str, parsed: Target) -> None:
    assert parse_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://hooks.example.com/",
        "HTTPS://hooks.example.com/",
        "//hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/",
        "https:///path",
        "https://",
        "https://user@hooks.example.com/",
        "https://hooks.example.com:pass@127.0.0.1/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com#@127.0.0.1/",
        "https://hooks.example.com/#f",
        "https://hooks.example.com /",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nX-Evil: 1",
        "https://hooks.example.com/\x00",
        'https://hooks.example.com/"',
        "https://hooks.exämple.com/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:80a/",
        "https://hooks_example.com/",
        "https://-hooks.example.com/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1/",
        "https://hooks..example.com/",
        "https://" + "a" * 2100,
    ],
)
def test_what_parsers_may_disagree_on_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_url(url)
    assert len(url) < 9 or url not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "::ffff:a00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ],
)
def test_an_address_that_is_not_public_is_denied_by_name_and_as_a_literal(address: str) -> None:
    with pytest.raises(AddressDenied):
        guard(address).addresses(target())
    if "%" not in address:
        with pytest.raises(AddressDenied):
            guard(PUBLIC).addresses(target(address))


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert guard(address).addresses(target()) == [address]


def test_our_verdict_is_never_laxer_than_pythons() -> None:
    """Every edge of every network that Python calls private is denied here too."""
    for network in [*ipaddress._IPv4Constants._private_networks, *ipaddress._IPv6Constants._private_networks]:  # type: ignore[attr-defined]
        for address in (network[0], network[-1]):
            if not address.is_global:
                assert not is_public(address), address


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost"])
def test_odd_spellings_of_loopback_are_judged_by_what_they_resolve_to(host: str) -> None:
    parsed = parse_url(f"https://{host}/")
    with pytest.raises((AddressDenied, OSError)):
        Guard().addresses(parsed)


def test_one_bad_address_spoils_the_whole_answer() -> None:
    with pytest.raises(AddressDenied):
        guard(PUBLIC, "127.0.0.1").addresses(target())


def test_what_does_not_resolve_or_resolves_to_nonsense_is_no_address() -> None:
    with pytest.raises(OSError, match="no address"):
        guard().addresses(target())
    with pytest.raises(AddressDenied):
        guard("not-an-address").addresses(target())

    def fails(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "unknown")

    with pytest.raises(OSError, match="unknown"):
        Guard(resolver=fails).addresses(target())


def test_an_operator_may_allow_a_network_of_their_own_and_no_other() -> None:
    inside = guard("10.1.2.3", allowed=("10.1.2.0/24",))
    assert inside.addresses(target()) == ["10.1.2.3"]
    with pytest.raises(AddressDenied):
        guard("10.1.3.3", allowed=("10.1.2.0/24",)).addresses(target())
    with pytest.raises(AddressDenied):
        guard("::ffff:10.1.2.3", allowed=("10.1.2.0/24",)).addresses(target())
