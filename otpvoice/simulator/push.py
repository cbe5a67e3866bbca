"""Reports on their way to the customer's URL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from pydantic import ConfigDict, TypeAdapter

from otpvoice.simulator.records import PushAttempt
from otpvoice.simulator.reports import Oddity, Shape, Terminations, body

USER_AGENT = "Java/1.8.0_232"
"""What the vendor's samples show: receivers must not filter it."""
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Where reports are pushed and with which of the vendor's oddities."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    voice_url: str | None = field(default=None, repr=False)
    sms_url: str | None = field(default=None, repr=False)
    shape: Shape = "object"
    """One object a report, or a bare list, or a list under ``array``. Text messages are always one object."""
    terminations: Terminations = "new"
    delay: float = 0.0
    """Seconds after the end of the call."""
    copies: int = 1
    """How many times every push is made."""
    batch: int = 1
    """How many reports are collected before any is pushed."""
    reverse: bool = False
    """Push a batch newest first."""
    hold: bool = False
    """Collect reports until they are flushed."""
    oddities: tuple[Oddity, ...] = ()
    retries: int = 0
    """How many times a push that was not answered with 2xx is made again."""
    retry_seconds: float = 1800.0

    def __post_init__(self) -> None:
        for url in (self.voice_url, self.sms_url):
            if url is not None:
                _split(url)
        if min(self.delay, self.retries, self.retry_seconds) < 0 or min(self.copies, self.batch) < 1:
            raise ValueError("'copies' and 'batch' are 1 or more, 'delay' and retries 0 or more")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Push:
        """Settings from plain values. Raises ``ValueError`` naming the wrong or unknown key."""
        return _ADAPTER.validate_python(dict(values))

    def as_dict(self) -> dict[str, Any]:
        """Plain values; :meth:`of` is the reverse."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain


_ADAPTER = TypeAdapter(Push)


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("a push URL is http:// or https://, ASCII, without spaces")
    _ = parts.port  # Raises ValueError for a port that is none.
    return parts


class Pusher:
    """Pushes reports from the simulator's event loop. Every method runs on that loop's thread."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.attempts: list[PushAttempt] = []
        self._now = now
        self._held: list[tuple[str, Shape, dict[str, Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, settings: Push, url: str, shape: Shape, report: dict[str, Any], *, wait: float) -> None:
        """Push one report after ``wait`` seconds and the settings' own delay."""
        self._start(self._later(settings, url, shape, report, wait + settings.delay))

    async def _later(self, settings: Push, url: str, shape: Shape, report: dict[str, Any], wait: float) -> None:
        await asyncio.sleep(wait)
        self._held.append((url, shape, report))
        if not settings.hold and len(self._held) >= settings.batch:
            self.flush(settings)

    def flush(self, settings: Push) -> int:
        """Push what was held back; how many reports that were."""
        held, self._held = self._held, []
        if held:
            self._start(self._deliver(settings, held))
        return len(held)

    def now(self, settings: Push, url: str, shape: Shape, report: dict[str, Any]) -> None:
        """Push one report at once, whatever is held back."""
        self._start(self._deliver(settings, [(url, shape, report)]))

    async def _deliver(self, settings: Push, held: Sequence[tuple[str, Shape, dict[str, Any]]]) -> None:
        for url, content in _bodies(list(reversed(held)) if settings.reverse else held, settings):
            for _ in range(settings.copies):
                await self._push(settings, url, content)

    async def _push(self, settings: Push, url: str, content: str) -> None:
        for attempt in range(settings.retries + 1):
            if attempt:
                await asyncio.sleep(settings.retry_seconds)
            try:
                async with asyncio.timeout(TIMEOUT):
                    status = await _post(url, content.encode())
            except (OSError, EOFError, ValueError, TimeoutError):
                status = None
            made = PushAttempt(url=url, body=content, at=self._now(), http_status=status)
            self.attempts.append(made)
            if made.accepted:
                return

    async def idle(self) -> None:
        """Wait until every report that is not held back was pushed, retries included."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Give up everything under way and forget what was held back and made."""
        for task in self._tasks:
            task.cancel()
        await self.idle()
        self._held.clear()
        self.attempts.clear()

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bodies(held: Sequence[tuple[str, Shape, dict[str, Any]]], settings: Push) -> list[tuple[str, str]]:
    """URL and body of each push: reports in a list shape to the same URL travel together."""
    bodies = []
    lists: dict[tuple[str, Shape], list[dict[str, Any]]] = {}
    for url, shape, report in held:
        if shape == "object":
            bodies.append((url, body([report], shape, settings.oddities)))
        else:
            lists.setdefault((url, shape), []).append(report)
    return bodies + [(url, body(reports, shape, settings.oddities)) for (url, shape), reports in lists.items()]


async def _post(url: str, content: bytes) -> int:
    """POST JSON and return the status. Raises ``OSError``, ``EOFError`` or ``ValueError``.

    Written on the event loop's own streams: a push that hangs can be cancelled, and the simulator needs no HTTP
    client. Redirects are not followed and the answer's body is not read, as the vendor says of its other pushes.
    """
    parts = _split(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: {USER_AGENT}\r\n"
        f"Content-Type: application/json;charset=UTF-8\r\nContent-Length: {len(content)}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure or None)
    try:
        writer.write(head.encode("ascii") + content)
        await writer.drain()
        line = await reader.readline()
        # Closing on an unread answer would reset the connection under the customer's server.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await reader.read(1 << 16)
    finally:
        writer.close()
    found = re.match(rb"HTTP/1\.[01] ([1-5]\d\d)\b", line)
    if found is None:
        raise ValueError("no HTTP answer")
    return int(found[1])
