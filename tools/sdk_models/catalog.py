"""What the API shows of a database: relations, columns, functions, as members may use them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from sdk_models.view_columns import Origin, view_columns

#: Whose rights decide what is in the SDK: a signed-in member.
ROLE = "authenticated"


@dataclass(frozen=True)
class Type:
    """A Postgres type, domains resolved: base name, and whether it is an array of that."""

    name: str
    is_array: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    name: str
    type: Type
    nullable: bool
    comment: str = ""
    has_default: bool = True
    insertable: bool = False
    updatable: bool = False


@dataclass(frozen=True)
class Relation:
    name: str
    comment: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Argument:
    name: str
    type: Type
    has_default: bool


@dataclass(frozen=True)
class Function:
    """A function of the API. `returns_relation` or `returns_columns` say what its rows are."""

    name: str
    comment: str
    arguments: tuple[Argument, ...]
    returns_relation: str | None
    returns_columns: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Catalog:
    relations: tuple[Relation, ...]
    functions: tuple[Function, ...]


_COLUMNS = """
  select c.oid::bigint as relation, c.relname, c.relkind::text as kind,
    coalesce(obj_description(c.oid, 'pg_class'), '') as relation_comment,
    a.attname, a.attnum, a.atttypid::bigint as type, a.attnotnull,
    coalesce(col_description(c.oid, a.attnum), '') as comment,
    a.atthasdef or a.attidentity <> '' as has_default,
    a.attgenerated <> '' or a.attidentity = 'a' as is_generated,
    has_column_privilege(%(role)s, c.oid, a.attnum, 'SELECT') as selectable,
    has_column_privilege(%(role)s, c.oid, a.attnum, 'INSERT') as insertable,
    has_column_privilege(%(role)s, c.oid, a.attnum, 'UPDATE') as updatable
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.relnamespace = %(schema)s::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
    and not c.relispartition
  order by c.relname collate "C", a.attnum
"""

_CHECKS = """
  select conrelid::bigint, conkey[1], pg_get_constraintdef(oid)
  from pg_constraint
  where contype = 'c' and connamespace = %(schema)s::regnamespace and cardinality(conkey) = 1
"""

_FUNCTIONS = """
  select p.proname, coalesce(obj_description(p.oid, 'pg_proc'), '') as comment,
    coalesce(p.proallargtypes, p.proargtypes)::bigint[] as types,
    coalesce(p.proargnames, '{}') as names, coalesce(p.proargmodes::text[], '{}') as modes,
    p.pronargs, p.pronargdefaults, p.prorettype::bigint as result,
    (select c.relname from pg_class c where c.oid = t.typrelid
      and c.relnamespace = %(schema)s::regnamespace) as relation
  from pg_proc p
  join pg_type t on t.oid = p.prorettype
  where p.pronamespace = %(schema)s::regnamespace and p.prokind = 'f'
    and t.typname not in ('trigger', 'event_trigger')
    and has_function_privilege(%(role)s, p.oid, 'EXECUTE')
  order by p.proname collate "C", p.oid
"""

_TYPES = """
  with recursive base as (
    select oid, oid as resolved, typtype, typbasetype from pg_type
    union all
    select b.oid, t.oid, t.typtype, t.typbasetype from base b
    join pg_type t on t.oid = b.typbasetype where b.typtype = 'd'
  )
  select b.oid::bigint, coalesce(e.typname, t.typname) as name, e.oid is not null as is_array,
    (select array_agg(l.enumlabel::text order by l.enumsortorder) from pg_enum l
      where l.enumtypid = coalesce(e.oid, t.oid)) as labels,
    e.oid::bigint as element
  from base b
  join pg_type t on t.oid = b.resolved
  left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
  where b.typtype <> 'd'
"""


def read_catalog(connection: psycopg.Connection[Any], schema: str = "public") -> Catalog:
    """The catalog of a migrated database. Reads only pg_catalog."""
    reader = _Reader(connection, schema)
    return Catalog(tuple(reader.relations()), tuple(reader.functions()))


@dataclass
class _Reader:
    connection: psycopg.Connection[Any]
    schema: str
    types: dict[int, Type] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    #: (relation oid, column number) -> column as the table itself has it
    table_columns: dict[Origin, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parameters = {"schema": self.schema, "role": ROLE}
        rows = self.connection.execute(_TYPES).fetchall()
        by_oid = {
            oid: (name, is_array, labels, element) for oid, name, is_array, labels, element in rows
        }
        for oid, (name, is_array, labels, element) in by_oid.items():
            if is_array and element in by_oid:  # an array of a domain
                name = by_oid[element][0]
            self.types[oid] = Type(name, is_array, tuple(labels or ()))
        choices: dict[Origin, tuple[str, ...]] = {}
        for relation, number, definition in self.connection.execute(_CHECKS, parameters).fetchall():
            if found := choices_of(definition):
                choices[relation, number] = found
        self.rows = self.connection.execute(_COLUMNS, parameters).fetchall()
        for (
            relation,
            _,
            kind,
            _,
            name,
            number,
            type_oid,
            not_null,
            comment,
            default,
            generated,
            *rights,
        ) in self.rows:
            _, insertable, updatable = rights
            own = self.types[type_oid]
            self.table_columns[relation, number] = Column(
                name=name,
                type=replace(own, choices=choices.get((relation, number), own.choices)),
                nullable=not not_null,
                comment=comment,
                has_default=default,
                # Views are read; writing goes to their tables.
                insertable=insertable and not generated and kind in "rp",
                updatable=updatable and not generated and kind in "rp",
            )
        self._complete_views({row[0] for row in self.rows if row[2] == "v"})

    def _complete_views(self, views: set[int]) -> None:
        """What a view's column inherits from the column it shows: choices, comment, not null."""
        found = view_columns(
            self.connection,
            views,
            lambda at: not self.table_columns[at].nullable if at in self.table_columns else False,
        )
        for at, (not_null, origin) in found.items():
            own = self.table_columns[at]
            source = self.table_columns.get(origin) if origin else None
            choices = source.type.choices if source and source.type.name == own.type.name else ()
            self.table_columns[at] = replace(
                own,
                nullable=not not_null,
                comment=own.comment or (source.comment if source else ""),
                type=replace(own.type, choices=own.type.choices or choices),
            )

    def relations(self) -> list[Relation]:
        columns: dict[tuple[str, str], list[Column]] = {}
        for row in self.rows:
            relation, name, _, comment, _, number, *_, selectable, _, _ = row
            if selectable:
                columns.setdefault((name, comment), []).append(self.table_columns[relation, number])
        return [Relation(name, comment, tuple(own)) for (name, comment), own in columns.items()]

    def functions(self) -> list[Function]:
        parameters = {"schema": self.schema, "role": ROLE}
        return [
            self._function(*row)
            for row in self.connection.execute(_FUNCTIONS, parameters).fetchall()
        ]

    def _function(
        self,
        name: str,
        comment: str,
        types: list[int],
        names: list[str],
        modes: list[str],
        count: int,
        defaults: int,
        result: int,
        relation: str | None,
    ) -> Function:
        arguments: list[Argument] = []
        columns: list[Column] = []
        for position, type_oid in enumerate(types):
            own = self.types[type_oid]
            if modes and modes[position] in "tob":
                columns.append(Column(names[position], own, nullable=True))
            else:
                has_default = len(arguments) >= count - defaults
                arguments.append(Argument(names[position] if names else "", own, has_default))
        return Function(name, comment, tuple(arguments), relation, tuple(columns))


_ANY_OF = re.compile(r"= ANY \((?:\()?ARRAY\[(.*?)\]", re.DOTALL)
_LITERAL = re.compile(r"'((?:[^']|'')*)'::")


def choices_of(definition: str) -> tuple[str, ...]:
    """The values a check constraint of the form `column in ('a', 'b')` allows; else nothing."""
    body = definition.removeprefix("CHECK ").strip()
    # Anything more than the list itself would make the list wrong.
    if " OR " in body or " AND " in body or body.count("= ANY") != 1:
        return ()
    found = _ANY_OF.search(body)
    return tuple(v.replace("''", "'") for v in _LITERAL.findall(found[1])) if found else ()
