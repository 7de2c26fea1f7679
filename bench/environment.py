"""The throw-away server that is measured, its databases, and PostgREST on one of them."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jwt
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import (
    LOGIN_ROLES,
    Server,
    clone_database,
    create_database,
    prepare_cluster,
)
from tenantry_cli.stack.installation import find_programs
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.postgres import DURABLE_SETTINGS, SUPERUSER, Cluster
from tenantry_cli.stack.process import answers, last_lines, spawn
from tenantry_cli.stack.programs import find_postgrest

Connection = psycopg.Connection[TupleRow]

#: As the stack runs it, durable, with memory for a million customers. Vacuum runs before each
#: section and not during it, so that it cannot fall on one side of a comparison.
SETTINGS: Mapping[str, str] = {
    **DURABLE_SETTINGS,
    "shared_buffers": "2GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "1GB",
    "random_page_cost": "1.1",
    "autovacuum": "off",
}
TEMPLATE = "bench_template"
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Scale:
    """How much data, and for how long each cell of a table is measured.

    Rates are measured for whole seconds, or for a few transactions if that is 0.
    """

    name: str
    businesses: int
    customers: int
    calls: int
    messages: int
    latency_seconds: float
    throughput_seconds: int
    rounds: int
    #: Whether commits reach the disk, as in the stack. What is not timed need not wait for it.
    durable: bool
    #: Tenants of each placement, step by step.
    tenants: tuple[int, ...]
    #: Rows of the tenant that moves.
    move_rows: int


SCALES = {
    "quick": Scale("quick", 220, 10_000, 5_000, 10_000, 0.05, 0, 1, False, (1, 2), 2_000),
    "full": Scale(
        "full", 2_000, 1_000_000, 500_000, 500_000, 1.5, 1, 3, True, (1, 20, 50), 200_000
    ),
}


@dataclass(frozen=True)
class Environment:
    """A running server with Supabase's roles, and where to put files."""

    server: Server
    directory: Path
    programs: Path
    scale: Scale

    def administer(self, database: str) -> Connection:
        """A superuser's connection; the caller closes it."""
        return self.server.administer(database, autocommit=True)

    def clone(self, name: str) -> str:
        """A database `name` with tenants and no customers yet."""
        clone_database(self.server, TEMPLATE, name)
        with self.administer(name) as connection:
            # A copy is inert until the registry says that it is home.
            connection.execute("update organization_placements set database_name = %s", (name,))
        return name


@contextmanager
def environment(scale: Scale) -> Iterator[Environment]:
    """A server that exists inside the `with` block only, with the template of all databases."""
    directory = Path(tempfile.mkdtemp(prefix="tenantry-bench-"))
    passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, *LOGIN_ROLES)}
    programs = find_programs()
    settings = SETTINGS if scale.durable else {**SETTINGS, "fsync": "off"}
    cluster = Cluster(directory / "postgres", passwords[SUPERUSER], programs, settings)
    try:
        cluster.start(directory / "postgres.log")
        assert cluster.port is not None
        server = Server("127.0.0.1", cluster.port, passwords)
        prepare_cluster(server)
        _create_template(server, scale)
        yield Environment(server, directory, programs.directory, scale)
    finally:
        cluster.stop(signal.SIGQUIT)  # nobody needs what a clean stop would write
        shutil.rmtree(directory, ignore_errors=True)


def _create_template(server: Server, scale: Scale) -> None:
    create_database(server, TEMPLATE, with_auth_fallback=True)
    with server.connect(TEMPLATE) as connection:
        apply_migrations(connection, read_migrations(find_project().migrations))
    prepare_cluster(server)  # the role that migrations made gets its password
    with server.administer(TEMPLATE, autocommit=True) as connection:
        run_sql(connection, "tenants.sql", {"businesses": scale.businesses}, replica=True)
        connection.execute("vacuum (freeze, analyze)")


def run_sql(
    connection: Connection,
    name: str,
    settings: Mapping[str, int] | None = None,
    *,
    replica: bool = False,
) -> None:
    """Run one of our SQL files in one transaction; `replica` keeps triggers from firing."""
    text = files("bench").joinpath("sql", name).read_text(encoding="utf-8")
    with connection.transaction():
        connection.execute("set local search_path = public, extensions")
        for setting, value in (settings or {}).items():
            connection.execute("select set_config(%s, %s, true)", (f"bench.{setting}", str(value)))
        if replica:
            connection.execute("set local session_replication_role = replica")
        connection.execute(sql.SQL(text))


def fetch(
    connection: Connection, query: str, parameters: tuple[object, ...] = ()
) -> list[TupleRow]:
    """All rows of a query."""
    return connection.execute(query, parameters).fetchall()


@dataclass(frozen=True)
class PostgREST:
    """A running PostgREST: its process, and how to sign tokens for it."""

    port: int
    version: str
    secret: str
    pid: int
    #: From its start until it said that it is ready.
    ready_seconds: float

    def token(self, role: str, user: str, seconds: int = 86_400) -> str:
        """A token for `user`, valid for so long; the gateway takes no more than an hour."""
        now = int(time.time())
        claims = {
            "role": role,
            "sub": user,
            "aud": "authenticated",
            "iat": now,
            "exp": now + seconds,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")


@contextmanager
def postgrest(
    environment: Environment,
    database: str,
    schemas: Sequence[str] = ("public", "bench"),
    secret: str | None = None,
    changes: Mapping[str, str] | None = None,
) -> Iterator[PostgREST]:
    """PostgREST with the settings of the stack, and plans switched on to record them."""
    program = find_postgrest(find_project())
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    port, admin_port, secret = free_port(), free_port(), secret or secrets.token_urlsafe(48)
    settings = {
        "PGRST_DB_URI": environment.server.url(database, "authenticator"),
        "PGRST_DB_SCHEMAS": ", ".join(schemas),
        "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_MAX_ROWS": "1000",
        "PGRST_DB_PLAN_ENABLED": "true",
        "PGRST_DB_POOL": "20",
        "PGRST_OPENAPI_MODE": "disabled",
        "PGRST_JWT_SECRET": secret,
        "PGRST_JWT_AUD": "authenticated",
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
        "PGRST_ADMIN_SERVER_PORT": str(admin_port),
        "PGRST_LOG_LEVEL": "crit",
    }
    with environment.administer(database) as connection:
        if fetch(connection, "select to_regproc('private.pre_request')") != [(None,)]:
            settings["PGRST_DB_PRE_REQUEST"] = "private.pre_request"
    log = environment.directory / "postgrest.log"
    started = time.monotonic()
    process = spawn([str(program)], settings | dict(changes or {}), environment.directory, log)
    try:
        while not asyncio.run(answers(admin_port, "/ready")):
            if process.poll() is not None or time.monotonic() - started > _START_SECONDS:
                raise RuntimeError(f"PostgREST did not start:\n{last_lines(log)}")
            time.sleep(0.01)
        yield PostgREST(port, version, secret, process.pid, time.monotonic() - started)
    finally:
        process.terminate()
        process.wait(10)
