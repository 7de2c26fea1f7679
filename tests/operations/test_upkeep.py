"""Vacuum, analyze and reindex do what they say, and leave what is in use."""

from __future__ import annotations

import psycopg
import pytest

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.operations.maintenance import run_maintenance
from tenantry_cli.operations.upkeep import reindex_indexes, vacuum_tables
from tenantry_cli.testing import Database

from .conftest import BLUEBIRD, connect, make_tenant_schema, scalar


def _dead(connection: Connection, table: str) -> int:
    connection.execute("select pg_stat_force_next_flush()")
    return int(
        scalar(
            connection,
            "select n_dead_tup from pg_stat_all_tables where relid = %s::regclass",
            table,
        )
    )


def test_dead_rows_are_vacuumed_in_every_place(owner: Connection) -> None:
    name = make_tenant_schema(owner, BLUEBIRD)
    tables = ["public.shelf", f"{name}.shelf"]
    for table in tables:
        owner.execute(f"create table {table} (id int) with (autovacuum_enabled = false)".encode())
        owner.execute(f"insert into {table} select generate_series(1, 1000)".encode())
        owner.execute(f"delete from {table} where id > 500".encode())
        assert _dead(owner, table) == 500
    runs = run_maintenance(owner, ["daily"], only_due=True)
    [done] = [one for one in runs or () if one["task"] == "vacuum_tables"]
    assert done["error"] is None
    assert done["result"]["done"] >= 2
    for table in tables:
        assert _dead(owner, table) == 0
        assert scalar(
            owner,
            "select last_vacuum is not null and last_analyze is not null from pg_stat_all_tables"
            " where relid = %s::regclass",
            table,
        )


def test_a_table_in_use_is_left_and_told(owner: Connection, story: Database) -> None:
    for name in ("busy", "free"):
        owner.execute(f"create table public.{name} (id int)".encode())
        owner.execute(f"insert into public.{name} values (1)".encode())
    owner.execute("select pg_stat_force_next_flush()")
    with connect(story) as other:
        other.autocommit = False
        other.execute("lock table public.busy in access exclusive mode")
        result = vacuum_tables(owner)
        other.rollback()
    assert set(result["failed"]) == {"public.busy"}
    assert "lock not available" in result["failed"]["public.busy"]
    assert result["done"] >= 1
    assert vacuum_tables(owner)["failed"] == {}


def _bloat(connection: Connection) -> int:
    """An index that is mostly air; its size in bytes."""
    connection.execute(
        "create table public.shelf (id int primary key, word text) with (autovacuum_enabled = off)"
    )
    connection.execute(
        "insert into public.shelf select n, md5(n::text) from generate_series(1, 60000) n"
    )
    connection.execute("delete from public.shelf where id % 20 <> 0")
    connection.execute("vacuum (analyze) public.shelf")
    return int(scalar(connection, "select pg_relation_size('public.shelf_pkey')"))


def test_an_index_full_of_air_is_rebuilt(owner: Connection) -> None:
    before = _bloat(owner)
    assert before > 1024 * 1024
    result = reindex_indexes(owner)
    assert result["failed"] == {}
    assert result["done"] == 1, "the others are small or full"
    assert scalar(owner, "select pg_relation_size('public.shelf_pkey')") < before / 5
    assert reindex_indexes(owner)["done"] == 0


def test_a_full_index_is_left_alone(owner: Connection) -> None:
    owner.execute("create table public.shelf (id int primary key, word text)")
    owner.execute(
        "insert into public.shelf select n, md5(n::text) from generate_series(1, 60000) n"
    )
    owner.execute("create index shelf_word on public.shelf (word)")
    owner.execute("create index shelf_both on public.shelf (word, id)")
    owner.execute("create index shelf_upper on public.shelf (upper(word))")
    owner.execute("vacuum (analyze) public.shelf")
    assert reindex_indexes(owner)["done"] == 0


def test_what_a_failed_rebuild_left_is_removed(owner: Connection, story: Database) -> None:
    _bloat(owner)
    owner.execute("set statement_timeout = '1s'")
    with connect(story) as other:
        other.autocommit = False
        other.execute("insert into public.shelf values (1, 'open transaction')")
        with pytest.raises(psycopg.errors.QueryCanceled):
            owner.execute("reindex index concurrently public.shelf_pkey")
        other.rollback()
    owner.execute("reset statement_timeout")
    left = "select count(*) from pg_index where not indisvalid"
    assert scalar(owner, left) == 1
    result = reindex_indexes(owner)
    assert (result["left_over_removed"], result["done"]) == (1, 1)
    assert scalar(owner, left) == 0
