"""A fleet of many places with migrations of a few lines, so that a hundred tenants take seconds."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.migrate.files import Migration, read_rollbacks
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.report import Options
from tenantry_cli.migrate.tenant_plane import create_tenant_schema
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import Server, clone_database, create_database, drop_database

REGISTRY = """
create schema private;
do $$ begin
  create role integrator nologin noinherit;
exception when duplicate_object then null;
end $$;
create table public.placement_databases (name text primary key, kind text not null);
create table public.organization_placements (
  organization_id uuid primary key, isolation text not null, database_name text not null,
  schema_name text not null, state text not null default 'active', schema_version text
);
"""
NOTES = """
create table notes (id bigint primary key, body text);
create function note_count() returns bigint language sql stable set search_path from current
  as 'select count(*) from notes';
"""
CHANGE = """
create table labels (id bigint primary key, name text not null);
alter table notes add column colour text;
"""
TAKE_BACK = """
alter table notes drop column colour;
drop table labels;
"""
_TARGETS = "20261121001130_platform_migration_targets.sql"
CHANGE_VERSION = "20260102000000"


def small_files(**more: str) -> dict[str, str]:
    """What every place has from the start, and what the test adds."""
    return {
        "20260101000000_platform_registry.sql": REGISTRY,
        "20260101000001_platform_migration_targets.sql": (
            find_project().migrations / _TARGETS
        ).read_text(encoding="utf-8"),
        "20260101000002_tenant_notes.sql": NOTES,
        **more,
    }


def written(directory: Path, files: Mapping[str, str]) -> list[Migration]:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return read_migrations(directory)


@dataclass
class SmallFleet:
    """A main database, its template, shelves with schemas, and databases of tenants."""

    server: Server
    prefix: str
    directory: Path
    migrations: list[Migration]
    schemas: list[tuple[str, str, uuid.UUID]] = field(default_factory=list)
    databases: list[tuple[str, uuid.UUID]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def main(self) -> str:
        return f"{self.prefix}_main"

    @property
    def template(self) -> str:
        return f"{self.prefix}_template"

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return self.server.connect(database)

    def add(self, name: str, text: str, rollback: str | None = None) -> None:
        """One more migration, with what takes it back."""
        self.migrations = written(self.directory / "migrations", {name: text})
        if rollback is not None:
            written(self.directory / "rollbacks", {name: rollback})

    def migration(self, **options: Any) -> FleetMigration:
        directory = self.directory / "rollbacks"
        rollbacks = read_rollbacks(directory, self.migrations) if directory.exists() else {}
        return FleetMigration(
            self.connect,
            self.main,
            self.migrations,
            rollbacks,
            template=self.template,
            options=Options(**{"lock_timeout": "200ms", **options}),
        )

    def columns(self) -> dict[str, set[str]]:
        """The columns of `notes` and `labels` in every place, by target: what is really there."""
        found: dict[str, set[str]] = {}
        for database in [self.main, *self.names]:
            if database == self.template:
                continue
            with self.connect(database) as connection:
                rows = connection.execute(
                    "select n.nspname, c.relname || '.' || a.attname"
                    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
                    " join pg_namespace n on n.oid = c.relnamespace"
                    " where c.relname in ('notes', 'labels') and a.attnum > 0"
                    " and not a.attisdropped"
                    " and (n.nspname = 'public' or n.nspname like 'tenant_%')"
                ).fetchall()
            for schema, column in rows:
                name = database if schema == "public" else f"{database}/{schema}"
                found.setdefault(name, set()).add(column)
        return found


@contextmanager
def small_fleet(
    server: Server, directory: Path, *, shelves: int, schemas_per_shelf: int, databases: int
) -> Iterator[SmallFleet]:
    """The whole of it, dropped at the end."""
    prefix = f"tenantry_test_f{secrets.token_hex(3)}"
    fleet = SmallFleet(server, prefix, directory, written(directory / "migrations", small_files()))
    create_database(server, fleet.template, with_auth_fallback=False)
    fleet.names.append(fleet.template)
    try:
        with server.connect(fleet.template) as connection:
            apply_migrations(connection, fleet.migrations)
        clone_database(server, fleet.template, fleet.main)
        for number in range(shelves):
            name = f"{prefix}_shelf_{number}"
            clone_database(server, fleet.template, name)
            fleet.names.append(name)
            with server.connect(name) as connection:
                for _ in range(schemas_per_shelf):
                    tenant = uuid.uuid4()
                    with connection.transaction():
                        create_tenant_schema(connection, f"tenant_{tenant.hex}", fleet.migrations)
                    fleet.schemas.append((name, f"tenant_{tenant.hex}", tenant))
        for _ in range(databases):
            tenant = uuid.uuid4()
            name = f"{prefix}_{tenant.hex[:12]}"
            clone_database(server, fleet.template, name)
            fleet.names.append(name)
            fleet.databases.append((name, tenant))
        _register(fleet)
        yield fleet
    finally:
        for name in [fleet.main, *fleet.names]:
            drop_database(server, name)


def _register(fleet: SmallFleet) -> None:
    with fleet.server.connect(fleet.main) as main:
        main.execute(
            "insert into public.placement_databases values (%s, 'template')", (fleet.template,)
        )
        for name in {database for database, _, _ in fleet.schemas}:
            main.execute("insert into public.placement_databases values (%s, 'shelf')", (name,))
        insert = (
            "insert into public.organization_placements (organization_id, isolation, database_name,"
            " schema_name) values (%s, %s, %s, %s)"
        )
        for database, schema, tenant in fleet.schemas:
            main.execute(insert, (tenant, "schema", database, schema))
        for database, tenant in fleet.databases:
            main.execute(insert, (tenant, "database", database, "public"))
    with fleet.server.connect(fleet.main, autocommit=True) as main:
        main.execute(
            sql.SQL("alter database {} allow_connections false").format(
                sql.Identifier(fleet.template)
            )
        )
