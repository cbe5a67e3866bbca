"""Every language file is whole, a user's own are laid over them, and what is wrong is found when they are loaded."""

from __future__ import annotations

import os

import pytest

from otpvoice.errors import ConfigurationError
from otpvoice.speech.lint import lint, lint_directory
from otpvoice.speech.overrides import load_wordings
from otpvoice.speech.templates import Template
from otpvoice.speech.wordings import LARGEST_FILE, bundled, tables, wording
from otpvoice.types import Binding, Medium
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
        ("x = " + "9" * 5000, "en.toml"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ('[sms.text]\nlogin = ["{code} ' + "[" * 5000 + "]" * 5000 + '"]', "more than 50 sections"),
        ('[sms.text]\nlogin = ["{code} \\u0000"]', "U+0000"),
        ('[email.title]\nlogin = "Hello\\nBcc: someone"', "U+000A"),
        ('[sms]\nwarning = "Never share {code}."', "takes no variables"),
        ('[voice]\nagain = "[{brand} says: {code}]"', "only once"),
        ('[voice]\nagain = "{code} {warning}"', "cannot hold"),
        ('[sms.text]\nlogin = ["{code}[ {brand} {code}]"]', "more than once"),
        ('[sms.text]\nlogin = ["{code} пример.рф"]', "link"),
        ('[sms.text]\nlogin = ["{code} 10.0.0.1/x"]', "link"),
        ('[sms.text]\nlogin = ["{code} tel:+4930"]', "link"),
        ('[sms.text]\nlogin = ["{code} {brand}.com"]', "link"),
        ('[sms.text]\nlogin = ["{code} ٥ {warning}"]', "0 to 9"),
        ('[voice.text]\nlogin = ["Part Ⅳ: {code} {again}"]', "not spelled (Ⅳ)"),
        ('[voice.text]\nlogin = ["\U0001f680 {code} {again}"]', "sign"),
        ('[voice.text]\nlogin = ["<break/> {code} {again}"]', "sign '<'"),
        ('[voice]\npause = " & "', "no pause"),
        ('[voice]\npause = ",\\n"', "no pause"),
        ('[voice]\nmiddle = "\\u202e. "', "no pause"),
        ('[voice]\nespeak = "../../tmp/x"', "no name of a voice"),
        ("[voice]\nrate = 900", "rate"),
        ("[voice]\nrate = nan", "rate"),
        ("[voice]\ndigit_seconds = 0.001", "digit_seconds"),
        ('[numbers]\nwhole = "{number.__class__.__mro__} {currency}"', "no variable"),
        ('[numbers]\nwhole = "{number:>99999999} {currency}"', "no variable"),
        ('[numbers]\nwhole = "{number"', "partner"),
        ('[numbers]\nwhole = "free"', "the whole amount"),
        ('[numbers]\ndecimal = "{number} {currency}"', "the whole amount"),
        ('[numbers]\nwhole = "1234 {number} {currency}"', "not spelled"),
        ("[numbers]\nfeminine = 3", "feminine is a list"),
        ("[numbers]\nfeminine = [[1]]", "feminine is a list"),
        ("[numbers]\nnames = 3", "names is a dict"),
        ("[numbers.names]\nUSD = 3", "USD is missing"),
        ("[numbers.names]\nUSD = 'bucks http://a.b'", "link"),
        ("[numbers]\nrules = '0: 5'", "not spelled"),
        ("[numbers]\nrules = '0: (one:a|b)'", "plural forms"),
        ('[numbers]\nrules = """\n0..9: a b c d e f g h i j\n10: k[>>]\n70: =%main=\n80: l[>>]"""', "never end"),
        ('[numbers]\nrules = """\n0..9: a b c d e f g h i j\n10: k[>%x>]"""', "called %x"),
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


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "loop", "nowhere"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    file = tmp_path / "en.toml"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        file.symlink_to({"device": "/dev/zero", "loop": file, "nowhere": tmp_path / "nothing"}[kind])
    with pytest.raises(ConfigurationError, match="no file that can be read"):
        load_wordings(tmp_path)


def test_a_link_to_a_file_is_followed_and_a_huge_one_is_not_read(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1").write_text('[sms.text]\nlogin = ["{code} opens. {warning}"]\n', "utf-8")
    (tmp_path / "en.toml").symlink_to(tmp_path / "data" / "1")  # So Kubernetes mounts a ConfigMap.
    assert "opens" in say(capabilities=SMS, locale="en", wordings=load_wordings(tmp_path)).text
    (tmp_path / "data" / "1").write_text("#" + "x" * LARGEST_FILE, "utf-8")
    with pytest.raises(ConfigurationError, match="larger than 256 KiB"):
        load_wordings(tmp_path)


@pytest.mark.parametrize(
    ("tag", "problem"), [("english", "is no locale"), ("pt_BR", "usual form"), ("PT-br", "usual form"), ("in", "is id")]
)
def test_a_file_named_by_no_usual_tag_is_refused_before_it_breaks_every_choice_of_a_language(own, tag, problem):
    text = f'tag = "{tag}"\nname = "x"\nchecked = "x"\n[sms]\nwarning = "w"\n[sms.text]\ngeneric = ["{{code}}"]\n'
    with pytest.raises(ConfigurationError, match=problem):
        load_wordings(own(text, f"{tag}.toml"))


def test_a_language_that_cldr_lacks_can_be_written_but_its_amounts_not_spoken(own):
    head = 'tag = "tlh"\nname = "x"\nchecked = "x"\n'
    sms = '[sms]\nwarning = "w"\n[sms.text]\ngeneric = ["{code}"]\npayment = ["{code}, {amount}, {payee}"]\n'
    wordings = load_wordings(own(head + sms, "tlh.toml"))
    binding = Binding(amount="1250.5", currency="EUR", payee="Qo noS")
    said = say(capabilities=SMS, locale="tlh", wordings=wordings, binding=binding)
    assert said.text == "482913, 1,250.50 EUR, Qo noS"
    voice = tables()["en"]["voice"] | {"why": "x"}
    with pytest.raises(ConfigurationError, match="CLDR has no data"):
        wording(
            "tlh", {"tag": "tlh", "name": "x", "checked": "x", "voice": voice, "numbers": tables()["en"]["numbers"]}
        )


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
