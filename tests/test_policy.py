"""Policies: their defaults are the standards', and what contradicts itself does not start."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice.errors import ConfigurationError
from otpvoice.policy import DENIED_CLASSES, Policy, Route, RouteStep, default_policies

SECOND = timedelta(seconds=1)


def test_the_defaults_are_the_documented_ones() -> None:
    """security-properties section 5, number by number."""
    policy = Policy()
    assert policy.ttl == timedelta(minutes=5)
    assert (policy.code_length, policy.longer_length) == (6, 8)
    assert (policy.max_attempts, policy.max_sends, policy.max_sends_per_day, policy.max_live) == (5, 5, 10, 3)
    assert [span.total_seconds() for span in policy.cooldowns] == [30, 60, 120, 300]
    assert (policy.lock_after, policy.lock_for, policy.lock_cap) == (10, timedelta(minutes=30), timedelta(hours=24))
    assert (policy.longer_after, policy.stop_after) == (50, 1050)
    assert (policy.hash_profile, policy.late_codes, policy.profile) == ("owasp", "all", "default")
    assert policy.denied_classes >= {"premium_rate", "satellite", "voicemail", "personal_number", "unknown"}
    assert set(default_policies(Route.of("voice"))) == {"login", "signup", "reset", "payment", "verify"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"route": Route(steps=())}, "route"),
        ({"route": Route.of("voice", "sms", "voice")}, "twice"),
        ({"ttl": timedelta(seconds=29)}, "ttl"),
        ({"ttl": timedelta(seconds=601)}, "ttl"),
        ({"ttl": timedelta(days=-1)}, "ttl"),
        ({"code_length": 3}, "code_length"),
        ({"code_length": 11}, "code_length"),
        ({"code_length": 5}, "short_code_reason"),
        ({"code_length": 4, "short_code_reason": "  "}, "short_code_reason"),
        ({"code_length": 9}, "longer_length"),
        ({"longer_length": 11}, "longer_length"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"late_codes": "some"}, "late_codes"),
        ({"max_sends": 0}, "max_sends"),
        ({"max_sends": 11}, "max_sends"),
        ({"max_sends_per_day": 0}, "max_sends_per_day"),
        ({"max_live": 0}, "max_live"),
        ({"max_opens_per_client": 0}, "max_opens_per_client"),
        ({"cooldowns": ()}, "cooldowns"),
        ({"cooldowns": (-SECOND,)}, "cooldowns"),
        ({"cooldowns": (60 * SECOND, 30 * SECOND)}, "cooldowns"),
        ({"lock_after": 0}, "lock_after"),
        ({"cooldowns": (timedelta(days=2),)}, "cooldowns"),
        ({"max_sends_per_day": 10**9 + 1}, "max_sends_per_day"),
        ({"max_live": 2**63}, "max_live"),
        ({"max_opens_per_client": 10**30}, "max_opens_per_client"),
        ({"max_sends_per_prefix": 0}, "max_sends_per_prefix is 1 to"),
        ({"max_sends_per_country": -1}, "max_sends_per_country"),
        ({"max_sends_per_tenant": 10**9 + 1}, "max_sends_per_tenant"),
        ({"lock_after": 10**9 + 1}, "lock_after"),
        ({"stop_after": 10**9 + 1}, "stop_after"),
        ({"lock_cap": timedelta.max}, "lock_cap"),
        ({"countries": frozenset({"vn"})}, "countries .* not vn"),
        ({"countries": frozenset({"VN", "Vietnam"})}, "countries .* not Vietnam"),
        ({"lock_for": timedelta(0)}, "lock_for"),
        ({"lock_for": timedelta(days=2)}, "lock_cap"),
        ({"longer_after": 0}, "longer_after"),
        ({"longer_after": 2000}, "stop_after"),
        ({"profile": "gdpr"}, "profile"),
        ({"profile": "nist"}, "stop_after"),
        ({"profile": "nist", "stop_after": 101}, "stop_after"),
        ({"profile": "nist", "stop_after": 100, "code_length": 5, "short_code_reason": "x"}, "code_length"),
        ({"profile": "pci", "lock_after": 11}, "lock_after"),
        ({"profile": "psd2"}, "lock_after"),
        ({"profile": "psd2", "lock_after": 5, "max_attempts": 6}, "max_attempts"),
        ({"profile": "psd2", "lock_after": 5, "code_length": 5, "short_code_reason": "x"}, "code_length"),
        ({"profile": "psd2", "lock_after": 5, "route": Route.of("totp", "voice")}, "totp"),
        ({"profile": "pci", "lock_for": timedelta(minutes=29)}, "lock_for"),
    ],
)
def test_a_contradiction_is_named(change: dict[str, Any], named: str) -> None:
    """P2, P4, P95: refused when it is made, and the message says which number."""
    with pytest.raises(ConfigurationError, match=named):
        Policy(**change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ttl": 300}, "ttl as int, not as timedelta"),
        ({"ttl": None}, "ttl"),
        ({"cooldowns": [SECOND]}, "cooldowns"),
        ({"cooldowns": (30, 60)}, "cooldowns as tuple of int"),
        ({"max_attempts": "5"}, "max_attempts"),
        ({"max_attempts": 5.5}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"code_length": None}, "code_length"),
        ({"max_sends_per_prefix": "20"}, "max_sends_per_prefix as str, not as int or None"),
        ({"max_sends_per_country": True}, "max_sends_per_country as bool"),
        ({"max_sends_per_tenant": 5e3}, "max_sends_per_tenant as float"),
        ({"lock_after": float("nan")}, "lock_after"),
        ({"short_code_reason": None}, "short_code_reason"),
        ({"countries": {"VN"}}, "countries"),
        ({"countries": "VN"}, "countries"),
        ({"denied_classes": ["satellite"]}, "denied_classes"),
        ({"denied_classes": None}, "denied_classes"),
        ({"route": ["voice"]}, "route"),
        ({"late_codes": ["all"]}, "late_codes"),
        ({"profile": None}, "profile"),
    ],
)
def test_a_value_of_another_type_is_named(change: dict[str, Any], named: str) -> None:
    """Half an attempt would be one more; a set cannot be stored; and the error would come with the first person."""
    with pytest.raises(ConfigurationError, match=named):
        Policy(**change)


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ({"channel": 1}, "channel"),
        ({"after": 30}, "after"),
        ({"go_on": {"refused"}}, "go_on"),
        ({"only_countries": {"VN"}}, "only_countries"),
        ({"only_countries": frozenset({"vn"})}, "countries .* not vn"),
        ({"not_countries": frozenset({"USA"})}, "countries .* not USA"),
        ({"not_classes": None}, "not_classes"),
    ],
)
def test_a_step_is_checked_like_its_policy(step: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RouteStep(**({"channel": "voice"} | step))
    with pytest.raises(ConfigurationError, match="steps"):
        Route(steps=("voice",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"ttl": timedelta(seconds=30)},
        {"ttl": timedelta(seconds=600)},
        {"code_length": 4, "short_code_reason": "a door with a guard behind it"},
        {"code_length": 10, "longer_length": 10},
        {"max_attempts": 10},
        {"cooldowns": (timedelta(0),)},
        {"lock_for": timedelta(hours=24)},
        {"max_live": 10**9, "stop_after": 10**9, "max_sends_per_day": 10**9, "lock_after": 10**9},
        {"lock_cap": timedelta(days=365), "cooldowns": (timedelta(days=1),), "countries": frozenset({"VN"})},
        {"max_sends_per_prefix": 1, "max_sends_per_country": 10**9, "max_sends_per_tenant": None},
        {"profile": "pci"},
        {"profile": "nist", "stop_after": 100, "ttl": timedelta(minutes=10)},
    ],
)
def test_the_bounds_themselves_are_allowed(change: dict[str, Any]) -> None:
    """Inclusive, as they are documented."""
    assert Policy(**change)


def test_all_contradictions_are_told_at_once() -> None:
    """Nobody fixes them one restart at a time."""
    with pytest.raises(ConfigurationError) as refused:
        Policy(ttl=SECOND, max_attempts=99, max_live=0)
    assert all(name in str(refused.value) for name in ("ttl", "max_attempts", "max_live"))


def test_profiles_by_name() -> None:
    """They set what they demand, and take no weakening."""
    assert (Policy.nist().profile, Policy.nist().stop_after) == ("nist", 100)
    assert Policy.pci().profile == "pci"
    with pytest.raises(ConfigurationError, match="stop_after"):
        Policy.nist(stop_after=101)
    assert (Policy.psd2().profile, Policy.psd2().lock_after, Policy.psd2().max_attempts) == ("psd2", 5, 5)
    assert [Policy(profile=name).pays for name in ("default", "pci")] == [False, False]
    assert Policy.psd2().pays


@given(
    st.builds(
        Policy,
        route=st.builds(
            lambda names, step: Route(steps=(*Route.of(*names).steps, step)),
            st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3),
            st.builds(
                RouteStep,
                channel=st.just("last"),
                go_on=st.frozensets(st.sampled_from(["refused", "failed"])),
                after=st.none() | st.timedeltas(SECOND, timedelta(minutes=10)),
                no_report_within=st.none() | st.timedeltas(SECOND, timedelta(minutes=10)),
                only_classes=st.none() | st.frozensets(st.sampled_from(["mobile", "voip"])),
                not_countries=st.frozensets(st.sampled_from(["VN", "DE"])),
            ),
        ),
        ttl=st.integers(30, 600).map(lambda seconds: timedelta(seconds=seconds)),
        max_attempts=st.integers(1, 10),
        late_codes=st.sampled_from(["all", "newest"]),
        cooldowns=st.lists(st.integers(0, 900), min_size=1, max_size=5).map(
            lambda spans: tuple(timedelta(seconds=s) for s in sorted(spans))
        ),
        countries=st.none() | st.frozensets(st.sampled_from(["VN", "DE", "US"])),
        max_sends_per_prefix=st.none() | st.integers(1, 10**9),
        max_sends_per_tenant=st.none() | st.integers(1, 10**9),
        denied_classes=st.frozensets(st.sampled_from(sorted(DENIED_CLASSES))),
    )
)
def test_what_is_stored_is_the_policy(policy: Policy) -> None:
    """The frozen copy that a challenge carries reads back as itself, through JSON."""
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_a_copy_from_before_a_limit_existed_reads_with_it_off() -> None:
    """A challenge that was opened before an upgrade is verified and sent again after it."""
    limits = {"max_sends_per_prefix", "max_sends_per_country", "max_sends_per_tenant"}
    stored = {name: value for name, value in Policy().to_json().items() if name not in limits}
    assert Policy.from_json(stored) == Policy()


def test_cooldowns_grow_and_the_last_repeats() -> None:
    """P50."""
    policy = Policy()
    assert [policy.cooldown_after(sends).total_seconds() for sends in (0, 1, 2, 3, 4, 5, 99)] == [
        30,
        30,
        60,
        120,
        300,
        300,
        300,
    ]


def test_a_policy_is_frozen_and_takes_a_route() -> None:
    """What is open keeps its numbers; another route gives another policy."""
    policy = Policy()
    with pytest.raises(AttributeError):
        policy.max_attempts = 99  # type: ignore[misc]
    assert policy.with_route("sms", "voice").route.channels == ("sms", "voice")
    assert policy.route.channels == ("voice",)
