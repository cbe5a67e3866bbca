"""Reports: repeated, late, out of order, forged, and from strangers. They change what is known, nothing else."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice import ChallengeState, DeliveryState, Medium
from otpvoice.channels.base import REASONS, Report, ReportRejected, ReportRequest
from otpvoice.clock import ManualClock
from otpvoice.reports import merge
from otpvoice.store.deliveries import DeliveryRow
from tests.conftest import NUMBER, Maker
from tests.reporting import Reporting, push

AT = datetime(2026, 1, 1, tzinfo=UTC)
ROW = DeliveryRow(
    id="dl_" + "0" * 32,
    challenge_id="ch_" + "0" * 32,
    channel="voice",
    provider="memory",
    medium=Medium.VOICE,
    step=0,
    state=DeliveryState.ACCEPTED,
    code_length=6,
    created_at=AT,
    due_at=None,
    sent_at=AT,
    settled_at=AT,
    reference="r1",
)

reports = st.builds(
    Report,
    reference=st.just("r1"),
    state=st.sampled_from([DeliveryState.ACCEPTED, DeliveryState.FAILED, DeliveryState.DELIVERED]),
    ring_seconds=st.none() | st.just(7),
    talk_seconds=st.none() | st.just(12),
    price=st.none() | st.just(Decimal("0.02")),
)


@given(st.lists(reports, min_size=1, max_size=4))
def test_the_same_reports_in_any_order_and_repeated_end_alike(several: list[Report]) -> None:
    ends = set()
    for order in itertools.permutations(several):
        row = ROW
        for report in [*order, *order]:
            row = merge(row, report, AT)
        ends.add((row.state, row.reported_at is not None))
    assert len(ends) == 1


@given(reports)
def test_a_repeated_report_tells_nothing_new(report: Report) -> None:
    once = merge(ROW, report, AT)
    assert merge(once, report, AT + timedelta(hours=1)) == once


def test_our_id_with_a_strangers_reference_changes_nothing() -> None:
    forged = Report(delivery_id=ROW.id, reference="r2", state=DeliveryState.FAILED)
    assert merge(ROW, forged, AT) == ROW


def test_a_providers_words_are_stored_short_and_printable() -> None:
    row = merge(ROW, Report(reference="r1", state=DeliveryState.FAILED, provider_code="x\r\n\x1b[31m" + "y" * 500), AT)
    assert row.provider_code is not None
    assert row.provider_code.isprintable()
    assert len(row.provider_code) <= 64


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def voice() -> Reporting:
    return Reporting("voice")


@pytest.fixture
def service(services: Maker, colour: str, voice: Reporting) -> Any:
    return services(colour, channels=[voice, Reporting("elsewhere")])


def test_a_report_is_told_by_get_and_by_the_events(service: Any) -> None:
    challenge = service.issue_code(NUMBER, purpose="login")
    service.apply_report(
        "voice",
        push(
            {
                "reference": challenge.delivery.reference,
                "state": "delivered",
                "reason": "voicemail_suspected",
                "ring_seconds": 9,
                "talk_seconds": 3,
                "price": "0.02",
                "currency": "USD",
                "provider_code": "200",
            }
        ),
    )
    seen = service.get(challenge.id).delivery
    assert (seen.state, seen.reason) == (DeliveryState.DELIVERED, "voicemail_suspected")
    assert (seen.ring_seconds, seen.talk_seconds, seen.price, seen.currency) == (9, 3, "0.02", "USD")
    (event,) = [event for event in service.events(challenge.id) if event.kind == "delivery.reported"]
    assert event.data["talk_seconds"] == 3


@pytest.mark.parametrize("state", ["accepted", "failed", "delivered"])
def test_no_report_touches_a_verification(service: Any, voice: Reporting, state: str) -> None:
    """Property P86: a callback can change the delivery's state only."""
    challenge = service.issue_code(NUMBER, purpose="login")
    service.apply_report("voice", push({"delivery_id": challenge.delivery.id, "state": state}))
    after = service.get(challenge.id)
    assert after.state is ChallengeState.PENDING
    assert after.attempts_left == challenge.attempts_left
    assert after.expires_at == challenge.expires_at
    assert service.verify_code(challenge.id, voice.sent[-1].code).challenge_id == challenge.id


def test_strangers_reports_are_ignored(service: Any, services: Maker, colour: str) -> None:
    challenge = service.issue_code(NUMBER, purpose="login")
    sent = challenge.delivery
    for stranger in (
        {"delivery_id": "dl_" + "f" * 32, "state": "failed"},
        {"delivery_id": "' OR 1=1 --", "state": "failed"},
        {"reference": "nobody's", "state": "failed"},
        {"state": "failed"},
    ):
        assert service.apply_report("voice", push(stranger)).news == 0
    # The same words through another channel are a stranger's too.
    assert service.apply_report("elsewhere", push({"delivery_id": sent.id, "state": "failed"})).news == 0
    assert service.get(challenge.id).delivery == sent


def test_a_report_for_a_finished_challenge_is_kept_and_rings_nothing(service: Any, voice: Reporting) -> None:
    challenge = service.issue_code(NUMBER, purpose="login")
    service.verify_code(challenge.id, voice.sent[-1].code)
    assert service.apply_report("voice", push({"delivery_id": challenge.delivery.id, "state": "failed"})).news == 1
    after = service.get(challenge.id)
    assert after.state is ChallengeState.APPROVED
    assert len(voice.sent) == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'[{"state": "approved"}]', b'[{"state": 1, "x": 2}]', b"\xff" * 9]
)
def test_what_is_no_report_is_rejected(service: Any, body: bytes) -> None:
    service.issue_code(NUMBER, purpose="login")
    request = ReportRequest(method="POST", url="https://example.org", headers={"x-secret": "hush"}, body=body)
    with pytest.raises(ReportRejected):
        service.apply_report("voice", request)
    with pytest.raises(ReportRejected) as forged:
        service.apply_report("voice", push(secret="guess"))
    assert not forged.value.authentic


def test_a_clock_that_jumps_back_loses_nothing(service: Any, clock: ManualClock) -> None:
    challenge = service.issue_code(NUMBER, purpose="login")
    clock.advance(timedelta(days=-1))
    assert service.apply_report("voice", push({"delivery_id": challenge.delivery.id, "state": "delivered"})).news == 1


def test_the_reasons_are_words() -> None:
    assert all(reason.replace("_", "").isalpha() for reason in REASONS)
