"""What a persona holds in a business: roles, departments, single permissions, shared records.

Written from permissions.yaml and the cast alone, apart from the SQL that must come to the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .people import (
    ACCESS_LISTS,
    CUSTOM_ROLES,
    DEPARTMENTS,
    Business,
    Cast,
    Department,
    Membership,
    Persona,
    membership_id,
    record_id,
)
from .specification import Specification


@dataclass(frozen=True)
class Reach:
    """How far a permission reaches in one business."""

    is_whole: bool = False
    #: Else what a record must carry: an owner, a department, a customer, its own id, or the pool.
    keys: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    @property
    def is_anything(self) -> bool:
        return self.is_whole or bool(self.keys)

    def __or__(self, other: Reach) -> Reach:
        return Reach(
            self.is_whole or other.is_whole, self.keys | other.keys, self.denied | other.denied
        )


@dataclass(frozen=True)
class Rule:
    """One way to hold a permission."""

    permission: str
    scope: str
    #: The department the rule was given in; None for the business.
    department: Department | None = None


def pool_key(business_id: str) -> str:
    """What a record carries that has neither owner nor department."""
    return f"pool of {business_id}"


def own_keys(persona: Persona, business: Business) -> list[str]:
    """What names a person on a record: the membership, and the customer they are."""
    keys = []
    for one in persona.memberships:
        if one.business == business and one.status == "active":
            keys.append(str(membership_id(persona.name, business)))
            if one.customer:
                keys.append(str(record_id("customers", one.customer, business)))
    return keys


def below(department: Department) -> Iterator[Department]:
    """A department and everything under it."""
    yield department
    for one in DEPARTMENTS:
        if one.parent == department:
            yield from below(one)


def above(department: Department) -> Iterator[Department]:
    """A department and everything over it."""
    yield department
    if department.parent is not None:
        yield from above(department.parent)


class RightsOf:
    """Adds up what one person holds in one business."""

    def __init__(
        self, persona: Persona, business: Business, specification: Specification, cast: Cast
    ) -> None:
        self._persona = persona
        self._business = business
        self._specification = specification
        self._cast = cast
        self._members = [
            one
            for one in persona.memberships
            if one.business == business and one.status == "active"
        ]
        self._custom = {one.code: one for one in CUSTOM_ROLES}

    def add_up(self) -> dict[str, Reach]:
        """Permission -> reach. Record denied, permission denied, record shared, given, roles."""
        held: dict[str, Reach] = {}
        denied = self._denied()
        for rule in self._rules():
            if rule.permission not in denied:
                reach = held.get(rule.permission, Reach()) | self._reach(rule)
                held[rule.permission] = reach
        for code, effect, record in self._records():
            if effect == "deny":
                held[code] = held.get(code, Reach()) | Reach(denied=frozenset({record}))
            elif code not in denied:
                held[code] = held.get(code, Reach()) | Reach(keys=frozenset({record}))
        return held

    def _denied(self) -> set[str]:
        return {
            single.code
            for one in self._persona.memberships
            if one.business == self._business
            for single in one.permissions
            if single.effect == "deny" and not single.has_expired
        }

    def _rules(self) -> Iterator[Rule]:
        for membership in self._members:
            for code in self._roles_of(membership):
                yield from (Rule(*item) for item in self._carried_by(code).items())
            for department, role in membership.departments:
                for code in self._with_inherited(role):
                    for permission, scope in self._carried_by(code).items():
                        if permission in self._specification.record_permissions:
                            narrowed = "department" if scope == "business" else scope
                            yield Rule(permission, narrowed, department)
            for single in membership.permissions:
                if single.effect == "allow" and not single.has_expired:
                    yield Rule(single.code, single.scope)
        for seat in self._persona.seats:
            if seat.organization == self._business.organization and seat.status == "active":
                yield from (Rule(*item) for item in self._carried_by(seat.role).items())

    def _roles_of(self, membership: Membership) -> list[str]:
        return self._with_inherited(membership.role)

    def _with_inherited(self, role: str) -> list[str]:
        found = [role]
        for code in found:
            custom = self._custom.get(code)
            found += [one for one in (custom.inherits if custom else ()) if one not in found]
        return found

    def _carried_by(self, code: str) -> dict[str, str]:
        if "." in code:
            return {code: "business"}
        if code in self._custom:
            return dict(self._custom[code].permissions)
        return dict(self._specification.carried_by(code))

    def _reach(self, rule: Rule) -> Reach:
        if rule.scope == "business":
            return Reach(is_whole=True)
        keys = set(own_keys(self._persona, self._business))
        if rule.scope == "department":
            keys.add(pool_key(str(self._business.id)))
            mine = [one for member in self._members for one, _ in member.departments]
            for department in [rule.department] if rule.department else mine:
                keys |= self._people_and_departments(department)
        return Reach(keys=frozenset(keys))

    def _people_and_departments(self, department: Department) -> set[str]:
        branch = list(below(department))
        keys = {str(one.id) for one in branch}
        for user in self._cast.users:
            for membership in user.memberships:
                if any(one in branch for one, _ in membership.departments):
                    keys.add(str(membership_id(user.name, membership.business)))
        return keys

    def _records(self) -> Iterator[tuple[str, str, str]]:
        """Permission, effect and record of each access list that names the persona."""
        roles = {role for one in self._members for role in self._roles_of(one)}
        roles |= {
            role
            for one in self._members
            for _, held in one.departments
            for role in self._with_inherited(held)
        }
        roles |= {
            seat.role
            for seat in self._persona.seats
            if seat.organization == self._business.organization and seat.status == "active"
        }
        departments = {
            over for one in self._members for mine, _ in one.departments for over in above(mine)
        }
        for entry in ACCESS_LISTS:
            is_member = bool(self._members) and entry.member == self._persona.name
            is_named = is_member or entry.role in roles or entry.department in departments
            if entry.has_expired or not is_named or not self._is_there():
                continue
            record = str(record_id(entry.resource, entry.token, self._business))
            for verb in entry.verbs:
                for code in self._specification.records[entry.resource].verbs[verb]:
                    yield code, entry.effect, record

    def _is_there(self) -> bool:
        return any(one.business == self._business for one in DEPARTMENTS)
