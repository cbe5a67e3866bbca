"""``otpvoice demo``: the whole story in a terminal, with a simulated provider and a database that is thrown away."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from otpvoice.channels.console import printable
from otpvoice.channels.itnio import ItnioVoice, ItnioVoiceSettings
from otpvoice.cli.challenges import hint
from otpvoice.cli.trouble import ExitCode
from otpvoice.errors import (
    ChallengeClosed,
    CodeMismatch,
    ConfigurationError,
    InvalidRequest,
    LockedOut,
    MalformedCode,
    OTPVoiceError,
)
from otpvoice.keys import generate_secret
from otpvoice.service import OTPService
from otpvoice.types import Challenge, Verified

if TYPE_CHECKING:
    from otpvoice.simulator.records import SimulatedCall
    from otpvoice.simulator.server import SimulatedItnio

NUMBER = "+84912345678"
"""An example of a Vietnamese mobile number. Nobody is called: the provider is simulated."""


def demo(
    auto: Annotated[
        bool, typer.Option("--auto", help="Without a person: listen to the call and type for you.")
    ] = False,
    number: Annotated[str, typer.Option(help="Whom the simulated provider calls.")] = NUMBER,
    locale: Annotated[str, typer.Option(help="The language of the call, a BCP-47 tag: vi-VN.")] = "en",
) -> None:
    """Play the whole story: a call, a wrong code, the right one. Needs no account, no settings and no phone.

    With --auto the exit code is 0 only if the wrong code was refused and the right one approved.
    """
    if not auto and not sys.stdin.isatty():
        raise InvalidRequest("the demo asks you to type a code, and this is no terminal: run `otpvoice demo --auto`")
    tell = Teller(Console(highlight=False, soft_wrap=True))
    with simulated() as itnio, tempfile.TemporaryDirectory(prefix="otpvoice-demo-") as folder:
        with service(itnio, Path(folder)) as otp:
            tell.step("A provider", f"ITNIO is simulated at {itnio.url}; it rings nobody")
            challenge = otp.issue_code(number, purpose="login", subject="alice", locale=locale)
            call = itnio.wait_for_calls()[-1]
            tell.issued(challenge)
            tell.call(call)
            passed = listen_and_type(otp, challenge, call, tell) if auto else ask(otp, challenge, tell)
        tell.end(passed)
    if not passed:
        raise typer.Exit(ExitCode.REFUSED)


@contextmanager
def simulated() -> Iterator[SimulatedItnio]:
    """A simulated ITNIO over real HTTP. Raises :class:`~otpvoice.errors.ConfigurationError` where it is missing."""
    try:
        from otpvoice.simulator.server import SimulatedItnio
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the demo needs {error.name}: pip install 'otpvoice[demo]'") from None
    for name in ("NO_PROXY", "no_proxy"):  # A proxy of this network does not know this machine's own address.
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    with SimulatedItnio() as itnio:
        yield itnio


def service(itnio: SimulatedItnio, folder: Path) -> OTPService:
    """The real service: embedded database, real hashing, real HTTP to the simulated provider."""
    account = itnio.account
    voice = ItnioVoiceSettings(
        base_url=itnio.url,
        api_key=account.api_key,
        api_secret=account.api_secret,
        app_id=next(iter(account.app_ids)),
    )
    return OTPService(
        secret=generate_secret(),
        channels=[ItnioVoice("voice", voice)],
        database_url=f"sqlite:///{folder / 'demo.db'}",
        brand="Demo",
    )


def listen_and_type(otp: OTPService, challenge: Challenge, call: SimulatedCall, tell: Teller) -> bool:
    """Hear the code in the spoken text, type a wrong one, then the right one, then that again."""
    heard = call.heard_code
    if heard is None:
        tell.step("Heard", "no code in the spoken text", style="red")
        return False
    tell.step("Heard", heard, style="bold cyan")
    wrong = str((int(heard) + 1) % 10 ** len(heard)).zfill(len(heard))
    refused = isinstance(attempt(otp, challenge, wrong, tell), CodeMismatch)
    approved = isinstance(attempt(otp, challenge, heard, tell), Verified)
    once = isinstance(attempt(otp, challenge, heard, tell), ChallengeClosed)
    return refused and approved and once


def ask(otp: OTPService, challenge: Challenge, tell: Teller) -> bool:
    """Let a person type until the code is right or the challenge is closed."""
    tell.note("Type the code that the voice says. Try a wrong one first.")
    while True:
        result = attempt(otp, challenge, typer.prompt("code"), tell)
        if isinstance(result, Verified):
            return True
        if not isinstance(result, CodeMismatch) or (
            result.attempts_left == 0 and not isinstance(result, MalformedCode)
        ):
            return False


def attempt(otp: OTPService, challenge: Challenge, typed: str, tell: Teller) -> Verified | OTPVoiceError:
    """One attempt, told."""
    try:
        verified = otp.verify_code(challenge.id, typed, purpose="login", subject="alice")
    except (CodeMismatch, ChallengeClosed, LockedOut) as error:
        tell.step(f"Typed {printable(typed)[:20]}", f"refused: {error}", style="yellow")
        return error
    tell.step(f"Typed {printable(typed)[:20]}", f"approved: {hint(verified)} is alice's", style="bold green")
    return verified


class Teller:
    """What the terminal shows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0

    def step(self, title: str, words: str, *, style: str = "default") -> None:
        """One numbered line."""
        self._steps += 1
        line = Text(f"{self._steps:>2}  {title:<16}", style="bold")
        line.append(printable(words), style=f"not bold {style}" if "bold" not in style else style)
        self._console.print(line)

    def note(self, words: str) -> None:
        """A line without a number."""
        self._console.print(Text(f"    {words}", style="dim"))

    def issued(self, challenge: Challenge) -> None:
        """What the login flow got back."""
        minutes = round((challenge.expires_at - challenge.created_at).total_seconds() / 60)
        self.step("issue_code", f"{challenge.id} to {challenge.recipient}, for {minutes} min")
        self.note(f"{challenge.attempts_left} attempts; another call from {challenge.resend_at:%H:%M:%S} UTC")

    def call(self, call: SimulatedCall) -> None:
        """What the provider was asked for."""
        self.step("The call", f"POST /voice/sendCode: +{call.callee}, {call.language}, played {call.loop_count} ×")
        self.step("The voice says", call.text, style="cyan")

    def end(self, passed: bool) -> None:
        """How it ended."""
        if passed:
            self.note("The code was made when it was sent and is stored nowhere; the database is gone with this demo.")
            self.note("Next: the login flow in README.md, and `otpvoice --help`.")
        else:
            self._console.print(Text("The story did not end well: the person was not approved.", style="bold red"))
