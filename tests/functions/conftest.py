"""What the tests of functions share: an app in process, and a connection of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from tenantry_cli.testing import Database
from tenantry_functions.inbox import Connection, Home, MemoryInbox
from tenantry_functions.settings import Settings
from tenantry_functions.testing import FunctionHost, local_settings, memory_host

ACCOUNT = "AC00000000000000000000000000000001"


@pytest.fixture
def account() -> str:
    return ACCOUNT


@pytest.fixture
def host() -> Iterator[FunctionHost[MemoryInbox]]:
    with memory_host(voice={"greeting": "Hello.", "record": True, "language": "en-US"}) as host:
        yield host


@pytest.fixture
def connection(host: FunctionHost[MemoryInbox], account: str) -> Connection:
    return host.inbox.connect(account, "the auth token of this account")


class Tenant:
    """A business with a Twilio connection and voice, SMS and WhatsApp channels on one number."""

    OURS = "+14155550199"
    SECRET = "the auth token of this account"

    def __init__(self, database: Database, admin: psycopg.Connection[dict[str, Any]]) -> None:
        self.database = database
        self.admin = admin
        owner = str(uuid4())
        self.admin.execute(
            "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
            (owner, f"{owner[:8]}@people.example"),
        )
        claims = json.dumps({"sub": owner, "role": "authenticated", "aud": "authenticated"})
        with self.admin.transaction():
            self.admin.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
            organization = self.one("select * from create_organization(name => 'Acme')")["id"]
            self.business_id: UUID = self.one(
                "select * from create_business(organization_id => %s, name => 'Acme',"
                " timezone => 'America/New_York', country => 'US')",
                organization,
            )["id"]
            connected: UUID = self.one(
                "select * from connect_provider(%s, 'twilio', %s, %s, 'Phones')",
                self.business_id,
                ACCOUNT,
                self.SECRET,
            )["id"]
        home = Home(database.name, "public")
        self.connection = Connection(
            connected, self.business_id, "twilio", ACCOUNT, (self.SECRET,), home
        )
        for kind in ("voice", "sms", "whatsapp"):
            self.add_channel(kind)

    def add_channel(self, kind: str, address: str = OURS) -> None:
        self.admin.execute(
            "insert into channels (business_id, connection_id, kind, name, address, provider)"
            " values (%s, %s, %s, 'Desk', %s, 'twilio')",
            (self.business_id, self.connection.id, kind, address),
        )

    def one(self, query: str, *arguments: object) -> dict[str, Any]:
        row = self.admin.execute(query, arguments).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows of this business, in the order of their creation."""
        query = sql.SQL("select * from {} where business_id = %s order by created_at, id")
        return self.admin.execute(
            query.format(sql.Identifier(table)), (self.business_id,)
        ).fetchall()

    def settings(self, **changes: Any) -> Settings:
        url = self.database.url("integrator")
        return local_settings(database_url=url, pool_max=4, **changes)


@pytest.fixture
def tenant(module_database: Database) -> Iterator[Tenant]:
    with psycopg.connect(
        module_database.url("postgres"), autocommit=True, row_factory=dict_row
    ) as admin:
        yield Tenant(module_database, admin)


@pytest.fixture
def served(tenant: Tenant) -> Iterator[FunctionHost[None]]:
    """The app on the database of `tenant`, as role integrator."""
    with FunctionHost(None, settings=tenant.settings()) as host:
        yield host


@pytest.fixture
def new_tenant() -> type[Tenant]:
    """To make a tenant in another database."""
    return Tenant
