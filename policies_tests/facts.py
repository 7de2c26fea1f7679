"""Reads the world back as the owner of the database: every row, and what hangs on what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from .catalog import Catalog, Connection, Relation
from .specification import View

#: Too large to read, and nobody may: one row stands for all.
_SAMPLED = ("private.phone_ranges", "private.phone_regions", "private.phone_formats")

Key = tuple[str | None, ...]


def key_of(connection: Connection, table: str, columns: Iterable[str], row: dict[str, Any]) -> Key:
    """The primary key as text, printed by the database."""
    values = sql.SQL(", ").join(
        sql.SQL("{}::text").format(sql.Literal(row[name])) for name in columns
    )
    found = connection.execute(sql.SQL("select {}").format(values)).fetchone()
    assert found is not None
    return tuple(found)


def read_rows(connection: Connection, relation: Relation) -> dict[Key, dict[str, str | None]]:
    """Every row of a table as the owner sees it, all values as text."""
    columns = sql.SQL(", ").join(
        sql.SQL("{0}::text as {0}").format(sql.Identifier(one.name)) for one in relation.columns
    )
    statement = sql.SQL("select {} from {}").format(
        columns, sql.Identifier(relation.schema, relation.name)
    )
    if relation.label in _SAMPLED:
        statement += sql.SQL(" limit 1")
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement).fetchall()
    return {tuple(row[name] for name in relation.primary_key): row for row in rows}


def view_counts(connection: Connection, view: View) -> dict[str, int]:
    """Rows of a view per business, as the owner of the database sees them."""
    assert view.key is not None
    statement = sql.SQL("select {}::text, count(*) from {} group by 1").format(
        sql.Identifier(view.key), sql.Identifier(view.schema, view.name)
    )
    return dict(connection.execute(statement).fetchall())


def held_rows(connection: Connection, catalog: Catalog, relation: Relation) -> dict[Key, str]:
    held: dict[Key, str] = {}
    for reference in catalog.references:
        if reference.target != relation.label or reference.on_delete not in "ar":
            continue
        if reference.table == reference.target and reference.on_delete == "a":
            continue  # asked at the end of the statement, which took both
        child = catalog.relations[reference.table]
        join = sql.SQL(" and ").join(
            sql.SQL("c.{} = t.{}").format(sql.Identifier(own), sql.Identifier(target))
            for own, target in zip(reference.columns, reference.target_columns, strict=True)
        )
        columns = sql.SQL(", ").join(
            sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in relation.primary_key
        )
        statement = sql.SQL("select distinct {} from {} t join {} c on {}").format(
            columns,
            sql.Identifier(relation.schema, relation.name),
            sql.Identifier(child.schema, child.name),
            join,
        )
        for key in connection.execute(statement):
            held[tuple(key)] = reference.on_delete
    return held
