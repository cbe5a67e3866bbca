"""What the command line does with errors, in one place: a line with the remedy, and an exit code."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from otpvoice.channels.console import printable
from otpvoice.cli.session import session
from otpvoice.cli.view import plain
from otpvoice.errors import (
    ChallengeClosed,
    CodeMismatch,
    ContentRejected,
    DeliveryError,
    InvalidRequest,
    LockedOut,
    MalformedCode,
    NoBalance,
    OTPVoiceError,
    OutcomeUnknown,
    ProviderMisconfigured,
    ProviderUnavailable,
    RateLimited,
    RecipientDenied,
    RecipientRejected,
    Refused,
    ServiceBusy,
    StoreUnavailable,
    UnknownFactor,
    UnknownPurpose,
    VerificationFailed,
)


class ExitCode(IntEnum):
    """What a script learns from ``$?``."""

    OK = 0
    """Done; for ``verify``: approved."""
    REFUSED = 1
    """A wrong code, a closed challenge, a limit or a lock; for ``doctor``, ``db check``: something is wrong."""
    USAGE = 2
    """The command line or a value on it is wrong. Nothing was charged or sent."""
    TROUBLE = 3
    """Configuration, provider or database: nothing that the person at the keyboard typed."""


EXIT_CODES = """
Exit codes:  [bold]0[/] done, approved  [bold]1[/] refused  [bold]2[/] wrong usage
[bold]3[/] trouble with the configuration, the provider or the database
"""

REMEDIES: dict[type[OTPVoiceError], str] = {
    MalformedCode: "type the digits of the code only; no attempt was spent",
    CodeMismatch: "listen again, or `otpvoice resend` for another call",
    ChallengeClosed: "`otpvoice show ID` says why, where the id is right; `otpvoice issue` opens another",
    LockedOut: "wait; a code that is right is refused as well until then",
    RateLimited: "wait; nothing was sent",
    RecipientDenied: "allow it in [policy] countries or denied_classes of otpvoice.toml, if it is meant to be called",
    UnknownPurpose: "name one of these, or add [purposes.NAME] to otpvoice.toml",
    UnknownFactor: "`otpvoice totp enroll SUBJECT` makes one",
    ProviderMisconfigured: "an alarm: look at `otpvoice doctor`",
    NoBalance: "add credit in the provider's console; `otpvoice doctor` shows the balance",
    ProviderUnavailable: "nothing was sent; try again shortly, or look at `otpvoice doctor`",
    RecipientRejected: "check the number; no other provider will reach it",
    ContentRejected: "look at the text with `otpvoice say`",
    OutcomeUnknown: "it may have reached the person: wait a minute before another",
    DeliveryError: "look at `otpvoice doctor`",
    StoreUnavailable: "nothing is approved or sent without the database; look at `otpvoice doctor`",
    ServiceBusy: "nothing was charged; try again",
}
"""What to do next, by class; the errors that are not here carry it in their message."""


def exit_code(error: OTPVoiceError) -> ExitCode:
    """The exit code of an error."""
    if isinstance(error, InvalidRequest):
        return ExitCode.USAGE
    if isinstance(error, Refused | VerificationFailed):
        return ExitCode.REFUSED
    return ExitCode.TROUBLE


def remedy(error: OTPVoiceError) -> str:
    """What to do next; empty where the message says it."""
    return next((REMEDIES[kind] for kind in type(error).__mro__ if kind in REMEDIES), "")


def as_json(error: OTPVoiceError) -> dict[str, Any]:
    """An error for machines."""
    facts: dict[str, Any] = {"error": type(error).__name__, "detail": str(error), "remedy": remedy(error)}
    for name in ("attempts_left", "retry_after", "limit", "provider", "code", "challenge"):
        value = getattr(error, name, None)
        if value not in {None, ""}:
            facts["provider_code" if name == "code" else name] = plain(value)
    return facts


def complain(words: str, then: str = "") -> None:
    """One line on standard error: what is wrong, and what to do."""
    line = Text("otpvoice: ", style="bold red")
    line.append(printable(words), style="default not bold")
    if then:
        line.append(printable(f" ({then})"), style="default not bold")
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)


class Commands(TyperGroup):
    """The whole command line: an :class:`~otpvoice.errors.OTPVoiceError` of any command ends here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn an error into its line and its exit code, unless ``--debug`` asks for the trace."""
        try:
            return super().invoke(ctx)
        except OTPVoiceError as error:
            now = session(ctx)
            if now.debug:
                raise
            if now.json:
                typer.echo(json.dumps(as_json(error), ensure_ascii=False))
            complain(str(error), _then(error))
            raise typer.Exit(exit_code(error)) from None


def _then(error: OTPVoiceError) -> str:
    challenge = getattr(error, "challenge", None)
    parts = [remedy(error), f"the challenge stays open: `otpvoice resend {challenge.id}`" if challenge else ""]
    return "; ".join(part for part in parts if part)
