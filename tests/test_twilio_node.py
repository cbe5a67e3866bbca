"""Twilio's own Node SDK, unchanged, against the service behind a real uvicorn: ``node/verify.mjs`` is the story."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest

from otpvoice.clock import ManualClock
from tests.http_tools import Make, houses
from tests.twilio_tools import OTHER, PHONE, Front, served

VERSION = "6.2.0"
STORY = Path(__file__).with_name("node") / "verify.mjs"


@pytest.fixture(scope="session")
def sdk() -> Path:
    """Where twilio-node is installed: once for this machine's temporary directory."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are needed for Twilio's Node SDK, and are not on this machine")
    home = Path(tempfile.gettempdir()) / f"otpvoice-twilio-node-{VERSION}-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    with (home / "lock").open("w") as lock:
        # pytest's workers are processes: two installations into one directory at once spoil each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").is_file():
            _install(npm, home)
    return home / "node_modules"


def _install(npm: str, home: Path) -> None:
    command = [npm, "install", "--prefix", str(home), "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run([*command, f"twilio@{VERSION}"], capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install twilio@{VERSION} within ten minutes")
    if done.returncode != 0:
        pytest.skip(f"npm could not install twilio@{VERSION}: {done.stderr.strip()[-300:]}")
    (home / "installed").touch()


@pytest.fixture
def make(database_url: str, clock: ManualClock) -> Iterator[Make]:
    yield from houses(database_url, clock)


def test_the_node_sdk(sdk: Path, make: Make, clock: ManualClock) -> None:
    front = Front.make(make)
    with served(front.house) as url:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "OTPVOICE_"))},
            "TWILIO_AT": str(sdk / "story.js"),
            "URL_HERE": url,
            "ACCOUNT": front.account_sid,
            "KEY": front.key,
            "SERVICE": front.service_sid,
            "PHONE": PHONE,
            "OTHER": OTHER,
        }
        with subprocess.Popen(
            ["node", str(STORY)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as node:
            assert node.stdin is not None
            assert node.stdout is not None
            assert node.stderr is not None
            said = []
            for line in node.stdout:
                said.append(line.strip())
                answer = _answer(line.split(), front, clock)
                if answer is not None:
                    node.stdin.write(f"{answer}\n")
                    node.stdin.flush()
            complaint = node.stderr.read()
        assert node.returncode == 0, complaint
        assert said[-1] == "done"


def _answer(question: list[str], front: Front, clock: ManualClock) -> str | None:
    match question:
        case ["advance", seconds]:
            clock.advance(float(seconds))
            return "ok"
        case ["code", channel]:
            return front.sent(channel)
        case ["wrong", channel]:
            return front.wrong(channel)
        case ["totp", secret]:
            clock.advance(30)
            return pyotp.TOTP(secret).at(clock.now())
    return None
