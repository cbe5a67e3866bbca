"""``otpvoice say``: what exactly would be said or written, in which language, how long, and how it sounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text as Styled

from otpvoice.channels import registry
from otpvoice.codes import normalise
from otpvoice.errors import ConfigurationError, InvalidRequest, OTPVoiceError
from otpvoice.speech import gsm, render
from otpvoice.speech.compose import Utterance, compose
from otpvoice.speech.lint import lint_directory
from otpvoice.speech.overrides import load_wordings
from otpvoice.types import Binding, Capabilities, Code, Medium

HOME_PROVIDER = "itnio"
"""Whose languages and limits count for voice where no provider is named."""
PLACEHOLDERS: Mapping[str, Mapping[str, object]] = {
    "itnio-voice": {"api_key": "say", "api_secret": "say-needs-no-account", "app_id": "say"},
    "itnio-sms": {"api_key": "say", "api_secret": "say-needs-no-account", "app_id": "say"},
    "twilio-voice": {"account_sid": "AC" + "0" * 32, "auth_token": "0" * 32, "from_number": "+12025550123"},
    "twilio-sms": {"account_sid": "AC" + "0" * 32, "auth_token": "0" * 32, "sender": "+12025550123"},
    "vonage-sms": {"api_key": "say-needs", "api_secret": "no-account-at-all", "sender": "12025550123"},
}
"""Settings with which a channel tells its capabilities: saying needs no account."""


class Spoken(StrEnum):
    """The media that have wordings."""

    VOICE = "voice"
    SMS = "sms"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for, in one place."""

    code: str
    purpose: str
    capabilities: Capabilities
    minutes: int
    region: str | None
    brand: str
    binding: Binding | None
    wordings: Path | None
    host: str | None
    app_hash: str | None

    def compose(self, locale: str | None) -> Utterance:
        """What would be sent."""
        return compose(
            normalise(self.code) or Code(self.code),
            capabilities=self.capabilities,
            purpose=self.purpose,
            valid_for=timedelta(minutes=self.minutes),
            locale=locale,
            region=self.region,
            brand=self.brand,
            binding=self.binding,
            wordings=load_wordings(self.wordings),
            host=self.host,
            app_hash=self.app_hash,
        )


def say(  # one parameter for each option of the command line
    locale: Annotated[str | None, typer.Option(help="BCP-47 tag: vi-VN. Without it, the language of --region.")] = None,
    code: Annotated[str, typer.Option(help="The code to say.")] = "482913",
    purpose: Annotated[str, typer.Option(help="login, payment, or any other.")] = "login",
    channel: Annotated[Spoken, typer.Option(help="The medium.")] = Spoken.VOICE,
    provider: Annotated[
        str | None, typer.Option(help="Whose languages and limits count; for voice, itnio if it is not given.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="The recipient's country, ISO 3166-1: VN.")] = None,
    brand: Annotated[str, typer.Option(help="Who it comes from.")] = "",
    amount: Annotated[str | None, typer.Option(help="A payment's amount: 1250.00.")] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217 code of the amount: EUR.")] = None,
    payee: Annotated[str | None, typer.Option(help="Who is paid.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=60, help="How long the code is valid.")] = 5,
    host: Annotated[str | None, typer.Option(help="SMS: the site that may fill in the code (WebOTP).")] = None,
    app_hash: Annotated[str | None, typer.Option(help="SMS: the Android app that may read it.")] = None,
    wordings: Annotated[Path | None, typer.Option(help="A directory with wordings of your own.")] = None,
    all_locales: Annotated[bool, typer.Option("--all", help="Every language there is a wording for.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    play: Annotated[
        Path | None, typer.Option(metavar="FILE.wav", help="Render it with espeak-ng, if that is installed.")
    ] = None,
    lint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Check the wordings in a directory, and say nothing.")
    ] = None,
) -> None:
    """Print exactly what would be sent, its length against the provider's limit and how long it takes to say."""
    try:
        if lint is not None:
            raise typer.Exit(_lint(lint, as_json=as_json))
        medium = Medium(channel.value)
        request = Request(
            code=code,
            purpose=purpose,
            capabilities=_capabilities(provider, medium),
            minutes=minutes,
            region=region,
            brand=brand,
            binding=Binding(amount=amount, currency=currency, payee=payee) if amount or currency or payee else None,
            wordings=wordings,
            host=host,
            app_hash=app_hash,
        )
        if play is not None:
            _check_playable(medium, all_locales=all_locales)
        said = list(_utterances(request, [locale] if not all_locales else None))
        if play is not None:
            _play(said[0], request, play)
    except OTPVoiceError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"otpvoice say: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    if as_json:
        described = [_describe(item, request.capabilities) for item in said]
        typer.echo(json.dumps(described if all_locales else described[0], ensure_ascii=False, indent=2))
        return
    screen = Console(highlight=False, soft_wrap=True)
    for item in said:
        _show(screen, item, request.capabilities)
    if play is not None:
        screen.print(f"Written to {play}.", markup=False)


def _capabilities(provider: str | None, medium: Medium) -> Capabilities:
    if provider is None:
        if medium is not Medium.VOICE:
            return Capabilities(medium=medium)
        provider = HOME_PROVIDER
    name = f"{provider}-{medium}"
    kind = registry.channel_class(name)
    try:
        return kind.from_settings("say", PLACEHOLDERS.get(name, {})).capabilities
    except ConfigurationError:
        raise ConfigurationError(f"{provider} does not tell its limits without an account's settings") from None


def _utterances(request: Request, locales: Sequence[str | None] | None) -> Iterator[Utterance]:
    if locales is None:
        locales = load_wordings(request.wordings).speaking(request.capabilities.medium)
    for locale in locales:
        yield request.compose(locale)


def _describe(said: Utterance, capabilities: Capabilities) -> dict[str, Any]:
    sms = capabilities.medium is Medium.SMS
    return {
        "channel": str(capabilities.medium),
        "locale": said.locale,
        "language": said.language,
        "title": said.title or None,
        "text": str(said.text),
        "length": len(said.text),
        "limit": capabilities.text_limit(said.language),
        "segments": gsm.segments(said.text) if sms else None,
        "repeats": said.repeats if capabilities.medium is Medium.VOICE else None,
        "seconds": said.seconds,
        "max_seconds": capabilities.max_seconds,
    }


def _show(screen: Console, said: Utterance, capabilities: Capabilities) -> None:
    facts = _describe(said, capabilities)
    limit = f" of {facts['limit']}" if facts["limit"] is not None else ""
    parts = [said.locale + (f" as {said.language}" if said.language else ""), f"{facts['length']}{limit} characters"]
    if facts["segments"] is not None:
        parts.append(f"{facts['segments']} SMS")
    if said.seconds is not None:
        most = f" of {capabilities.max_seconds} s" if capabilities.max_seconds else ""
        parts.append(f"about {said.seconds:.0f} s{most}, played {said.repeats} ×")
    screen.print(Styled(" · ".join(parts), style="bold"))
    if said.title:
        screen.print(Styled(f"Subject: {said.title}"))
    screen.print(Styled(str(said.text)))
    screen.print()


def _check_playable(medium: Medium, *, all_locales: bool) -> None:
    if medium is not Medium.VOICE or all_locales:
        raise InvalidRequest("--play renders one locale of --channel voice")
    if not render.available():
        raise ConfigurationError("--play needs espeak-ng, which is not installed: on Debian, apt install espeak-ng")


def _play(said: Utterance, request: Request, path: Path) -> None:
    voice = load_wordings(request.wordings).by_tag[said.locale].voice
    if voice is None or voice.espeak is None:
        raise ConfigurationError(f"espeak-ng has no voice for {said.locale}")
    render.render(said.text, voice=voice.espeak, path=path)


def _lint(directory: Path, *, as_json: bool) -> int:
    read, problems = lint_directory(directory)
    if as_json:
        found = [{"file": item.file, "where": item.where, "problem": item.what} for item in problems]
        typer.echo(json.dumps({"locales": sorted(read), "problems": found}, ensure_ascii=False, indent=2))
    else:
        screen = Console(highlight=False, soft_wrap=True)
        for problem in problems:
            screen.print(Styled(str(problem)))
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        screen.print(f"{', '.join(sorted(read)) or 'nothing'}: {count if problems else 'no problems'}", markup=False)
    return 1 if problems else 0
