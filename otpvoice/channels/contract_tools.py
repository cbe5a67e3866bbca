"""What the contract suite works with: a way to drive flows, and answers that must not break a channel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from otpvoice.flow import Call, Exchange, Flow

T = TypeVar("T")

HOSTILE_BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "HTML": b"<!doctype html><title>502</title><h1>Bad gateway</h1>",
    "half an object": b'{"status": "0", "da',
    "null": b"null",
    "a list": b"[]",
    "a text": b'"ok"',
    "true": b"true",
    "not a number": b'{"status": NaN, "code": Infinity, "id": NaN}',
    "nulls": b'{"status": null, "code": null, "data": null, "id": null, "error": null}',
    "booleans": b'{"status": true, "code": false, "data": true, "id": true}',
    "objects": b'{"status": {}, "code": [], "data": {"a": []}, "id": {}}',
    "deep": b"[" * 100_000,
    "a long number": b'{"status": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"status": "\xff\xfe"}',
    "UTF-16": '{"status": "\ud83d\ude00"}'.encode("utf-16", "surrogatepass"),
    "surrogate": b'{"status": "\\ud800", "data": "\\ud800", "id": "\\ud800"}',
}
"""Bodies that an answer may have and that must not break a channel."""

HOSTILE_STATUSES = (
    200,
    201,
    204,
    301,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    408,
    409,
    413,
    418,
    422,
    429,
    500,
    502,
    503,
    504,
)


def perform(flow: Flow[T], answer: Callable[[httpx.Request], httpx.Response | Exception]) -> T:
    """Run a flow: blocking calls are performed, requests answered by ``answer``; an exception it returns is raised."""
    result: Any = None
    failure: Exception | None = None
    try:
        while True:
            step = flow.send(result) if failure is None else flow.throw(failure)
            result, failure = None, None
            try:
                if isinstance(step, Call):
                    result = step.work()
                elif isinstance(step, Exchange):
                    given = answer(step.request)
                    if isinstance(given, Exception):
                        failure = given
                    else:
                        given.request = step.request
                        result = given
                else:
                    raise AssertionError(f"a channel asks for requests and calls, not for {type(step).__name__}")
            except AssertionError:
                raise
            except Exception as error:
                failure = error
    except StopIteration as done:
        value: T = done.value
        return value


def expect(holds: object, words: str) -> None:
    """``assert`` that stays under ``python -O``."""
    if not holds:
        raise AssertionError(words)


@contextmanager
def raises(*kinds: type[Exception]) -> Iterator[list[Exception]]:
    """The block must raise one of these; what it raised is in the list."""
    caught: list[Exception] = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
        return
    raise AssertionError(f"did not raise {' or '.join(kind.__name__ for kind in kinds)}")


@contextmanager
def recorded() -> Iterator[list[logging.LogRecord]]:
    """Every log record of the block, at any level."""
    records: list[logging.LogRecord] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Recorder()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        yield records
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
