"""Requests for every table, view, reference and function, and what the oracle says of each."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from psycopg.types.json import Jsonb

from policies_tests.calls import Calls
from policies_tests.catalog import Reference, Relation
from policies_tests.cell import Cell
from policies_tests.conftest import Stage
from policies_tests.facts import Key
from policies_tests.oracle import Expectation, Oracle, refused
from policies_tests.people import ALPHA_ONE, BETA_ONE, UNKNOWN, Business, Persona
from policies_tests.rows import FACTORIES, Row, Tenant
from policies_tests.specification import Table
from policies_tests.world import own_token

_KEEP_NOTHING = "tx=rollback, return=minimal, count=exact"
#: Over HTTP a member tries what is its own, the other's and nobody's.
_PLACES = (ALPHA_ONE, BETA_ONE)

Keys = Callable[[Any], frozenset[Key]]


@dataclass(frozen=True)
class Probe:
    """One request. `predict` is what must come of it; `keys` finds the keys in the answer."""

    label: str
    method: str
    path: str
    predict: Callable[[Persona], Expectation]
    body: str | None = None
    prefer: str = ""
    keys: Keys | None = None
    #: Keys that an embedded relation may show, and where they are.
    embedded: Callable[[Any], frozenset[Key]] | None = None
    may_embed: Callable[[Persona], frozenset[Key]] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it reads one whole table or view."""
        return self.keys is not None and self.embedded is None and not self.prefer


def as_text(value: Any) -> str | None:
    """A value of an answer as the database prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.endswith("+00:00") and value[10:11] == "T":
        return value.replace("T", " ").removesuffix(":00")
    return None if value is None else str(value)


def key_reader(columns: tuple[str, ...]) -> Keys:
    return lambda rows: frozenset(tuple(as_text(row[name]) for name in columns) for row in rows)


def as_json(row: Mapping[str, Any]) -> str:
    def plain(value: object) -> object:
        if isinstance(value, Jsonb):
            return value.obj
        if isinstance(value, bytes):
            return f"\\x{value.hex()}"
        return str(value) if isinstance(value, uuid.UUID) else value

    return json.dumps({name: plain(value) for name, value in row.items()}, default=str)


class Probes:
    """The probes of one world."""

    def __init__(self, stage: Stage) -> None:
        self._world = stage.world
        self._oracle = Oracle(stage.world)
        self._cells: dict[tuple[str, str], Cell] = {
            (cell.table, cell.operation): cell for cells in stage.cells.values() for cell in cells
        }
        unknown = Tenant(UNKNOWN, dict(self._world.tenants[ALPHA_ONE.name].ids))
        self._tenants = {**self._world.tenants, UNKNOWN.name: unknown}

    def all(self) -> list[Probe]:
        """Every probe."""
        made: list[Probe] = []
        for table in self._world.specification.tables.values():
            if table.schema == "public":
                made += self._reads(table)
                made += self._writes(table)
        for reference in self._world.catalog.references:
            made += self._embeds(reference)
        return [*made, *self._views(), *self._functions()]

    def _relation(self, table: Table) -> Relation:
        return self._world.catalog.relations[table.label]

    def _predicted(self, label: str, operation: str) -> Callable[[Persona], Expectation] | None:
        cell = self._cells.get((label, operation))
        return None if cell is None else cell.predict

    # Reading --------------------------------------------------------------------------------------

    def _visible(self, table: Table) -> Callable[[Persona], Expectation]:
        def predict(persona: Persona) -> Expectation:
            keys = self._oracle.visible(persona, table)
            return refused() if keys is None else Expectation(rows=len(keys), keys=keys)

        return predict

    def _reads(self, table: Table) -> Iterator[Probe]:
        columns = self._relation(table).primary_key
        path = f"/{table.name}?select={','.join(columns)}"
        predict, keys = self._visible(table), key_reader(columns)
        yield Probe(f"count {table.name}", "GET", path, predict, prefer="count=exact", keys=keys)
        shown = [one.name for one in self._relation(table).columns if one.name not in table.hidden]
        path = f"/{table.name}?select={','.join(shown)}"
        yield Probe(f"read {table.name}", "GET", path, predict, keys=keys)
        for business in _PLACES if table.key is not None else ():
            predicted = self._predicted(table.label, f"read one of {business.name}")
            if predicted is not None:
                path = f"/{table.name}?select={columns[0]}&{self._is(table, business)}"
                label = f"read one of {business.name} in {table.name}"
                yield Probe(label, "GET", path, predicted, prefer="count=exact")

    def _is(self, table: Table, business: Business) -> str:
        key = self._world.sample(table.label, business)
        names = self._relation(table).primary_key
        return "&".join(
            f"{name}=eq.{quote(value or '', safe='')}"
            for name, value in zip(names, key, strict=True)
        )

    def _embeds(self, reference: Reference) -> Iterator[Probe]:
        """Both ends of a reference, each embedded in the other."""
        tables = self._world.specification.tables
        child, target = tables.get(reference.table), tables.get(reference.target)
        if child is None or target is None or {child.schema, target.schema} != {"public"}:
            return
        if child == target:  # PostgREST 12 takes no name of a constraint there
            return
        for outer, inner in ((child, target), (target, child)):
            names, columns = self._relation(inner).primary_key, self._relation(outer).primary_key
            embedding = f"inner:{inner.name}!{reference.name}({','.join(names)})"

            def inside(rows: Any, names: tuple[str, ...] = names) -> frozenset[Key]:
                found: set[Key] = set()
                for row in rows:
                    part = row["inner"] if isinstance(row["inner"], list) else [row["inner"]]
                    found |= key_reader(names)([one for one in part if one is not None])
                return frozenset(found)

            def predict(
                persona: Persona, outer: Table = outer, inner: Table = inner
            ) -> Expectation:
                if self._oracle.visible(persona, inner) is None:
                    return refused()
                return self._visible(outer)(persona)

            def allowed(persona: Persona, inner: Table = inner) -> frozenset[Key]:
                return self._oracle.visible(persona, inner) or frozenset()

            yield Probe(
                f"embed {inner.name} in {outer.name} by {reference.name}",
                "GET",
                f"/{outer.name}?select={','.join(columns)},{embedding}",
                predict,
                keys=key_reader(columns),
                embedded=inside,
                may_embed=allowed,
            )

    def _views(self) -> Iterator[Probe]:
        for label, view in self._world.specification.views.items():
            if view.key is None:
                continue  # for operators or policies, in a schema that is not served
            predict = self._predicted(label, "rows per business")
            assert predict is not None

            def per_business(rows: Any, key: str = view.key) -> frozenset[Key]:
                counted = Counter(as_text(row[key]) for row in rows)
                return frozenset((name, str(number)) for name, number in counted.items())

            path = f"/{view.name}?select=*"
            yield Probe(f"read {view.name}", "GET", path, predict, keys=per_business)

    # Writing --------------------------------------------------------------------------------------

    def _writes(self, table: Table) -> Iterator[Probe]:
        for business in (*_PLACES, UNKNOWN) if table.key is not None else (ALPHA_ONE,):
            predict = self._predicted(table.label, f"insert into {business.name}")
            if predict is not None:
                row = self._new(table, self._tenants[business.name], "new")
                yield self._post(f"insert into {business.name}", table, row, predict)
        if table.key is not None:
            own = self._new(table, self._tenants[ALPHA_ONE.name], own_token(BETA_ONE))
            for operation, more in (
                ("insert what beta-one has", ""),
                ("insert what beta-one has or do nothing", ", resolution=ignore-duplicates"),
            ):
                predict = self._predicted(table.label, operation)
                if predict is not None:
                    yield self._post(operation, table, own, predict, more)
        for business in _PLACES if table.key is not None else (ALPHA_ONE,):
            yield from self._changes(table, business)

    def _new(self, table: Table, tenant: Tenant, token: str) -> Row:
        """As the matrix does: what a client may set, or everything where it may set nothing."""
        row = FACTORIES[table.label](tenant, token)
        if table.insert_columns:
            allowed = {table.key, *table.insert_columns}
            row = {name: value for name, value in row.items() if name in allowed}
        return row

    def _post(
        self,
        operation: str,
        table: Table,
        row: Row,
        predict: Callable[[Persona], Expectation],
        more: str = "",
    ) -> Probe:
        label, prefer = f"{operation}, {table.name}", _KEEP_NOTHING + more
        return Probe(label, "POST", f"/{table.name}", predict, as_json(row), prefer)

    def _changes(self, table: Table, business: Business) -> Iterator[Probe]:
        place, where = business.name, self._is(table, business)
        path = f"/{table.name}?{where}"
        row = self._world.rows[table.label][self._world.sample(table.label, business)]
        predict = self._predicted(table.label, f"delete one of {place}")
        if predict is not None:
            yield Probe(
                f"delete one of {place}, {table.name}", "DELETE", path, predict, None, _KEEP_NOTHING
            )
        predict = self._predicted(table.label, f"update one of {place}")
        if predict is not None and table.update_columns:
            body = as_json(self._same(table, table.update_columns[0], row))
            label = f"update one of {place}, {table.name}"
            yield Probe(label, "PATCH", path, predict, body, _KEEP_NOTHING)
        other = BETA_ONE if business != BETA_ONE else ALPHA_ONE
        predict = self._predicted(table.label, f"move one of {place} to {other.name}")
        if predict is not None and table.key is not None:
            foreign = self._world.rows[table.label][self._world.sample(table.label, other)]
            body = as_json({table.key: foreign[table.key]})
            label = f"move one of {place}, {table.name}"
            yield Probe(label, "PATCH", path, predict, body, _KEEP_NOTHING)
        predict = self._predicted(table.label, f"upsert one of {place}")
        if predict is not None:
            whole: Row = {}
            for column in self._relation(table).columns:
                if not column.is_generated and row[column.name] is not None:
                    whole |= self._same(table, column.name, row)
            prefer = f"{_KEEP_NOTHING}, resolution=merge-duplicates"
            label = f"upsert one of {place}, {table.name}"
            yield Probe(label, "POST", f"/{table.name}", predict, as_json(whole), prefer)

    def _same(self, table: Table, column: str, row: Mapping[str, str | None]) -> Row:
        """A column with the value that it has."""
        value = row[column]
        kind = self._relation(table).column(column).type
        is_json = value is not None and kind in ("jsonb", "json", "boolean")
        return {column: json.loads(value) if is_json and value is not None else value}

    # Functions ------------------------------------------------------------------------------------

    def _functions(self) -> Iterator[Probe]:
        calls = Calls(self._world)
        for label, one in self._world.specification.functions.items():
            if one.schema != "public":
                continue
            for place in (*_PLACES, UNKNOWN):
                predict = self._predicted(label, f"call for {place.name}")
                tenant = self._tenants[place.name]
                arguments: Row | None = calls.plain.get(one.name)
                if one.name in calls.of_business:
                    arguments = calls.of_business[one.name](tenant)
                if predict is None or arguments is None:
                    continue
                yield Probe(
                    f"{one.name} for {place.name}",
                    "POST",
                    f"/rpc/{one.name}",
                    predict,
                    as_json(arguments),
                    "tx=rollback",
                )
