"""JSON without losing a digit, in both directions.

Answers: numbers with a fraction become Decimal, never float. Requests: Decimal is written as a
number with all its digits; dates, UUIDs and enums in the form Postgres reads.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tenantry.errors import InvalidArgument

_quote = json.encoder.encode_basestring

#: Postgres has no NUL in text, and a lone surrogate is no character (RFC 3629, 3).
_NUL = "\x00"


def decode(content: bytes) -> Any:
    """The value of a JSON text. Raises ValueError when it is none."""
    return json.loads(content, parse_float=Decimal, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON (RFC 8259)")


def encode(value: Any) -> bytes:
    """The JSON text of a value, in UTF-8. Raises InvalidArgument that names the place."""
    return "".join(_pieces(value, "")).encode()


def text(value: Any, place: str) -> str:
    """A single value as PostgREST writes it in a filter: no quotes around strings."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _checked(value, place)
    return _scalar(value, place).strip('"')


def _pieces(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        separator = "{"
        for name, item in value.items():
            if not isinstance(name, str):
                raise InvalidArgument(
                    place or "value",
                    f"{name!r} cannot name a JSON member",
                    hint="Use strings as keys.",
                )
            here = f"{place}.{name}" if place else name
            yield f"{separator}{_quote(_checked(name, here))}:"
            yield from _pieces(item, here)
            separator = ","
        yield "{}" if separator == "{" else "}"
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        separator = "["
        for index, item in enumerate(value):
            yield separator
            yield from _pieces(item, f"{place}[{index}]")
            separator = ","
        yield "[]" if separator == "[" else "]"
    else:
        yield _scalar(value, place)


def _scalar(value: Any, place: str) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quote(_checked(value, place))
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise _refused(place, f"{value} is not a number JSON can carry")
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(place, f"{value} is not a number JSON can carry")
        return float.__repr__(value)
    if isinstance(value, datetime.datetime):
        if value.utcoffset() is None:
            raise InvalidArgument(
                place or "value",
                "a time without a zone could mean any hour",
                hint="Use an aware datetime, such as datetime.now(timezone.utc).",
            )
        return f'"{value.isoformat()}"'
    if isinstance(value, datetime.date | datetime.time):
        return f'"{value.isoformat()}"'
    if isinstance(value, uuid.UUID):
        return f'"{value}"'
    if isinstance(value, bytes | bytearray):
        return f'"\\\\x{bytes(value).hex()}"'  # the hex form of bytea, its backslash escaped
    raise _refused(place, f"a {type(value).__name__} cannot be sent")


def _checked(value: str, place: str) -> str:
    if _NUL in value:
        raise InvalidArgument(
            place or "value", "the text has a NUL character", hint="Remove the NUL (U+0000)."
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(
            place or "value",
            "the text has half of a surrogate pair",
            hint="Decode the text with its real encoding before sending it.",
        ) from None
    return value


def _refused(place: str, message: str) -> InvalidArgument:
    hint = "Send text, a finite number, a boolean, a date, a UUID, a list or a mapping."
    return InvalidArgument(place or "value", message, hint=hint)
