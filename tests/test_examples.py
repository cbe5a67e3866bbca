"""The login flows of examples/ run as they are, against a simulated provider."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from otpvoice import default
from otpvoice.simulator.server import SimulatedItnio
from tests.cli_helpers import configure
from tests.conftest import NUMBER, SECRET

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def itnio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_template: Path) -> Iterator[SimulatedItnio]:
    """A simulated provider, and default services that are built from this test's environment."""
    (tmp_path / "login.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.setattr(default, "_service", None)
    monkeypatch.setattr(default, "_async_service", None)
    monkeypatch.setenv("SESSION_KEY", SECRET)
    with SimulatedItnio() as simulator:
        configure(monkeypatch, simulator, f"sqlite:///{tmp_path}/login.db", SECRET)
        yield simulator
        if default._service is not None:
            default._service.close()


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrong(code: str) -> str:
    return str((int(code) + 1) % 10 ** len(code)).zfill(len(code))


def test_fastapi(itnio: SimulatedItnio) -> None:
    app = load("fastapi_login").app

    async def log_in() -> None:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as browser:
            called = await browser.post("/login", json={"phone": NUMBER})
            assert called.json() == {"called": "+84•••••••78"}
            code = itnio.calls[-1].heard_code
            assert code is not None
            refused = await browser.post("/login/code", json={"code": wrong(code)})
            assert (refused.status_code, "4 attempts left" in refused.json()["detail"]) == (403, True)
            approved = await browser.post("/login/code", json={"code": code})
            assert (approved.status_code, approved.json()) == (200, {"welcome": NUMBER})
            again = await browser.post("/login/code", json={"code": code})
            assert again.status_code == 403
            assert (await browser.post("/login", json={"phone": "12345"})).status_code == 403
            assert (await browser.post("/login", json={"phone": [NUMBER]})).status_code == 422
            failed = await browser.post("/login", json={"phone": "+84912345910"})
            assert (failed.status_code, failed.json()) == (503, {"detail": "try again later"})
        assert default._async_service is not None
        await default._async_service.close()

    asyncio.run(log_in())


def test_flask(itnio: SimulatedItnio) -> None:
    module = load("flask_login")
    browser = module.app.test_client()
    with browser.session_transaction() as session:
        session["phone"], session["account"] = NUMBER, "alice"
    assert browser.post("/second-factor").json == {"called": "+84•••••••78"}
    code = itnio.calls[-1].heard_code
    assert code is not None
    refused = browser.post("/second-factor/code", data={"code": wrong(code)})
    assert (refused.status_code, "4 attempts left" in refused.json["detail"]) == (403, True)
    approved = browser.post("/second-factor/code", data={"code": code})
    assert (approved.status_code, approved.json) == (200, {"approved": True})
    with browser.session_transaction() as session:
        assert session["second_factor"] is True
        session["account"] = "mallory"
    assert browser.post("/second-factor/code", data={"code": code}).status_code == 403


def test_each_is_short() -> None:
    """A login flow is some fifteen statements, imports aside."""
    for file in EXAMPLES.glob("*_login.py"):
        lines = [line for line in file.read_text().splitlines()[1:] if line.strip()]
        body = [line for line in lines if not line.startswith(("import ", "from "))]
        assert len(body) <= 20, file.name
