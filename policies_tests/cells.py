"""Generates the cells of tables: every operation on every table, with what must come of it."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from .catalog import Connection, Relation
from .cell import Cell
from .new_row_cells import NewRowCells
from .oracle import Oracle, refused
from .people import ALPHA_ONE, UNKNOWN
from .rows import Tenant
from .world import World


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
            one = NewRowCells(
                self._oracle, self._world, table, relation, self._text, for_service, self._tenants
            )
            made[relation.label] = [*one.existing(), *one.new()]
        return made

    def _partition(self, relation: Relation) -> Iterator[Cell]:
        """Partitions are reached through their parent alone, by every role."""
        name = self._world.site.identifier(relation)
        for operation, text in (
            ("read partition", "select 1 from {}"),
            ("insert into partition", "insert into {} default values"),
            ("update partition", "update {} set resource = 'x'"),
            ("delete from partition", "delete from {}"),
            ("truncate partition", "truncate {}"),
        ):
            statement = sql.SQL(text).format(name)
            yield Cell(relation.label, operation, self._text(statement), lambda _: refused())

    def _text(self, statement: sql.Composable) -> bytes:
        return statement.as_string(self._quote).encode()
