"""What ``otpvoice show`` prints: a story that a support person can read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from otpvoice import Delivery, DeliveryState, Medium
from otpvoice.cli.view import describe, timeline
from otpvoice.store.events import Event

AT = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SMS = Delivery(
    id="dl_sms",
    channel="sms",
    provider="itnio",
    medium=Medium.SMS,
    step=0,
    state=DeliveryState.FAILED,
    reason="failed",
    provider_code="UNDELIV",
    created_at=AT,
)
CALL = Delivery(
    id="dl_call",
    channel="voice",
    provider="itnio",
    medium=Medium.VOICE,
    step=1,
    state=DeliveryState.DELIVERED,
    cause="failed",
    created_at=AT,
    answered_at=AT + timedelta(seconds=17),
    ended_at=AT + timedelta(seconds=43),
    ring_seconds=7,
    talk_seconds=26,
    price="0.02",
    currency="USD",
    used=True,
)


def lines(*happened: Event) -> list[str]:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(timeline(happened, [SMS, CALL]))
    return [line.strip() for line in captured.get().splitlines()[1:]]


def event(kind: str, delivery: Delivery | None = None, **data: Any) -> Event:
    return Event(kind=kind, tenant="shop", delivery_id=delivery and delivery.id, data=data, at=AT)


def test_a_delivery_says_when_it_rang_how_long_it_talked_and_why_it_was_made() -> None:
    assert describe(CALL) == (
        "voice by itnio: delivered, taken because it did not get through, rang 7 s from 12:00:10 UTC, "
        "answered 12:00:17 UTC, talked 26 s, price 0.02 USD, its code was typed"
    )
    assert describe(SMS) == "sms by itnio: failed, provider's code UNDELIV"


def test_a_timeline_names_each_delivery_and_says_why_the_next_step_was_taken() -> None:
    told = lines(
        event("challenge.opened", purpose="login", step=0, channel="sms"),
        event("delivery.accepted", SMS, channel="sms", provider="itnio", step=0, reference="123"),
        event("delivery.reported", SMS, channel="sms", provider="itnio", state="failed", reason="failed", code="X1"),
        event("route.advanced", **{"from": "sms", "to": "voice", "cause": "failed"}),
        event(
            "delivery.reported",
            CALL,
            channel="voice",
            provider="itnio",
            state="delivered",
            asked=True,
            reason="voicemail_suspected",
            answered_at=(AT + timedelta(seconds=17)).isoformat(),
            ring_seconds=7,
            talk_seconds=3,
        ),
        event("challenge.approved", CALL, channel="voice"),
    )
    assert told == [
        "12:00:00.000  opened  (purpose login, step 1, channel sms)",
        "12:00:00.000  delivery 1, sms by itnio: the provider took it  (provider's id 123)",
        "12:00:00.000  delivery 1, sms by itnio: the provider reported it as failed  (provider's code X1)",
        "12:00:00.000  the next step of the route was taken  (from sms, to voice, because it did not get through)",
        (
            "12:00:00.000  delivery 2, voice by itnio: asked, the provider reported it as delivered  "
            "(voicemail suspected, rang 7 s from 12:00:10 UTC, answered 12:00:17 UTC, talked 3 s)"
        ),
        "12:00:00.000  approved: the code of delivery 2, voice, was right",
    ]


def test_a_timeline_says_what_was_passed_over_and_what_the_person_asked_for() -> None:
    told = lines(
        event("challenge.opened", purpose="login", step=1, channel="voice", passed_over={"sms": "keeps failing"}),
        event("route.advanced", **{"from": "voice", "to": "voice", "cause": "asked"}),
        event("route.stopped", **{"from": "sms", "to": "voice", "cause": "failed", "why": "5 sends a challenge"}),
        event("something.new", odd_value=3),
    )
    assert told == [
        "12:00:00.000  opened  (purpose login, step 2, channel voice, sms was passed over: keeps failing)",
        (
            "12:00:00.000  the same step was taken again  "
            "(from voice, to voice, because the person asked for another code)"
        ),
        (
            "12:00:00.000  the next step of the route may not be taken  "
            "(from sms, to voice, because it did not get through, why 5 sends a challenge)"
        ),
        "12:00:00.000  something new  (odd value 3)",
    ]
