"""Lists in Twilio's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import JSONResponse

from otpvoice.http.twilio import forms
from otpvoice.http.twilio.front import Account

DEFAULT_SIZE = 50
LARGEST_SIZE = 1000
_LAST_PAGE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is asked for."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many come before it."""
        return self.number * self.size

    @property
    def most(self) -> int:
        """How many to read: one more than are shown tells whether there is a next page."""
        return self.size + 1


def asked(request: Request) -> Page:
    """The page that a request asks for; ``PageToken`` is ours to make and says nothing more."""
    query = forms.query(request)
    size = query.number("PageSize", 1, LARGEST_SIZE)
    number = query.number("Page", 0, _LAST_PAGE)
    return Page(number=number or 0, size=size or DEFAULT_SIZE)


def answer(
    request: Request, account: Account, key: str, page: Page, found: Sequence[Mapping[str, Any]]
) -> JSONResponse:
    """A page; ``found`` holds one more than the page shows where there is another page."""
    path = request.url.path[request.url.path.index("/v2/") :]
    others = [(name, value) for name, value in request.query_params.multi_items() if name not in _PAGING]

    def url(number: int) -> str:
        query = urlencode([*others, ("PageSize", page.size), ("Page", number)])
        return f"{account.base_url}{path}?{query}"

    meta = {
        "page": page.number,
        "page_size": page.size,
        "first_page_url": url(0),
        "previous_page_url": url(page.number - 1) if page.number else None,
        "next_page_url": url(page.number + 1) if len(found) > page.size else None,
        "key": key,
        "url": url(page.number),
    }
    return JSONResponse({"meta": meta, key: list(found[: page.size])})


_PAGING = frozenset({"Page", "PageSize", "PageToken"})
