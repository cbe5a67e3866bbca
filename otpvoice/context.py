"""What every flow is given: keys, policies and channels; and the shapes that flows share."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from otpvoice import inputs
from otpvoice.channels.base import Channel
from otpvoice.clock import Pace
from otpvoice.errors import ConfigurationError, UnknownChannel, UnknownPurpose
from otpvoice.keys import Keyring
from otpvoice.policy import Policy
from otpvoice.speech.wordings import Wordings
from otpvoice.store import wakeups
from otpvoice.store.challenges import ChallengeRow
from otpvoice.types import Address, Binding, Recipient

if TYPE_CHECKING:
    from sqlalchemy import Connection

TOTP = "totp"
"""The route step that asks for an authenticator-app code: nothing is sent, so it is no channel."""

SWEEP = timedelta(seconds=15)
"""How often a process writes expired challenges down and wipes their tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One tenant's view of the installation."""

    keyring: Keyring
    policies: Mapping[str, Policy]
    channels: Mapping[str, Channel]
    tenant: str = "default"
    brand: str = ""
    """Who the text says it comes from."""
    default_locale: str = "en"
    wordings: Wordings | None = None
    sms_host: str | None = None
    sms_app_hash: str | None = None
    lease: timedelta = timedelta(seconds=60)
    """How long one sending may take before another process may look after it."""
    deferred: bool = False
    """Whether a worker sends: issuing only queues then, and answers alike and as fast whatever a provider does."""
    randbelow: Callable[[int], int] = field(default=secrets.randbelow, repr=False)
    sweeps: Pace = field(default_factory=lambda: Pace(SWEEP), repr=False, compare=False)
    """When this process, if no worker runs, sweeps again."""

    def __post_init__(self) -> None:
        for purpose, policy in self.policies.items():
            unknown = [name for name in policy.route.channels if name not in self.channels and name != TOTP]
            if unknown:
                raise ConfigurationError(
                    f"purpose {purpose!r} routes through {', '.join(map(repr, unknown))}, which no channel is named; "
                    f"configured are: {', '.join(sorted(self.channels)) or 'none'}"
                )

    def policy(self, purpose: str) -> Policy:
        """The policy of a purpose. Raises :class:`~otpvoice.errors.UnknownPurpose`."""
        policy = self.policies.get(purpose) if isinstance(purpose, str) else None
        if policy is None:
            raise UnknownPurpose(
                f"purpose {inputs.shown(purpose)} is not configured; known are: {', '.join(sorted(self.policies))}"
            )
        return policy

    def channel(self, name: str) -> Channel:
        """A channel by name. Raises :class:`~otpvoice.errors.UnknownChannel`."""
        channel = self.channels.get(name)
        if channel is None:
            configured = ", ".join(sorted(self.channels)) or "none"
            raise UnknownChannel(f"no channel is named {inputs.shown(name)}; configured are: {configured}")
        return channel

    def wake(self, connection: Connection) -> None:
        """Tell workers that something is due, once the transaction has committed."""
        wakeups.notify(connection)

    def of(self, tenant: str) -> Self:
        """The same installation seen by another tenant; its policies are those that challenges carry."""
        return self if tenant == self.tenant else replace(self, tenant=tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """What a challenge must know again to send, and nobody may read in the database."""

    recipient: Recipient | None
    subject: str | None
    binding: Binding | None
    locale: str | None

    def seal(self, keyring: Keyring, challenge_id: str) -> bytes:
        """Encrypted for this challenge only."""
        # The recipient as it was parsed: reading it again costs nothing, and no later release reads it otherwise.
        members: dict[str, Any] = {
            "recipient": None if self.recipient is None else asdict(self.recipient),
            "subject": self.subject,
            "binding": None if self.binding is None else self.binding.as_dict(),
            "locale": self.locale,
        }
        return keyring.seal(json.dumps(members).encode(), context=f"challenge:{challenge_id}")

    @classmethod
    def unseal(cls, keyring: Keyring, row: ChallengeRow) -> Self:
        """The reverse. Raises :class:`~otpvoice.errors.ConfigurationError` when the key is gone or the row changed."""
        if row.sealed is None:
            raise ConfigurationError("the challenge's recipient was erased")
        members = json.loads(keyring.unseal(row.sealed, context=f"challenge:{row.id}"))
        recipient = members["recipient"]
        return cls(
            recipient=None
            if recipient is None
            else Recipient(**(recipient | {"address": Address(recipient["address"])})),
            subject=members["subject"],
            binding=None if members["binding"] is None else Binding.from_dict(members["binding"]),
            locale=members["locale"],
        )


def new_id(prefix: str) -> str:
    """An id with 128 random bits, as 32 hexadecimal digits: ``ch_…`` a challenge, ``dl_…`` a delivery."""
    return f"{prefix}_{secrets.token_hex(16)}"


def digest(binding: Binding | None) -> bytes | None:
    """A binding as the tag takes it: equal for equal members, whatever their order."""
    if binding is None:
        return None
    return hashlib.sha256(json.dumps(binding.as_dict(), sort_keys=True).encode()).digest()
