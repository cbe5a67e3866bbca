"""The provider behind the simulated API: it places calls, sends messages, keeps records and counts money."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import count
from threading import Condition
from typing import Any, Literal

from otpvoice.clock import Clock
from otpvoice.simulator.checks import Generation, Problem, SendCode, SendSms, is_number
from otpvoice.simulator.records import MessageOutcome, Outcome, SimulatedCall, SimulatedMessage, Timeline
from otpvoice.simulator.rules import Rule
from otpvoice.speech.gsm import segments
from otpvoice.types import Address, Text

VENDOR_ZONE = timezone(timedelta(hours=8))
"""The zone of every time that the vendor prints."""

SIP_CODES: Mapping[Outcome, int] = {
    Outcome.ANSWERED: 200,
    Outcome.VOICEMAIL: 200,
    Outcome.NO_ANSWER: 480,
    Outcome.BUSY: 486,
    Outcome.REJECTED: 603,
    Outcome.INVALID_NUMBER: 404,
    Outcome.BLOCKED: 403,
    Outcome.CARRIER_FAILURE: 503,
}
NEVER_RINGS = frozenset({Outcome.BUSY, Outcome.INVALID_NUMBER, Outcome.BLOCKED, Outcome.CARRIER_FAILURE})
VOICEMAIL_SECONDS = 3
CHARACTERS_A_SECOND = 12
LONGEST_TALK = 120

_serials = count(1)
"""Shared by all simulators of a process, so that two providers side by side never give the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The simulated customer account and the traits of the provider behind it."""

    api_key: str = "demo-key"
    api_secret: str = field(default="demo-secret", repr=False)
    app_ids: Collection[str] = ("demo-app",)
    """Known appIds, of voice and SMS alike."""
    balance: Decimal = Decimal("100.000")
    """Money at the start. A request that it cannot pay is refused with -10."""
    call_price: Decimal = Decimal("0.010")
    """For every begun :attr:`bill_seconds` of talk. Calls that nobody answers cost nothing."""
    bill_seconds: int = 20
    message_price: Decimal = Decimal("0.020")
    """For each part of a text message."""
    currency: str = "USD"
    generation: Generation = "legacy"
    max_loop_count: int = 9
    """9, or 3 as on the sister brands."""
    pace: float = 0.0
    """Seconds of the clock that one second of a call takes: 0, a call is over as soon as it is accepted; 1, it
    takes as long as a real one. Its record appears and its report is pushed when it is over."""
    record_delay: float = 0.0
    """Seconds after the end of a call until its record can be read."""
    unknown_record: Literal["-24", "-22", "null"] = "-24"
    """What asking for an unknown voiceId gives; the vendor does not say which."""

    def __post_init__(self) -> None:
        if isinstance(self.app_ids, str) or not self.app_ids:
            raise ValueError("'app_ids' is a collection of at least one appId")


class Backend:
    """The state of one simulated provider. Safe to share between threads; knows nothing of HTTP."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self.account = account
        self.changed = Condition()
        """Notified at every call and message; its lock guards the state."""
        self._clock = clock
        self._skew = timedelta(0)
        self._ids = 0
        self.reset()

    def reset(self) -> None:
        """Forget calls, messages, costs and the clock's skew. Ids go on, so that none is given twice."""
        with self.changed:
            self._calls: dict[str, SimulatedCall] = {}
            self._messages: dict[str, SimulatedMessage] = {}
            self._balance = self.account.balance
            self._skew = timedelta(0)

    def now(self) -> datetime:
        """The simulator's time: its clock and the skew that was set."""
        return self._clock.now() + self._skew

    @property
    def skew(self) -> float:
        """Seconds by which the simulator is ahead of its clock."""
        return self._skew.total_seconds()

    @skew.setter
    def skew(self, seconds: float) -> None:
        self._skew = timedelta(seconds=seconds)

    @property
    def balance(self) -> Decimal:
        """What is left."""
        with self.changed:
            return self._balance

    @property
    def calls(self) -> list[SimulatedCall]:
        """All calls, oldest first."""
        with self.changed:
            return list(self._calls.values())

    @property
    def messages(self) -> list[SimulatedMessage]:
        """All text messages, oldest first."""
        with self.changed:
            return list(self._messages.values())

    def check_funds(self, price: Decimal) -> None:
        """Raise :class:`Problem` -10 when the balance does not cover ``price``."""
        if self.balance < price:
            raise Problem(-10)

    def call(self, voice_id: str) -> SimulatedCall | None:
        """The call with that id, over or not."""
        with self.changed:
            return self._calls.get(voice_id)

    def message(self, msg_id: str) -> SimulatedMessage | None:
        """The message with that id."""
        with self.changed:
            return self._messages.get(msg_id)

    def records(self) -> list[SimulatedCall]:
        """The calls whose record can be read by now, newest first."""
        visible = self.now() - timedelta(seconds=self.account.record_delay)
        return [call for call in reversed(self.calls) if call.ends_at <= visible]

    def place_call(self, request: SendCode, parameters: Mapping[str, Any], rule: Rule) -> SimulatedCall:
        """Take a call and decide at once how it ends."""
        outcome = rule.outcome or Outcome.ANSWERED
        recalls = 0 if outcome.answered else request.recall_count
        at = self.now()
        timeline = _timeline(request, rule, outcome, at, wait=timedelta(minutes=recalls * request.recall_interval))
        charged = -(-timeline.talk_seconds // self.account.bill_seconds) * self.account.bill_seconds
        cost = self.account.call_price * (charged // self.account.bill_seconds)
        with self.changed:
            call = SimulatedCall(
                voice_id=self._next_id(at),
                callee=Address(request.callee),
                text=Text(request.text),
                language=request.language,
                loop_count=request.loop_count,
                called_info=request.called_info,
                app_id=request.app_id,
                display_num=request.display_num,
                parameters=parameters,
                at=at,
                outcome=outcome,
                sip_code=rule.sip_code or SIP_CODES[outcome],
                timeline=timeline,
                recalls=recalls,
                rate=self.account.call_price,
                cost=cost,
                charged_seconds=charged,
                ends_at=at + (timeline.hung_up - at) * self.account.pace,
            )
            self._calls[call.voice_id] = call
            self._balance -= cost
            self.changed.notify_all()
        return call

    def send_messages(self, request: SendSms, rule: Rule) -> list[SimulatedMessage]:
        """Send a text to every number that is one."""
        sent = []
        with self.changed:
            for index, number in enumerate(request.numbers):
                if not is_number(number):
                    continue
                at = self.now()
                message = SimulatedMessage(
                    msg_id=self._next_id(at),
                    number=Address(number),
                    content=Text(request.content),
                    app_id=request.app_id,
                    sender_id=request.sender_id,
                    order_id=request.order_ids[index] if request.order_ids else None,
                    at=at,
                    outcome=rule.message or MessageOutcome.DELIVERED,
                    segments=segments(request.content),
                    price=self.account.message_price,
                )
                self._messages[message.msg_id] = message
                self._balance -= message.cost
                sent.append(message)
            self.changed.notify_all()
        return sent

    def unused_id(self) -> str:
        """An id of nothing."""
        with self.changed:
            return self._next_id(self.now())

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Block until ``condition`` holds, at most ``seconds``; whether it does. Checked at every change."""
        with self.changed:
            return self.changed.wait_for(condition, seconds)

    def _next_id(self, at: datetime) -> str:
        """``yyMMddHHmmss`` in the vendor's zone and a serial number; every other id has a 20th digit in front.

        The longer ones are above 2^64, as one that the vendor published.
        """
        self._ids += 1
        prefix = "2" if self._ids % 2 else ""
        return f"{prefix}{at.astimezone(VENDOR_ZONE):%y%m%d%H%M%S}{next(_serials) % 10**7:07}"


def _timeline(request: SendCode, rule: Rule, outcome: Outcome, at: datetime, *, wait: timedelta) -> Timeline:
    called = at + wait + timedelta(seconds=1)
    ring = rule.ring_seconds
    if ring is None:
        ring = request.max_ringing_time if outcome is Outcome.NO_ANSWER else 7
    ring = min(ring, request.max_ringing_time)
    rang = None if outcome in NEVER_RINGS else called + timedelta(seconds=2)
    answered = rang + timedelta(seconds=ring) if rang and outcome.answered else None
    talk = rule.talk_seconds
    if talk is None:
        spoken = request.loop_count * max(1, len(request.text) // CHARACTERS_A_SECOND)
        talk = VOICEMAIL_SECONDS if outcome is Outcome.VOICEMAIL else spoken
    talk = min(talk, request.max_duration or LONGEST_TALK)
    if answered:
        hung_up = answered + timedelta(seconds=talk)
    else:
        hung_up = (rang or called) + timedelta(seconds=ring if rang else 1)
    return Timeline(submitted=at, called=called, rang=rang, answered=answered, hung_up=hung_up)
