"""The module-level functions: one default service, from the environment, built once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import otpvoice
from otpvoice import CodeMismatch, OTPService, WeakSecret, default
from otpvoice.service import AsyncOTPService
from tests.conftest import NUMBER, SECRET


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No default service yet, and a configuration of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default, "_service", None)
    monkeypatch.setattr(default, "_async_service", None)
    monkeypatch.setenv("OTPVOICE_SECRET", SECRET)
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", f"sqlite:///{tmp_path}/otpvoice.db")
    monkeypatch.setenv("OTPVOICE_HASH_PROFILE", "fast")
    monkeypatch.setenv("OTPVOICE_CHANNELS", '{"voice": {"type": "memory"}}')
    monkeypatch.setenv("OTPVOICE_POLICY", '{"cooldowns": [0]}')
    yield
    if default._service is not None:
        default._service.close()
    if default._async_service is not None:
        asyncio.run(default._async_service.close())


def code(service: Any) -> str:
    sent: str = service._context.channels["voice"].sent[-1].code
    return sent


def test_a_login_in_three_calls() -> None:
    """Issue, resend, verify, with nothing constructed."""
    challenge = otpvoice.issue_code(NUMBER, purpose="login", subject="alice")
    first = code(default.default_service())
    with pytest.raises(CodeMismatch):
        otpvoice.verify_code(challenge.id, f"{(int(first) + 1) % 10**6:06d}")
    otpvoice.resend_code(challenge.id)
    proof = otpvoice.verify_code(challenge.id, code(default.default_service()), purpose="login", subject="alice")
    assert proof.recipient == NUMBER


def test_the_same_asynchronously() -> None:
    """The twins, on a service of their own over the same database."""

    async def story() -> None:
        challenge = await otpvoice.aissue_code(NUMBER, purpose="login")
        await otpvoice.aresend_code(challenge.id)
        service = default.default_async_service()
        assert (await otpvoice.averify_code(challenge.id, code(service))).recipient == NUMBER
        await service.close()

    asyncio.run(story())
    default._async_service = None


def test_what_one_colour_issued_the_other_verifies() -> None:
    """One database, one secret."""
    challenge = otpvoice.issue_code(NUMBER, purpose="login")
    sent = code(default.default_service())

    async def verify() -> None:
        assert await otpvoice.averify_code(challenge.id, sent)
        await default.default_async_service().close()

    asyncio.run(verify())
    default._async_service = None


def test_it_is_built_once_whoever_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen threads at once get one service."""
    built: list[OTPService] = []
    from_env = OTPService.from_env
    together = threading.Barrier(16)

    def counted() -> OTPService:
        built.append(from_env())
        return built[-1]

    monkeypatch.setattr(OTPService, "from_env", counted)
    found: list[OTPService] = []

    def ask() -> None:
        together.wait(20)
        found.append(default.default_service())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(built), len(found), len(set(map(id, found)))) == (1, 16, 1)


def test_a_wrong_configuration_is_told_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """And mended without a restart of Python."""
    monkeypatch.setenv("OTPVOICE_SECRET", "short")
    for _ in range(2):
        with pytest.raises(WeakSecret):
            otpvoice.issue_code(NUMBER, purpose="login")
        with pytest.raises(WeakSecret):
            asyncio.run(otpvoice.aissue_code(NUMBER, purpose="login"))
    monkeypatch.setenv("OTPVOICE_SECRET", SECRET)
    assert otpvoice.issue_code(NUMBER, purpose="login")


@pytest.mark.parametrize("name", ["issue_code", "verify_code", "resend_code"])
def test_signatures_are_those_of_the_services(name: str) -> None:
    """Functions, their twins and both services' methods take the same and return the same."""

    def shape(function: Any) -> Any:
        signature = inspect.signature(function)
        parameters = [item for item in signature.parameters.values() if item.name != "self"]
        return [
            (item.name, item.kind, item.default, item.annotation) for item in parameters
        ], signature.return_annotation

    shapes = [
        shape(item)
        for item in (
            getattr(otpvoice, name),
            getattr(otpvoice, f"a{name}"),
            getattr(OTPService, name),
            getattr(AsyncOTPService, name),
        )
    ]
    assert all(item == shapes[0] for item in shapes)
