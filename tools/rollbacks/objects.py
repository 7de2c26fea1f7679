"""Catalog objects by id, what they are part of, and what hangs on what."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

#: (catalog, id), such as ("pg_class", 16401).
Id = tuple[str, int]

# Each with the relation or type it is a part of, and how DROP calls it.
_OBJECTS = """
with everything as (
  select 'pg_class' as catalog, c.oid, null::text as whole_catalog, null::oid as whole from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
  union all
  select 'pg_class', c.oid, case when k.oid is null then 'pg_class' else 'pg_constraint' end, coalesce(k.oid, i.indrelid)
  from pg_class c join pg_index i on i.indexrelid = c.oid left join pg_constraint k on k.conindid = c.oid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
  union all
  select 'pg_class', c.oid, case when d.refobjid is not null then 'pg_class' end, d.refobjid from pg_class c
  left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass
  where c.relkind = 'S'
  union all
  select 'pg_type', t.oid, case when t.typrelid <> 0 then 'pg_class' when t.typelem <> 0 then 'pg_type' end,
    coalesce(nullif(t.typrelid, 0), nullif(t.typelem, 0)) from pg_type t
  union all
  select 'pg_constraint', k.oid, case when k.conrelid <> 0 then 'pg_class' else 'pg_type' end, coalesce(nullif(k.conrelid, 0), k.contypid)
  from pg_constraint k where k.contype in ('p', 'u', 'f', 'x', 'c')
  union all
  select 'pg_attrdef', d.oid, 'pg_class', d.adrelid from pg_attrdef d
  union all
  select 'pg_trigger', t.oid, 'pg_class', t.tgrelid from pg_trigger t where not t.tgisinternal
  union all
  select 'pg_policy', p.oid, 'pg_class', p.polrelid from pg_policy p
  union all
  select 'pg_rewrite', w.oid, 'pg_class', w.ev_class from pg_rewrite w
  union all
  select 'pg_statistic_ext', x.oid, 'pg_class', x.stxrelid from pg_statistic_ext x
  union all
  select 'pg_proc', p.oid, null, null from pg_proc p
  union all
  select 'pg_namespace', n.oid, null, null from pg_namespace n
  union all
  select 'pg_ts_config', c.oid, null, null from pg_ts_config c
  union all
  select 'pg_extension', e.oid, null, null from pg_extension e
)
select e.catalog, e.oid::int8, e.whole_catalog, e.whole::int8, i.type, i.identity, coalesce(i.schema, '')
from everything e, pg_identify_object(('pg_catalog.' || e.catalog)::regclass, e.oid, 0) i
where e.oid >= 16384
  and not exists (select from pg_depend d where d.classid = ('pg_catalog.' || e.catalog)::regclass and d.objid = e.oid and d.deptype = 'e')
  and coalesce(i.schema, '') not like 'pg\\_toast%' and coalesce(i.schema, i.identity) <> 'supabase_migrations' and i.type is not null
"""
# A partition goes with its table.
_PARTITIONS = "select i.inhrelid::int8, i.inhparent::int8 from pg_inherits i join pg_class c on c.oid = i.inhrelid where c.relispartition"
_DEPENDENCIES = """
select d.classid::regclass::text, d.objid::int8, d.refclassid::regclass::text, d.refobjid::int8
from pg_depend d where d.objid >= 16384 and d.refobjid >= 16384 and d.deptype in ('n', 'a', 'i')
"""
_DOMAIN = "select oid::int8 from pg_type where typtype = 'd' and oid >= 16384"


@dataclass(frozen=True)
class Object:
    """One thing that DROP knows by `kind` and `identity`."""

    id: Id
    kind: str
    identity: str
    schema: str
    whole: Id | None


@dataclass(frozen=True)
class Objects:
    """All objects of one moment, and who depends on whom."""

    by_id: Mapping[Id, Object]
    dependencies: tuple[tuple[Id, Id], ...]

    def added_since(self, before: Objects) -> list[Object]:
        """New ones that are not part of another new one, oldest first."""
        new = {key for key in self.by_id if key not in before.by_id}
        return [
            self.by_id[key]
            for key in sorted(new, key=lambda key: key[1])
            if self._top(key, new) == key
        ]

    def _top(self, key: Id, new: Iterable[Id]) -> Id:
        whole = self.by_id[key].whole
        while whole is not None and whole in new and whole in self.by_id:
            key, whole = whole, self.by_id[whole].whole
        return key

    def drop_order(self, added: list[Object]) -> tuple[list[Object], list[Object]]:
        """Policies to drop beforehand because of a circle, and the objects, dependents first."""
        keys = {one.id for one in added}
        new = set(self.by_id)
        parts: list[Object] = []
        while True:
            edges: dict[Id, set[Id]] = {key: set() for key in keys}
            for source, target in self.dependencies:
                if source not in self.by_id or target not in self.by_id:
                    continue
                if any(source == part.id for part in parts):
                    continue
                above, below = self._within(source, keys, new), self._within(target, keys, new)
                if above and below and above != below:
                    edges[below].add(above)  # the dependent goes first
            try:
                graphlib.TopologicalSorter(edges).prepare()
            except graphlib.CycleError as error:
                circle = set(error.args[1])
                more = [
                    one
                    for one in self.by_id.values()
                    if one.id[0] == "pg_policy" and one.whole in circle and one not in parts
                ]
                if not more:
                    names = ", ".join(self.by_id[key].identity for key in error.args[1])
                    raise ValueError(f"these need one another: {names}") from error
                parts += more
                continue
            return parts, [self.by_id[key] for key in _sorted(edges)]

    def _within(self, key: Id, keys: set[Id], new: set[Id]) -> Id | None:
        current: Id | None = key
        while current is not None and current not in keys:
            current = self.by_id[current].whole if current in new else None
        return current


def _sorted(edges: Mapping[Id, set[Id]]) -> list[Id]:
    """Of what may go next, the youngest goes first: the file reads like its migration backwards."""
    sorter = graphlib.TopologicalSorter(edges)
    sorter.prepare()
    ready: list[Id] = []
    order: list[Id] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        ready.sort(key=lambda key: key[1])
        following = ready.pop()
        order.append(following)
        sorter.done(following)
    return order


def read_objects(connection: Connection) -> Objects:
    """Everything that a user made in this database."""
    partitions: dict[int, int] = dict(connection.execute(_PARTITIONS).fetchall())
    domains = {oid for (oid,) in connection.execute(_DOMAIN)}
    by_id: dict[Id, Object] = {}
    for catalog, oid, whole_catalog, whole, kind, identity, schema in connection.execute(
        _OBJECTS.encode()
    ):
        part_of = (whole_catalog, whole) if whole_catalog else None
        if catalog == "pg_class" and oid in partitions:
            part_of = ("pg_class", partitions[oid])
        if (catalog, oid) in by_id:
            continue
        by_id[catalog, oid] = Object(
            (catalog, oid),
            "domain" if catalog == "pg_type" and oid in domains else kind,
            identity,
            schema,
            part_of,
        )
    rows = connection.execute(_DEPENDENCIES).fetchall()
    return Objects(by_id, tuple(((a, b), (c, d)) for a, b, c, d in rows))
