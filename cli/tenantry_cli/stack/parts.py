"""The parts of the stack: what each process runs, what it is told, and when it counts as ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.project import Project
from tenantry_cli.stack.bootstrap import apply_auth_functions
from tenantry_cli.stack.database import Server
from tenantry_cli.stack.home import Home
from tenantry_cli.stack.keys import StackKeys, write_private
from tenantry_cli.stack.postgres import Cluster
from tenantry_cli.stack.process import answers, read_json, spawn
from tenantry_cli.stack.programs import find_lite, find_node, find_postgrest


@dataclass(frozen=True)
class Part:
    """One child process of the supervisor."""

    name: str
    port: int
    #: Starts the process. Runs in the main thread, must not block.
    spawn: Callable[[], subprocess.Popen[bytes]]
    is_ready: Callable[[], Awaitable[bool]]
    #: Blocking work before each start and after each readiness; runs in a thread.
    prepare: Callable[[], None] = lambda: None
    settle: Callable[[], None] = lambda: None
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Ports:
    """The loopback port of each part; `api` is the public one."""

    api: int
    postgres: int
    postgrest: int
    postgrest_admin: int
    lite: int
    functions: int
    fleet: int


@dataclass(frozen=True)
class Stack:
    """What all parts share."""

    project: Project
    home: Home
    keys: StackKeys
    ports: Ports

    @property
    def server(self) -> Server:
        return Server("127.0.0.1", self.ports.postgres, self.keys.passwords)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.ports.api}"

    def environment(self, **settings: str) -> dict[str, str]:
        """Our own environment, so that GATEWAY_* and FUNCTIONS_* can be tuned, plus `settings`.

        What other programs read from it and could point them elsewhere is left out.
        """
        foreign = ("PG", "SUPABASE_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return {**inherited, **settings}

    def program(
        self, name: str, command: list[str], environment: Mapping[str, str], directory: Path
    ) -> Callable[[], subprocess.Popen[bytes]]:
        log = self.home.log(name)
        return lambda: spawn(command, environment, directory, log)


def postgres_part(stack: Stack, cluster: Cluster) -> Part:
    """The database. It stops on SIGINT: SIGTERM would wait for every client to leave."""
    log, port = stack.home.log("postgres"), stack.ports.postgres

    async def is_ready() -> bool:
        return cluster.is_ready()

    return Part(
        "postgres",
        port,
        lambda: cluster.spawn(log, port),
        is_ready,
        prepare=cluster.prepare,
        stop_signal=signal.SIGINT,
    )


def postgrest_part(stack: Stack) -> Part:
    """The API of tables, views and functions, closed down as far as its settings allow."""
    program = find_postgrest(stack.project)
    admin_port = stack.ports.postgrest_admin
    settings = {
        "PGRST_DB_URI": stack.server.url(user="authenticator"),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
        "PGRST_DB_ANON_ROLE": "anon",
        # Settings of roles in the database would come before these.
        "PGRST_DB_CONFIG": "false",
        "PGRST_DB_MAX_ROWS": "1000",
        "PGRST_DB_PLAN_ENABLED": "false",
        "PGRST_DB_AGGREGATES_ENABLED": "false",
        "PGRST_DB_POOL": "20",
        "PGRST_DB_POOL_ACQUISITION_TIMEOUT": "10",
        "PGRST_OPENAPI_MODE": "disabled",
        "PGRST_JWT_SECRET": stack.keys.jwt_secret,
        "PGRST_JWT_AUD": "authenticated",
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(stack.ports.postgrest),
        "PGRST_ADMIN_SERVER_PORT": str(admin_port),
        "PGRST_LOG_LEVEL": "warn",
    }

    return Part(
        "postgrest",
        stack.ports.postgrest,
        stack.program(
            "postgrest", [str(program)], stack.environment(**settings), stack.project.root
        ),
        lambda: answers(admin_port, "/ready"),
    )


def lite_part(stack: Stack) -> Part:
    """Auth and Storage. Its configuration is generated: the project's own belongs to Supabase."""
    keys, port = stack.keys, stack.ports.lite
    command = [str(find_node()), str(find_lite(stack.project)), "start", "--no-admin"]
    environment = stack.environment(
        LITE_TELEMETRY="0", DO_NOT_TRACK="1", EXPERIMENTAL_STORAGE="1", NODE_NO_WARNINGS="1"
    )

    def write_configuration() -> None:
        directory = stack.home.lite / "supabase"
        directory.mkdir(parents=True, exist_ok=True)
        write_private(directory / "config.toml", _lite_configuration(stack))

    def settle() -> None:
        apply_auth_functions(stack.server)

    return Part(
        "lite",
        port,
        stack.program("lite", command, environment, stack.home.lite),
        lambda: answers(port, "/auth/v1/health", {"apikey": keys.publishable_key}),
        prepare=write_configuration,
        settle=settle,
    )


def _lite_configuration(stack: Stack) -> str:
    # JSON strings are valid TOML strings.
    url, origin = json.dumps(stack.server.url()), json.dumps(stack.origin)
    return f"""\
[api]
port = {stack.ports.lite}

[db]
driver = "postgres"
url = {url}

[auth]
enabled = true
site_url = {origin}
jwt_secret = {json.dumps(stack.keys.jwt_secret)}
jwt_expiry = 3600
enable_signup = true
minimum_password_length = 8
publishable_key = {json.dumps(stack.keys.publishable_key)}
secret_key = {json.dumps(stack.keys.secret_key)}

[auth.email]
enable_confirmations = false

[storage]
enabled = true
file_size_limit = "50MiB"
"""


def functions_part(stack: Stack) -> Part:
    """The edge functions."""
    port = stack.ports.functions
    command = [sys.executable, "-m", "uvicorn", "tenantry_functions.app:app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    environment = stack.environment(
        FUNCTIONS_DATABASE_URL=stack.server.url(user="integrator"),
        FUNCTIONS_PUBLIC_ORIGIN=os.environ.get("FUNCTIONS_PUBLIC_ORIGIN", stack.origin),
        FUNCTIONS_REST_URL=f"http://127.0.0.1:{stack.ports.api}/rest/v1",
        FUNCTIONS_JWT_SECRET=stack.keys.jwt_secret,
        FUNCTIONS_PUBLISHABLE_KEY=stack.keys.publishable_key,
        FUNCTIONS_ANON_KEY=stack.keys.anon_key,
        FUNCTIONS_SECRET_KEY=stack.keys.secret_key,
        FUNCTIONS_SERVICE_ROLE_KEY=stack.keys.service_role_key,
        FUNCTIONS_DIR=str(stack.project.functions),
    )
    return Part(
        "functions",
        port,
        stack.program("functions", command, environment, stack.project.root),
        lambda: answers(port, "/healthz"),
    )


def fleet_part(stack: Stack) -> Part:
    """The operator's worker: members follow their tenants, jobs are done."""
    port = stack.ports.fleet
    command = [sys.executable, "-m", "tenantry_cli", "fleet", "worker"]
    command += ["--of-stack", "--listen", f"127.0.0.1:{port}"]
    environment = stack.environment(TENANTRY_HOME=str(stack.home.directory))
    environment.pop("TENANTRY_DATABASE_URL", None)  # this stack's own, whatever a shell has set
    return Part(
        "fleet",
        port,
        stack.program("fleet", command, environment, stack.project.root),
        lambda: answers(port, "/healthz"),
    )


def gateway_part(stack: Stack) -> Part:
    """The one public origin, in front of all others."""
    ports, keys = stack.ports, stack.keys
    environment = stack.environment(
        GATEWAY_HOST="127.0.0.1",
        GATEWAY_PORT=str(ports.api),
        GATEWAY_POSTGREST_URL=f"http://127.0.0.1:{ports.postgrest}",
        GATEWAY_AUTH_URL=f"http://127.0.0.1:{ports.lite}",
        GATEWAY_FUNCTIONS_URL=f"http://127.0.0.1:{ports.functions}",
        GATEWAY_JWT_SECRET=keys.jwt_secret,
        GATEWAY_ANON_KEY=keys.anon_key,
        GATEWAY_SERVICE_ROLE_KEY=keys.service_role_key,
        GATEWAY_PUBLISHABLE_KEY=keys.publishable_key,
        GATEWAY_SECRET_KEY=keys.secret_key,
        GATEWAY_PLACES_DATABASE_URL=stack.server.url(user="authenticator"),
        GATEWAY_POSTGREST_BIN=str(find_postgrest(stack.project)),
        GATEWAY_CONSOLE_DIR=str(stack.project.console),
        GATEWAY_CONSOLE_SUPABASE_JS=str(
            stack.project.root / "node_modules/@supabase/supabase-js/dist/umd/supabase.js"
        ),
    )
    return Part(
        "gateway",
        ports.api,
        stack.program(
            "gateway", [sys.executable, "-m", "tenantry_gateway"], environment, stack.project.root
        ),
        lambda: _has_decided(ports.api),
    )


async def _has_decided(port: int) -> bool:
    """Whether the gateway knows if it serves this database. Also when it does not: the rest of the
    stack is of use all the same, and /healthz says what differs."""
    health = await read_json(port, "/healthz")
    return isinstance(health, dict) and health.get("status") != "starting"
