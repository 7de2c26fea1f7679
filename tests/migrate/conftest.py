"""Databases without migrations, and what rollbacks are compared by."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from tenantry_cli.stack.database import Server, create_database, drop_database
from tenantry_cli.testing import Database


@pytest.fixture
def new_empty_database(database_server: Server) -> Iterator[Callable[[], Database]]:
    """Call it for a database as Supabase hands it over, before the first migration."""
    names: list[str] = []

    def create() -> Database:
        name = f"tenantry_test_{secrets.token_hex(6)}"
        create_database(database_server, name, with_auth_fallback=True)
        names.append(name)
        return Database(database_server, name)

    yield create
    for name in names:
        drop_database(database_server, name)
