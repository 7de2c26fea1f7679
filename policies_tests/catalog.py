"""What the database holds: relations, columns, keys and references, read from its catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

_RELATIONS = """
select n.nspname, c.relname, c.relkind::text,
  (select p.relname from pg_inherits i join pg_class p on p.oid = i.inhparent
   where i.inhrelid = c.oid) as parent,
  array(select a.attname::text from pg_index i, unnest(i.indkey) with ordinality as k(number, place)
        join pg_attribute a on a.attnum = k.number
        where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid
          and k.place <= i.indnkeyatts order by k.place)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any (%s) and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by 1, 2
"""
_COLUMNS = """
select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
  not a.attnotnull, a.atthasdef and a.attgenerated = '', a.attgenerated <> ''
from pg_attribute a
join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any (%s) and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped
order by 1, 2, a.attnum
"""
_REFERENCES = """
select k.conname, n.nspname, c.relname, tn.nspname, t.relname, k.confdeltype::text,
  array(select a.attname::text from unnest(k.conkey) with ordinality as p(number, place)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.number order by p.place),
  array(select a.attname::text from unnest(k.confkey) with ordinality as p(number, place)
        join pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.number order by p.place)
from pg_constraint k
join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
join pg_class t on t.oid = k.confrelid join pg_namespace tn on tn.oid = t.relnamespace
where k.contype = 'f' and n.nspname = any (%s) and k.conparentid = 0
order by 2, 3, 1
"""


@dataclass(frozen=True)
class Column:
    """One column of a relation."""

    name: str
    type: str
    is_nullable: bool
    has_default: bool
    is_generated: bool


@dataclass(frozen=True)
class Relation:
    """One table, partition or view."""

    schema: str
    name: str
    kind: str
    parent: str | None
    primary_key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Reference:
    """One foreign key."""

    name: str
    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    #: a no action, r restrict, c cascade, n set null, d set default
    on_delete: str


@dataclass(frozen=True)
class Catalog:
    """The relations of some schemas, by `schema.name`, and their foreign keys."""

    relations: Mapping[str, Relation]
    references: tuple[Reference, ...]

    @property
    def tables(self) -> list[Relation]:
        return [one for one in self.relations.values() if one.kind in "rp"]

    @property
    def views(self) -> list[Relation]:
        return [one for one in self.relations.values() if one.kind in "vm"]


def read_catalog(
    connection: Connection, schemas: tuple[str, ...] = ("public", "private")
) -> Catalog:
    """The catalog of `schemas`."""
    names = [list(schemas)]
    columns: dict[str, list[Column]] = {}
    for schema, relation, *rest in connection.execute(_COLUMNS, names):
        columns.setdefault(f"{schema}.{relation}", []).append(Column(*rest))
    relations = [
        Relation(schema, name, kind, parent, tuple(key), tuple(columns[f"{schema}.{name}"]))
        for schema, name, kind, parent, key in connection.execute(_RELATIONS, names)
    ]
    references = [
        Reference(
            name,
            f"{schema}.{table}",
            tuple(own),
            f"{target_schema}.{target}",
            tuple(foreign),
            on_delete,
        )
        for name, schema, table, target_schema, target, on_delete, own, foreign in (
            connection.execute(_REFERENCES, names)
        )
    ]
    return Catalog({one.label: one for one in relations}, tuple(references))
