"""Routes: when the next step is taken, which one, and when not. Both databases, both colours."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from otpvoice import (
    ChallengeClosed,
    CodeMismatch,
    DeliveryError,
    DeliveryState,
    NoBalance,
    OutcomeUnknown,
    Policy,
    ProviderMisconfigured,
    ProviderUnavailable,
    RateLimited,
    RecipientRejected,
    Route,
    RouteStep,
    ServiceBusy,
    UnknownChannel,
)
from otpvoice.channels.base import Message
from otpvoice.clock import ManualClock
from otpvoice.runner import HashingPool
from tests.conftest import NUMBER, Maker
from tests.reporting import Reporting, push

LANDLINE = "+442079460958"
SECONDS = timedelta(seconds=1)


@dataclass
class Home:
    """A service that routes SMS, then voice, then a second voice provider."""

    make: Maker
    clock: ManualClock
    colour: str
    sms: Reporting = field(default_factory=lambda: Reporting("sms", medium="sms"))
    voice: Reporting = field(default_factory=lambda: Reporting("voice"))
    other: Reporting = field(default_factory=lambda: Reporting("other"))

    def service(self, *steps: RouteStep | str, **policy: Any) -> Any:
        route = Route(
            steps=tuple(
                RouteStep(channel=step) if isinstance(step, str) else step for step in steps or ("sms", "voice")
            )
        )
        return self.make(
            self.colour,
            channels=[self.sms, self.voice, self.other],
            policies={"login": Policy(route=route, hash_profile="fast", **policy)},
        )


@pytest.fixture(params=["sync", "async"])
def home(request: pytest.FixtureRequest, services: Maker, clock: ManualClock) -> Home:
    return Home(services, clock, request.param)


@pytest.mark.parametrize("refusal", [ProviderMisconfigured, ProviderUnavailable, NoBalance])
def test_a_refusal_takes_the_next_step_at_once(home: Home, refusal: type[DeliveryError]) -> None:
    home.sms.fail_with(refusal("no"))
    service = home.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    assert [(d.channel, d.state, d.cause) for d in challenge.deliveries] == [
        ("sms", DeliveryState.FAILED, None),
        ("voice", DeliveryState.ACCEPTED, "refused"),
    ]
    assert service.verify_code(challenge.id, home.voice.sent[-1].code).channel == "voice"


def test_a_rejected_recipient_ends_the_route(home: Home) -> None:
    home.sms.fail_with(RecipientRejected("nobody"))
    service = home.service()
    with pytest.raises(RecipientRejected) as refused:
        service.issue_code(NUMBER, purpose="login")
    assert home.voice.sent == ()
    assert refused.value.challenge is not None
    assert [d.channel for d in refused.value.challenge.deliveries] == ["sms"]


def busy(home: Home, channel: Reporting, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service with one place to hash, which somebody else takes while the provider of ``channel`` is asked."""
    service = home.service()
    pool = HashingPool(permits=1, queue=0)
    service._runner.hashing = pool
    keep, others = channel._keep, []

    def kept(message: Message) -> Any:
        others.append(pool.enter())
        return keep(message)

    monkeypatch.setattr(channel, "_keep", kept)
    return service, others


def test_a_busy_process_does_not_take_a_step_that_it_cannot_send(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no worker here that would ever send it: the refusal is told, and the person may ask at once."""
    home.sms.fail_with(ProviderUnavailable("down"))
    service, others = busy(home, home.sms, monkeypatch)
    with pytest.raises(ProviderUnavailable) as refused:
        service.issue_code(NUMBER, purpose="login")
    challenge = refused.value.challenge
    assert challenge is not None
    assert [(d.channel, d.state) for d in challenge.deliveries] == [("sms", DeliveryState.FAILED)]
    assert service.get(challenge.id).sends_left == challenge.sends_left == 4
    others.pop().release()
    after = service.resend_code(challenge.id)
    assert [(d.channel, d.state) for d in after.deliveries][1:] == [("voice", DeliveryState.ACCEPTED)]
    assert service.verify_code(challenge.id, home.voice.sent[-1].code).channel == "voice"


def test_a_busy_process_takes_no_report_of_a_failure(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is applied, so that the provider's next try tells it all."""
    service, others = busy(home, home.sms, monkeypatch)
    challenge = service.issue_code(NUMBER, purpose="login")
    failed = {"delivery_id": challenge.delivery.id, "state": "failed", "reason": "unreachable"}
    with pytest.raises(ServiceBusy):
        service.apply_report("sms", push(failed))
    assert [d.state for d in service.get(challenge.id).deliveries] == [DeliveryState.ACCEPTED]
    others.pop().release()
    assert service.apply_report("sms", push(failed)).news == 1
    assert [d.channel for d in service.get(challenge.id).deliveries] == ["sms", "voice"]
    assert len(home.voice.sent) == 1


def test_an_unknown_outcome_rings_nothing_else(home: Home) -> None:
    home.sms.fail_with(OutcomeUnknown("silence"))
    challenge = home.service().issue_code(NUMBER, purpose="login")
    assert challenge.delivery is not None
    assert challenge.delivery.state is DeliveryState.UNKNOWN
    assert home.voice.sent == ()


def test_a_misconfigured_provider_raises_an_alarm(home: Home) -> None:
    home.sms.fail_with(ProviderMisconfigured("no"))
    service = home.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    kinds = [event.kind for event in service.events(challenge.id)]
    assert "provider.alarm" in kinds
    assert "route.advanced" in kinds


def test_the_last_refusal_is_raised_when_the_route_is_at_its_end(home: Home) -> None:
    home.sms.fail_with(ProviderUnavailable("down"))
    home.voice.fail_with(NoBalance("empty"))
    with pytest.raises(NoBalance) as refused:
        home.service().issue_code(NUMBER, purpose="login")
    assert refused.value.challenge is not None
    assert [d.reason for d in refused.value.challenge.deliveries] == ["unavailable", "no_balance"]


def test_a_step_that_does_not_go_on_when_refused_stays(home: Home) -> None:
    home.sms.fail_with(ProviderUnavailable("down"))
    service = home.service(RouteStep(channel="sms", go_on=frozenset({"failed"})), "voice")
    with pytest.raises(ProviderUnavailable):
        service.issue_code(NUMBER, purpose="login")
    assert home.voice.sent == ()


def test_steps_are_for_classes_and_countries(home: Home) -> None:
    service = home.service(RouteStep(channel="sms", not_classes=frozenset({"fixed_line"})), "voice")
    assert service.issue_code(LANDLINE, purpose="login").delivery.channel == "voice"
    assert service.issue_code(NUMBER, purpose="login").delivery.channel == "sms"
    elsewhere = home.service(RouteStep(channel="sms", not_countries=frozenset({"VN"})), "voice")
    assert elsewhere.issue_code(NUMBER, purpose="login").delivery.channel == "voice"


def test_the_person_asks_and_the_next_step_is_taken_then_the_last_again(home: Home) -> None:
    service = home.service(max_sends=4)
    challenge = service.issue_code(NUMBER, purpose="login")
    assert challenge.next_step == "voice"
    home.clock.advance(30)
    again = service.resend_code(challenge.id)
    assert (again.delivery.channel, again.delivery.cause) == ("voice", "asked")
    home.clock.advance(60)
    assert service.resend_code(challenge.id).delivery.channel == "voice"
    home.clock.advance(120)
    assert service.resend_code(challenge.id, channel="sms").delivery.channel == "sms"
    with pytest.raises(UnknownChannel):
        service.resend_code(challenge.id, channel="other")


def test_every_code_of_an_open_challenge_is_right_or_the_newest_only(home: Home) -> None:
    for late_codes in ("all", "newest"):
        service = home.service(late_codes=late_codes)
        challenge = service.issue_code(NUMBER, purpose="login")
        late = home.sms.sent[-1].code
        home.clock.advance(30)
        service.resend_code(challenge.id)
        if late_codes == "all":
            verified = service.verify_code(challenge.id, late)
            assert verified.channel == "sms"
            assert [d.used for d in service.get(challenge.id).deliveries] == [True, False]
        else:
            with pytest.raises(CodeMismatch):
                service.verify_code(challenge.id, late)
            assert service.verify_code(challenge.id, home.voice.sent[-1].code).channel == "voice"


def test_a_failed_report_takes_the_next_step_and_the_late_sms_still_works(home: Home) -> None:
    service = home.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    late = home.sms.sent[-1].code
    failed = {
        "delivery_id": challenge.delivery.id,
        "state": "failed",
        "reason": "unreachable",
        "provider_code": "30003",
    }
    received = service.apply_report("sms", push(failed))
    assert (received.reports, received.news) == (1, 1)
    after = service.get(challenge.id)
    assert [(d.channel, d.state, d.cause) for d in after.deliveries] == [
        ("sms", DeliveryState.FAILED, None),
        ("voice", DeliveryState.ACCEPTED, "failed"),
    ]
    assert len(home.voice.sent) == 1
    assert service.apply_report("sms", push(failed, failed)).news == 0
    assert len(home.voice.sent) == 1
    assert service.verify_code(challenge.id, late).channel == "sms"


def test_an_earlier_deliverys_failure_lifts_no_cooldown(home: Home) -> None:
    """The call is under way: that the SMS before it failed is no reason for another one at once (P50, P54)."""
    service = home.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    home.clock.advance(30)
    called = service.resend_code(challenge.id)
    failed = {"delivery_id": challenge.delivery.id, "state": "failed", "reason": "unreachable"}
    assert service.apply_report("sms", push(failed)).news == 1
    assert service.get(challenge.id).resend_at == called.resend_at
    with pytest.raises(RateLimited):
        service.resend_code(challenge.id)
    of_the_call = {"delivery_id": called.delivery.id, "state": "failed", "reason": "busy"}
    assert service.apply_report("voice", push(of_the_call)).news == 1
    assert service.get(challenge.id).resend_at == home.clock.now()


def test_a_failed_report_of_an_invalid_number_ends_the_route(home: Home) -> None:
    service = home.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    service.apply_report(
        "sms", push({"delivery_id": challenge.delivery.id, "state": "failed", "reason": "invalid_number"})
    )
    assert home.voice.sent == ()


def test_automatic_steps_are_sends_that_count(home: Home) -> None:
    home.sms.fail_with(ProviderUnavailable("down"), times=10)
    service = home.service(max_sends_per_day=3)
    service.issue_code(NUMBER, purpose="login")
    with pytest.raises(ProviderUnavailable):
        service.issue_code(NUMBER, purpose="login")
    assert len(home.voice.sent) == 1
    with pytest.raises(RateLimited):
        service.issue_code(NUMBER, purpose="login")


def test_the_events_say_what_was_passed_over_and_what_was_asked_for(home: Home) -> None:
    service = home.service(RouteStep(channel="sms", not_classes=frozenset({"fixed_line"})), "voice", "other")
    challenge = service.issue_code(LANDLINE, purpose="login")
    home.clock.advance(30)
    service.resend_code(challenge.id)
    home.clock.advance(60)
    service.resend_code(challenge.id, channel="voice")
    told = [
        event.data for event in service.events(challenge.id) if event.kind in {"challenge.opened", "route.advanced"}
    ]
    assert told == [
        {"purpose": "login", "step": 1, "channel": "voice", "passed_over": {"sms": "not for such numbers"}},
        {"from": "voice", "to": "other", "cause": "asked"},
        {"from": "other", "to": "voice", "cause": "asked"},
    ]


@pytest.mark.parametrize("policy", [{"max_sends_per_day": 1}, {"max_sends": 1}])
def test_a_failed_report_beyond_a_limit_is_written_down_and_says_why_nothing_follows(
    home: Home, policy: dict[str, int]
) -> None:
    service = home.service(**policy)
    challenge = service.issue_code(NUMBER, purpose="login")
    failed = {"delivery_id": challenge.delivery.id, "state": "failed", "reason": "unreachable"}
    assert service.apply_report("sms", push(failed)).news == 1
    after = service.get(challenge.id)
    assert [(d.state, d.reason) for d in after.deliveries] == [(DeliveryState.FAILED, "unreachable")]
    assert home.voice.sent == ()
    (stopped,) = [event for event in service.events(challenge.id) if event.kind == "route.stopped"]
    assert (stopped.data["from"], stopped.data["to"], stopped.data["cause"]) == ("sms", "voice", "failed")
    assert "1 sends a" in stopped.data["why"]


def test_a_channel_that_keeps_failing_is_skipped_and_tried_again(home: Home) -> None:
    service = home.service("sms", "voice", max_live=100, max_sends_per_day=100)
    home.sms.fail_with(ProviderUnavailable("down"), times=5)
    for _ in range(5):
        service.issue_code(NUMBER, purpose="login")
    skipped = service.issue_code(NUMBER, purpose="login")
    assert [d.channel for d in skipped.deliveries] == ["voice"]
    assert service.events(skipped.id)[0].data["passed_over"] == {"sms": "keeps failing"}
    health = service.health()
    assert (health["sms"].failures, health["sms"].reason) == (5, "unavailable")
    assert health["sms"].resting_until is not None
    assert (health["sms"].rates.acceptance, health["voice"].rates.acceptance) == (0, 1)
    assert health["other"].rates is None
    home.clock.advance(31)
    tried = service.issue_code(NUMBER, purpose="login")
    assert [d.channel for d in tried.deliveries] == ["sms"]
    assert service.issue_code(NUMBER, purpose="login").deliveries[0].channel == "sms"


def test_a_clock_that_is_put_back_ends_a_pause(home: Home) -> None:
    """A breaker that opened at noon does not keep its channel skipped from eleven to noon."""
    service = home.service("sms", "voice", max_live=100, max_sends_per_day=100)
    home.sms.fail_with(ProviderUnavailable("down"), times=6)
    for _ in range(5):
        service.issue_code(NUMBER, purpose="login")
    home.clock.advance(timedelta(hours=-1))
    assert service.health()["sms"].resting_until is None
    assert [d.channel for d in service.issue_code(NUMBER, purpose="login").deliveries] == ["sms", "voice"]
    assert service.health()["sms"].resting_until is not None


def test_nothing_goes_on_once_a_challenge_is_closed(home: Home) -> None:
    service = home.service()
    challenge = service.issue_code(NUMBER, purpose="login")
    service.cancel(challenge.id)
    service.apply_report("sms", push({"delivery_id": challenge.delivery.id, "state": "failed"}))
    assert home.voice.sent == ()
    assert service.get(challenge.id).deliveries[0].state is DeliveryState.FAILED
    with pytest.raises(ChallengeClosed):
        service.resend_code(challenge.id)
