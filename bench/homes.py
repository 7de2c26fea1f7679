"""A fleet to measure: a main database, and tenants in every placement."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files

import psycopg
from psycopg import sql

from bench.environment import Connection, Environment
from tenantry_cli.fleet.fleet import Fleet, Tenant
from tenantry_cli.fleet.provision import ISOLATIONS, NewTenant, create_tenant
from tenantry_cli.fleet.registry import send_due
from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import create_database

PLACEMENTS = ISOLATIONS

_LARGEST_PLAN = """
update public.subscriptions set plan_id = p.id from public.subscription_plans p
where p.code = 'scale' and organization_id = %s
"""


@dataclass(frozen=True)
class Resident:
    """A tenant with its owner and its one business, ids as text."""

    tenant: Tenant
    owner: str
    business: str
    customers: tuple[str, ...]


@dataclass
class Homes:
    """A fleet and who lives in it, by placement."""

    environment: Environment
    fleet: Fleet
    residents: dict[str, list[Resident]] = field(
        default_factory=lambda: {placement: [] for placement in PLACEMENTS}
    )

    def add(self, placement: str, rows: int) -> float:
        """One more tenant with so many rows. Returns the seconds that it took to make its home."""
        owner = str(uuid.uuid4())
        email = f"{owner}@people.example"
        with self.environment.administer(self.fleet.main) as connection:
            connection.execute("insert into auth.users (id, email) values (%s, %s)", (owner, email))
        started = time.perf_counter()
        tenant = create_tenant(
            self.fleet, NewTenant(f"Tenant {owner}", email, slug=f"t-{owner}", isolation=placement)
        )
        seconds = time.perf_counter() - started
        with self.environment.administer(self.fleet.main) as connection:
            row = connection.execute(
                "select id::text from public.businesses where organization_id = %s", (tenant.id,)
            ).fetchone()
            connection.execute(_LARGEST_PLAN, (tenant.id,))
        send_due(self.fleet)
        assert row is not None
        customers = self._fill(tenant, row[0], rows)
        self.residents[placement].append(Resident(tenant, owner, row[0], customers))
        return seconds

    def _fill(self, tenant: Tenant, business: str, rows: int) -> tuple[str, ...]:
        text = files("bench").joinpath("sql", "tenant_rows.sql").read_text(encoding="utf-8")
        with self.environment.administer(tenant.home.database) as connection:
            connection.execute(
                sql.SQL("set search_path = {}, extensions").format(
                    sql.Identifier(tenant.home.schema)
                )
            )
            connection.execute("set session_replication_role = replica")
            for name, value in (("business", business), ("rows", str(rows))):
                connection.execute("select set_config(%s, %s, false)", (f"bench.{name}", value))
            connection.execute(sql.SQL(text))
            connection.execute("analyze customers, contact_points")
            found = connection.execute(
                "select id::text from customers where business_id = %s order by id limit 200",
                (business,),
            )
            return tuple(str(row[0]) for row in found)


@contextmanager
def new_homes(environment: Environment, name: str, per_shelf: int) -> Iterator[Homes]:
    """A fleet around the new main database `name`. It goes with the server."""
    migrations = read_migrations(find_project().migrations)
    create_database(environment.server, name, with_auth_fallback=True)
    with environment.server.connect(name) as connection:
        apply_migrations(connection, migrations)
    fleet = Fleet(
        environment.server, name, migrations, prefix=f"{name}_fleet", tenants_per_shelf=per_shelf
    )
    try:
        yield Homes(environment, fleet)
    finally:
        fleet.close()


def open_home(environment: Environment, tenant: Tenant) -> Connection:
    """The connection that PostgREST would have to a tenant's home; the caller closes it."""
    return psycopg.connect(
        environment.server.url(tenant.home.database, "authenticator"), autocommit=True
    )


@contextmanager
def as_owner(connection: Connection, resident: Resident, tenant: Tenant) -> Iterator[None]:
    """One request of the tenant's owner: a transaction with the role, the claims and the schema."""
    claims = json.dumps({"sub": resident.owner, "role": "authenticated", "aud": "authenticated"})
    with connection.transaction():
        connection.execute("set local role authenticated")
        connection.execute(
            "select set_config('request.jwt.claims', %s, true),"
            " set_config('search_path', %s, true)",
            (claims, f"{tenant.home.schema}, extensions"),
        )
        yield
