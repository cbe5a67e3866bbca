"""Every language file is whole, a user's own are laid over them, and what is wrong is found when they are loaded."""

from __future__ import annotations

import pytest

from otpvoice.errors import ConfigurationError
from otpvoice.speech.lint import lint, lint_directory
from otpvoice.speech.overrides import load_wordings
from otpvoice.speech.templates import Template
from otpvoice.speech.wordings import bundled, tables, wording
from otpvoice.types import Medium
from tests.speech_helpers import ALL_TAGS, LEGACY, SMS, VOICE_TAGS, say

VOICES = {"en", "vi", "ja", "ar", "de", "hi", "it", "ko", "ru", "es", "pt-BR", "pt-PT", "id", "bn", "th"}
WRITTEN = VOICES | {"fr", "tr", "pl", "nl", "uk", "zh-Hans", "zh-Hant", "fil", "ms", "ur", "sw"}


def test_the_languages_that_must_exist():
    assert set(VOICE_TAGS) >= VOICES
    assert set(bundled().speaking(Medium.SMS)) >= WRITTEN
    assert set(bundled().speaking(Medium.EMAIL)) >= WRITTEN


def test_every_language_of_the_provider_is_spoken():
    assert {tag.split("-")[0] for tag in LEGACY} == {tag.split("-")[0] for tag in VOICE_TAGS}


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_every_file_passes_the_lint(tag):
    assert lint(bundled().by_tag[tag]) == []


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_every_file_says_how_it_was_checked_and_has_each_purpose(tag):
    item = bundled().by_tag[tag]
    assert len(item.checked) > 40
    for sentences in item.media.values():
        assert {"login", "generic", "payment"} <= set(sentences.texts)
        assert sentences.warning is not None
    if item.voice:
        assert len(item.voice.why) > 40
        assert item.voice.espeak
    assert set(item.media[Medium.EMAIL].titles) >= {"login", "generic", "payment"}


@pytest.fixture
def own(tmp_path):
    def write(text: str, name: str = "en.toml"):
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path

    return write


def test_an_override_changes_what_it_names_and_keeps_the_rest(own):
    directory = own('[sms.text]\nlogin = ["{code} opens the door. {warning}"]\n')
    wordings = load_wordings(directory)
    assert say(capabilities=SMS, locale="en", wordings=wordings).text == "482913 opens the door. Never share it."
    assert say(locale="en", wordings=wordings).text == say(locale="en").text
    assert say(capabilities=SMS, locale="vi", wordings=wordings).text == say(capabilities=SMS, locale="vi").text


def test_an_override_may_add_a_purpose_and_another_falls_to_generic(own):
    directory = own('[sms.text]\ndoor = ["{code} opens the door. {warning}"]\n')
    wordings = load_wordings(directory)
    assert "opens the door" in say(capabilities=SMS, purpose="door", wordings=wordings).text
    assert "verification" in say(capabilities=SMS, purpose="window", wordings=wordings).text


def test_adding_a_language_is_adding_a_file(own):
    text = (
        'tag = "cy"\nname = "Welsh"\nchecked = "nobody"\n[sms]\nwarning = "Peidiwch â rhannu."\n[sms.text]\n'
        'generic = ["{code} yw eich cod[ {brand}]. {warning}"]\n'
    )
    wordings = load_wordings(own(text, "cy.toml"))
    said = say(capabilities=SMS, locale="cy-GB", brand="Acme", wordings=wordings)
    assert (said.locale, said.text) == ("cy", "482913 yw eich cod Acme. Peidiwch â rhannu.")


def test_without_a_directory_the_bundled_wordings_are_used():
    assert load_wordings() is bundled()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[voice.text]\nlogin = ["Hello. {brand}"]', "code is missing"),
        ('[voice.text]\nlogin = ["Code: {code}"]', "only once"),
        ('[voice.text]\nlogin = ["[{brand} {code} {again}]"]', "code is missing"),
        ('[voice.text]\nlogin = ["Code 24: {code} {again}"]', "not spelled"),
        ('[voice.text]\nlogin = ["Code ２４: {code} {again}"]', "not spelled"),
        ('[voice.text]\nlogin = ["Code one: {code} {again}"]', "digit word 'one'"),
        ('[voice.text]\nlogin = ["Within {minutes} minutes: {code} {again}"]', "not spoken"),
        ('[voice.text]\nlogin = ["See https://example.com: {code} {again}"]', "link"),
        ('[voice.text]\nlogin = ["See example.com: {code} {again}"]', "link"),
        ('[voice.text]\nlogin = ["Bell\\u0007: {code} {again}"]', "U+0007"),
        ('[voice.text]\nlogin = ["Right\\u200f to left: {code} {again}"]', "U+200F"),
        ('[voice.text]\nlogin = ["' + "word " * 170 + '{code} {again}"]', "too long"),
        ('[voice.text]\npayment = ["Pay. {code} {again}"]', "{amount} and {payee}"),
        ('[voice]\ndigits = ["0","1","2","3","4","5","6","7","8","9"]', "is a numeral"),
        ('[voice]\ndigits = ["one","one","2x","three","four","five","six","seven","eight","nine"]', "same word"),
        ('[voice]\ndigits = ["zero","one"]', "ten words"),
        ('[voice]\npause = "-"', "dashes are read aloud"),
        ('[voice]\npause = " "', "no pause"),
        ("[voice]\nrate = 0", "rate"),
        ('[voice]\nrate = "fast"', "rate"),
        ('[sms.text]\nlogin = ["Your code. {warning}"]', "code is missing"),
        ('[sms.text]\nlogin = ["{code} or {code}"]', "more than once"),
        ('[sms.text]\nlogin = ["{code}, call 08001234"]', "could pass for the code"),
        ('[sms.text]\nlogin = ["{code} http://a.b"]', "link"),
        ('[sms.text]\nlogin = ["' + "long words " * 20 + '{code}"]', "SMS: add a shorter"),
        ('[email.title]\nlogin = "Code {code}"', "in a subject"),
        ('[sms.text]\nlogin = ["{code} {user.name}"]', "no variable"),
        ('[sms.text]\nlogin = ["{code} {0.__class__}"]', "no variable"),
        ('[sms.text]\nlogin = ["{code} [{brand}"]', "not closed"),
        ('[sms.text]\nlogin = ["{code} ]"]', "not opened"),
        ('[sms.text]\nlogin = ["{code} {"]', "partner"),
        ("[sms.text]\nlogin = []", "list of texts"),
        ("[sms.text]\nlogin = 4", "list of texts"),
        ('[sms]\nwarnin = "x"', "unknown keys: warnin"),
        ("[fax]\nx = 1", "unknown keys: fax"),
        ('tag = "de"', "the file is called en.toml"),
        ("sms = 3", "table"),
        ("[sms.text]\nlogin = [", "en.toml"),
    ],
)
def test_what_is_wrong_with_an_override_is_found_at_load(own, text, problem):
    directory = own(text + "\n")
    with pytest.raises(ConfigurationError, match="wordings are wrong") as caught:
        load_wordings(directory)
    assert problem in str(caught.value)
    assert "en.toml" in str(caught.value)
    assert any(problem in str(found) for found in lint_directory(directory)[1])


def test_all_problems_of_all_files_are_named_at_once(own):
    own('[sms.text]\nlogin = ["no"]\n[voice.text]\nlogin = ["no"]\n', "de.toml")
    directory = own("[sms]\nx = 1\n", "vi.toml")
    problems = [str(problem) for problem in lint_directory(directory)[1]]
    assert [problem.split(":")[0] for problem in problems] == ["vi.toml", "de.toml", "de.toml"]


def test_an_empty_or_missing_directory_is_refused(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigurationError):
            load_wordings(directory)


def test_a_file_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "en.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"en\.toml"):
        load_wordings(tmp_path)


def test_the_bundled_tables_are_not_changed_by_an_override(own):
    load_wordings(own('[sms.text]\nlogin = ["{code} x"]\n'))
    assert "{code} x" not in str(tables()["en"])
    assert lint(wording("en", tables()["en"])) == []


def test_sections_drop_out_with_an_empty_value_and_may_nest():
    template = Template("a[ b{brand}[ c{payee}]]{code}")
    assert template.render({"code": "!", "brand": "B", "payee": "P"}) == "a bB cP!"
    assert template.render({"code": "!", "brand": "B"}) == "a bB!"
    assert template.render({"code": "!", "payee": "P"}) == "a!"
    assert template.required == ["code"]
