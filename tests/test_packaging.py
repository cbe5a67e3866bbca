"""Wheel, sdist, a wheel built from the sdist, editable install: each works outside a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from otpvoice.store import migrate

ROOT = Path(__file__).parent.parent
LOCALES = {file.name for file in (ROOT / "otpvoice" / "speech" / "locales").glob("*.toml")}
VERSIONS = {file.name for file in (ROOT / "migrations" / "versions").glob("*.py")}


def call(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run a command in a clean environment, with ``path`` and this interpreter's libraries to import from."""
    libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
    own = [] if path is None else [str(path)]
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTPVOICE_", "PYTHON"))},
        "PYTHONPATH": os.pathsep.join([*own, *libraries]),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    ran = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def built(kind: str, source: Path, folder: Path) -> Path:
    """The one file that ``python -m build`` makes."""
    call(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", folder, source, cwd=folder)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module", params=["from the checkout", "from the sdist"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sdist: Path) -> Path:
    source = ROOT
    if request.param == "from the sdist":
        unpacked = tmp_path_factory.mktemp("unpacked")
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        (source,) = unpacked.iterdir()
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


def works(python: Path | str, folder: Path, path: Path | None = None) -> str:
    """Upgrade, check and use a database in a folder that is no checkout; returns where otpvoice was imported from."""
    assert not list(folder.glob("*.db"))
    command = (python, "-m", "otpvoice")
    assert "created" in call(*command, "db", "upgrade", cwd=folder, path=path)
    assert migrate.REVISION in call(*command, "db", "check", cwd=folder, path=path)
    assert "tám" in call(*command, "say", "--locale", "vi", "--code", "888888", cwd=folder, path=path)
    script = "import otpvoice; from otpvoice.store import migrate; print(otpvoice.__file__); print(migrate.location())"
    return call(python, "-c", script, cwd=folder, path=path)


def test_the_wheel_holds_what_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "otpvoice/py.typed" in names
    assert "otpvoice/migrations/env.py" in names
    assert {f"otpvoice/migrations/versions/{name}" for name in VERSIONS} <= names
    assert {f"otpvoice/speech/locales/{name}" for name in LOCALES} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"otpvoice", wheel.name.split("-py3")[0] + ".dist-info"}
    assert not [name for name in names if name.endswith((".pyc", ".db", ".key", "otpvoice.toml"))]


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, "--target", site, wheel, cwd=tmp_path)
    imported, migrations = works(sys.executable, elsewhere, site).split()
    assert Path(imported) == site / "otpvoice" / "__init__.py"
    assert Path(migrations) == site / "otpvoice" / "migrations"


def test_the_editable_install_works_outside_the_checkout(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, "--no-build-isolation", "--editable", ROOT, cwd=tmp_path)
    imported, migrations = works(python, elsewhere).split()
    assert Path(imported) == ROOT / "otpvoice" / "__init__.py"
    assert Path(migrations) == ROOT / "migrations"


def test_the_sdist_can_be_tested(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py", "docs/README.md"} <= names
    assert {"examples/fastapi_login.py", "migrations/env.py", ".ci/run"} <= names
