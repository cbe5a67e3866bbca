"""docs/routes.md: its settings are read, and its code runs."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from otpvoice import Policy, ProviderUnavailable, Route
from otpvoice.channels.memory import Memory
from otpvoice.config import policy_values
from tests.conftest import NUMBER, Maker

PAGE = (Path(__file__).parents[1] / "docs" / "routes.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_file_s_route_is_read() -> None:
    (written,) = blocks("toml")
    values = policy_values("purposes.login", tomllib.loads(written)["purposes"]["login"])
    first = values["route"].steps[0]
    assert values["route"].channels == ("sms", "voice", "backup-voice")
    assert first.no_report_within == timedelta(seconds=25)
    assert (first.not_classes, first.not_countries) == ({"fixed_line"}, {"CN"})
    assert Policy.from_json(Policy(**values).to_json()) == Policy(**values)


def test_the_same_in_python() -> None:
    scope: dict[str, Any] = {}
    exec(blocks("python")[0], scope)
    assert scope["login"].route.channels == ("sms", "voice")


def test_the_call_alone_for_who_has_sms(services: Maker) -> None:
    service = services(channels=[Memory("voice")])
    scope: dict[str, Any] = {"service": service}
    exec(blocks("python")[1], scope)
    assert scope["challenge"].delivery.channel == "voice"


@pytest.mark.parametrize("works", [True, False])
def test_a_sender_of_ones_own_in_ten_lines(services: Maker, works: bool) -> None:
    sent: list[tuple[str, str]] = []

    def our_sms_api(number: str, text: str) -> str:
        if not works:
            raise ProviderUnavailable("our SMS is down")
        sent.append((number, text))
        return "17"

    scope: dict[str, Any] = {"our_sms_api": our_sms_api}
    exec(blocks("python")[2], scope)
    voice = Memory("voice")
    policies = {"login": Policy(route=Route.of("sms", "voice"), hash_profile="fast")}
    service = services(channels=[scope["OurSMS"]("sms"), voice], policies=policies)
    challenge = service.issue_code(NUMBER, purpose="login")
    if works:
        assert sent[0][0] == NUMBER
        assert challenge.delivery.reference == "17"
    else:
        assert [d.channel for d in challenge.deliveries] == ["sms", "voice"]
        assert service.verify_code(challenge.id, voice.sent[-1].code).channel == "voice"
