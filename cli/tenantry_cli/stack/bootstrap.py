"""What happens in the database around the start of the stack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import psycopg
from psycopg import sql

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import Project
from tenantry_cli.stack.database import (
    DatabaseError,
    Server,
    is_prepared,
    prepare_cluster,
    prepare_database,
    read_sql,
)
from tenantry_cli.stack.home import Home

# Where Supabase's CLI notes which seed files it has run.
_SEED_PATH = "supabase/seed.sql"
_CREATE_SEED_LEDGER = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.seed_files (
  path text not null primary key,
  hash text not null
);
"""


def prepare_server(server: Server) -> None:
    """Roles, passwords and the bare database: all on the first start, passwords on each."""
    prepare_cluster(server)
    if not is_prepared(server):
        prepare_database(server, "postgres")


def apply_auth_functions(server: Server) -> None:
    """Give `auth.uid()` and its sisters their hosted form, which Auth overwrites when it starts."""
    with server.connect() as connection:
        connection.execute(read_sql("auth_functions.sql"))


def initialise(project: Project, home: Home, server: Server, say: Callable[[str], None]) -> None:
    """On the first start, apply all migrations and the seed. Resumes where a start was killed.

    Raises MigrationError or DatabaseError.
    """
    if home.initialised.exists():
        return
    with server.connect() as connection:
        apply_migrations(
            connection,
            read_migrations(project.migrations),
            on_start=lambda migration: say(f"applying {migration.label}"),
        )
    if project.seed.exists():
        say("planting the seed data")
        plant_seed(project, server)
    # Roles that migrations have made get their passwords now.
    prepare_cluster(server)
    home.initialised.touch()


def plant_seed(project: Project, server: Server) -> bool:
    """Run supabase/seed.sql once, in one transaction; False if it has run before.

    Raises DatabaseError.
    """
    text = project.seed.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    with server.connect() as connection:
        connection.execute(_CREATE_SEED_LEDGER)
        row = connection.execute(
            "insert into supabase_migrations.seed_files (path, hash) values (%s, %s) "
            "on conflict (path) do nothing returning path",
            (_SEED_PATH, digest),
        ).fetchone()
        if row is None:
            return False
        try:
            connection.execute(sql.SQL(text))
        except psycopg.Error as error:
            raise DatabaseError(f"{_SEED_PATH} was not planted: {error}") from error
        return True
