"""The tenant plane in a schema of its own: the same files again, with a ledger of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tenantry_cli.migrate.execution import run_statements
from tenantry_cli.migrate.files import Migration

Connection = psycopg.Connection[TupleRow]

# Supabase's CLI keeps one ledger per database; a schema of a tenant has its own.
_CREATE_LEDGER = """
create table if not exists {schema}.schema_migrations (
  version text primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default clock_timestamp()
);
comment on table {schema}.schema_migrations is 'Which files of the tenant plane this schema has.';
alter table {schema}.schema_migrations enable row level security;
alter table {schema}.schema_migrations force row level security;
"""


def tenant_migrations(migrations: Sequence[Migration]) -> list[Migration]:
    """Those that run once per tenant schema, oldest first."""
    return [one for one in migrations if one.is_tenant]


def checksum(migration: Migration) -> str:
    """What of a file is compared later: SHA-256 of its statements."""
    return hashlib.sha256("\0".join(migration.statements).encode()).hexdigest()


def write_ledger(schema: str) -> sql.Composed:
    """The statement that notes version, name and checksum of a file in a schema's ledger."""
    return sql.SQL(
        "insert into {}.schema_migrations (version, name, checksum) values (%s, %s, %s)"
    ).format(sql.Identifier(schema))


def create_tenant_schema(
    connection: Connection, schema: str, migrations: Sequence[Migration]
) -> None:
    """Make `schema` with the whole tenant plane, in the caller's transaction.

    `connection` logs in as the owner of a database that has the platform plane. The name must come
    from an id (see `fleet.names`), never from what somebody wrote.
    """
    name = sql.Identifier(schema)
    connection.execute(sql.SQL("create schema {}").format(name))
    connection.execute(
        sql.SQL("grant usage on schema {} to authenticated, service_role, integrator").format(name)
    )
    connection.execute(sql.SQL(_CREATE_LEDGER).format(schema=name))
    # The bodies were checked when these files were applied to `public` of this database.
    connection.execute("set local check_function_bodies = off")
    # Nothing has to be asked in between: sent in one go, it takes a third less time.
    with connection.pipeline():
        _apply(connection, schema, tenant_migrations(migrations))
    connection.execute("reset check_function_bodies")


def apply_tenant_plane(
    connection: Connection, schema: str, migrations: Sequence[Migration]
) -> list[Migration]:
    """Apply what the schema's own ledger lacks, in the caller's transaction; returns those."""
    ledger = sql.SQL("select version from {}.schema_migrations").format(sql.Identifier(schema))
    known = {row[0] for row in connection.execute(ledger).fetchall()}
    pending = [one for one in tenant_migrations(migrations) if one.version not in known]
    _apply(connection, schema, pending)
    return pending


def _apply(connection: Connection, schema: str, migrations: Sequence[Migration]) -> None:
    name = sql.Identifier(schema)
    path = sql.SQL("set local search_path = {}, extensions, pg_temp").format(name)
    write = write_ledger(schema)
    for migration in migrations:
        connection.execute(path)
        run_statements(connection, migration, with_concurrently=migration.in_transaction)
        connection.execute(write, (migration.version, migration.name, checksum(migration)))
    connection.execute("reset search_path")
