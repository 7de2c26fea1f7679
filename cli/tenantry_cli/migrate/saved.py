"""Rows that rollbacks saved, and putting them back where they came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tenantry_cli.migrate.files import MigrationError

Connection = psycopg.Connection[Any]

_PLACES = """
select n.nspname, coalesce(obj_description(n.oid, 'pg_namespace'), ''), c.relname,
  coalesce(obj_description(c.oid, 'pg_class'), '')
from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
where n.nspname ~ '^rolled_back_[0-9]+' order by n.nspname, c.oid
"""
# What the rollback wrote: `12 rows of public.calls`, `3 rows of public.calls, of its column notes`.
_TABLE_COMMENT = re.compile(r"([0-9]+) rows of (\S+?)\.([^.,\s]+)(?:, of its column (\S+))?")
_PLACE_COMMENT = re.compile(r"Rows of (\S+), saved (.+) by the rollback of ([0-9]+)_(\S+)")

# Columns that both have and that can be written, and which of them are the key.
_SHARED_COLUMNS = """
select quote_ident(a.attname), a.attname = any (array(
    select k.attname from pg_index i
    join pg_attribute k on k.attrelid = i.indrelid and k.attnum = any (i.indkey)
    where i.indrelid = a.attrelid and i.indisprimary))
from pg_attribute a
join pg_attribute s on s.attrelid = %s::regclass and s.attname = a.attname and not s.attisdropped
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
order by a.attnum
"""
_REFERENCES = """
select k.conname, k.conrelid::regclass::text, k.confrelid::regclass::text,
  array(select quote_ident(a.attname) from unnest(k.conkey) with ordinality u(n, p)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by p),
  array(select quote_ident(a.attname) from unnest(k.confkey) with ordinality u(n, p)
        join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n order by p)
from pg_constraint k
where k.contype = 'f' and k.conparentid = 0 and k.conrelid = any (%s::regclass[])
"""
_SEQUENCES = """
select pg_get_serial_sequence(%(table)s, a.attname), quote_ident(a.attname) from pg_attribute a
where a.attrelid = %(table)s::regclass and a.attnum > 0 and not a.attisdropped
  and pg_get_serial_sequence(%(table)s, a.attname) is not null
"""


@dataclass(frozen=True)
class SavedTable:
    """The copy of one table, or of one of its columns with the key."""

    name: str
    rows: int
    #: Where they were, as SQL writes it: `public.calls`.
    source: str
    column: str | None


@dataclass(frozen=True)
class Saved:
    """What one rollback of one migration saved of one place."""

    schema: str
    version: str
    migration: str
    place: str
    saved_at: str
    tables: tuple[SavedTable, ...]


@dataclass(frozen=True)
class Recovered:
    """How one table fared.

    Args:
        put_back: rows that are there again as they were (or got their column again).
        kept: rows left out, because another row has what must be unique.
        missing: the table does not exist any more, or nothing of it could be matched.
    """

    source: str
    saved: int
    put_back: int
    kept: int
    missing: bool = False


def list_saved(connection: Connection, version: str | None = None) -> list[Saved]:
    """Everything that rollbacks saved in this database, or the rollbacks of one version."""
    found: dict[str, tuple[re.Match[str], list[SavedTable]]] = {}
    for schema, about, name, comment in connection.execute(_PLACES).fetchall():
        place = _PLACE_COMMENT.fullmatch(about)
        if place is None or (version is not None and place[3] != version):
            continue
        tables = found.setdefault(schema, (place, []))[1]
        if name and (match := _TABLE_COMMENT.fullmatch(comment)):
            tables.append(SavedTable(name, int(match[1]), f"{match[2]}.{match[3]}", match[4]))
    return [
        Saved(schema, place[3], place[4], place[1], place[2], tuple(tables))
        for schema, (place, tables) in found.items()
    ]


def recover(connection: Connection, version: str, schema: str | None = None) -> list[Recovered]:
    """Put back what the rollback of `version` saved, in one transaction, as it was.

    Takes the latest copy of each place, or the one in `schema`. Triggers do not fire: they would
    stamp and audit the rows as new. A row of the same key gives way, such as one that the migration
    fills in: recover before people work with the tables again. References are checked at the end.
    Raises MigrationError; then nothing was put back.
    """
    copies = [one for one in list_saved(connection, version) if schema in (None, one.schema)]
    if not copies:
        raise MigrationError(
            f"no rows were saved by a rollback of {version} here: "
            "`tenantry migrate saved` lists them"
        )
    latest = {
        one.place: one for one in sorted(copies, key=lambda one: (len(one.schema), one.schema))
    }
    report: list[Recovered] = []
    with connection.transaction():
        connection.execute("set local session_replication_role = replica")
        for copy in latest.values():
            report += [_put_back(connection, copy, table) for table in copy.tables]
        _check_references(connection, [one.source for one in report if not one.missing])
    return report


def _put_back(connection: Connection, copy: Saved, table: SavedTable) -> Recovered:
    saved = sql.Identifier(copy.schema, table.name)
    exists = connection.execute("select to_regclass(%s) is not null", (table.source,)).fetchone()
    if exists != (True,):
        return Recovered(table.source, table.rows, 0, 0, missing=True)
    shared = connection.execute(
        _SHARED_COLUMNS, (saved.as_string(connection), table.source)
    ).fetchall()
    target = sql.SQL(table.source)  # from the catalog, quoted there
    columns = [sql.SQL(name) for name, _ in shared]
    key = [sql.SQL(name) for name, is_key in shared if is_key]
    if not columns or (table.column and (not key or len(columns) == len(key))):
        return Recovered(table.source, table.rows, 0, 0, missing=True)
    matches = sql.SQL(" and ").join(sql.SQL("t.{0} = s.{0}").format(one) for one in key)
    others = [sql.SQL(name) for name, is_key in shared if not is_key]
    listed = sql.SQL(", ").join(columns)
    try:
        count = 0
        # What the migration filled in afresh gives way to what was there.
        if key and others:
            values = sql.SQL(", ").join(sql.SQL("{0} = s.{0}").format(one) for one in others)
            update = sql.SQL("update {} t set {} from {} s where {}")
            count = connection.execute(update.format(target, values, saved, matches)).rowcount
        elif key:
            there = sql.SQL("select from {} t, {} s where {}")
            count = connection.execute(there.format(target, saved, matches)).rowcount
        if not table.column:
            insert = sql.SQL(
                "insert into {} ({}) overriding system value select {} from {} "
                "on conflict do nothing"
            )
            count += connection.execute(insert.format(target, listed, listed, saved)).rowcount
    except psycopg.errors.IntegrityError as error:
        raise MigrationError(
            f"{table.source}: {error.diag.message_primary}; nothing was put back. "
            f"Compare its rows with {copy.schema}.{table.name}"
        ) from error
    for sequence, column in connection.execute(_SEQUENCES, {"table": table.source}).fetchall():
        connection.execute(
            sql.SQL("select setval({}, greatest(max({}), 1)) from {}").format(
                sql.Literal(sequence), sql.SQL(column), target
            )
        )
    return Recovered(table.source, table.rows, count, table.rows - count)


def _check_references(connection: Connection, tables: Sequence[str]) -> None:
    for name, child, parent, own, foreign in connection.execute(
        _REFERENCES, (list(tables),)
    ).fetchall():
        is_set = " and ".join(f"c.{one} is not null" for one in own)
        matches = " and ".join(f"p.{b} = c.{a}" for a, b in zip(own, foreign, strict=True))
        missing = f"not exists (select from {parent} p where {matches})"
        # Names from the catalog, quoted there.
        query = f"select count(*) from {child} c where {is_set} and {missing}"  # noqa: S608
        orphans = connection.execute(query.encode()).fetchone()
        if orphans and orphans[0]:
            raise MigrationError(
                f"{orphans[0]} rows of {child} would point to rows of {parent} that are gone "
                f"({name}): recover the migration that made them first; nothing was put back"
            )
