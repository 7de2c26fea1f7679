"""Databases with the demo story in them, and a server that counts statements."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from typer.testing import CliRunner

from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.fleet.opening import open_fleet
from tenantry_cli.main import app
from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import (
    clone_database,
    create_database,
    drop_database,
    prepare_cluster,
)
from tenantry_cli.stack.postgres import THROWAWAY_SETTINGS
from tenantry_cli.testing import Database, throwaway_server

BLUEBIRD = UUID("b0000000-0000-4000-8000-000000000001")
COPPERLINE = UUID("b0000000-0000-4000-8000-000000000002")
DENTAL = UUID("c0000000-0000-4000-8000-000000000001")
PRINT = UUID("c0000000-0000-4000-8000-000000000003")


def connect(database: Database, **options: Any) -> Connection:
    """As the owner; every statement commits."""
    return psycopg.connect(database.url(), autocommit=True, row_factory=dict_row, **options)


def scalar(connection: psycopg.Connection[Any], query: str, *values: object) -> Any:
    with connection.cursor(row_factory=psycopg.rows.scalar_row) as cursor:
        return cursor.execute(query.encode(), values or None).fetchone()


def tell_story(database: Database) -> None:
    """The demo data: Bluebird and Copperline, pooled."""
    text = (find_project().root / "supabase" / "seed.sql").read_text(encoding="utf-8")
    with database.connect() as connection:
        connection.execute(text.encode())


def schema_of(organization: UUID) -> str:
    return f"tenant_{organization.hex}"


def make_tenant_schema(connection: Connection, organization: UUID) -> str:
    """The tenant plane once more, in a schema of its own, as the placement `schema` has it."""
    name = schema_of(organization)
    connection.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
    connection.execute(
        sql.SQL("grant usage on schema {} to authenticated").format(sql.Identifier(name))
    )
    path = sql.SQL("set local search_path = {}, extensions, pg_temp").format(sql.Identifier(name))
    for migration in read_migrations(find_project().migrations):
        if not migration.name.startswith("tenant_"):
            continue
        with connection.transaction():
            connection.execute(path)
            for statement in migration.statements:
                connection.execute(statement.encode())
    return name


@pytest.fixture(scope="session")
def told_database(new_database: Callable[[], Database]) -> Database:
    """The demo story, told once. Copy it; never connect to it."""
    one = new_database()
    tell_story(one)
    return one


def copy_of(told: Database) -> Database:
    """A copy that is home to the tenants in it. The caller drops it."""
    copy = Database(told.server, f"tenantry_test_{secrets.token_hex(6)}")
    clone_database(told.server, told.name, copy.name)
    with connect(copy) as connection:
        connection.execute(
            "update public.organization_placements set database_name = current_database()"
        )
    return copy


@pytest.fixture
def story(told_database: Database) -> Iterator[Database]:
    """A database of its own with the demo story."""
    one = copy_of(told_database)
    yield one
    drop_database(one.server, one.name)


@pytest.fixture(scope="module")
def shared_story(told_database: Database) -> Iterator[Database]:
    """The same for tests that change nothing others would notice."""
    one = copy_of(told_database)
    yield one
    drop_database(one.server, one.name)


@pytest.fixture
def owner(story: Database) -> Iterator[Connection]:
    with connect(story) as connection:
        yield connection


@pytest.fixture(scope="session")
def counting_database() -> Iterator[Callable[[], Database]]:
    """Fresh databases on a server that has loaded pg_stat_statements."""
    settings = {**THROWAWAY_SETTINGS, "shared_preload_libraries": "pg_stat_statements"}
    with (
        mock.patch("tenantry_cli.testing.THROWAWAY_SETTINGS", settings),
        throwaway_server(os.environ.get("TENANTRY_TEST_POSTGRES_BIN")) as server,
    ):
        names: list[str] = []

        def create() -> Database:
            name = f"tenantry_test_{secrets.token_hex(6)}"
            create_database(server, name, with_auth_fallback=True)
            names.append(name)
            with server.connect(name) as connection:
                apply_migrations(connection, read_migrations(find_project().migrations))
            prepare_cluster(server)
            return Database(server, name)

        yield create
        for name in names:
            drop_database(server, name)


@pytest.fixture
def fleet(story: Database) -> Fleet:
    return open_fleet(story.url())


@dataclass(frozen=True)
class Answer:
    """What a command printed."""

    status: int
    text: str
    errors: str

    @property
    def rows(self) -> Any:
        return json.loads(self.text)


@pytest.fixture
def tenantry() -> Callable[..., Answer]:
    """Runs the command `tenantry` with these words on a database."""

    def run(url: str, *words: str) -> Answer:
        result = CliRunner().invoke(app, [*words, "--database-url", url])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run
