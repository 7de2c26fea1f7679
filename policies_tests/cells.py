"""Generates the cells of the matrix: every operation on every table, with what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg import sql

from .catalog import Connection, Reference, Relation
from .oracle import (
    FOREIGN_KEY,
    LAST_OWNER,
    NOT_HOME,
    UNKNOWN_ROLE,
    Expectation,
    Oracle,
    affected,
    refused,
)
from .people import ALPHA_ONE, BETA_ONE, BUSINESSES, UNKNOWN, Business, Persona
from .rows import FACTORIES, Tenant
from .specification import Table
from .world import Key, World, own_token

#: Columns that a trigger normalises and refuses when it cannot.
_NORMALISED = {"public.contact_points": ("raw",), "public.channels": ("address",)}

Predict = Callable[[Persona], Expectation]


@dataclass(frozen=True)
class Cell:
    """One statement against one table. `predict` says what it must give to a persona."""

    table: str
    operation: str
    statement: bytes
    predict: Predict

    @property
    def label(self) -> str:
        return f"{self.table}: {self.operation}"


class CellFactory:
    """Makes the cells of one world. `connection` only serves to quote values."""

    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._oracle = Oracle(world)
        self._quote = connection
        unknown = Tenant(UNKNOWN, dict(world.tenants[ALPHA_ONE.name].ids))
        self._tenants = {**world.tenants, UNKNOWN.name: unknown}

    def cells(self, for_service: bool) -> dict[str, list[Cell]]:
        """All cells by table. service_role may set every column, so its inserts differ."""
        made: dict[str, list[Cell]] = {}
        for relation in self._world.catalog.tables:
            if relation.parent is not None:
                made[relation.label] = list(self._partition(relation))
                continue
            table = self._world.specification.tables[relation.label]
            one = _TableCells(self, table, relation, for_service)
            made[relation.label] = list(one.all())
        return made

    def _partition(self, relation: Relation) -> Iterator[Cell]:
        """Partitions are reached through their parent alone, by every role."""
        name = sql.Identifier(relation.schema, relation.name)
        for operation, text in (
            ("read partition", "select 1 from {}"),
            ("insert into partition", "insert into {} default values"),
            ("update partition", "update {} set resource = 'x'"),
            ("delete from partition", "delete from {}"),
            ("truncate partition", "truncate {}"),
        ):
            statement = sql.SQL(text).format(name)
            yield Cell(relation.label, operation, self.text(statement), lambda _: refused())

    def text(self, statement: sql.Composable) -> bytes:
        return statement.as_string(self._quote).encode()


class _TableCells:
    def __init__(
        self, factory: CellFactory, table: Table, relation: Relation, for_service: bool
    ) -> None:
        self._factory = factory
        self._world: World = factory._world
        self._oracle: Oracle = factory._oracle
        self._tenants = factory._tenants
        self._table = table
        self._relation = relation
        self._for_service = for_service
        self._name = sql.Identifier(relation.schema, relation.name)
        self._rows = self._world.rows[table.label]

    def cell(self, operation: str, statement: sql.Composable, predict: Predict) -> Cell:
        return Cell(self._table.label, operation, self._factory.text(statement), predict)

    def all(self) -> Iterator[Cell]:
        yield from self._reads()
        for business in self._places():
            key = self._world.sample(self._table.label, business)
            yield from self._row(business, key)
        yield from self._inserts()
        yield from self._everything()
        yield from self._references()
        yield self.cell("truncate", sql.SQL("truncate {}").format(self._name), lambda _: refused())

    def _places(self) -> tuple[Business, ...]:
        return BUSINESSES if self._table.key is not None else (ALPHA_ONE,)

    # Parts of statements ----------------------------------------------------------------------

    def _is(self, key: Key) -> sql.Composable:
        return sql.SQL(" and ").join(
            sql.SQL("t.{}::text = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in zip(self._relation.primary_key, key, strict=True)
        )

    def _own_column(self) -> str:
        """A column the verb update may name: the first of the list, else any plain one."""
        if self._table.update_columns:
            return self._table.update_columns[0]
        return self._settable()

    def _settable(self) -> str:
        """A column that can be set to its default without breaking a constraint."""
        if self._table.label == "public.businesses":
            return "locale"  # a change of the time zone would rewrite other tables
        names = self._table.update_columns or [one.name for one in self._relation.columns]
        for name in names:
            column = self._relation.column(name)
            plain = name not in (*self._relation.primary_key, self._table.key, "status", "state")
            if plain and not column.is_generated and (column.is_nullable or column.has_default):
                return name
        return self._relation.columns[-1].name

    # Reading ----------------------------------------------------------------------------------

    def _reads(self) -> Iterator[Cell]:
        table, keys = self._table, self._relation.primary_key
        columns = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(k)) for k in keys)

        def visible(persona: Persona) -> Expectation:
            seen = self._oracle.visible(persona, table)
            return refused() if seen is None else Expectation(keys=seen)

        def every_column(persona: Persona) -> Expectation:
            seen = self._oracle.visible(persona, table)
            if seen is None or (table.hidden and persona.role != "service_role"):
                return refused()
            return affected(len(seen))

        def as_service(persona: Persona) -> Expectation:
            """System columns need a grant on the whole table, hidden ones too."""
            seen = self._oracle.visible(persona, table)
            is_refused = seen is None or persona.role != "service_role"
            return refused() if is_refused else affected(min(1, len(seen or ())))

        read = sql.SQL("select {} from {} t").format(columns, self._name)
        yield self.cell("read", read, visible)
        if table.schema == "public":
            star = sql.SQL("select * from {} t").format(self._name)
            yield self.cell("read every column", star, every_column)
        system = sql.SQL("select ctid from {} t limit 1").format(self._name)
        yield self.cell("read system column", system, as_service)
        for name in sorted(table.hidden):
            one = sql.SQL("select {} from {} t limit 1").format(sql.Identifier(name), self._name)
            yield self.cell(f"read hidden {name}", one, as_service)

    # One row ----------------------------------------------------------------------------------

    def _row(self, business: Business, key: Key) -> Iterator[Cell]:
        table, oracle, where = self._table, self._oracle, self._is(key)
        place = business.name
        own = sql.Identifier(self._own_column())

        def seen(persona: Persona) -> bool:
            return key in (oracle.visible(persona, table) or ())

        def read_one(persona: Persona) -> Expectation:
            if oracle.visible(persona, table) is None:
                return refused()
            return affected(int(seen(persona)))

        def change(verb: str) -> Predict:
            def predict(persona: Persona) -> Expectation:
                allowed = oracle.changeable(persona, table, verb)
                if allowed is None or oracle.visible(persona, table) is None:
                    return refused()
                if oracle.fence(persona, table, [key]):
                    return refused(NOT_HOME)
                return affected(int(key in allowed and seen(persona)))

            return predict

        def merge(persona: Persona) -> Expectation:
            """MERGE raises where DELETE skips: a visible row that may not be deleted."""
            plain = change("delete")(persona)
            allowed = oracle.changeable(persona, table, "delete")
            if plain.sqlstate is None and seen(persona) and key not in (allowed or ()):
                return refused()
            return plain

        def lock(persona: Persona) -> Expectation:
            plain = change("update")(persona)
            return affected(1) if plain.sqlstate == NOT_HOME else plain

        target = sql.SQL("{} t where {}").format(self._name, where)
        yield self.cell(f"read one of {place}", sql.SQL("select 1 from ") + target, read_one)
        update = sql.SQL("update {} t set {} = t.{} where {}").format(self._name, own, own, where)
        yield self.cell(f"update one of {place}", update, change("update"))
        delete = sql.SQL("delete from ") + target
        yield self.cell(f"delete one of {place}", delete, change("delete"))
        if business in (ALPHA_ONE, BETA_ONE):
            yield self.cell(
                f"lock one of {place}", sql.SQL("select 1 from {} for update").format(target), lock
            )
            merging = sql.SQL(
                "merge into {} t using (values (1)) v(x) on {} when matched then delete"
            ).format(self._name, where)
            yield self.cell(f"merge away one of {place}", merging, merge)
            yield from self._takeovers(business, key)
            if table.key is not None:
                yield from self._moves(business, key)

    def _moves(self, business: Business, key: Key) -> Iterator[Cell]:
        """Giving a row to another tenant."""
        table = self._table
        assert table.key is not None
        other = BETA_ONE if business != BETA_ONE else ALPHA_ONE
        foreign = self._rows[self._world.sample(table.label, other)][table.key]
        statement = sql.SQL("update {} t set {} = {} where {}").format(
            self._name, sql.Identifier(table.key), sql.Literal(foreign), self._is(key)
        )

        def predict(persona: Persona) -> Expectation:
            if persona.role == "service_role" and "update" in table.service and not table.guarded:
                return refused("23505")  # one profile per user
            return refused()

        yield self.cell(f"move one of {business.name} to {other.name}", statement, predict)

    def _takeovers(self, business: Business, key: Key) -> Iterator[Cell]:
        """Upsert on the primary key of an existing row."""
        row = {
            one.name: self._rows[key][one.name]
            for one in self._relation.columns
            if not one.is_generated and self._rows[key][one.name] is not None
        }
        statement = sql.SQL(
            "insert into {} as t ({}) values ({}) on conflict ({}) do update set {} = excluded.{}"
        ).format(
            self._name,
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Literal, row.values())),
            sql.SQL(", ").join(map(sql.Identifier, self._relation.primary_key)),
            sql.Identifier(self._own_column()),
            sql.Identifier(self._own_column()),
        )

        def predict(persona: Persona) -> Expectation:
            if persona.role != "service_role" or not {"insert", "update"} <= self._table.service:
                return refused()
            return affected(1)

        yield self.cell(f"upsert one of {business.name}", statement, predict)

    # New rows ---------------------------------------------------------------------------------

    def _new(self, tenant: Tenant, token: str, **changes: object) -> sql.Composable:
        row = FACTORIES[self._table.label](tenant, token) | changes
        if not self._for_service and self._table.insert_columns:
            assert self._table.key is not None
            allowed = {self._table.key, *self._table.insert_columns, *changes}
            row = {name: value for name, value in row.items() if name in allowed}
        return sql.SQL("insert into {} ({}) values ({})").format(
            self._name,
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Literal, row.values())),
        )

    def _insert(self, business: Business) -> Predict:
        table, oracle = self._table, self._oracle

        def predict(persona: Persona) -> Expectation:
            if not oracle.may_insert(persona, table, business):
                return refused()
            if table.guarded and table.plane == "tenant" and not business.takes_writes:
                return refused(NOT_HOME)
            return affected(1)

        return predict

    def _inserts(self) -> Iterator[Cell]:
        table = self._table
        places = [self._tenants[one.name] for one in self._places()]
        if not self._for_service and table.scope == "business":
            places.append(self._tenants[UNKNOWN.name])
        for tenant in places:
            predict = self._insert(tenant.business)
            yield self.cell(
                f"insert into {tenant.business.name}", self._new(tenant, "new"), predict
            )

        def returning(persona: Persona) -> Expectation:
            """What comes back must be visible: without the right to read, nothing is written."""
            plain = self._insert(ALPHA_ONE)(persona)
            if plain.sqlstate or persona.role == "service_role":
                return plain
            may_read = self._oracle.holds(persona, table.rule("select"), ALPHA_ONE)
            return plain if may_read else refused()

        yield from self._invalid(places)
        own = self._tenants[ALPHA_ONE.name]
        statement = sql.SQL("{} returning {}").format(
            self._new(own, "new"), sql.Identifier(self._relation.primary_key[0])
        )
        yield self.cell("insert returning", statement, returning)
        if table.key is not None:
            # Natural values that only the other tenant uses: no conflict, and no difference.
            taken = self._new(own, own_token(BETA_ONE))
            yield self.cell("insert what beta-one has", taken, self._insert(ALPHA_ONE))
            yield self.cell(
                "insert what beta-one has or do nothing",
                sql.SQL("{} on conflict do nothing").format(taken),
                self._insert(ALPHA_ONE),
            )

    def _invalid(self, places: list[Tenant]) -> Iterator[Cell]:
        """Row triggers run before the policy: their errors must not reach strangers."""
        table, oracle = self._table, self._oracle
        for column in _NORMALISED.get(table.label, ()):
            for tenant in places:
                business = tenant.business

                def predict(persona: Persona, business: Business = business) -> Expectation:
                    if persona.role == "service_role":
                        return refused("22023" if business.takes_writes else NOT_HOME)
                    is_member = persona.role == "authenticated" and bool(
                        oracle.permissions_in(persona, business)
                    )
                    return refused("22023" if is_member else "42501")

                statement = self._new(tenant, "new", **{column: "not an address"})
                operation = f"insert an invalid {column} into {business.name}"
                yield self.cell(operation, statement, predict)

    # The whole table --------------------------------------------------------------------------

    def _everything(self) -> Iterator[Cell]:
        table, oracle = self._table, self._oracle
        column = sql.Identifier(self._settable())

        def update(persona: Persona, only_visible: bool = False) -> Expectation:
            allowed = oracle.changeable(persona, table, "update")
            if allowed is None:
                return refused()
            if oracle.fence(persona, table, allowed):
                return refused(NOT_HOME)
            if only_visible:
                allowed &= oracle.visible(persona, table) or frozenset()
            return affected(len(allowed))

        def delete(persona: Persona) -> Expectation:
            allowed = oracle.changeable(persona, table, "delete")
            if allowed is None:
                return refused()
            if oracle.fence(persona, table, allowed):
                return refused(NOT_HOME)
            if table.keeps_owner:
                return refused(LAST_OWNER)
            held = {self._world.held[table.label].get(key) for key in allowed} - {None}
            return refused(FOREIGN_KEY) if held else affected(len(allowed))

        set_default = sql.SQL("update {} t set {} = default").format(self._name, column)
        yield self.cell("update everything", set_default, update)
        returning = sql.SQL("{} returning {}").format(
            set_default, sql.Identifier(self._relation.primary_key[0])
        )
        yield self.cell(
            "update everything returning", returning, lambda persona: update(persona, True)
        )
        yield self.cell("delete everything", sql.SQL("delete from {}").format(self._name), delete)
        forbidden = [
            one.name
            for one in self._relation.columns
            if one.name not in table.update_columns and not one.is_generated
        ]

        def derived(persona: Persona) -> Expectation:
            is_service = persona.role == "service_role" and "update" in table.service
            return affected(0) if is_service else refused()

        for name in forbidden[-1:]:
            one = sql.Identifier(name)
            yield self.cell(
                f"update {name}, which is not the client's",
                sql.SQL("update {} t set {} = {} where false").format(self._name, one, one),
                derived,
            )

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
        other = self._world.rows[reference.target][self._world.sample(reference.target, BETA_ONE)]
        mine = self._world.sample(table.label, ALPHA_ONE)
        tenant = self._tenants[ALPHA_ONE.name]

        def insert(persona: Persona) -> Expectation:
            if persona.role == "service_role":
                return refused(error if "insert" in table.service else "42501")
            may = oracle.may_insert(persona, table, ALPHA_ONE) and column in table.insert_columns
            return refused(error) if may else refused()

        def update(persona: Persona) -> Expectation:
            allowed = oracle.changeable(persona, table, "update")
            is_service = persona.role == "service_role"
            if allowed is None or not (is_service or column in table.update_columns):
                return refused()
            reaches = mine in allowed and mine in (oracle.visible(persona, table) or ())
            return refused(error) if reaches else affected(0)

        new = self._new(tenant, "new", **{column: other["id"]})
        yield self.cell(f"insert with {column} of beta-one", new, insert)
        change = sql.SQL("update {} t set {} = {} where {}").format(
            self._name, sql.Identifier(column), sql.Literal(other["id"]), self._is(mine)
        )
        yield self.cell(f"update with {column} of beta-one", change, update)
