"""Cells about rows that exist: read, update, delete, merge, lock, move, take over, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from psycopg import sql

from .catalog import Relation
from .cell import Cell, Predict
from .facts import Key
from .oracle import (
    FOREIGN_KEY,
    KEPT_ELSEWHERE,
    LAST_OWNER,
    NOT_HOME,
    NOT_MAIN,
    Expectation,
    Oracle,
    affected,
    refused,
)
from .people import ALPHA_ONE, BETA_ONE, BUSINESSES, Business, Persona
from .specification import Table
from .world import World


class TableCells:
    """The operations on rows that exist. `quote` turns a statement into bytes.

    service_role may set every column, a client some, and clears away what members never see.
    """

    def __init__(
        self,
        oracle: Oracle,
        world: World,
        table: Table,
        relation: Relation,
        quote: Callable[[sql.Composable], bytes],
        for_service: bool,
    ) -> None:
        self._world = world
        self._for_service = for_service
        self._oracle = oracle
        self._quote = quote
        self._table = table
        self._relation = relation
        self._name = world.site.identifier(relation)
        self._rows = self._world.rows[table.label]

    def cell(self, operation: str, statement: sql.Composable, predict: Predict) -> Cell:
        return Cell(self._table.label, operation, self._quote(statement), predict)

    def _at_main(self, predict: Predict, *verbs: str, column: str | None = None) -> Predict:
        """`predict`, but a copy of the registry refuses whoever has the grants for `verbs`."""
        table = self._table
        if table.plane == "tenant" or table.at_home >= {*verbs} or not self._world.site.is_copy:
            return predict

        def refused_at_copy(persona: Persona) -> Expectation:
            may = all(self._oracle.has_grant(persona, table, verb, column) for verb in verbs)
            return refused(NOT_MAIN if may else "42501")

        return refused_at_copy

    def _has_unknown(self) -> bool:
        """Whether there are rows of tenants whose registry the database does not have."""
        ids = {str(one.id) for one in BUSINESSES if not self._world.site.knows(one)}
        return any(row.get("business_id") in ids for row in self._rows.values())

    def existing(self) -> Iterator[Cell]:
        """All of them."""
        yield from self._reads()
        for business in self._places():
            key = self._world.sample(self._table.label, business)
            yield from self._row(business, key)
        yield from self._everything()
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
            unusual = (*self._relation.primary_key, self._table.key, "status", "state")
            plain = name not in (*unusual, *self._table.one_of)
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
        place, rows = business.name, self._rows
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
                if oracle.fence(persona, table, [key] if key in rows else [], verb):
                    return refused(NOT_HOME)
                reached = {key} & allowed if seen(persona) else set()
                if verb == "delete" and oracle.is_kept(table, reached):
                    return refused(KEPT_ELSEWHERE)
                return affected(len(reached))

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
        changed = self._at_main(change("update"), "update", column=self._own_column())
        yield self.cell(f"update one of {place}", update, changed)
        delete = sql.SQL("delete from ") + target
        yield self.cell(f"delete one of {place}", delete, self._at_main(change("delete"), "delete"))
        if business in (ALPHA_ONE, BETA_ONE):
            yield self.cell(
                f"lock one of {place}", sql.SQL("select 1 from {} for update").format(target), lock
            )
            merging = sql.SQL(
                "merge into {} t using (values (1)) v(x) on {} when matched then delete"
            ).format(self._name, where)
            merged = self._at_main(merge, "delete")
            yield self.cell(f"merge away one of {place}", merging, merged)
            yield from self._takeovers(business, key)
            if table.key is not None:
                yield from self._moves(business, key)

    def _moves(self, business: Business, key: Key) -> Iterator[Cell]:
        """Giving a row to another tenant."""
        table, rows = self._table, self._rows
        assert table.key is not None
        other = BETA_ONE if business != BETA_ONE else ALPHA_ONE
        foreign = self._world.row(table.label, self._world.sample(table.label, other))[table.key]
        statement = sql.SQL("update {} t set {} = {} where {}").format(
            self._name, sql.Identifier(table.key), sql.Literal(foreign), self._is(key)
        )

        def predict(persona: Persona) -> Expectation:
            if persona.role == "service_role" and "update" in table.service and key not in rows:
                return affected(0)
            if persona.role == "service_role" and "update" in table.service and not table.guarded:
                return refused("23505")  # one profile per user
            return refused()

        moved = self._at_main(predict, "update", column=table.key)
        yield self.cell(f"move one of {business.name} to {other.name}", statement, moved)

    def _takeovers(self, business: Business, key: Key) -> Iterator[Cell]:
        """Upsert on the primary key of an existing row."""
        stored = self._world.row(self._table.label, key)
        row = {
            one.name: stored[one.name]
            for one in self._relation.columns
            if not one.is_generated and stored[one.name] is not None
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
            if self._table.guarded and self._table.plane == "tenant":
                return affected(1) if site.takes_writes(business) else refused(NOT_HOME)
            return affected(1) if site.knows(business) else refused(FOREIGN_KEY)

        site = self._world.site
        taken = self._at_main(predict, "insert", "update", column=self._own_column())
        yield self.cell(f"upsert one of {business.name}", statement, taken)

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
            if oracle.fence(persona, table, allowed, "delete"):
                return refused(NOT_HOME)
            if oracle.is_kept(table, allowed):
                return refused(KEPT_ELSEWHERE)
            if table.keeps_owner:
                return refused(LAST_OWNER)
            held = {self._world.held[table.label].get(key) for key in allowed} - {None}
            return refused(FOREIGN_KEY) if held else affected(len(allowed))

        set_default = sql.SQL("update {} t set {} = default").format(self._name, column)
        settable = self._settable()
        updated = self._at_main(update, "update", column=settable)
        yield self.cell("update everything", set_default, updated)
        returning = sql.SQL("{} returning {}").format(
            set_default, sql.Identifier(self._relation.primary_key[0])
        )
        returned = self._at_main(lambda one: update(one, True), "update", column=settable)
        yield self.cell("update everything returning", returning, returned)
        # A job may clear away what is left of unknown tenants, unless that touches more of it.
        if not (self._for_service and self._has_unknown()):
            deleted = self._at_main(delete, "delete")
            clear = sql.SQL("delete from {}").format(self._name)
            yield self.cell("delete everything", clear, deleted)
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
                self._at_main(derived, "update", column=name),
            )
