"""Pytest fixtures: a Postgres for the test run, a migrated template, and cheap copies of it.

`local_stack` is the whole stack on free ports, for tests that need HTTP; it ends with the test run,
even when that is killed.

Load with `pytest_plugins = ["tenantry_cli.testing"]`. By default each pytest process starts the
embedded Postgres on a free port and removes it at the end; the running stack is never touched.

TENANTRY_TEST_POSTGRES_BIN   directory of other programs, e.g. /usr/lib/postgresql/15/bin
TENANTRY_TEST_POSTGRES       `docker` starts a container (image: TENANTRY_TEST_POSTGRES_IMAGE)
TENANTRY_TEST_DATABASE_URL   an existing server: its superuser (not named postgres), or Supabase's
                             `postgres`; databases named tenantry_test_* are made and dropped there,
                             and a superuser gives our roles the password of the URL
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.rows import TupleRow

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.scratch import scratch_directory
from tenantry_cli.stack.control import RunningStack, start, stop
from tenantry_cli.stack.database import (
    LOGIN_ROLES,
    Server,
    clone_database,
    create_database,
    drop_database,
    prepare_cluster,
    wait_until_reachable,
)
from tenantry_cli.stack.home import Home
from tenantry_cli.stack.installation import find_programs
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.postgres import (
    SUPERUSER,
    THROWAWAY_SETTINGS,
    Cluster,
)

DEFAULT_IMAGE = "postgres:17"


@dataclass(frozen=True)
class Database:
    """One database of the test server."""

    server: Server
    name: str

    def url(self, user: str = "postgres") -> str:
        """A URL that logs in as `user`: postgres, authenticator, supabase_admin, integrator."""
        return self.server.url(self.name, user)

    def connect(
        self, user: str = "postgres", *, autocommit: bool = False
    ) -> psycopg.Connection[TupleRow]:
        """A new connection; the caller closes it."""
        return self.server.connect(self.name, user, autocommit=autocommit)


def new_passwords() -> dict[str, str]:
    """A random password for each login role of a throw-away server."""
    return {role: secrets.token_urlsafe(24) for role in (SUPERUSER, *LOGIN_ROLES)}


@contextmanager
def throwaway_server(programs: str | None = None) -> Iterator[Server]:
    """A Postgres with Supabase's roles that exists inside the `with` block only."""
    passwords = new_passwords()
    with scratch_directory() as directory:
        cluster = Cluster(
            directory / "postgres",
            passwords[SUPERUSER],
            find_programs(programs),
            THROWAWAY_SETTINGS,
        )
        try:
            cluster.start(directory / "postgres.log")
            assert cluster.port is not None
            server = Server("127.0.0.1", cluster.port, passwords)
            prepare_cluster(server)
            yield server
        finally:
            cluster.stop()


@contextmanager
def _docker_server() -> Iterator[Server]:
    from testcontainers.postgres import PostgresContainer

    passwords = new_passwords()
    container = PostgresContainer(
        os.environ.get("TENANTRY_TEST_POSTGRES_IMAGE", DEFAULT_IMAGE),
        username=SUPERUSER,
        password=passwords[SUPERUSER],
        dbname="postgres",
    ).with_command("postgres -c wal_level=logical -c max_locks_per_transaction=256 -c fsync=off")
    with container:
        host, port = container.get_container_host_ip(), int(container.get_exposed_port(5432))
        server = Server(host, port, passwords)
        wait_until_reachable(server, 30)
        prepare_cluster(server)
        yield server


@contextmanager
def _existing_server(url: str) -> Iterator[Server]:
    server = Server.from_url(url)
    wait_until_reachable(server)
    prepare_cluster(server)
    yield server


def chosen_server() -> AbstractContextManager[Server]:
    """The server that the environment variables above choose."""
    if url := os.environ.get("TENANTRY_TEST_DATABASE_URL"):
        return _existing_server(url)
    if os.environ.get("TENANTRY_TEST_POSTGRES") == "docker":
        return _docker_server()
    return throwaway_server(os.environ.get("TENANTRY_TEST_POSTGRES_BIN"))


@contextmanager
def throwaway_stack() -> Iterator[RunningStack]:
    """The whole local stack, migrated and seeded, inside the `with` block only."""
    with scratch_directory() as directory:
        home = Home(directory / "home")
        settings = {
            "TENANTRY_PORT": str(free_port()),
            "TENANTRY_STOP_WITH": str(os.getpid()),
            "TENANTRY_HOME": str(home.directory),
        }
        try:
            yield start(find_project(), home, lambda state: None, settings)
        finally:
            stop(home)


@pytest.fixture(scope="session")
def local_stack() -> Iterator[RunningStack]:
    """A running stack of its own, shared by the tests of this process: `.origin`, `.keys`,
    `.server` and `.variables()`.
    """
    with throwaway_stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def database_server() -> Iterator[Server]:
    """The Postgres server of this test process, with Supabase's roles and no tenant data."""
    with chosen_server() as server:
        yield server


@pytest.fixture(scope="session")
def template_database(database_server: Server) -> Iterator[str]:
    """A database with all migrations applied, made once. Copy it; never connect to it."""
    name = f"tenantry_test_template_{secrets.token_hex(4)}"
    create_database(database_server, name, with_auth_fallback=True)
    migrations = read_migrations(find_project().migrations)
    with database_server.connect(name) as connection:
        apply_migrations(connection, migrations)
    prepare_cluster(database_server)  # roles that migrations made get their passwords
    yield name
    drop_database(database_server, name)


@pytest.fixture(scope="session")
def new_database(
    database_server: Server, template_database: str
) -> Iterator[Callable[[], Database]]:
    """Call it for a fresh migrated database (tens of milliseconds); all are dropped at the end."""
    names: list[str] = []

    def create() -> Database:
        name = f"tenantry_test_{secrets.token_hex(6)}"
        clone_database(database_server, template_database, name)
        names.append(name)
        return Database(database_server, name)

    yield create
    for name in names:
        drop_database(database_server, name)


@pytest.fixture
def database(new_database: Callable[[], Database]) -> Iterator[Database]:
    """A fresh migrated database for one test."""
    one = new_database()
    yield one
    drop_database(one.server, one.name)


@pytest.fixture(scope="module")
def module_database(new_database: Callable[[], Database]) -> Iterator[Database]:
    """A fresh migrated database shared by one test module."""
    one = new_database()
    yield one
    drop_database(one.server, one.name)
