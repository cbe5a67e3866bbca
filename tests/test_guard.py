"""The guard: who may be called at all, and which counters a send is charged to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice import recipients
from otpvoice.errors import RecipientDenied
from otpvoice.guard import classes, limits
from otpvoice.keys import Keyring
from otpvoice.policy import Policy
from tests.conftest import SECRET


@pytest.mark.parametrize(
    "number",
    [
        "+3290012345",
        "+449012345678",
        "+4918012345",
        "+445512345678",
        "+447640123456",
        "+49177991234567",
        "+447012345678",
        "+870773111632",
        "+881612345678",
        "+882161234567",
        "+883510000000094",
        "+979123456789",
    ],
)
def test_costly_classes_are_denied(number: str) -> None:
    """P38: premium, shared cost, UAN, pager, voicemail, personal and satellite; the number is masked in the error."""
    with pytest.raises(RecipientDenied) as denied:
        classes.check(Policy(), recipients.parse(number))
    assert number not in str(denied.value)
    assert number[-6:] not in str(denied.value)


@pytest.mark.parametrize("number", ["+84912345678", "+4930123456", "+12015550123", "+18002345678", "+445612345678"])
def test_ordinary_classes_pass(number: str) -> None:
    """P38, P41: mobile, fixed, toll-free; VoIP is allowed until a policy says otherwise."""
    classes.check(Policy(), recipients.parse(number))


def test_voip_can_be_denied() -> None:
    """P41: explicit, by the policy."""
    policy = Policy(denied_classes=Policy().denied_classes | {"voip"})
    with pytest.raises(RecipientDenied, match="voip"):
        classes.check(policy, recipients.parse("+445612345678"))


def test_an_allow_list_of_countries() -> None:
    """P39: what is not on it is refused, Jamaica is not the USA, and an empty list denies everything."""
    policy = Policy(countries=frozenset({"US", "VN"}))
    classes.check(policy, recipients.parse("+84912345678"))
    classes.check(policy, recipients.parse("+12015550123"))
    for number in ("+18762101234", "+4930123456"):
        with pytest.raises(RecipientDenied, match="not among"):
            classes.check(policy, recipients.parse(number))
    with pytest.raises(RecipientDenied):
        classes.check(Policy(countries=frozenset()), recipients.parse("+84912345678"))


def test_numbers_of_no_country_are_on_no_list() -> None:
    """International toll-free numbers (+800) belong nowhere."""
    number = recipients.parse("+80012345678")
    assert number.region is None
    with pytest.raises(RecipientDenied, match="no country"):
        classes.check(Policy(countries=frozenset({"US"})), number)


def test_mailboxes_have_no_class_and_no_country() -> None:
    """The policy of numbers says nothing about them."""
    classes.check(Policy(countries=frozenset({"VN"})), recipients.parse("a@example.org"))


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:0db8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("device-7", "device-7"),
        ("192.0.2.1, 10.0.0.1", "192.0.2.1, 10.0.0.1"),
        ("192.0.2.256", "192.0.2.256"),
    ],
)
def test_a_client_counts_as_its_network(client: str, network: str) -> None:
    """P30: an IPv6 household is one client; an IPv4 address mapped into IPv6 is itself; anything else is a name."""
    assert limits.network(client) == network


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_addresses_of_one_household_are_one_client(one: int, other: int) -> None:
    """Whatever the lower 64 bits."""
    import ipaddress

    prefix = 0x20010DB800010002 << 64
    first, second = (str(ipaddress.IPv6Address(prefix | host)) for host in (one, other))
    assert limits.network(first) == limits.network(second)


@given(st.text(max_size=60))
def test_any_client_has_a_network(client: str) -> None:
    """No text raises."""
    assert isinstance(limits.network(client), str)


def test_a_send_is_charged_to_its_recipient() -> None:
    """P55: by the newest key, over all purposes; older keys of a rotation are known."""
    ring = Keyring(["another-root-secret-0815-with-Entropy-xyz", SECRET])
    new, old = ring.index("recipient", "phone:+84912345678")
    number = recipients.parse("+84912345678")
    (limit,) = limits.of_send(Policy(max_sends_per_day=7), number, keyring=ring, tenant="shop")
    assert (limit.key, limit.older_keys, limit.most, limit.window) == (
        f"recipient:{new}",
        (f"recipient:{old}",),
        7,
        timedelta(days=1),
    )
    assert limits.of_send(Policy(), None, keyring=ring, tenant="shop") == ()


def test_a_limit_that_is_set_is_charged_too() -> None:
    """P51: by number prefix, country and tenant; a mailbox has only the last of them."""
    policy = Policy(max_sends_per_prefix=20, max_sends_per_country=200, max_sends_per_tenant=5000)
    ring = Keyring([SECRET])
    hour, day = timedelta(hours=1), timedelta(days=1)

    def found(recipient: str) -> list[tuple[str, int, timedelta]]:
        made = limits.of_send(policy, recipients.parse(recipient), keyring=ring, tenant="shop")
        return [(limit.key, limit.most, limit.window) for limit in made][1:]

    (prefix,) = ring.index("prefix", "+8491234")
    of_tenant = ("tenant:shop", 5000, day)
    assert found("+84912345678") == [(f"prefix:{prefix}", 20, hour), ("country:VN", 200, hour), of_tenant]
    assert found("+84 91 234 0000")[0] == (f"prefix:{prefix}", 20, hour)
    assert found("a@example.org") == [of_tenant]


def test_an_opening_is_charged_to_its_client() -> None:
    """Where the caller says who asks; else there is nothing to count."""
    (limit,) = limits.of_client(Policy(max_opens_per_client=3), ("c",))
    assert (limit.key, limit.most, limit.window) == ("client:c", 3, timedelta(hours=1))
    assert limits.of_client(Policy(), ()) == ()
