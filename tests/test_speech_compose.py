"""What is said fits the channel, says the code, and says nothing else that could be taken for it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from otpvoice.errors import ContentRejected, InvalidRequest
from otpvoice.speech import gsm
from otpvoice.speech.compose import compose
from otpvoice.speech.overrides import load_wordings
from otpvoice.types import Binding, Capabilities, Code, Medium
from tests.speech_helpers import ALL_TAGS, EMAIL, ITNIO, SMS, VOICE, VOICE_TAGS, say

PAYMENT = Binding(amount="1250.50", currency="EUR", payee="Musterhandel GmbH")
APP_HASH = "FA+9qCX9VSu"


def test_a_call_says_the_code_twice_and_then_the_provider_repeats_it():
    said = say(locale="en", brand="Acme")
    assert said.text == (
        "Hello. This is Acme. Your sign-in code is: four, eight, two. Nine, one, three. "
        "Once more, the code is: four, eight, two. Nine, one, three. Never share this code with anyone. Goodbye."
    )
    assert (said.locale, said.language, said.repeats, said.title) == ("en", "EN", 2, "")


def test_neither_text_nor_code_is_in_a_repr():
    assert "four" not in repr(say(locale="en"))
    assert "482913" not in repr(say(capabilities=SMS, locale="en"))


@pytest.mark.parametrize("tag", VOICE_TAGS)
@pytest.mark.parametrize("code", ["0000", "12345", "007007", "1234567", "00998877", "123456789", "9876543210"])
def test_codes_of_4_to_10_digits_are_spoken_in_order_with_the_longer_pause(tag, code):
    said = say(code, locale=tag)
    voice = _voice(tag)
    assert voice.spelling.read_back(said.text) == [code, code]
    spelled = voice.spelling.spell(code)
    assert said.text.count(spelled) == 2
    groups = re.split(re.escape(voice.spelling.middle), spelled.removesuffix(voice.spelling.last))
    if len(code) in {6, 8}:
        assert [len(voice.spelling.read_words(group)) for group in groups] == [len(code) // 2] * 2
    assert sum(len(voice.spelling.read_words(group)) for group in groups) == len(code)


@pytest.mark.parametrize("code", ["123", "12345678901", "12a456", "48291３", "482 913", "٤٨٢٩١٣", "", "482913\u200f"])
def test_voice_refuses_anything_but_4_to_10_ascii_digits(code):
    with pytest.raises(InvalidRequest, match="4 to 10 digits"):
        say(code)


def test_letters_can_be_written_but_not_spoken():
    assert "K7QX2M9P4RT3V" in say("K7QX2M9P4RT3V", capabilities=SMS).text
    with pytest.raises(InvalidRequest):
        say("K7QX2M9P4RT3V")


@pytest.mark.parametrize("code", ["123", "12-456", "<b>123</b>", "ключ12"])
def test_a_written_code_is_ascii_letters_and_digits(code):
    with pytest.raises(InvalidRequest):
        say(code, capabilities=SMS)


@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_the_longest_call_still_fits_the_providers_limits(tag):
    said = say("9876543210", locale=tag, brand="A" * 40)
    limit = ITNIO.text_limit(said.language)
    assert limit is not None
    assert len(said.text) <= limit
    assert said.seconds is not None
    assert said.seconds <= 60


@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_a_payment_speaks_amount_and_payee_within_the_limits(tag):
    said = say(locale=tag, brand="Acme", binding=PAYMENT, purpose="login")
    limit = ITNIO.text_limit(said.language)
    assert limit is not None
    assert len(said.text) <= limit
    assert "Musterhandel GmbH" in said.text
    assert _voice(tag).money.speak("1250.50", "EUR") in said.text
    assert not re.search(r"\d", said.text)
    assert _voice(tag).spelling.read_back(said.text) == ["482913", "482913"]


def test_a_shorter_wording_is_taken_before_failing():
    long = say(locale="vi", brand="Acme", capabilities=ITNIO)
    short = say(locale="vi", brand="Acme", capabilities=replace(ITNIO, max_text_by_language={"VN": 130}))
    assert len(short.text) <= 130 < len(long.text)
    with pytest.raises(ContentRejected, match="shortest"):
        say(locale="vi", brand="Acme", capabilities=replace(ITNIO, max_text_by_language={"VN": 60}))


def test_a_call_is_never_planned_longer_than_the_provider_lets_it_last():
    for most in range(5, 120):
        capabilities = replace(ITNIO, max_seconds=most)
        try:
            said = say(locale="en", capabilities=capabilities)
        except ContentRejected:
            assert most < 16
        else:
            assert said.seconds is not None
            assert said.seconds <= most


def test_repetitions_are_given_up_before_words_and_words_before_the_call():
    calls = [say(locale="en", capabilities=replace(ITNIO, max_seconds=most)) for most in (60, 30, 17)]
    assert [call.repeats for call in calls] == [2, 1, 1]
    assert [call.text == calls[0].text for call in calls] == [True, True, False]


def test_a_provider_that_plays_once_is_asked_for_one_play():
    assert say(locale="en", capabilities=replace(ITNIO, max_repeats=1)).repeats == 1
    assert say(locale="en", capabilities=VOICE).repeats == 1


@pytest.mark.parametrize("tag", ALL_TAGS)
@pytest.mark.parametrize("purpose", ["login", "payment", "signup"])
def test_an_sms_is_one_message_that_says_who_and_what_for_and_to_keep_it_secret(tag, purpose):
    said = say(capabilities=SMS, locale=tag, brand="Acme", purpose=purpose)
    assert said.text.startswith("482913")
    assert "Acme" in said.text
    assert gsm.segments(said.text) == 1
    assert re.findall(r"\d{4,}", said.text) == ["482913"]
    assert _sentences(tag, Medium.SMS).warning.source in said.text or "Not you?" in said.text


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_a_written_payment_has_no_digits_that_could_pass_for_the_code(tag):
    binding = Binding(amount="482913.00", currency="JPY", payee="Shop 12345678")
    for capabilities in (SMS, EMAIL):
        said = say(capabilities=capabilities, locale=tag, binding=binding)
        assert re.findall(r"\d{4,}", said.text) == ["482913"]
        assert "JPY" in said.text
        assert "Shop *678" in said.text


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_an_email_has_the_code_in_its_text_and_never_in_its_subject(tag):
    for purpose in ("login", "reset", "payment"):
        said = say(capabilities=EMAIL, locale=tag, brand="Acme", purpose=purpose)
        assert "\n482913\n" in said.text
        assert said.title
        assert "Acme" in said.title
        assert not re.search(r"\d", said.title)
        assert "\n" not in said.title


def test_minutes_are_rounded_down_but_not_to_nothing():
    assert "4 min" in say(capabilities=SMS, locale="en", minutes=4.9).text
    assert "1 min" in say(capabilities=SMS, locale="en", minutes=0.2).text


def test_webotp_owns_the_last_line_and_the_app_hash_the_one_above():
    lines = say(capabilities=SMS, host="login.example.com", app_hash=APP_HASH).text.split("\n")
    assert lines[1:] == [APP_HASH, "@login.example.com #482913"]
    assert say(capabilities=SMS, host="example.com").text.endswith("\n@example.com #482913")
    assert say(capabilities=SMS, app_hash=APP_HASH).text.endswith(f"\n{APP_HASH}")


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_an_sms_to_an_app_stays_within_140_bytes(tag):
    said = say(capabilities=SMS, locale=tag, brand="Acme", app_hash=APP_HASH)
    assert len(said.text.encode()) <= 140


@pytest.mark.parametrize("host", ["https://example.com", "example.com:8443", "a b", "", "exa\nmple.com", "-a.com"])
def test_a_bad_host_is_refused(host):
    with pytest.raises(InvalidRequest, match="host"):
        say(capabilities=SMS, host=host)


@pytest.mark.parametrize("app_hash", ["short", "FA+9qCX9VSu=", "FA 9qCX9VSu", ""])
def test_a_bad_app_hash_is_refused(app_hash):
    with pytest.raises(InvalidRequest, match="hash"):
        say(capabilities=SMS, app_hash=app_hash)


def test_voice_and_email_have_no_lines_for_machines():
    assert "@" not in say(capabilities=ITNIO, host="example.com", app_hash=APP_HASH).text
    assert "@" not in say(capabilities=EMAIL, host="example.com", app_hash=APP_HASH).text


@pytest.mark.parametrize("brand", ["One Two Three Four", "Zero, One! Two? Three."])
def test_a_brand_that_would_be_heard_as_a_code_is_refused_on_voice(brand):
    with pytest.raises(InvalidRequest, match="heard as a code"):
        say(locale="en", brand=brand)
    assert say(capabilities=SMS, locale="en", brand="One Two Three Four")


@pytest.mark.parametrize(
    "brand",
    ["{code}", "{warning}", "[x]", "%s", "{{7*7}}", "Acme\r\nBcc: a", "Acme \U0001f680", "\u202eAcme", "“Acme”"],
)
@pytest.mark.parametrize("capabilities", [ITNIO, SMS, EMAIL])
def test_a_brand_is_never_read_as_a_template_and_brings_no_marks_of_its_own(brand, capabilities):
    said = say(capabilities=capabilities, locale="en", brand=brand)
    heading = said.text + said.title
    assert not re.search(r"[{}\[\]%\r\u202e“”\U0001f680]", heading)
    assert "\n" not in said.title
    assert heading.count("482913") == (0 if capabilities is ITNIO else 1)


def test_a_payment_is_refused_where_the_wording_cannot_tell_it(tmp_path):
    """A language of one's own may have no sentence for payments: dropping the payee would approve a blank cheque."""
    head = 'tag = "cy"\nname = "Welsh"\nchecked = "x"\n[sms]\nwarning = "w"\n[sms.text]\ngeneric = ["{code}"]\n'
    (tmp_path / "cy.toml").write_text(head)
    wordings = load_wordings(tmp_path)
    assert say(capabilities=SMS, locale="cy", wordings=wordings).text == "482913"
    for binding in (PAYMENT, Binding(amount="1", currency="EUR"), Binding(payee="Acme")):
        with pytest.raises(ContentRejected, match="tells the amount"):
            say(capabilities=SMS, locale="cy", wordings=wordings, binding=binding)


def test_of_several_sentences_one_that_tells_the_whole_payment_is_taken(tmp_path):
    texts = '["{code}[: {amount} to {payee}]. {warning}", "{code}[ {amount}][ {payee}]. {warning}"]'
    (tmp_path / "en.toml").write_text(f"[sms.text]\npayment = {texts}\n")
    said = say(
        capabilities=SMS, locale="en", wordings=load_wordings(tmp_path), binding=Binding(amount="1", currency="EUR")
    )
    assert said.text == "482913 1.00 EUR. Never share it."


@pytest.mark.parametrize("tag", VOICE_TAGS)
def test_an_amount_with_four_decimals_is_not_heard_as_a_code(tag):
    said = say(locale=tag, binding=Binding(amount="1.2345", currency="CLF"))
    assert _voice(tag).spelling.read_back(said.text) == ["482913", "482913"]


def test_an_amount_needs_a_currency():
    for binding in (Binding(amount="10"), Binding(currency="EUR", payee="Acme")):
        with pytest.raises(InvalidRequest, match="needs a currency"):
            say(binding=binding)


@pytest.mark.parametrize(
    ("tag", "brand", "spoken"), [("de", "Sat 1", "Sat eins"), ("it", "Rai 1", "Rai uno"), ("es", "La 1", "La uno")]
)
def test_a_number_in_a_name_stands_alone(tag, brand, spoken):
    assert spoken in say(locale=tag, brand=brand).text


def test_a_russian_payment_has_its_commas_around_the_payee_only():
    assert "одна украинская гривна ожидает" in say(locale="ru", binding=Binding(amount="1", currency="UAH")).text
    both = Binding(amount="1", currency="UAH", payee="Acme")
    assert "гривна, получатель Acme, ожидает" in say(locale="ru", binding=both).text


def test_a_reference_is_bound_but_not_spoken():
    assert say(binding=Binding(reference="order-77")).text == say().text


def test_a_medium_without_wordings_is_rejected():
    with pytest.raises(ContentRejected):
        say(capabilities=Capabilities(medium=Medium.APP))


def test_the_interface_that_the_flows_call():
    said = compose(
        Code("482913"),
        capabilities=ITNIO,
        purpose="login",
        valid_for=timedelta(minutes=5),
        locale=None,
        region="VN",
        default_locale="en",
        brand="Acme",
        binding=None,
        wordings=None,
        host=None,
        app_hash=None,
    )
    assert (said.locale, said.language) == ("vi", "VN")


def _voice(tag):
    from otpvoice.speech.wordings import bundled

    return bundled().by_tag[tag].voice


def _sentences(tag, medium):
    from otpvoice.speech.wordings import bundled

    return bundled().by_tag[tag].media[medium]
