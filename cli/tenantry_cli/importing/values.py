"""Turning the text of a row into the values the API takes.

Only wording is translated here ("missed", "1:05", "Brazil"). Whether a value is good is decided by
the database, so that a file and a program meet the same rules.
"""

from __future__ import annotations

import re
from typing import Any

from tenantry_cli.importing.columns import CUSTOM, Kind, Mapping
from tenantry_cli.importing.countries import country_code
from tenantry_cli.importing.table import Row

_DIRECTIONS = {
    "in": "inbound", "incoming": "inbound", "inbound": "inbound", "received": "inbound",
    "out": "outbound", "outgoing": "outbound", "outbound": "outbound", "sent": "outbound",
    "outbound_api": "outbound", "outbound_reply": "outbound", "outbound_dial": "outbound",
}  # fmt: skip
_CALL_STATUSES = {
    "answered": "completed", "success": "completed", "missed": "no_answer",
    "unanswered": "no_answer", "noanswer": "no_answer", "cancelled": "canceled",
    "voice_mail": "voicemail",
}  # fmt: skip
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):([0-5]\d)")


def read_row(
    kind: Kind, row: Row, mapping: Mapping, direction: str | None = None
) -> dict[str, Any]:
    """The row as the API takes it; empty values are left out.

    `direction` is that of messages and calls whose row has none.
    """
    content: dict[str, Any] = {"line": row.line}
    custom: dict[str, str] = {}
    for field, position in mapping.fields.items():
        value = row.values[position]
        if not value.strip():
            continue
        if field.startswith(CUSTOM):
            custom[field[len(CUSTOM) :]] = value
        else:
            content[field] = _READERS.get((kind, field), _as_it_is)(value)
    if custom:
        content["custom_fields"] = custom
    if kind is not Kind.customers and direction:
        content.setdefault("direction", direction)
    if kind is Kind.calls and _word(content.get("direction", "")) == "missed":
        content["direction"] = "inbound"
        content.setdefault("status", "no_answer")
    sender, receiver = content.pop("from", None), content.pop("to", None)
    # Of two numbers the other party's counts: ours is the channel.
    if other := receiver if content.get("direction") == "outbound" else sender:
        content.setdefault("peer", other)
    full_name = content.pop("full_name", None)
    if full_name and not ("first_name" in content or "last_name" in content):
        # Where a name is divided is not for a program to guess; it is shown whole either way.
        content["first_name"] = full_name
    return content


def _as_it_is(value: str) -> str:
    return value


def _word(value: str) -> str:
    return re.sub(r"[\s_-]+", "_", value.strip().lower())


def _direction(value: str) -> str:
    return _DIRECTIONS.get(_word(value), value)


def _call_status(value: str) -> str:
    return _CALL_STATUSES.get(_word(value), _word(value))


def _country(value: str) -> str:
    return country_code(value) or value


def _tags(value: str) -> list[str]:
    return [tag for part in re.split(r"[,;|]", value) if (tag := part.strip())]


def _duration(value: str) -> str:
    if match := _CLOCK.fullmatch(value.strip()):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return str(hours * 3600 + minutes * 60 + seconds)
    return value


_READERS = {
    (Kind.customers, "country"): _country,
    (Kind.customers, "phone_country"): _country,
    (Kind.customers, "tags"): _tags,
    (Kind.customers, "kind"): _word,
    (Kind.customers, "lifecycle_stage"): _word,
    (Kind.messages, "direction"): _direction,
    (Kind.messages, "status"): _word,
    (Kind.calls, "direction"): _direction,
    (Kind.calls, "status"): _call_status,
    (Kind.calls, "outcome"): _word,
    (Kind.calls, "duration_seconds"): _duration,
}
