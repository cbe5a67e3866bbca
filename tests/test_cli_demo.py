"""``otpvoice demo``: its exit code means what it says, with and without a person."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otpvoice.errors import CodeMismatch
from otpvoice.service import OTPService
from otpvoice.simulator.hearing import heard_code
from otpvoice.types import Code
from tests.cli_helpers import run


def test_auto_tells_every_step_and_exits_with_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # A proxy that does not answer is not asked.
    monkeypatch.setenv("OTPVOICE_SECRET", "short")  # And nobody's own settings matter.
    ran = run("demo", "--auto")
    assert ran.code == 0, ran.out + ran.err
    steps = re.findall(r"^ *(\d)  (\w+)", ran.out, re.M)
    assert [number for number, _ in steps] == list("12345678")
    heard = re.search(r"Heard +(\d{6})", ran.out)
    assert heard is not None
    says = re.search(r"The voice says +(.*)", ran.out)
    assert says is not None
    assert heard_code(says[1]) == heard[1]
    verdicts = re.findall(r"Typed (\d{6}) +(refused|approved)", ran.out)
    assert [verdict for _, verdict in verdicts] == ["refused", "approved", "refused"]
    assert verdicts[0][0] != verdicts[1][0] == heard[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("locale", ["vi-VN", "ja", "ar", "hi", "th", "de"])
def test_auto_hears_other_languages(locale: str) -> None:
    assert run("demo", "--auto", "--locale", locale).code == 0


def test_auto_fails_where_a_wrong_code_is_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    verify, right = OTPService.verify_code, ""

    def lenient(self: OTPService, challenge_id: str, code: str, **options: Any) -> Any:
        return verify(self, challenge_id, right, **options)

    made = __import__("otpvoice.codes", fromlist=["generate"]).generate

    def generate(length: int, **options: Any) -> Code:
        nonlocal right
        right = made(length, **options)
        return right

    monkeypatch.setattr("otpvoice.codes.generate", generate)
    monkeypatch.setattr(OTPService, "verify_code", lenient)
    assert run("demo", "--auto").code == 1


def test_auto_fails_where_the_right_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(self: OTPService, challenge_id: str, code: str, **options: Any) -> Any:
        raise CodeMismatch(4)

    monkeypatch.setattr(OTPService, "verify_code", strict)
    assert run("demo", "--auto").code == 1


def test_without_a_terminal_it_says_what_to_run() -> None:
    ran = run("demo")
    assert ran.code == 2
    assert "otpvoice demo --auto" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("number", ["", "12345", "+1-800-FLOWERS"])
def test_a_wrong_number_is_wrong_usage(number: str) -> None:
    assert run("demo", "--auto", "--number", number).code == 2


def test_a_terminal_of_another_encoding_ends_nothing(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "otpvoice", "demo", "--auto", "--locale", "vi"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"+84???????78" in ran.stdout


class Terminal:
    """``otpvoice demo`` in a pseudo-terminal, as a person sees it."""

    def __init__(self, folder: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otpvoice", "demo"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until the pattern comes."""
        while not (found := re.search(pattern, self.seen)):
            try:
                more = os.read(self.master, 4096)
            except OSError:  # Linux's way to say that the other side is closed.
                more = b""
            assert more, f"{pattern} never came; seen: {self.seen}"
            self.seen += more.decode(errors="replace").replace("\r", "")
        self.seen = self.seen[found.end() :]
        return found

    def type(self, text: str) -> None:
        os.write(self.master, f"{text}\n".encode())

    def close(self) -> int:
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.master)


def test_a_person_types_a_wrong_code_and_the_right_one(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    says = terminal.until(r"The voice says +(.*)\n")[1]
    code = heard_code(says)
    assert code is not None
    terminal.until("code: ")
    terminal.type("hello")
    terminal.until("refused: .*5 attempts left")
    terminal.type(str((int(code) + 1) % 10**6).zfill(6))
    terminal.until("refused: .*4 attempts left")
    terminal.type(f"{code[:3]} {code[3:]}")
    terminal.until("approved")
    assert terminal.close() == 0


def test_a_person_who_never_hears_it_is_refused(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    code = heard_code(terminal.until(r"The voice says +(.*)\n")[1])
    assert code is not None
    for left in (4, 3, 2, 1, 0):
        terminal.until("code: ")
        terminal.type(str((int(code) + 1) % 10**6).zfill(6))
        terminal.until(f"{left} attempts? left")
    assert terminal.close() == 1
