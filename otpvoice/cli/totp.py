"""``otpvoice totp``: authenticator apps."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from otpvoice.cli.session import session

totp_app = typer.Typer(help="Authenticator apps of a subject.", no_args_is_help=True)

Owner = Annotated[str, typer.Argument(help="The account that the app is for.", show_default=False)]


@totp_app.callback()
def totp() -> None:
    """Authenticator apps of a subject."""


@totp_app.command("enroll")
def enroll(
    ctx: typer.Context,
    subject: Owner,
    account: Annotated[str | None, typer.Option(help="What the app shows; the subject by default.")] = None,
    show_secret: Annotated[bool, typer.Option("--show-secret", help="Print the secret too, to be typed in.")] = False,
) -> None:
    """Make a factor and print it as a QR code, once: it holds the secret. It counts once it is confirmed."""
    with session(ctx).service() as service:
        enrollment = service.enroll_totp(subject, account=account)
        drawn = enrollment.qr()
    typer.echo(drawn)
    if show_secret:
        typer.echo(f"secret  {enrollment.secret}")
    typer.echo(f"factor  {enrollment.factor_id}")
    typer.echo(f"Scan it with the app, then:  otpvoice totp confirm {quote(subject)} {enrollment.factor_id} CODE")


@totp_app.command("confirm")
def confirm(
    ctx: typer.Context,
    subject: Owner,
    factor: Annotated[str, typer.Argument(help="What `enroll` printed: fa_…", show_default=False)],
    code: Annotated[str, typer.Argument(help="What the app shows now.", show_default=False)],
) -> None:
    """Make an enrolled factor the subject's only one, by a first code of the app; five tries."""
    with session(ctx).service() as service:
        service.confirm_totp(factor, code, subject=subject)
    typer.echo("confirmed: this app is the subject's factor now")


@totp_app.command("remove")
def remove(ctx: typer.Context, subject: Owner) -> None:
    """Forget a subject's authenticator app."""
    with session(ctx).service() as service:
        removed = service.remove_totp(subject)
    typer.echo(f"removed {removed} factor{'' if removed == 1 else 's'}")
