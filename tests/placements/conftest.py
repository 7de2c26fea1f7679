"""A fleet for each module: a main database with the demo story, shelves and databases beside it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from tenantry_cli.fleet.databases import drop_place
from tenantry_cli.fleet.fleet import Fleet, Tenant
from tenantry_cli.migrate import read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.testing import Database

OWNER = UUID("a0000000-0000-4000-8000-000000000001")
MANAGER = UUID("a0000000-0000-4000-8000-000000000002")
STAFF = UUID("a0000000-0000-4000-8000-000000000003")
VIEWER = UUID("a0000000-0000-4000-8000-000000000004")
STRANGER = UUID("a0000000-0000-4000-8000-000000000005")


class Place:
    """The API of one home: each request is one transaction, as PostgREST makes it."""

    def __init__(self, fleet: Fleet, tenant: Tenant) -> None:
        self._connection: psycopg.Connection[DictRow] = psycopg.connect(
            fleet.server.url(tenant.home.database, "authenticator"),
            autocommit=True,
            row_factory=dict_row,
        )
        self._schema = tenant.home.schema

    @contextmanager
    def request(self, user: UUID | None) -> Iterator[psycopg.Connection[DictRow]]:
        claims = {"sub": str(user), "role": "authenticated", "aud": "authenticated"}
        with self._connection.transaction():
            role = "authenticated" if user else "service_role"
            self._connection.execute(f"set local role {role}")
            self._connection.execute(
                "select set_config('request.jwt.claims', %s, true), "
                "set_config('search_path', %s, true)",
                (json.dumps(claims if user else {"role": role}), f"{self._schema}, extensions"),
            )
            yield self._connection

    def all(self, user: UUID | None, query: str, *values: object) -> list[dict[str, Any]]:
        with self.request(user) as connection:
            cursor = connection.execute(query, values)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def value(self, user: UUID | None, query: str, *values: object) -> Any:
        return next(iter(self.all(user, query, *values)[0].values()))

    def close(self) -> None:
        self._connection.close()


@contextmanager
def new_fleet(database: Database, per_shelf: int = 20) -> Iterator[Fleet]:
    """A fleet whose names no other has; its databases are dropped at the end."""
    project = find_project()
    with database.connect() as connection:
        connection.execute(project.seed.read_text(encoding="utf-8"))
    fleet = Fleet(
        database.server,
        database.name,
        read_migrations(project.migrations),
        prefix=f"tenantry_test_{secrets.token_hex(3)}",
        tenants_per_shelf=per_shelf,
    )
    try:
        yield fleet
    finally:
        with fleet.connect() as main:
            names = [
                row["datname"]
                for row in main.execute(
                    "select datname from pg_database where starts_with(datname, %s)",
                    (fleet.prefix,),
                )
            ]
            for name in names:
                main.execute(f'alter database "{name}" with is_template false')
        fleet.close()
        for name in names:
            drop_place(fleet, name)


@pytest.fixture(scope="module")
def fleet(module_database: Database) -> Iterator[Fleet]:
    with new_fleet(module_database) as one:
        yield one


@pytest.fixture
def place_of(fleet: Fleet) -> Iterator[Callable[[str], Place]]:
    """Opens the home that the registry names for a tenant now."""
    opened: list[Place] = []

    def open_place(key: str) -> Place:
        opened.append(Place(fleet, fleet.tenant(key)))
        return opened[-1]

    yield open_place
    for place in opened:
        place.close()


def until(condition: Callable[[], object], seconds: float = 20) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.005)
    return time.monotonic() - started
