"""Recipients: one canonical form, or a refusal that repeats nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpvoice import recipients
from otpvoice.errors import InvalidRecipient
from tests.hostile import MEGABYTE, NO_RECIPIENTS, NO_TEXT


@pytest.mark.parametrize(
    "written",
    [
        "+84912345678",
        "  +84 912 345 678  ",
        "+84-912-345-678",
        "+84.912.345.678",
        "+84 (912) 345678",
        "+84 (0)912 345 678",
        "+84/912/345678",
        "＋８４９１２３４５６７８",
        "+٨٤٩١٢٣٤٥٦٧٨",
        "+८४९१२३४५६७८",
        "+84\u00a0912\u00a0345\u00a0678",
        "\u200e+84912345678\u200f",
        "+84\u200b912345678",
        "+84 912–345–678",
        "+84912345678\n",
    ],
)
def test_spellings_of_one_number_are_one_recipient(written: str) -> None:
    """P34, P36, P37: the same address and index, so that no spelling has a limit of its own."""
    recipient = recipients.parse(written)
    assert recipient.address == "+84912345678"
    assert recipients.index_form(recipient) == "phone:+84912345678"
    assert (recipient.kind, recipient.region, recipient.number_class) == ("phone", "VN", "mobile")


@pytest.mark.parametrize("text", NO_RECIPIENTS)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    """P16, P36, P37, P40: lists, extensions, letters, pauses, line breaks, nonsense; the input is not repeated."""
    with pytest.raises(InvalidRecipient) as refused:
        recipients.parse(text)
    message = str(refused.value)
    assert len(message) < 200
    assert len(text.strip()) < 5 or text.strip() not in message.replace("name@example.org", "")
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("value", [None, *NO_TEXT])
def test_what_is_no_text_is_refused(value: Any) -> None:
    """An array of addresses is not a recipient (CVE-2023-7028)."""
    with pytest.raises(InvalidRecipient, match="str"):
        recipients.parse(value)


def test_a_premium_number_in_disguise_is_refused() -> None:
    """P36: ``+3200 900 12345`` is possible, of unknown class, and rings +3290012345; only its plain form parses."""
    with pytest.raises(InvalidRecipient):
        recipients.parse("+3200 900 12345")
    with pytest.raises(InvalidRecipient):
        recipients.parse("+32 00 90012345")
    assert recipients.parse("+32 900 12345").number_class == "premium_rate"


def test_a_number_must_read_the_same_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """P36: a fixpoint is demanded by itself, even if a later libphonenumber called such a number valid."""
    monkeypatch.setattr("phonenumbers.is_valid_number", lambda _number: True)
    with pytest.raises(InvalidRecipient):
        recipients.parse("+3200 900 12345")


@pytest.mark.parametrize(
    ("number", "number_class", "region"),
    [
        ("+84912345678", "mobile", "VN"),
        ("+4930123456", "fixed_line", "DE"),
        ("+12015550123", "fixed_line_or_mobile", "US"),
        ("+18762101234", "mobile", "JM"),
        ("+3290012345", "premium_rate", "BE"),
        ("+4918012345", "shared_cost", "DE"),
        ("+18002345678", "toll_free", "US"),
        ("+445600123456", "voip", "GB"),
        ("+447012345678", "personal_number", "GB"),
        ("+445511234567", "uan", "GB"),
        ("+447640123456", "pager", "GB"),
        ("+49177991234567", "voicemail", "DE"),
        ("+870773111632", "satellite", None),
        ("+881612345678", "satellite", None),
        ("+882161234567", "satellite", None),
        ("+883510000000094", "satellite", None),
        ("+979123456789", "satellite", None),
    ],
)
def test_number_classes_and_regions(number: str, number_class: str, region: str | None) -> None:
    """P38: libphonenumber's class, satellite and premium country codes by their prefix; +1 876 is Jamaica."""
    recipient = recipients.parse(number)
    assert (recipient.number_class, recipient.region) == (number_class, region)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("a@example.org", "a@example.org"),
        ("Alice.Smith+otp@Example.ORG", "Alice.Smith+otp@example.org"),
        ("o'brien@example.org", "o'brien@example.org"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ],
)
def test_mailboxes_keep_their_local_part_and_lower_their_domain(written: str, address: str) -> None:
    """P40: sent to as written, IDNA in ASCII."""
    recipient = recipients.parse(written)
    assert recipient.address == address
    assert (recipient.kind, recipient.region, recipient.number_class) == ("email", None, None)


def test_mailboxes_count_without_regard_to_case() -> None:
    """Upper case gives nobody a fresh limit; a dotless i is no i (CVE-2019-19844)."""
    forms = {recipients.index_form(recipients.parse(text)) for text in ("mike@example.org", "MIKE@EXAMPLE.org")}
    assert forms == {"email:mike@example.org"}
    with pytest.raises(InvalidRecipient):
        recipients.parse("mıke@example.org")


@pytest.mark.parametrize(
    ("written", "hint"),
    [("+84912345678", "+84•••••••78"), ("+12015550123", "+1••••••••23"), ("alice@example.org", "a•••@example.org")],
)
def test_hints_show_two_digits(written: str, hint: str) -> None:
    """Enough for the owner, useless to others; a repr shows no more."""
    recipient = recipients.parse(written)
    assert recipient.hint == hint
    assert str(recipient.address) not in repr(recipient)


def test_hints_of_the_shortest_numbers_hide_most_digits() -> None:
    """Four digits of the national number at the least are hidden."""
    hint = recipients.parse("+2904101").hint if _valid("+2904101") else recipients.parse("+29022158").hint
    assert hint.count("•") >= 4


def _valid(text: str) -> bool:
    try:
        recipients.parse(text)
    except InvalidRecipient:
        return False
    return True


def test_a_megabyte_is_refused_unread() -> None:
    """P47: by its length, before any parsing."""
    with pytest.raises(InvalidRecipient, match="1048576 characters"):
        recipients.parse(MEGABYTE)


@settings(max_examples=300)
@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9 ().x,;#/-]{1,25}", fullmatch=True))
def test_parsing_gives_a_fixpoint_or_our_error(text: str) -> None:
    """Any text: an E.164 number or mailbox that parses to itself, or InvalidRecipient. Nothing else is raised."""
    try:
        recipient = recipients.parse(text)
    except InvalidRecipient:
        return
    assert recipients.parse(str(recipient.address)) == recipient
    if recipient.kind == "phone":
        assert re.fullmatch(r"\+[1-9][0-9]{5,14}", recipient.address)
    else:
        assert str(recipient.address).isascii()


@settings(max_examples=200)
@given(st.from_regex(r"\+(1|7|32|44|49|84|86|91|358|593|870|881)[0-9]{6,11}", fullmatch=True))
def test_numbers_read_the_same_with_blanks(number: str) -> None:
    """P34: separators change neither the verdict nor the number."""
    spaced = number[:4] + " " + number[4:7] + "-" + number[7:]
    assert _valid(number) == _valid(spaced)
    if _valid(number):
        assert recipients.parse(number) == recipients.parse(spaced)
