"""Issuing: what is refused before anything is charged, what is reserved, and what a delivery's failure leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from otpvoice import (
    Binding,
    ChallengeClosed,
    ChallengeState,
    DeliveryState,
    InvalidRecipient,
    InvalidRequest,
    LockedOut,
    RateLimited,
    RecipientDenied,
    UnknownChannel,
    UnknownPurpose,
    errors,
)
from otpvoice.channels.memory import Memory, MemorySettings
from otpvoice.store import tables
from tests.conftest import NUMBER, OTHER_NUMBER, Otp, policies
from tests.core_tools import embedded, of_tenant
from tests.hostile import NO_NAMES, NO_RECIPIENTS, NO_TEXT, SURROGATE, UNSPEAKABLE


@pytest.fixture(scope="module")
def hall(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Otp]:
    """One synchronous service on SQLite for all the tests that refuse: they leave nothing behind."""
    with embedded(sqlite_template, tmp_path_factory.mktemp("hall")) as desk:
        yield desk


def rows(service: Any, *named: str) -> dict[str, int]:
    """How many rows these tables hold."""
    return {
        name: service._assembly.store.transact(
            lambda connection, _now, name=name: connection.execute(
                select(func.count()).select_from(tables.metadata.tables[name])
            ).scalar_one()
        )
        for name in named
    }


# --- What is wrong is refused, and costs nothing


@pytest.mark.parametrize(
    ("change", "error"),
    [
        *(({"recipient": value}, InvalidRecipient) for value in (*NO_RECIPIENTS, *NO_TEXT)),
        *(({"subject": value}, InvalidRequest) for value in (*NO_NAMES, *NO_TEXT)),
        *(({"client": value}, InvalidRequest) for value in (*NO_NAMES, *NO_TEXT)),
        *(({"locale": value}, InvalidRequest) for value in (*NO_NAMES, *NO_TEXT, "e", "en_", "english!", "en-\n")),
        *(
            ({"purpose": value}, UnknownPurpose)
            for value in (None, *NO_TEXT, *NO_NAMES, "Login", "login\n", "x" * 10**6)
        ),
        *(({"purpose": value}, UnknownPurpose) for value in UNSPEAKABLE),
        *(({"channel": value}, UnknownChannel) for value in UNSPEAKABLE),
        *(({name: value}, InvalidRequest) for value in UNSPEAKABLE for name in ("recipient", "subject", "binding")),
        *(({"channel": value}, UnknownChannel) for value in (*NO_TEXT, *NO_NAMES, "sms", "totp", "Voice", "x" * 10**6)),
        *(({"binding": value}, InvalidRequest) for value in (*NO_TEXT, "10.50")),
        *(
            ({"binding": {"amount": value, "currency": "EUR"}}, InvalidRequest)
            for value in ("", "0", "0.00", "-1", "1e5", "1,5", "١", "1.1234567", "NaN", "Infinity", "9" * 16, 10, 1.5)
        ),
        *(
            ({"binding": {"amount": "1", "currency": value}}, InvalidRequest)
            for value in ("", "eur", "EURO", "€", "EU\n", SURROGATE, 978)
        ),
        *(({"binding": {"payee": value}}, InvalidRequest) for value in (*NO_NAMES, "x" * 71, 5, ["a"])),
        *(({"binding": {"reference": value}}, InvalidRequest) for value in ("", "a\x00", SURROGATE, "x" * 513, 5)),
        ({"binding": {"amount": "1"}}, InvalidRequest),
        ({"binding": {"currency": "EUR"}}, InvalidRequest),
        ({"binding": {"iban": "x"}}, InvalidRequest),
        ({"binding": {1: "x"}}, InvalidRequest),
        ({"binding": {}}, InvalidRequest),
        ({"binding": {"payee": None}}, InvalidRequest),
        ({"binding": Binding()}, InvalidRequest),
        ({"recipient": None}, InvalidRequest),
        ({"recipient": "a@example.org"}, InvalidRequest),
        ({"recipient": "+3290012345"}, RecipientDenied),
        ({"recipient": "+870773111632"}, RecipientDenied),
    ],
)
def test_what_is_wrong_is_refused_and_costs_nothing(hall: Otp, change: dict[str, Any], error: type[Exception]) -> None:
    """Our error, a short message, and no challenge, delivery, counter, ledger or call."""
    with pytest.raises(error) as refused:
        hall.service.issue_code(**({"recipient": NUMBER, "purpose": "login"} | change))
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()
    assert hall.voice.sent == ()
    assert set(rows(hall.service, "challenge", "delivery", "counter", "ledger").values()) == {0}


def test_a_denied_number_is_written_down_masked(hall: Otp) -> None:
    """P78: the audit says that somebody wanted to call it, with the hint only."""
    with pytest.raises(RecipientDenied):
        hall.service.issue_code("+3290012345", purpose="login")
    store = hall.service._assembly.store
    (data,) = [
        row.data
        for row in store.transact(lambda connection, _now: connection.execute(select(tables.event)).all())
        if row.kind == "send.refused"
    ][-1:]
    assert data["error"] == "RecipientDenied"
    assert "90012345" not in str(data)


def test_members_of_a_binding_are_kept(otp: Otp) -> None:
    """P14: spoken to the person, and returned by the proof as they were opened."""
    binding = {"amount": "10.50", "currency": "EUR", "payee": "ACME & Söhne"}
    challenge = otp.service.issue_code(NUMBER, purpose="payment", binding=binding)
    assert "ACME" in otp.voice.sent[-1].text
    assert otp.service.verify_code(challenge.id, otp.code).binding == Binding(**binding)


@pytest.mark.parametrize(
    ("locale", "expected"), [(None, "vi"), ("en", "en"), ("en-GB", "en"), ("xx", "vi"), ("zz-ZZ", "vi")]
)
def test_the_locale_asked_for_or_the_countrys(hall: Otp, locale: str | None, expected: str) -> None:
    """What nobody speaks falls back; nothing is refused for a language."""
    hall.clock.advance(timedelta(days=2))
    challenge = hall.service.issue_code(NUMBER, purpose="login", locale=locale)
    spoken = hall.voice.sent[-1].locale.split("-")[0]
    assert spoken in {expected, "en"}
    assert spoken == expected or locale not in {"en", "en-GB"}
    hall.service.cancel(challenge.id)


# --- Limits


def test_five_sends_a_challenge(otp: Otp) -> None:
    """P50: the first and four more, each after its cooldown; then a new challenge is needed."""
    service = otp.again(policies=policies(cooldowns=(timedelta(0),)))
    challenge = service.issue_code(NUMBER, purpose="login")
    for left in (3, 2, 1, 0):
        challenge = service.resend_code(challenge.id)
        assert challenge.sends_left == left
    assert (challenge.resend_at, challenge.next_step) == (None, None)
    with pytest.raises(RateLimited, match="5 sends a challenge") as limited:
        service.resend_code(challenge.id)
    assert limited.value.retry_after == timedelta(minutes=5)
    assert len(otp.voice.sent) == 5
    assert service.verify_code(challenge.id, otp.code)


def test_ten_sends_a_day_and_recipient(otp: Otp) -> None:
    """P50, P55: over purposes, spellings, subjects and tenants; a day after the first one there are ten again."""
    spellings = [NUMBER, "+84 912 345 678", "+84 (0)912-345-678", "＋８４９１２３４５６７８"]
    purposes = ["login", "signup", "reset", "payment"]
    other_tenant = of_tenant(otp, "other")
    for number in range(10):
        service = other_tenant if number % 5 == 4 else otp.service
        challenge = service.issue_code(spellings[number % 4], purpose=purposes[number % 4], subject=f"s{number}")
        service.cancel(challenge.id)
        otp.clock.advance(timedelta(hours=2))
    with pytest.raises(RateLimited, match="10 sends a day") as limited:
        otp.service.issue_code(NUMBER, purpose="login")
    assert limited.value.retry_after == timedelta(hours=4)
    with pytest.raises(RateLimited):
        other_tenant.issue_code(NUMBER, purpose="verify")
    assert otp.service.issue_code(OTHER_NUMBER, purpose="login")
    otp.clock.advance(timedelta(hours=4))
    assert otp.service.issue_code(NUMBER, purpose="login")


def test_a_resend_counts_for_the_day(otp: Otp) -> None:
    """The eleventh send of the day is refused, also inside an open challenge."""
    service = otp.again(policies=policies(cooldowns=(timedelta(0),), max_sends_per_day=3))
    challenge = service.issue_code(NUMBER, purpose="login")
    for _ in range(2):
        service.resend_code(challenge.id)
    with pytest.raises(RateLimited, match="3 sends a day"):
        service.resend_code(challenge.id)
    assert service.get(challenge.id).sends_left == 2, "what was refused is not counted as sent"


def test_three_live_challenges(otp: Otp) -> None:
    """P50: a fourth waits until one is used, cancelled or over."""
    opened = [otp.service.issue_code(NUMBER, purpose="login", subject=f"s{n}") for n in range(3)]
    otp.clock.advance(60)
    with pytest.raises(RateLimited, match="3 open challenges") as limited:
        otp.service.issue_code(NUMBER, purpose="reset")
    assert limited.value.retry_after == timedelta(minutes=4)
    otp.service.cancel(opened[0].id)
    otp.service.issue_code(NUMBER, purpose="reset")
    otp.clock.advance(timedelta(minutes=4))
    otp.service.issue_code(NUMBER, purpose="reset")


def test_a_refusal_charges_nothing(otp: Otp) -> None:
    """The recipient's day and the client's hour are as they were before it."""
    service = otp.again(policies=policies(max_sends_per_day=4, max_opens_per_client=4))
    for _ in range(3):
        service.issue_code(NUMBER, purpose="login", client="192.0.2.1")
    for _ in range(5):
        with pytest.raises(RateLimited, match="open challenges"):
            service.issue_code(NUMBER, purpose="login", client="192.0.2.1")
    otp.clock.advance(timedelta(minutes=5))
    service.issue_code(NUMBER, purpose="login", client="192.0.2.1")


def test_twenty_openings_an_hour_and_client(otp: Otp) -> None:
    """P30: over recipients, and over the addresses of one IPv6 household; other clients go on."""
    service = otp.again(policies=policies(max_opens_per_client=4))
    numbers = [f"+8491234{n:04d}" for n in range(7)]
    for n, number in enumerate(numbers[:4]):
        service.issue_code(number, purpose="login", client=f"2001:db8::{n}")
    with pytest.raises(RateLimited, match="4 challenges an hour"):
        service.issue_code(numbers[4], purpose="login", client="2001:DB8:0:0:ffff::1")
    service.issue_code(numbers[4], purpose="login", client="2001:db8:0:1::1")
    service.issue_code(numbers[5], purpose="login")
    otp.clock.advance(timedelta(hours=1))
    service.issue_code(numbers[6], purpose="login", client="2001:db8::1")


def test_limits_hold_over_restarts_and_processes(otp: Otp) -> None:
    """P31: they are in the database."""
    for service in (otp.service, otp.again(), otp.again()):
        service.issue_code(NUMBER, purpose="login")
    with pytest.raises(RateLimited):
        otp.again().issue_code(NUMBER, purpose="login")


def test_limits_hold_over_a_rotation_of_the_secret(otp: Otp) -> None:
    """A new key in front finds what the old one counted; the open challenges still verify."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    code = otp.code
    rotated = otp.again(
        secret=["another-root-secret-0815-with-Entropy-xyz", "correct-horse-battery-staple-0123456789"],
        policies=policies(max_sends_per_day=2),
    )
    rotated.issue_code(NUMBER, purpose="login")
    with pytest.raises(RateLimited, match="2 sends a day"):
        rotated.issue_code(NUMBER, purpose="login")
    assert rotated.verify_code(challenge.id, code).recipient == NUMBER


# --- Resending, cancelling, looking


def test_what_is_closed_is_not_sent_again(otp: Otp) -> None:
    """P94: approved, cancelled, expired and unknown challenges take no resend and no cancel."""
    used = otp.service.issue_code(NUMBER, purpose="login")
    otp.service.verify_code(used.id, otp.code)
    cancelled = otp.service.issue_code(NUMBER, purpose="login")
    assert otp.service.cancel(cancelled.id).state is ChallengeState.CANCELLED
    expired = otp.service.issue_code(NUMBER, purpose="login")
    otp.clock.advance(timedelta(minutes=5))
    for challenge_id in (used.id, cancelled.id, expired.id, "ch_" + "0" * 32):
        with pytest.raises(ChallengeClosed):
            otp.service.resend_code(challenge_id)
        with pytest.raises(ChallengeClosed):
            otp.service.cancel(challenge_id)
    assert len(otp.voice.sent) == 3
    assert otp.service.get(expired.id).state is ChallengeState.EXPIRED


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "ch_",
        "ch_" + "0" * 31,
        "ch_" + "G" * 32,
        "ch_" + "0" * 32 + "\n",
        "\x00",
        SURROGATE,
        "x" * 10**6,
        "' OR 1=1 --",
    ],
)
def test_an_id_that_cannot_be_one_is_unknown(hall: Otp, value: str) -> None:
    """P10, P83: as any other unknown id, on every way in, whatever its text."""
    for operation in (hall.service.resend_code, hall.service.cancel, hall.service.get):
        with pytest.raises(ChallengeClosed) as closed:
            operation(value)
        assert closed.value.reason == "unknown"
    assert hall.service.events(value) == []
    with pytest.raises(ChallengeClosed):
        hall.service.verify_code(value, "123456")


@pytest.mark.parametrize("value", [None, *NO_TEXT])
def test_an_id_that_is_no_text_is_a_mistake(hall: Otp, value: Any) -> None:
    """A caller's bug is told, not taken for a closed challenge."""
    for operation in (hall.service.resend_code, hall.service.cancel, hall.service.get, hall.service.events):
        with pytest.raises(InvalidRequest, match="str"):
            operation(value)
    with pytest.raises(InvalidRequest):
        hall.service.verify_code(value, "123456")


def test_tenants_do_not_see_each_other(otp: Otp) -> None:
    """P13: another tenant's challenge is as unknown as a random id."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    other = of_tenant(otp, "other")
    for operation in (other.get, other.cancel, other.resend_code):
        with pytest.raises(ChallengeClosed) as closed:
            operation(challenge.id)
        assert closed.value.reason == "unknown"
    with pytest.raises(ChallengeClosed):
        other.verify_code(challenge.id, otp.code)
    assert {event.kind for event in other.events(challenge.id)} <= {"send.refused"}, "its own refusals at the most"
    assert otp.service.get(challenge.id).attempts_left == 5


def test_ids_are_random(otp: Otp) -> None:
    """P10: 128 bits each, and they differ."""
    ids = {otp.service.issue_code(f"+8491234{n:04d}", purpose="login").id for n in range(8)}
    assert len(ids) == 8
    assert {len(bytes.fromhex(item.removeprefix("ch_"))) for item in ids} == {16}


def test_the_story_of_a_challenge(otp: Otp) -> None:
    """P78: in order, in UTC, with no secret in it."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    code = otp.code
    with pytest.raises(errors.CodeMismatch):
        otp.service.verify_code(challenge.id, otp.wrong())
    otp.service.verify_code(challenge.id, code)
    story = otp.service.events(challenge.id)
    assert [event.kind for event in story] == [
        "challenge.opened",
        "delivery.delivered",
        "attempt.charged",
        "attempt.charged",
        "challenge.approved",
    ]
    assert code not in str(story)
    assert NUMBER[3:] not in str(story)


# --- Channels and steps


def test_a_resend_takes_the_next_step_and_the_last_one_repeats(otp: Otp) -> None:
    """SMS first, then voice, then voice again; the challenge says what comes next."""
    sms = Memory("sms", MemorySettings(medium="sms"))
    service = otp.again(channels=[sms, otp.voice], policies=policies("sms", "voice", cooldowns=(timedelta(0),)))
    challenge = service.issue_code(NUMBER, purpose="login")
    assert (challenge.delivery.channel, challenge.next_step) == ("sms", "voice")
    for _ in range(2):
        challenge = service.resend_code(challenge.id)
        assert (challenge.delivery.channel, challenge.delivery.step, challenge.next_step) == ("voice", 1, "voice")
    assert (len(sms.sent), len(otp.voice.sent)) == (1, 2)
    assert len({sms.sent[0].code, *(sent.code for sent in otp.voice.sent)}) > 1
    assert service.verify_code(challenge.id, sms.sent[0].code).channel == "sms", "a late code still works"


def test_a_channel_can_be_asked_for_where_the_route_has_it(otp: Otp) -> None:
    """P17: a request picks among the policy's channels and cannot leave them."""
    sms = Memory("sms", MemorySettings(medium="sms"))
    service = otp.again(channels=[sms, otp.voice], policies=policies("sms", "voice", cooldowns=(timedelta(0),)))
    challenge = service.issue_code(NUMBER, purpose="login", channel="voice")
    assert challenge.delivery.channel == "voice"
    assert service.resend_code(challenge.id, channel="sms").delivery.channel == "sms"
    for name in ("email", "totp", "", "VOICE"):
        with pytest.raises(UnknownChannel):
            service.resend_code(challenge.id, channel=name)


def test_steps_that_cannot_reach_the_recipient_are_passed_over(otp: Otp) -> None:
    """A mailbox gets e-mail, a number gets a call; a channel of the other kind cannot be asked for."""
    mail = Memory("mail", MemorySettings(medium="email"))
    service = otp.again(channels=[mail, otp.voice], policies=policies("voice", "mail"))
    assert service.issue_code("a@example.org", purpose="login").delivery.channel == "mail"
    assert service.issue_code(NUMBER, purpose="login").delivery.channel == "voice"
    with pytest.raises(InvalidRequest, match="reach"):
        service.issue_code("a@example.org", purpose="login", channel="voice")
    with pytest.raises(InvalidRequest, match="reach"):
        service.issue_code(NUMBER, purpose="login", channel="mail")


# --- What a delivery's failure leaves


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.ProviderMisconfigured("wrong appId", provider="p", code="-3"), "misconfigured"),
        (errors.ProviderUnavailable("down", provider="p"), "unavailable"),
        (errors.ProviderThrottled("slowly", provider="p"), "throttled"),
        (errors.NoBalance("no money", provider="p", code="-10"), "no_balance"),
        (errors.RecipientRejected("no such number", provider="p"), "recipient_rejected"),
        (errors.ContentRejected("bad text", provider="p"), "content_rejected"),
    ],
)
def test_a_refused_delivery_is_raised_and_the_challenge_stays_open(
    hall: Otp, error: errors.DeliveryError, reason: str
) -> None:
    """The error carries the challenge; the cooldown is lifted; the next code is sent at once and verifies."""
    hall.clock.advance(timedelta(days=2))
    hall.voice.fail_with(error)
    with pytest.raises(type(error)) as failed:
        hall.service.issue_code(NUMBER, purpose="login")
    challenge = failed.value.challenge
    assert challenge is not None
    assert challenge.state is ChallengeState.PENDING
    assert (challenge.delivery.state, challenge.delivery.reason) == (DeliveryState.FAILED, reason)
    assert challenge.delivery.provider_code == (error.code or None)
    assert challenge.resend_at <= hall.clock.now()
    again = hall.service.resend_code(challenge.id)
    assert again.delivery.state is DeliveryState.DELIVERED
    assert again.sends_left == 3
    assert hall.service.verify_code(challenge.id, hall.code)


def test_a_failed_resend_is_raised_too_and_the_first_code_stays(otp: Otp) -> None:
    """The code that arrived before is not lost with the one that did not."""
    challenge = otp.service.issue_code(NUMBER, purpose="login")
    first = otp.code
    otp.clock.advance(30)
    otp.voice.fail_with(errors.NoBalance("no money"))
    with pytest.raises(errors.NoBalance) as failed:
        otp.service.resend_code(challenge.id)
    assert failed.value.challenge.id == challenge.id
    assert [item.state for item in failed.value.challenge.deliveries] == [DeliveryState.DELIVERED, DeliveryState.FAILED]
    assert otp.service.verify_code(challenge.id, first)


@pytest.mark.parametrize(
    "error", [errors.OutcomeUnknown("no answer"), RuntimeError("a third party's bug"), KeyError("x")]
)
def test_an_unknown_outcome_is_no_failure(hall: Otp, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It may be ringing: the challenge is returned, its code verifies, and the cooldown holds."""
    hall.clock.advance(timedelta(days=2))
    hall.voice.fail_with(error, taken=True)
    challenge = hall.service.issue_code(NUMBER, purpose="login")
    assert challenge.delivery.state is DeliveryState.UNKNOWN
    assert challenge.resend_at > hall.clock.now()
    with pytest.raises(RateLimited):
        hall.service.resend_code(challenge.id)
    assert hall.service.verify_code(challenge.id, hall.code).delivery_id == challenge.delivery.id
    assert hall.code not in caplog.text
    assert NUMBER[3:] not in caplog.text


def test_a_locked_recipient_gets_no_code(otp: Otp) -> None:
    """P25: checked at issue and resend; nothing is sent and nothing counted."""
    service = otp.again(policies=policies(lock_after=3, cooldowns=(timedelta(0),)))
    waiting = service.issue_code(NUMBER, purpose="login")
    attacked = service.issue_code(NUMBER, purpose="login")
    for _ in range(3):
        with pytest.raises(errors.CodeMismatch):
            service.verify_code(attacked.id, otp.wrong())
    sent = len(otp.voice.sent)
    with pytest.raises(LockedOut) as locked:
        service.issue_code(NUMBER, purpose="login")
    assert locked.value.retry_after == timedelta(minutes=30)
    with pytest.raises(LockedOut):
        service.resend_code(waiting.id)
    assert len(otp.voice.sent) == sent
    assert service.issue_code(NUMBER, purpose="payment"), "P27: a lock is one purpose's"
    assert service.issue_code(OTHER_NUMBER, purpose="login"), "and one recipient's"


def test_made_up_ids_leave_no_trace(otp: Otp) -> None:
    """Asking for another code of what was never opened costs no write."""
    with pytest.raises(ChallengeClosed):
        otp.service.resend_code("ch_" + "0" * 32)
    assert otp.service.events("ch_" + "0" * 32) == []
