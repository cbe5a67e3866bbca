"""The house keeps its shape: imports point downwards only, libraries stay in their rooms, both colours are alike."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import otpvoice
from otpvoice import AsyncOTPService, OTPService, default, runner

PACKAGE = Path(otpvoice.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "flow policy types keys clock errors",
        "lockout codes recipients inputs",
        "store channels",
        "guard speech",
        "context routing views delivery issuance verification totp reports reconciliation upkeep proof tenant_keys",
        "runner settings config service default worker",
        "http cli contrib simulator webhooks __main__",
    )
)
"""The drawing of the design's section 2, from the ground up. A new room belongs on one of these floors.

Pure rules that need neither edge stand under both, for the store's rows carry a ledger and a mailbox channel checks
its own sender; and the worker is assembled like a service, which may house one. Its surface is the command.
"""

STRANGERS = {"store": {"channels"}, "channels": {"store"}}
"""The two edges do not know each other."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "sqlalchemy": ("store/",),
    "alembic": ("store/migrate.py",),
    "psycopg": ("store/",),
    "httpx": ("channels/", "runner.py", "flow.py"),
    "argon2": ("codes.py",),
    "cryptography": ("keys.py", "proof.py"),
    "phonenumbers": ("recipients.py",),
    "pyotp": ("totp.py",),
    "fastapi": ("http/", "simulator/"),
    "starlette": ("http/", "simulator/"),
    "uvicorn": ("http/", "simulator/"),
    "typer": ("cli/",),
    "rich": ("cli/",),
}
"""Where a library may be imported at run time. Types alone (``if TYPE_CHECKING``) may be used anywhere."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The modules a file imports when it runs, wherever in the file; what only type checkers see is left out."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")).body)


def _imports(body: list[Any]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "otpvoice" else (module,)
        else:
            for inner in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _imports(getattr(node, inner, None) or [])


def test_an_import_is_seen_wherever_it_is(tmp_path: Path) -> None:
    """Inside functions and branches too; only what type checkers alone see is not counted."""
    path = tmp_path / "room.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import fastapi\n"
        "try:\n    import typer\nexcept ImportError:\n    import rich.console\n"
        "def later():\n    if True:\n        from otpvoice.store.tables import event\n"
        "    with open('x'):\n        from otpvoice import service\n",
        encoding="utf-8",
    )
    seen = {"typing", "typer", "rich.console", "otpvoice.store.tables", "otpvoice.service"}
    assert set(imports(path)) == seen
    assert own_rooms(path) == {"store", "service"}
    assert floor_of("store") < floor_of("service")


def floor_of(room: str) -> int:
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert len(floors) == 1, f"{room!r} is on no floor: put it on one (design, section 2)"
    return floors[0]


def own_rooms(path: Path) -> set[str]:
    found = {one.split(".")[1] for one in imports(path) if one.startswith("otpvoice.")}
    return {one for one in found if (PACKAGE / one).is_dir() or (PACKAGE / f"{one}.py").is_file()}


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_imports_point_downwards_only(path: Path) -> None:
    """A room knows its own floor and those below; the two edges do not know each other."""
    room = room_of(path)
    for known in own_rooms(path) - {room}:
        assert floor_of(known) <= floor_of(room), f"{name_of(path)} looks up to {known}"
        assert known not in STRANGERS.get(room, ()), f"{name_of(path)} knows {known}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    for module in imports(path):
        rooms = LIBRARIES.get(module.split(".")[0])
        if rooms is not None:
            assert name_of(path).startswith(rooms), f"{name_of(path)} imports {module}"


def test_migrations_know_the_store_alone() -> None:
    """History is not rewritten by a change of the package's types: revisions import nothing of it."""
    folder = PACKAGE.parent / "migrations"
    if not folder.is_dir():
        folder = PACKAGE / "migrations"
    for path in sorted(folder.glob("versions/*.py")):
        assert not [one for one in imports(path) if one.startswith("otpvoice")], path.name
    assert own_rooms(folder / "env.py") == {"store"}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_no_init_holds_logic(path: Path) -> None:
    """A docstring, imports and ``__all__``, nothing else."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert text or names or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


def methods(kind: type) -> dict[str, Any]:
    """Public methods, and those that make it a context manager."""
    found = inspect.getmembers(kind, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    return {name: member for name, member in found if not name.startswith("_") or name == "__init__"}


def test_both_services_have_equal_signatures() -> None:
    """Neither colour is second class: the same methods, parameters, defaults and results."""
    sync, coloured = methods(OTPService), methods(AsyncOTPService)
    assert set(sync) == set(coloured)
    for name, member in sync.items():
        assert inspect.signature(member) == inspect.signature(coloured[name]), name
    assert inspect.iscoroutinefunction(AsyncOTPService.__aenter__)
    assert hasattr(OTPService, "__enter__")


def test_each_method_is_awaited_or_not_in_one_way() -> None:
    """What runs a flow is a coroutine in the one and none in the other; what runs none is none in both."""
    for name, member in methods(AsyncOTPService).items():
        assert not inspect.iscoroutinefunction(getattr(OTPService, name))
        runs = "self._" in inspect.getsource(getattr(OTPService, name)) and name in vars(OTPService)
        assert inspect.iscoroutinefunction(member) == runs, name


def test_module_level_functions_are_the_services_methods() -> None:
    """``issue_code`` and ``aissue_code`` take and give what the methods do."""
    for name in ("issue_code", "verify_code", "resend_code"):
        method = inspect.signature(getattr(OTPService, name))
        bare = method.replace(parameters=[one for one in method.parameters.values() if one.name != "self"])
        assert inspect.signature(getattr(default, name)) == bare, name
        assert inspect.signature(getattr(default, f"a{name}")) == bare, name
        assert inspect.iscoroutinefunction(getattr(default, f"a{name}"))
        assert not inspect.iscoroutinefunction(getattr(default, name))


def test_both_runners_know_every_step() -> None:
    """A step that one of the runners does not know would be performed as None."""
    steps = {"Transact", "TakeSeat", "Hash", "Exchange", "Call"}
    from otpvoice import flow

    assert {one.__name__ for one in flow.Step.__args__} == steps
    for kind in (runner.Runner, runner.AsyncRunner):
        source = inspect.getsource(kind)
        assert {step for step in steps if f"case {step}()" in source} == steps


def test_what_is_public_is_listed_and_there() -> None:
    """``__all__`` is sorted, whole, and every name of it exists."""
    assert list(otpvoice.__all__) == sorted(otpvoice.__all__)
    for name in otpvoice.__all__:
        assert hasattr(otpvoice, name), name


def test_no_public_signature_takes_anything() -> None:
    """No ``**kwargs``: a misspelt option is an error, not a silence."""
    for kind in (OTPService, AsyncOTPService):
        for name, member in methods(kind).items():
            kinds = {one.kind for one in inspect.signature(member).parameters.values()}
            assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}, name
