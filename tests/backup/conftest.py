"""A small fleet of its own per test: the demo story, on the test server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.fleet.mover import move_tenant
from tenantry_cli.fleet.names import template_name
from tenantry_cli.migrate import read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import Server, clone_database, drop_database
from tenantry_cli.testing import Database

OWNER = UUID("a0000000-0000-4000-8000-000000000001")
STAFF = UUID("a0000000-0000-4000-8000-000000000003")
STRANGER = UUID("a0000000-0000-4000-8000-000000000005")  # owns another organization
DENTAL = UUID("c0000000-0000-4000-8000-000000000001")


@pytest.fixture(autouse=True)
def programs_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump and pg_restore are those of the server under test."""
    import os

    if chosen := os.environ.get("TENANTRY_TEST_POSTGRES_BIN"):
        monkeypatch.setenv("TENANTRY_POSTGRES_BIN", chosen)


def drop_fleet(server: Server, prefix: str) -> None:
    with server.administer("template1", autocommit=True) as connection:
        rows = connection.execute(
            "select datname from pg_database where starts_with(datname, %s)", (prefix,)
        ).fetchall()
        for (name,) in rows:
            connection.execute(f'alter database "{name}" with is_template false')  # type: ignore[arg-type]
    for (name,) in rows:
        drop_database(server, name)


@pytest.fixture
def new_fleet(
    database_server: Server, new_database: Callable[[], Database], template_database: str
) -> Iterator[Callable[[], Fleet]]:
    made: list[Fleet] = []

    def make() -> Fleet:
        database = new_database()
        with database.connect(autocommit=True) as connection:
            connection.execute(find_project().seed.read_bytes())
        fleet = Fleet(
            database.server,
            database.name,
            read_migrations(find_project().migrations),
            prefix=f"tt{secrets.token_hex(4)}",
        )
        made.append(fleet)
        # Made already, with the same migrations.
        clone_database(database_server, template_database, template_name(fleet.prefix))
        return fleet

    yield make
    for one in made:
        one.close()
        drop_fleet(database_server, one.prefix)


@pytest.fixture
def fleet(new_fleet: Callable[[], Fleet]) -> Fleet:
    return new_fleet()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def place(fleet: Fleet, slug: str, isolation: str) -> None:
    """Have a tenant live in a placement."""
    if fleet.tenant(slug).home.isolation != isolation:
        move_tenant(fleet, slug, isolation, grace_hours=0)


def drop_tenant(fleet: Fleet, slug: str) -> None:
    """Remove an organization for good, as an operator does."""
    from tenantry_cli.fleet import provision
    from tenantry_cli.fleet.rows import as_they_are, remove_rows, tables_at

    tenant = fleet.tenant(slug)
    with fleet.session() as main:
        businesses = [
            row["id"]
            for row in main.execute(
                "select id from public.businesses where organization_id = %s", (tenant.id,)
            )
        ]
        provision.set_state(main, tenant.id, "archived")
    if tenant.home.isolation == "pooled":
        with fleet.session() as main, as_they_are(main):
            remove_rows(main, tables_at(main, tenant.home), businesses)
    else:
        provision.remove_place(fleet, tenant.id, tenant.home)
    with fleet.session() as main:
        main.execute("delete from public.organizations where id = %s", (tenant.id,))


def as_member(connection: Connection, user: UUID, query: str) -> list[dict[str, Any]]:
    """What somebody reads who is signed in, through the policies."""
    claims = json.dumps({"sub": str(user), "role": "authenticated"})
    with connection.transaction():
        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        connection.execute("set local role authenticated")
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def customers(fleet: Fleet, slug: str, user: UUID) -> int:
    """How many customers of a tenant somebody sees at its home."""
    tenant = fleet.tenant(slug)
    home = tenant.home
    with fleet.session() as main:
        rows = main.execute(
            "select id::text as id from public.businesses where organization_id = %s", (tenant.id,)
        )
        ids = ",".join(row["id"] for row in rows)
    with fleet.session(home.database) as connection:
        (row,) = as_member(
            connection,
            user,
            f'select count(*) as rows from "{home.schema}".customers '
            f"where business_id = any ('{{{ids}}}'::uuid[])",
        )
    return int(row["rows"])
