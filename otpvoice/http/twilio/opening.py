"""One create: the recipient's place is taken, then a challenge is opened in it or the one in it is resent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from otpvoice import errors
from otpvoice.flow import undo
from otpvoice.http.twilio import buckets, views
from otpvoice.http.twilio.errors import TwilioError, missing
from otpvoice.http.twilio.front import Account, Desk
from otpvoice.http.twilio.views import Verification
from otpvoice.store import counters, twilio
from otpvoice.store.counters import Limit, Reached
from otpvoice.store.twilio import Busy, Held, ServiceRow, Taken
from otpvoice.types import Binding, ChallengeState, Recipient

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Opening:
    """One create, from the place that it takes to the challenge that it opens or resends."""

    def __init__(
        self,
        *,
        account: Account,
        service: ServiceRow,
        desk: Desk,
        recipient: Recipient,
        step: str | None,
        locale: str | None,
        binding: Binding | None,
        client: str | None,
        limits: Sequence[Limit],
    ) -> None:
        self._account = account
        self._service = service
        self._desk = desk
        self._recipient = recipient
        self._step = step
        self._locale = locale
        self._binding = binding
        self._client = client
        self._limits = limits
        self._keys = desk.keys(recipient)
        self._claim = secrets.token_hex(8)

    async def perform(self) -> Verification:
        """Open or resend; the verification as it then is. Raises what the create is answered with."""
        found = await self._desk.transact(self._take)
        if (
            isinstance(found, Held)
            and found.state is ChallengeState.PENDING
            and await self._is_for_another_payment(found)
        ):
            # One verification a recipient: that of the payment before ends, its code approves nothing any more.
            with suppress(errors.ChallengeClosed):
                await self._desk.service.cancel(found.challenge_id)
            found = await self._desk.transact(self._take_again)
        match found:
            case Reached():
                raise TwilioError(20429, retry_after=found.ends_at - await self._now())
            case Busy():
                raise TwilioError(60212, retry_after=timedelta(seconds=1))
            case Held(state=ChallengeState.EXHAUSTED):
                raise TwilioError(60202, retry_after=found.expires_at - await self._now())
            case Held():
                challenge_id = await self._charged(self._resend(found.challenge_id))
            case Taken():
                challenge_id = await self._charged(self._open())
        load = partial(views.load, context=self._desk.context, service_sid=self._service.sid, challenge_id=challenge_id)
        shown = await self._desk.transact(load)
        if shown is None:
            raise missing(self._account.path)
        return shown

    def _take(self, connection: Connection, now: datetime) -> Busy | Taken | Held | Reached:
        reached = counters.charge(connection, self._limits, now)
        if reached is not None:
            return undo(reached)
        found = self._place(connection, now)
        # What is refused here has not counted against the service's rate limits.
        refused = isinstance(found, Busy) or (isinstance(found, Held) and found.state is ChallengeState.EXHAUSTED)
        return undo(found) if refused else found

    def _take_again(self, connection: Connection, now: datetime) -> Busy | Taken:
        """After the verification before was ended. The rate limits are charged already: a create counts once."""
        found = self._place(connection, now)
        if isinstance(found, Taken):
            return found
        # Another create came between, maybe for yet another payment: its code is not for this one.
        buckets.give_back(connection, now, limits=self._limits)
        return Busy()

    def _place(self, connection: Connection, now: datetime) -> Busy | Taken | Held:
        return twilio.take_slot(connection, now, service_sid=self._service.sid, keys=self._keys, claim=self._claim)

    async def _charged(self, sending: Any) -> str:
        """The challenge of a send that was charged to the rate limits; given back where it was refused."""
        try:
            challenge_id: str = await sending
        except Exception:
            # Node's SDK repeats every 429 at once: what was refused must not count.
            if self._limits:
                await self._desk.transact(partial(buckets.give_back, limits=self._limits))
            raise
        return challenge_id

    async def _open(self) -> str:
        try:
            challenge = await self._desk.service.issue_code(
                str(self._recipient.address),
                purpose=self._account.purpose(),
                channel=self._step,
                locale=self._locale,
                binding=self._binding,
                client=self._client,
            )
        except errors.DeliveryError as error:
            # As at Twilio, and as property P82 wants it: that a provider refused shows in the attempts, not here.
            if error.challenge is None:
                await self._desk.transact(self._free)
                raise
            challenge = error.challenge
        except BaseException as error:
            await self._desk.transact(self._free)
            if isinstance(error, errors.RecipientDenied):
                raise self._denied() from None
            raise
        await self._desk.transact(partial(self._fill, challenge_id=challenge.id))
        return challenge.id

    async def _resend(self, challenge_id: str) -> str:
        service = self._desk.service
        try:
            await service.resend_code(challenge_id, channel=self._step)
        except errors.DeliveryError as error:
            if error.challenge is None:
                raise
        except errors.RateLimited as refused:
            now = await self._now()
            open_still = await service.get(challenge_id)
            waits = open_still.sends_left > 0 and open_still.resend_at is not None and open_still.resend_at > now
            raise TwilioError(20429 if waits else 60203, retry_after=refused.retry_after) from None
        return challenge_id

    async def _is_for_another_payment(self, held: Held) -> bool:
        load = partial(
            views.load, context=self._desk.context, service_sid=self._service.sid, challenge_id=held.challenge_id
        )
        shown = await self._desk.transact(load)
        return shown is not None and shown.private.binding != self._binding

    def _denied(self) -> TwilioError:
        policy = self._desk.context.policies[self._account.purpose()]
        by_class = self._recipient.number_class in policy.denied_classes
        by_country = policy.countries is not None and self._recipient.region not in policy.countries
        return TwilioError(60605 if by_country and not by_class else 60410)

    def _free(self, connection: Connection, _now: datetime) -> None:
        twilio.free_slot(connection, service_sid=self._service.sid, keys=self._keys, claim=self._claim)

    def _fill(self, connection: Connection, now: datetime, *, challenge_id: str) -> None:
        twilio.fill_slot(
            connection,
            now,
            tenant=self._desk.context.tenant,
            service_sid=self._service.sid,
            keys=self._keys,
            claim=self._claim,
            challenge_id=challenge_id,
        )

    async def _now(self) -> datetime:
        return await self._desk.transact(lambda _connection, now: now)
