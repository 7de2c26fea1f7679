"""Cells about rows that come: insert for each tenant, values and references of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from psycopg import sql

from .catalog import Reference, Relation
from .cell import Cell, Predict
from .oracle import (
    FOREIGN_KEY,
    NOT_HOME,
    UNKNOWN_ROLE,
    Expectation,
    Oracle,
    affected,
    refused,
)
from .people import ALPHA_ONE, BETA_ONE, UNKNOWN, Business, Persona
from .rows import FACTORIES, Tenant
from .specification import Table
from .table_cells import TableCells
from .world import World, own_token

#: Columns that a trigger normalises and refuses when it cannot.
_NORMALISED = {"public.contact_points": ("raw",), "public.channels": ("address",)}


def assignments(changes: Mapping[str, object]) -> sql.Composable:
    """`a = 1, b = null`"""
    return sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in changes.items()
    )


class NewRowCells(TableCells):
    """The operations that add rows. service_role may set every column, a client some."""

    def __init__(
        self,
        oracle: Oracle,
        world: World,
        table: Table,
        relation: Relation,
        quote: Callable[[sql.Composable], bytes],
        for_service: bool,
        tenants: Mapping[str, Tenant],
    ) -> None:
        super().__init__(oracle, world, table, relation, quote, for_service)
        self._tenants = tenants

    def new(self) -> Iterator[Cell]:
        """All of them."""
        yield from self._inserts()
        yield from self._references()

    def _new(self, tenant: Tenant, token: str, **changes: object) -> sql.Composable:
        row = self._values(tenant, token, **changes)
        return sql.SQL("insert into {} ({}) values ({})").format(
            self._name,
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Literal, row.values())),
        )

    def _values(self, tenant: Tenant, token: str, **changes: object) -> dict[str, Any]:
        """What the statement of `_new` sets."""
        row = FACTORIES[self._table.label](tenant, token) | changes
        if not self._for_service and self._table.insert_columns:
            assert self._table.key is not None
            allowed = {self._table.key, *self._table.insert_columns, *changes}
            row = {name: value for name, value in row.items() if name in allowed}
        return row

    def _text(self, row: dict[str, Any]) -> dict[str, str | None]:
        return {name: None if value is None else str(value) for name, value in row.items()}

    def _insert(self, tenant: Tenant, row: dict[str, Any]) -> Predict:
        table, oracle, business = self._table, self._oracle, tenant.business
        site = self._world.site
        values = self._text(row)

        def predict(persona: Persona) -> Expectation:
            if not oracle.may_insert(persona, table, business, values):
                return refused()
            if table.guarded and table.plane == "tenant" and not site.takes_writes(business):
                return refused(NOT_HOME)
            return affected(1) if site.knows(business) else refused(FOREIGN_KEY)

        return self._at_main(predict, "insert")

    def _inserts(self) -> Iterator[Cell]:
        table = self._table
        places = [self._tenants[one.name] for one in self._places()]
        if not self._for_service and table.scope == "business":
            places.append(self._tenants[UNKNOWN.name])
        for tenant in places:
            predict = self._insert(tenant, self._values(tenant, "new"))
            yield self.cell(
                f"insert into {tenant.business.name}", self._new(tenant, "new"), predict
            )

        own = self._tenants[ALPHA_ONE.name]
        mine = self._values(own, "new")

        def returning(persona: Persona) -> Expectation:
            """What comes back must be visible: without the right to read, nothing is written."""
            plain = self._insert(own, mine)(persona)
            if plain.sqlstate or persona.role == "service_role":
                return plain
            may_read = self._oracle.may_see_new(persona, table, ALPHA_ONE, self._text(mine))
            return plain if may_read else refused()

        yield from self._invalid(places)
        statement = sql.SQL("{} returning {}").format(
            self._new(own, "new"), sql.Identifier(self._relation.primary_key[0])
        )
        yield self.cell("insert returning", statement, returning)
        if table.key is not None:
            # Natural values that only the other tenant uses: no conflict, and no difference.
            taken = self._new(own, own_token(BETA_ONE))
            predict = self._insert(own, self._values(own, own_token(BETA_ONE)))
            yield self.cell("insert what beta-one has", taken, predict)
            yield self.cell(
                "insert what beta-one has or do nothing",
                sql.SQL("{} on conflict do nothing").format(taken),
                predict,
            )

    def _invalid(self, places: list[Tenant]) -> Iterator[Cell]:
        """Row triggers run before the policy: their errors reach those alone who may insert."""
        table, oracle, site = self._table, self._oracle, self._world.site
        for column in _NORMALISED.get(table.label, ()):
            for tenant in places:
                business = tenant.business

                def predict(persona: Persona, business: Business = business) -> Expectation:
                    if persona.role == "service_role":
                        return refused("22023" if site.takes_writes(business) else NOT_HOME)
                    may = persona.role == "authenticated" and oracle.holds(
                        persona, table.rule("insert"), business, table.plane
                    )
                    return refused("22023" if may else "42501")

                statement = self._new(tenant, "new", **{column: "not an address"})
                operation = f"insert an invalid {column} into {business.name}"
                yield self.cell(operation, statement, predict)

    # References to the other tenant -----------------------------------------------------------

    def _references(self) -> Iterator[Cell]:
        for reference in self._world.catalog.references:
            if reference.table != self._table.label or self._table.key != "business_id":
                continue
            target = self._world.specification.tables.get(reference.target)
            if target is None or target.key != "business_id":
                continue
            column = next(name for name in reference.columns if name != "business_id")
            yield from self._reference(reference, column)

    def _reference(self, reference: Reference, column: str) -> Iterator[Cell]:
        table, oracle = self._table, self._oracle
        error = FOREIGN_KEY if "business_id" in reference.columns else UNKNOWN_ROLE
        other = self._world.row(reference.target, self._world.sample(reference.target, BETA_ONE))
        is_fenced = table.plane == "tenant" and not self._world.site.takes_writes(ALPHA_ONE)
        mine = self._world.sample(table.label, ALPHA_ONE)
        tenant = self._tenants[ALPHA_ONE.name]
        changes: dict[str, str | None] = {
            name: None for name in table.one_of if column in table.one_of
        }
        changes[column] = other["id"]
        row = self._values(tenant, "new", **changes)

        def insert(persona: Persona) -> Expectation:
            if persona.role == "service_role":
                if "insert" not in table.service:
                    return refused()
                return refused(NOT_HOME if is_fenced else error)
            may = column in table.insert_columns and oracle.may_insert(
                persona, table, ALPHA_ONE, self._text(row)
            )
            return refused(error) if may else refused()

        def update(persona: Persona) -> Expectation:
            allowed = oracle.changeable(persona, table, "update")
            is_service = persona.role == "service_role"
            if allowed is None or not (is_service or column in table.update_columns):
                return refused()
            reaches = mine in allowed and mine in (oracle.visible(persona, table) or ())
            if not reaches:
                return affected(0)
            if is_service and is_fenced:
                return refused(NOT_HOME)
            may = is_service or oracle.may_become(persona, table, mine, changes)
            return refused(error) if may and column not in table.frozen else refused()

        new = self._new(tenant, "new", **changes)
        inserted = self._at_main(insert, "insert")
        yield self.cell(f"insert with {column} of beta-one", new, inserted)
        change = sql.SQL("update {} t set {} where {}").format(
            self._name, assignments(changes), self._is(mine)
        )
        updated = self._at_main(update, "update", column=column)
        yield self.cell(f"update with {column} of beta-one", change, updated)
