"""Catalog objects by id, what they are part of, and what hangs on what."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

#: (catalog, id), such as ("pg_class", 16401).
Id = tuple[str, int]

_OBJECTS = Path(__file__).with_name("objects.sql").read_text(encoding="utf-8")
# A partition goes with its table.
_PARTITIONS = """
select i.inhrelid::int8, i.inhparent::int8
from pg_inherits i join pg_class c on c.oid = i.inhrelid where c.relispartition
"""
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
        new = {
            key
            for key, one in self.by_id.items()
            # Parts of what is not here belong to an extension.
            if key not in before.by_id and (one.whole is None or one.whole in self.by_id)
        }
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
