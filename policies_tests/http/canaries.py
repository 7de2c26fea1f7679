"""Values that only one organization has: wherever another sees one, something leaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policies_tests.people import BUSINESSES, Organization
from policies_tests.two_worlds.worlds import is_only_of
from policies_tests.world import World

#: Shorter texts stand in every answer by chance.
_SHORTEST = 7


def canaries(world: World, organization: Organization) -> list[str]:
    """Ids and texts that stand in rows of this organization and in no other row."""
    theirs, others = set[str](), set[str]()
    keys = _keys(world, organization)
    for table in world.specification.tables.values():
        names = [
            column.name
            for column in world.catalog.relations[table.label].columns
            if column.type in ("uuid", "text") or "slug" in column.type
        ]
        owned = keys.get(table.scope or "")
        for row in world.rows[table.label].values():
            values = _values(row, names)
            if owned is not None and table.key is not None and row[table.key] in owned:
                theirs |= values
            else:
                others |= values
    return sorted(one for one in theirs - others if len(one) >= _SHORTEST)


def _values(row: Mapping[str, str | None], names: Iterable[str]) -> set[str]:
    return {value for name in names if (value := row[name]) is not None}


def _keys(world: World, organization: Organization) -> dict[str, set[str]]:
    businesses = [one for one in BUSINESSES if one.organization == organization]
    return {
        "business": {str(one.id) for one in businesses},
        "organization": {str(organization.id)},
        "user": {
            str(one.user_id)
            for one in world.cast.users
            if any(is_only_of(one, business) for business in businesses)
        },
    }
