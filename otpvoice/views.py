"""Views: a challenge as its holder and support people may see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from otpvoice import routing
from otpvoice.context import TOTP, Context, Private
from otpvoice.store.challenges import ChallengeRow
from otpvoice.store.deliveries import DeliveryRow
from otpvoice.types import Challenge, ChallengeState


def challenge(ctx: Context, row: ChallengeRow, sent: Sequence[DeliveryRow], now: datetime) -> Challenge:
    """A challenge with its deliveries, oldest first."""
    state = row.state_at(now)
    is_open = state is ChallengeState.PENDING
    sends_left = row.policy.max_sends - row.sends if is_open else 0
    resendable = sends_left > 0 and row.resend_at < row.expires_at
    deliveries = tuple(item.view(used=item.id == row.used_delivery) for item in sent)
    return Challenge(
        id=row.id,
        purpose=row.purpose,
        recipient=row.hint,
        state=state,
        created_at=row.created_at,
        expires_at=row.expires_at,
        attempts_left=row.attempts_left if is_open else 0,
        sends_left=sends_left,
        resend_at=max(row.resend_at, row.created_at) if resendable else None,
        next_step=_next_step(ctx, row) if resendable else None,
        delivery=deliveries[-1] if deliveries else None,
        deliveries=deliveries,
        closed_at=row.closed_at,
    )


def _next_step(ctx: Context, row: ChallengeRow) -> str | None:
    """The channel that a resend would take: the next of the route that is for the recipient, or the same again."""
    if row.hint is None or row.sealed is None:
        return None
    names = row.policy.route.channels
    if len(names) == 1:
        return names[0]
    step = routing.following(ctx, row, Private.unseal(ctx.keyring, row))
    name = names[row.step if step is None else step]
    return None if name == TOTP else name
