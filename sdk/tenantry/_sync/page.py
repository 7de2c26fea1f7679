# Made from _async/page.py by tools/generate_sync.py: do not edit.
"""Lists that are read page by page, when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows of a list.

    Attributes:
        items: The rows.
        cursor: Where this page ends; give it as `after=` to go on later, also in another process.
        has_more: Whether there were rows behind it when it was read.
    """

    items: list[Row]
    cursor: str | None
    has_more: bool
    _fetch: Callable[[str | None], Page[Row]]

    def next(self) -> Page[Row] | None:
        """The page behind this one, or None at the end."""
        return self._fetch(self.cursor) if self.has_more else None


class Pages(Generic[Row]):
    """A list: iterate over its rows, or over its `pages()`. Nothing is read before."""

    def __init__(self, fetch: Callable[[str | None], Page[Row]], after: str | None) -> None:
        self._fetch = fetch
        self._after = after

    def __iter__(self) -> Iterator[Row]:
        for page in self.pages():
            yield from page.items

    def pages(self) -> Iterator[Page[Row]]:
        """All pages, one request each."""
        page: Page[Row] | None = self.page()
        while page is not None:
            yield page
            page = page.next()

    def page(self) -> Page[Row]:
        """The first page (behind `after`, where that was given)."""
        return self._fetch(self._after)

    def all(self, limit: int | None = None) -> list[Row]:
        """The rows as a list: all of them, or the first `limit`."""
        rows: list[Row] = []
        if limit is not None and limit <= 0:
            return rows
        for row in self:
            rows.append(row)
            if len(rows) == limit:
                break
        return rows
