"""How many trials a race has."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tenantry_cli.testing import Database


@pytest.fixture(scope="session")
def trials(pytestconfig: pytest.Config) -> int:
    """Of each race: many in the full proof, a few in the ordinary run."""
    return 200 if pytestconfig.getoption("--full-proof") else 4


@pytest.fixture(scope="session")
def race_database(new_database: Callable[[], Database]) -> Callable[[], Database]:
    """Call it for a fresh database where deadlocks are found in milliseconds, not in a second."""

    def create() -> Database:
        database = new_database()
        with database.server.administer(database.name) as connection:
            try:
                connection.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
            except psycopg.errors.InsufficientPrivilege:
                connection.rollback()  # hosted: slower, and the same
        return database

    return create
