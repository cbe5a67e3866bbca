"""Speech to listen to here, from espeak-ng: another voice than the provider's, and the same words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from otpvoice.errors import ConfigurationError

WORDS_PER_MINUTE = 140
"""A calm voice; espeak-ng's own default is 175."""
PATIENCE = 60
"""Seconds that rendering may take."""


def available() -> bool:
    """Whether espeak-ng is installed."""
    return shutil.which("espeak-ng") is not None


def render(text: str, *, voice: str, path: Path, words_per_minute: int = WORDS_PER_MINUTE) -> None:
    """Write the text as a WAV file.

    Raises :class:`~otpvoice.errors.ConfigurationError` without espeak-ng, and where the file cannot be written.
    """
    try:
        path.open("wb").close()  # espeak-ng itself is silent about a file that it cannot write.
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    _espeak("-v", voice, "-s", str(words_per_minute), "-w", str(path.absolute()), text=text)


def phonemes(text: str, *, voice: str) -> list[str]:
    """What espeak-ng says, in the International Phonetic Alphabet, one entry for each clause between pauses."""
    return _espeak("-v", voice, "-q", "--ipa", text=text).splitlines()


def _espeak(*arguments: str, text: str) -> str:
    program = shutil.which("espeak-ng")
    if program is None:
        raise ConfigurationError("espeak-ng is not installed: on Debian, apt install espeak-ng")
    # The text goes in on standard input: it may begin with a dash, and other users see arguments.
    command = [program, "-b", "1", *arguments, "--stdin"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=PATIENCE, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"espeak-ng took more than {PATIENCE} seconds") from None
    if done.returncode != 0:
        raise ConfigurationError(f"espeak-ng failed: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout.decode()
