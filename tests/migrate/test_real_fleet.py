"""The project's own migrations across a small fleet: down a few, up again, nothing differs."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import psycopg
import pytest

from tenantry_cli.commands.migrate_fleet import fleet_of
from tenantry_cli.migrate import read_migrations
from tenantry_cli.migrate.catalog import SHARED_SCHEMAS, schema_hashes
from tenantry_cli.migrate.files import read_rollbacks
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.report import Options
from tenantry_cli.migrate.saved import recover
from tenantry_cli.migrate.status import fleet_status
from tenantry_cli.migrate.tenant_plane import create_tenant_schema
from tenantry_cli.project import find_project
from tenantry_cli.testing import Database

#: After it come one file of the tenant plane and several of the platform.
GOAL = "20261121000940"


def fleet_with(main: Database, shelf: Database, own: Database) -> tuple[FleetMigration, list[str]]:
    project = find_project()
    migrations = read_migrations(project.migrations)
    rollbacks = read_rollbacks(project.root / "supabase" / "rollbacks", migrations)
    tenants = [uuid.uuid4() for _ in range(3)]
    schemas = [f"tenant_{tenant.hex}" for tenant in tenants[:2]]
    with shelf.connect() as connection:
        for schema in schemas:
            with connection.transaction():
                create_tenant_schema(connection, schema, migrations)
    homes = [(shelf.name, schema, "schema") for schema in schemas] + [
        (own.name, "public", "database")
    ]
    with main.connect() as connection:
        connection.execute("set local session_replication_role = replica")
        connection.execute(
            "insert into public.placement_databases (name, kind, max_tenants)"
            " values (%s, 'shelf', 9)",
            (shelf.name,),
        )
        for tenant, (database, schema, isolation) in zip(tenants, homes, strict=True):
            connection.execute(
                "insert into public.organization_placements"
                " (organization_id, isolation, database_name, schema_name) values (%s, %s, %s, %s)",
                (tenant, isolation, database, schema),
            )
    return fleet_of(main.url(), migrations, rollbacks, Options(workers=2)), schemas


def test_down_and_up_again(new_database: Callable[[], Database]) -> None:
    main, shelf, own = new_database(), new_database(), new_database()
    fleet, schemas = fleet_with(main, shelf, own)

    def catalogs() -> list[dict[str, str]]:
        found = []
        for database in (main, shelf, own):
            with database.connect(autocommit=True) as connection:
                more = schemas if database is shelf else []
                found.append(schema_hashes(connection, [*SHARED_SCHEMAS, *more]))
        return found

    before = catalogs()
    down = fleet.rollback(GOAL)
    assert down.failed == [], [one.error for one in down.failed]
    assert len(down.changed) == 5
    with shelf.connect() as connection:
        left = connection.execute(
            "select count(*) from pg_proc where proname in ('explain_access', 'check_request')"
        ).fetchone()
    assert left == (0,)

    # The registry's list of homes went with its migration, and comes back from what was saved.
    up = fleet.up()
    assert up.failed == [], [one.error for one in up.failed]
    with main.connect(autocommit=True) as connection:
        report = {one.source: one.put_back for one in recover(connection, "20261121001100")}
    assert report == {"public.placement_databases": 1}
    again = fleet.up()
    assert again.failed == [], [one.error for one in again.failed]
    assert catalogs() == before
    standings = fleet_status(fleet)
    assert {one.state for one in standings} == {"current"}
    assert not any(one.drifted for one in standings)


def test_the_database_refuses_code_that_is_too_old(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        connection.execute("update private.compatibility set compatible_from = '20261121001130'")
        check = "select public.check_code_version(%s)"
        newer = connection.execute(check, ("20261201000000",)).fetchone()
        assert newer == ("20261121001130",)
        with pytest.raises(psycopg.Error, match="needs code that knows migration 20261121001130"):
            connection.execute(check, ("20261121001120",))
        for nonsense in ("", "abc", None):
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                connection.execute(check, (nonsense,))
