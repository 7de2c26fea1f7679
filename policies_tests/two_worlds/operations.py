"""The attacker's possible operations, generated from the catalog of the database.

Each builder throws the dice and gives the text of one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from policies_tests.catalog import Catalog, Connection, Reference, Relation, read_catalog
from policies_tests.specification import Table
from policies_tests.world import World

from .dice import Dice
from .values import Literal, Values, as_literals

#: Columns that every table has and that no client should read.
_SYSTEM = ("ctid", "xmin")
#: How often each verb is tried where somebody may do it.
_WEIGHTS = {"insert": 6, "update": 2, "delete": 1}


@dataclass(frozen=True)
class Text:
    """One statement. An `is_prepared` one is kept by the connection as PostgREST keeps its own."""

    kind: str
    statement: str
    is_prepared: bool = False


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def label(relation: Relation) -> str:
    return f"{relation.schema}.{quoted(relation.name)}"


class TableOperations:
    """Operations on one table."""

    def __init__(self, world: World, catalog: Catalog, values: Values, table: Table) -> None:
        self._values = values
        self._table = table
        self._relation = catalog.relations[table.label]
        self._name = label(self._relation)
        self._columns = [one.name for one in self._relation.columns if one.name not in table.hidden]
        self._every_column = ", ".join(f"t.{quoted(name)}" for name in self._columns)
        self._keys = list(self._relation.primary_key)
        self._own: dict[str, list[Literal]] = {
            one: values.of_column(table, one) for one in self._columns
        }
        self._references = [one for one in catalog.references if one.table == table.label]
        self._targets = {
            one.name: self._target_values(world, one)
            for one in self._references
            if one.target in world.specification.tables
        }
        self._rows = list(self._new_rows())

    def _target_values(self, world: World, reference: Reference) -> tuple[str, list[Literal]]:
        """The column of a reference that is not the business, and what to put there."""
        pairs = zip(reference.columns, reference.target_columns, strict=True)
        own, foreign = next(
            (pair for pair in pairs if pair[0] != "business_id"),
            (reference.columns[0], reference.target_columns[0]),
        )
        target = world.specification.tables[reference.target]
        return own, self._values.of_column(target, foreign)

    def _new_rows(self) -> Iterator[dict[str, Literal]]:
        """Rows to insert, of each tenant with each token; what a client may set, if anything."""
        values, table = self._values, self._table
        own, *others = values.tenants()
        for tenant in (own, own, own, own, *others):
            for token in values.tokens():
                row = as_literals(values, values.row(table.label, tenant, token))
                if table.insert_columns:
                    allowed = {table.key, *table.insert_columns}
                    yield {name: value for name, value in row.items() if name in allowed}
                else:
                    yield row

    # What is drawn --------------------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        return any(self._table.rule(verb) != "nobody" for verb in ("insert", "update", "delete"))

    @property
    def is_readable(self) -> bool:
        return self._table.is_readable

    @property
    def builders(self) -> list[Callable[[Dice], Text]]:
        """Writes are mostly refused where nobody may write, and then say little."""
        reads: list[Callable[[Dice], Text]] = [
            self.read,
            self.system,
            self.count,
            self.order,
        ]
        if self._relation.schema == "public":  # what pooled connections of the API keep
            reads.append(self.read_again)
        if self._references:
            reads.append(self.embed)
        verbs = {"insert": self.insert, "update": self.update, "delete": self.delete}
        for verb, build in verbs.items():
            reads += [build] * (1 if self._table.rule(verb) == "nobody" else _WEIGHTS[verb])
        return reads

    def _where(self, dice: Dice) -> str:
        form = dice.below(4)
        if form == 0:
            return ""
        column = dice.choose(self._columns)
        value = dice.choose(self._own[column])
        if value == "null":
            return f" where t.{quoted(column)} is null"
        if form == 3:
            return f" where t.{quoted(column)} >= {value}"
        return f" where t.{quoted(column)} {('=', '<>')[form - 1]} {value}"

    def read(self, dice: Dice) -> Text:
        return Text("read", f"select {self._every_column} from {self._name} t{self._where(dice)}")

    def system(self, dice: Dice) -> Text:
        column = dice.choose(_SYSTEM)
        return Text("system", f"select t.{column}::text from {self._name} t{self._where(dice)}")

    def read_again(self, dice: Dice) -> Text:
        """One text per table, so that the other tenant asks the same."""
        text = f"select {self._every_column} from {self._name} t"
        return Text("read", text, is_prepared=True)

    def count(self, dice: Dice) -> Text:
        return Text("count", f"select count(*) from {self._name} t{self._where(dice)}")

    def order(self, dice: Dice) -> Text:
        """Only the ordered column: rows that are equal there come in any order."""
        column = quoted(dice.choose(self._columns))
        limit = 1 + dice.below(3)
        text = f"select t.{column} from {self._name} t{self._where(dice)} order by 1 limit {limit}"
        return Text("order", text)

    def embed(self, dice: Dice) -> Text:
        one = dice.choose(self._references)
        same = " and ".join(
            f"c.{quoted(own)} = p.{quoted(target)}"
            for own, target in zip(one.columns, one.target_columns, strict=True)
        )
        keys = ", ".join(f"c.{quoted(name)}" for name in self._keys)
        target_schema, _, target_name = one.target.partition(".")
        target = f"{target_schema}.{quoted(target_name)}"
        shown = ", ".join(f"p.{quoted(name)}" for name in one.target_columns)
        if dice.below(2):
            text = f"select {keys}, {shown} from {self._name} c left join {target} p on {same}"
        else:
            text = (
                f"select {shown}, (select count(*) from {self._name} c where {same}) "
                f"from {target} p"
            )
        return Text("embed", text)

    def insert(self, dice: Dice) -> Text:
        row = dict(dice.choose(self._rows))
        if self._targets and dice.is_one_in(3):
            column, values = dice.choose(list(self._targets.values()))
            row[column] = dice.choose(values)
        if dice.is_one_in(8):
            column = dice.choose(self._columns)
            row[column] = dice.choose(self._own[column])
        columns = ", ".join(map(quoted, row))
        text = f"insert into {self._name} as t ({columns}) values ({', '.join(row.values())})"
        form = dice.below(4)
        if form == 1:
            return Text("do nothing", f"{text} on conflict do nothing")
        if form == 2:
            column = quoted(dice.choose(list(row)))
            keys = ", ".join(map(quoted, self._keys))
            text = f"{text} on conflict ({keys}) do update set {column} = excluded.{column}"
            return Text("upsert", text)
        return Text("insert", text + self._returning(dice))

    def update(self, dice: Dice) -> Text:
        settable = [*self._table.update_columns, *self._columns[:2]]
        column = dice.choose(settable)
        value = dice.choose(self._own[column])
        text = f"update {self._name} t set {quoted(column)} = {value}{self._where(dice)}"
        return Text("update", text + self._returning(dice))

    def delete(self, dice: Dice) -> Text:
        text = f"delete from {self._name} t{self._where(dice)}"
        return Text("delete", text + self._returning(dice))

    def _returning(self, dice: Dice) -> str:
        if not dice.below(4):
            return ""
        return f" returning {self._every_column}"

    def explain(self, dice: Dice) -> Text:
        """What the planner thinks, for the planted leak alone: it knows all tenants' rows."""
        return Text("explain", f"explain select * from {self._name} t{self._where(dice)}")


class ViewOperations:
    """Operations on one view, of which only the catalog is known."""

    def __init__(self, relation: Relation, values: Values) -> None:
        self._name = label(relation)
        self._columns = [one.name for one in relation.columns]
        self._values = {one.name: values.of_type(one.type) for one in relation.columns}

    @property
    def builders(self) -> list[Callable[[Dice], Text]]:
        return [self.read, self.read_again, self.count]

    def _where(self, dice: Dice) -> str:
        column = dice.choose([None, *self._columns])
        value = "null" if column is None else dice.choose(self._values[column])
        return "" if value == "null" else f" where t.{quoted(str(column))} = {value}"

    def read(self, dice: Dice) -> Text:
        return Text("view", f"select * from {self._name} t{self._where(dice)}")

    def read_again(self, dice: Dice) -> Text:
        return Text("view", f"select * from {self._name} t", is_prepared=True)

    def count(self, dice: Dice) -> Text:
        return Text("count", f"select count(*) from {self._name} t{self._where(dice)}")


def table_operations(
    world: World, connection: Connection, values: Values
) -> tuple[list[TableOperations], list[ViewOperations]]:
    """All tables and views. The catalog is read anew: a fault may have been planted since."""
    catalog = read_catalog(connection)
    tables = [
        TableOperations(world, catalog, values, world.specification.tables[one.label])
        for one in catalog.tables
        if one.parent is None and one.label in world.specification.tables
    ]
    views = [ViewOperations(one, values) for one in catalog.views if one.schema == "public"]
    return tables, views
