"""Benchmarks are run, recorded and compared."""

from __future__ import annotations

import pytest

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.operations.benchmarks import QUERIES, compare_with_last, run_benchmarks

from .conftest import COPPERLINE, DENTAL, PRINT, make_tenant_schema, scalar


def test_every_query_is_measured_twice_and_recorded(owner: Connection) -> None:
    measured = run_benchmarks(owner, executions=5)
    assert len(measured) == 2 * len(QUERIES)
    assert {(row["role"], row["with_rls"]) for row in measured} == {
        ("authenticated", True),
        ("postgres", False),
    }
    rows = owner.execute("select * from private.performance_benchmarks").fetchall()
    assert len(rows) == len(measured)
    recorded = {(row["name"], row["with_rls"]): row for row in rows}
    for row in measured:
        kept = recorded[row["name"], row["with_rls"]]
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert float(kept["p50_ms"]) == row["p50_ms"]
        assert (kept["plan_hash"], kept["executions"]) == (row["plan_hash"], 5)
    counts = {row["name"]: row["row_count"] for row in measured}
    assert counts["calls_newest"] == scalar(owner, "select count(*) from public.calls")


def test_row_security_is_in_the_plan(owner: Connection) -> None:
    plans = {(row["name"], row["with_rls"]): row["plan_hash"] for row in run_benchmarks(
        owner, executions=5)}  # fmt: skip
    assert plans["customers_count", True] != plans["customers_count", False]


def test_the_same_again_is_the_same(owner: Connection) -> None:
    owner.execute("analyze")
    first = run_benchmarks(owner, executions=5)
    assert {row["verdict"] for row in compare_with_last(owner, first, 1.5)} == {"new"}
    second = run_benchmarks(owner, executions=5)
    compared = compare_with_last(owner, second, 1000)
    assert {row["verdict"] for row in compared} == {"same"}
    before = {(row["name"], row["with_rls"]): row["p50_ms"] for row in first}
    for row in compared:
        assert row["p50_before_ms"] == before[row["name"], row["with_rls"]]


def test_a_changed_plan_and_a_slower_query_are_seen(owner: Connection) -> None:
    owner.execute("set enable_seqscan = off")
    run_benchmarks(owner, executions=5)
    owner.execute("set enable_seqscan = on")
    owner.execute("set enable_indexscan = off")
    owner.execute("set enable_bitmapscan = off")
    owner.execute("set enable_indexonlyscan = off")
    measured = run_benchmarks(owner, executions=5)
    compared = {
        (row["name"], row["with_rls"]): row for row in compare_with_last(owner, measured, 1e6)
    }
    assert compared["customers_newest", False]["verdict"] == "plan changed"
    # The record says the run before took no time at all.
    owner.execute("update private.performance_benchmarks set p50_ms = 0 where run_id <> %s",
                  (measured[0]["run_id"],))  # fmt: skip
    again = compare_with_last(owner, measured, 1.5)
    assert "slower" in {row["verdict"] for row in again}


def test_the_largest_business_is_measured_unless_another_is_named(owner: Connection) -> None:
    statement = "select business_id from public.customers group by 1 order by count(*) desc limit 1"
    assert scalar(owner, statement) == DENTAL
    name = make_tenant_schema(owner, COPPERLINE)
    owner.execute(
        "update public.organization_placements set isolation = 'schema', schema_name = %s"
        " where organization_id = %s",
        (name, COPPERLINE),
    )
    assert {row["schema_name"] for row in run_benchmarks(owner, executions=5)} == {"public"}
    for business in ("copperline-print", str(PRINT)):
        measured = run_benchmarks(owner, business=business, executions=5)
        assert {row["schema_name"] for row in measured} == {name}
        assert {row["row_count"] for row in measured} == {0}


def test_without_a_business_there_is_nothing_to_measure(owner: Connection) -> None:
    with pytest.raises(TenantryError, match=r"no business 'nobody'.*--business"):
        run_benchmarks(owner, business="nobody")
    owner.execute("update public.organization_placements set database_name = 'elsewhere'")
    with pytest.raises(TenantryError, match="at home in"):
        run_benchmarks(owner)


def test_nothing_is_left_on_the_connection(owner: Connection) -> None:
    before = scalar(owner, "select current_user || current_setting('search_path')")
    run_benchmarks(owner, executions=5)
    assert scalar(owner, "select current_user || current_setting('search_path')") == before
    assert scalar(owner, "select coalesce(current_setting('request.jwt.claims', true), '')") == ""
