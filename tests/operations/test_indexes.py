"""What is said about indexes and tables is what was done to them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.testing import Database

from .conftest import BLUEBIRD, make_tenant_schema


def _index(connection: Connection, name: str, schema: str = "public") -> dict[str, Any]:
    row = connection.execute(
        "select * from private.v_index_usage_analysis where schema_name = %s and index_name = %s",
        (schema, name),
    ).fetchone()
    assert row is not None, name
    return row


def _advice(connection: Connection, name: str, minimum_days: int = 30) -> str:
    row = connection.execute(
        "select recommendation from private.sp_check_index_effectiveness(%s) where index_name = %s",
        (minimum_days, name),
    ).fetchone()
    assert row is not None, name
    return str(row["recommendation"])


def _flush(connection: Connection) -> None:
    """Statistics are sent at the end of a transaction, at most once a second, unless forced."""
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select 1")


def _reset(database: Database) -> None:
    with database.server.administer(database.name) as superuser:
        superuser.execute("select pg_stat_reset()")


def test_used_rarely_used_and_unused(owner: Connection) -> None:
    owner.execute("create table public.shelf (id int primary key, a int, b int, c int)")
    owner.execute("insert into public.shelf select n, n, n, n from generate_series(1, 500) n")
    for column in "abc":
        owner.execute(f"create index shelf_{column} on public.shelf ({column})".encode())
    owner.execute("analyze public.shelf")
    owner.execute("set enable_seqscan = off")
    for number in range(150):
        owner.execute(b"select * from public.shelf where a = %s", (number,))
    owner.execute("select * from public.shelf where b = 7")
    _flush(owner)
    found = {name: _index(owner, f"shelf_{name}") for name in "abc"}
    assert [found[name]["verdict"] for name in "abc"] == ["effective", "rarely used", "unused"]
    assert [found[name]["scans"] for name in "abc"] == [150, 1, 0]
    assert found["a"]["tuples_read"] == 149  # 0 is not there
    assert found["a"]["size_bytes"] > 0
    assert not any(one["backs_constraint"] for one in found.values())


def test_nothing_is_dropped_on_young_statistics(owner: Connection, story: Database) -> None:
    owner.execute("create table public.shelf (id int primary key, a int)")
    owner.execute("create index shelf_a on public.shelf (a)")
    _reset(story)
    assert _advice(owner, "shelf_a").startswith("wait: statistics began on ")
    assert _advice(owner, "shelf_a", 0).startswith("consider dropping: no scan since ")


def test_what_a_constraint_needs_stays(owner: Connection, story: Database) -> None:
    primary = _index(owner, "customers_pkey")
    assert primary["backs_constraint"]
    assert primary["is_unique"]
    assert _advice(owner, "customers_pkey", 0) == "keep: a constraint needs it"
    assert _index(owner, "calls_customer_idx")["supports_foreign_key"] is not None
    _reset(story)
    assert _advice(owner, "calls_customer_idx", 0).startswith("keep: deletes through ")


def test_duplicates_are_found_and_the_needed_one_stays(owner: Connection) -> None:
    owner.execute("create index calls_started on public.calls (started_at)")
    owner.execute("create index calls_started_desc on public.calls (started_at desc)")
    owner.execute("create index calls_started_2 on public.calls (started_at)")
    owner.execute("create index calls_started_some on public.calls (started_at) where notes <> ''")
    owner.execute("create index calls_begun on public.calls (started_at, peer)")
    assert _index(owner, "calls_started_2")["duplicate_of"] == "calls_started"
    assert _index(owner, "calls_started_2")["verdict"] == "duplicate"
    for name in ("calls_started", "calls_started_desc", "calls_started_some", "calls_pkey"):
        assert _index(owner, name)["duplicate_of"] is None, name
    assert _index(owner, "calls_started")["covered_by"] == "calls_begun"
    assert (
        _advice(owner, "calls_started_2")
        == "drop public.calls_started_2: the same as calls_started"
    )


def test_an_index_that_only_repeats_a_key_is_a_duplicate_of_it(owner: Connection) -> None:
    owner.execute("create index channels_again on public.channels (business_id, id)")
    assert _index(owner, "channels_again")["duplicate_of"] == "channels_pkey"
    assert _index(owner, "channels_pkey")["verdict"] != "duplicate"
    # One that includes more columns is not the same, but enough.
    on = "on public.calls (business_id, metric_date)"
    owner.execute(f"create index calls_wide {on} include (status)".encode())
    owner.execute(f"create index calls_again {on}".encode())
    assert _index(owner, "calls_again")["duplicate_of"] is None
    assert _index(owner, "calls_again")["covered_by"] == "calls_wide"


def test_a_failed_build_is_told(owner: Connection) -> None:
    with pytest.raises(Exception, match="could not create unique index"):
        owner.execute("create unique index concurrently one_each on public.calls (business_id)")
    assert _index(owner, "one_each")["verdict"] == "invalid"
    assert _advice(owner, "one_each").startswith("rebuild public.one_each")


def test_an_index_of_a_tenants_schema_is_told_as_its(owner: Connection) -> None:
    name = make_tenant_schema(owner, BLUEBIRD)
    assert _index(owner, "customers_pkey", name)["organization_id"] is None
    owner.execute(
        "update public.organization_placements set isolation = 'schema', schema_name = %s"
        " where organization_id = %s",
        (name, BLUEBIRD),
    )
    assert _index(owner, "customers_pkey", name)["organization_id"] == BLUEBIRD
    assert _index(owner, "customers_pkey")["organization_id"] is None


def test_advice_about_tables(owner: Connection) -> None:
    def table(name: str) -> dict[str, Any]:
        _flush(owner)
        row = owner.execute(
            "select * from private.sp_analyze_query_performance() where table_name = %s", (name,)
        ).fetchone()
        assert row is not None
        return row

    owner.execute("create table public.shelf (id int, a int) with (autovacuum_enabled = false)")
    owner.execute("insert into public.shelf select n, n from generate_series(1, 5000) n")
    assert table("shelf")["recommendation"].startswith("analyze public.shelf: the planner")
    owner.execute("analyze public.shelf")
    assert table("shelf")["recommendation"] == "none"
    owner.execute("update public.shelf set a = 0 where id <= 2000")
    found = table("shelf")
    assert found["dead_tuples"] == 2000
    assert float(found["dead_ratio"]) == pytest.approx(2000 / 7000, abs=0.001)
    assert found["recommendation"].startswith("vacuum (analyze) public.shelf")
    # A look that autovacuum takes at another table keeps dead rows for as long as it lasts.
    deadline = time.monotonic() + 10
    while True:
        owner.execute("vacuum (analyze) public.shelf")
        found = table("shelf")
        if found["dead_tuples"] == 0 or time.monotonic() > deadline:
            break
    assert (found["dead_tuples"], found["recommendation"]) == (0, "none")
    assert found["last_vacuum_at"] is not None
    owner.execute("insert into public.shelf select n, n from generate_series(1, 6000) n")
    _flush(owner)
    owner.execute("analyze public.shelf")
    for _ in range(101):
        owner.execute("select count(*) from public.shelf")
    assert table("shelf")["recommendation"].startswith("look for a missing index: ")
