"""``otpvoice simulate``: a provider on this machine that rings nobody and shows what it would have said."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from otpvoice.simulator.backend import Account
from otpvoice.simulator.push import Push
from otpvoice.simulator.records import SimulatedCall, SimulatedMessage, SimulatedRequest
from otpvoice.simulator.server import SimulatedItnio, serve

DEFAULT_PORT = 8099

simulate_app = typer.Typer(help="Simulate a provider on this machine.", no_args_is_help=True)


@simulate_app.callback()
def simulate() -> None:
    """Simulate a provider on this machine."""


@simulate_app.command("itnio")
def itnio(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = (
        DEFAULT_PORT
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    api_key: Annotated[str, typer.Option(help="The Api-Key that is accepted.")] = "demo-key",
    api_secret: Annotated[str, typer.Option(help="The secret that requests are signed with.")] = "demo-secret",  # noqa: S107 - the published one
    app_id: Annotated[list[str] | None, typer.Option(help="A known appId; may be given several times.")] = None,
    prefix: Annotated[str, typer.Option(help="Put before every path: /v3 as at Onbuka and Laaffic.")] = "",
    pace: Annotated[float, typer.Option(min=0, help="Real seconds for each second of a call.")] = 0.0,
    balance: Annotated[float, typer.Option(min=0, help="Money at the start.")] = 100.0,
    push_voice: Annotated[str | None, typer.Option(metavar="URL", help="Push call reports here.")] = None,
    push_sms: Annotated[str | None, typer.Option(metavar="URL", help="Push message reports here.")] = None,
) -> None:
    """Run a local ITNIO until Ctrl-C: it checks what the real one checks, and prints each request and spoken text.

    Numbers +84 912 345 xxx end as their last three digits say: 486 is busy, 603 declines, 910 is refused with
    status -10. Everything else is set over /_simulator/rules.
    """
    screen = _Screen(Console(highlight=False, soft_wrap=True))
    try:
        simulator = SimulatedItnio(
            port=port,
            host=host,
            prefix=prefix,
            account=Account(
                api_key=api_key,
                api_secret=api_secret,
                app_ids=tuple(app_id or ("demo-app",)),
                balance=Decimal(str(balance)),
                pace=pace,
            ),
            push=Push(voice_url=push_voice, sms_url=push_sms),
            on_call=screen.call,
            on_message=screen.message,
            on_request=screen.request,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        serve(simulator, ready=screen.ready)
    except OSError as error:
        screen.problem(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port")
        raise typer.Exit(1) from None
    screen.bye(simulator)


class _Screen:
    """What the terminal shows. Texts come from outside: nothing in them is markup or moves the cursor."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def ready(self, simulator: SimulatedItnio) -> None:
        account = simulator.account
        self._console.print(Text(f"ITNIO is simulated at {simulator.url}", style="bold green"))
        self._console.print(f"  OTPVOICE_ITNIO_BASE_URL={simulator.url}", markup=False)
        self._console.print(f"  OTPVOICE_ITNIO_API_KEY={account.api_key}", markup=False)
        if account.api_secret == Account().api_secret:  # One that was typed in is not shown.
            self._console.print(f"  OTPVOICE_ITNIO_API_SECRET={account.api_secret}", markup=False)
        self._console.print(f"  OTPVOICE_ITNIO_APP_ID={next(iter(account.app_ids))}", markup=False)
        self._console.print(f"Rules, calls, clock: {simulator.admin_url}; Ctrl-C ends it.", markup=False)

    def request(self, request: SimulatedRequest) -> None:
        refused = request.status != "0"
        line = Text(f"{request.at:%H:%M:%S}  {request.method:<4} {_shown(request.path)}  ")
        answer = f"HTTP {request.http_status}" if request.http_status else "no answer"
        if request.status is not None:
            answer = f"status {request.status}"
        line.append(_shown(f"{answer} {request.reason}".strip()), style="red" if refused else "green")
        self._console.print(line)

    def call(self, call: SimulatedCall) -> None:
        line = Text(f"          calls +{call.callee}", style="bold")
        line.append(f"  {call.language}, {call.loop_count}x, {call.outcome.value.replace('_', ' ')}", style="dim")
        self._console.print(line)
        self._console.print(Text(f"          says  {_shown(call.text)}"))
        if call.outcome.answered:
            self._console.print(Text(f"          heard {call.heard_code or 'no code'}", style="bold cyan"))

    def message(self, message: SimulatedMessage) -> None:
        self._console.print(Text(f"          texts +{message.number}  {message.outcome.value}", style="bold"))
        self._console.print(Text(f"          reads {_shown(message.content)}"))

    def problem(self, words: str) -> None:
        self._console.print(Text(words, style="red"))

    def bye(self, simulator: SimulatedItnio) -> None:
        took = f"{simulator.requests.total()} requests, {len(simulator.calls)} calls, {len(simulator.messages)} texts"
        self._console.print(Text(f"Stopped after {took}."))


def _shown(text: str) -> str:
    """One printable line: an escape sequence in a text does nothing to the terminal."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in text)
