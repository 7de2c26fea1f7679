# Made from _async/resource.py by tools/generate_sync.py: do not edit.
"""What the resources share: tables, functions, pages, keys."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from postgrest import SyncRequestBuilder
from postgrest.base_request_builder import RequestConfig
from pydantic import BaseModel

from tenantry import _json
from tenantry._keyset import Keyset, check_page_size
from tenantry._reply import Reply, columns_of
from tenantry._retry import Safety
from tenantry._sync.page import Page, Pages
from tenantry._sync.transport import Request
from tenantry.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from tenantry._sync.client import Tenantry

Model = TypeVar("Model", bound=BaseModel)


def request_of(builder: Any, safety: Safety, *, in_business: bool) -> Request:
    """The request that a postgrest builder has built; sending and reading it is ours."""
    config: RequestConfig[Any] = builder.request
    headers = httpx.Headers(config.headers)
    if config.strip_nulls:
        kind = "object" if "object" in headers.get("accept", "") else "array"
        headers["accept"] = f"application/vnd.pgrst.{kind}+json;nulls=stripped"
    has_body = config.http_method in ("POST", "PATCH", "PUT")
    return Request(
        method=str(config.http_method),
        url=str(config.path),
        params=config.params,
        headers=headers,
        content=_json.encode(config.json) if has_body else None,
        safety=safety,
        in_business=in_business,
    )


class Resource:
    """A group of calls about one thing. Made by the client, never by hand."""

    def __init__(self, client: Tenantry) -> None:
        self._client = client

    #: For functions that read, set a state, or find what they made before.
    _repeatable = Safety.REPEATABLE
    #: False where calls are not about the business in use: they work when it is gone, too.
    _in_business = True

    @property
    def _business_id(self) -> UUID:
        return self._client._options.chosen_business()

    def _table(self, name: str) -> SyncRequestBuilder:
        return self._client.from_(name)

    def _send(
        self,
        builder: Any,
        safety: Safety = Safety.REPEATABLE,
        *,
        in_business: bool | None = None,
    ) -> Reply:
        if in_business is None:
            in_business = self._in_business
        request = request_of(builder, safety, in_business=in_business)
        return self._client._transport.send(request, self._client._options)

    def _call(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        returns: type[BaseModel] | None = None,
        safety: Safety = Safety.ONCE,
        in_business: bool | None = None,
    ) -> Reply:
        """Call a database function. Arguments that are None are left to the function's defaults."""
        given = {name: value for name, value in arguments.items() if value is not None}
        builder = self._client.rpc(function, given)
        if returns is not None:
            builder.select(columns_of(returns))
        return self._send(builder, safety, in_business=in_business)

    def _key(self, given: str | None) -> str | None:
        """The idempotency key of a write: the caller's, or our own when retries are on."""
        if given is not None:
            if not isinstance(given, str) or not 1 <= len(given) <= 255:
                raise InvalidArgument(
                    "idempotency_key",
                    "it cannot be a key",
                    hint="Give text of 1 to 255 characters.",
                )
            return given
        return uuid.uuid4().hex if self._client._options.max_retries else None

    def _call_once(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        idempotency_key: str | None,
        returns: type[BaseModel],
    ) -> Reply:
        """Call a function that takes an idempotency key, so that repeating it does it once."""
        key = self._key(idempotency_key)
        return self._call(
            function,
            {**arguments, "idempotency_key": key},
            returns=returns,
            safety=Safety.ONCE if key is None else Safety.REPEATABLE,
        )

    def _get(self, table: str, model: type[Model], record_id: UUID | str) -> Model:
        """A row of the business in use. Raises NotFound."""
        reply = self._send(self._rows(table, model).eq("id", check_id(record_id)))
        rows = reply.many(model)
        if not rows:
            raise not_found(table, record_id, reply)
        return rows[0]

    def _rows(self, table: str, model: type[BaseModel]) -> Any:
        """A query of the rows of the business in use."""
        return self._table(table).select(columns_of(model)).eq("business_id", self._business_id)

    def _update(
        self,
        table: str,
        model: type[Model],
        record_id: UUID | str,
        changes: Mapping[str, Any],
        allowed: type,
    ) -> Model:
        """Change a row of the business in use; setting the same twice is the same."""
        query = (
            self._table(table)
            .update(check_changes(changes, allowed))
            .eq("business_id", self._business_id)
            .eq("id", check_id(record_id))
            .select(columns_of(model))
        )
        return self._updated(table, record_id, query, model)

    def _updated(self, table: str, record_id: UUID | str, query: Any, model: type[Model]) -> Model:
        reply = self._send(query)
        rows = reply.many(model)
        if not rows:
            # A row that may be read but not changed is not among those an update sees.
            hint = "Check the id; if you can read the row, you lack the right to change it."
            raise not_found(table, record_id, reply, hint=hint)
        return rows[0]

    def _single(self, reply: Reply, model: type[Model]) -> Model:
        """The only row of an answer that is a list."""
        rows = reply.many(model)
        if len(rows) != 1:
            raise reply.unexpected(f"one {model.__name__} was expected, not {len(rows)}")
        return rows[0]

    def _pages(
        self,
        query: Any,
        model: type[Model],
        *,
        keyset: Keyset,
        page_size: int,
        after: str | None,
        complete: Callable[[list[Model]], list[Model]] | None = None,
    ) -> Pages[Model]:
        """The rows of a query, in the order of the keyset; `complete` may add to each page."""
        check_page_size(page_size)
        if after is not None:
            keyset.read_cursor(after)
        request = request_of(query, Safety.REPEATABLE, in_business=self._in_business)
        params = request.params.set("order", keyset.order).set("limit", page_size + 1)

        def fetch(cursor: str | None) -> Page[Model]:
            here = params
            if cursor is not None:
                for name, value in keyset.after(keyset.read_cursor(cursor)):
                    here = here.add(name, value)
            reply = self._client._transport.send(
                dataclasses.replace(request, params=here), self._client._options
            )
            rows = reply.many(model)
            items = rows[:page_size]
            if complete is not None and items:
                items = complete(items)
            return Page(
                items=items,
                cursor=keyset.cursor(items[-1]) if items else cursor,
                has_more=len(rows) > page_size,
                _fetch=fetch,
            )

        return Pages(fetch, after)


def check_id(value: UUID | str, field: str = "id") -> UUID:
    """An id. Raises InvalidArgument for text that is no UUID."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise InvalidArgument(
            field, f"{value!r} is not an id", hint="Give a UUID, as in the `id` of a row."
        ) from None


def check_changes(changes: Mapping[str, Any], allowed: type) -> dict[str, Any]:
    """What to change. Raises InvalidArgument for nothing, and for what cannot be changed."""
    known = allowed.__annotations__
    for name in changes:
        if name not in known:
            hint = f"You may change {', '.join(known)}."
            raise InvalidArgument(name, "it cannot be changed", hint=hint)
    if not changes:
        hint = f"Name what to change: {', '.join(known)}."
        raise InvalidArgument("changes", "there are none", hint=hint)
    return dict(changes)


def not_found(
    table: str, record_id: UUID | str, reply: Reply, *, hint: str | None = None
) -> NotFound:
    """The error for a row that is not there, or that the caller may not see."""
    return NotFound(
        f"There is no row {record_id} in {table} of this business.",
        status=404,
        code="PT404",
        hint=hint,
        details={"field": "id", "reason": "not_found"},
        request_id=reply.request_id,
    )


def within(
    query: Any, column: str, since: datetime.datetime | None, until: datetime.datetime | None
) -> Any:
    """Bounds on a moment: from `since` on, before `until`."""
    if since is not None:
        query = query.gte(column, _json.text(since, "since"))
    if until is not None:
        query = query.lt(column, _json.text(until, "until"))
    return query


def matching(query: Any, **values: Any) -> Any:
    """Equality filters for the values that are not None."""
    for column, value in values.items():
        if value is not None:
            query = query.eq(column, _json.text(value, column))
    return query
