"""A business that imports, seen as its members see it through the API."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tenantry_cli.testing import Database

Row = dict[str, Any]

DATA = Path(__file__).parent / "data"
CHINOOK = DATA / "chinook_customers.csv"
SMS = DATA / "sms_spam_collection_share.csv"
OURS = "+14155550199"


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows by Python's reader: what the importer is compared with."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Member:
    """A signed-in member of a business; each call is one request, as PostgREST makes it."""

    def __init__(self, database: Database, user_id: UUID, business_id: UUID | None = None) -> None:
        self.database, self.user_id = database, user_id
        self.business_id = business_id
        self.connection: psycopg.Connection[Row] = psycopg.connect(
            database.url("authenticator"), autocommit=True, row_factory=dict_row
        )

    @contextmanager
    def request(self) -> Iterator[psycopg.Connection[Row]]:
        claims = {"sub": str(self.user_id), "role": "authenticated", "aud": "authenticated"}
        with self.connection.transaction():
            # PostgREST applies the settings of the role (plans, time-outs), SET ROLE does not.
            self.connection.execute(
                "select set_config(split_part(s, '=', 1), split_part(s, '=', 2), true)"
                " from pg_roles, unnest(rolconfig) s where rolname = 'authenticated'"
            )
            self.connection.execute("set local role authenticated")
            self.connection.execute(
                "select set_config('request.jwt.claims', %s, true)", (json.dumps(claims),)
            )
            yield self.connection

    def all(self, query: str, *args: object) -> list[Row]:
        with self.request() as connection:
            cursor = connection.execute(query, args or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *args: object) -> Row:
        rows = self.all(query, *args)
        assert len(rows) == 1, rows
        return rows[0]

    def value(self, query: str, *args: object) -> Any:
        return next(iter(self.one(query, *args).values()))

    def call(self, function: str, **arguments: object) -> Any:
        """The value of a function, in the member's business unless another is given."""
        given = {"business_id": self.business_id, **arguments}
        values = [Jsonb(v) if isinstance(v, list | dict) else v for v in given.values()]
        return self.value(
            f"select {function}({', '.join(f'{name} => %s' for name in given)})", *values
        )

    def import_(self, kind: str, rows: list[Row], **arguments: object) -> Any:
        """Imports rows in one request."""
        return self.call(f"import_{kind}", rows=rows, **arguments)

    def stage(self, kind: str, rows: list[Row], **arguments: object) -> UUID:
        """Starts an import, adds the rows and checks them; returns the batch."""
        started = self.call("start_import", kind=kind, row_count=len(rows), **arguments)
        batch = UUID(started["batch_id"])
        self.call("add_import_rows", batch_id=batch, rows=rows)
        while self.call("check_import", batch_id=batch)["remaining"]:
            pass
        return batch

    def counts(self) -> dict[str, int]:
        """How many rows the business has."""
        tables = ("customers", "contact_points", "conversations", "messages", "calls")
        selects = ", ".join(
            f"(select count(*) from {table} where business_id = '{self.business_id}') as {table}"
            for table in tables
        )
        return self.one(f"select {selects}")

    def drift(self) -> list[Row]:
        return self.all("select * from metric_drift")

    def close(self) -> None:
        self.connection.close()


class World:
    """One database, its operator, and the members made in it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.members: list[Member] = []
        self.operator: psycopg.Connection[Row] = psycopg.connect(
            database.url("postgres"), autocommit=True, row_factory=dict_row
        )

    def person(self) -> Member:
        user_id = uuid4()
        self.operator.execute(
            "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
            (user_id, f"{user_id.hex[:12]}@people.example"),
        )
        member = Member(self.database, user_id)
        self.members.append(member)
        return member

    def owner(self) -> Member:
        """The owner of a new business of a new organization, with an SMS and a voice channel."""
        member = self.person()
        organization = member.value(
            "select id from create_organization(name => 'Acme', country => 'US')"
        )
        member.business_id = member.value(
            "select id from create_business(organization_id => %s, name => 'Acme Dental',"
            " timezone => 'America/New_York', country => 'US')",
            organization,
        )
        member.all(
            "insert into channels (business_id, kind, name, address)"
            " values (%(b)s, 'sms', 'Desk', %(a)s), (%(b)s, 'voice', 'Desk', %(a)s)".replace(
                "%(b)s", f"'{member.business_id}'"
            ).replace("%(a)s", f"'{OURS}'")
        )
        return member

    def colleague(self, owner: Member, role: str) -> Member:
        member = self.person()
        email = f"{member.user_id.hex[:12]}@people.example"
        token = owner.value(
            "select token from invite_member(%s, %s, %s)", owner.business_id, email, role
        )
        member.all("select accept_invitation(%s)", token)
        member.business_id = owner.business_id
        return member

    def close(self) -> None:
        for member in self.members:
            member.close()
        self.operator.close()


@pytest.fixture(scope="module")
def world(module_database: Database) -> Iterator[World]:
    one = World(module_database)
    yield one
    one.close()


@pytest.fixture
def owner(world: World) -> Member:
    return world.owner()


@pytest.fixture
def sms(owner: Member) -> UUID:
    """The SMS channel of the owner's business."""
    channel: UUID = owner.value(
        "select id from channels where business_id = %s and kind = 'sms'", owner.business_id
    )
    return channel


@pytest.fixture
def refused() -> Callable[..., Row]:
    """Calls and returns the error's code, reason, message, hint and details."""

    def call(function: Callable[..., Any], *args: object, **kwargs: object) -> Row:
        with pytest.raises(psycopg.Error) as caught:
            function(*args, **kwargs)
        diagnostic = caught.value.diag
        details = json.loads(diagnostic.message_detail or "{}")
        return {
            "code": caught.value.sqlstate,
            "reason": details.get("reason"),
            "message": diagnostic.message_primary,
            "hint": diagnostic.message_hint,
            "details": details,
        }

    return call
