"""ITNIO from the environment: which channels it makes, and that voice and SMS keep their own application ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from otpvoice import settings
from otpvoice.channels.base import Channel
from otpvoice.channels.itnio import ItnioVoice
from otpvoice.channels.itnio_sms import ItnioSMS
from otpvoice.config import build_channels
from otpvoice.errors import ConfigurationError

CREDENTIALS = {"API_KEY": "k", "API_SECRET": "s"}


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The channels of an environment, given without its prefix, and of a configuration file."""

    def build(*, toml: str = "", **variables: str) -> dict[str, Channel]:
        for name, value in variables.items():
            monkeypatch.setenv(f"OTPVOICE_ITNIO_{name}", value)
        file = tmp_path / "otpvoice.toml"
        file.write_text(toml)
        return build_channels(settings.read(file))

    return build


def test_each_application_makes_its_channel(channels) -> None:
    both = channels(
        **CREDENTIALS, APP_ID="voice-app", SMS_APP_ID="sms-app", SENDER_ID="Example", DISPLAY_NUM="15005550001"
    )
    assert sorted(both) == ["sms", "voice"]
    assert isinstance(both["voice"], ItnioVoice)
    assert isinstance(both["sms"], ItnioSMS)
    assert (both["voice"].settings.app_id, both["voice"].settings.display_num) == ("voice-app", "15005550001")
    assert (both["sms"].settings.app_id, both["sms"].settings.sender_id) == ("sms-app", "Example")


def test_voice_alone(channels) -> None:
    assert list(channels(**CREDENTIALS, APP_ID="voice-app", SENDER_ID="Example")) == ["voice"]


def test_sms_alone(channels) -> None:
    assert list(channels(**CREDENTIALS, SMS_APP_ID="sms-app", MAX_DURATION="60")) == ["sms"]


def test_what_both_share(channels) -> None:
    both = channels(
        **CREDENTIALS,
        APP_ID="voice-app",
        SMS_APP_ID="sms-app",
        BASE_URL="https://api.onbuka.com",
        PATH_PREFIX="/v3",
        SMS_PATH="",
        REPORT_IPS="192.0.2.0/24, 2001:db8::7",
        CONFIRM_REPORTS="true",
    )
    for channel in both.values():
        assert isinstance(channel, ItnioVoice | ItnioSMS)
        shared = channel.settings
        assert (shared.base_url, shared.path_prefix, shared.sms_path) == ("https://api.onbuka.com", "/v3", "")
        assert [str(network) for network in shared.report_ips] == ["192.0.2.0/24", "2001:db8::7/128"]
        assert shared.confirm_reports


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        (CREDENTIALS, "OTPVOICE_ITNIO_APP_ID"),
        ({"API_KEY": "k", "APP_ID": "a"}, "OTPVOICE_ITNIO_API_SECRET"),
        ({"API_KEY": "k", "SMS_APP_ID": "a"}, "OTPVOICE_ITNIO_API_SECRET"),
        ({"SMS_APP_ID": "a"}, "OTPVOICE_ITNIO_API_KEY and OTPVOICE_ITNIO_API_SECRET"),
    ],
)
def test_configured_in_part(channels, variables: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        channels(**variables)


def test_tables_take_the_right_application(channels) -> None:
    """A table without ``app_id`` takes the environment's of its own product, never the other's."""
    tables = '[channels.text]\ntype = "itnio-sms"\n[channels.second]\ntype = "itnio-voice"\nmax_duration = 50\n'
    made = channels(toml=tables, **CREDENTIALS, APP_ID="voice-app", SMS_APP_ID="sms-app")
    assert isinstance(made["text"], ItnioSMS)
    assert isinstance(made["second"], ItnioVoice)
    assert (made["text"].settings.app_id, made["second"].settings.app_id) == ("sms-app", "voice-app")
    assert sorted(made) == ["second", "sms", "text", "voice"]


def test_a_table_named_sms_has_the_name(channels) -> None:
    made = channels(toml='[channels.sms]\ntype = "console"\nmedium = "sms"\n', **CREDENTIALS, SMS_APP_ID="a")
    assert list(made) == ["sms"]
    assert not isinstance(made["sms"], ItnioSMS)


def test_an_sms_table_is_not_given_the_voice_application(channels) -> None:
    with pytest.raises(ConfigurationError, match="app_id is missing"):
        channels(toml='[channels.text]\ntype = "itnio-sms"\n', **CREDENTIALS, APP_ID="voice-app")


def test_credentials_that_a_table_uses_make_no_channel_of_their_own(channels) -> None:
    assert list(channels(toml='[channels.text]\ntype = "itnio-sms"\napp_id = "a"\n', **CREDENTIALS)) == ["text"]


def test_the_default_route_stays_voice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second channel costs nothing until a route names it."""
    from otpvoice.config import from_settings

    for name, value in {**CREDENTIALS, "APP_ID": "v", "SMS_APP_ID": "s"}.items():
        monkeypatch.setenv(f"OTPVOICE_ITNIO_{name}", value)
    monkeypatch.setenv("OTPVOICE_SECRET", "correct-horse-battery-staple-0123456789")
    monkeypatch.setenv("OTPVOICE_DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    monkeypatch.chdir(tmp_path)
    assert from_settings(settings.read()).context.policies["login"].route.channels == ("voice",)
    monkeypatch.setenv("OTPVOICE_ROUTE", "sms,voice")
    assert from_settings(settings.read()).context.policies["login"].route.channels == ("sms", "voice")
