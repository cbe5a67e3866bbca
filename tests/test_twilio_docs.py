"""``docs/twilio.md`` and ``docs/webhooks.md`` say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from otpvoice.http.twilio.errors import TABLE
from otpvoice.http.twilio.verifications import _REFUSED
from otpvoice.webhooks import dispatch, sender

DOCS = Path(__file__).parents[1] / "docs"
FRONT = (DOCS / "twilio.md").read_text(encoding="utf-8")
HOOKS = (DOCS / "webhooks.md").read_text(encoding="utf-8")


def test_the_table_of_errors_is_that_of_the_code() -> None:
    written = {int(code): int(status) for status, code in re.findall(r"^\| (\d{3}) \| (\d{5}) \|", FRONT, re.MULTILINE)}
    assert written == {code: row.status for code, row in TABLE.items()}


def test_parameters_that_are_refused_are_named() -> None:
    for name in _REFUSED:
        assert name in FRONT or name.startswith("Template"), name


def test_the_schedule_of_tries_is_that_of_the_code() -> None:
    spans = {"s": 1, "min": 60, "h": 3600}
    text = HOOKS[HOOKS.index("tried again after") : HOOKS.index("or when your")]
    written = [int(number) * spans[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", text)]
    assert written == [int(span.total_seconds()) for span in dispatch.BACK_OFF]
    assert f"within {int(sender.DEADLINE.total_seconds())} seconds" in HOOKS


def test_every_reason_of_a_failure_is_explained() -> None:
    source = Path(sender.__file__).read_text(encoding="utf-8") + Path(dispatch.__file__).read_text(encoding="utf-8")
    reasons = set(re.findall(r'Answer\(reason="(\w+)"', source)) | {
        "tls",
        "unreachable",
        "redirected",
        "gone",
        "status",
    }
    assert len(reasons) > 8
    for reason in reasons:
        assert f"`{reason}`" in HOOKS, reason
