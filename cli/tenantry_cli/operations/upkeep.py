"""Maintenance that runs outside a transaction: vacuum, analyze, reindex."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.operations.places import explain

Result = dict[str, Any]

#: Seconds that one statement waits for a lock: a busy table is left for the next time. Autovacuum
#: gives way to who waits for a second (deadlock_timeout).
_LOCK_SECONDS = 5
#: Seconds that the rebuild of one index may take.
_REINDEX_SECONDS = 1800
#: Rebuilds of one run; the rest is done the next time.
_MOST_INDEXES = 20
#: Indexes below this size are not worth a rebuild.
_SMALLEST_BYTES = 1024 * 1024
#: Share of an index that must be air.
_AIR = 0.4

#: Tables of our schemas; $1 of _CHANGED: those without changes too. Partitions are looked after one
#: by one; their parents hold no rows.
_CHANGED = """
  select n.nspname as schema, c.relname as name from pg_stat_all_tables s
  join pg_class c on c.oid = s.relid join pg_namespace n on n.oid = c.relnamespace
  where (n.nspname = 'private' or n.nspname in (select private.place_schemas()))
    and c.relkind = 'r' and (s.n_mod_since_analyze > 0 or %s)
  order by s.n_mod_since_analyze desc
"""
_DIRTY = """
  select n.nspname as schema, c.relname as name from pg_stat_all_tables s
  join pg_class c on c.oid = s.relid join pg_namespace n on n.oid = c.relnamespace
  where (n.nspname = 'private' or n.nspname in (select private.place_schemas()))
    and c.relkind = 'r' and (s.n_dead_tup > 0 or s.n_mod_since_analyze > 0)
  order by s.n_dead_tup desc
"""
#: What failed rebuilds left: invalid, and named by Postgres itself.
_LEFT_OVER = """
  select n.nspname as schema, c.relname as name from pg_index i
  join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  where (n.nspname = 'private' or n.nspname in (select private.place_schemas()))
    and not i.indisvalid and c.relname ~ '_cc(new|old)[0-9]*$'
"""
#: What a B-tree needs: 8 bytes of tuple header and 4 of line pointer beside the keys, in pages
#: filled to 90 % (the default fillfactor). Equal keys are stored once, so it may need less.
_AIRY = """
  select w.schema, w.name, w.bytes from (
    select n.nspname as schema, c.relname as name, pg_relation_size(c.oid) as bytes,
      c.reltuples * (12 + 8 * ceil(k.width / 8.0)) / 0.9 as needed_bytes
    from pg_index i
    join pg_class c on c.oid = i.indexrelid and c.relkind = 'i' and c.reltuples > 0
    join pg_am a on a.oid = c.relam and a.amname = 'btree'
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class t on t.oid = i.indrelid
    cross join lateral (
      -- Keys have the statistics of their table, expressions those of the index.
      select coalesce(sum(coalesce(own.avg_width, of_table.avg_width, 16)), 16) as width
      from pg_attribute e
      left join pg_attribute o on o.attrelid = t.oid and o.attnum = i.indkey[e.attnum - 1]
      left join pg_stats own on own.schemaname = n.nspname and own.tablename = c.relname
        and own.attname = e.attname
      left join pg_stats of_table on of_table.schemaname = n.nspname
        and of_table.tablename = t.relname and of_table.attname = o.attname
      where e.attrelid = c.oid) k
    where (n.nspname = 'private' or n.nspname in (select private.place_schemas()))
      and i.indisvalid and not i.indisexclusion) w
  where w.bytes >= %(smallest)s and w.needed_bytes < (1 - %(air)s) * w.bytes
  order by w.bytes - w.needed_bytes desc
  limit %(most)s
"""


def vacuum_tables(connection: Connection) -> Result:
    """VACUUM ANALYZE of every table with dead or changed rows."""
    return _each(connection, "vacuum (analyze)", _find(connection, _DIRTY))


def analyze_tables(connection: Connection) -> Result:
    """ANALYZE of every table that changed since the last time."""
    return _each(connection, "analyze", _find(connection, _CHANGED, False))


def analyze_database(connection: Connection) -> Result:
    """ANALYZE of every table."""
    return _each(connection, "analyze", _find(connection, _CHANGED, True))


def reindex_indexes(
    connection: Connection, *, smallest_bytes: int = _SMALLEST_BYTES, air: float = _AIR
) -> Result:
    """REINDEX CONCURRENTLY of the indexes with most air; first removes what failed rebuilds left.

    `air` is the share of an index, by estimate, that holds nothing.
    """
    left = _find(connection, _LEFT_OVER)
    result = _each(connection, "drop index concurrently", left)
    removed = result["done"]
    values = {"smallest": smallest_bytes, "air": air, "most": _MOST_INDEXES}
    found = connection.execute(_AIRY.encode(), values).fetchall()
    result = _each(connection, "reindex index concurrently", found)
    after = _find(connection, _LEFT_OVER)
    _each(connection, "drop index concurrently", after)
    return {
        **result,
        "left_over_removed": removed + len(after),
        "bytes_before": sum(row["bytes"] for row in found),
    }


TASKS: Mapping[str, Callable[[Connection], Result]] = {
    "vacuum_tables": vacuum_tables,
    "analyze_tables": analyze_tables,
    "analyze_database": analyze_database,
    "reindex_indexes": reindex_indexes,
}


def _find(connection: Connection, query: str, *values: object) -> list[dict[str, Any]]:
    return connection.execute(query.encode(), values or None).fetchall()


def _each(connection: Connection, verb: str, targets: Iterable[Mapping[str, Any]]) -> Result:
    """Run `verb` on each target by itself; one that fails does not stop the others."""
    done, failed = 0, {}
    connection.execute(f"set lock_timeout = '{_LOCK_SECONDS}s'".encode())
    connection.execute(f"set statement_timeout = '{_REINDEX_SECONDS}s'".encode())
    warnings: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        # What this role may not vacuum is skipped with a warning.
        if diagnostic.severity_nonlocalized == "WARNING":
            warnings.append(str(diagnostic.message_primary))

    connection.add_notice_handler(note)
    try:
        for target in targets:
            name = sql.Identifier(target["schema"], target["name"])
            warnings.clear()
            try:
                connection.execute(sql.SQL(verb + " {}").format(name))
            except psycopg.OperationalError:
                if connection.closed:
                    raise
                failed[f"{target['schema']}.{target['name']}"] = "it is in use, lock not available"
            except psycopg.Error as error:
                failed[f"{target['schema']}.{target['name']}"] = explain(error)
            else:
                if warnings:
                    failed[f"{target['schema']}.{target['name']}"] = "; ".join(warnings)
                else:
                    done += 1
    finally:
        connection.remove_notice_handler(note)
        if not connection.closed:
            connection.execute("reset lock_timeout")
            connection.execute("reset statement_timeout")
    return {"done": done, "failed": failed}
