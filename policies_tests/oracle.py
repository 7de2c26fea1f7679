"""Says what must happen, from permissions.yaml and the facts of the world. Knows no SQL.

Written apart from the migrations on purpose: where the two disagree, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .facts import Key
from .people import (
    BUSINESSES,
    ORGANIZATIONS,
    ApiKey,
    Business,
    Organization,
    Persona,
)
from .rights import Reach, RightsOf, own_keys, pool_key
from .specification import Specification, Table
from .world import World

#: No right, whoever asks for whatever (insufficient_privilege).
REFUSED = "42501"
#: The place is not home, or is suspended or being moved.
NOT_HOME = "PT409"
#: The registry is changed in the main database alone.
NOT_MAIN = "PT421"
#: The events of a connection are kept in another database.
KEPT_ELSEWHERE = "PT409"
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
        self._held: dict[tuple[str, str], Mapping[str, Reach]] = {}
        self._sets: dict[tuple[str, str, str], frozenset[Key] | None] = {}

    # Rights ------------------------------------------------------------------------------------

    def permissions_in(self, persona: Persona, business: Business) -> frozenset[str]:
        """What a persona may do in a business, for all records or for some."""
        return frozenset(self.rights_in(persona, business))

    def rights_in(self, persona: Persona, business: Business) -> Mapping[str, Reach]:
        """Permission -> how far it reaches."""
        place = (persona.name, business.name)
        if place not in self._held:
            self._held[place] = self._add_up(persona, business)
        return self._held[place]

    def _add_up(self, persona: Persona, business: Business) -> Mapping[str, Reach]:
        if not business.is_active or persona.is_anonymous or persona.session_was_ended:
            return {}
        if not self._world.site.knows(business):
            return {}
        if persona.key is not None:
            held = self._of_key(persona.key, business)
        elif business.organization.requires_mfa and persona.aal != "aal2":
            return {}
        else:
            held = self._of_person(persona, business)
        if business.organization.state == "moving":
            held = {code: reach for code, reach in held.items() if code.endswith(".read")}
        return held

    def _of_key(self, key: ApiKey, business: Business) -> dict[str, Reach]:
        """A key has what its maker holds and its scopes name, and never what is for people."""
        if key.state != "valid" or key.business != business:
            return {}
        maker = self._of_person(self._world.cast[key.maker], business)
        allowed = set(key.scopes) - self._specification.people_only
        return {code: reach for code, reach in maker.items() if code in allowed}

    def _of_person(self, persona: Persona, business: Business) -> dict[str, Reach]:
        rights = RightsOf(persona, business, self._specification, self._world.cast)
        return {code: reach for code, reach in rights.add_up().items() if reach.is_anything}

    def holds(
        self, persona: Persona, permission: str, business: Business | None, plane: str = "platform"
    ) -> bool:
        """Whether a persona holds a permission; in the tenant plane only at the home."""
        if business is None or (plane == "tenant" and not self._world.site.is_home(business)):
            return False
        return permission in self.permissions_in(persona, business)

    def reaches(
        self, persona: Persona, permission: str, business: Business, resource: str, row: Row | None
    ) -> bool:
        """Whether a permission reaches one record; None stands for no such record."""
        reach = self.rights_in(persona, business).get(permission, Reach())
        if row is None or not reach.is_anything:
            return reach.is_whole
        if row["id"] in reach.denied:
            return False
        return reach.is_whole or bool(reach.keys & self._carried(resource, row))

    def may_create(self, persona: Persona, permission: str, business: Business) -> bool:
        """Whether a record of one's own would be in reach."""
        reach = self.rights_in(persona, business).get(permission, Reach())
        return reach.is_whole or any(
            own in reach.keys for own in own_keys(self._person(persona), business)
        )

    def is_listed(self, persona: Persona, business: Business) -> bool:
        """Whether a business is one of the caller's: also when only a second factor is missing."""
        if self.rights_in(persona, business):
            return True
        is_guarded = business.organization.requires_mfa and persona.key is None
        with_factor = replace(persona, name=f"{persona.name} with a factor", aal="aal2")
        return is_guarded and bool(self._add_up(with_factor, business))

    def system_roles(self, persona: Persona, business: Business) -> frozenset[str]:
        """The system roles held in a business, by membership or seat."""
        held = {
            one.role
            for one in persona.memberships
            if one.business == business and one.status == "active"
        }
        held |= {
            seat.role
            for seat in persona.seats
            if seat.organization == business.organization and seat.status == "active"
        }
        return frozenset(held & set(self._specification.ranks))

    def _person(self, persona: Persona) -> Persona:
        """The persona, or who made the key that it is."""
        return self._world.cast[persona.key.maker] if persona.key else persona

    def _carried(self, resource: str, row: Row) -> frozenset[str]:
        """What stands on a record that somebody's permission can be limited to."""
        record = self._specification.records[resource]
        owners = {row[column] for column in record.owners} - {None}
        named = {row["id"], row["department_id"], *owners}
        if record.about:
            named.add(row[record.about])
        if not owners and row["department_id"] is None:
            named.add(pool_key(str(row["business_id"])))
        return frozenset(one for one in named if one is not None)

    def record_of(self, table: Table, row: Row) -> Row | None:
        """The record that decides over a row: the row itself or the one it is a part of."""
        if table.part_of is None:
            return row
        parents = self._world.rows[f"{table.schema}.{table.part_of['resource']}"]
        return parents.get((row["business_id"], row[table.part_of["column"]]))

    def holds_in_organization(
        self, persona: Persona, permission: str, organization: Organization | None
    ) -> bool:
        """Organization permissions: by seat, or by being an active member of a business of it."""
        if organization is None or not organization.is_active:
            return False
        if organization not in self._world.site.known:
            return False
        if persona.is_anonymous or persona.session_was_ended:
            return False
        if organization.requires_mfa and persona.aal != "aal2":
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
        if business is None or not self.holds(persona, rule, business, table.plane):
            return False
        if table.resource is None:
            return True
        return self.reaches(persona, rule, business, table.resource, self.record_of(table, row))

    def may_select(self, persona: Persona, table: Table, row: Row) -> bool:
        """Whether a row is visible to a signed-in user."""
        if table.through is not None:
            target = self._specification.tables[f"{table.schema}.{table.through['table']}"]
            behind = self._world.rows[target.label][(row[table.through["column"]],)]
            return self.may_select(persona, target, behind)
        if self._may(persona, table, "select", row):
            return True
        is_account = persona.user_id is not None
        if table.or_rows == "own":
            return is_account and row["user_id"] == str(persona.user_id)
        if table.or_rows == "shared":
            business = self._businesses.get(str(row["business_id"]))
            is_mine = is_account and row["granted_by"] == str(persona.user_id)
            return is_mine and self.holds(persona, "records.share", business)
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

    def may_insert(
        self,
        persona: Persona,
        table: Table,
        business: Business,
        row: Row,
        with_triggers: bool = True,
    ) -> bool:
        """Whether this row may be added; a trigger gives a limited member what nobody owns."""
        if persona.role == "service_role":
            return "insert" in table.service
        rule = table.rule("insert")
        if persona.role != "authenticated" or not self.holds(persona, rule, business, table.plane):
            return False
        if table.resource is None or self.rights_in(persona, business)[rule].is_whole:
            return True
        if table.part_of is not None:
            record = self.record_of(table, {**row, "business_id": str(business.id)})
            if record is None:
                return False
            return self.reaches(persona, rule, business, table.resource, record)
        filled = self._filled(persona, table, business, row, with_triggers)
        return self.reaches(persona, rule, business, table.resource, filled)

    def may_see_new(self, persona: Persona, table: Table, business: Business, row: Row) -> bool:
        """Whether a row just added comes back to who added it."""
        rule = table.rule("select")
        if not self.holds(persona, rule, business, table.plane):
            return False
        if table.resource is None or self.rights_in(persona, business)[rule].is_whole:
            return True
        record = self.record_of(table, {**row, "business_id": str(business.id)})
        if table.part_of is None:
            record = self._filled(persona, table, business, row, True)
        return self.reaches(persona, rule, business, table.resource, record)

    def _filled(
        self, persona: Persona, table: Table, business: Business, row: Row, with_triggers: bool
    ) -> Row:
        """A new record as it is stored: a limited member's record without owner is the member's."""
        assert table.record is not None
        owners = self._specification.records[table.record].owners
        filled: dict[str, str | None] = dict.fromkeys(("id", "department_id", *owners))
        filled |= {**row, "business_id": str(business.id)}
        mine = own_keys(self._person(persona), business)
        is_limited = not self.rights_in(persona, business)[table.rule("insert")].is_whole
        is_nobodys = filled["department_id"] is None and filled[owners[0]] is None
        if with_triggers and is_limited and mine and is_nobodys:
            filled[owners[0]] = mine[0]
        return filled

    def may_become(self, persona: Persona, table: Table, key: Key, changes: Row) -> bool:
        """Whether a row may be changed so: what it becomes must be in reach as well."""
        row = {**self._world.rows[table.label][key], **changes}
        return self._may(persona, table, "update", row)

    def has_grant(self, persona: Persona, table: Table, verb: str, column: str | None) -> bool:
        """Whether a role may write to a table at all, or to one column, before any row is asked."""
        if persona.role == "service_role":
            return verb in table.service
        if persona.role != "authenticated" or table.rule(verb) == "nobody":
            return False
        return column is None or column in table.update_columns

    def is_kept(self, table: Table, keys: Iterable[Key]) -> bool:
        """Whether one of these rows may not be deleted because what refers to it is elsewhere."""
        rows = self._world.rows[table.label]
        return table.kept_elsewhere and any(
            self._businesses[str(rows[key]["business_id"])].organization.database is not None
            for key in keys
        )

    def fence(
        self, persona: Persona, table: Table, keys: Iterable[Key], verb: str = "update"
    ) -> bool:
        """Whether writing these rows meets the fence; members are stopped by their rights.

        Rows of a business the database does not know are left over, and may be cleared away.
        """
        if persona.role != "service_role" or not (table.guarded and table.plane == "tenant"):
            return False
        rows = self._world.rows[table.label]
        assert table.key is not None
        site = self._world.site
        businesses = {self._businesses[str(rows[key][table.key])] for key in keys}
        if verb == "delete":
            businesses = {one for one in businesses if site.knows(one)}
        return any(not site.takes_writes(one) for one in businesses)
