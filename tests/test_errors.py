"""The error tree: what callers may rely on, and that no message says too much."""

from __future__ import annotations

import inspect
import pickle
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otpvoice
from otpvoice import errors
from otpvoice.errors import (
    ChallengeClosed,
    CodeMismatch,
    DeliveryError,
    InvalidRecipient,
    InvalidRequest,
    LockedOut,
    MalformedCode,
    OTPVoiceError,
    ProviderThrottled,
    RateLimited,
    ServiceBusy,
    StoreUnavailable,
    VerificationFailed,
)

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]


@pytest.mark.parametrize("error", [item for item in CLASSES if not item.__name__.startswith("_")])
def test_every_error_is_drawn_in_the_tree(error: type[Exception]) -> None:
    """The module's docstring shows each class, below its own parent."""
    tree = [line for line in (errors.__doc__ or "").splitlines() if re.search(r"[├└]──|^    OTPVoiceError", line)]
    path: dict[int, str] = {}
    parents = {}
    for line in tree:
        name = re.search(r"[A-Z]\w+", line)
        assert name is not None
        depth = name.start()
        path[depth] = name[0]
        parents[name[0]] = next((path[d] for d in sorted(path, reverse=True) if d < depth), None)
        path = {d: found for d, found in path.items() if d <= depth}
    assert error.__name__ in parents
    parent = parents[error.__name__]
    if parent is not None:
        assert parent in {base.__name__ for base in error.__mro__[1:]}
    assert issubclass(error, OTPVoiceError)
    assert inspect.getdoc(error)


def test_wrong_input_is_a_value_error_and_nothing_else_is() -> None:
    """``except ValueError`` must not swallow a lockout."""
    assert {item for item in CLASSES if issubclass(item, ValueError)} == {
        item for item in CLASSES if issubclass(item, InvalidRequest)
    }
    assert issubclass(InvalidRecipient, InvalidRequest)


def test_no_error_of_verifying_is_mistaken_for_another() -> None:
    """A refusal is no mismatch, a busy service is neither."""
    assert not issubclass(LockedOut, VerificationFailed)
    assert not issubclass(ServiceBusy, VerificationFailed)
    assert issubclass(StoreUnavailable, ServiceBusy)
    assert issubclass(MalformedCode, CodeMismatch)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "1 s"),
        (timedelta(milliseconds=1), "1 s"),
        (timedelta(seconds=-5), "1 s"),
        (timedelta(seconds=29, milliseconds=1), "30 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(seconds=120), "2 min"),
        (timedelta(seconds=121), "3 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=2, seconds=1), "3 h"),
    ],
)
def test_waits_are_told_rounded_up(span: timedelta, words: str) -> None:
    """Waiting as long as the message says suffices."""
    assert errors.seconds(span) == words


@given(st.timedeltas(timedelta(0), timedelta(days=400)))
def test_what_is_told_is_never_too_short(span: timedelta) -> None:
    """For every span."""
    number, unit = errors.seconds(span).split()
    assert int(number) * {"s": 1, "min": 60, "h": 3600}[unit] >= span.total_seconds()


def test_messages_help() -> None:
    """What was wrong, and when to come back."""
    limited = RateLimited("5 sends a challenge", retry_after=timedelta(seconds=30))
    assert (str(limited), limited.limit, limited.retry_after.seconds) == (
        "5 sends a challenge; try again in 30 s",
        "5 sends a challenge",
        30,
    )
    assert "30 min" in str(LockedOut(retry_after=timedelta(minutes=30)))
    assert str(CodeMismatch(1)).endswith("1 attempt left")
    assert str(CodeMismatch(0)).endswith("0 attempts left")
    assert ServiceBusy().retry_after == timedelta(seconds=1)


def test_a_closed_challenge_does_not_say_why_to_everybody() -> None:
    """P83: one message for every reason; the reason is for the holder's log."""
    reasons = ("approved", "expired", "exhausted", "cancelled", "unknown")
    assert len({str(ChallengeClosed(reason)) for reason in reasons}) == 1
    assert [ChallengeClosed(reason).reason for reason in reasons] == list(reasons)


def test_delivery_errors_name_provider_and_reason() -> None:
    """Their class decides what may follow; each has a normalised word."""
    kinds = [item for item in CLASSES if issubclass(item, DeliveryError)]
    assert len({item.reason for item in kinds}) == len(kinds)
    assert {item.__name__ for item in kinds if item.retryable} == {"ProviderUnavailable", "ProviderThrottled"}
    error = ProviderThrottled("slow down", provider="itnio", code="-17", retry_after=timedelta(seconds=9))
    assert (error.provider, error.code, error.retry_after.seconds, error.challenge) == ("itnio", "-17", 9, None)


def test_what_is_public_is_exported() -> None:
    """Every error that a caller may meet can be imported from ``otpvoice``, and every listed name exists."""
    assert sorted(set(otpvoice.__all__)) == list(otpvoice.__all__)
    assert all(hasattr(otpvoice, name) for name in otpvoice.__all__)
    for item in CLASSES:
        if not item.__name__.startswith("_"):
            assert item.__name__ in otpvoice.__all__, item.__name__


@pytest.mark.parametrize("error", [ChallengeClosed("expired"), CodeMismatch(3), InvalidRecipient("x")])
def test_errors_survive_a_process_border(error: OTPVoiceError) -> None:
    """Task queues pickle them."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
