"""PostgREST's errors, without the names and values that the caller may not know.

Kept whole: errors raised by our own SQL, recognised by `details` that are JSON with a `reason`.
All others become a fixed sentence per code, unless their message names nothing but what the
caller named in the request, or the very table it wrote to. Row images, key values, hints that
guess other names, planner and lock details are never passed on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

LARGEST_ERROR_BYTES = 64 * 1024

Sentence = tuple[str, str | None]

# Messages that repeat only the caller's own input; their hints and details go.
_KEPT_MESSAGES = re.compile(
    r"PGRST(?:1(?:00|01|02|03|05|08|09|11|12|14|16|17|18|19|20|22|23|24|28)|2(?:00|02|04|05)|30[123])"
    r"|P0001|PT\d{3}|2200[1378]|22P0[25]|22021|22023|22012|25006"
)
# Details that clients read: where parsing stopped, and how many rows there were instead of one.
_KEPT_DETAILS = frozenset({"PGRST100", "PGRST103", "PGRST116"})
_OWN_HINTS = re.compile(r"P0001|PT\d{3}")

_HINTS = {
    "PGRST200": "Check the name in `select`: there is no foreign key to it.",
    "PGRST202": "Check the function's name and the names of its arguments.",
    "PGRST204": "Check the names of the columns in the body.",
    "PGRST108": "Name the embedded table in `select` too.",
    "PGRST109": "Add an `order` by unique columns.",
}
_SENTENCES: dict[str, Sentence] = {
    "PGRST106": ("This schema is not available", "Remove the profile header."),
    "PGRST201": (
        "More than one foreign key leads to the embedded table",
        "Name the foreign key: table!constraint(...).",
    ),
    "PGRST203": (
        "More than one function has this name and these arguments",
        "Name all arguments.",
    ),
    "23502": ("A required value is missing", None),
    "23503": (
        "A record that this one refers to does not exist",
        "Use the id of an existing record of the same business.",
    ),
    "23503 delete": (
        "Other records still refer to this one",
        "Remove or change those records first.",
    ),
    "23505": ("A record with these values exists already", "Change it instead, or choose others."),
    "23514": ("A value breaks a rule of this record", None),
    "23P01": ("The record overlaps with an existing one", None),
    "21000": ("The same record occurs twice in the request", None),
    "40001": ("Somebody changed the same records at the same moment", "Try again."),
    "40P01": ("Somebody changed the same records at the same moment", "Try again."),
    "42501": ("You do not have the right to do this", None),
    "42P01": ("There is no such table or view", None),
    "42703": ("There is no such column", None),
    "42883": ("There is no such function or operator for these types", None),
    "54000": ("The request is too complex", "Ask for less."),
    "54001": ("The request is too complex", "Ask for less."),
    "55P03": ("The records are locked by another request", "Try again in a moment."),
    "57014": (
        "The request took longer than the database allows",
        "Narrow the filter, ask for fewer rows, or call an RPC made for the purpose.",
    ),
}
_UNAVAILABLE: Sentence = ("The database is not available", "Try again in a moment.")
_REFUSED: Sentence = ("The database refused the request", None)
_NOT_FOUND: Sentence = ("There is nothing at this address", "Use /rest/v1/<table> or /rpc/<name>.")
_BROKEN: Sentence = ("The request could not be completed", "Report the request_id if it persists.")

_QUOTED_NAME = re.compile(r'"([^"]*)"')
_PLAIN_NAME = re.compile(
    r"\b(?:table|view|relation|function|procedure|sequence|schema|column)\s+([\w.$]+)"
)
_RELATION = re.compile(r'relation "([^"]+)"')
_WORD = re.compile(r"\w+")
_ALIAS_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller named: the table or function, and the whole decoded path and query."""

    resource: str
    text: str

    def named(self, message: str) -> bool:
        """Whether `message` names something, and only what the caller named too."""
        names = [*_QUOTED_NAME.findall(message), *_PLAIN_NAME.findall(message)]
        words = {"public", *_WORD.findall(self.text)}
        return bool(names) and all(
            part in words or _ALIAS_NUMBER.sub("", part) in words
            for name in names
            for part in _WORD.findall(name)
        )


def clean(target: str, request_id: str, status: int, body: bytes) -> tuple[int, bytes]:
    """The status and JSON body to answer instead, to a request for `target` (path and query).

    Anything that is not an error object is lost.
    """
    asked = Asked(unquote_plus(target.partition("?")[0].rpartition("/")[2]), unquote_plus(target))
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        error = None
    if not isinstance(error, dict):
        error = {}
    code = error.get("code")
    if not isinstance(code, str):
        code = f"GW{status}"
        message, hint = _NOT_FOUND if status == 404 else _BROKEN
        cleaned: dict[str, Any] = {"code": code, "message": message, "hint": hint, "details": None}
    elif _is_own(error.get("details")):
        cleaned = {name: error.get(name) for name in ("code", "message", "details", "hint")}
    else:
        cleaned = _cleaned(status, code, error, asked)
        if cleaned["message"] == _UNAVAILABLE[0]:
            status = 503
    cleaned["request_id"] = request_id
    return status, json.dumps(cleaned).encode()


def _is_own(details: object) -> bool:
    """Whether our SQL wrote these details; Postgres and PostgREST never write such JSON."""
    if not isinstance(details, str) or not details.startswith("{"):
        return False
    try:
        value = json.loads(details)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("reason"), str)


def _cleaned(status: int, code: str, error: dict[str, Any], asked: Asked) -> dict[str, Any]:
    given = error.get("message")
    message: str = given if isinstance(given, str) else ""
    details = error.get("details") if code in _KEPT_DETAILS else None
    hint: str | None
    if _KEPT_MESSAGES.fullmatch(code):
        hint = _HINTS.get(code)
        if _OWN_HINTS.fullmatch(code) and isinstance(error.get("hint"), str):
            hint = error["hint"]
    elif _may_keep(code, message, asked):
        hint = None
    else:
        message, hint = _sentence(status, code, message)
    return {"code": code, "message": message, "details": details, "hint": hint}


def _may_keep(code: str, message: str, asked: Asked) -> bool:
    if code in ("23502", "23514"):
        # The table it wrote to has no secrets in the names of its columns and rules.
        return _RELATION.findall(message) == [asked.resource]
    return code in ("42501", "42P01", "42703") and asked.named(message)


def _sentence(status: int, code: str, message: str) -> Sentence:
    if code == "23503" and message.startswith("update or delete"):
        return _SENTENCES["23503 delete"]
    if code in _SENTENCES:
        return _SENTENCES[code]
    if code.startswith(("08", "53", "57P", "PGRST00")):
        return _UNAVAILABLE
    return _BROKEN if status >= 500 else _REFUSED
