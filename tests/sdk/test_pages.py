"""Lists by keyset: every row once, whatever the page size, in both directions."""

from __future__ import annotations

import datetime
import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_answers import BUSINESS, KEY, URL, Answers, customer, ok

from tenantry import Tenantry, errors
from tenantry._keyset import NEWEST_FIRST, OLDEST_FIRST, Keyset
from tenantry.models import Customer


def table(rows: list[dict[str, object]]):
    """A server that orders, limits and goes on behind a position as PostgREST would."""

    def answer(request: httpx.Request) -> httpx.Response:
        params = request.url.params
        descending = ".desc" in params["order"]
        found = sorted(rows, key=lambda r: (r["created_at"], r["id"]), reverse=descending)
        if "or" in params:
            position = re.findall(r'"([^"]+)"', params["or"])
            at, last = position[0], position[-1]
            bound = dict(params.multi_items())["created_at"]
            assert bound.split(".", 1)[1] == at
            assert bound.startswith("lte." if descending else "gte.")
            key = (datetime.datetime.fromisoformat(at), last)
            found = [
                r
                for r in found
                if ((datetime.datetime.fromisoformat(str(r["created_at"])), r["id"]) < key)
                == descending
                and (datetime.datetime.fromisoformat(str(r["created_at"])), r["id"]) != key
            ]
        return ok(found[: int(params["limit"])])

    return answer


@given(
    moments=st.lists(st.integers(0, 5), max_size=30),
    page_size=st.integers(1, 8),
    newest_first=st.booleans(),
)
def test_every_row_comes_once_and_in_order(
    moments: list[int], page_size: int, newest_first: bool
) -> None:
    # Few distinct moments, so that many rows share one and only the id tells them apart.
    rows = [
        customer(n, created_at=f"2026-11-20T10:00:00.{m:06d}+00:00") for n, m in enumerate(moments)
    ]
    server = Answers(table(rows))
    with httpx.Client(transport=httpx.MockTransport(server)) as http:
        client = Tenantry(URL, KEY, business=BUSINESS, http_client=http)
        pages = client.customers.list(newest_first=newest_first, page_size=page_size)
        seen = [(r.created_at, str(r.id)) for r in pages]
    assert seen == sorted(seen, reverse=newest_first)
    assert sorted(row_id for _, row_id in seen) == sorted(str(r["id"]) for r in rows)
    assert len(server.requests) == max(1, -(-len(rows) // page_size))


def test_nothing_is_read_before_it_is_looked_at(client_of) -> None:
    client, server = client_of(ok([]))
    client.customers.list()
    assert server.requests == []


def test_a_page_says_where_it_ends_and_whether_there_is_more(client_of) -> None:
    rows = [customer(n) for n in range(5)]
    client, _ = client_of(table(rows))
    first = client.customers.list(page_size=2).page()
    assert len(first.items) == 2
    assert first.has_more
    # Later, perhaps in another process:
    second = client.customers.list(page_size=2, after=first.cursor).page()
    assert second.items == first.next().items
    last = second.next()
    assert (len(last.items), last.has_more, last.next()) == (1, False, None)


def test_an_empty_list_has_one_empty_page(client_of) -> None:
    client, _ = client_of(ok([]))
    page = client.customers.list().page()
    assert (page.items, page.cursor, page.has_more) == ([], None, False)
    assert client.customers.list().all() == []


def test_the_first_few_rows_cost_no_more_pages_than_they_need(client_of) -> None:
    client, server = client_of(table([customer(n) for n in range(10)]))
    assert len(client.customers.list(page_size=3).all(limit=4)) == 4
    assert len(server.requests) == 2
    assert client.customers.list().all(limit=0) == []
    assert len(server.requests) == 2


def test_a_cursor_of_another_order_is_refused(client_of) -> None:
    client, _ = client_of(table([customer(n) for n in range(3)]))
    cursor = client.customers.list(page_size=1).page().cursor
    with pytest.raises(errors.InvalidArgument, match="not a cursor of this list"):
        client.customers.list(newest_first=False, after=cursor)
    with pytest.raises(errors.InvalidArgument, match="not a cursor of this list"):
        client.calls.list(after=cursor)


@given(st.datetimes(timezones=st.timezones()), st.uuids())
def test_a_cursor_keeps_the_microsecond_in_any_zone(at: datetime.datetime, row_id: object) -> None:
    row = Customer.model_validate(customer() | {"created_at": at, "id": row_id})
    moment, identifier = NEWEST_FIRST.read_cursor(NEWEST_FIRST.cursor(row))
    # In UTC: a local time that a clock change skips equals nothing, not even itself.
    assert datetime.datetime.fromisoformat(moment) == at.astimezone(datetime.UTC)
    assert identifier == str(row_id)


@given(st.text())
def test_any_text_as_cursor_is_refused_and_never_crashes(cursor: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        OLDEST_FIRST.read_cursor(cursor)


def test_a_position_of_several_columns_is_spelled_out() -> None:
    keyset = Keyset(("day", "metric", "id"), descending=False)
    assert keyset.order == "day.asc,metric.asc,id.asc"
    assert keyset.after(["2026-01-01", 'a"b,c', "x"]) == [
        ("day", "gte.2026-01-01"),
        (
            "or",
            '(day.gt."2026-01-01",and(day.eq."2026-01-01",metric.gt."a\\"b,c"),'
            'and(day.eq."2026-01-01",metric.eq."a\\"b,c",id.gt."x"))',
        ),
    ]


@pytest.mark.anyio
async def test_asynchronous_lists_are_the_same(async_client_of) -> None:
    rows = [customer(n) for n in range(7)]
    client, server = async_client_of(table(rows))
    seen = [row async for row in client.customers.list(page_size=3)]
    assert len({row.id for row in seen}) == 7
    assert len(server.requests) == 3
    pages = [page async for page in client.customers.list(page_size=3).pages()]
    assert [len(page.items) for page in pages] == [3, 3, 1]
    assert len(await client.customers.list().all(limit=2)) == 2
