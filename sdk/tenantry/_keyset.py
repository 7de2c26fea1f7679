"""Keyset pages: the position after the last row seen, instead of an offset.

A page costs the same wherever it is, and rows added meanwhile neither repeat nor hide others.
The columns together must be unique and never null; most lists use `(created_at, id)`.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenantry import _json
from tenantry.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100
#: One row more is asked for, to know whether there is a next page; Supabase's own cap is 1000.
LARGEST_PAGE_SIZE = 500


@dataclass(frozen=True)
class Keyset:
    """An order of rows that is also a position among them."""

    columns: tuple[str, ...]
    descending: bool = True

    @property
    def order(self) -> str:
        """The `order` parameter of PostgREST."""
        direction = "desc" if self.descending else "asc"
        return ",".join(f"{column}.{direction}" for column in self.columns)

    def after(self, values: Sequence[str]) -> list[tuple[str, str]]:
        """Filters for the rows behind this position, as parameters of PostgREST.

        The first one bounds the index scan; the second says exactly where to go on.
        """
        beyond = "lt" if self.descending else "gt"
        alternatives = []
        for index, column in enumerate(self.columns):
            terms = [
                f"{name}.eq.{_quoted(values[i])}" for i, name in enumerate(self.columns[:index])
            ]
            terms.append(f"{column}.{beyond}.{_quoted(values[index])}")
            alternatives.append(terms[0] if len(terms) == 1 else f"and({','.join(terms)})")
        bound = "lte" if self.descending else "gte"
        return [(self.columns[0], f"{bound}.{values[0]}"), ("or", f"({','.join(alternatives)})")]

    def cursor(self, row: Any) -> str:
        """The position of a row (a model), as text that fits into a URL."""
        values = [_position(getattr(row, column), column) for column in self.columns]
        return base64.urlsafe_b64encode(_json.encode([self.order, *values])).decode().rstrip("=")

    def read_cursor(self, cursor: str) -> list[str]:
        """The values in a cursor. Raises InvalidArgument for a foreign or broken one."""
        try:
            padding = "=" * (-len(cursor) % 4)
            text = base64.b64decode(cursor + padding, altchars=b"-_", validate=True)
            order, *values = _json.decode(text)
        except (ValueError, TypeError, AttributeError, RecursionError):
            order, values = None, []
        if order != self.order or len(values) != len(self.columns):
            raise InvalidArgument(
                "after",
                "this is not a cursor of this list in this order",
                hint="Use page.cursor of an earlier page of the same call.",
            )
        if not all(isinstance(value, str) for value in values):
            raise InvalidArgument("after", "the cursor is broken", hint="Start without one.")
        return [str(value) for value in values]


NEWEST_FIRST = Keyset(("created_at", "id"))
OLDEST_FIRST = Keyset(("created_at", "id"), descending=False)


def by_age(newest_first: bool) -> Keyset:
    """The order of most lists."""
    return NEWEST_FIRST if newest_first else OLDEST_FIRST


def check_page_size(page_size: int) -> int:
    """The page size. Raises InvalidArgument."""
    if isinstance(page_size, bool) or not isinstance(page_size, int):
        raise InvalidArgument("page_size", f"{page_size!r} is no whole number", hint="Give one.")
    if not 1 <= page_size <= LARGEST_PAGE_SIZE:
        raise InvalidArgument(
            "page_size",
            f"{page_size} is out of bounds",
            hint=f"Give 1 to {LARGEST_PAGE_SIZE}; iterating reads all pages anyway.",
        )
    return page_size


def _position(value: Any, column: str) -> str:
    if isinstance(value, datetime.datetime):
        # One zone, so that equal moments give equal text.
        value = value.astimezone(datetime.UTC)
    return _json.text(value, column)


def _quoted(value: str) -> str:
    # Inside or=(...) commas, dots and parentheses mean something (PostgREST, Reserved characters).
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
