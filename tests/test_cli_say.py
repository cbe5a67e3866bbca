"""``otpvoice say`` prints exactly what would be sent, and nothing that would not."""

from __future__ import annotations

import json
import re
import wave

import pytest
import typer
from typer.testing import CliRunner

from otpvoice.cli.say import say
from otpvoice.speech import render
from tests.speech_helpers import ALL_TAGS, SMS, VOICE_TAGS
from tests.speech_helpers import say as spoken

app = typer.Typer()
app.command("say")(say)


@app.command("other")
def other() -> None:
    """A second command, so that ``say`` is one."""


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, ["say", *arguments], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert result.exit_code == code, result.output
    return result


def test_it_prints_the_text_in_one_piece_with_length_limit_and_duration():
    out = run("--locale", "vi-VN", "--code", "482913").stdout
    said = spoken(locale="vi-VN")
    assert said.text in out.splitlines()
    assert f"{len(said.text)} of 299 characters" in out
    assert re.search(r"vi as VN .* about \d+ s, played 2", out)


def test_the_providers_own_limits_are_those_of_its_channel():
    facts = json.loads(run("--locale", "en", "--provider", "itnio", "--json").stdout)
    assert (facts["language"], facts["limit"], facts["locale"]) == ("EN", 800, "en")
    assert facts["seconds"] > 10
    assert facts["length"] == len(facts["text"])


@pytest.mark.parametrize(
    ("provider", "channel"),
    [("itnio", "voice"), ("itnio", "sms"), ("twilio", "voice"), ("twilio", "sms"), ("vonage", "sms")],
)
def test_a_provider_tells_its_limits_without_an_account(provider, channel):
    facts = json.loads(run("--provider", provider, "--channel", channel, "--locale", "en", "--json").stdout)
    assert facts["limit"] >= facts["length"]


@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_json_holds_exactly_what_compose_gives(tag):
    facts = json.loads(run("--locale", tag, "--code", "007007", "--brand", "Acme", "--json").stdout)
    assert facts["text"] == str(spoken("007007", locale=tag, brand="Acme").text)


def test_sms_and_email():
    facts = json.loads(run("--channel", "sms", "--locale", "de", "--host", "example.com", "--json").stdout)
    assert facts["text"] == str(spoken(capabilities=SMS, locale="de", host="example.com").text)
    assert (facts["segments"], facts["seconds"], facts["repeats"], facts["language"]) == (1, None, None, None)
    out = run("--channel", "email", "--locale", "fr", "--brand", "Acme").stdout
    assert "Subject: Votre code de connexion Acme" in out
    assert "1 SMS" in run("--channel", "sms", "--locale", "vi").stdout


def test_all_prints_every_language_of_the_medium():
    assert [item["locale"] for item in json.loads(run("--all", "--json").stdout)] == list(VOICE_TAGS)
    written = json.loads(run("--all", "--channel", "sms", "--json").stdout)
    assert [item["locale"] for item in written] == list(ALL_TAGS)
    assert run("--all").stdout.count(" characters") == len(VOICE_TAGS)


def test_without_a_locale_the_country_decides():
    assert json.loads(run("--region", "JP", "--json").stdout)["locale"] == "ja"


def test_a_payment():
    out = run(
        "--purpose", "payment", "--amount", "12.50", "--currency", "EUR", "--payee", "Acme", "--locale", "en"
    ).stdout
    assert "twelve point five zero euros to Acme" in out


def test_a_typed_code_is_read_leniently():
    assert "four, eight, two. Nine, one, three." in run("--locale", "en", "--code", "482\u200f-913").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--locale", "english"], "is no locale"),
        (["--code", "12AB56"], "no letters"),
        (["--code", "123"], "4 to 10"),
        (["--brand", "https://evil.example"], "link"),
        (["--brand", "B" * 200], "characters"),
        (["--amount", "5"], "needs a currency"),
        (["--provider", "nobody"], "no channel type"),
        (["--provider", "itnio", "--channel", "email"], "no channel type"),
        (["--wordings", "/nowhere"], "no such directory"),
        (["--all", "--play", "x.wav"], "one locale"),
        (["--channel", "sms", "--play", "x.wav"], "one locale"),
        (["--amount", "5", "--currency", "XXX"], "ISO 4217"),
    ],
)
def test_bad_input_is_an_error_in_one_line_and_exit_2(arguments, message):
    result = run(*arguments, code=2)
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.skipif(not render.available(), reason="espeak-ng is not installed (apt install espeak-ng)")
def test_play_renders_the_text_to_a_file(tmp_path):
    file = tmp_path / "code.wav"
    out = run("--locale", "it", "--play", str(file)).stdout
    assert str(file) in out.replace("\n", "")
    with wave.open(str(file)) as recording:
        assert recording.getnframes() / recording.getframerate() > 10


@pytest.mark.skipif(not render.available(), reason="espeak-ng is not installed (apt install espeak-ng)")
@pytest.mark.parametrize("where", ["nowhere/code.wav", "."])
def test_play_does_not_claim_a_file_that_it_could_not_write(tmp_path, where):
    result = run("--locale", "it", "--play", str(tmp_path / where), code=2)
    assert "cannot be written" in result.stderr
    assert result.stdout == ""


def test_play_without_espeak_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("--locale", "it", "--play", str(tmp_path / "code.wav"), code=2)
    assert "apt install espeak-ng" in result.stderr
    assert not (tmp_path / "code.wav").exists()


def test_lint_names_every_problem_and_fails(tmp_path):
    (tmp_path / "en.toml").write_text('[sms.text]\nlogin = ["hello"]\n[voice.text]\nlogin = ["4 {code} {again}"]\n')
    out = run("--lint", str(tmp_path), code=1).stdout
    assert "en.toml: [sms] login 1: the code is missing" in out
    assert "digits are not spelled (4)" in out
    problems = json.loads(run("--lint", str(tmp_path), "--json", code=1).stdout)["problems"]
    assert {"file": "en.toml", "where": "[sms] login 1", "problem": "the code is missing"} in problems


def test_lint_passes_a_good_directory_and_its_wordings_are_used(tmp_path):
    (tmp_path / "en.toml").write_text('[sms.text]\nlogin = ["{code} opens the door. {warning}"]\n')
    assert "no problems" in run("--lint", str(tmp_path)).stdout
    out = run("--channel", "sms", "--locale", "en", "--wordings", str(tmp_path)).stdout
    assert "482913 opens the door." in out


def test_markup_in_a_brand_is_printed_as_it_is_sent():
    assert "[red]" not in run("--channel", "sms", "--locale", "en", "--brand", "[red]Acme").stdout
    assert "red Acme" in run("--channel", "sms", "--locale", "en", "--brand", "[red]Acme").stdout
