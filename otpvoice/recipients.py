"""Recipients: phone numbers (ITU-T E.164) and mailboxes (RFC 5322 addr-spec), parsed to one canonical form."""

from __future__ import annotations

import re
import unicodedata

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from phonenumbers import PhoneNumber, PhoneNumberFormat, PhoneNumberType

from otpvoice.errors import InvalidRecipient
from otpvoice.types import Address, Recipient

LONGEST = 254
"""Characters a recipient may have: the longest mailbox of RFC 5321."""

COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""ISO 3166-1 alpha-2 codes of the countries that have telephone numbers."""

_WRITTEN = re.compile(r"\+[0-9 ().\-/]{4,40}")
_SATELLITE = frozenset({870, 878, 881, 882, 883, 979})
_CLASSES = {
    value: name.lower() for name, value in vars(PhoneNumberType).items() if isinstance(value, int) and name.isupper()
}


def parse(text: str) -> Recipient:
    """A phone number in international form, or a mailbox.

    A number is taken as people write it (spaces, dots, hyphens, brackets; any script's digits) and must begin with
    ``+``. Letters, extensions and pauses are refused, and so is a number that libphonenumber does not hold for
    valid or reads differently the second time: ``+3200 900 12345`` would otherwise pass for a harmless one and
    ring a premium one. Raises :class:`~otpvoice.errors.InvalidRecipient`; its message never repeats the input.
    """
    if not isinstance(text, str):
        raise InvalidRecipient(f"the recipient is a str such as '+84912345678', not {type(text).__name__}")
    if len(text) > LONGEST:
        raise InvalidRecipient(f"the recipient has {len(text)} characters, at most {LONGEST} are possible")
    if not text.strip():
        raise InvalidRecipient("the recipient is empty")
    return _mailbox(text) if "@" in text else _phone(text)


def _phone(text: str) -> Recipient:
    written = _plain(text)
    if not written.startswith("+"):
        raise InvalidRecipient("the phone number is not in international form: begin with + and the country code")
    if _WRITTEN.fullmatch(written) is None:
        raise InvalidRecipient("the phone number holds something else than digits: no letters, extensions or pauses")
    number = _parsed(written)
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    again = _parsed(e164)
    stable = again == number and phonenumbers.format_number(again, PhoneNumberFormat.E164) == e164
    if number.extension or not stable or not phonenumbers.is_valid_number(number) or len(e164) > 16:
        raise InvalidRecipient("that is not a valid phone number; check the country code and the length")
    region = phonenumbers.region_code_for_number(number)
    satellite = number.country_code in _SATELLITE
    return Recipient(
        address=Address(e164),
        kind="phone",
        hint=f"+{number.country_code}{'•' * max(4, len(e164) - len(str(number.country_code)) - 3)}{e164[-2:]}",
        region=None if region in {None, "001"} else region,
        number_class="satellite" if satellite else _CLASSES[phonenumbers.number_type(number)],
    )


def _parsed(text: str) -> PhoneNumber:
    try:
        return phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise InvalidRecipient("that is not a phone number of any country") from None


def _plain(text: str) -> str:
    """Any script's digits, the full-width plus and odd blanks as ASCII; invisible format characters dropped."""
    plain = []
    for character in text.strip():
        category = unicodedata.category(character)
        if category == "Nd":
            plain.append(str(unicodedata.decimal(character)))
        elif category == "Zs":
            plain.append(" ")
        elif category == "Pd":
            plain.append("-")
        elif category != "Cf":
            plain.append("+" if character == "＋" else character)
    return "".join(plain)


def _mailbox(text: str) -> Recipient:
    # A display name, a list or a line break could redirect the message; the library refuses them all, and this
    # is checked first so that no later version of it can change that.
    if any(character in text for character in '\r\n,;<>"') or text != text.strip():
        raise InvalidRecipient("the recipient is one plain mailbox: no name, list, quotes or line breaks")
    try:
        valid = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, test_environment=True, strict=True
        )
    except EmailNotValidError:
        raise InvalidRecipient("that is not a valid mailbox; it looks like name@example.org") from None
    domain = (valid.ascii_domain or valid.domain).lower()
    return Recipient(
        address=Address(f"{valid.local_part}@{domain}"), kind="email", hint=f"{valid.local_part[0]}•••@{domain}"
    )


def index_form(recipient: Recipient) -> str:
    """What limits and look-ups hash. Mailboxes count without regard to case, though they are sent to as written."""
    return f"{recipient.kind}:{recipient.address.lower()}"
