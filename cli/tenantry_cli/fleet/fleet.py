"""The databases of one installation, and the rows of its registry that operators work with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from tenantry_cli.errors import TenantryError
from tenantry_cli.migrate import Migration
from tenantry_cli.stack.database import Server

Connection = psycopg.Connection[DictRow]

#: Every backend and every PostgREST of a shelf reads the catalog of all its schemas.
TENANTS_PER_SHELF = 20


class FleetError(TenantryError):
    """Something about a tenant cannot be done; the message says what and what to do instead."""


@dataclass(frozen=True)
class Home:
    """Where an organization lives."""

    isolation: str
    database: str
    schema: str


@dataclass(frozen=True)
class Tenant:
    """An organization with its home, as the registry has it."""

    id: UUID
    slug: str
    name: str
    status: str
    home: Home
    state: str
    epoch: int
    schema_version: str | None
    businesses: int


_TENANTS = """
select o.id, o.slug::text as slug, o.name, o.status, p.isolation, p.database_name, p.schema_name,
  p.state, p.epoch, p.schema_version,
  (select count(*) from public.businesses b where b.organization_id = o.id) as businesses
from public.organizations o join public.organization_placements p on p.organization_id = o.id
"""


@dataclass(frozen=True)
class Fleet:
    """One main database and what belongs to it. All connections log in as the owner, `postgres`."""

    server: Server
    main: str
    migrations: Sequence[Migration]
    #: Begins the names of all databases made here; two fleets on one server need two.
    prefix: str = "tenantry"
    tenants_per_shelf: int = TENANTS_PER_SHELF
    #: The role that owns the databases and does everything here.
    owner: str = "postgres"
    #: Kept open between uses: a worker visits the same places again and again.
    _open: dict[str, Connection] = field(default_factory=dict, compare=False, repr=False)

    def connect(self, database: str | None = None) -> Connection:
        """A new autocommit connection; the caller closes it."""
        return psycopg.connect(
            self.server.url(database or self.main, self.owner),
            autocommit=True,
            connect_timeout=5,
            row_factory=dict_row,
            application_name="tenantry fleet",
        )

    @contextmanager
    def session(self, database: str | None = None) -> Iterator[Connection]:
        """A connection for one block, kept for the next unless the block fails."""
        name = database or self.main
        connection = self._open.pop(name, None)
        if connection is None or connection.closed:
            connection = self.connect(name)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if name in self._open:
            connection.close()
        else:
            self._open[name] = connection

    def close(self, database: str | None = None) -> None:
        """Close kept connections, those to one database or all: a template must be left alone."""
        for name in [database] if database else list(self._open):
            connection = self._open.pop(name, None)
            if connection is not None:
                connection.close()

    def tenants(self) -> list[Tenant]:
        """All organizations, by slug."""
        with self.session() as main:
            return [_tenant(row) for row in main.execute(_TENANTS + "order by o.slug")]

    def tenant(self, key: str | UUID) -> Tenant:
        """The organization of this id or slug, or of the business of this id. Raises FleetError."""
        with self.session() as main:
            row = main.execute(
                _TENANTS + "where o.id = private.organization_of_tenant(%s)", (str(key).lower(),)
            ).fetchone()
        if row is None:
            raise FleetError(
                f"there is no tenant {str(key)!r}: give the slug or id of an organization, or the "
                "id of one of its businesses; `tenantry tenant list` shows them"
            )
        return _tenant(row)

    def places(self) -> list[str]:
        """The other databases of the fleet that are in use: shelves and databases of tenants."""
        with self.session() as main:
            return places(main)


def places(main: Connection) -> list[str]:
    """What `Fleet.places` says, on a connection to the main database."""
    rows = main.execute(
        "select name from public.placement_databases where kind = 'shelf' union "
        "select database_name from public.organization_placements "
        "where database_name <> current_database() and state <> 'provisioning' order by 1"
    )
    return [str(row["name"]) for row in rows if row["name"] != main.info.dbname]


def _tenant(row: dict[str, Any]) -> Tenant:
    return Tenant(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        status=row["status"],
        home=Home(row["isolation"], row["database_name"], row["schema_name"]),
        state=row["state"],
        epoch=row["epoch"],
        schema_version=row["schema_version"],
        businesses=row["businesses"],
    )


def exists(connection: Connection, database: str) -> bool:
    """Whether the server has a database of this name."""
    row = connection.execute(
        "select exists (select from pg_database where datname = %s) as found", (database,)
    ).fetchone()
    return bool(row and row["found"])
