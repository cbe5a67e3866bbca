"""Verifications as Twilio shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from otpvoice.context import Context, Private
from otpvoice.http.twilio import sids
from otpvoice.http.twilio.front import Account, timestamp
from otpvoice.store import challenges, deliveries, twilio
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.store.twilio import APPROVED, ServiceRow, VerificationRow
from otpvoice.types import ChallengeState, Medium

if TYPE_CHECKING:
    from sqlalchemy import Connection

CHANNELS = {"sms": Medium.SMS, "call": Medium.VOICE, "email": Medium.EMAIL}
NAMES = {medium: name for name, medium in CHANNELS.items()}
_STATUS = {
    ChallengeState.PENDING: "pending",
    ChallengeState.APPROVED: "approved",
    ChallengeState.CANCELLED: "canceled",
    ChallengeState.EXHAUSTED: "max_attempts_reached",
    ChallengeState.EXPIRED: "expired",
}
_LINES = {"mobile": "mobile", "fixed_line": "landline", "voip": "voip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A verification with all that is shown of it, as of one moment."""

    row: VerificationRow
    challenge: ChallengeRow
    private: Private
    sent: Sequence[DeliveryRow]
    now: datetime

    @property
    def state(self) -> ChallengeState:
        """The challenge's state at that moment."""
        return self.challenge.state_at(self.now)

    @property
    def status(self) -> str:
        """Twilio's word for it."""
        return self.row.outcome or _STATUS[self.state]

    @property
    def is_open(self) -> bool:
        """Whether it takes sends and checks."""
        return self.state is ChallengeState.PENDING

    @property
    def is_exhausted(self) -> bool:
        """Whether its checks are spent and its time is not over; the last of them may be under way still."""
        spent = self.is_open and self.challenge.attempts_left == 0
        return (spent or self.state is ChallengeState.EXHAUSTED) and self.now < self.challenge.expires_at

    @property
    def updated_at(self) -> datetime:
        """When something happened to it last."""
        moments = [self.challenge.created_at, self.challenge.closed_at]
        moments += [at for item in self.sent for at in (item.sent_at, item.settled_at, item.reported_at)]
        return max(at for at in moments if at is not None)

    @property
    def channel(self) -> str:
        """The channel that was used last."""
        return NAMES.get(self.sent[-1].medium, "sms") if self.sent else "sms"


def load(
    connection: Connection, now: datetime, *, context: Context, service_sid: str, challenge_id: str | None
) -> Verification | None:
    """A service's verification by its challenge; None where there is none, or it was erased."""
    if challenge_id is None:
        return None
    tenant = context.tenant
    row = twilio.verification(connection, tenant=tenant, service_sid=service_sid, challenge_id=challenge_id)
    challenge = None if row is None else challenges.by_id(connection, tenant, challenge_id)
    if row is None or challenge is None or challenge.sealed is None:
        return None
    return Verification(
        row=row,
        challenge=challenge,
        private=Private.unseal(context.keyring, challenge),
        sent=deliveries.of_challenge(connection, challenge_id),
        now=now,
    )


def members(account: Account, service: ServiceRow, shown: Verification) -> dict[str, Any]:
    """The object that create, fetch and update answer with."""
    sid = sids.of("VE", shown.challenge.id)
    return {
        **_common(account, service, shown),
        "lookup": _lookup(service, shown),
        "send_code_attempts": [
            {
                "time": timestamp(item.sent_at or item.created_at),
                "channel": NAMES.get(item.medium, "sms").upper(),
                "attempt_sid": sids.of("VL", item.id),
            }
            for item in shown.sent
        ],
        "sna": None,
        "url": f"{account.base_url}/v2/Services/{service.sid}/Verifications/{sid}",
    }


def check_members(account: Account, service: ServiceRow, shown: Verification) -> dict[str, Any]:
    """The object that a check answers with."""
    return {**_common(account, service, shown), "sna_attempts_error_codes": None}


def _common(account: Account, service: ServiceRow, shown: Verification) -> dict[str, Any]:
    binding = shown.private.binding
    recipient = shown.private.recipient
    return {
        "sid": sids.of("VE", shown.challenge.id),
        "service_sid": service.sid,
        "account_sid": account.sid,
        # Whole, as in Twilio's contract: the account's own programs gave it, and act on it after a check by SID.
        "to": None if recipient is None else str(recipient.address),
        "channel": shown.channel,
        "status": shown.status,
        "valid": shown.status == APPROVED,
        "amount": None if binding is None else binding.reference,
        "payee": None if binding is None else binding.payee,
        "date_created": timestamp(shown.challenge.created_at),
        "date_updated": timestamp(shown.updated_at),
    }


def _lookup(service: ServiceRow, shown: Verification) -> Mapping[str, Any]:
    recipient = shown.private.recipient
    if not service.options.get("lookup_enabled") or recipient is None or recipient.kind != "phone":
        return {}
    carrier = {
        "mobile_country_code": None,
        "mobile_network_code": None,
        "name": None,
        "type": _LINES.get(recipient.number_class or ""),
        "error_code": None,
    }
    return {"carrier": carrier}
