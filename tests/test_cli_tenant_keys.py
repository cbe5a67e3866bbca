"""``otpvoice keys create|list|rotate|revoke`` and ``otpvoice serve --check``."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from otpvoice.cli.app import app
from otpvoice.tenant_keys import parse
from tests.conftest import SECRET

CONFIGURATION = f"""
secret = "{SECRET}"
database_url = "sqlite:///%s"
[channels.voice]
type = "memory"
[tenants.shop]
[tenants.shop-test]
test = true
"""


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "otpvoice.toml"
    path.write_text(CONFIGURATION % (tmp_path / "otpvoice.db"))
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_a_key_is_made_listed_rotated_and_revoked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = run("keys", "create", "--tenant", "shop", "--scopes", "issue,verify", "--name", "the shop")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    shown = parse(key)
    assert shown is not None
    assert not shown.test
    listed = run("keys", "list").stdout
    assert shown.key_id in listed
    assert "the shop" in listed
    assert key.rsplit("_", 1)[1] not in listed + caplog.text
    rotated = json.loads(run("keys", "rotate", shown.key_id, "--overlap", "1", "--json").stdout)
    assert rotated["scopes"] == ["issue", "verify"]
    old = json.loads(run("keys", "list", "--tenant", "shop", "--json").stdout)[0]
    assert (old["id"], old["replaced_by"]) == (shown.key_id, rotated["id"])
    assert run("keys", "revoke", rotated["id"]).exit_code == 0
    assert run("keys", "revoke", rotated["id"]).exit_code == 2


def test_a_test_tenants_key_is_a_test_key() -> None:
    assert run("keys", "create", "--tenant", "shop-test").stdout.startswith("otpv_test_")


@pytest.mark.parametrize(
    "words", [["--tenant", "nobody"], ["--tenant", "shop", "--scopes", "root"], ["--tenant", "shop", "--scopes", ""]]
)
def test_a_key_for_nobody_or_nothing_is_refused(words: list[str]) -> None:
    refused = run("keys", "create", *words)
    assert refused.exit_code == 2
    assert "otpv_" not in refused.output


def test_serve_checks_before_it_starts(configured: Path) -> None:
    assert run("serve", "--check").exit_code == 0
    configured.write_text(configured.read_text() + '\n[http]\nmod = "x"\n')
    wrong = run("serve", "--check")
    assert wrong.exit_code == 3
    assert "http.mod" in wrong.output


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("[tenants.shop.twilio]\nnope = 1", "tenants.shop.twilio"),
        ("[tenants.shop.webhooks]\nnope = 1", "webhooks"),
        ('[http]\ntls_certificate = "no.pem"\ntls_key = "no.key"', "tls_certificate"),
        ('[http]\ntls_certificate = "otpvoice.toml"\ntls_key = "otpvoice.toml"', "tls_certificate"),
    ],
)
def test_serve_checks_all_that_its_processes_will_read(configured: Path, table: str, named: str) -> None:
    """Otherwise each of --workers N breaks by itself, with a traceback, and is started again for ever."""
    configured.write_text(f"{configured.read_text()}\n{table}\n")
    wrong = run("serve", "--check")
    assert (wrong.exit_code, named in wrong.output) == (3, True), wrong.output


def test_serve_refuses_test_recipients_of_a_live_tenant(configured: Path) -> None:
    """P81."""
    configured.write_text(configured.read_text() + '\n[tenants.shop.test_recipients."+12015550123"]\ncode = "123456"\n')
    refused = run("serve", "--check")
    assert refused.exit_code == 3
    assert "live" in refused.output
