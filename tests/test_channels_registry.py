"""The registry: channels by the name of their type, ours and other people's."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from otpvoice.channels import registry
from otpvoice.channels.base import Channel
from otpvoice.channels.itnio import ItnioVoice
from otpvoice.channels.memory import Memory
from otpvoice.channels.registry import BUNDLED, GROUP, channel_class, create, known_types
from otpvoice.errors import ConfigurationError

MODULE = """
from otpvoice.channels.memory import Memory

class Acme(Memory):
    provider = "acme"

class Rude(Memory):
    @classmethod
    def from_settings(cls, name, settings):
        raise KeyError("s3cret")

from otpvoice.channels.base import Channel

class Half(Channel):
    provider = "half"

thing = object()
"""


class Site:
    """A directory of installed packages, made by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def install(self, distribution: str, *lines: str) -> None:
        info = self.root / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "acme_otpvoice.py").write_text(MODULE)
    (tmp_path / "broken_otpvoice.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name in ("acme_otpvoice", "broken_otpvoice"):
        sys.modules.pop(name, None)


def test_bundled_types_need_no_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no entry point at all (a source tree, a frozen application) our own types are found."""
    monkeypatch.setattr(registry, "entry_points", lambda **_: ())
    assert known_types() == tuple(sorted(BUNDLED))
    for name in BUNDLED:
        assert issubclass(channel_class(name), Channel)


def test_bundled_types_survive_stale_metadata(site: Site) -> None:
    """Metadata of an older install of ours, which names classes that are gone, is not believed."""
    site.install(
        "otpvoice",
        "memory = otpvoice.channels.gone:Gone",
        "itnio-voice = otpvoice.gone:Gone",
        "old = otpvoice.gone:Gone",
    )
    assert channel_class("memory") is Memory
    assert channel_class("itnio-voice") is ItnioVoice
    assert "old" not in known_types()


def test_entry_points_of_the_package_agree() -> None:
    """``pyproject.toml`` lists exactly the bundled types."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == dict(BUNDLED)


def test_third_parties_are_found(site: Site) -> None:
    """A package's line in the group is all that it takes."""
    site.install("acme-otpvoice", "acme-sms = acme_otpvoice:Acme")
    assert "acme-sms" in known_types()
    channel = create("sms", "acme-sms", {"medium": "sms"})
    assert (channel.name, channel.provider) == ("sms", "acme")


def test_listing_imports_nothing(site: Site) -> None:
    """A broken plug-in does not keep the others from being listed or used."""
    site.install("broken-otpvoice", "broken = broken_otpvoice:X")
    assert "broken" in known_types()
    assert "broken_otpvoice" not in sys.modules
    assert isinstance(create("voice", "memory", {}), Memory)


def test_unknown_type_lists_the_known_ones(site: Site) -> None:
    """The message holds what was asked for and everything that there is."""
    site.install("acme-otpvoice", "acme-sms = acme_otpvoice:Acme")
    with pytest.raises(ConfigurationError) as caught:
        create("voice", "itnio-voise", {})
    for words in ("'itnio-voise'", "acme-sms", *BUNDLED):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "bad = broken_otpvoice:X",
            "'bad' of acme-otpvoice cannot be loaded from broken_otpvoice:X: ModuleNotFoundError",
        ),
        ("bad = acme_otpvoice:Nothing", "cannot be loaded from acme_otpvoice:Nothing: AttributeError"),
        ("bad = acme_otpvoice:thing", "acme_otpvoice:thing is not a Channel class"),
        ("bad = acme_otpvoice:Half", "acme_otpvoice:Half lacks capabilities, deliver, from_settings"),
    ],
)
def test_broken_plug_ins_are_named(site: Site, line: str, words: str) -> None:
    """Whatever is wrong with a plug-in, the message names its type, its package and where it points."""
    site.install("acme-otpvoice", line)
    with pytest.raises(ConfigurationError, match=words):
        create("voice", "bad", {})


def test_a_settings_crash_is_a_configuration_error(site: Site) -> None:
    """A plug-in that falls over its settings is named; the exception's words, which may quote them, are not."""
    site.install("acme-otpvoice", "rude = acme_otpvoice:Rude")
    with pytest.raises(
        ConfigurationError, match=r"\[channels\.voice\] .*'rude' did not understand.*KeyError"
    ) as caught:
        create("voice", "rude", {})
    assert "s3cret" not in str(caught.value)


def test_two_packages_may_not_claim_one_type(site: Site) -> None:
    """Which of the two calls people is not left to the order of installation."""
    site.install("acme-otpvoice", "acme-sms = acme_otpvoice:Acme")
    site.install("other-otpvoice", "acme-sms = acme_otpvoice:Rude")
    with pytest.raises(ConfigurationError, match="claimed by acme-otpvoice and by other-otpvoice"):
        channel_class("acme-sms")


def test_nobody_takes_over_a_bundled_type(site: Site) -> None:
    """A package that names its channel like one of ours is refused, not preferred."""
    site.install("evil-otpvoice", "itnio-voice = acme_otpvoice:Acme")
    with pytest.raises(ConfigurationError, match="claimed by evil-otpvoice and by otpvoice"):
        channel_class("itnio-voice")
    assert channel_class("memory") is Memory


def test_settings_reach_the_channel() -> None:
    """``create`` passes the table on; what is wrong in it is named with the table's name."""
    settings = {"api_key": "k", "api_secret": "s", "app_id": "a", "loop_count": 2}
    channel = create("call", "itnio-voice", settings)
    assert isinstance(channel, ItnioVoice)
    assert channel.settings.loop_count == 2
    with pytest.raises(ConfigurationError, match=r"\[channels\.call\] api_key is missing"):
        create("call", "itnio-voice", {"api_secret": "s", "app_id": "a"})


@pytest.mark.parametrize("name", ["", "Voice", "a b", "-x", "x" * 64, "ü", "a\n", 5, None])
def test_names(name: object) -> None:
    """Names stand in URLs, metrics and tables: lower-case letters, digits, ``-`` and ``_``."""
    with pytest.raises(ConfigurationError, match="channel's name"):
        create(name, "memory", {})  # type: ignore[arg-type]


def test_settings_must_be_a_table() -> None:
    """``channels.voice = "memory"`` is a mistake that is easily made."""
    with pytest.raises(ConfigurationError, match=r"\[channels\.voice\] must be a table"):
        create("voice", "memory", "memory")  # type: ignore[arg-type]


def test_entry_points_without_a_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata that names no package is worded, not tripped over."""
    point = EntryPoint(name="odd", value="no_such_module:X", group=GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: (point,))
    with pytest.raises(ConfigurationError, match="of an unnamed package cannot be loaded"):
        channel_class("odd")
