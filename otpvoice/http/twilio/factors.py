"""``/v2/Services/{VA}/Entities/{identity}``: authenticator apps (TOTP) and their challenges.

An entity is a subject, of one service: the same identity in another service is somebody else. It has one verified
factor; verifying another one replaces it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from otpvoice import errors, totp
from otpvoice.context import TOTP
from otpvoice.http.twilio import forms, pages, sids
from otpvoice.http.twilio.errors import TwilioError, invalid, missing, unsupported
from otpvoice.http.twilio.forms import Form
from otpvoice.http.twilio.front import Account, Desk, Route, require, timestamp
from otpvoice.policy import Route as Steps
from otpvoice.store import events
from otpvoice.store import twilio_factors as store
from otpvoice.store.events import Event
from otpvoice.store.twilio import ServiceRow
from otpvoice.store.twilio_factors import FrontChallengeRow, FrontFactorRow
from otpvoice.types import ChallengeState

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(prefix="/v2/Services/{service_sid}/Entities/{identity}", route_class=Route, include_in_schema=False)

MOST_FACTORS_A_DAY = 100
MOST_OPEN = 5
"""Challenges of an entity that are open at once, answered wrongly or not at all; beyond them 60308. Over all of them
the ledger counts every guess."""
_IDENTITY = re.compile(r"[A-Za-z0-9-]{8,64}")
_CODE = re.compile(r"[0-9]{3,8}")
_CONFIG = {"Config.TimeStep": totp.PERIOD, "Config.CodeLength": totp.DIGITS, "Config.Skew": 1}
_STATUS = {
    ChallengeState.PENDING: "pending",
    ChallengeState.APPROVED: "approved",
    ChallengeState.EXPIRED: "expired",
    ChallengeState.CANCELLED: "denied",
    ChallengeState.EXHAUSTED: "denied",
}

_issuer = require("issue")
_verifier = require("verify")
_reader = require("issue", "verify", "read", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Somebody in a service, as a path names them."""

    account: Account
    service: ServiceRow
    desk: Desk
    identity: str

    @property
    def subject(self) -> str:
        """By which the core knows them."""
        return f"{self.service.sid}/{self.identity}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keyed hashes by which they are found: identities are stored nowhere else."""
        return self.desk.context.keyring.index("twilio-entity", f"{self.desk.context.tenant}:{self.subject}")

    @property
    def url(self) -> str:
        """Where they are."""
        return f"{self.account.base_url}/v2/Services/{self.service.sid}/Entities/{self.identity}"

    async def factors(self, factor_id: str | None = None) -> list[FrontFactorRow]:
        """Their factors, or the one of that id."""
        work = partial(
            store.factors,
            tenant=self.desk.context.tenant,
            service_sid=self.service.sid,
            entities=self.keys,
            factor_id=factor_id,
        )
        return list(await self.desk.transact(lambda connection, _now: work(connection)))

    async def factor(self, sid: str) -> FrontFactorRow:
        """One of their factors; raises 20404."""
        factor_id = sids.ours("YF", sid)
        rows = [] if factor_id is None else await self.factors(factor_id)
        if not rows:
            raise missing(self.account.path)
        return rows[0]

    async def challenges(self, **chosen: Any) -> tuple[list[FrontChallengeRow], datetime]:
        """Their challenges, and the time."""
        tenant, service_sid, keys = self.desk.context.tenant, self.service.sid, self.keys

        def read(connection: Connection, now: datetime) -> tuple[list[FrontChallengeRow], datetime]:
            rows = store.challenges(connection, tenant=tenant, service_sid=service_sid, entities=keys, **chosen)
            return list(rows), now

        return await self.desk.transact(read)

    async def challenge(self, sid: str) -> tuple[FrontChallengeRow, datetime]:
        """One of their challenges, and the time; raises 20404."""
        challenge_id = sids.ours("YC", sid)
        rows, now = ([], datetime.min) if challenge_id is None else await self.challenges(challenge_id=challenge_id)
        if not rows:
            raise missing(self.account.path)
        return rows[0], now


@router.post("/Factors")
async def create(request: Request) -> Response:
    """Make a factor. Its secret is in this answer and in none after it."""
    entity = await _entity(request, _issuer)
    form = await forms.body(request)
    if form.required("FactorType", longest=32) != TOTP:
        raise unsupported("FactorType", "only totp")
    name = form.required("FriendlyName", longest=64)
    for parameter in ("Binding.", "Config.Notification", "Config.AppId", "Config.SdkVersion"):
        if form.given(parameter):
            raise unsupported(form.given(parameter)[0])
    _check_config(form)
    if await entity.desk.transact(partial(_made_today, entity=entity)) >= MOST_FACTORS_A_DAY:
        raise TwilioError(60326)
    made = await entity.desk.service.enroll_totp(entity.subject, account=name)
    sealed = _seal(entity, made.factor_id, name)
    await entity.desk.transact(
        partial(
            store.add,
            factor_id=made.factor_id,
            service_sid=entity.service.sid,
            entity=entity.keys[0],
            sealed=sealed,
        )
    )
    members = _factor_members(entity, await entity.factor(sids.of("YF", made.factor_id)))
    binding = {"secret": str(made.secret), "uri": str(made.provisioning_uri)}
    return JSONResponse({**members, "binding": binding}, 201)


@router.get("/Factors")
async def every(request: Request) -> Response:
    """An entity's factors."""
    entity = await _entity(request, _reader)
    page = pages.asked(request)
    rows = (await entity.factors())[page.offset : page.offset + page.most]
    shown = [_factor_members(entity, row) for row in rows]
    return pages.answer(request, entity.account, "factors", page, shown)


@router.get("/Factors/{sid}")
async def fetch(request: Request) -> Response:
    """One factor."""
    entity = await _entity(request, _reader)
    return JSONResponse(_factor_members(entity, await entity.factor(request.path_params["sid"])))


@router.post("/Factors/{sid}")
async def change(request: Request) -> Response:
    """Verify a factor by a first code of the app, or name it anew. A wrong code leaves it ``unverified``."""
    entity = await _entity(request, _verifier)
    row = await entity.factor(request.path_params["sid"])
    form = await forms.body(request)
    _check_config(form)
    code = _auth_payload(form)
    if code is not None and row.state != "confirmed":
        if row.attempts >= totp.MAX_CONFIRMATIONS:
            raise TwilioError(60310)
        try:
            await entity.desk.service.confirm_totp(row.factor_id, code, subject=entity.subject)
        except errors.CodeMismatch:
            pass
        except errors.UnknownFactor:
            raise TwilioError(60310) from None
    name = form.text("FriendlyName", longest=64)
    sealed = None if name is None else _seal(entity, row.factor_id, name)
    await entity.desk.transact(partial(store.rename, factor_id=row.factor_id, sealed=sealed))
    return JSONResponse(_factor_members(entity, await entity.factor(request.path_params["sid"])))


@router.delete("/Factors/{sid}")
async def remove(request: Request) -> Response:
    """Forget a factor."""
    entity = await _entity(request, require("admin", "issue"))
    row = await entity.factor(request.path_params["sid"])
    tenant = entity.desk.context.tenant

    def forget(connection: Connection, now: datetime) -> None:
        if store.remove(connection, tenant=tenant, factor_id=row.factor_id):
            # As the core says it, so that the audit knows of every factor what became of it.
            removed = Event(kind="totp.removed", tenant=tenant, data={"factor": row.factor_id})
            events.record(connection, now, removed)

    await entity.desk.transact(forget)
    return Response(status_code=204)


@router.post("/Challenges")
async def challenge(request: Request) -> Response:
    """Ask for a code of a factor, and check it where ``AuthPayload`` has it already."""
    entity = await _entity(request, _verifier)
    form = await forms.body(request)
    for parameter in ("ExpirationDate", "Details.", "HiddenDetails"):
        if form.given(parameter):
            raise unsupported(form.given(parameter)[0])
    factor_id = sids.ours("YF", form.required("FactorSid", longest=64))
    rows = [] if factor_id is None else await entity.factors(factor_id)
    if not rows:
        raise missing(entity.account.path)
    factor, code = rows[0], _auth_payload(form)
    if factor.state != "confirmed":
        raise TwilioError(60318)
    purpose = entity.account.purpose()
    desk = entity.desk.with_policy(purpose, route=Steps.of(TOTP), max_live=MOST_OPEN)
    try:
        opened = await desk.service.issue_code(None, purpose=purpose, subject=entity.subject, channel=TOTP)
    except (errors.LockedOut, errors.RateLimited) as refused:
        raise TwilioError(60308, retry_after=refused.retry_after) from None
    work = partial(
        store.add_challenge,
        challenge_id=opened.id,
        service_sid=entity.service.sid,
        entity=entity.keys[0],
        factor_id=factor.factor_id,
    )
    await entity.desk.transact(lambda connection, _now: work(connection))
    if code is not None:
        await _answer(entity, opened.id, code)
    return JSONResponse(await _challenge_members(entity, sids.of("YC", opened.id)), 201)


@router.get("/Challenges")
async def every_challenge(request: Request) -> Response:
    """An entity's challenges."""
    entity = await _entity(request, _reader)
    page = pages.asked(request)
    query = forms.query(request)
    status, factor_sid = query.text("Status"), query.text("FactorSid")
    if status is not None and status not in _STATUS.values():
        raise invalid("Status")
    factor_id = None if factor_sid is None else sids.ours("YF", factor_sid)
    if factor_sid is not None and factor_id is None:
        raise invalid("FactorSid")
    rows, now = await entity.challenges(factor_id=factor_id)
    shown = [_members(entity, row, now) for row in rows]
    wanted = [item for item in shown if status in {None, item["status"]}]
    if query.text("Order") == "asc":
        wanted.reverse()
    part = wanted[page.offset : page.offset + page.most]
    return pages.answer(request, entity.account, "challenges", page, part)


@router.get("/Challenges/{sid}")
async def fetch_challenge(request: Request) -> Response:
    """One challenge."""
    entity = await _entity(request, _reader)
    return JSONResponse(await _challenge_members(entity, request.path_params["sid"]))


@router.post("/Challenges/{sid}")
async def answer_challenge(request: Request) -> Response:
    """Check a code for a challenge that is open."""
    entity = await _entity(request, _verifier)
    row, now = await entity.challenge(request.path_params["sid"])
    code = _auth_payload(await forms.body(request))
    if code is None:
        raise invalid("AuthPayload")
    status = _status(row, now)
    if status == "expired":
        raise TwilioError(60323)
    if status == "approved":
        raise TwilioError(60322)
    if status != "pending":
        raise TwilioError(60308)
    await _answer(entity, row.challenge_id, code)
    return JSONResponse(await _challenge_members(entity, request.path_params["sid"]))


async def _entity(request: Request, allowed: Any) -> Entity:
    account: Account = await allowed(request)
    service = await account.service(request.path_params["service_sid"])
    identity = request.path_params["identity"]
    if _IDENTITY.fullmatch(identity) is None:
        raise invalid("Identity", "8 to 64 letters, digits and hyphens")
    return Entity(account=account, service=service, desk=await account.plain(), identity=identity)


async def _answer(entity: Entity, challenge_id: str, code: str) -> None:
    """Verify a code through the core; a wrong one leaves the challenge as it then is."""
    try:
        await entity.desk.service.verify_code(challenge_id, code, subject=entity.subject)
    except (errors.CodeMismatch, errors.ChallengeClosed):
        pass
    except errors.LockedOut as locked:
        raise TwilioError(60308, retry_after=locked.retry_after) from None


def _made_today(connection: Connection, now: datetime, *, entity: Entity) -> int:
    since = now - timedelta(days=1)
    return store.made_since(connection, service_sid=entity.service.sid, entities=entity.keys, since=since)


def _check_config(form: Form) -> None:
    for parameter, only in _CONFIG.items():
        value = form.number(parameter, 0, 100)
        if value is not None and value != only:
            raise unsupported(parameter, f"it is {only}")
    if form.text("Config.Alg") not in {None, "sha1"}:
        raise unsupported("Config.Alg", "it is sha1")


def _auth_payload(form: Form) -> str | None:
    code = form.text("AuthPayload", longest=64)
    if code is not None and _CODE.fullmatch(code) is None:
        raise invalid("AuthPayload")
    return code


def _seal(entity: Entity, factor_id: str, name: str) -> bytes:
    return entity.desk.context.keyring.seal(name.encode(), context=f"twilio-factor:{factor_id}")


def _factor_members(entity: Entity, row: FrontFactorRow) -> dict[str, Any]:
    sid = sids.of("YF", row.factor_id)
    name = entity.desk.context.keyring.unseal(row.sealed, context=f"twilio-factor:{row.factor_id}")
    config = {"alg": "sha1", "skew": 1, "code_length": totp.DIGITS, "time_step": totp.PERIOD}
    return {
        "sid": sid,
        "account_sid": entity.account.sid,
        "service_sid": entity.service.sid,
        "entity_sid": sids.derived("YE", row.entity),
        "identity": entity.identity,
        "date_created": timestamp(row.created_at),
        "date_updated": timestamp(row.updated_at),
        "friendly_name": name.decode(),
        "status": "verified" if row.state == "confirmed" else "unverified",
        "factor_type": TOTP,
        "config": config,
        "metadata": None,
        "url": f"{entity.url}/Factors/{sid}",
    }


async def _challenge_members(entity: Entity, sid: str) -> dict[str, Any]:
    return _members(entity, *(await entity.challenge(sid)))


def _status(row: FrontChallengeRow, now: datetime) -> str:
    over = row.state is ChallengeState.PENDING and now >= row.expires_at
    return _STATUS[ChallengeState.EXPIRED if over else row.state]


def _members(entity: Entity, row: FrontChallengeRow, now: datetime) -> dict[str, Any]:
    sid = sids.of("YC", row.challenge_id)
    url = f"{entity.url}/Challenges/{sid}"
    status = _status(row, now)
    return {
        "sid": sid,
        "account_sid": entity.account.sid,
        "service_sid": entity.service.sid,
        "entity_sid": sids.derived("YE", row.entity),
        "identity": entity.identity,
        "factor_sid": sids.of("YF", row.factor_id),
        "date_created": timestamp(row.created_at),
        "date_updated": timestamp(row.closed_at or row.created_at),
        "date_responded": timestamp(row.closed_at) if status in {"approved", "denied"} else None,
        "expiration_date": timestamp(row.expires_at),
        "status": status,
        "responded_reason": None,
        "details": None,
        "hidden_details": None,
        "metadata": None,
        "factor_type": TOTP,
        "url": url,
        "links": {"notifications": f"{url}/Notifications"},
    }
