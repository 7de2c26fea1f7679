"""Filling a database at scale: customers, contact points, conversations, messages, calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench.environment import Connection, Environment, fetch, run_sql

TABLES = ("customers", "contact_points", "conversations", "messages", "calls")

# Constraints keep their indexes: they are the promise that the rows are what they seem.
_SECONDARY_INDEXES = """
select c.relname, pg_get_indexdef(c.oid), i.indrelid::regclass::text
from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = any (%s::regclass[])
  and not exists (select from pg_constraint k where k.conindid = c.oid)
order by pg_relation_size(i.indrelid) desc
"""


def load_rows(environment: Environment, database: str) -> dict[str, int]:
    """Fill `database` and return the number of rows per table. Triggers do not fire meanwhile."""
    scale = environment.scale
    with environment.administer(database) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("set work_mem = '512MB'")
        indexes = fetch(connection, _SECONDARY_INDEXES, ([f"public.{t}" for t in TABLES],))
        for name, _, _ in indexes:
            connection.execute(f"drop index public.{name}".encode())
        run_sql(
            connection,
            "rows.sql",
            {"customers": scale.customers, "calls": scale.calls, "messages": scale.messages},
            replica=True,
        )
        _create_indexes(environment, database, [definition for _, definition, _ in indexes])
        run_sql(connection, "baseline.sql")
        connection.execute("vacuum (freeze, analyze)")
        connection.execute("checkpoint")
        return {table: _count(connection, table) for table in TABLES}


def _create_indexes(environment: Environment, database: str, definitions: list[str]) -> None:
    def create(definition: str) -> None:
        with environment.administer(database) as connection:
            connection.execute(definition.encode())

    # One worker per core: each statement builds on one.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(create, definitions))


def _count(connection: Connection, table: str) -> int:
    return int(fetch(connection, f"select count(*) from public.{table}")[0][0])
