"""What README.md and docs/ show is true: commands run, code runs, links lead somewhere, tables are whole."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from otpvoice import errors
from otpvoice.errors import OTPVoiceError
from otpvoice.policy import Policy
from otpvoice.settings import Settings
from otpvoice.simulator.server import SimulatedItnio
from tests.conftest import SECRET

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert found is not None, heading
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio() as simulator:
        yield simulator


def shell(script: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the README as a person would, with this environment's ``otpvoice``."""
    (folder / "bin").mkdir(exist_ok=True)
    tool = folder / "bin" / "otpvoice"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m otpvoice "$@"\n')
    tool.chmod(0o755)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("heading", ["Try it", "Run the tests"])
def test_a_fresh_clone_needs_one_line(heading: str) -> None:
    text = section(heading)
    first = re.search(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    assert first is not None
    assert first[1] == "sh"
    assert first[2].count("\n") == 1
    assert first[2].startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert text.index("```") < 5, "the command comes first"


def test_the_build_runs_the_readmes_own_commands() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    listed = subprocess.run([script, "--list"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert listed.splitlines() == [blocks(section(name), "sh")[0].strip() for name in ("Try it", "Run the tests")]
    assert "pytest" not in script.read_text(), "the command of the tests is in README.md only"


def test_the_demo_of_the_first_command_runs(tmp_path: Path) -> None:
    command = blocks(section("Try it"), "sh")[0].strip().split(" && ")[-1]
    assert command.startswith(".venv/bin/otpvoice ")
    ran = shell(command.removeprefix(".venv/bin/"), tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "approved" in ran.stdout


def test_the_commands_of_the_login_flow_run(tmp_path: Path, itnio: SimulatedItnio) -> None:
    issue, verify, show = blocks(section("A login flow"), "sh")[0].splitlines()
    account = {
        "OTPVOICE_SECRET": SECRET,
        "OTPVOICE_ITNIO_BASE_URL": itnio.url,
        "OTPVOICE_ITNIO_API_KEY": "demo-key",
        "OTPVOICE_ITNIO_API_SECRET": "demo-secret",
        "OTPVOICE_ITNIO_APP_ID": "demo-app",
    }
    issued = shell(issue, tmp_path, **account)
    assert issued.returncode == 0, issued.stderr
    challenge = re.search(r"ch_[0-9a-f]{32}", issued.stdout)
    code = itnio.calls[-1].heard_code
    assert challenge is not None
    assert code is not None
    wrong = str((int(code) + 1) % 10**6).zfill(6)
    assert shell(verify.replace("ch_…", challenge[0]).replace("482913", wrong), tmp_path, **account).returncode == 1
    right = shell(verify.replace("ch_…", challenge[0]).replace("482913", code), tmp_path, **account)
    assert (right.returncode, right.stdout[:9]) == (0, "approved:")
    assert "approved" in shell(show.replace("ch_…", challenge[0]), tmp_path, **account).stdout


def test_a_real_accounts_settings_pass_the_doctor(tmp_path: Path, itnio: SimulatedItnio) -> None:
    script = blocks(section("With a real account"), "sh")[0]
    for name, value in {
        "ITNIO_API_KEY=…": "demo-key",
        "ITNIO_API_SECRET=…": "demo-secret",
        "ITNIO_APP_ID=…": "demo-app",
        "DATABASE_URL=postgresql://otpvoice:…@db/otpvoice": "sqlite:///own.db",
    }.items():
        assert name in script
        script = script.replace(name, f"{name.split('=')[0]}={value}")
    ran = shell(script, tmp_path, OTPVOICE_ITNIO_BASE_URL=itnio.url)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "wrong" not in ran.stdout
    assert "only TH, VN" in ran.stdout


def test_the_login_flows_are_the_examples() -> None:
    shown = blocks(section("A login flow"), "python")
    for name, code in zip(("fastapi_login.py", "flask_login.py"), shown, strict=True):
        assert (ROOT / "examples" / name).read_text().endswith(code), f"examples/{name} and README.md differ"


def test_the_code_of_the_testing_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    names: dict[str, object] = {}
    shown = blocks((ROOT / "docs" / "testing-your-app.md").read_text(encoding="utf-8"), "python")
    assert len(shown) == 4
    code = "".join(shown)
    for name in re.findall(r"OTPVOICE_\w+", code):
        monkeypatch.setenv(name, "")
    exec(compile(code, "docs/testing-your-app.md", "exec", dont_inherit=True), names)
    names["otp"].close()  # type: ignore[attr-defined]


def test_the_files_of_the_configuration_page_are_read(tmp_path: Path) -> None:
    from otpvoice import config, settings

    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (file,) = blocks(page, "toml")
    for path in re.findall(r'"(/run/secrets/\w+)"', file):
        own = tmp_path / Path(path).name
        own.write_text(SECRET)
        file = file.replace(path, str(own))
    (tmp_path / "otpvoice.toml").write_text(file.replace('"…"', '"x"'))
    assembly = config.from_settings(settings.read(tmp_path / "otpvoice.toml"))
    assert assembly.context.policies["payment"].profile == "pci"
    assert assembly.context.brand == "Example Bank"
    variable = re.search(r"OTPVOICE_POLICY='(.*)'", page)
    assert variable is not None


def test_every_setting_and_every_number_of_a_policy_is_described() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M))))
    wanted = set(Settings.model_fields) | {field.name for field in fields(Policy)}
    assert not wanted - named, "add these to docs/configuration.md"
    assert not named - wanted, "docs/configuration.md names settings that are not"


def test_every_error_is_described() -> None:
    page = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.M)) | {"OTPVoiceError"}
    known = {
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, OTPVoiceError) and not name.startswith("_")
    }
    assert named == known, "docs/failures.md and otpvoice/errors.py differ"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w -]", "", item.lower()).replace(" ", "-") for item in headings}
            assert anchor in anchors, f"{page.name} links to {target}"


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\((\w[\w-]*\.md)\)", index))
    assert pages == listed, "docs/README.md and the folder differ"
