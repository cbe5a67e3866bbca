"""Settings: the file, the environment and secrets in files; strict, and silent about secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from otpvoice import settings
from otpvoice.errors import ConfigurationError

SECRET = "a-root-secret-with-Entropy-4711-and-more-of-it"
OLDER = "an-older-root-secret-with-Entropy-0815-and-so-on"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "otpvoice.toml").write_text(text, encoding="utf-8")


def test_nothing_is_needed_to_read() -> None:
    """The embedded database, no channel, no secret: what is missing is said where it is needed."""
    read = settings.read()
    assert read.database_url == "sqlite:///otpvoice.db"
    assert (read.root_secrets(), read.itnio(), read.development, read.countries) == ([], {}, False, None)


def test_the_file_is_read_and_the_environment_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same keys in both; what the environment does not name stays the file's."""
    write(folder, 'brand = "file"\ndefault_locale = "vi"\nroute = ["sms", "voice"]\nhash_queue = 7\n')
    monkeypatch.setenv("OTPVOICE_BRAND", "environment")
    read = settings.read()
    assert (read.brand, read.default_locale, read.route, read.hash_queue) == ("environment", "vi", ["sms", "voice"], 7)


def test_a_file_can_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument, then by ``OTPVOICE_CONFIG``, then ``otpvoice.toml`` of the working directory."""
    for name in ("argument", "variable", "otpvoice"):
        (folder / f"{name}.toml").write_text(f'brand = "{name}"\n', encoding="utf-8")
    assert settings.read().brand == "otpvoice"
    monkeypatch.setenv("OTPVOICE_CONFIG", str(folder / "variable.toml"))
    assert settings.read().brand == "variable"
    assert settings.read(folder / "argument.toml").brand == "argument"


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_named_file_must_exist(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A typo in its name is not an empty configuration."""
    missing = folder / "missing.toml"
    monkeypatch.setenv("OTPVOICE_CONFIG", str(missing)) if how == "variable" else None
    with pytest.raises(ConfigurationError, match=r"missing\.toml"):
        settings.read(missing if how == "argument" else None)


@pytest.mark.parametrize("content", [b"brand = ", b"\xff\xfe\x00", b"[purposes", b"brand = 'a'\nbrand = 'b'", b"\x00"])
def test_a_file_that_is_no_toml(folder: Path, content: bytes) -> None:
    """Our error, with its name."""
    (folder / "otpvoice.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"otpvoice\.toml"):
        settings.read()


def test_a_directory_in_place_of_a_file(folder: Path) -> None:
    """Named and unreadable."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        settings.read(folder)


def test_every_wrong_key_is_named_at_once(folder: Path) -> None:
    """Unknown keys, wrong types and numbers out of range, each with its environment variable."""
    write(
        folder,
        'brnad = "x"\nhash_permits = 0\nhash_queue = -1\npool_size = "many"\ndevelopment = "perhaps"\nsecret = 7\n',
    )
    with pytest.raises(ConfigurationError) as refused:
        settings.read()
    for name in ("brnad", "hash_permits", "hash_queue", "pool_size", "development", "secret"):
        assert f"{name} (OTPVOICE_{name.upper()})" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HASH_PERMITS", "0"),
        ("HASH_PERMITS", "many"),
        ("POOL_SIZE", "201"),
        ("DEVELOPMENT", "perhaps"),
        ("ITNIO_LOOP_COUNT", "two"),
        ("PURPOSES", "{"),
        ("CHANNELS", "[1]"),
        ("POLICY", "nonsense"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Whatever is wrong with it, also JSON that is none."""
    monkeypatch.setenv(f"OTPVOICE_{name}", value)
    with pytest.raises(ConfigurationError, match=f"(?i){name}"):
        settings.read()


@pytest.mark.parametrize("name", ["SECRET", "ITNIO_API_SECRET", "BRAND", "DATABASE_URL"])
def test_a_variable_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Bytes of another encoding would fail in the middle of a call."""
    monkeypatch.setenv(f"OTPVOICE_{name}", "abc\udcff")
    with pytest.raises(ConfigurationError, match=f"OTPVOICE_{name} is not text"):
        settings.read()


def test_no_message_repeats_a_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a secret in the wrong place."""
    write(folder, f'secret = {{ key = "{SECRET}" }}\nhash_permits = "{SECRET}"\nitnio_api_secret = ["{SECRET}"]\n')
    with pytest.raises(ConfigurationError) as refused:
        settings.read()
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_nothing_prints_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repr of the settings shows neither root secrets nor ITNIO's."""
    monkeypatch.setenv("OTPVOICE_SECRET", f"{SECRET},{OLDER}")
    monkeypatch.setenv("OTPVOICE_ITNIO_API_SECRET", "itnio-secret-4711")
    read = settings.read()
    shown = repr(read) + str(read) + repr(read.model_dump())
    assert SECRET not in shown
    assert OLDER not in shown
    assert "itnio-secret-4711" not in shown
    assert read.root_secrets() == [SECRET, OLDER]


@pytest.mark.parametrize("text", [f"{SECRET}\n{OLDER}\n", f"{SECRET},{OLDER}", f"\n{SECRET} , \n{OLDER}\n\n"])
def test_secrets_from_a_file_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """One a line or with commas; the file wins over the setting."""
    (folder / "secret").write_text(text, encoding="utf-8")
    monkeypatch.setenv("OTPVOICE_SECRET_FILE", str(folder / "secret"))
    monkeypatch.setenv("OTPVOICE_SECRET", "not-this-one")
    assert settings.read().root_secrets() == [SECRET, OLDER]


def test_itnios_secret_from_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the line's end; one that cannot be read is named."""
    (folder / "secret").write_text("itnio-secret-4711\n", encoding="utf-8")
    monkeypatch.setenv("OTPVOICE_ITNIO_API_SECRET_FILE", str(folder / "secret"))
    assert settings.read().itnio()["api_secret"] == "itnio-secret-4711"
    monkeypatch.setenv("OTPVOICE_ITNIO_API_SECRET_FILE", str(folder / "nowhere"))
    with pytest.raises(ConfigurationError, match="itnio_api_secret_file"):
        settings.read().itnio()
    monkeypatch.setenv("OTPVOICE_SECRET_FILE", str(folder / "nowhere"))
    with pytest.raises(ConfigurationError, match="secret_file"):
        settings.read().root_secrets()


@pytest.mark.parametrize(
    ("value", "words"), [("VN, de ,US", ["VN", "de", "US"]), ("VN", ["VN"]), ("", []), (" , ,", [])]
)
def test_lists_with_commas(monkeypatch: pytest.MonkeyPatch, value: str, words: list[str]) -> None:
    """As people write variables; an empty list is a list."""
    monkeypatch.setenv("OTPVOICE_COUNTRIES", value)
    assert settings.read().countries == words


def test_voice_and_sms_have_application_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is given the other's, nor a parameter that it does not take."""
    for name in ("API_KEY", "API_SECRET", "APP_ID", "SMS_APP_ID", "SENDER_ID", "DISPLAY_NUM"):
        monkeypatch.setenv(f"OTPVOICE_ITNIO_{name}", name.lower())
    read = settings.read()
    voice, sms = read.itnio("itnio-voice"), read.itnio("itnio-sms")
    assert (voice["app_id"], sms["app_id"]) == ("app_id", "sms_app_id")
    assert "sender_id" in sms
    assert "display_num" in voice
    assert not {"sender_id", "sms_app_id"} & set(voice)
    assert "display_num" not in sms


def test_tables_come_through_json_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a file can set everything."""
    monkeypatch.setenv("OTPVOICE_PURPOSES", '{"login": {"ttl": "2m"}}')
    monkeypatch.setenv("OTPVOICE_CHANNELS", '{"voice": {"type": "memory"}}')
    read = settings.read()
    assert (read.purposes, read.channels) == ({"login": {"ttl": "2m"}}, {"voice": {"type": "memory"}})


def test_settings_are_frozen() -> None:
    """Nobody changes them under a running service."""
    read = settings.read()
    with pytest.raises(ValueError, match="frozen"):
        read.brand = "x"


def test_a_misspelt_variable_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The file is strict; of the environment only the names that are ours can be."""
    monkeypatch.setenv("OTPVOICE_BARND", "Example")
    settings.read()
    (record,) = caplog.records
    assert record.getMessage() == "OTPVOICE_BARND is no setting; did you mean OTPVOICE_BRAND?"
