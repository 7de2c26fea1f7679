"""People and businesses for tests that talk to the database as the API does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tenantry_cli.testing import Database

Row = dict[str, Any]


class Person:
    """A signed-in user: each call is one request, as PostgREST makes it."""

    def __init__(self, database: Database, user_id: UUID, email: str) -> None:
        self.database, self.user_id, self.email = database, user_id, email
        self._connection: psycopg.Connection[Row] | None = None

    @contextmanager
    def request(self) -> Iterator[psycopg.Connection[Row]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self.database.url("authenticator"), autocommit=True, row_factory=dict_row
            )
        claims = {"sub": str(self.user_id), "role": "authenticated", "aud": "authenticated"}
        with self._connection.transaction():
            self._connection.execute("set local role authenticated")
            self._connection.execute(
                "select set_config('request.jwt.claims', %s, true)", (json.dumps(claims),)
            )
            yield self._connection

    def all(self, query: str, *args: object) -> list[Row]:
        with self.request() as connection:
            cursor = connection.execute(query, args)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *args: object) -> Row:
        rows = self.all(query, *args)
        assert len(rows) == 1, rows
        return rows[0]

    def value(self, query: str, *args: object) -> Any:
        return next(iter(self.one(query, *args).values()))

    def rpc(self, function: str, /, **arguments: object) -> Row:
        """Calls a function by argument names and returns its row."""
        parts = ", ".join(f"{key} => %s" for key in arguments)
        values = [Jsonb(v) if isinstance(v, dict) else v for v in arguments.values()]
        return self.one(f"select * from {function}({parts})", *values)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class World:
    """One database with people, an organization and a business in it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.people: list[Person] = []
        self.operator: psycopg.Connection[Row] = psycopg.connect(
            database.url("postgres"), autocommit=True, row_factory=dict_row
        )

    def person(self, email: str | None = None, *, confirmed: bool = True) -> Person:
        user_id = uuid4()
        email = email or f"{user_id.hex[:10]}@people.example"
        self.operator.execute(
            "insert into auth.users (id, email, email_confirmed_at, raw_user_meta_data)"
            " values (%s, %s, case when %s then now() end, %s)",
            (user_id, email, confirmed, Jsonb({"full_name": email.split("@")[0].title()})),
        )
        person = Person(self.database, user_id, email)
        self.people.append(person)
        return person

    def business(self, owner: Person, *, timezone: str = "America/New_York") -> UUID:
        organization = owner.rpc("create_organization", name="Acme", country="US")
        business = owner.rpc(
            "create_business",
            organization_id=organization["id"],
            name=f"Acme {uuid4().hex[:6]}",
            timezone=timezone,
            country="US",
        )
        business_id: UUID = business["id"]
        return business_id

    def member(self, owner: Person, business_id: UUID, role: str) -> Person:
        person = self.person()
        invitation = owner.rpc(
            "invite_member", business_id=business_id, email=person.email, role=role
        )
        person.rpc("accept_invitation", token=invitation["token"])
        return person

    def integrator(self) -> psycopg.Connection[Row]:
        return psycopg.connect(
            self.database.url("integrator"), autocommit=True, row_factory=dict_row
        )

    def close(self) -> None:
        for person in self.people:
            person.close()
        self.operator.close()


class Line:
    """A business with a Twilio connection and voice, SMS and WhatsApp channels on one number."""

    OURS = "+14155550199"

    def __init__(self, world: World, *, threading: str = "single") -> None:
        self.world = world
        self.owner = world.person()
        self.business_id = world.business(self.owner)
        connection = self.owner.rpc(
            "connect_provider",
            business_id=self.business_id,
            provider="twilio",
            account_ref="AC" + "0" * 32,
            secret="a-signing-secret",
        )
        self.connection_id: UUID = connection["id"]
        for kind in ("voice", "sms", "whatsapp"):
            self.owner.all(
                "insert into channels (business_id, connection_id, kind, name, address, provider,"
                " threading) values (%s, %s, %s, 'Desk', %s, 'twilio', %s)",
                *(self.business_id, self.connection_id, kind, self.OURS, threading),
            )

    def deliver(
        self,
        key: str,
        *events: dict[str, Any],
        connection: psycopg.Connection[Row] | None = None,
    ) -> dict[str, Any]:
        """Hands events to the inbox as the webhook functions do."""
        own = connection or self.world.integrator()
        try:
            row = own.execute(
                "select ingest_webhook(%s, %s, 'test', '{}', %s) as result",
                (self.connection_id, key, Jsonb(list(events))),
            ).fetchone()
        finally:
            if connection is None:
                own.close()
        assert row is not None
        result: dict[str, Any] = row["result"]
        return result

    def text(self, external_id: str, body: str = "Hello", **more: object) -> dict[str, Any]:
        return {
            "type": "message.inbound",
            "channel_kind": "sms",
            "ours": self.OURS,
            "peer": "+14155550123",
            "external_id": external_id,
            "text": body,
            **more,
        }

    def message_status(self, external_id: str, status: str, **more: object) -> dict[str, Any]:
        return {
            "type": "message.status",
            "channel_kind": "sms",
            "ours": self.OURS,
            "peer": "+14155550123",
            "external_id": external_id,
            "status": status,
            **more,
        }

    def call(self, external_id: str, status: str, **more: object) -> dict[str, Any]:
        return {
            "type": "call.event",
            "direction": "inbound",
            "ours": self.OURS,
            "peer": "+14155550123",
            "external_id": external_id,
            "status": status,
            **more,
        }


@pytest.fixture(scope="module")
def world(module_database: Database) -> Iterator[World]:
    one = World(module_database)
    yield one
    one.close()


@pytest.fixture
def line(world: World) -> Line:
    return Line(world)


@pytest.fixture
def new_line(world: World) -> Callable[..., Line]:
    return lambda **options: Line(world, **options)
