"""Says what must happen, from permissions.yaml and the facts of the world. Knows no SQL.

Written apart from the migrations on purpose: where the two disagree, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .facts import Key
from .people import BUSINESSES, ORGANIZATIONS, Business, Organization, Persona
from .specification import Specification, Table
from .world import World

#: No right, whoever asks for whatever (insufficient_privilege).
REFUSED = "42501"
#: The place is not home, or is suspended or being moved.
NOT_HOME = "PT409"
FOREIGN_KEY = "23503"
LAST_OWNER = "PT409"
#: What the reference to another tenant's role raises: roles have no key with the business in it.
UNKNOWN_ROLE = "22023"

Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Expectation:
    """Either an error, or success: with a number of rows, with exactly these, or with any."""

    sqlstate: str | None = None
    rows: int | None = None
    keys: frozenset[Key] | None = None


def refused(sqlstate: str = REFUSED) -> Expectation:
    return Expectation(sqlstate=sqlstate)


def affected(rows: int) -> Expectation:
    return Expectation(rows=rows)


class Oracle:
    """Predicts the outcome of each operation for each persona in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._specification: Specification = world.specification
        self._businesses = {str(one.id): one for one in BUSINESSES}
        self._organizations = {str(one.id): one for one in ORGANIZATIONS}
        # Facts do not change while the matrix runs, and each is asked for thousands of times.
        self._held: dict[tuple[str, str], frozenset[str]] = {}
        self._sets: dict[tuple[str, str, str], frozenset[Key] | None] = {}

    # Rights ------------------------------------------------------------------------------------

    def permissions_in(self, persona: Persona, business: Business) -> frozenset[str]:
        """What a persona may do in a business."""
        place = (persona.name, business.name)
        if place not in self._held:
            self._held[place] = self._add_up(persona, business)
        return self._held[place]

    def _add_up(self, persona: Persona, business: Business) -> frozenset[str]:
        held: set[str] = set()
        if not business.is_active:
            return frozenset()
        for membership in persona.memberships:
            if membership.business == business and membership.status == "active":
                held |= (
                    {membership.role}
                    if membership.is_custom
                    else self._specification.carried_by(membership.role)
                )
        for seat in persona.seats:
            if seat.organization == business.organization and seat.status == "active":
                held |= self._specification.carried_by(seat.role)
        if business.organization.state == "moving":
            held = {code for code in held if code.endswith(".read")}
        return frozenset(held)

    def holds(
        self, persona: Persona, permission: str, business: Business | None, plane: str = "platform"
    ) -> bool:
        """Whether a persona holds a permission; in the tenant plane only at the home."""
        if business is None or (plane == "tenant" and not business.is_here):
            return False
        return permission in self.permissions_in(persona, business)

    def holds_in_organization(
        self, persona: Persona, permission: str, organization: Organization | None
    ) -> bool:
        """Organization permissions: by seat, or by being an active member of a business of it."""
        if organization is None or not organization.is_active:
            return False
        kinds = {
            seat.role
            for seat in persona.seats
            if seat.organization == organization and seat.status == "active"
        }
        if any(
            one.business.organization == organization and one.status == "active"
            for one in persona.memberships
        ):
            kinds.add("member")
        return bool(kinds & self._specification.organization_permissions[permission])

    def _may(self, persona: Persona, table: Table, verb: str, row: Row) -> bool:
        """Whether the rule of a verb admits this row to a signed-in user."""
        rule = table.rule(verb)
        me = str(persona.user_id) if persona.user_id else None
        if rule == "signed_in":
            return True
        if rule == "own":
            return me is not None and row["user_id"] == me
        if rule == "colleagues":
            return me is not None and (
                row["user_id"] == me or row["user_id"] in self._colleagues(persona)
            )
        if rule == "nobody" or table.key is None:
            return False
        if table.scope == "organization":
            organization = self._organizations.get(str(row[table.key]))
            return self.holds_in_organization(persona, rule, organization)
        business = self._businesses.get(str(row[table.key]))
        return self.holds(persona, rule, business, table.plane)

    def may_select(self, persona: Persona, table: Table, row: Row) -> bool:
        """Whether a row is visible to a signed-in user."""
        if table.through is not None:
            target = self._specification.tables[f"{table.schema}.{table.through['table']}"]
            behind = self._world.rows[target.label][(row[table.through["column"]],)]
            return self.may_select(persona, target, behind)
        if self._may(persona, table, "select", row):
            return True
        if table.or_rows == "own":
            return persona.user_id is not None and row["user_id"] == str(persona.user_id)
        if table.or_rows == "system":
            assert table.key is not None
            return row[table.key] is None
        return False

    def _colleagues(self, persona: Persona) -> frozenset[str | None]:
        members = self._world.rows["public.business_memberships"].values()
        return frozenset(
            row["user_id"]
            for row in members
            if self.holds(persona, "members.read", self._businesses.get(str(row["business_id"])))
        )

    # What each verb gives ------------------------------------------------------------------------

    def visible(self, persona: Persona, table: Table) -> frozenset[Key] | None:
        """The rows a persona sees; None when it may not select from the table at all."""
        place = (persona.name, table.label, "select")
        if place not in self._sets:
            self._sets[place] = self._visible(persona, table)
        return self._sets[place]

    def changeable(self, persona: Persona, table: Table, verb: str) -> frozenset[Key] | None:
        """The rows a persona may update or delete; None without the verb on the table."""
        place = (persona.name, table.label, verb)
        if place not in self._sets:
            self._sets[place] = self._changeable(persona, table, verb)
        return self._sets[place]

    def _visible(self, persona: Persona, table: Table) -> frozenset[Key] | None:
        rows = self._world.rows[table.label]
        if persona.role == "service_role":
            return frozenset(rows) if "select" in table.service else None
        if persona.role == "anon" and table.visitors is not None:
            return frozenset(key for key, row in rows.items() if row[table.visitors] == "true")
        if persona.role != "authenticated" or not table.is_readable:
            return None
        if table.visitors is not None:
            return frozenset(key for key, row in rows.items() if row[table.visitors] == "true")
        return frozenset(key for key, row in rows.items() if self.may_select(persona, table, row))

    def _changeable(self, persona: Persona, table: Table, verb: str) -> frozenset[Key] | None:
        rows = self._world.rows[table.label]
        if persona.role == "service_role":
            return frozenset(rows) if verb in table.service else None
        if persona.role != "authenticated" or table.rule(verb) == "nobody":
            return None
        return frozenset(key for key, row in rows.items() if self._may(persona, table, verb, row))

    def may_insert(self, persona: Persona, table: Table, business: Business) -> bool:
        if persona.role == "service_role":
            return "insert" in table.service
        rule = table.rule("insert")
        if persona.role != "authenticated" or rule == "nobody":
            return False
        return self.holds(persona, rule, business, table.plane)

    def fence(self, persona: Persona, table: Table, keys: Iterable[Key]) -> bool:
        """Whether writing these rows meets the fence; members are stopped by their rights."""
        if persona.role != "service_role" or not (table.guarded and table.plane == "tenant"):
            return False
        rows = self._world.rows[table.label]
        assert table.key is not None
        return any(not self._businesses[str(rows[key][table.key])].takes_writes for key in keys)
