"""The examples of docs/http.md run as they stand; the files of examples/deploy say what the service understands."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from otpvoice import tenant_keys
from otpvoice.cli.app import app as command_line
from otpvoice.errors import ConfigurationError
from otpvoice.http import problems, tenants
from otpvoice.http.app import create_app
from otpvoice.http.settings import HttpSettings
from otpvoice.policy import Route, default_policies
from otpvoice.settings import Settings, read
from tests.http_processes import Installation, Phone, Process

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "http.md").read_text()
DEPLOY = ROOT / "examples" / "deploy"
_LAST = ("STOPSIGNAL", "ENTRYPOINT", "CMD")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def served(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str, Path]]:
    """The page's own configuration, served."""
    directory = tmp_path_factory.mktemp("docs")
    shutil.copy(sqlite_template, directory / "otpvoice.db")
    (directory / "otpvoice.toml").write_text(blocks("toml")[0])
    installation = Installation(directory, f"sqlite:///{directory / 'otpvoice.db'}", Phone())
    key = installation.key("shop-test", test=True)
    yield installation.start().wait(), key, directory
    installation.close()


@pytest.mark.parametrize("number", range(len(blocks("bash"))))
def test_the_curl_examples_run(served: tuple[Process, str, Path], number: int) -> None:
    process, key, directory = served
    environment = {**os.environ, "OTPVOICE_URL": process.url, "OTPVOICE_KEY": key}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", blocks("bash")[number]],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout


def test_the_python_example_runs(served: tuple[Process, str, Path]) -> None:
    process, key, directory = served
    [code] = blocks("python")
    path = {"PYTHONPATH": str(ROOT), "OTPVOICE_URL": process.url, "OTPVOICE_KEY": key}
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=directory, env={**os.environ, **path}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_the_page_names_every_setting_problem_and_outcome() -> None:
    for name in HttpSettings.model_fields:
        assert f"`{name}`" in PAGE, name
    for kind in problems.TABLE.values():
        if kind.status not in {500, 502} and kind.slug not in {
            "not-found", "method-not-allowed", "report-refused", "unknown-factor",
        }:  # fmt: skip
            assert f"`{kind.slug}`" in PAGE, kind.slug
    for outcome in tenants.OUTCOMES:
        assert f"`{outcome}`" in PAGE, outcome
    for scope in tenant_keys.SCOPES:
        assert scope in PAGE


def test_the_page_names_every_route(tmp_path: Path) -> None:
    documented = create_app(Settings(development=True, database_url=f"sqlite:///{tmp_path / 'x.db'}")).openapi()
    for path in documented["paths"]:
        if path.startswith(("/v1/challenges", "/.well-known", "/healthz", "/readyz", "/v1/proofs", "/v1/test")):
            assert re.sub(r"\{\w+_id\}", "{id}", path) in PAGE, path


def _understood(words: list[str]) -> None:
    """The command line has this command, and these options."""
    command = get_command(command_line)
    rest = list(words)
    while rest and hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    context = command.make_context("otpvoice", rest, resilient_parsing=False)
    assert context.args == []


def test_the_container_file_starts_what_there_is() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if re.match(r"[A-Z]+ ", line)]
    last = dict(instructions)
    assert set(last) <= {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", *_LAST}
    assert last["ENTRYPOINT"] == '["otpvoice"]'
    assert last["USER"] not in {"0", "root"}
    _understood(yaml.safe_load(last["CMD"]))
    extras = re.search(r'"\.\[(.*?)\]"', "\n".join(lines))
    assert extras is not None
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(offered)
    assert not any("SECRET" in line and "=" in line for line in lines), "no secret in an image"


def test_the_compose_file_starts_what_there_is() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"postgres", "upgrade", "otpvoice"}
    for name in ("upgrade", "otpvoice"):
        _understood(services[name]["command"])
        build = services[name]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"
        for variable in services[name]["environment"]:
            assert variable.removeprefix("OTPVOICE_").lower() in Settings.model_fields
            assert variable.endswith("_FILE"), "secrets come from files"
    for service in services.values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file()
    assert "ports" not in services["postgres"], "the database is not for the outside"
    assert services["postgres"]["networks"] == ["inside"]


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker compose reads the file where it is installed")
def test_docker_compose_reads_the_file(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    compose = ["docker", "compose", "-f", str(tmp_path / "deploy" / "compose.yaml"), "config", "--quiet"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("docker has no compose here")
    ran = subprocess.run(compose, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_the_configuration_of_the_deployment_is_right(tmp_path: Path) -> None:
    table = tomllib.loads((DEPLOY / "otpvoice.toml").read_text())
    settings = Settings(**table)
    assert HttpSettings.from_table(settings.http).mode == "production"
    found = tenants.build(settings, default_policies(Route.of("voice")))
    assert [tenant.test for tenant in found.values()] == [False, True]
    assert not any("secret" in key or "password" in key for key in table)


def test_the_systemd_unit_starts_what_there_is() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "otpvoice.service")
    service = parser["Service"]
    for key in ("ExecStart", "ExecStartPre"):
        program, *words = service[key].split()
        assert program == "/opt/otpvoice/bin/otpvoice"
        _understood(words)
    assert service["NoNewPrivileges"] == service["DynamicUser"] == "yes"
    assert "=" not in service["LoadCredentialEncrypted"], "the secret is in a file of its own"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd reads the unit where it is installed")
def test_systemd_reads_the_unit() -> None:
    ran = subprocess.run(
        ["systemd-analyze", "verify", str(DEPLOY / "otpvoice.service")], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in ran.stderr.splitlines() if "is not executable" not in line and "otpvoice" in line]
    assert not complaints


def test_the_database_url_comes_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password is in no variable that every process of a container shows."""
    (tmp_path / "url").write_text("postgresql://otpvoice:p@db/otpvoice\n")
    monkeypatch.setenv("OTPVOICE_DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.chdir(tmp_path)
    assert read().database_url == "postgresql://otpvoice:p@db/otpvoice"
    monkeypatch.setenv("OTPVOICE_DATABASE_URL_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match="database_url_file"):
        read()
