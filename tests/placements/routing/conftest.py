"""A small fleet: main, a shelf, databases of single tenants, and a gateway in front."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import multidict
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tenantry_cli.migrate import read_migrations
from tenantry_cli.migrate.tenant_plane import create_tenant_schema
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import Server, clone_database, drop_database
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.programs import find_postgrest
from tenantry_cli.testing import Database
from tenantry_gateway.app import Gateway
from tenantry_gateway.server import serving
from tenantry_gateway.settings import Settings

SECRET = secrets.token_hex(32)
MIGRATIONS = read_migrations(find_project().migrations)


def role_key(role: str) -> str:
    return jwt.encode({"role": role, "aud": "authenticated", "exp": 4102444800}, SECRET, "HS256")


KEYS = {
    "anon_key": role_key("anon"),
    "service_role_key": role_key("service_role"),
    "publishable_key": "sb_publishable_for_the_tests_only",
    "secret_key": "sb_secret_for_the_tests_only_0001",
}


def token(user: str, **claims: Any) -> str:
    now = int(time.time())
    body = {"sub": user, "role": "authenticated", "aud": "authenticated", "iat": now}
    return jwt.encode(body | {"exp": now + 3000} | claims, SECRET, "HS256")


@dataclass
class Tenant:
    """An organization with one business, its owner, and where it lives."""

    slug: str
    id: str
    business: str
    owner: str
    isolation: str = "pooled"
    database: str = ""
    schema: str = "public"
    epoch: int = 1

    @property
    def hex(self) -> str:
        return self.id.replace("-", "")

    @property
    def token(self) -> str:
        return token(self.owner)


@dataclass
class Fleet:
    """What the fleet library does for operators, as far as these tests need it."""

    server: Server
    template: str
    main: Database
    databases: list[str] = field(default_factory=list)
    tenants: dict[str, Tenant] = field(default_factory=dict)

    token = staticmethod(token)

    def person(self) -> str:
        user = str(uuid.uuid4())
        with self.main.connect() as owner:
            owner.execute(
                "insert into auth.users (id, email) values (%s, %s)",
                [user, f"{user}@people.example"],
            )
        return user

    @contextlib.contextmanager
    def acting_as(self, user: str) -> Iterator[psycopg.Connection[Any]]:
        claims = json.dumps({"sub": user, "role": "authenticated", "aal": "aal1"})
        with self.main.connect("authenticator") as connection:
            connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
            connection.execute("set local role authenticated")
            yield connection

    def tenant(self, slug: str, isolation: str = "pooled", shelf: str | None = None) -> Tenant:
        """A new organization, already at its home."""
        owner = self.person()
        with self.acting_as(owner) as connection:
            row = connection.execute(
                "select id from public.create_organization(%s, %s, 'US')", [slug.title(), slug]
            ).fetchone()
            assert row is not None
            business = connection.execute(
                "select id from public.create_business(%s, %s)", [row[0], f"{slug} shop"]
            ).fetchone()
            assert business is not None
        one = Tenant(slug, str(row[0]), str(business[0]), owner, database=self.main.name)
        self.tenants[slug] = one
        if isolation != "pooled":
            self.settle(one, isolation, shelf)
        return one

    def shelf(self) -> str:
        name = f"tenantry_shelf_{secrets.token_hex(4)}"
        clone_database(self.server, self.template, name)
        self.databases.append(name)
        return name

    def settle(self, one: Tenant, isolation: str, shelf: str | None = None) -> None:
        """Give an organization without rows another home."""
        database, schema = shelf or f"tenantry_{one.hex}", "public"
        if isolation == "schema":
            schema = f"tenant_{one.hex}"
            with self.server.connect(database) as owner:
                create_tenant_schema(owner, schema, MIGRATIONS)
        else:
            clone_database(self.server, self.template, database)
            self.databases.append(database)
        self.announce(one)
        self.switch(one, isolation, database, schema)
        self.push(one)

    def announce(self, one: Tenant) -> None:
        self.set_state(one, "moving")

    def set_state(self, one: Tenant, state: str) -> None:
        with self.main.connect() as owner:
            owner.execute(
                "update public.organization_placements set state = %s where organization_id = %s",
                [state, one.id],
            )

    def switch(self, one: Tenant, isolation: str, database: str, schema: str) -> None:
        one.isolation, one.database, one.schema = isolation, database, schema
        one.epoch += 1
        with self.main.connect() as owner:
            owner.execute(
                "update public.organization_placements set isolation = %s, database_name = %s,"
                " schema_name = %s, state = 'active', epoch = epoch + 1"
                " where organization_id = %s",
                [isolation, database, schema, one.id],
            )

    def push(self, one: Tenant, database: str | None = None) -> None:
        """Send the registry rows to the tenant's home, or to another database."""
        with self.main.connect() as owner:
            snapshot = owner.execute("select private.registry_snapshot(%s)", [one.id]).fetchone()
        assert snapshot is not None
        with self.server.connect(database or one.database) as owner:
            owner.execute("select private.receive_registry(%s, 1, true)", [Jsonb(snapshot[0])])

    def at_home(self, one: Tenant) -> psycopg.Connection[Any]:
        """The owner's connection to a tenant's home, with its schema first."""
        connection = self.server.connect(one.database, autocommit=True)
        connection.execute(
            sql.SQL("set search_path = {}, public, extensions").format(sql.Identifier(one.schema))
        )
        return connection

    def close(self) -> None:
        for name in self.databases:
            drop_database(self.server, name)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def fleet(
    database_server: Server, template_database: str, module_database: Database
) -> Iterator[Fleet]:
    """An empty fleet with its main database."""
    one = Fleet(database_server, template_database, module_database)
    yield one
    one.close()


@pytest.fixture(scope="module")
def main_postgrest(module_database: Database) -> Iterator[str]:
    """The PostgREST of the main database, configured like that of the local stack."""
    port = free_port()
    process = subprocess.Popen(
        [find_postgrest(find_project())],
        env={
            "PATH": os.environ["PATH"],
            "PGRST_DB_URI": module_database.url("authenticator"),
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_DB_CONFIG": "false",
            "PGRST_DB_POOL": "8",
            "PGRST_OPENAPI_MODE": "disabled",
            "PGRST_JWT_SECRET": SECRET,
            "PGRST_JWT_AUD": "authenticated",
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(port),
            "PGRST_LOG_LEVEL": "crit",
        },
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@dataclass
class Answer:
    status: int
    headers: Any
    json: Any

    @property
    def reason(self) -> str:

        return str(json.loads(self.json["details"])["reason"])


@dataclass
class Front:
    """A gateway in front of the fleet."""

    origin: str
    gateway: Gateway
    client: aiohttp.ClientSession
    key = KEYS["publishable_key"]

    async def call(
        self,
        method: str,
        path: str,
        who: str | None = None,
        *,
        key: str = "publishable_key",
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """One request to /rest/v1; `who` is an access token."""
        sent = {"apikey": KEYS[key]} | ({"Authorization": f"Bearer {who}"} if who else {})
        async with self.client.request(
            method,
            f"{self.origin}/rest/v1{path}",
            headers=multidict.CIMultiDict([*sent.items(), *(headers or {}).items()]),
            json=body,
            allow_redirects=False,
        ) as response:
            text = await response.read()
            return Answer(
                response.status, response.headers, await response.json() if text else None
            )

    async def rows(self, path: str, who: str, **headers: str) -> list[dict[str, Any]]:
        answer = await self.call("GET", path, who, headers=headers)
        assert answer.status == 200, answer
        rows: list[dict[str, Any]] = answer.json
        return rows

    async def metric(self, name: str) -> float:
        async with self.client.get(f"{self.origin}/metrics") as response:
            for line in (await response.text()).splitlines():
                if line.startswith(name + " "):
                    return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


@pytest.fixture
def gateway_environment(fleet: Fleet, main_postgrest: str) -> dict[str, str]:
    """Settings for a gateway in a process of its own."""
    nobody = "http://127.0.0.1:1"
    settings = {
        "POSTGREST_URL": main_postgrest,
        "AUTH_URL": nobody,
        "FUNCTIONS_URL": nobody,
        "JWT_SECRET": SECRET,
        "PORT": "0",
        "BOOT_GATE": "off",
        "PLACES_DATABASE_URL": fleet.server.url("postgres", "authenticator"),
        "POSTGREST_BIN": str(find_postgrest(find_project())),
        **{name.upper(): key for name, key in KEYS.items()},
    }
    return {f"GATEWAY_{name}": value for name, value in settings.items()}


async def settled(
    call: Callable[..., Awaitable[Answer]], *arguments: Any, not_status: int, **more: Any
) -> Answer:
    """The first answer with another status, within twenty seconds."""
    for _ in range(400):
        answer = await call(*arguments, **more)
        if answer.status != not_status:
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"still {not_status}")


@pytest.fixture
async def new_front(
    fleet: Fleet, main_postgrest: str
) -> AsyncIterator[Callable[..., Awaitable[Front]]]:
    """Start a gateway with settings changed by keyword."""
    async with contextlib.AsyncExitStack() as opened:

        async def start(**changes: Any) -> Front:
            nobody = "http://127.0.0.1:1"
            settings = Settings(
                **{
                    "postgrest_url": main_postgrest,
                    "auth_url": nobody,
                    "functions_url": nobody,
                    "jwt_secret": SECRET,
                    "port": 0,
                    "shutdown_seconds": 0.1,
                    "boot_gate": "off",
                    "places_database_url": fleet.server.url("postgres", "authenticator"),
                    "postgrest_bin": find_postgrest(find_project()),
                    "rate": 0.0,
                    **KEYS,
                    **changes,
                }
            )
            gateways: list[Gateway] = []

            def begin(gateway: Gateway) -> None:
                gateways.append(gateway)
                gateway.start()

            client = await opened.enter_async_context(aiohttp.ClientSession())
            origin = await opened.enter_async_context(serving(settings, begin))
            front = Front(origin, gateways[0], client)
            await settled(front.call, "GET", "/subscription_plans?limit=0", not_status=503)
            return front

        yield start


@pytest.fixture
async def front(new_front: Callable[..., Awaitable[Front]]) -> Front:
    """A gateway with the default settings."""
    return await new_front()
