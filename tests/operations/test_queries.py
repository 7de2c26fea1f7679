"""Statements by tenant: from counters to a log, and what happens where nothing is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.stack.database import Server
from tenantry_cli.testing import Database

from .conftest import connect, scalar

ACME, BEST = (f"tenant_{number * 32}" for number in "ab")


@pytest.fixture
def counted(counting_database: Callable[[], Database]) -> Database:
    return counting_database()


@pytest.fixture
def watched(counted: Database) -> Iterator[Connection]:
    """Two tenant schemas with a table, and the first sample taken."""
    with connect(counted) as connection:
        for schema in (ACME, BEST):
            connection.execute(f"create schema {schema}".encode())
            connection.execute(f"create table {schema}.customers (id int)".encode())
        assert scalar(connection, "select private.sample_query_statistics()") == 0
        yield connection


def _by_tenant(connection: Connection) -> dict[str, dict]:
    # The query as operators know it.
    rows = connection.execute(
        """
        select schema_name, avg(query_time) as avg_query_time, max(query_time) as max_query_time,
          count(*) as query_count
        from private.query_log where timestamp >= now() - interval '1 hour'
        group by schema_name order by avg_query_time desc
        """
    ).fetchall()
    return {row["schema_name"]: row for row in rows}


def test_executions_are_counted_by_tenant(watched: Connection) -> None:
    for _ in range(7):
        watched.execute(f"select count(*) from {ACME}.customers".encode())
    watched.execute(
        f"select pg_sleep(0.05) from (select count(*) from {BEST}.customers) s".encode()
    )
    watched.execute(f"select 1 from {ACME}.customers, {BEST}.customers".encode())
    assert scalar(watched, "select private.sample_query_statistics()") >= 3
    tenants = _by_tenant(watched)
    assert tenants[ACME]["query_count"] == 7
    assert tenants[BEST]["query_count"] == 1
    assert tenants["several"]["query_count"] == 1
    assert tenants["public"]["query_count"] > 0, "the sampler's own statements name no tenant"
    assert 50 <= tenants[BEST]["avg_query_time"] == tenants[BEST]["max_query_time"] < 5000
    assert tenants[ACME]["avg_query_time"] < 50


def test_mean_and_maximum_are_those_of_the_counters(watched: Connection) -> None:
    for seconds in (0.01, 0.01, 0.06):
        watched.execute(f"select pg_sleep({seconds}), '{uuid4()}' as {ACME}".encode())
    total, longest = (
        watched.execute(
            "select sum(total_exec_time)::numeric as t, max(max_exec_time)::numeric as m"
            " from extensions.pg_stat_statements where query like %s",
            (f"select pg_sleep%{ACME}",),
        )
        .fetchone()
        .values()
    )  # type: ignore[union-attr]
    watched.execute("select private.sample_query_statistics()")
    found = _by_tenant(watched)[ACME]
    assert found["query_count"] == 3
    assert float(found["avg_query_time"]) == pytest.approx(float(total) / 3, abs=0.01)
    assert float(found["max_query_time"]) == pytest.approx(float(longest), abs=0.01)
    report = watched.execute(
        "select * from private.query_time_by_tenant() where schema_name = %s", (ACME,)
    ).fetchone()
    assert report is not None
    assert report["query_count"] == 3
    assert report["is_max_exact"]
    assert report["max_query_time_ms"] == found["max_query_time"]
    assert float(report["avg_query_time_ms"]) == pytest.approx(
        float(found["avg_query_time"]), abs=0.01
    )


def test_a_sample_has_only_what_is_new(watched: Connection) -> None:
    query = f"select count(*) from {ACME}.customers".encode()
    for times in (3, 2):
        for _ in range(times):
            watched.execute(query)
        watched.execute("select private.sample_query_statistics()")
    calls = [
        row["calls"]
        for row in watched.execute(
            "select calls from private.query_samples where schema_name = %s order by taken_at",
            (ACME,),
        )
    ]
    assert calls == [3, 2]
    watched.execute("select private.sample_query_statistics()")
    assert _by_tenant(watched)[ACME]["query_count"] == 5


def test_what_was_counted_before_is_not_dated_now(counted: Database) -> None:
    with connect(counted) as connection:
        connection.execute(f"select 1 as {ACME}".encode())
        connection.execute("select private.sample_query_statistics()")
        assert _by_tenant(connection) == {}


def test_reset_counters_start_again(watched: Connection, counted: Database) -> None:
    query = f"select count(*) from {ACME}.customers".encode()
    for _ in range(5):
        watched.execute(query)
    watched.execute("select private.sample_query_statistics()")
    with counted.server.administer(counted.name, autocommit=True) as superuser:
        superuser.execute("select extensions.pg_stat_statements_reset()")
    for _ in range(2):
        watched.execute(query)
    watched.execute("select private.sample_query_statistics()")
    assert _by_tenant(watched)[ACME]["query_count"] == 7


def test_other_databases_are_sampled_there(
    watched: Connection, counting_database: Callable[[], Database]
) -> None:
    with connect(counting_database()) as other:
        other.execute(f"select 1 as {ACME}".encode())
    watched.execute("select private.sample_query_statistics()")
    assert ACME not in _by_tenant(watched)


def test_old_samples_are_deleted(watched: Connection) -> None:
    watched.execute(f"select count(*) from {ACME}.customers".encode())
    watched.execute("select private.sample_query_statistics()")
    watched.execute(
        "update private.query_samples set since = since - interval '31 days',"
        " taken_at = taken_at - interval '31 days' where schema_name = %s",
        (ACME,),
    )
    kept = scalar(watched, "select count(*) from private.query_samples")
    done = scalar(watched, "select private.delete_old_query_samples()")
    assert done == {"samples_deleted": 1, "runs_deleted": 0}
    assert scalar(watched, "select count(*) from private.query_samples") == kept - 1


def test_the_monitor_tells_role_tenant_and_cache(watched: Connection, counted: Database) -> None:
    with counted.connect("postgres") as other:
        other.execute(f"select count(*) from {ACME}.customers")
    [row] = watched.execute(
        "select * from private.v_query_performance_monitor where schema_name = %s"
        " and database_name = current_database() and query like 'select count%%'",
        (ACME,),
    ).fetchall()
    assert (row["role_name"], row["calls"], row["row_count"]) == ("postgres", 1, 1)
    assert row["mean_ms"] == row["max_ms"] == row["total_ms"]
    assert row["cache_hit_ratio"] is None  # an empty table has no block


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        (f'select * from "{ACME}"."customers"', ACME),
        (f"select {ACME}.create_customer($1)", ACME),
        (f"select 1 from {ACME}.a join {BEST}.b on true", "several"),
        (f"select 1 from {ACME}.a join {ACME}.b on true", ACME),
        (f"select 1 from {ACME}c.a", None),
        ("select * from public.customers", None),
        ("", None),
        (None, None),
    ],
)
def test_which_tenant_a_statement_names(
    module_database: Database, text: str | None, schema: str | None
) -> None:
    with connect(module_database) as connection:
        assert scalar(connection, "select private.schema_of_text(%s)", text) == schema


# Where nothing is counted ---------------------------------------------------------------------


def test_ready(counted: Database) -> None:
    with connect(counted) as connection:
        state = connection.execute("select * from private.statement_statistics_state()").fetchone()
        assert state == {"state": "ready", "remedy": None}


def _nothing(connection: Connection, state: str) -> str:
    """Every object is there and empty, and says what to do."""
    notices: list[str] = []
    connection.add_notice_handler(lambda one: notices.append(str(one.message_primary)))
    found = connection.execute("select * from private.statement_statistics_state()").fetchone()
    assert found is not None
    assert found["state"] == state
    assert connection.execute("select * from private.v_query_performance_monitor").fetchall() == []
    assert any(found["remedy"] in one for one in notices)
    assert scalar(connection, "select private.sample_query_statistics()") == 0
    assert connection.execute("select * from private.query_log").fetchall() == []
    assert connection.execute("select * from private.query_time_by_tenant()").fetchall() == []
    return str(found["remedy"])


def test_not_loaded(database: Database) -> None:
    with connect(database) as connection:
        assert "shared_preload_libraries" in _nothing(connection, "not_loaded")


def test_not_installed(database: Database, database_server: Server) -> None:
    with database_server.administer(database.name) as superuser:
        superuser.execute("drop extension pg_stat_statements")
    with connect(database) as connection:
        assert "create extension" in _nothing(connection, "not_installed")


def test_installed_somewhere_else(counted: Database) -> None:
    with counted.server.administer(counted.name) as superuser:
        superuser.execute('create schema "Odd place"')
        superuser.execute('grant usage on schema "Odd place" to postgres')
        superuser.execute('alter extension pg_stat_statements set schema "Odd place"')
    with connect(counted) as connection:
        assert connection.execute("select * from private.v_query_performance_monitor").fetchall()


def test_not_readable(counted: Database) -> None:
    with counted.server.administer(counted.name, autocommit=True) as superuser:
        superuser.execute("revoke select on extensions.pg_stat_statements from public")
        superuser.execute("revoke pg_read_all_data from postgres")
        try:
            with connect(counted) as connection:
                assert "grant select" in _nothing(connection, "not_readable")
        finally:
            superuser.execute("grant pg_read_all_data to postgres")


def test_statements_of_others_are_hidden(counted: Database) -> None:
    with counted.server.administer(counted.name, autocommit=True) as superuser:
        superuser.execute("revoke pg_monitor from postgres")
        try:
            with connect(counted) as connection:
                found = connection.execute(
                    "select * from private.statement_statistics_state()"
                ).fetchone()
                assert found is not None
                assert found["state"] == "own_only"
                assert "grant pg_read_all_stats to postgres" in found["remedy"]
                assert connection.execute(
                    "select * from private.v_query_performance_monitor where role_name = 'postgres'"
                ).fetchall()
        finally:
            superuser.execute("grant pg_monitor to postgres")


def test_nobody_of_the_api_reads_any_of_it(shared_story: Database) -> None:
    relations = ("query_log", "query_samples", "v_query_performance_monitor",
                 "v_index_usage_analysis", "pg_stat_activity_by_schema")  # fmt: skip
    for role in ("anon", "authenticated", "service_role"):
        with shared_story.connect("authenticator", autocommit=True) as connection:
            connection.execute(f"set role {role}".encode())
            for relation in relations:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select 1 from private.{relation}".encode())
