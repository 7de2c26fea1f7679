"""Values to try: the attacker's own, those only the other tenant has, and those nobody has."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from policies_tests.catalog import Connection
from policies_tests.people import ALPHA_ONE, UNKNOWN, Business
from policies_tests.rows import FACTORIES, Row, Tenant
from policies_tests.specification import Table
from policies_tests.world import World, own_token

from .worlds import OTHER, is_only_of

#: Stands for an id that the program itself has made; see programs.py.
MADE = "@made@"
#: So many values of each kind.
_FEW = 3

Literal = str


@dataclass(frozen=True)
class Side:
    """A tenant as one of the two parties sees it: `own` acts, `other` is looked for."""

    own: Business
    other: Business


#: As the attacker sees it, and as the other tenant does when it is busy.
ATTACK = Side(ALPHA_ONE, OTHER)
BUSY = Side(OTHER, ALPHA_ONE)


class Values:
    """Literals by table, column and type. `connection` only serves to quote."""

    def __init__(self, world: World, connection: Connection, side: Side) -> None:
        self._world = world
        self._quote = connection
        self.side = side
        self._keys = {one: self._key_values(one) for one in (side.own, side.other)}
        self._nobody = [f"'{MADE}'", self.literal(str(uuid.UUID(int=9)))]
        self._by_type = self._collect()

    def literal(self, value: object) -> Literal:
        return sql.Literal(value).as_string(self._quote)

    def tenants(self) -> list[Tenant]:
        """The own one first, then the other's, nobody's, and the other's with own references."""
        own, other = (self._world.tenants[one.name] for one in (self.side.own, self.side.other))
        return [own, other, Tenant(UNKNOWN, dict(own.ids)), Tenant(self.side.own, dict(other.ids))]

    def of_column(self, table: Table, column: str) -> list[Literal]:
        """Values to compare a column with or to set it to."""
        found = [
            value
            for one in (self.side.other, self.side.own)
            for value in self._of(table, column, one)[:_FEW]
        ]
        fresh = FACTORIES[table.label](self.tenants()[0], "fresh").get(column)
        made = [] if fresh is None else [self.literal(fresh)]
        return [*dict.fromkeys([*found, *made, *self._ids(column)]), "null"]

    def of_argument(self, name: str, type_name: str) -> list[Literal]:
        """Values for an argument of a function, by its name (`customer_id`) where that tells."""
        table = name.removesuffix("_id") + "s"
        ids = [one.ids[table] for one in self.tenants()[:2] if table in one.ids]
        if type_name != "uuid" or not ids:
            return self.of_type(type_name)
        return [*map(self.literal, reversed(ids)), *self._nobody, "null"]

    def of_type(self, type_name: str) -> list[Literal]:
        if type_name.endswith("[]"):
            one = self._by_type.get(type_name[:-2], [])
            return [f"array[{value}]::{type_name}" for value in one] or ["null"]
        fixed = {
            "boolean": ["true", "false"],
            "integer": ["0", "1", "1000"],
            "jsonb": ["'{}'", "'[]'"],
        }
        return [*fixed.get(type_name, []), *self._by_type.get(type_name, []), "null"]

    def row(self, table: str, tenant: Tenant, token: str) -> Row:
        return FACTORIES[table](tenant, token)

    def tokens(self) -> list[str]:
        """The other's most often, then nobody's; `hub` is everybody's, and so a conflict."""
        other = own_token(self.side.other)
        return [other, "fresh", other, "fresh", "hub"]

    # How they are found ---------------------------------------------------------------------------

    def _key_values(self, business: Business) -> Mapping[str, frozenset[str]]:
        users = {
            str(one.user_id)
            for one in self._world.cast.users
            if is_only_of(one, business) or any(m.business == business for m in one.memberships)
        }
        return {
            "business": frozenset({str(business.id)}),
            "organization": frozenset({str(business.organization.id)}),
            "user": frozenset(users),
        }

    def _of(self, table: Table, column: str, business: Business) -> list[Literal]:
        """The values of a column in the rows of a business, the most telling first."""
        if table.key is None or table.scope is None:
            keys = None
        else:
            keys = self._keys[business][table.scope]
        found: dict[str, None] = {}
        for row in self._world.rows[table.label].values():
            value = row.get(column)
            if value is not None and (keys is None or row[table.key or ""] in keys):
                found[value] = None
        token = own_token(business)
        return [self.literal(one) for one in sorted(found, key=lambda text: token not in text)]

    def _ids(self, column: str) -> list[Literal]:
        return self._nobody if column == "id" else []

    def _collect(self) -> dict[str, list[Literal]]:
        """Values of arguments by type."""
        other, own = (
            [one.id, one.business.organization.id, *one.ids.values()]
            for one in reversed(self.tenants()[:2])
        )
        users = [
            one.user_id
            for one in self._world.cast.users
            if is_only_of(one, self.side.other) or is_only_of(one, self.side.own)
        ]
        ids = [*other, *own[:4], *users[:4]]
        return {
            "uuid": [*map(self.literal, ids), *self._nobody],
            "text": [*self._texts(), *self._words()],
        }

    def _texts(self) -> Iterable[Literal]:
        """What the other has written. Slugs of organizations are one public name space."""
        public = {str(row["slug"]) for row in self._world.rows["public.organizations"].values()}
        found: dict[str, None] = {}
        for table in self._world.specification.tables.values():
            if table.schema == "public" and table.key is not None:
                for column in self._world.catalog.relations[table.label].columns:
                    if column.type == "text":
                        found |= dict.fromkeys(self._of(table, column.name, self.side.other)[:1])
        return [one for one in found if one.strip("'") not in public]

    def _words(self) -> Iterable[Literal]:
        codes = [*self._world.specification.ranks, *self._world.specification.permissions][::4]
        yield from map(self.literal, ["", "fresh", "fresh@customer.example", *codes])


def as_literals(values: Values, row: Mapping[str, Any]) -> dict[str, Literal]:
    return {name: values.literal(value) for name, value in row.items()}
