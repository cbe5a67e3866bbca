"""How many SMS a text takes (3GPP TS 23.038): 160 septets, or 70 UTF-16 units as soon as one character is foreign."""

from __future__ import annotations

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")


def segments(text: str) -> int:
    """The number of messages that a text is cut into, and that are paid for."""
    if all(character in _BASIC or character in _EXTENDED for character in text):
        size, single, joined = len(text) + sum(character in _EXTENDED for character in text), 160, 153
    else:
        size, single, joined = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if size <= single else -(-size // joined)
