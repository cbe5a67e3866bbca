"""``issue``, ``verify``, ``resend``, ``cancel``, ``show``: the main story, one command a method."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from otpvoice import recipients
from otpvoice.cli.session import Json, session
from otpvoice.cli.view import deliveries, plain, summary, timeline
from otpvoice.errors import InvalidRequest
from otpvoice.types import Binding, Challenge, Verified

Id = Annotated[str, typer.Argument(metavar="ID", help="The challenge's id: ch_…", show_default=False)]
Subject = Annotated[str | None, typer.Option(help="The account that the proof is for.")]
Amount = Annotated[str | None, typer.Option(help="A payment's amount, bound into the code and spoken: 10.50.")]
Currency = Annotated[str | None, typer.Option(help="ISO 4217 code of the amount: EUR.")]
Payee = Annotated[str | None, typer.Option(help="Who is paid.")]


def issue(
    ctx: typer.Context,
    recipient: Annotated[
        str | None,
        typer.Argument(
            help="A number in international form, +84912345678, or a mailbox. None: the --subject's authenticator app.",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[str, typer.Option(help="What the proof is for; names a policy.")] = "login",
    subject: Subject = None,
    channel: Annotated[str | None, typer.Option(help="A channel of the purpose's route; its first by default.")] = None,
    locale: Annotated[
        str | None, typer.Option(help="BCP-47 tag: vi-VN. Without it, the language of the recipient's country.")
    ] = None,
    amount: Amount = None,
    currency: Currency = None,
    payee: Payee = None,
    as_json: Json = False,
) -> None:
    """Open a challenge and send its first code."""
    with session(ctx).service() as service:
        challenge = service.issue_code(
            recipient,
            purpose=purpose,
            subject=subject,
            channel=channel,
            locale=locale,
            binding=_binding(amount, currency, payee),
        )
    _show(challenge, as_json=as_json)
    if not as_json:
        _out().print(f"\nThen:  otpvoice verify {challenge.id} CODE", markup=False)


def verify(
    ctx: typer.Context,
    challenge_id: Id,
    code: Annotated[str, typer.Argument(help="What was heard. Spaces and hyphens may stay in.", show_default=False)],
    purpose: Annotated[str | None, typer.Option(help="Refuse a challenge of another purpose.")] = None,
    subject: Annotated[str | None, typer.Option(help="Refuse a challenge of another account.")] = None,
    amount: Amount = None,
    currency: Currency = None,
    payee: Payee = None,
    as_json: Json = False,
) -> None:
    """Check a code. Exits with 0 when it is right, 1 when refused, 2 for wrong usage, 3 for trouble."""
    with session(ctx).service() as service:
        verified = service.verify_code(
            challenge_id, code, purpose=purpose, subject=subject, binding=_binding(amount, currency, payee)
        )
    if as_json:
        typer.echo(json.dumps(_proof(verified), ensure_ascii=False))
        return
    whose = f" for {verified.subject}" if verified.subject else ""
    by = f"{hint(verified) or 'the authenticator app'} by {verified.channel}"
    _out().print(f"approved: {verified.purpose}{whose}, {by}", markup=False, style="green")


def resend(
    ctx: typer.Context,
    challenge_id: Id,
    channel: Annotated[str | None, typer.Option(help="A channel of the route; its next step by default.")] = None,
    as_json: Json = False,
) -> None:
    """Send a fresh code by the route's next step. Neither time nor attempts are renewed."""
    with session(ctx).service() as service:
        challenge = service.resend_code(challenge_id, channel=channel)
    _show(challenge, as_json=as_json)


def cancel(ctx: typer.Context, challenge_id: Id, as_json: Json = False) -> None:
    """Close a challenge for good."""
    with session(ctx).service() as service:
        challenge = service.cancel(challenge_id)
    _show(challenge, as_json=as_json)


def show(ctx: typer.Context, challenge_id: Id, as_json: Json = False) -> None:
    """Tell a challenge's story: what was sent, what the provider said, what was typed and when."""
    with session(ctx).service() as service:
        challenge = service.get(challenge_id)
        happened = service.events(challenge_id)
    if as_json:
        facts = {"challenge": plain(challenge), "events": plain(list(happened))}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    out = _out()
    out.print(summary(challenge))
    out.print()
    out.print(timeline(happened, deliveries(challenge)))


def hint(verified: Verified) -> str | None:
    """Whom it was sent to, masked."""
    return None if verified.recipient is None else recipients.parse(verified.recipient).hint


def _proof(verified: Verified) -> dict[str, Any]:
    return {"approved": True, **plain(verified), "recipient": hint(verified)}


def _binding(amount: str | None, currency: str | None, payee: str | None) -> Binding | None:
    if amount is None and currency is None and payee is None:
        return None
    if (amount is None) != (currency is None):
        raise InvalidRequest("--amount and --currency go together")
    return Binding(amount=amount, currency=currency, payee=payee)


def _show(challenge: Challenge, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(plain(challenge), ensure_ascii=False))
    else:
        _out().print(summary(challenge))


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
