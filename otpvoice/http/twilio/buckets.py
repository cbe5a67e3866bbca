"""``/v2/Services/{VA}/RateLimits`` and their buckets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from otpvoice.http.twilio import forms, pages, sids
from otpvoice.http.twilio.errors import TwilioError, invalid, missing
from otpvoice.http.twilio.front import Account, Desk, Route, require, timestamp
from otpvoice.store import twilio_limits as store
from otpvoice.store.counters import Limit
from otpvoice.store.twilio import ServiceRow
from otpvoice.store.twilio_limits import BucketRow, RateLimitRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(prefix="/v2/Services/{service_sid}/RateLimits", route_class=Route, include_in_schema=False)

MOST_LIMITS = 20
MOST_BUCKETS = 5
LONGEST_INTERVAL = 86_400
LARGEST_MAX = 1_000_000
Made = TypeVar("Made")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

_admin = require("admin")
_reader = require("admin", "read")


async def limits(desk: Desk, service: ServiceRow, asked: Mapping[str, str]) -> Sequence[Limit]:
    """The counters that a create is charged to.

    A name that the service does not have is refused: a limit that silently does not hold is none.
    """
    if not asked:
        return ()

    def read(connection: Connection, _now: datetime) -> tuple[list[RateLimitRow], list[BucketRow]]:
        rows = store.rate_limits(connection, service.sid)
        return rows, store.buckets(connection, [row.sid for row in rows])

    rows, held = await desk.transact(read)
    by_name = {row.unique_name: row for row in rows}
    if not set(asked) <= set(by_name):
        raise invalid("RateLimits", "the service has no rate limit of that name")
    return [
        Limit(
            key=f"twilio.bucket:{bucket.sid}:{desk.context.keyring.index('rate-limit', asked[name])[0]}",
            most=bucket.most,
            window=timedelta(seconds=bucket.seconds),
            name=f"rate limit {name}",
        )
        for name in asked
        for bucket in held
        if bucket.rate_limit_sid == by_name[name].sid
    ]


def give_back(connection: Connection, _now: datetime, *, limits: Sequence[Limit]) -> None:
    """Take back what was charged for a create that was refused."""
    store.give_back(connection, [limit.key for limit in limits])


@router.post("")
async def create(request: Request) -> Response:
    """Make a rate limit."""
    account, service, desk = await _place(request, _admin)
    form = await forms.body(request)
    name = form.required("UniqueName", longest=256)
    if _NAME.fullmatch(name) is None:
        raise TwilioError(60209)
    description = form.text("Description", longest=256) or ""

    def add(connection: Connection, now: datetime) -> RateLimitRow | TwilioError:
        if len(store.rate_limits(connection, service.sid)) >= MOST_LIMITS:
            return TwilioError(60207)
        row = RateLimitRow(
            sid=sids.new("RK"),
            service_sid=service.sid,
            unique_name=name,
            description=description,
            created_at=now,
            updated_at=now,
        )
        return row if store.add_rate_limit(connection, row) else TwilioError(60208)

    return JSONResponse(_limit_members(account, _made(await desk.transact(add))), 201)


@router.get("")
async def every(request: Request) -> Response:
    """A service's rate limits."""
    account, service, desk = await _place(request, _reader)
    page = pages.asked(request)
    work = partial(store.rate_limits, service_sid=service.sid, offset=page.offset, most=page.most)
    rows = await desk.transact(lambda connection, _now: work(connection))
    return pages.answer(request, account, "rate_limits", page, [_limit_members(account, row) for row in rows])


@router.get("/{sid}")
async def fetch(request: Request) -> Response:
    """One rate limit."""
    account, service, desk = await _place(request, _reader)
    return JSONResponse(_limit_members(account, await _limit(request, account, service, desk)))


@router.post("/{sid}")
async def change(request: Request) -> Response:
    """Describe a rate limit anew; its name stays."""
    account, service, desk = await _place(request, _admin)
    row = await _limit(request, account, service, desk)
    form = await forms.body(request)
    description = form.text("Description", longest=256)
    if description is not None:
        await desk.transact(partial(store.describe_rate_limit, sid=row.sid, description=description))
    return JSONResponse(_limit_members(account, await _limit(request, account, service, desk)))


@router.delete("/{sid}")
async def remove(request: Request) -> Response:
    """Remove a rate limit with its buckets."""
    account, service, desk = await _place(request, _admin)
    row = await _limit(request, account, service, desk)
    await desk.transact(lambda connection, _now: store.remove_rate_limit(connection, service.sid, row.sid))
    return Response(status_code=204)


@router.post("/{sid}/Buckets")
async def create_bucket(request: Request) -> Response:
    """Say how much of the limit in which time."""
    account, service, desk = await _place(request, _admin)
    limit = await _limit(request, account, service, desk)
    form = await forms.body(request)
    most, seconds = form.number("Max", 1, LARGEST_MAX), form.number("Interval", 1, LONGEST_INTERVAL)
    if most is None:
        raise invalid("Max")
    if seconds is None:
        raise invalid("Interval")

    def add(connection: Connection, now: datetime) -> BucketRow | TwilioError:
        if len(store.buckets(connection, [limit.sid])) >= MOST_BUCKETS:
            return TwilioError(60210)
        row = BucketRow(
            sid=sids.new("BL"), rate_limit_sid=limit.sid, most=most, seconds=seconds, created_at=now, updated_at=now
        )
        return row if store.add_bucket(connection, row) else TwilioError(60211)

    return JSONResponse(_bucket_members(account, service, _made(await desk.transact(add))), 201)


@router.get("/{sid}/Buckets")
async def every_bucket(request: Request) -> Response:
    """A rate limit's buckets."""
    account, service, desk = await _place(request, _reader)
    limit = await _limit(request, account, service, desk)
    page = pages.asked(request)
    rows = await desk.transact(lambda connection, _now: store.buckets(connection, [limit.sid]))
    shown = [_bucket_members(account, service, row) for row in rows[page.offset : page.offset + page.most]]
    return pages.answer(request, account, "buckets", page, shown)


@router.get("/{sid}/Buckets/{bucket_sid}")
async def fetch_bucket(request: Request) -> Response:
    """One bucket."""
    account, service, desk = await _place(request, _reader)
    limit = await _limit(request, account, service, desk)
    return JSONResponse(_bucket_members(account, service, await _bucket(request, account, desk, limit)))


@router.post("/{sid}/Buckets/{bucket_sid}")
async def change_bucket(request: Request) -> Response:
    """Write a bucket's numbers anew."""
    account, service, desk = await _place(request, _admin)
    limit = await _limit(request, account, service, desk)
    row = await _bucket(request, account, desk, limit)
    form = await forms.body(request)
    most = form.number("Max", 1, LARGEST_MAX) or row.most
    seconds = form.number("Interval", 1, LONGEST_INTERVAL) or row.seconds
    if not await desk.transact(partial(store.change_bucket, sid=row.sid, most=most, seconds=seconds)):
        raise TwilioError(60211)
    return JSONResponse(_bucket_members(account, service, await _bucket(request, account, desk, limit)))


@router.delete("/{sid}/Buckets/{bucket_sid}")
async def remove_bucket(request: Request) -> Response:
    """Remove a bucket."""
    account, service, desk = await _place(request, _admin)
    limit = await _limit(request, account, service, desk)
    row = await _bucket(request, account, desk, limit)
    await desk.transact(lambda connection, _now: store.remove_bucket(connection, limit.sid, row.sid))
    return Response(status_code=204)


async def _place(request: Request, allowed: Any) -> tuple[Account, ServiceRow, Desk]:
    account: Account = await allowed(request)
    return account, await account.service(request.path_params["service_sid"]), await account.plain()


async def _limit(request: Request, account: Account, service: ServiceRow, desk: Desk) -> RateLimitRow:
    sid = request.path_params["sid"]
    row = None
    if sids.is_sid("RK", sid):
        row = await desk.transact(lambda connection, _now: store.rate_limit(connection, service.sid, sid))
    if row is None:
        raise missing(account.path)
    return row


async def _bucket(request: Request, account: Account, desk: Desk, limit: RateLimitRow) -> BucketRow:
    sid = request.path_params["bucket_sid"]
    rows = await desk.transact(lambda connection, _now: store.buckets(connection, [limit.sid]))
    for row in rows:
        if row.sid == sid:
            return row
    raise missing(account.path)


def _made(found: Made | TwilioError) -> Made:
    if isinstance(found, TwilioError):
        raise found
    return found


def _limit_members(account: Account, row: RateLimitRow) -> dict[str, Any]:
    url = f"{account.base_url}/v2/Services/{row.service_sid}/RateLimits/{row.sid}"
    return {
        "sid": row.sid,
        "service_sid": row.service_sid,
        "account_sid": account.sid,
        "unique_name": row.unique_name,
        "description": row.description,
        "date_created": timestamp(row.created_at),
        "date_updated": timestamp(row.updated_at),
        "url": url,
        "links": {"buckets": f"{url}/Buckets"},
    }


def _bucket_members(account: Account, service: ServiceRow, row: BucketRow) -> dict[str, Any]:
    return {
        "sid": row.sid,
        "rate_limit_sid": row.rate_limit_sid,
        "service_sid": service.sid,
        "account_sid": account.sid,
        "max": row.most,
        "interval": row.seconds,
        "date_created": timestamp(row.created_at),
        "date_updated": timestamp(row.updated_at),
        "url": f"{account.base_url}/v2/Services/{service.sid}/RateLimits/{row.rate_limit_sid}/Buckets/{row.sid}",
    }
