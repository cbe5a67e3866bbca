"""``/v2/Services``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from otpvoice import totp
from otpvoice.http.twilio import forms, pages, sids
from otpvoice.http.twilio.errors import invalid, missing, unsupported
from otpvoice.http.twilio.forms import Form
from otpvoice.http.twilio.front import Account, Desk, Route, require, timestamp
from otpvoice.store import twilio
from otpvoice.store.twilio import ServiceRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(prefix="/v2/Services", route_class=Route, include_in_schema=False)

LONGEST_NAME = 32
MOST_DIGITS = 4
_FLAGS = {
    "LookupEnabled": "lookup_enabled",
    "Psd2Enabled": "psd2_enabled",
    "SkipSmsToLandlines": "skip_sms_to_landlines",
    "DoNotShareWarningEnabled": "do_not_share_warning_enabled",
}
_NEVER = ("DtmfInputRequired", "CustomCodeEnabled", "VerifyEventSubscriptionEnabled")
"""Flags that are ``false`` here, always."""
_NOT_HERE = ("TtsName", "DefaultTemplateSid", "Push.", "Whatsapp.", "Passkeys.")
_TOTP = {"Totp.TimeStep": totp.PERIOD, "Totp.CodeLength": totp.DIGITS, "Totp.Skew": 1}

_admin = require("admin")
_reader = require("admin", "read", "issue", "verify")


@router.post("")
async def create(request: Request) -> Response:
    """Make a service."""
    account = await _admin(request)
    form = await forms.body(request)
    desk = await account.plain()
    name = _name(form)
    if name is None:
        raise invalid("FriendlyName")
    options = _options(form, account, desk, {})
    row = await desk.transact(partial(_store, tenant=desk.context.tenant, name=name, options=options))
    return JSONResponse(_members(account, desk, row), 201)


@router.get("")
async def every(request: Request) -> Response:
    """The account's services."""
    account = await _reader(request)
    page = pages.asked(request)
    desk = await account.plain()
    work = partial(twilio.services, tenant=desk.context.tenant, offset=page.offset, most=page.most)
    rows = await desk.transact(lambda connection, _now: work(connection))
    return pages.answer(request, account, "services", page, [_members(account, desk, row) for row in rows])


@router.get("/{sid}")
async def fetch(request: Request) -> Response:
    """One service."""
    account = await _reader(request)
    row = await account.service(request.path_params["sid"])
    return JSONResponse(_members(account, await account.plain(), row))


@router.post("/{sid}")
async def change(request: Request) -> Response:
    """Write some of a service's settings anew."""
    account = await _admin(request)
    row = await account.service(request.path_params["sid"])
    form = await forms.body(request)
    desk = await account.plain()
    name = _name(form) or row.friendly_name
    options = _options(form, account, desk, row.options)
    tenant = desk.context.tenant
    await desk.transact(partial(twilio.change_service, tenant=tenant, sid=row.sid, friendly_name=name, options=options))
    return JSONResponse(_members(account, desk, await account.service(row.sid)))


@router.delete("/{sid}")
async def remove(request: Request) -> Response:
    """Remove a service."""
    account = await _admin(request)
    row = await account.service(request.path_params["sid"])
    desk = await account.plain()
    if not await desk.transact(
        lambda connection, _now: twilio.remove_service(connection, desk.context.tenant, row.sid)
    ):
        raise missing(account.path)
    return Response(status_code=204)


def _store(connection: Connection, now: datetime, *, tenant: str, name: str, options: Mapping[str, Any]) -> ServiceRow:
    row = ServiceRow(
        sid=sids.new("VA"), tenant=tenant, friendly_name=name, options=options, created_at=now, updated_at=now
    )
    twilio.add_service(connection, row)
    return row


def _name(form: Form) -> str | None:
    name = form.text("FriendlyName", longest=LONGEST_NAME)
    if name is None:
        return None
    plain = all(character.isalnum() or character in " -_" for character in name)
    if not plain or sum(character.isdigit() for character in name) > MOST_DIGITS:
        raise invalid("FriendlyName", "letters, blanks, - and _, and 4 digits at most")
    return name


def _options(form: Form, account: Account, desk: Desk, before: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(before)
    for parameter, option in _FLAGS.items():
        value = form.flag(parameter)
        if value is not None:
            options[option] = value
    if options.get("skip_sms_to_landlines") and not options.get("lookup_enabled"):
        raise invalid("SkipSmsToLandlines", "it needs LookupEnabled")
    for parameter in _NEVER:
        if form.flag(parameter):
            raise unsupported(parameter)
    for parameter in _NOT_HERE:
        given = form.given(parameter)
        if given:
            raise unsupported(given[0])
    for parameter, only in _TOTP.items():
        number = form.number(parameter, 0, 100)
        if number is not None and number != only:
            raise unsupported(parameter, f"it is {only}")
    issuer = form.text("Totp.Issuer", longest=128)
    if issuer is not None and issuer != _issuer(desk):
        raise unsupported("Totp.Issuer", "apps show the installation's brand")
    length = form.number("CodeLength", 4, 10)
    if length is not None:
        shortest = desk.context.policies[account.purpose()].code_length
        if length < shortest:
            raise invalid("CodeLength", f"codes have at least {shortest} digits here")
        options["code_length"] = length
    return options


def _issuer(desk: Desk) -> str:
    return desk.context.brand or "otpvoice"


def _members(account: Account, desk: Desk, row: ServiceRow) -> dict[str, Any]:
    options = row.options
    url = f"{account.base_url}/v2/Services/{row.sid}"
    policy = desk.context.policies[account.purpose()]
    return {
        "sid": row.sid,
        "account_sid": account.sid,
        "friendly_name": row.friendly_name,
        "code_length": max(options.get("code_length", 0), policy.code_length),
        "lookup_enabled": options.get("lookup_enabled", False),
        "psd2_enabled": options.get("psd2_enabled", False),
        "skip_sms_to_landlines": options.get("skip_sms_to_landlines", False),
        "dtmf_input_required": False,
        "tts_name": None,
        "do_not_share_warning_enabled": options.get("do_not_share_warning_enabled", False),
        "custom_code_enabled": False,
        "push": {"include_date": False, "apn_credential_sid": None, "fcm_credential_sid": None},
        "totp": {"issuer": _issuer(desk), "time_step": totp.PERIOD, "code_length": totp.DIGITS, "skew": 1},
        "whatsapp": {"msg_service_sid": None, "from": None},
        "passkeys": {
            "relying_party": {"id": None, "name": None, "origins": []},
            "authenticator_attachment": None,
            "discoverable_credentials": None,
            "user_verification": None,
        },
        "default_template_sid": None,
        "verify_event_subscription_enabled": False,
        "date_created": timestamp(row.created_at),
        "date_updated": timestamp(row.updated_at),
        "url": url,
        "links": {
            "verification_checks": f"{url}/VerificationCheck",
            "verifications": f"{url}/Verifications",
            "rate_limits": f"{url}/RateLimits",
            "messaging_configurations": f"{url}/MessagingConfigurations",
            "entities": f"{url}/Entities",
            "webhooks": f"{url}/Webhooks",
            "access_tokens": f"{url}/AccessTokens",
        },
    }
