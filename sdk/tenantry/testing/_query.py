"""The part of PostgREST's query language that the SDK speaks: filters, order, limit, columns."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import httpx

from tenantry.testing._problems import Problem

Row = dict[str, Any]
Test = Callable[[Row], bool]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "neq": operator.ne, "gt": operator.gt, "gte": operator.ge,
    "lt": operator.lt, "lte": operator.le,
}  # fmt: skip
_NO_FILTERS = {"select", "order", "limit", "offset", "columns"}


def chosen(rows: Iterable[Row], params: httpx.QueryParams) -> list[Row]:
    """The rows that pass the filters, in the order and number that were asked for."""
    tests = [
        _parameter(name, value) for name, value in params.multi_items() if name not in _NO_FILTERS
    ]
    found = [row for row in rows if all(test(row) for test in tests)]
    for term in reversed(params.get("order", "").split(",")):
        column, _, direction = term.partition(".")
        if column:
            found.sort(key=lambda row: _sortable(row[column]), reverse=direction.startswith("desc"))
    start = int(params.get("offset", 0))
    limit = params.get("limit")
    return found[start:] if limit is None else found[start : start + int(limit)]


def projected(row: Row, params: httpx.QueryParams) -> Row:
    """The columns of a row that were asked for; embedded ones were put there before."""
    wanted = params.get("select", "*")
    if wanted == "*":
        return row
    names = [part.partition(":")[0] for part in _split(wanted)]
    return {name: row[name] for name in names}


def _parameter(name: str, value: str) -> Test:
    if name in ("and", "or"):
        return _logic(f"{name}{value}")
    return _term(name, value)


def _logic(text: str) -> Test:
    """`and(...)`, `or(...)` or `column.operator.value`."""
    for word, combine in (("and", all), ("or", any)):
        if text.startswith(f"{word}(") and text.endswith(")"):
            tests = [_logic(part) for part in _split(text[len(word) + 1 : -1])]
            return lambda row, combine=combine, tests=tests: combine(t(row) for t in tests)  # type: ignore[misc]
    column, _, rest = text.partition(".")
    return _term(column, rest)


def _term(column: str, text: str) -> Test:
    name, _, value = text.partition(".")
    if name == "not":
        inner = _term(column, value)
        return lambda row: not inner(row)
    if name == "is":
        wanted = {"null": None, "true": True, "false": False}[value]
        return lambda row: row[column] is wanted
    if name == "in":
        values = [_unquoted(part) for part in _split(value[1:-1])]
        return lambda row: any(_same(row[column], v) for v in values)
    if name == "cs":
        parts = [_unquoted(part) for part in _split(value[1:-1])]
        return lambda row: set(parts) <= set(row[column] or ())
    if name not in _COMPARE:
        raise Problem("PGRST100", f"The fake server does not know the operator {name}.")
    compare, plain = _COMPARE[name], _unquoted(value)
    return lambda row: row[column] is not None and compare(row[column], _as(plain, row[column]))


def _same(value: Any, text: str) -> bool:
    return value is not None and bool(value == _as(text, value))


def _as(text: str, like: Any) -> Any:
    """The text as a value of the same type, which is what Postgres compares."""
    try:
        if isinstance(like, bool):
            return text == "true"
        if isinstance(like, int):
            return int(text)
        if isinstance(like, UUID):
            return UUID(text)
        if isinstance(like, datetime.datetime):
            return datetime.datetime.fromisoformat(text)
        if isinstance(like, datetime.date):
            return datetime.date.fromisoformat(text)
    except ValueError:
        kind = type(like).__name__
        raise Problem("22P02", f'invalid input syntax for type {kind}: "{text}"') from None
    return text


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is None, value if value is not None else 0)


def _split(text: str) -> list[str]:
    """Parts between commas, those inside quotes and parentheses left together."""
    parts, depth, quoted, start, index = [], 0, False, 0, 0
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 1
        elif character == '"':
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif not quoted and depth == 0 and character == ",":
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return [*parts, text[start:]] if text else []


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return text
