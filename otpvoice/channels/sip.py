"""How a telephone call ended, by SIP's final codes: the words that all voice vendors share."""

from __future__ import annotations

from collections.abc import Mapping

SIP_REASONS: Mapping[int, str] = {
    **dict.fromkeys((408, 480, 487), "no_answer"),
    **dict.fromkeys((486, 600), "busy"),
    **dict.fromkeys((603, 607), "rejected"),
    **dict.fromkeys((404, 410, 484, 604), "invalid_number"),
    **dict.fromkeys((402, 403), "blocked"),
    **dict.fromkeys(range(500, 600), "carrier_failure"),
}
"""SIP's final codes (RFC 3261, 21) in our words. Any other is ``failed``."""
