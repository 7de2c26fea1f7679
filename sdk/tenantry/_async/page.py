"""Lists that are read page by page, when they are looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class AsyncPage(Generic[Row]):
    """Some rows of a list.

    Attributes:
        items: The rows.
        cursor: Where this page ends; give it as `after=` to go on later, also in another process.
        has_more: Whether there were rows behind it when it was read.
    """

    items: list[Row]
    cursor: str | None
    has_more: bool
    _fetch: Callable[[str | None], Awaitable[AsyncPage[Row]]]

    async def next(self) -> AsyncPage[Row] | None:
        """The page behind this one, or None at the end."""
        return await self._fetch(self.cursor) if self.has_more else None


class AsyncPages(Generic[Row]):
    """A list: iterate over its rows, or over its `pages()`. Nothing is read before."""

    def __init__(
        self, fetch: Callable[[str | None], Awaitable[AsyncPage[Row]]], after: str | None
    ) -> None:
        self._fetch = fetch
        self._after = after

    async def __aiter__(self) -> AsyncIterator[Row]:
        async for page in self.pages():
            for row in page.items:
                yield row

    async def pages(self) -> AsyncIterator[AsyncPage[Row]]:
        """All pages, one request each."""
        page: AsyncPage[Row] | None = await self.page()
        while page is not None:
            yield page
            page = await page.next()

    async def page(self) -> AsyncPage[Row]:
        """The first page (behind `after`, where that was given)."""
        return await self._fetch(self._after)

    async def all(self, limit: int | None = None) -> list[Row]:
        """The rows as a list: all of them, or the first `limit`."""
        rows: list[Row] = []
        if limit is not None and limit <= 0:
            return rows
        async for row in self:
            rows.append(row)
            if len(rows) == limit:
                break
        return rows
