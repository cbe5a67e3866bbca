"""A simulated ITNIO on a socket: started and stopped in a moment, as many side by side as wanted.

.. code-block:: python

    with SimulatedItnio() as itnio:
        ...  # base URL itnio.url, key "demo-key", secret "demo-secret", app "demo-app"
        assert itnio.calls[-1].heard_code == "482913"
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from types import TracebackType
from typing import Self

from otpvoice.clock import Clock, SystemClock
from otpvoice.simulator.answers import Abort
from otpvoice.simulator.app import ADMIN, Api, Hooks
from otpvoice.simulator.backend import Account, Backend
from otpvoice.simulator.push import Push
from otpvoice.simulator.records import PushAttempt, SimulatedCall, SimulatedMessage, SimulatedRequest
from otpvoice.simulator.rules import Rule, RuleBook
from otpvoice.simulator.running import Running


class SimulatedItnio:
    """A local ITNIO over real HTTP, on a thread of its own. A context manager; every method is thread-safe.

    ``port`` 0 takes any free port. ``prefix`` (``/v3``) is put before every path; SMS and balance are then also
    served without their ``sms/`` part, as the sister brands have it. ``account`` holds balance, prices, pace and
    the provider's generation; the credentials given beside it win. The observers are called on worker threads
    before the request is answered. :meth:`start` raises ``OSError`` when the port is taken.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str | None = None,
        api_secret: str | None = None,
        app_ids: Collection[str] | None = None,
        prefix: str = "",
        host: str = "127.0.0.1",
        account: Account | None = None,
        push: Push | None = None,
        clock: Clock | None = None,
        by_number: bool = True,
        on_call: Callable[[SimulatedCall], None] | None = None,
        on_message: Callable[[SimulatedMessage], None] | None = None,
        on_request: Callable[[SimulatedRequest], None] | None = None,
    ) -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ValueError(f"a prefix looks like '/v3', not {prefix!r}")
        account = account or Account()
        self.account = replace(
            account,
            api_key=account.api_key if api_key is None else api_key,
            api_secret=account.api_secret if api_secret is None else api_secret,
            app_ids=account.app_ids if app_ids is None else app_ids,
        )
        self._address = (host, port)
        self._prefix = prefix
        self._backend = Backend(self.account, clock or SystemClock())
        self._rules = RuleBook(by_number=by_number)
        self._push = push or Push()
        self._hooks = Hooks(on_call=on_call, on_message=on_message, on_request=on_request)
        self._running: Running | None = None
        self._last_requests: Counter[str] = Counter()
        self._last_pushes: list[PushAttempt] = []

    def start(self) -> Self:
        """Listen. Calls and messages of an earlier run are kept; :meth:`reset` forgets them."""
        if self._running is not None:
            raise RuntimeError("the simulator is already running")
        self._running = Running(self._address, self._make_api)
        return self

    def stop(self) -> None:
        """Stop listening, cut open connections and give up what was to be pushed. Harmless when stopped."""
        running, self._running = self._running, None
        if running is not None:
            self._push = running.api.push
            self._last_requests = Counter(running.api.requests)
            self._last_pushes = list(running.api.pusher.attempts)
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._live().port

    @property
    def url(self) -> str:
        """The base URL, prefix included, without a slash at the end."""
        return f"{self._origin}{self._prefix}"

    @property
    def admin_url(self) -> str:
        """Where the admin endpoints are."""
        return f"{self._origin}{ADMIN}"

    @property
    def _origin(self) -> str:
        host = self._address[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def calls(self) -> list[SimulatedCall]:
        """The calls it placed, oldest first."""
        return self._backend.calls

    @property
    def messages(self) -> list[SimulatedMessage]:
        """The text messages it sent, oldest first."""
        return self._backend.messages

    @property
    def requests(self) -> Counter[str]:
        """How many HTTP requests it received, by path without prefix; record look-ups as ``/voice/recordGroup``.

        Refused and failed requests count too, the admin endpoints do not.
        """
        return Counter(self._running.api.requests if self._running else self._last_requests)

    @property
    def pushes(self) -> list[PushAttempt]:
        """The pushes it made, oldest first."""
        return list(self._running.api.pusher.attempts if self._running else self._last_pushes)

    @property
    def balance(self) -> Decimal:
        """What the account has left."""
        return self._backend.balance

    def set_rule(self, rule: Rule | Mapping[str, object]) -> None:
        """Put a rule before all others. Raises ``ValueError`` naming an unknown or wrong key."""
        self._rules.add(rule if isinstance(rule, Rule) else Rule.of(rule))

    def clear_rules(self) -> None:
        """Take all rules away."""
        self._rules.clear()

    def set_clock_skew(self, seconds: float) -> None:
        """Put the provider's clock ahead (or, negative, behind). Signatures and ``Date`` go by it."""
        self._backend.skew = seconds

    def set_push(self, push: Push | Mapping[str, object]) -> None:
        """Say where reports go and with which oddities, from now on."""
        settings = push if isinstance(push, Push) else Push.of(push)
        if self._running is None:
            self._push = settings
        else:
            self._running.api.push = settings

    def push(self, reference: str, *, outcome: str | None = None) -> None:
        """Push the report of a call (voice id) or message (msgId) once more, now, with another outcome if given.

        Raises ``KeyError`` for an unknown id, ``ValueError`` for an unknown outcome or without a URL.
        """

        async def again(running: Running) -> None:
            running.admin.push_again(reference, outcome)

        live = self._live()
        live.run(again(live))

    def flush_pushes(self) -> int:
        """Push the reports that were held back; how many there were."""

        async def flush(running: Running) -> int:
            return running.api.pusher.flush(running.api.push)

        live = self._live()
        return live.run(flush(live))

    def wait_for_pushes(self, timeout: float = 10.0) -> None:
        """Block until every due report was pushed, retries included. Raises ``TimeoutError``."""
        live = self._live()
        live.run(asyncio.wait_for(live.api.pusher.idle(), timeout))

    def wait_for_calls(self, count: int = 1, timeout: float = 10.0) -> list[SimulatedCall]:
        """Block until at least ``count`` calls were placed. Raises ``TimeoutError``."""
        if not self._backend.wait_for(lambda: len(self.calls) >= count, timeout):
            raise TimeoutError(f"{len(self.calls)} of {count} calls were placed within {timeout:g} s")
        return self.calls

    def wait_for_messages(self, count: int = 1, timeout: float = 10.0) -> list[SimulatedMessage]:
        """Block until at least ``count`` text messages were sent. Raises ``TimeoutError``."""
        if not self._backend.wait_for(lambda: len(self.messages) >= count, timeout):
            raise TimeoutError(f"{len(self.messages)} of {count} messages were sent within {timeout:g} s")
        return self.messages

    def reset(self) -> None:
        """Forget calls, messages, counts, rules, pushes and the skew; push settings stay."""
        if self._running is not None:
            self._running.run(self._running.admin.reset())
        else:
            self._rules.clear()
            self._backend.reset()
            self._last_requests, self._last_pushes = Counter(), []

    def _make_api(self, abort: Abort) -> Api:
        api = Api(self._backend, self._rules, prefix=self._prefix, push=self._push, hooks=self._hooks, abort=abort)
        api.requests.update(self._last_requests)
        api.pusher.attempts.extend(self._last_pushes)
        return api

    def _live(self) -> Running:
        if self._running is None:
            raise RuntimeError("the simulator is not running: use it as a context manager or call start()")
        return self._running

    def __repr__(self) -> str:
        return f"<SimulatedItnio {self.url if self._running else 'stopped'}>"


def serve(simulator: SimulatedItnio, *, ready: Callable[[SimulatedItnio], None] | None = None) -> None:
    """Run a simulator in the foreground until Ctrl-C or SIGTERM, and stop it cleanly.

    To be called on the main thread. ``ready`` is called once it listens. Raises ``OSError`` when the port is
    taken.
    """
    ended = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, lambda _number, _frame: ended.set())
    try:
        with simulator:
            if ready is not None:
                ready(simulator)
            ended.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
