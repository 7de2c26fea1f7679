"""A primary and a streaming replica of it, each with its PostgREST, made as docs/how-to/scale.md
says, and a gateway before both."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import httpx
import jwt
import psycopg
import pytest
from aiohttp import web

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.scratch import scratch_directory
from tenantry_cli.stack.database import Server, create_database, prepare_cluster
from tenantry_cli.stack.installation import Programs, find_programs
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.postgres import SUPERUSER, THROWAWAY_SETTINGS, Cluster
from tenantry_cli.stack.programs import find_postgrest
from tenantry_cli.testing import new_passwords
from tenantry_gateway.server import serving
from tenantry_gateway.settings import Settings

PAGE = find_project().root / "docs" / "how-to" / "scale.md"
SECRET = secrets.token_hex(32)
DATABASE = "tenantry"
# Commits go out at once, as they do where nobody has chosen otherwise.
SETTINGS = {**THROWAWAY_SETTINGS, "synchronous_commit": "on"}


def block(language: str) -> str:
    """The page's one block in a language."""
    [source] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    return str(source)


def role_key(role: str) -> str:
    claims = {"role": role, "aud": "authenticated", "exp": int(time.time()) + 3600}
    return jwt.encode(claims, SECRET, "HS256")


KEYS = {
    "anon_key": role_key("anon"),
    "service_role_key": role_key("service_role"),
    "publishable_key": "sb_publishable_for_the_tests_only",
    "secret_key": "sb_secret_for_the_tests_only_0001",
}


@contextmanager
def postgrest(port: int, directory: Path, **changes: str) -> Iterator[str]:
    """PostgREST with the page's configuration; `changes` are options, None leaves one out."""
    file = directory / f"postgrest-{port}.conf"
    file.write_text(block("ini"))
    process = subprocess.Popen(
        [find_postgrest(find_project()), file],
        env={
            "PATH": os.environ["PATH"],
            "REPLICA_PORT": str(port),
            "JWT_SECRET": SECRET,
            **changes,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    origin = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                # Refused or not, the schema is loaded when it is no longer 503.
                if httpx.get(f"{origin}/subscription_plans").status_code != 503:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "PostgREST does not answer"
            time.sleep(0.02)
        yield origin
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Pair:
    """The two servers."""

    directory: Path
    programs: Programs
    primary: Server
    primary_cluster: Cluster
    replica: Server
    replica_cluster: Cluster
    primary_origin: str = ""
    replica_origin: str = ""

    def start_replica(self) -> None:
        self.replica_cluster.start(self.directory / "replica.log", self.replica.port)

    def on_primary(self, query: str, *values: object) -> Any:
        """The first value of a statement by the operator."""
        return _value(self.primary, "postgres", query, values)

    def on_replica(self, query: str, *values: object) -> Any:
        return _value(self.replica, SUPERUSER, query, values)

    def catch_up(self) -> None:
        position = self.on_primary("select public.wal_position() ->> 'position'")
        deadline = time.monotonic() + 10
        while not self.on_replica("select pg_last_wal_replay_lsn() >= %s::pg_lsn", position):
            assert time.monotonic() < deadline, "the replica does not catch up"
            time.sleep(0.01)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing new appears on the replica inside the block."""
        self.catch_up()
        self.on_replica("select pg_wal_replay_pause()")
        while self.on_replica("select pg_get_wal_replay_pause_state()") != "paused":
            time.sleep(0.01)
        try:
            yield
        finally:
            self.on_replica("select pg_wal_replay_resume()")


def _value(server: Server, user: str, query: str, values: tuple[object, ...]) -> Any:
    with psycopg.connect(server.url(DATABASE, user), autocommit=True) as connection:
        cursor = connection.execute(query.encode(), values)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@contextmanager
def running_pair() -> Iterator[Pair]:
    """Both servers, migrated, with PostgREST on each."""
    programs = find_programs(os.environ.get("TENANTRY_TEST_POSTGRES_BIN"))
    passwords = new_passwords()
    with scratch_directory() as directory, ExitStack() as started:

        def cluster(name: str) -> Cluster:
            (directory / name).mkdir(mode=0o755)
            one = Cluster(directory / name / "data", passwords[SUPERUSER], programs, SETTINGS)
            started.callback(one.stop)
            return one

        first, second = cluster("primary"), cluster("replica")
        first.start(directory / "primary.log")
        assert first.port is not None
        primary = Server("127.0.0.1", first.port, passwords)
        prepare_cluster(primary)
        create_database(primary, DATABASE, with_auth_fallback=True)
        with primary.connect(DATABASE) as connection:
            apply_migrations(connection, read_migrations(find_project().migrations))
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block("bash")],
            env={
                "PATH": f"{programs.directory}:{os.environ['PATH']}",
                "PRIMARY_URL": primary.url(DATABASE),
                "REPLICA_DATA": str(second.data),
            },
            check=True,
        )
        if os.geteuid() == 0:
            owner = first.data.stat()
            for path in (second.data, *second.data.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        replica = Server("127.0.0.1", free_port(), passwords)
        both = Pair(directory, programs, primary, first, replica, second)
        both.start_replica()
        both.primary_origin = started.enter_context(
            postgrest(
                free_port(),
                directory,
                REPLICA_URL=primary.url(DATABASE, "authenticator"),
                PGRST_DB_PRE_REQUEST="",
                PGRST_DB_CHANNEL_ENABLED="true",
            )
        )
        both.replica_origin = started.enter_context(
            postgrest(free_port(), directory, REPLICA_URL=replica.url(DATABASE, "authenticator"))
        )
        yield both


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """The two servers that the tests share."""
    with running_pair() as both:
        yield both


@dataclass
class User:
    """Somebody signed in, and the gateway they speak to."""

    id: str
    gateway: Gateway
    headers: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, target: str, **more: Any) -> Answer:
        return await self.gateway.call(
            method, target, self.headers | more.pop("headers", {}), **more
        )

    async def read(self, target: str, **headers: str) -> Answer:
        """A read that the replica may answer."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("GET", target, headers={"X-Read-Preference": "replica"} | given)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def source(self) -> str | None:
        return self.headers.get("X-Tenantry-Source")  # type: ignore[no-any-return]


class Gateway:
    """A gateway of one test, and the people behind it."""

    def __init__(self, pair: Pair, origin: str, client: aiohttp.ClientSession) -> None:
        self.pair, self.origin, self._client = pair, origin, client

    async def call(self, method: str, target: str, headers: dict[str, str], **more: Any) -> Answer:
        async with self._client.request(
            method, self.origin + target, headers=headers, **more
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def decided(self) -> None:
        """Return when the boot gate has looked at the primary."""
        for _ in range(500):
            if (await self.call("GET", "/healthz", {})).json["status"] != "starting":
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the gateway does not start")

    def user(self, user_id: str | None = None) -> User:
        """A new user, or the same one at this gateway."""
        if user_id is None:
            user_id = str(uuid4())
            self.pair.on_primary(
                "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
                UUID(user_id),
                f"{user_id[:13]}@people.example",
            )
            self.pair.catch_up()
        now = int(time.time())
        claims = {"sub": user_id, "role": "authenticated", "aud": "authenticated"}
        token = jwt.encode(claims | {"iat": now, "exp": now + 600}, SECRET, "HS256")
        headers = {"apikey": KEYS["publishable_key"], "Authorization": f"Bearer {token}"}
        return User(user_id, self, headers)

    async def outcomes(self) -> dict[str, int]:
        """What became of reads that were meant for the replica."""
        page = (await self.call("GET", "/metrics", {})).body.decode()
        found = re.findall(r'^gateway_replica_reads_total\{outcome="(\w+)"\} (\d+)', page, re.M)
        return {outcome: int(count) for outcome, count in found}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def gateways(pair: Pair) -> AsyncIterator[Callable[..., Any]]:
    """Start a gateway with settings changed by keyword. `function` answers for /functions/v1 and
    /auth/v1."""
    async with AsyncExitStack() as started:

        async def start(
            function: Callable[[web.BaseRequest], Any] | None = None, **changes: Any
        ) -> Gateway:
            async def nothing(_: web.BaseRequest) -> web.Response:
                return web.json_response({})

            runner = web.ServerRunner(web.Server(function or nothing), shutdown_timeout=0.1)
            await runner.setup()
            started.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            services = "http://{}:{}".format(*runner.addresses[0][:2])
            settings = {
                "postgrest_url": pair.primary_origin,
                "replica_url": pair.replica_origin,
                "auth_url": services,
                "functions_url": services,
                "jwt_secret": SECRET,
                "port": 0,
                "shutdown_seconds": 0.1,
                "boot_gate_seconds": 0.2,
                "replica_poll_seconds": 0.05,
                **KEYS,
            }
            origin = await started.enter_async_context(serving(Settings(**settings | changes)))
            client = await started.enter_async_context(aiohttp.ClientSession())
            gateway = Gateway(pair, origin, client)
            await gateway.decided()
            return gateway

        yield start


@pytest.fixture
async def new_gateway(pair: Pair) -> AsyncIterator[Callable[..., Any]]:
    """Start more gateways than one; all stop at the end of the test."""
    async with gateways(pair) as start:
        yield start


@pytest.fixture
async def gateway(new_gateway: Callable[..., Any]) -> Gateway:
    one: Gateway = await new_gateway()
    return one
