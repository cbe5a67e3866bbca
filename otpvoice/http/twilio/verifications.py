"""``/v2/Services/{VA}/Verifications`` and ``/VerificationCheck``.

A verification is a challenge. It goes through the same flows as any other: what counts, locks and compares there,
counts, locks and compares here (property P93).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from otpvoice import errors, inputs
from otpvoice.flow import undo
from otpvoice.http.twilio import amounts, buckets, forms, sids, views
from otpvoice.http.twilio.errors import TwilioError, invalid, missing, unsupported
from otpvoice.http.twilio.errors import of as of_core
from otpvoice.http.twilio.forms import Form
from otpvoice.http.twilio.front import Account, Desk, Route, parse_recipient, require
from otpvoice.http.twilio.opening import Opening
from otpvoice.http.twilio.views import CHANNELS, Verification
from otpvoice.policy import Policy
from otpvoice.store import counters, events, twilio
from otpvoice.store.counters import Limit, Reached
from otpvoice.store.events import Event
from otpvoice.store.twilio import APPROVED, ServiceRow
from otpvoice.types import Binding, Recipient

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(prefix="/v2/Services/{service_sid}", route_class=Route, include_in_schema=False)

_CODE = re.compile(r".{4,10}")
_APP_HASH = re.compile(r"[A-Za-z0-9+/]{11}")
_REFUSED = (
    "CustomMessage",
    "SendDigits",
    "CustomCode",
    "ChannelConfiguration",
    "TemplateSid",
    "TemplateCustomSubstitutions",
    "Templates",
    "EnableSnaClientToken",
)
"""What would change whom or what a code is sent to, and cannot be done here."""
_OTHER_CHANNELS = frozenset({"whatsapp", "sna", "rcs"})
_POLLS = ((timedelta(minutes=1), 60), (timedelta(hours=1), 180), (timedelta(days=1), 250))

_issuer = require("issue")
_verifier = require("verify")
_holder = require("issue", "verify", "read", "admin")


@router.post("/Verifications")
async def create(request: Request) -> Response:
    """Open a verification, or send another code of the one that is open."""
    account = await _issuer(request)
    service = await account.service(request.path_params["service_sid"])
    form = await forms.body(request)
    wanted = form.recipient("To")
    if wanted is None:
        raise invalid("To")
    recipient = parse_recipient(wanted)
    desk = _desk(account, service, await _opening(account, wanted))
    channel = _channel(form, desk.context.policies[account.purpose()], desk, recipient)
    _refuse_what_cannot_be_done(form, service, desk)
    if service.options.get("skip_sms_to_landlines") and recipient.number_class == "fixed_line" and channel == "sms":
        raise TwilioError(60205)
    binding = _binding(form, service)
    opening = Opening(
        account=account,
        service=service,
        desk=desk,
        recipient=recipient,
        step=_step(desk, account.purpose(), channel),
        locale=_locale(form),
        binding=binding,
        client=_device(form),
        limits=await buckets.limits(desk, service, form.members("RateLimits")),
    )
    metrics = account.deps.metrics
    try:
        shown = await opening.perform()
    except (TwilioError, errors.OTPVoiceError) as error:
        told = error if isinstance(error, TwilioError) else of_core(error, account.path)
        metrics.opened(account.caller.tenant, account.purpose(), f"twilio-{told.code}")
        raise
    metrics.opened(account.caller.tenant, account.purpose(), "opened")
    return JSONResponse(views.members(account, service, shown), 201)


@router.post("/VerificationCheck")
async def check(request: Request) -> Response:
    """Check what a person typed. A wrong code is no error: the verification stays pending."""
    account = await _verifier(request)
    service = await account.service(request.path_params["service_sid"])
    form = await forms.body(request)
    code = form.text("Code", longest=64)
    sid, wanted = form.text("VerificationSid", longest=64), form.recipient("To")
    if sid is None and wanted is None:
        raise TwilioError(60221)
    if code is None or _CODE.fullmatch(code) is None:
        raise invalid("Code")
    binding = _binding(form, service)
    desk = await account.plain()
    recipient = None if wanted is None else parse_recipient(wanted)
    shown = await _find(account, service, desk, sid=sid, recipient=recipient)
    if shown is not None and shown.is_exhausted:
        raise TwilioError(60202, retry_after=shown.challenge.expires_at - shown.now)
    if shown is None or not shown.is_open:
        raise missing(account.path)
    holding = Desk(await account.deps.holding(account.caller, shown.challenge.id))
    count = partial(account.deps.metrics.verified, account.caller.tenant)
    try:
        await holding.service.verify_code(shown.challenge.id, code, binding=binding)
    except errors.CodeMismatch:
        count("failed", guessed=True, of=code)
    except errors.ChallengeClosed:
        # Another check was first; say what it left behind.
        count("failed")
        shown = await _reload(service, desk, shown)
        if shown is not None and shown.is_exhausted:
            raise TwilioError(60202, retry_after=shown.challenge.expires_at - shown.now) from None
        raise missing(account.path) from None
    else:
        count("approved")
        # Told from what is known already: the code is used, and no look at the database may fail this answer.
        members = views.check_members(account, service, shown)
        return JSONResponse({**members, "status": APPROVED, "valid": True})
    # The fifth wrong code closes the challenge; to Twilio's clients it is a wrong one like those before.
    return JSONResponse(views.check_members(account, service, shown))


@router.get("/Verifications/{sid}")
async def fetch(request: Request) -> Response:
    """Look at an open verification, by its SID or its recipient."""
    account = await _holder(request)
    service = await account.service(request.path_params["service_sid"])
    desk = await account.plain()
    shown = await _named(account, service, desk, request.path_params["sid"])
    reached = await desk.transact(partial(_charge_poll, challenge_id=shown.challenge.id))
    if reached is not None:
        raise TwilioError(20429, retry_after=reached.ends_at - shown.now)
    return JSONResponse(views.members(account, service, shown))


@router.post("/Verifications/{sid}")
async def change(request: Request) -> Response:
    """End an open verification: ``canceled``, or ``approved`` on the caller's own word."""
    account = await require("issue", "verify")(request)
    service = await account.service(request.path_params["service_sid"])
    form = await forms.body(request)
    status = form.required("Status")
    if status not in {"canceled", APPROVED}:
        raise invalid("Status")
    if not account.caller.may("verify" if status == APPROVED else "issue"):
        raise TwilioError(20003, "Permission denied", status=403)
    desk = await account.plain()
    shown = await _named(account, service, desk, request.path_params["sid"])
    holding = Desk(await account.deps.holding(account.caller, shown.challenge.id))
    await holding.service.cancel(shown.challenge.id)
    if status == APPROVED:
        tenant, key_id = desk.context.tenant, account.caller.key_id
        await desk.transact(partial(_believe, tenant=tenant, challenge_id=shown.challenge.id, key_id=key_id))
    return JSONResponse(views.members(account, service, await _kept(account, service, desk, shown)))


async def _opening(account: Account, wanted: str) -> Desk:
    return Desk(await account.deps.opening(account.caller, wanted))


def _desk(account: Account, service: ServiceRow, desk: Desk) -> Desk:
    """The desk with the service's own code length, where it is no shorter than the policy's."""
    policy = desk.context.policies[account.purpose()]
    length = service.options.get("code_length", 0)
    if length <= policy.code_length:
        return desk
    return desk.with_policy(account.purpose(), code_length=length, longer_length=max(length, policy.longer_length))


def _channel(form: Form, policy: Policy, desk: Desk, recipient: Recipient) -> str:
    channel = form.required("Channel", longest=32)
    if channel in _OTHER_CHANNELS:
        raise TwilioError(60223)
    if channel != "auto" and channel not in CHANNELS:
        raise invalid("Channel")
    media = {desk.context.channels[name].medium for name in policy.route.channels if name in desk.context.channels}
    if channel != "auto" and CHANNELS[channel] not in media:
        raise TwilioError(60217 if channel == "email" else 60223)
    if channel != "auto" and (channel == "email") != (recipient.kind == "email"):
        raise invalid("To")
    return channel


def _step(desk: Desk, purpose: str, channel: str) -> str | None:
    """The route's first step of that medium; ``auto`` leaves it to the route.

    A test tenant's channels have names of their own inside; its service takes and gives those without.
    """
    if channel == "auto":
        return None
    context = desk.context
    names = [name for name in context.policies[purpose].route.channels if name in context.channels]
    step = next(name for name in names if context.channels[name].medium is CHANNELS[channel])
    return step.removeprefix("test:")


def _locale(form: Form) -> str | None:
    try:
        return inputs.locale(form.text("Locale", longest=35))
    except errors.InvalidRequest:
        raise invalid("Locale") from None


def _device(form: Form) -> str | None:
    text = form.text("DeviceIp", longest=64)
    try:
        return None if text is None else str(ipaddress.ip_address(text))
    except ValueError:
        raise invalid("DeviceIp") from None


def _refuse_what_cannot_be_done(form: Form, service: ServiceRow, desk: Desk) -> None:
    for name in _REFUSED:
        if name in form and form.given(name) and form.text(name, longest=16384) != "false":
            raise unsupported(name)
    named = form.text("CustomFriendlyName", longest=64)
    if named is not None and named not in {service.friendly_name, desk.context.brand}:
        raise unsupported("CustomFriendlyName", "texts name the installation's brand")
    app_hash = form.text("AppHash", longest=64)
    if app_hash is not None:
        if form.text("Channel") != "sms":
            raise TwilioError(60602)
        if _APP_HASH.fullmatch(app_hash) is None:
            raise invalid("AppHash")
        if app_hash != desk.context.sms_app_hash:
            raise unsupported("AppHash", "set sms_app_hash")
    if form.text("RiskCheck") not in {None, "enable", "disable"}:
        raise invalid("RiskCheck")
    tags = form.members("Tags")
    if len(tags) > 10 or any(len(item) > 128 for pair in tags.items() for item in pair):
        raise invalid("Tags")


def _binding(form: Form, service: ServiceRow) -> Binding | None:
    amount, payee = form.text("Amount", longest=24), form.text("Payee", longest=70)
    if not service.options.get("psd2_enabled"):
        if amount is not None or payee is not None:
            raise unsupported("Amount and Payee", "the service has no Psd2Enabled")
        return None
    if amount is None or payee is None:
        raise TwilioError(60206)
    return amounts.binding(amount, payee)


async def _find(
    account: Account, service: ServiceRow, desk: Desk, *, sid: str | None, recipient: Recipient | None
) -> Verification | None:
    """A verification by its SID, its recipient, or both where both are given."""
    keys = None if recipient is None else desk.keys(recipient)

    def find(connection: Connection, now: datetime) -> Verification | None:
        challenge_id = None if sid is None else sids.ours("VE", sid)
        if sid is None and keys is not None:
            challenge_id = twilio.of_recipient(connection, service_sid=service.sid, keys=keys)
        shown = views.load(connection, now, context=desk.context, service_sid=service.sid, challenge_id=challenge_id)
        if shown is not None and keys is not None and shown.challenge.recipient_key not in keys:
            return None
        return shown

    return await desk.transact(find)


async def _named(account: Account, service: ServiceRow, desk: Desk, name: str) -> Verification:
    """An open verification by what stands in the path: a SID, or a recipient with its literal plus."""
    if sids.is_sid("VE", name):
        shown = await _find(account, service, desk, sid=name, recipient=None)
    else:
        try:
            recipient = parse_recipient(name)
        except TwilioError:
            raise missing(account.path) from None
        shown = await _find(account, service, desk, sid=None, recipient=recipient)
    if shown is None or not shown.is_open:
        raise missing(account.path)
    return shown


async def _reload(service: ServiceRow, desk: Desk, shown: Verification) -> Verification | None:
    work = partial(views.load, context=desk.context, service_sid=service.sid, challenge_id=shown.challenge.id)
    return await desk.transact(work)


async def _kept(account: Account, service: ServiceRow, desk: Desk, shown: Verification) -> Verification:
    again = await _reload(service, desk, shown)
    if again is None:
        raise missing(account.path)
    return again


def _charge_poll(connection: Connection, now: datetime, *, challenge_id: str) -> Reached | None:
    limits = [
        Limit(key=f"twilio.poll:{challenge_id}:{index}", most=most, window=window, name=f"{most} looks in {window}")
        for index, (window, most) in enumerate(_POLLS)
    ]
    reached = counters.charge(connection, limits, now)
    return None if reached is None else undo(reached)


def _believe(connection: Connection, now: datetime, *, tenant: str, challenge_id: str, key_id: str) -> None:
    """Keep the caller's word beside the challenge: the core knows no approval without a code."""
    twilio.set_outcome(connection, challenge_id, APPROVED)
    events.record(
        connection, now, Event(kind="twilio.approved", tenant=tenant, challenge_id=challenge_id, data={"key": key_id})
    )
