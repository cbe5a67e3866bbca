"""The person's own language first, then the country's, then the default, and never a tag the provider lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpvoice.errors import ContentRejected, InvalidRequest
from otpvoice.speech.languages import best, canonical, choose, spoken_in
from otpvoice.speech.wordings import bundled
from otpvoice.types import Capabilities, Medium
from tests.speech_helpers import ALL_TAGS, ITNIO, LEGACY, SMS, VOICE, VOICE_TAGS, say


def chosen(locale=None, region=None, default="en", capabilities=ITNIO):
    return choose(bundled(), capabilities, locale=locale, region=region, default_locale=default)


@pytest.mark.parametrize(
    ("locale", "tag", "language"),
    [
        ("vi-VN", "vi", "VN"),
        ("ja", "ja", "JP"),
        ("ar-EG", "ar", "ARB"),
        ("hi-IN", "hi", "IN"),
        ("pt", "pt-BR", "PT"),
        ("pt-BR", "pt-BR", "PT"),
        ("pt_PT", "pt-PT", "PT"),
        ("pt-AO", "pt-PT", "PT"),
        ("PT-br", "pt-BR", "PT"),
        ("es-419", "es", "ES"),
        ("es-MX", "es", "ES"),
        ("en-GB-oxendict", "en", "EN"),
        ("in", "id", "IDN"),
        ("bn-BD", "bn", "BD"),
        ("de-Latn-CH-1996", "de", "DE"),
    ],
)
def test_an_explicit_locale_is_spoken_in_the_nearest_wording(locale, tag, language):
    assert chosen(locale, region="JP") == (tag, language)


@pytest.mark.parametrize(
    ("locale", "tag"),
    [("zh", "zh-Hans"), ("zh-CN", "zh-Hans"), ("zh-TW", "zh-Hant"), ("zh-HK", "zh-Hant"), ("zh-Hant-MO", "zh-Hant"),
     ("zh-SG", "zh-Hans"), ("tl", "fil"), ("fil-PH", "fil"), ("fr-CA", "fr"), ("ur-IN", "ur"), ("sw-KE", "sw")],
)  # fmt: skip
def test_written_languages_keep_their_script(locale, tag):
    assert chosen(locale, capabilities=SMS) == (tag, None)


@pytest.mark.parametrize(
    ("region", "tag"),
    [("VN", "vi"), ("BR", "pt-BR"), ("PT", "pt-PT"), ("AO", "pt-PT"), ("MX", "es"), ("IN", "hi"), ("CH", "de"),
     ("KZ", "ru"), ("PY", "es"), ("EG", "ar"), ("US", "en"), ("SE", "en"), ("vn", "vi"), ("BD", "bn")],
)  # fmt: skip
def test_without_a_locale_the_countrys_most_spoken_language_that_the_provider_speaks(region, tag):
    assert chosen(region=region)[0] == tag


def test_a_language_the_provider_lacks_falls_to_the_country_then_the_default():
    assert chosen("fr-FR", region="VN") == ("vi", "VN")
    assert chosen("tr", default="de") == ("de", "DE")
    assert chosen("xx", region="XX", default="ko-KR") == ("ko", "KR")
    assert chosen("cy", default="tlh") == ("en", "EN")
    assert chosen("fr-FR", capabilities=SMS)[0] == "fr"


def test_something_the_channel_speaks_comes_last():
    assert chosen("vi", region="VN", capabilities=replace(ITNIO, languages={"th": "TH"})) == ("th", "TH")
    with pytest.raises(ContentRejected):
        chosen("vi", capabilities=replace(ITNIO, languages={"eu": "BAS"}))
    with pytest.raises(ContentRejected):
        chosen("vi", capabilities=replace(ITNIO, languages={}))


def test_the_persons_own_variety_is_asked_of_the_provider_where_it_has_it():
    accents = replace(ITNIO, languages={"en": "EN/1", "en-GB": "EN/44", "en-IN": "EN/91"})
    assert chosen("en-GB", capabilities=accents) == ("en", "EN/44")
    assert chosen("en-AU", capabilities=accents) == ("en", "EN/1")
    assert chosen(region="GB", capabilities=accents) == ("en", "EN/44")


def test_a_regional_code_of_the_provider_serves_the_language():
    assert chosen("en", capabilities=replace(ITNIO, languages={"en-US": "EN"})) == ("en", "EN")
    assert chosen("pt", capabilities=replace(ITNIO, languages={"pt-PT": "PT"})) == ("pt-BR", "PT")


def test_a_wording_is_never_sent_under_another_scripts_code():
    simplified = Capabilities(medium=Medium.SMS, languages={"zh-CN": "CN", "en": "EN"})
    assert chosen("zh-Hant", capabilities=simplified)[1] == "EN"
    assert chosen("zh", capabilities=simplified)[1] == "CN"


@pytest.mark.parametrize(
    "tag",
    ["", " ", "x", "english", "e1", "vi VN", "vi--VN", "-vi", "vi-", "en-US\n", "\u200fvi", "vi\u202e", "vi-VN;q=1",
     "../en",
     "a" * 300, "日本語", "ｖｉ", "vi-V", "en_US.UTF-8"],
)  # fmt: skip
def test_a_malformed_tag_is_refused_and_shown_safely(tag):
    for arguments in ({"locale": tag}, {"default": tag}):
        if tag == "" and "locale" in arguments:
            continue
        with pytest.raises(InvalidRequest) as caught:
            chosen(**arguments)
        assert str(caught.value).isascii()
        assert len(str(caught.value)) < 120


@given(st.text(max_size=12))
def test_any_text_is_a_locale_or_refused(tag):
    try:
        canonical(tag)
    except InvalidRequest:
        return
    assert say(locale=tag or None, capabilities=ITNIO).language in LEGACY.values()


@pytest.mark.parametrize("region", ["XX", "ZZ", "001", "", "nowhere", "🇻🇳"])
def test_an_unknown_country_falls_to_the_default(region):
    assert chosen(region=region, default="it")[0] == "it"


def test_every_country_of_cldr_gets_a_code_of_the_provider():
    from babel.core import get_global

    for region in get_global("territory_languages"):
        assert chosen(region=region)[1] in LEGACY.values()


def test_small_minorities_do_not_decide():
    assert "de-US" not in list(spoken_in("US"))
    assert next(spoken_in("BR")) == "pt-BR"


@pytest.mark.parametrize("tag", ALL_TAGS)
def test_every_wording_is_chosen_by_its_own_tag(tag):
    assert best(tag, ALL_TAGS) == tag
    assert chosen(tag, capabilities=SMS)[0] == tag
    assert (chosen(tag, capabilities=VOICE)[0] == tag) == (tag in VOICE_TAGS)
