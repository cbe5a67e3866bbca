"""``otpvoice doctor``: is this installation fit to send codes? One line each, with the remedy."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from otpvoice import config, recipients, settings, upkeep
from otpvoice.channels.base import Finding
from otpvoice.channels.console import printable
from otpvoice.cli.db import missing, where
from otpvoice.cli.session import Json, Session, session
from otpvoice.cli.trouble import ExitCode, remedy
from otpvoice.cli.view import clock, plain
from otpvoice.context import Context
from otpvoice.errors import OTPVoiceError, StoreUnavailable
from otpvoice.keys import Keyring
from otpvoice.policy import FRAUD_LIMITS
from otpvoice.runner import Runner
from otpvoice.settings import Settings
from otpvoice.store import breakers
from otpvoice.store.breakers import BreakerRow
from otpvoice.store.engine import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

FOR_DEVELOPMENT = frozenset({"console", "memory"})
"""Providers that reach nobody."""
RECENTLY = timedelta(hours=1)


class Verdict(StrEnum):
    """What a line says."""

    OK = "ok"
    WARNING = "warning"
    """Works, and should be looked at."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Check configuration, secret, database, countries and every channel's provider: exit 1 if anything is wrong.

    Providers are asked at no cost: for ITNIO, whether the credentials are taken, what the balance is and how far
    the clocks are apart.
    """
    checks = []
    for check in examine(session(ctx)):
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        typer.echo(json.dumps(plain(checks), ensure_ascii=False))
    if any(check.verdict is Verdict.WRONG for check in checks):
        raise typer.Exit(ExitCode.REFUSED)


def examine(now: Session) -> Iterator[Check]:
    """Every check, in the order in which one needs the other."""
    try:
        found = now.settings()
    except OTPVoiceError as error:
        yield _wrong("configuration", error)
        return
    yield Check(name="configuration", verdict=Verdict.OK, detail=_origin(now))
    yield _secret(found)
    yield _database(found)
    try:
        assembly = config.from_settings(found, worker=False)
    except OTPVoiceError as error:
        yield _wrong("channels and purposes", error)
        return
    yield _countries(assembly.context)
    runner = Runner(assembly.store, assembly.hashing)
    try:
        yield from _channels(assembly.context, runner.run(upkeep.probe(assembly.context)))
        if not missing(assembly.store) and assembly.store.revision() is not None:
            yield from _health(assembly.store, assembly.context.channels)
    except StoreUnavailable:
        yield Check(name="health", verdict=Verdict.WRONG, detail="not known without the database")
    except OTPVoiceError as error:  # The database's own line says so too, unless it changed in between.
        yield _wrong("health", error)
    finally:
        runner.close()


def _origin(now: Session) -> str:
    if now.config_file is not None:
        return f"{now.config_file} and the environment are well-formed"
    file = Path(settings.CONFIG_FILE)
    return f"{file} and the environment are well-formed" if file.is_file() else "the environment is well-formed"


def _secret(found: Settings) -> Check:
    try:
        secrets = found.root_secrets()
        if not secrets and found.development:
            return Check(
                name="secret",
                verdict=Verdict.WARNING,
                detail="development: otpvoice makes its own",
                remedy="for production set OTPVOICE_SECRET to what `otpvoice keys generate` prints",
            )
        ring = Keyring(secrets)
    except OTPVoiceError as error:
        return _wrong("secret", error)
    older = f", {len(secrets) - 1} older read as well" if len(secrets) > 1 else ""
    return Check(name="secret", verdict=Verdict.OK, detail=f"strong; key {ring.kid} writes{older}")


def _database(found: Settings) -> Check:
    try:
        store = Store(found.database_url)
    except OTPVoiceError as error:
        return _wrong("database", error)
    try:
        if missing(store):
            store.engine()
            return Check(name="database", verdict=Verdict.OK, detail=f"{where(store)} creates itself at the first use")
        revision = store.revision()
        if revision is not None or not store.sqlite:  # An SQLite file without a schema would get it by this.
            store.check_writable()
    except StoreUnavailable as error:
        return _wrong("database", error, f"see that {where(store)} is the one you mean, runs, and can be written")
    except OTPVoiceError as error:
        return _wrong("database", error)
    finally:
        store.close()
    if revision is None:
        return Check(name="database", verdict=Verdict.OK, detail=f"{where(store)} gets its schema at the first use")
    return Check(name="database", verdict=Verdict.OK, detail=f"{where(store)} answers, schema revision {revision}")


def _countries(ctx: Context) -> Check:
    listed = sorted({code for policy in ctx.policies.values() for code in policy.countries or ()})
    unknown = [code for code in listed if code not in recipients.COUNTRIES]
    if unknown:
        return Check(
            name="countries",
            verdict=Verdict.WRONG,
            detail=f"no telephone number is of {', '.join(unknown)}",
            remedy="use ISO 3166-1 alpha-2 codes: GB, not UK",
        )
    open_to_all = {name: policy for name, policy in ctx.policies.items() if policy.countries is None}
    unlimited = [
        name for name, policy in open_to_all.items() if all(getattr(policy, limit) is None for limit in FRAUD_LIMITS)
    ]
    if unlimited:
        return Check(
            name="countries",
            verdict=Verdict.WARNING,
            detail=f"{', '.join(unlimited)} may call every country, as often as anybody asks for another number",
            remedy="list those of your users, OTPVOICE_COUNTRIES=VN,TH, or set max_sends_per_country or _tenant: "
            "it stops most call fraud",
        )
    if open_to_all:
        return Check(
            name="countries", verdict=Verdict.OK, detail=f"{', '.join(open_to_all)} may call every one, within limits"
        )
    return Check(name="countries", verdict=Verdict.OK, detail=f"only {', '.join(listed) or 'none'}")


def _channels(ctx: Context, probed: Mapping[str, Sequence[Finding]]) -> Iterator[Check]:
    for name, findings in probed.items():
        channel = ctx.channels[name]
        if channel.provider in FOR_DEVELOPMENT:
            yield Check(
                name=name,
                verdict=Verdict.WARNING,
                detail=f"{channel.provider} reaches nobody: for development",
                remedy="configure a provider before real people log in",
            )
        elif not findings:
            yield Check(
                name=name, verdict=Verdict.OK, detail=f"{channel.medium.value} by {channel.provider}: nothing to ask"
            )
        for finding in findings:
            yield Check(
                name=finding.name,
                verdict=Verdict.OK if finding.ok else Verdict.WRONG,
                detail=finding.detail,
                remedy=finding.remedy,
            )


def _health(store: Store, configured: Collection[str]) -> Iterator[Check]:
    """What became of the last hour's deliveries, and who is skipped because it kept failing."""

    def look(
        connection: Connection, now: datetime
    ) -> tuple[Mapping[str, BreakerRow], Mapping[str, breakers.Rates], datetime]:
        return breakers.states(connection), breakers.rates(connection, since=now - RECENTLY), now

    states, rates, now = store.transact(look)
    for name in configured:
        state, rate = states.get(name), rates.get(name)
        if state is not None and state.open_until is not None and state.rests(now):
            yield Check(
                name=f"{name}: health",
                verdict=Verdict.WRONG,
                detail=f"skipped until {clock(state.open_until)} after {state.failures} failures in a row",
                remedy=f"the last one: {state.reason or 'unknown'}; the next step of the route is taken meanwhile",
            )
        elif rate is not None and rate.acceptance is not None:
            answered = "" if rate.answered is None else f", {rate.answered:.0%} of those reported on were answered"
            yield Check(
                name=f"{name}: health",
                verdict=Verdict.OK,
                detail=f"{rate.sent} sent within an hour, {rate.acceptance:.0%} taken{answered}",
            )


def _wrong(name: str, error: OTPVoiceError, then: str | None = None) -> Check:
    return Check(name=name, verdict=Verdict.WRONG, detail=str(error), remedy=remedy(error) if then is None else then)


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "bold red"}


def _print(check: Check) -> None:
    line = Text(f"{check.verdict.value:<8}", style=_STYLES[check.verdict])
    line.append(printable(f"{check.name}: {check.detail}"), style="default not bold")
    if check.remedy and check.verdict is not Verdict.OK:
        line.append(printable(f" → {check.remedy}"), style="default not bold")
    Console(highlight=False, soft_wrap=True).print(line)
