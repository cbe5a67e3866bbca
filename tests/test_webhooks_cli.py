"""``otpvoice webhooks``, and what the configuration says about where webhooks may go."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from otpvoice import ConfigurationError, OTPService
from otpvoice.channels.memory import Memory
from otpvoice.http.twilio import sids
from otpvoice.store import outbox
from otpvoice.webhooks import config
from otpvoice.webhooks.dispatch import Dispatcher
from otpvoice.webhooks.sender import Answer
from tests.cli_helpers import run
from tests.conftest import NUMBER, SECRET, policies
from tests.test_webhooks_dispatch import URL, Hooks

TENANTS = """
[tenants.shop]
[tenants.shop-test]
test = true
[channels.voice]
type = "memory"
"""


@pytest.fixture
def installed(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration with two tenants, and the URL of its database."""
    (tmp_path / "otpvoice.toml").write_text(TENANTS)
    (tmp_path / "otpvoice.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'otpvoice.db'}"
    monkeypatch.setenv("OTPVOICE_SECRET", SECRET)
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", url)
    return url


def give_up(url: str) -> int:
    """Let something happen to the shop, and its endpoint fail until all is given up; how many there are."""
    with OTPService(secret=SECRET, channels=[Memory("voice")], policies=policies(), database_url=url) as service:
        service.for_tenant("shop").issue_code(NUMBER, purpose="login")
        dispatcher = Dispatcher(service._context, sender=Hooks(Answer(status=500, reason="status")))
        service._runner.run(dispatcher.once())
        return len(service._runner.run(_bury()))


def _bury():  # type: ignore[no-untyped-def]
    from sqlalchemy import update

    from otpvoice.flow import transact
    from otpvoice.store.outbox_tables import webhook_message

    def work(connection, _now):  # type: ignore[no-untyped-def]
        connection.execute(update(webhook_message).values(state="dead"))
        return outbox.messages(connection, state="dead")

    return (yield from transact(work))


def test_add_list_rotate_switch_and_remove(installed: str) -> None:
    made = run("webhooks", "add", URL, "--tenant", "shop", "--kind", "challenge.*", "--json").json
    assert made["secret"].startswith("whsec_")
    assert (made["tenant"], made["kinds"]) == ("shop", ["challenge.*"])
    listed = run("webhooks", "list", "--json").json
    assert [item["id"] for item in listed] == [made["id"]]
    assert made["secret"] not in json.dumps(listed)
    assert run("webhooks", "list", "--tenant", "shop-test", "--json").json == []
    assert made["id"] in run("webhooks", "list").out
    renewed = run("webhooks", "rotate", made["id"]).out
    assert "whsec_" in renewed
    assert made["secret"] not in renewed
    assert run("webhooks", "disable", made["id"]).out == "disabled (operator)\n"
    assert run("webhooks", "enable", made["id"]).out == "enabled\n"
    assert run("webhooks", "remove", made["id"]).code == 0
    assert run("webhooks", "list", "--json").json == []


def test_what_was_given_up_is_listed_and_sent_again(installed: str) -> None:
    endpoint = run("webhooks", "add", URL, "--tenant", "shop", "--json").json["id"]
    count = give_up(installed)
    assert count > 0
    dead = run("webhooks", "messages", "--json").json
    assert len(dead) == count
    assert {item["reason"] for item in dead} == {"status"}
    assert dead[0]["id"] in run("webhooks", "messages").out
    assert run("webhooks", "redeliver", dead[0]["id"]).out == "1 message is on the way again\n"
    assert run("webhooks", "redeliver", "--tenant", "shop-test").out.startswith("0 ")
    assert run("webhooks", "redeliver", "--endpoint", endpoint).out.startswith(f"{count - 1} ")
    assert run("webhooks", "messages", "--json").json == []
    assert len(run("webhooks", "messages", "--state", "pending", "--json").json) == count


def test_wrong_usage_is_said(installed: str) -> None:
    for arguments in (
        ("add", "http://plain.example/"),
        ("add", URL, "--tenant", "nobody"),
        ("add", URL, "--tenant", "shop", "--kind", "*.x"),
        ("rotate", "we_none"),
        ("redeliver",),
        ("messages", "--state", "odd"),
    ):
        assert run("webhooks", *arguments).code == 2, arguments


def test_sending_ends_when_nothing_is_due(installed: str) -> None:
    assert run("webhooks", "send", "--until-idle").code == 0


@pytest.mark.parametrize(("option", "told"), [(None, True), ("--webhooks", True), ("--no-webhooks", False)])
def test_a_worker_sends_webhooks_unless_it_is_told_not_to(
    installed: str, monkeypatch: pytest.MonkeyPatch, option: str | None, told: bool
) -> None:
    hooks = Hooks()
    monkeypatch.setattr("otpvoice.webhooks.dispatch.Sender", lambda: hooks)
    run("webhooks", "add", URL, "--tenant", "shop")
    with OTPService(secret=SECRET, channels=[Memory("voice")], policies=policies(), database_url=installed) as service:
        service.for_tenant("shop").issue_code(NUMBER, purpose="login")
    assert run("worker", "--until-idle", *([] if option is None else [option])).code == 0
    assert ("challenge.opened" in hooks.kinds) == told


def test_a_running_worker_sends_webhooks_until_it_is_stopped(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the deliveries, and it ends by SIGTERM."""

    class Stops(Hooks):
        def post(self, *arguments: Any, **named: Any) -> Answer:
            answer = super().post(*arguments, **named)
            os.kill(os.getpid(), signal.SIGTERM)
            return answer

    hooks = Stops()
    monkeypatch.setattr("otpvoice.webhooks.dispatch.Sender", lambda: hooks)
    run("webhooks", "add", URL, "--tenant", "shop", "--kind", "challenge.opened")
    with OTPService(secret=SECRET, channels=[Memory("voice")], policies=policies(), database_url=installed) as service:
        service.for_tenant("shop").issue_code(NUMBER, purpose="login")
    assert run("worker").code == 0
    assert hooks.kinds == ["challenge.opened"]


def test_the_account_sid_of_a_tenant_is_printed(installed: str) -> None:
    assert run("twilio", "account", "--tenant", "shop").out == f"{sids.account('shop')}\n"
    assert run("twilio", "account", "--tenant", "nobody").code == 2


def test_networks_of_ones_own_are_allowed_by_tenant() -> None:
    made = config.guards({"shop": {"allow_networks": ["10.1.2.0/24", "fd12::/64"]}, "bank": {}})
    assert set(made) == {"shop"}
    assert list(made["shop"].allowed) == [ipaddress.ip_network("10.1.2.0/24"), ipaddress.ip_network("fd12::/64")]


@pytest.mark.parametrize("table", [{"url": "x"}, {"allow_networks": "10.0.0.0/8"}, {"allow_networks": ["10.0.0.1/8"]}])
def test_a_table_that_is_wrong_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"\[tenants\.shop\.webhooks\]"):
        config.guards({"shop": table})
