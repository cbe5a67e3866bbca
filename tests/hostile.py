"""Input that no honest caller sends: what the tests of every entrance share."""

from __future__ import annotations

from typing import Any

SURROGATE = "\ud800"
MEGABYTE = "1" * (1 << 20)


class Spiteful:
    """Cannot be printed: an error that tries to repeat it is an error of its own."""

    def __repr__(self) -> str:
        raise RuntimeError("do not look at me")


NO_TEXT: tuple[Any, ...] = (0, 1, 123456, 1e5, True, False, b"123456", [], ["+84912345678"], {}, {"a": 1}, object())
"""Values that are no ``str``."""

UNSPEAKABLE: tuple[Any, ...] = (10**5000, Spiteful())
"""Nor are these, and not even ``str()`` takes them."""

NO_CODES: tuple[str, ...] = (
    "",
    " ",
    "\t\r\n",
    "\x00",
    "123\x00456",
    "123456\x00",
    SURROGATE,
    f"12345{SURROGATE}",
    MEGABYTE,
    "123",
    "12345678901",
    "1" * 65,
    "1_23456",
    "+123456",
    "-1.5e3",
    "0x1234",
    "12345a",
    "１２３４５ａ",
    "²³¹²³¹",
    "①②③④⑤⑥",
    "ⅠⅡⅢⅣⅤⅥ",
    "一二三四五六",
    "123456'; DROP TABLE challenge; --",
    "{{7*7}}",
    "null",
    "NaN",
)
"""Text that cannot be a code, whatever the code is (property P46)."""

NO_RECIPIENTS: tuple[str, ...] = (
    "",
    " ",
    "\n",
    "\x00",
    SURROGATE,
    f"+8491234567{SURROGATE}",
    "+8491234567\x008",
    MEGABYTE,
    "+" + "9" * 254,
    "+",
    "++84912345678",
    "84912345678",
    "0912345678",
    "+84 912 345 678 ext 9",
    "+84912345678;ext=9",
    "+84912345678x9",
    "+84912345678,,1",
    "+84912345678#31#",
    "#31#+84912345678",
    "+84912345678w1",
    "+84912345678,+84912345679",
    "+84912345678;+84912345679",
    "+84912345678\r\n+84912345679",
    "tel:+84912345678",
    "sip:alice@example.org;x=1",
    "+1-800-FLOWERS",
    "+3200 900 12345",
    "+999123456789",
    "+84 1",
    "+849123456789012345",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "a@b\r\nBcc:x",
    "a@b.example\r\nBcc: x@example.org",
    "a@b.example\nBcc: x@example.org",
    "a@example.org, b@example.org",
    "a@example.org; b@example.org",
    "Alice <a@example.org>",
    '"a b"@example.org',
    "<a@example.org>",
    " a@example.org",
    "a@example.org ",
    "a@@example.org",
    "@example.org",
    "a@",
    "a\x00@example.org",
    f"a{SURROGATE}@example.org",
    f"a@ex{SURROGATE}ample.org",
    "a@example..org",
    "a@[127.0.0.1]",
    "a@localhost\r",
    "ü@example.org",
    "a" * 65 + "@example.org",
    "a@" + "b" * 250 + ".org",
)
"""Text that is no recipient, or more than one."""

NO_NAMES: tuple[str, ...] = (
    "",
    " ",
    "\t",
    "\x00",
    "a\x00b",
    "a\r\nb",
    "\x1b[2J",
    SURROGATE,
    f"a{SURROGATE}",
    "\u202e",
    "x" * 257,
)
"""Text that is no subject and no client: empty, unprintable or too long."""
