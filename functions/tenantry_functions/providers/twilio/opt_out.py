"""Has the sender asked to hear no more, or to hear again?

Twilio says so in OptOutType when Advanced Opt-Out is on. Else the message is the keyword, whole:
"STOP" and "stop." count, "please stop by" does not.
https://help.twilio.com/articles/223134027 lists the words that Twilio itself acts upon;
47 CFR 64.1200(a)(10) adds "opt out" and "revoke" as unmistakable requests.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Literal

_Request = Literal["out", "in"]
_DECLARED: Mapping[str, _Request] = {"STOP": "out", "START": "in"}
_OUT = frozenset(
    {
        "stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit",
        "optout", "opt out", "opt-out", "revoke",
    }
)  # fmt: skip
_IN = frozenset({"start", "yes", "unstop"})


def opt_request(opt_out_type: str | None, text: str) -> _Request | None:
    """`out`, `in`, or None for any other message, HELP among them."""
    if opt_out_type:
        return _DECLARED.get(opt_out_type.upper())
    word = _bare(text)
    if word in _OUT:
        return "out"
    return "in" if word in _IN else None


def _bare(text: str) -> str:
    """Without case, and without the blanks, quotes and punctuation around it."""
    # Longer than any keyword with its wrapping: not worth looking at.
    if len(text) > 64:
        return ""
    start, end = 0, len(text)
    while start < end and _is_wrapping(text[start]):
        start += 1
    while end > start and _is_wrapping(text[end - 1]):
        end -= 1
    return " ".join(text[start:end].casefold().split())


def _is_wrapping(character: str) -> bool:
    # Z blanks, P punctuation, Cc and Cf control and invisible characters.
    return unicodedata.category(character)[0] in "ZPC"
