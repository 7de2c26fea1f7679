"""Two databases: one with the other tenant, busy if the program says so, and one without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from policies_tests.catalog import Catalog, Connection
from policies_tests.facts import Key, read_rows
from policies_tests.people import BETA_ONE, Business, Persona
from policies_tests.specification import Specification
from policies_tests.world import World
from tenantry_cli.testing import Database

#: The other tenant.
OTHER = BETA_ONE
#: Reference data that no tenant owns and that is too large to rewrite or compare.
_LARGE = "private.phone_"


@dataclass(frozen=True)
class Pair:
    """The worlds. `world` describes the one with the other tenant in it."""

    world: World
    inhabited: Database
    deserted: Database

    @property
    def names(self) -> tuple[str, str]:
        return self.inhabited.name, self.deserted.name


def belongs_to(persona: Persona, business: Business) -> bool:
    """Whether a persona has, or had, anything to do with the business or its organization."""
    places = {one.business.organization for one in persona.memberships}
    return business.organization in places | {one.organization for one in persona.seats}


def is_only_of(persona: Persona, business: Business) -> bool:
    """Whether a persona has to do with this business's organization and with no other."""
    places = {one.business.organization for one in persona.memberships}
    return places | {one.organization for one in persona.seats} == {business.organization}


def attackers(world: World) -> list[Persona]:
    """Everybody who sends requests and has nothing to do with the other tenant."""
    return [
        one
        for one in world.cast.personas
        if one.role in ("anon", "authenticated") and not belongs_to(one, OTHER)
    ]


def desert(database: Database, world: World) -> None:
    """Remove everything of the other tenant, as if it had never been there.

    Triggers sleep meanwhile: deleting is an act that leaves traces, and not this world's story.
    """
    with database.server.administer(database.name) as connection:
        connection.execute("set session_replication_role = replica")
        gone = {str(OTHER.id), str(OTHER.organization.id)}
        gone |= {str(one.user_id) for one in world.cast.users if is_only_of(one, OTHER)}
        connection.execute("delete from auth.users where id::text = any (%s)", [list(gone)])
        for table, key in _owned(world.specification):
            gone |= set(_delete(connection, world.catalog, table, key, gone))
        for table, key in _owned(world.specification):  # keys that name rows found only now
            _delete(connection, world.catalog, table, key, gone)
        while _delete_orphans(connection, world.catalog):
            pass
    with database.server.administer(database.name, autocommit=True) as connection:
        for relation in world.catalog.tables:  # no holes where rows have been
            if relation.kind == "r" and not relation.label.startswith(_LARGE):
                name = sql.Identifier(relation.schema, relation.name)
                connection.execute(sql.SQL("vacuum full {}").format(name))


def _owned(specification: Specification) -> Iterator[tuple[str, str]]:
    for table in specification.tables.values():
        if table.key is not None:
            yield table.label, table.key


def _delete(
    connection: Connection, catalog: Catalog, table: str, key: str, gone: set[str]
) -> Iterator[str]:
    """Delete the rows whose key is `gone`; the ids of those rows."""
    relation = catalog.relations[table]
    has_id = any(one.name == "id" for one in relation.columns)
    statement = sql.SQL("delete from {} where {}::text = any (%s) returning {}::text").format(
        sql.Identifier(relation.schema, relation.name),
        sql.Identifier(key),
        sql.Identifier("id") if has_id else sql.NULL,
    )
    deleted = connection.execute(statement, [list(gone)]).fetchall()
    return (one for (one,) in deleted if one is not None)


def _delete_orphans(connection: Connection, catalog: Catalog) -> int:
    """Delete rows that refer to a row that is gone; how many."""
    deleted = 0
    for reference in catalog.references:
        child, target = catalog.relations[reference.table], catalog.relations.get(reference.target)
        if target is None:  # a table of Auth
            continue
        pairs = list(zip(reference.columns, reference.target_columns, strict=True))
        is_set = sql.SQL(" and ").join(
            sql.SQL("c.{} is not null").format(sql.Identifier(own)) for own, _ in pairs
        )
        same = sql.SQL(" and ").join(
            sql.SQL("c.{} = t.{}").format(sql.Identifier(own), sql.Identifier(foreign))
            for own, foreign in pairs
        )
        deleted += connection.execute(
            sql.SQL("delete from {} c where {} and not exists (select from {} t where {})").format(
                sql.Identifier(child.schema, child.name),
                is_set,
                sql.Identifier(target.schema, target.name),
                same,
            )
        ).rowcount
    return deleted


def comparable_rows(
    database: Database, catalog: Catalog
) -> dict[str, dict[Key, dict[str, str | None]]]:
    """Every row of every table by its key, for comparing the worlds themselves."""

    def anonymous(value: str | None) -> str | None:
        return "this database" if value == database.name else value

    found = {}
    with database.connect() as connection:
        for one in catalog.tables:
            if not one.label.startswith(_LARGE) and one.parent is None:
                found[one.label] = {
                    tuple(map(anonymous, key)): {
                        name: anonymous(value) for name, value in row.items()
                    }
                    for key, row in read_rows(connection, one).items()
                }
    return found
