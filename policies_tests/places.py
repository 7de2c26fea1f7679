"""The world once more in the other placements, brought there by the fleet itself.

The world is built in a main database as ever. Its organizations then move as an operator moves
them: the mover copies their rows, the registry is sent. What lies at the new home is read back from
there.

Beside the rows of those who live at a site, the rows of everybody else are put there too, as a
mistake or an earlier stay would leave them: every cell finds something that must not show.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg import sql

from tenantry_cli.fleet.databases import drop_place
from tenantry_cli.fleet.fleet import Connection as FleetConnection
from tenantry_cli.fleet.fleet import Fleet, Home
from tenantry_cli.fleet.mover import move_tenant
from tenantry_cli.fleet.names import template_name
from tenantry_cli.fleet.registry import add_place, send
from tenantry_cli.fleet.rows import (
    ACCESS_LISTS,
    as_they_are,
    copy_rows,
    same_partitions,
    tables_at,
)
from tenantry_cli.migrate import read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import clone_database
from tenantry_cli.testing import Database

from .facts import read_rows, view_counts
from .people import BUSINESSES, MOVING, ORGANIZATIONS, SUSPENDED, Organization
from .site import POOLED, Site
from .world import World

#: Those who live in the pooled tables of the main database when the world is built.
MOVABLE = tuple(one for one in ORGANIZATIONS if one in POOLED.residents)


@dataclass
class Elsewhere:
    """A fleet whose main database has the world, and some organizations of it elsewhere."""

    fleet: Fleet
    built: World
    _main: Database

    def home(self, organization: Organization) -> Home:
        return self.fleet.tenant(organization.id).home

    def database(self, organization: Organization) -> Database:
        return Database(self._main.server, self.home(organization).database)

    def move(self, organizations: Sequence[Organization], isolation: str) -> None:
        """Move them; whoever is suspended or being moved is so again afterwards."""
        self._set_states(organizations, is_open=True)
        for one in organizations:
            move_tenant(self.fleet, one.id, isolation)
        self._set_states(organizations, is_open=False)
        for one in organizations:
            send(self.fleet, one.id, self.home(one).database)

    def _set_states(self, organizations: Sequence[Organization], *, is_open: bool) -> None:
        with self.fleet.session() as main:
            if SUSPENDED in organizations:
                status = "active" if is_open else "suspended"
                main.execute(
                    "update public.organizations set status = %s where id = %s",
                    (status, SUSPENDED.id),
                )
            if MOVING in organizations:
                main.execute(
                    "update public.organization_placements set state = %s "
                    "where organization_id = %s",
                    ("active" if is_open else "moving", MOVING.id),
                )

    def send_registry(self, organization: Organization, database: str) -> None:
        """Bring the registry rows of an organization to a database where it does not live."""
        with self.fleet.session() as main:
            add_place(main, organization.id, database)
        send(self.fleet, organization.id, database)

    def leave_rows(self, home: Home, residents: frozenset[Organization]) -> None:
        """Put the tenant rows of all others beside those of the residents."""
        strangers = [one.id for one in BUSINESSES if one.organization not in residents]
        pooled = Home("pooled", self.fleet.main, "public")
        with self.fleet.connect() as main, self.fleet.connect(home.database) as place:
            same_partitions(main, place, pooled, home)
            targets = {one.name: one for one in tables_at(place, home)}
            with main.transaction(), as_they_are(place):
                for table in tables_at(main, pooled):
                    if table.name != ACCESS_LISTS:  # one table for all schemas of a database
                        copy_rows(main, place, table, targets[table.name], strangers)

    def world_at(self, home: Home, residents: frozenset[Organization]) -> World:
        """The world as it is at a site: the rows there, and who is known there."""
        with self.fleet.connect(home.database) as place, self.fleet.connect() as main:
            known = {row["organization_id"] for row in place.execute(_RECEIVED)}
            site = Site(
                placement=home.isolation,
                schema=home.schema,
                residents=residents,
                known=frozenset(one for one in ORGANIZATIONS if one.id in known),
                tenant_plane=_tenant_plane(main),
                accounts=frozenset(
                    str(row["id"]) for row in place.execute("select id from auth.users")
                ),
            )
        with Database(self._main.server, home.database).connect() as owner:
            tables = {
                one.label: replace(one, schema=site.schema_of(one.label))
                for one in self.built.catalog.tables
                if one.parent is None
            }
            return replace(
                self.built,
                site=site,
                built=self.built.rows,
                rows={label: read_rows(owner, one) for label, one in tables.items()},
                views={
                    label: view_counts(owner, replace(view, schema=site.schema_of(label)))
                    for label, view in self.built.specification.views.items()
                    if view.has_cells
                },
            )


_RECEIVED = "select organization_id from private.received_registries"


def _tenant_plane(main: FleetConnection) -> frozenset[str]:
    """What of `public` goes with a tenant: as the gateway is told."""
    rows = main.execute("select name from public.api_planes() where plane = 'tenant'")
    return frozenset(f"public.{row['name']}" for row in rows)


@contextmanager
def elsewhere(main: Database, template: str, world: World) -> Iterator[Elsewhere]:
    """A fleet around a main database with the world in it; its databases are dropped at the end."""
    fleet = Fleet(
        main.server,
        main.name,
        read_migrations(find_project().migrations),
        prefix=f"tenantry_test_{secrets.token_hex(3)}",
    )
    # The same migrations; to apply them again would only take time.
    clone_database(main.server, template, template_name(fleet.prefix))
    with fleet.session() as connection:
        # The world has rows in every table, also of databases and moves that there are not.
        connection.execute("update public.placement_databases set state = 'closed'")
        connection.execute("delete from public.placement_moves")
        connection.execute("delete from private.registry_places")
    try:
        yield Elsewhere(fleet, world, main)
    finally:
        with fleet.connect() as connection:
            names = [
                row["datname"]
                for row in connection.execute(
                    "select datname from pg_database where starts_with(datname, %s)",
                    (fleet.prefix,),
                )
            ]
            for name in names:
                connection.execute(
                    sql.SQL("alter database {} with is_template false").format(sql.Identifier(name))
                )
        fleet.close()
        for name in names:
            drop_place(fleet, name)
