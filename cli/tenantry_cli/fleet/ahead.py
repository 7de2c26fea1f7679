"""Copying while members still write, and bringing the copy up to date when they no longer do.

What changed since a snapshot are the rows written by transactions that it did not see: those whose
`xmin` is not older than the snapshot's own
(https://www.postgresql.org/docs/current/ddl-system-columns.html). Rows that are gone are missed by
their number. Whatever this overlooked, the comparison of both homes finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.fleet.rows import Table, copy_in

_KEY = """
select array_agg(a.attname::text order by u.place) as columns
from pg_index i cross join unnest(i.indkey) with ordinality u(number, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.number
where i.indrelid = %s::regclass and i.indisprimary and u.place <= i.indnkeyatts
"""


@dataclass(frozen=True)
class Ahead:
    """What was copied ahead: the rows of these businesses that a snapshot saw."""

    businesses: Sequence[UUID]
    #: The oldest transaction that the snapshot may not have seen, with its epoch (xid8).
    oldest_unseen: str


def oldest_unseen(source: Connection) -> str:
    """Of the snapshot of the transaction that `source` is in (repeatable read)."""
    row = source.execute("select pg_snapshot_xmin(pg_current_snapshot())::text as xid").fetchone()
    assert row is not None
    return str(row["xid"])


def catch_up(
    source: Connection,
    target: Connection,
    from_table: Table,
    to_table: Table,
    businesses: Sequence[UUID],
    ahead: Ahead,
) -> None:
    """Make a table that was copied ahead equal to its source, whose writers have ended.

    Both connections are in a transaction, `source` in one that began after the last write.
    """
    of_business = sql.SQL("business_id = any ({})").format(sql.Literal(list(businesses)))
    changed = sql.SQL("{} and age(xmin) <= age({}::xid8::xid)").format(
        of_business, sql.Literal(ahead.oldest_unseen)
    )
    here = source.execute(
        sql.SQL(
            "select count(*) as rows, count(*) filter (where {}) as changed from {} where {}"
        ).format(changed, from_table.identifier, of_business)
    ).fetchone()
    assert here is not None
    key = _key_of(target, to_table)
    if here["changed"]:
        staged = _stage(
            source, target, from_table, to_table, "changed_rows", to_table.columns, changed
        )
        target.execute(
            sql.SQL("delete from {} t using {} s where {}").format(
                to_table.identifier, staged, _same(key)
            )
        )
    # What is gone goes first: something new may have its number or address. Also the rows of a
    # business that is gone itself.
    ours = sql.SQL("business_id = any ({})").format(
        sql.Literal(sorted({*businesses, *ahead.businesses}))
    )
    there = target.execute(
        sql.SQL("select count(*) as rows from {} where {}").format(to_table.identifier, ours)
    ).fetchone()
    assert there is not None
    if there["rows"] != here["rows"] - here["changed"]:
        kept = _stage(source, target, from_table, to_table, "kept_keys", key, of_business)
        target.execute(sql.SQL("analyze {}").format(kept))
        target.execute(
            sql.SQL("delete from {} t where {} and not exists (select from {} s where {})").format(
                to_table.identifier, ours, kept, _same(key)
            )
        )
        target.execute(sql.SQL("drop table {}").format(kept))
    if here["changed"]:
        target.execute(
            sql.SQL(
                "insert into {} ({columns}) overriding system value select {columns} from {}"
            ).format(to_table.identifier, staged, columns=to_table.column_list())
        )
        target.execute(sql.SQL("drop table {}").format(staged))


def _key_of(connection: Connection, table: Table) -> tuple[str, ...]:
    name = table.identifier.as_string(connection)
    row = connection.execute(_KEY, (name,)).fetchone()
    assert row is not None, f"{name} has a primary key"
    return tuple(row["columns"])


def _same(key: Sequence[str]) -> sql.Composed:
    """That rows s and t are the same."""
    return sql.SQL(" and ").join(
        sql.SQL("s.{0} = t.{0}").format(sql.Identifier(column)) for column in key
    )


def _stage(
    source: Connection,
    target: Connection,
    from_table: Table,
    to_table: Table,
    name: str,
    columns: Sequence[str],
    condition: sql.Composable,
) -> sql.Identifier:
    """Columns of the rows that meet a condition, in a temporary table at the target."""
    staged = sql.Identifier("pg_temp", name)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    target.execute(
        sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
            sql.Identifier(name), names, to_table.identifier
        )
    )
    query = sql.SQL("copy (select {} from {} where {}) to stdout (format binary)").format(
        names, from_table.identifier, condition
    )
    with (
        source.cursor().copy(query) as reader,
        target.cursor().copy(copy_in(staged, columns)) as writer,
    ):
        for block in reader:
            writer.write(block)
    return staged
