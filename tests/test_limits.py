"""Limits of what many recipients cost together: prefix, country, tenant. Both databases, both colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from otpvoice import OutcomeUnknown, Policy, ProviderUnavailable, RateLimited, recipients
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock
from otpvoice.guard import limits
from otpvoice.http.testmode import TestKeyring
from otpvoice.keys import Keyring
from otpvoice.store import tables
from tests.conftest import NUMBER, SECRET, Maker, Otp, policies
from tests.core_tools import of_tenant
from tests.reporting import Reporting, push
from tests.test_concurrency import at_once, call, enrol, in_threads, kinds

HOUR = timedelta(hours=1)
OFTEN: dict[str, Any] = {"max_live": 1000, "max_sends_per_day": 1000, "cooldowns": (timedelta(0),)}
LIMITS = ("max_sends_per_prefix", "max_sends_per_country", "max_sends_per_tenant")
IN_WORDS = {
    "max_sends_per_prefix": "sends an hour to numbers that begin alike",
    "max_sends_per_country": "sends an hour to VN",
    "max_sends_per_tenant": "sends a day by this tenant",
}


def in_a_row(count: int, prefix: str = "+8491234") -> list[str]:
    return [f"{prefix}{n:04d}" for n in range(1, count + 1)]


def counted(service: Any, kind: str) -> dict[str, int]:
    """What is charged under keys of this kind."""
    found = select(tables.counter.c.key, tables.counter.c.used).where(tables.counter.c.key.startswith(f"{kind}:"))
    rows = service._assembly.store.transact(lambda connection, _now: connection.execute(found).all())
    return {row.key: row.used for row in rows}


def test_sequential_numbers_trip_the_prefix_limit(otp: Otp) -> None:
    """P51: numbers of one block from as many clients; the 21st call is not made, another block's is."""
    service = otp.again(policies=policies(max_sends_per_prefix=20))
    block = in_a_row(25)
    for n, number in enumerate(block[:20]):
        service.issue_code(number, purpose="login", client=f"192.0.2.{n}")
    otp.clock.advance(timedelta(minutes=20))
    for n, number in enumerate(block[20:]):
        with pytest.raises(RateLimited, match=f"20 {IN_WORDS['max_sends_per_prefix']}; try again in 40 min") as limited:
            service.issue_code(number, purpose="signup", client=f"198.51.100.{n}")
        assert limited.value.retry_after == timedelta(minutes=40)
    assert len(otp.voice.sent) == 20
    service.issue_code("+84912350001", purpose="login")
    otp.clock.advance(timedelta(minutes=40))
    service.issue_code(block[20], purpose="login")


def test_the_prefix_counts_over_tenants(otp: Otp) -> None:
    """One ring at several customers' forms is one attack."""
    service = otp.again(policies=policies(max_sends_per_prefix=2))
    otp.service = service
    other = of_tenant(otp, "another")
    first, second, third, _ = in_a_row(4)
    service.issue_code(first, purpose="login")
    other.issue_code(second, purpose="login")
    for tenant in (service, other):
        with pytest.raises(RateLimited, match="begin alike"):
            tenant.issue_code(third, purpose="reset")


def test_spellings_of_one_number_are_one_number(otp: Otp) -> None:
    """P34: each send counts once, whoever writes the number how."""
    service = otp.again(policies=policies(max_sends_per_prefix=4, max_sends_per_country=1000, **OFTEN))
    for number in ("+84912340001", "+84 91 234 00 01", "+84 (0)912340001", "＋８４９１２３４０００１"):
        service.issue_code(number, purpose="login")
    with pytest.raises(RateLimited, match="begin alike"):
        service.issue_code("+84-91-234-00-02", purpose="login")
    assert list(counted(service, "prefix").values()) == [4]
    assert sum(counted(service, "country").values()) == 4


def test_no_key_of_a_counter_holds_a_number(otp: Otp) -> None:
    service = otp.again(policies=policies(max_sends_per_prefix=9, max_sends_per_country=9, max_sends_per_tenant=9))
    service.issue_code(NUMBER, purpose="login")
    keys = [key for kind in ("recipient", "prefix", "country", "tenant") for key in counted(service, kind)]
    assert len(keys) == 4
    assert not any(NUMBER[1:-4] in key for key in keys)


def test_the_country_counts_over_purposes_and_tenants(otp: Otp) -> None:
    """The account at the provider is one. Another country goes on; the hour ends."""
    otp.service = otp.again(policies=policies(max_sends_per_country=10))
    other = of_tenant(otp, "another")
    numbers = [f"+8491{n:03d}5678" for n in range(200, 212)]
    for n, number in enumerate(numbers[:10]):
        (otp.service, other)[n % 2].issue_code(number, purpose=("login", "signup", "reset")[n % 3])
        otp.clock.advance(timedelta(minutes=1))
    for tenant in (otp.service, other):
        with pytest.raises(RateLimited, match=f"10 {IN_WORDS['max_sends_per_country']}") as limited:
            tenant.issue_code(numbers[10], purpose="login")
        assert limited.value.retry_after == timedelta(minutes=50), "the first slot's window ends first"
    other.issue_code("+66812345678", purpose="login")
    otp.clock.advance(timedelta(minutes=50))
    otp.service.issue_code(numbers[10], purpose="login")


def test_the_tenant_counts_every_send_of_a_day(services: Maker, clock: ManualClock) -> None:
    """Calls and mails, over purposes and countries; other tenants go on, and so does the next day."""
    mail, voice = Reporting("mail", medium="email"), Reporting("voice")
    service = services(channels=[mail, voice], policies=policies("voice", "mail", max_sends_per_tenant=3))
    service.issue_code(NUMBER, purpose="login")
    service.issue_code("a@example.org", purpose="signup")
    service.issue_code("+66812345678", purpose="reset")
    clock.advance(timedelta(hours=20))
    for recipient in ("+84987654321", "b@example.org"):
        with pytest.raises(RateLimited, match=f"3 {IN_WORDS['max_sends_per_tenant']}") as limited:
            service.issue_code(recipient, purpose="login")
        assert limited.value.retry_after == timedelta(hours=4)
    service.for_tenant("another").issue_code(NUMBER, purpose="login")
    clock.advance(timedelta(hours=4))
    service.issue_code(NUMBER, purpose="login")


def test_an_authenticator_app_costs_nothing(services: Maker, clock: ManualClock) -> None:
    service = services(policies=policies("totp", "voice", max_sends_per_tenant=1))
    enrol(service, clock)
    for _ in range(2):
        service.issue_code(NUMBER, purpose="login", subject="alice")
    assert counted(service, "tenant") == {}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_resend_counts(otp: Otp, limit: str) -> None:
    """And what is refused is told by an event, says when to come back, and charges nobody."""
    service = otp.again(policies=policies(**OFTEN | {limit: 2}))
    challenge = service.issue_code(NUMBER, purpose="login")
    service.resend_code(challenge.id)
    with pytest.raises(RateLimited, match=f"2 {IN_WORDS[limit]}"):
        service.resend_code(challenge.id)
    assert service.get(challenge.id).sends_left == 3
    assert len(otp.voice.sent) == 2
    (refused,) = [event for event in service.events(challenge.id) if event.kind == "send.refused"]
    assert IN_WORDS[limit] in refused.data["why"]
    assert list(counted(service, "recipient").values()) == [2]
    assert service.verify_code(challenge.id, otp.code), "P28: what was sent still verifies"


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("cause", ["refused", "failed"])
def test_an_automatic_step_counts(services: Maker, clock: ManualClock, limit: str, cause: str) -> None:
    """The route's second send is charged like the first; beyond the limit the route stops and says why."""
    sms, voice = Reporting("sms", medium="sms"), Reporting("voice")
    for most, called in ((2, 1), (1, 0)):
        clock.advance(timedelta(days=1))
        service = services(channels=[sms, voice], policies=policies("sms", "voice", **OFTEN | {limit: most}))
        if cause == "refused":
            sms.fail_with(ProviderUnavailable("down"))
            if called:
                challenge_id = service.issue_code(NUMBER, purpose="login").id
            else:
                with pytest.raises(ProviderUnavailable) as refused:
                    service.issue_code(NUMBER, purpose="login")
                assert refused.value.challenge is not None
                challenge_id = refused.value.challenge.id
        else:
            challenge = service.issue_code(NUMBER, purpose="login")
            challenge_id = challenge.id
            failed = {"delivery_id": challenge.delivery.id, "state": "failed", "reason": "unreachable"}
            assert service.apply_report("sms", push(failed)).news == 1
        assert len(voice.sent) == 1, "by the first round only"
        stopped = [event.data["why"] for event in service.events(challenge_id) if event.kind == "route.stopped"]
        assert len(stopped) == 1 - called
        assert all(f"1 {IN_WORDS[limit]}" in why for why in stopped)


def test_a_call_that_failed_was_reserved(services: Maker) -> None:
    """P33: a provider that refuses, or is silent, is asked no more often."""
    voice = Memory("voice")
    voice.fail_with(OutcomeUnknown("no answer came"), times=100, taken=True)
    service = services(channels=[voice], policies=policies(max_sends_per_tenant=5))
    outcomes = at_once(service, [call("issue_code", number, purpose="login") for number in in_a_row(9)])
    assert kinds(outcomes)["RateLimited"] == 4
    assert len(voice.sent) == 5


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("limit", "most"), [("max_sends_per_tenant", 20), ("max_sends_per_country", 5)])
def test_sixty_openings_at_once_never_exceed_what_is_spread(
    services: Maker, colour: str, limit: str, most: int
) -> None:
    """P33: exactly as many as the limit says, for the last one too; also where there are fewer than slots."""
    voice = Memory("voice")
    service = services(colour, channels=[voice], policies=policies(**{limit: most}))
    outcomes = at_once(service, [call("issue_code", number, purpose="login") for number in in_a_row(60)])
    assert kinds(outcomes) == {"Challenge": most, "RateLimited": 60 - most}
    assert len(voice.sent) == most
    slots = counted(service, limit.removeprefix("max_sends_per_"))
    assert sum(slots.values()) == most
    assert max(slots.values()) <= -(-most // 8)


def test_processes_share_one_limit(services: Maker) -> None:
    """Each with connections of its own, as two machines have."""
    voice = Memory("voice")
    made = [services(channels=[voice], policies=policies(max_sends_per_tenant=20)) for _ in range(3)]
    wishes = [(made[n % 3], number) for n, number in enumerate(in_a_row(45))]
    outcomes = in_threads([lambda s=s, n=number: s.issue_code(n, purpose="login") for s, number in wishes])
    assert kinds(outcomes) == {"Challenge": 20, "RateLimited": 25}
    assert len(voice.sent) == 20


@pytest.mark.parametrize("refusing", ["max_sends_per_prefix", "max_live"])
def test_what_is_undone_charges_nothing(otp: Otp, refusing: str) -> None:
    """Whatever else the transaction had charged before one of them refused."""
    numbers = {"max_sends_per_prefix": 9, "max_sends_per_country": 9, "max_sends_per_tenant": 9} | {refusing: 1}
    service = otp.again(policies=policies(**numbers))
    service.issue_code(NUMBER, purpose="login", client="192.0.2.1")
    kinds_of_keys = ("recipient", "prefix", "country", "tenant", "client")
    before = {kind: counted(service, kind) for kind in kinds_of_keys}
    for _ in range(3):
        with pytest.raises(RateLimited):
            service.issue_code(NUMBER, purpose="signup", client="192.0.2.1")
    assert {kind: counted(service, kind) for kind in kinds_of_keys} == before
    assert [sum(slots.values()) for slots in before.values()] == [1] * 5


def test_a_prefix_is_counted_on_through_a_rotation_of_the_secret(otp: Otp) -> None:
    own = policies(max_sends_per_prefix=3)
    first, second, third, fourth = in_a_row(4)
    old = otp.again(policies=own)
    old.issue_code(first, purpose="login")
    old.issue_code(second, purpose="login")
    rotated = otp.again(policies=own, secret=["another-root-secret-0815-with-Entropy-xyz", SECRET])
    rotated.issue_code(third, purpose="login")
    with pytest.raises(RateLimited, match="begin alike"):
        rotated.issue_code(fourth, purpose="login")
    assert list(counted(rotated, "prefix").values()) == [3]


def test_slots_are_purged_with_their_windows(otp: Otp) -> None:
    service = otp.again(policies=policies(max_sends_per_country=100, max_sends_per_tenant=100))
    for number in in_a_row(20):
        service.issue_code(number, purpose="login")
    otp.clock.advance(HOUR)
    assert len(counted(service, "country")) > 1
    service.purge()
    assert (counted(service, "country"), sum(counted(service, "tenant").values())) == ({}, 20)
    otp.clock.advance(23 * HOUR)
    service.purge()
    assert counted(service, "tenant") == {}


def test_a_number_of_no_country_is_counted_too(services: Maker) -> None:
    """Else +800 would be the way around the limit."""
    service = services(policies=policies(max_sends_per_country=1))
    service.issue_code("+80012345678", purpose="login")
    with pytest.raises(RateLimited, match="1 sends an hour to numbers of no country"):
        service.issue_code("+80012345679", purpose="login")


def test_purposes_with_numbers_of_their_own_look_at_the_same_sum(otp: Otp) -> None:
    """A purpose's smaller ceiling is one of all sends; where they fell among the slots changes nothing."""
    mixed = policies(max_sends_per_tenant=1000)
    mixed["reset"] = policies(max_sends_per_tenant=10)["reset"]
    service = otp.again(policies=mixed)
    numbers: Iterator[str] = iter(in_a_row(40))
    for _ in range(9):
        service.issue_code(next(numbers), purpose="login")
    service.issue_code(next(numbers), purpose="reset")
    with pytest.raises(RateLimited, match="10 sends a day by this tenant"):
        service.issue_code(next(numbers), purpose="reset")
    service.issue_code(next(numbers), purpose="login")
    assert sum(counted(service, "tenant").values()) == 11


def test_a_test_tenant_uses_up_nobodys_country() -> None:
    """P81: its keyring sets its counters apart, those that are no keyed hash too."""
    live = Keyring([SECRET])
    policy = Policy(max_sends_per_prefix=1, max_sends_per_country=1, max_sends_per_tenant=1)
    keys: Counter[str] = Counter()
    for ring, tenant in ((live, "shop"), (TestKeyring(live, "shop"), "test:shop"), (TestKeyring(live, "b"), "test:b")):
        keys.update(
            limit.key for limit in limits.of_send(policy, recipients.parse(NUMBER), keyring=ring, tenant=tenant)
        )
    assert len(keys) == 12
