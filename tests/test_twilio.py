"""The Twilio-Verify front, by the rules of its wire format, on both databases."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from otpvoice import AsyncOTPService, NoBalance, StoreUnavailable
from otpvoice.clock import ManualClock
from otpvoice.flow import transact
from otpvoice.http.twilio import sids
from otpvoice.http.twilio.front import parse_recipient
from otpvoice.recipients import index_form
from otpvoice.store import twilio as store
from otpvoice.store.tables import challenge, counter
from tests.http_tools import Make, houses
from tests.twilio_tools import MAIL, OTHER, PHONE, Front, channels, front_policies, told

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


@pytest.fixture
def front(make: Make) -> Front:
    return Front.make(make)


@pytest.fixture
def lean(sqlite_template: Path, tmp_path: Path, clock: ManualClock) -> Iterator[Front]:
    """On SQLite only: for what is decided before the database is asked."""
    path = tmp_path / "lean.db"
    shutil.copy(sqlite_template, path)
    making = houses(f"sqlite:///{path}", clock)
    yield Front.make(next(making))
    for _ in making:
        pass


class TestCreateAndCheck:
    def test_the_story(self, front: Front) -> None:
        answer = front.create()
        assert answer.status_code == 201
        made = answer.json()
        assert set(made) == {
            "sid", "service_sid", "account_sid", "to", "channel", "status", "valid", "lookup", "amount", "payee",
            "send_code_attempts", "sna", "date_created", "date_updated", "url",
        }  # fmt: skip
        assert sids.is_sid("VE", made["sid"])
        assert made["service_sid"] == front.service_sid
        assert made["account_sid"] == front.account_sid
        assert (made["to"], made["channel"], made["status"], made["valid"]) == (PHONE, "sms", "pending", False)
        (attempt,) = made["send_code_attempts"]
        assert attempt["channel"] == "SMS"
        assert sids.is_sid("VL", attempt["attempt_sid"])
        assert all(TIME.fullmatch(made[name]) for name in ("date_created", "date_updated"))
        assert TIME.fullmatch(attempt["time"])
        assert made["url"] == f"http://otp.test{front.url}/Verifications/{made['sid']}"
        wrong = front.check(front.wrong())
        assert wrong.status_code == 200
        assert (wrong.json()["status"], wrong.json()["valid"]) == ("pending", False)
        right = front.check(front.sent())
        assert right.status_code == 200
        assert (right.json()["status"], right.json()["valid"]) == ("approved", True)
        assert set(right.json()) == {
            "sid", "service_sid", "account_sid", "to", "channel", "status", "valid", "amount", "payee",
            "sna_attempts_error_codes", "date_created", "date_updated",
        }  # fmt: skip
        assert right.json()["to"] == PHONE
        again = front.check(front.sent())
        assert told(again) == (404, 20404)
        assert again.json()["message"] == (
            f"The requested resource /Services/{front.service_sid}/VerificationCheck was not found"
        )

    def test_by_sid_and_by_both(self, front: Front) -> None:
        sid = front.create().json()["sid"]
        assert told(front.check(front.sent(), VerificationSid=sid, To=OTHER)) == (404, 20404)
        assert told(front.check(front.sent(), VerificationSid=f"VE{'0' * 32}")) == (404, 20404)
        assert told(front.check(front.sent(), VerificationSid="nonsense")) == (404, 20404)
        assert front.check(front.sent(), VerificationSid=sid, To=PHONE).json()["valid"] is True

    @pytest.mark.parametrize(("channel", "to"), [("sms", PHONE), ("call", PHONE), ("email", MAIL)])
    def test_each_channel_is_the_routes_channel_of_that_medium(self, front: Front, channel: str, to: str) -> None:
        made = front.create(to, channel).json()
        assert made["channel"] == channel
        assert made["send_code_attempts"][0]["channel"] == channel.upper()
        name = {"call": "voice"}.get(channel, channel)
        assert [bool(item.sent) for item in front.by_name.values()].count(True) == 1
        assert front.check(front.sent(name), To=to).json()["status"] == "approved"

    def test_auto_leaves_the_channel_to_the_route(self, front: Front) -> None:
        assert front.create(channel="auto").json()["channel"] == "sms"

    def test_a_mailbox_is_found_whatever_its_case(self, front: Front) -> None:
        front.create(MAIL, "email")
        assert front.check(front.sent("email"), To="Someone@Example.ORG").json()["valid"] is True

    def test_a_second_create_resends_by_the_same_verification(self, front: Front, clock: ManualClock) -> None:
        first = front.create().json()
        sms = front.sent()
        clock.advance(31)
        second = front.create(channel="call").json()
        assert second["sid"] == first["sid"]
        assert second["channel"] == "call"
        assert [item["channel"] for item in second["send_code_attempts"]] == ["SMS", "CALL"]
        assert second["date_created"] == first["date_created"]
        assert len(front.by_name["sms"].sent) == 1
        # A fresh code for the call, and the one before counts still.
        assert front.check(sms).json()["valid"] is True

    def test_a_create_within_the_cooldown_is_20429_and_does_not_count(self, front: Front, clock: ManualClock) -> None:
        front.create()
        clock.advance(10)
        for _ in range(4):
            early = front.create()
            assert told(early) == (429, 20429)
            assert early.headers["retry-after"] == "20"
            assert early.headers["twilio-reached-rate-limit"] == "true"
        clock.advance(20)
        assert front.create().status_code == 201
        assert len(front.by_name["sms"].sent) == 2

    def test_after_five_sends_60203_until_the_verification_ends(self, make: Make, clock: ManualClock) -> None:
        front = Front.make(make, policies=front_policies(cooldowns=(timedelta(0),)))
        for _ in range(5):
            assert front.create().status_code == 201
        refused = front.create()
        assert told(refused) == (429, 60203)
        assert int(refused.headers["retry-after"]) == 300
        assert front.check(front.sent()).json()["valid"] is True
        assert front.create().status_code == 201

    def test_the_daily_limit_is_60203(self, make: Make) -> None:
        front = Front.make(make, policies=front_policies(max_sends_per_day=1))
        front.create()
        front.check(front.sent())
        assert told(front.create()) == (429, 60203)

    def test_five_wrong_checks_are_200_and_from_the_sixth_on_60202(self, front: Front, clock: ManualClock) -> None:
        front.create()
        for _ in range(5):
            wrong = front.check(front.wrong())
            assert (wrong.status_code, wrong.json()["status"], wrong.json()["valid"]) == (200, "pending", False)
        clock.advance(60)
        for code in (front.wrong(), front.sent()):
            refused = front.check(code)
            assert told(refused) == (429, 60202)
            assert refused.headers["retry-after"] == "240"
        assert told(front.create()) == (429, 60202)
        clock.advance(timedelta(minutes=4))
        assert told(front.check(front.sent())) == (404, 20404)
        assert front.create().status_code == 201

    def test_a_sixth_check_is_60202_while_the_fifth_is_under_way(self, front: Front) -> None:
        """All five are charged, the last one is not compared: the challenge is open, and takes no more."""
        front.create()
        charged = update(challenge).values(attempts=5)
        front.house.run(front.house.deps.run(transact(lambda connection, _now: connection.execute(charged))))
        assert told(front.check(front.sent())) == (429, 60202)

    def test_a_lock_is_60202_on_create_and_check(self, make: Make, clock: ManualClock) -> None:
        front = Front.make(make, policies=front_policies(lock_after=3))
        front.create()
        for _ in range(3):
            front.check(front.wrong())
        locked = front.check(front.sent())
        assert told(locked) == (429, 60202)
        assert locked.headers["retry-after"] == "1800"
        clock.advance(timedelta(minutes=6))
        assert told(front.create()) == (429, 60202)
        clock.advance(timedelta(minutes=30))
        assert front.create().status_code == 201

    def test_expiry_ends_it_and_a_resend_does_not_extend_it(self, front: Front, clock: ManualClock) -> None:
        first = front.create().json()
        clock.advance(timedelta(minutes=4))
        front.create()
        clock.advance(timedelta(minutes=1))
        assert told(front.check(front.sent())) == (404, 20404)
        assert told(front.get(f"{front.url}/Verifications/{first['sid']}")) == (404, 20404)
        assert front.create().json()["sid"] != first["sid"]

    def test_an_unknown_recipient_is_404_as_a_closed_one(self, front: Front) -> None:
        assert told(front.check("123456", To=OTHER)) == (404, 20404)

    def test_a_code_of_another_length_is_wrong_and_costs_nothing(self, front: Front) -> None:
        front.create()
        for _ in range(9):
            assert front.check("1234").json()["status"] == "pending"
        assert front.check(front.sent()).json()["valid"] is True

    def test_a_provider_that_refuses_shows_in_the_attempts_only(self, make: Make) -> None:
        front = Front.make(make, policies={**front_policies(), "verify": front_policies()["verify"].with_route("sms")})
        front.by_name["sms"].fail_with(NoBalance("no money"))
        made = front.create()
        assert made.status_code == 201
        assert made.json()["status"] == "pending"
        (attempt,) = front.get("/v2/Attempts").json()["attempts"]
        assert attempt["channel_data"]["message_status"] == "undelivered"

    def test_the_route_goes_on_where_the_asked_channel_refuses(self, front: Front) -> None:
        front.by_name["sms"].fail_with(NoBalance("no money"))
        made = front.create().json()
        assert [item["channel"] for item in made["send_code_attempts"]] == ["SMS", "CALL"]
        assert front.check(front.sent("voice")).json()["valid"] is True

    def test_services_and_tenants_do_not_see_each_other(self, front: Front) -> None:
        sid = front.create().json()["sid"]
        code = front.sent()
        other_sid = front.post("/v2/Services", {"FriendlyName": "Other"}).json()["sid"]
        other = f"/v2/Services/{other_sid}"
        assert told(front.post(f"{other}/VerificationCheck", {"Code": code, "To": PHONE})) == (404, 20404)
        assert told(front.post(f"{other}/VerificationCheck", {"Code": code, "VerificationSid": sid})) == (404, 20404)
        bank = {"auth": (sids.account("bank"), front.house.key("bank"))}
        check = f"{front.url}/VerificationCheck"
        assert told(front.post(check, {"Code": code, "VerificationSid": sid}, **bank)) == (404, 20404)
        assert told(front.get(front.url, **bank)) == (404, 20404)
        assert front.get("/v2/Services", **bank).json()["services"] == []
        assert front.get("/v2/Attempts", **bank).json()["attempts"] == []
        assert front.check(code).json()["valid"] is True

    def test_creates_at_once_send_one_code(self, front: Front) -> None:
        claimed = front.house.run(_take(front))
        assert claimed == store.Taken()
        busy = front.create()
        assert told(busy) == (429, 60212)
        front.house.clock.advance(store.CLAIM)
        assert front.create().status_code == 201

    def test_no_code_and_no_key_is_in_any_answer(self, front: Front) -> None:
        answers = [front.create(), front.get(f"{front.url}/Verifications/{PHONE}"), front.get("/v2/Attempts")]
        code = front.sent()
        answers.append(front.check(front.wrong()))
        for answer in answers:
            assert code not in re.sub(r"[A-Z]{2}[0-9a-f]{32}", "", answer.text)
            assert front.key not in answer.text
            assert answer.headers["cache-control"] == "no-store"


async def _take(front: Front) -> object:
    keys = front.house.deps.context.keyring.index("recipient", index_form(parse_recipient(PHONE)))
    return await front.house.deps.run(
        transact(
            lambda connection, now: store.take_slot(
                connection, now, service_sid=front.service_sid, keys=keys, claim="somebody"
            )
        )
    )


class TestParameters:
    @pytest.mark.parametrize(
        ("data", "expected", "name"),
        [
            ({"Channel": "sms"}, (400, 60200), "To"),
            ({"To": PHONE}, (400, 60200), "Channel"),
            ({"To": "", "Channel": "sms"}, (400, 60200), "To"),
            ({"To": "+1", "Channel": "sms"}, (400, 60200), "To"),
            ({"To": "0912345678", "Channel": "sms"}, (400, 60200), "To"),
            ({"To": "a@b\r\nBcc:x", "Channel": "email"}, (400, 60200), "To"),
            ({"To": MAIL, "Channel": "sms"}, (400, 60200), "To"),
            ({"To": PHONE, "Channel": "email"}, (400, 60200), "To"),
            ({"To": PHONE, "Channel": "pigeon"}, (400, 60200), "Channel"),
            ({"To": PHONE, "Channel": "whatsapp"}, (400, 60223), ""),
            ({"To": PHONE, "Channel": "sna"}, (400, 60223), ""),
            ({"To": PHONE, "Channel": "sms", "CustomCode": "123456"}, (403, 60204), "CustomCode"),
            ({"To": PHONE, "Channel": "sms", "CustomMessage": "hi"}, (403, 60204), "CustomMessage"),
            ({"To": PHONE, "Channel": "call", "SendDigits": "ww1"}, (403, 60204), "SendDigits"),
            ({"To": PHONE, "Channel": "sms", "TemplateSid": "HJ1"}, (403, 60204), "TemplateSid"),
            ({"To": PHONE, "Channel": "sms", "CustomFriendlyName": "Evil"}, (403, 60204), "CustomFriendlyName"),
            ({"To": PHONE, "Channel": "call", "AppHash": "abcdefghijk"}, (400, 60602), ""),
            ({"To": PHONE, "Channel": "sms", "AppHash": "short"}, (400, 60200), "AppHash"),
            ({"To": PHONE, "Channel": "sms", "Tags": "no json"}, (400, 60200), "Tags"),
            ({"To": PHONE, "Channel": "sms", "Tags": '{"a": "' + "x" * 129 + '"}'}, (400, 60200), "Tags"),
            ({"To": PHONE, "Channel": "sms", "RateLimits": '{"none": "1"}'}, (400, 60200), "RateLimits"),
            ({"To": PHONE, "Channel": "sms", "RateLimits": "[1]"}, (400, 60200), "RateLimits"),
            ({"To": PHONE, "Channel": "sms", "RateLimits": '{"a": "1", "a": "2"}'}, (400, 60200), "RateLimits"),
            ({"To": PHONE, "Channel": "sms", "Tags": '{"a": "1", "a": "2"}'}, (400, 60200), "Tags"),
            ({"To": PHONE, "Channel": "sms", "Tags": '{"a": NaN}'}, (400, 60200), "Tags"),
            ({"To": PHONE, "Channel": "sms", "Tags": '{"a": "\\ud800"}'}, (400, 60200), "Tags"),
            ({"To": PHONE, "Channel": "sms", "DeviceIp": "my phone"}, (400, 60200), "DeviceIp"),
            ({"To": PHONE, "Channel": "sms", "Locale": "not a tag"}, (400, 60200), "Locale"),
            ({"To": PHONE, "Channel": "sms", "Amount": "€1", "Payee": "A"}, (403, 60204), "Amount"),
            ({"To": PHONE, "Channel": "sms", "RiskCheck": "maybe"}, (400, 60200), "RiskCheck"),
        ],
    )
    def test_what_create_refuses(self, lean: Front, data: dict[str, str], expected: tuple[int, int], name: str) -> None:
        answer = lean.post(f"{lean.url}/Verifications", data)
        assert told(answer) == expected
        assert name in answer.json()["message"]
        assert not any(item.sent for item in lean.by_name.values())

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            ({"Code": "123456"}, (400, 60221)),
            ({"To": PHONE}, (400, 60200)),
            ({"To": PHONE, "Code": "123"}, (400, 60200)),
            ({"To": PHONE, "Code": "12345678901"}, (400, 60200)),
            ({"To": "nobody", "Code": "123456"}, (400, 60200)),
        ],
    )
    def test_what_check_refuses(self, lean: Front, data: dict[str, str], expected: tuple[int, int]) -> None:
        assert told(lean.post(f"{lean.url}/VerificationCheck", data)) == expected

    def test_ignored_parameters_do_not_hurt(self, lean: Front) -> None:
        more = {"Tags": '{"a": "b"}', "RiskCheck": "disable", "DeviceIp": "2001:db8::1", "Unknown": "x", "Locale": "vi"}
        assert lean.create(**more).status_code == 201

    def test_an_unencoded_plus_is_understood(self, lean: Front) -> None:
        path, kind = f"{lean.url}/Verifications", {"Content-Type": "application/x-www-form-urlencoded"}
        answer = lean.request("POST", path, content=b"To=+84912345678&Channel=sms", headers=kind)
        assert answer.json()["to"] == PHONE

    @pytest.mark.parametrize(
        ("body", "kind", "code"),
        [
            (b'{"To": "+84912345678"}', "application/json", 20001),
            (b"To=%2B84912345678&To=%2B84987654321&Channel=sms", "application/x-www-form-urlencoded", 60200),
            (b"To=%FF&Channel=sms", "application/x-www-form-urlencoded", 20001),
            (b"&".join(b"a%d=1" % number for number in range(101)), "application/x-www-form-urlencoded", 20001),
            (b"\xff\xfe", "application/x-www-form-urlencoded", 20001),
        ],
    )
    def test_bodies_that_can_be_read_in_two_ways_are_refused(
        self, lean: Front, body: bytes, kind: str, code: int
    ) -> None:
        path = f"{lean.url}/Verifications"
        assert told(lean.request("POST", path, content=body, headers={"Content-Type": kind})) == (400, code)

    def test_countries_and_classes_have_their_own_codes(self, make: Make) -> None:
        front = Front.make(make, policies=front_policies(countries=frozenset({"VN"})))
        assert told(front.create("+4915112345678")) == (403, 60605)
        assert told(front.create("+3290012345")) == (403, 60410)
        assert front.create().status_code == 201

    def test_a_channel_that_the_route_lacks_is_said_to_be_off(self, make: Make) -> None:
        front = Front.make(make, policies={**front_policies(), "verify": front_policies()["verify"].with_route("sms")})
        assert told(front.create(channel="call")) == (400, 60223)
        assert told(front.create(MAIL, "email")) == (400, 60217)


class TestFetchAndUpdate:
    def test_by_sid_and_by_number_with_a_literal_plus(self, front: Front) -> None:
        made = front.create().json()
        for name in (made["sid"], PHONE, PHONE.replace("+", "%2B")):
            answer = front.get(f"{front.url}/Verifications/{name}")
            assert answer.status_code == 200
            assert answer.json() == made
        for name in (OTHER, f"VE{'0' * 32}", "nonsense", "VE"):
            assert told(front.get(f"{front.url}/Verifications/{name}")) == (404, 20404)
        front.check(front.sent())
        assert told(front.get(f"{front.url}/Verifications/{made['sid']}")) == (404, 20404)

    def test_looking_too_often_is_20429(self, front: Front, clock: ManualClock) -> None:
        sid = front.create().json()["sid"]
        for _ in range(60):
            assert front.get(f"{front.url}/Verifications/{sid}").status_code == 200
        refused = front.get(f"{front.url}/Verifications/{sid}")
        assert told(refused) == (429, 20429)
        assert refused.headers["retry-after"] == "60"
        clock.advance(60)
        assert front.get(f"{front.url}/Verifications/{sid}").status_code == 200

    def test_canceled_ends_it(self, front: Front) -> None:
        made = front.create().json()
        url = f"{front.url}/Verifications/{made['sid']}"
        ended = front.post(url, {"Status": "canceled"})
        assert ended.status_code == 200
        assert (ended.json()["status"], ended.json()["valid"]) == ("canceled", False)
        assert told(front.check(front.sent())) == (404, 20404)
        assert told(front.post(url, {"Status": "canceled"})) == (404, 20404)
        assert front.create().json()["sid"] != made["sid"]

    def test_approved_is_the_callers_word_and_the_core_knows_no_approval(self, front: Front) -> None:
        made = front.create().json()
        ended = front.post(f"{front.url}/Verifications/{PHONE}", {"Status": "approved"})
        assert (ended.json()["status"], ended.json()["valid"]) == ("approved", True)
        assert told(front.check(front.sent())) == (404, 20404)
        (attempt,) = front.get("/v2/Attempts").json()["attempts"]
        assert attempt["conversion_status"] == "converted"
        service = front.house.deps.live("shop")
        kept = front.house.run(service.get(sids.ours("VE", made["sid"]) or ""))
        assert kept.state.value == "cancelled"

    @pytest.mark.parametrize("status", ["", "pending", "APPROVED", "expired"])
    def test_other_statuses_cannot_be_set(self, lean: Front, status: str) -> None:
        made = lean.create().json()
        url = f"{lean.url}/Verifications/{made['sid']}"
        assert told(lean.post(url, {"Status": status})) == (400, 60200)


class TestPayments:
    def test_amount_and_payee_are_bound_and_a_check_repeats_them(self, make: Make) -> None:
        front = Front.make(make, service={"Psd2Enabled": "true"})
        payment = {"Amount": "€39.99", "Payee": "Acme"}
        assert told(front.create()) == (400, 60206)
        made = front.create(**payment).json()
        assert (made["amount"], made["payee"]) == ("€39.99", "Acme")
        assert told(front.check(front.sent(), To=PHONE)) == (400, 60206)
        for other in ({"Amount": "€39.98", "Payee": "Acme"}, {"Amount": "€39.99", "Payee": "Evil"}):
            wrong = front.check(front.sent(), To=PHONE, **other)
            assert (wrong.json()["status"], wrong.json()["valid"]) == ("pending", False)
        right = front.check(front.sent(), To=PHONE, **payment).json()
        assert (right["valid"], right["amount"], right["payee"]) == (True, "€39.99", "Acme")

    def test_another_payment_ends_the_one_before(self, make: Make) -> None:
        front = Front.make(make, service={"Psd2Enabled": "true"})
        first = front.create(Amount="€10", Payee="Acme").json()
        old = front.sent()
        second = front.create(Amount="€99", Payee="Acme")
        assert second.status_code == 201
        assert second.json()["sid"] != first["sid"]
        assert front.check(old, To=PHONE, Amount="€10", Payee="Acme").json().get("valid") is not True
        assert front.check(front.sent(), To=PHONE, Amount="€99", Payee="Acme").json()["valid"] is True

    def test_another_payment_counts_once_against_a_rate_limit(self, make: Make, clock: ManualClock) -> None:
        front = Front.make(make, service={"Psd2Enabled": "true"})
        limit = front.post(f"{front.url}/RateLimits", {"UniqueName": "ip"}).json()["sid"]
        front.post(f"{front.url}/RateLimits/{limit}/Buckets", {"Max": "2", "Interval": "3600"})
        by = {"Payee": "Acme", "RateLimits": '{"ip": "1.2.3.4"}'}
        assert front.create(Amount="€10", **by).status_code == 201
        assert front.create(Amount="€99", **by).status_code == 201
        kept = front.sent()
        assert told(front.create(Amount="€1", **by)) == (429, 20429)
        # A create that the limit refuses ends nothing.
        assert front.check(kept, To=PHONE, Amount="€99", Payee="Acme").json()["valid"] is True

    def test_two_payments_at_once_do_not_get_each_others_code(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        front = Front.make(make, service={"Psd2Enabled": "true"})
        front.create(Amount="€10", Payee="Acme")
        cancel, between = AsyncOTPService.cancel, ["€30"]

        async def cancelled_and_overtaken(service: AsyncOTPService, challenge_id: str) -> object:
            ended = await cancel(service, challenge_id)
            while between:
                data = {"To": PHONE, "Channel": "sms", "Amount": between.pop(), "Payee": "Evil"}
                auth = (front.account_sid, front.key)
                overtaking = await front.client.http.post(f"{front.url}/Verifications", data=data, auth=auth)
                assert overtaking.status_code == 201
            return ended

        monkeypatch.setattr(AsyncOTPService, "cancel", cancelled_and_overtaken)
        assert told(front.create(Amount="€20", Payee="Acme")) == (429, 60212)
        assert len(front.by_name["sms"].sent) == 2


class TestRateLimits:
    def limited(self, front: Front, most: int = 2, interval: int = 60) -> str:
        limit = front.post(f"{front.url}/RateLimits", {"UniqueName": "ip", "Description": "by address"})
        assert limit.status_code == 201
        url = f"{front.url}/RateLimits/{limit.json()['sid']}"
        bucket = front.post(f"{url}/Buckets", {"Max": str(most), "Interval": str(interval)})
        assert bucket.status_code == 201
        assert (bucket.json()["max"], bucket.json()["interval"]) == (most, interval)
        return url

    def test_a_bucket_holds_for_its_value_and_its_time(self, front: Front, clock: ManualClock) -> None:
        self.limited(front)
        by = {"RateLimits": '{"ip": "1.2.3.4"}'}
        numbers = [f"+8491234567{number}" for number in range(5)]
        assert front.create(numbers[0], **by).status_code == 201
        assert front.create(numbers[1], **by).status_code == 201
        refused = front.create(numbers[2], **by)
        assert told(refused) == (429, 20429)
        assert refused.headers["retry-after"] == "60"
        assert front.create(numbers[2], RateLimits='{"ip": "1.2.3.5"}').status_code == 201
        assert front.create(numbers[3]).status_code == 201
        clock.advance(60)
        assert front.create(numbers[4], **by).status_code == 201

    def test_what_was_refused_has_not_counted(self, front: Front, clock: ManualClock) -> None:
        self.limited(front, most=3, interval=3600)
        by = {"RateLimits": '{"ip": "1.2.3.4"}'}
        front.create(**by)
        for _ in range(5):
            assert told(front.create(**by)) == (429, 20429)  # The cooldown refuses.
        clock.advance(30)
        assert front.create(**by).status_code == 201
        clock.advance(60)
        assert front.create(**by).status_code == 201
        clock.advance(120)
        assert front.create(**by).headers["retry-after"] == str(3600 - 210)

    def test_the_value_is_not_stored(self, front: Front) -> None:
        self.limited(front)
        front.create(RateLimits='{"ip": "198.51.100.77"}')
        keys = front.house.run(
            front.house.deps.run(
                transact(lambda connection, _now: connection.execute(select(counter.c.key)).scalars().all())
            )
        )
        assert any(key.startswith("twilio.bucket:") for key in keys)
        assert not any("198.51.100.77" in key for key in keys)

    def test_they_can_be_listed_changed_and_removed(self, front: Front) -> None:
        url = self.limited(front)
        assert [item["unique_name"] for item in front.get(f"{front.url}/RateLimits").json()["rate_limits"]] == ["ip"]
        assert front.post(url, {"Description": "new"}).json()["description"] == "new"
        (bucket,) = front.get(f"{url}/Buckets").json()["buckets"]
        changed = front.post(f"{url}/Buckets/{bucket['sid']}", {"Max": "9"}).json()
        assert (changed["max"], changed["interval"]) == (9, 60)
        assert front.get(f"{url}/Buckets/{bucket['sid']}").json() == changed
        gone = front.request("DELETE", f"{url}/Buckets/{bucket['sid']}")
        assert (gone.status_code, gone.content) == (204, b"")
        assert told(front.get(f"{url}/Buckets/{bucket['sid']}")) == (404, 20404)
        assert front.request("DELETE", url).status_code == 204
        assert told(front.get(url)) == (404, 20404)

    def test_their_own_errors(self, front: Front) -> None:
        url = self.limited(front)
        assert told(front.post(f"{front.url}/RateLimits", {"UniqueName": "ip"})) == (400, 60208)
        assert told(front.post(f"{front.url}/RateLimits", {"UniqueName": "a b"})) == (400, 60209)
        assert told(front.post(f"{url}/Buckets", {"Max": "3", "Interval": "60"})) == (400, 60211)
        assert told(front.post(f"{url}/Buckets", {"Max": "0", "Interval": "9"})) == (400, 60200)
        assert told(front.post(f"{url}/Buckets", {"Max": "1"})) == (400, 60200)
        for seconds in range(1, 5):
            front.post(f"{url}/Buckets", {"Max": "3", "Interval": str(seconds)})
        assert told(front.post(f"{url}/Buckets", {"Max": "3", "Interval": "9"})) == (400, 60210)
        for number in range(19):
            front.post(f"{front.url}/RateLimits", {"UniqueName": f"n{number}"})
        assert told(front.post(f"{front.url}/RateLimits", {"UniqueName": "more"})) == (400, 60207)


class TestServices:
    def test_create_fetch_update_list_and_delete(self, front: Front) -> None:
        made = front.post("/v2/Services", {"FriendlyName": "My App", "CodeLength": "8"})
        assert made.status_code == 201
        body = made.json()
        assert (body["friendly_name"], body["code_length"], body["account_sid"]) == ("My App", 8, front.account_sid)
        assert body["links"]["verification_checks"].endswith("/VerificationCheck")
        url = f"/v2/Services/{body['sid']}"
        assert front.get(url).json() == body
        changed = front.post(url, {"FriendlyName": "Other", "LookupEnabled": "true"}).json()
        assert (changed["friendly_name"], changed["code_length"], changed["lookup_enabled"]) == ("Other", 8, True)
        assert {item["sid"] for item in front.get("/v2/Services").json()["services"]} == {
            front.service_sid,
            body["sid"],
        }
        gone = front.request("DELETE", url)
        assert (gone.status_code, gone.content) == (204, b"")
        assert told(front.get(url)) == (404, 20404)
        assert told(front.post(f"{url}/Verifications", {"To": PHONE, "Channel": "sms"})) == (404, 20404)

    def test_the_code_length_is_the_services(self, make: Make) -> None:
        front = Front.make(make, service={"CodeLength": "8"})
        front.create()
        assert len(front.sent()) == 8
        assert front.check(front.sent()).json()["valid"] is True

    def test_a_service_does_not_shorten_the_policys_codes(self, make: Make) -> None:
        """What the operator's policy asks for is no parameter's to lower (P17), nor an older service's."""
        older = Front.make(make, service={"CodeLength": "7"})
        front = Front.make(make, policies=front_policies(code_length=8), tenants={"shop": {}})
        assert told(front.post("/v2/Services", {"FriendlyName": "x", "CodeLength": "7"})) == (400, 60200)
        front.service_sid = older.service_sid
        assert front.get(front.url).json()["code_length"] == 8
        front.create()
        assert len(front.sent()) == 8

    def test_landlines_get_no_sms_where_the_service_says_so(self, make: Make) -> None:
        front = Front.make(make, service={"LookupEnabled": "true", "SkipSmsToLandlines": "true"})
        landline = "+842838221234"
        assert told(front.create(landline)) == (403, 60205)
        made = front.create(landline, "call")
        assert made.status_code == 201
        assert made.json()["lookup"]["carrier"]["type"] == "landline"

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            ({}, 60200),
            ({"FriendlyName": "x" * 33}, 60200),
            ({"FriendlyName": "call 12345"}, 60200),
            ({"FriendlyName": "http://evil"}, 60200),
            ({"FriendlyName": "a", "CodeLength": "5"}, 60200),
            ({"FriendlyName": "a", "CodeLength": "11"}, 60200),
            ({"FriendlyName": "a", "CodeLength": "six"}, 60200),
            ({"FriendlyName": "a", "LookupEnabled": "yes"}, 60200),
            ({"FriendlyName": "a", "SkipSmsToLandlines": "true"}, 60200),
            ({"FriendlyName": "a", "CustomCodeEnabled": "true"}, 60204),
            ({"FriendlyName": "a", "Push.IncludeDate": "true"}, 60204),
            ({"FriendlyName": "a", "Totp.Skew": "2"}, 60204),
            ({"FriendlyName": "a", "DefaultTemplateSid": "HJ1"}, 60204),
        ],
    )
    def test_what_a_service_cannot_be(self, lean: Front, data: dict[str, str], code: int) -> None:
        assert told(lean.post("/v2/Services", data))[1] == code

    def test_defaults_may_be_said(self, lean: Front) -> None:
        data = {"CustomCodeEnabled": "false", "Totp.Skew": "1", "Totp.TimeStep": "30", "CodeLength": "6"}
        assert lean.post("/v2/Services", {"FriendlyName": "a", **data}).status_code == 201

    def test_pages_lead_on_and_name_our_own_host(self, front: Front) -> None:
        for number in range(4):
            front.house.clock.advance(1)
            front.post("/v2/Services", {"FriendlyName": f"s{number}"})
        seen: list[str] = []
        url: str | None = "/v2/Services?PageSize=2"
        while url is not None:
            page = front.get(url)
            assert page.status_code == 200
            assert page.json()["meta"]["key"] == "services"
            seen += [item["friendly_name"] for item in page.json()["services"]]
            url = page.json()["meta"]["next_page_url"]
            assert url is None or url.startswith("http://otp.test/v2/Services?")
        assert seen == ["s3", "s2", "s1", "s0", "Shop"]
        assert told(front.get("/v2/Services?PageSize=0")) == (400, 60200)
        assert told(front.get("/v2/Services?PageSize=1001")) == (400, 60200)


class TestAttempts:
    def test_list_fetch_and_summary(self, front: Front, clock: ManualClock) -> None:
        made = front.create().json()
        clock.advance(31)
        front.create(channel="call")
        front.check(front.sent("voice"))
        clock.advance(1)
        front.create(OTHER)
        rows = front.get("/v2/Attempts").json()["attempts"]
        assert [row["channel"] for row in rows] == ["sms", "call", "sms"]
        assert [row["conversion_status"] for row in rows] == ["unconverted", "converted", "converted"]
        assert rows[-1]["sid"] == made["send_code_attempts"][0]["attempt_sid"]
        assert rows[-1]["verification_sid"] == made["sid"]
        assert rows[0]["channel_data"]["to"] == "+84•••••••21"
        assert front.get(f"/v2/Attempts/{rows[0]['sid']}").json() == rows[0]
        assert told(front.get(f"/v2/Attempts/VL{'0' * 32}")) == (404, 20404)
        summary = front.get("/v2/Attempts/Summary").json()
        assert (summary["total_attempts"], summary["total_converted"], summary["total_unconverted"]) == (3, 2, 1)
        assert summary["conversion_rate_percentage"] == "66.67"

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ({"Channel": "call"}, 1),
            ({"Status": "converted"}, 2),
            ({"Status": "unconverted"}, 1),
            ({"ChannelData.To": OTHER}, 1),
            ({"ChannelData.To": PHONE}, 2),
            ({"VerifyServiceSid": f"VA{'0' * 32}"}, 0),
            ({"VerificationSid": f"VE{'0' * 32}"}, 0),
            ({"DateCreatedAfter": "2026-01-01T00:00:31Z"}, 2),
            ({"DateCreatedBefore": "2026-01-01T00:00:31Z"}, 1),
        ],
    )
    def test_filters(self, front: Front, clock: ManualClock, query: dict[str, str], count: int) -> None:
        front.create()
        clock.advance(31)
        front.create(channel="call")
        front.check(front.sent("voice"))
        front.create(OTHER)
        assert len(front.get("/v2/Attempts", params=query).json()["attempts"]) == count
        assert front.get("/v2/Attempts/Summary", params=query).json()["total_attempts"] == count

    @pytest.mark.parametrize(
        "query",
        [
            {"Country": "VN"},
            {"Status": "x"},
            {"Channel": "x"},
            {"DateCreatedAfter": "x"},
            {"DateCreatedAfter": "0001-01-01T00:00:00+14:00"},
            {"DateCreatedBefore": "9999-12-31T23:59:59-14:00"},
            {"VerificationSid": "x"},
        ],
    )
    def test_filters_that_cannot_be(self, lean: Front, query: dict[str, str]) -> None:
        assert told(lean.get("/v2/Attempts", params=query)) == (400, 60200)

    def test_an_empty_summary(self, lean: Front) -> None:
        assert lean.get("/v2/Attempts/Summary").json()["conversion_rate_percentage"] == "0.00"


class TestAccess:
    def test_basic_authentication_and_nothing_else(self, lean: Front) -> None:
        url = "/v2/Services"
        good = lean.account_sid
        assert lean.get(url, auth=(good, lean.key)).status_code == 200
        key_id = lean.key.split("_")[2]
        assert lean.get(url, auth=(sids.key(key_id), lean.key)).status_code == 200
        bad = [
            {"auth": (good, "wrong")},
            {"auth": (sids.account("bank"), lean.key)},
            {"auth": ("", lean.key)},
            {"auth": None},
            {"auth": None, "headers": {"Authorization": f"Bearer {lean.key}"}},
            {"auth": (good, lean.key + "x")},
        ]
        for credentials in bad:
            answer = lean.get(url, **credentials)
            assert told(answer) == (401, 20003)
            assert answer.headers["www-authenticate"].startswith("Basic")

    @pytest.mark.parametrize(
        ("scope", "allowed"),
        [
            ("issue", {"create", "fetch", "services"}),
            ("verify", {"check", "fetch", "services"}),
            ("read", {"fetch", "services", "attempts"}),
            ("admin", {"fetch", "services", "attempts", "manage"}),
        ],
    )
    def test_scopes(self, lean: Front, scope: str, allowed: set[str]) -> None:
        lean.create()
        key = {"auth": (lean.account_sid, lean.house.key("shop", scope))}
        answers = {
            "create": lean.post(f"{lean.url}/Verifications", {"To": OTHER, "Channel": "sms"}, **key),
            "check": lean.post(f"{lean.url}/VerificationCheck", {"To": PHONE, "Code": lean.wrong()}, **key),
            "fetch": lean.get(f"{lean.url}/Verifications/{PHONE}", **key),
            "services": lean.get("/v2/Services", **key),
            "attempts": lean.get("/v2/Attempts", **key),
            "manage": lean.post("/v2/Services", {"FriendlyName": "x"}, **key),
        }
        assert {name for name, answer in answers.items() if answer.status_code < 300} == allowed
        for answer in answers.values():
            assert answer.status_code < 300 or told(answer) == (403, 20003)

    @pytest.mark.parametrize(("scope", "status"), [("issue", "canceled"), ("verify", "approved")])
    def test_each_ending_has_its_scope(self, lean: Front, scope: str, status: str) -> None:
        """As in the core's own API: who may only verify ends nobody's verification, nor the other way round."""
        url = f"{lean.url}/Verifications/{lean.create().json()['sid']}"
        key = {"auth": (lean.account_sid, lean.house.key("shop", scope))}
        for other in {"canceled", "approved"} - {status}:
            assert told(lean.post(url, {"Status": other}, **key)) == (403, 20003)
        assert lean.post(url, {"Status": status}, **key).json()["status"] == status

    def test_what_is_not_here_is_said_in_the_same_form(self, lean: Front) -> None:
        assert told(lean.get("/v2/Nothing")) == (404, 20404)
        assert told(lean.get("/v2/Templates")) == (403, 60204)
        assert told(lean.post(f"{lean.url}/AccessTokens", {"a": "b"})) == (403, 60204)
        assert told(lean.request("PUT", lean.url)) == (404, 20404)
        assert told(lean.get("/v2/Nothing", auth=None)) == (401, 20003)
        assert told(lean.get("/v2/Services/VAx")) == (404, 20404)
        assert told(lean.get("/v2/Services/..%2f..%2fv1")) == (404, 20404)

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/v2"), ("HEAD", "/v2/Services"), ("OPTIONS", "/v2/Services")]
    )
    def test_odd_methods_and_paths_are_answered_in_the_same_form(self, lean: Front, method: str, path: str) -> None:
        answer = lean.request(method, path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert method == "HEAD" or told(answer) == (404, 20404)

    def test_what_is_too_large_is_said_in_the_same_form(self, lean: Front) -> None:
        """Before any route: both SDKs take a problem of RFC 9457 for another exception than handlers catch."""
        large = {"To": PHONE, "Channel": "sms", "Tags": "x" * 20_000}
        assert told(lean.post(f"{lean.url}/Verifications", large)) == (413, 20001)
        assert told(lean.get("/v2/Services", headers={"X-Long": "x" * 20_000})) == (431, 20001)

    def test_plain_http_is_refused_in_the_same_form(self, make: Make) -> None:
        made = channels()
        house = make(channels=made, policies=front_policies(), http={"tls": "required"})
        client = house.client(None, peer="192.0.2.7")
        front = Front(house, {item.name: item for item in made}, "shop", house.key("shop"), client)
        assert told(front.get("/v2/Services")) == (403, 20001)

    def test_what_breaks_here_is_500_in_the_same_form(self, lean: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object, **options: object) -> object:
            raise RuntimeError("secret text")

        monkeypatch.setattr(store, "service", broken)
        answer = lean.create()
        assert told(answer) == (500, 20500)
        assert "secret text" not in answer.text

    def test_an_error_of_the_store_is_503_in_the_same_form(self, lean: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*args: object, **options: object) -> object:
            raise StoreUnavailable("the database did not answer")

        monkeypatch.setattr(store, "service", away)
        answer = lean.create()
        assert told(answer) == (503, 20503)
        assert answer.headers["retry-after"] == "1"

    def test_generated_urls_never_leave_tls(self, make: Make) -> None:
        """A next_page_url is followed with credentials: behind a proxy it must be https, however we were called."""
        made = channels()
        house = make(channels=made, policies=front_policies(), http={"tls": "required"})
        front = Front(house, {item.name: item for item in made}, "shop", house.key("shop"), house.client(None))
        assert front.get("/v2/Services").json()["meta"]["url"].startswith("https://otp.test/v2/Services")

    def test_a_configured_url_wins(self, make: Make) -> None:
        tenants = {"shop": {"twilio": {"url": "https://otp.example.com/twilio/"}}}
        front = Front.make(make, tenants=tenants)
        assert front.get(front.url).json()["url"] == f"https://otp.example.com/twilio{front.url}"


class TestTestMode:
    def test_a_test_tenant_gets_the_listed_code_and_sends_nothing(self, make: Make) -> None:
        front = Front.make(make, tenant="shop-test")
        listed = "+12015550101"
        made = front.create(listed)
        assert made.status_code == 201, made.text
        assert front.check("999999", To=listed).json()["status"] == "pending"
        assert front.check("012345", To=listed).json()["valid"] is True
        assert not any(item.sent for item in front.by_name.values())

    def test_other_recipients_and_outcomes(self, make: Make) -> None:
        front = Front.make(make, tenant="shop-test")
        assert told(front.create(PHONE)) == (400, 60200)
        assert told(front.create("+12015550103")) == (429, 60202)
        assert told(front.create("+12015550105")) == (403, 60410)
        assert told(front.create("+12015550106")) == (429, 60203)
        assert front.create("+12015550104").status_code == 201


def test_many_creates_at_once_open_one_verification(make: Make) -> None:
    front = Front.make(make, policies=front_policies(cooldowns=(timedelta(0),)))

    async def create() -> int:
        answer = await front.client.http.post(
            f"{front.url}/Verifications",
            data={"To": PHONE, "Channel": "sms"},
            auth=(front.account_sid, front.key),
        )
        return int(answer.status_code)

    async def all_at_once() -> list[int]:
        return list(await asyncio.gather(*(create() for _ in range(10))))

    statuses = front.house.run(all_at_once())
    assert set(statuses) <= {201, 429}
    assert 201 in statuses
    opened = {item.challenge_id for item in front.by_name["sms"].sent}
    assert len(opened) == 1


def test_many_checks_at_once_compare_five(make: Make) -> None:
    """However many guesses arrive together: five are compared, and the right one among the others is refused."""
    front = Front.make(make)
    front.create()
    right = front.sent()

    async def check(code: str) -> tuple[int, bool]:
        answer = await front.client.http.post(
            f"{front.url}/VerificationCheck", data={"To": PHONE, "Code": code}, auth=(front.account_sid, front.key)
        )
        return answer.status_code, answer.json().get("valid", False)

    async def all_at_once() -> list[tuple[int, bool]]:
        wrong = [str((int(right) + number) % 10**6).zfill(6) for number in range(1, 41)]
        return list(await asyncio.gather(*(check(code) for code in wrong)))

    answers = front.house.run(all_at_once())
    assert answers.count((200, False)) == 5
    assert {status for status, _valid in answers} == {200, 429}
    assert told(front.check(right)) == (429, 60202)


HOSTILE = ("\x00", "%00", "' OR 1=1 --", "../..", "＋84", "a\r\nb", "a" * 3000)
HOSTILE_PATHS = ("%00", "%27%20OR%201=1", "%2e%2e%2f", "%ff", "a" * 3000, "VE%00", "+", "%2B84912345678%00")


def test_hostile_input_is_refused_in_the_same_form_and_never_a_5xx(front: Front) -> None:
    limit = front.post(f"{front.url}/RateLimits", {"UniqueName": "ip"}).json()["sid"]
    answers = []
    for bad in HOSTILE_PATHS:
        for path in (
            f"/v2/Services/{bad}",
            f"{front.url}/Verifications/{bad}",
            f"{front.url}/RateLimits/{bad}",
            f"{front.url}/RateLimits/{limit}/Buckets/{bad}",
            f"{front.url}/Entities/{bad}/Factors",
            f"{front.url}/Entities/user-0001-abcd/Factors/{bad}",
            f"{front.url}/Entities/user-0001-abcd/Challenges/{bad}",
            f"/v2/Attempts/{bad}",
            f"/v2/{bad}",
        ):
            answers += [front.get(path), front.post(path, {"To": PHONE})]
    for bad in HOSTILE:
        for name in ("To", "Channel", "Locale", "Tags", "RateLimits", "DeviceIp", "AppHash", "CustomFriendlyName"):
            data = {"To": PHONE, "Channel": "sms", name: bad}
            answers.append(front.post(f"{front.url}/Verifications", data))
        for name in ("To", "Code", "VerificationSid", "Amount"):
            data = {"To": OTHER, "Code": "123456", name: bad}
            answers.append(front.post(f"{front.url}/VerificationCheck", data))
        for name in ("FriendlyName", "CodeLength", "Totp.Issuer"):
            answers.append(front.post("/v2/Services", {"FriendlyName": "x", name: bad}))
        for name in ("UniqueName", "Description"):
            answers.append(front.post(f"{front.url}/RateLimits", {"UniqueName": "x", name: bad}))
        for name in ("Page", "PageSize", "Status", "ChannelData.To", "DateCreatedAfter", "VerifyServiceSid"):
            answers.append(front.get("/v2/Attempts", params={name: bad}))
    for answer in answers:
        assert answer.status_code < 500, (answer.request.url, answer.text)
        assert answer.status_code < 300 or told(answer)


def test_with_a_worker_sending_is_off_the_request_path(make: Make) -> None:
    front = Front.make(make, worker=True)
    made = front.create().json()
    assert made["status"] == "pending"
    assert len(made["send_code_attempts"]) == 1

    async def sent() -> None:
        while not front.by_name["sms"].sent:
            await asyncio.sleep(0.01)

    front.house.run(asyncio.wait_for(sent(), 20))
    assert front.check(front.sent()).json()["valid"] is True
