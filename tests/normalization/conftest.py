"""A migrated database, and many calls of a function in one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg
import pytest

from tenantry_cli.testing import Database

Row = tuple[Any, ...]


class Normalizer:
    """The functions under test, through one connection of the owner."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self.connection = connection

    def one(self, query: str, *values: object) -> Any:
        row = self.connection.execute(query, values).fetchone()
        assert row is not None
        return row[0]

    def each(self, columns: str, cases: Iterable[Row], join: str = "") -> list[Row]:
        """`columns` for every case, in order. A case is (a, b): `a` and `b` in the expressions."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute("create temporary table cases (at serial, a text, b text)")
            with self.connection.cursor().copy("copy cases (a, b) from stdin") as copy:
                for case in cases:
                    copy.write_row(case)
            return self.connection.execute(
                f"select {columns} from cases {join} order by at"
            ).fetchall()


@pytest.fixture(scope="session")
def normalization_database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture(scope="session")
def normalizer(normalization_database: Database) -> Iterator[Normalizer]:
    with normalization_database.connect(autocommit=True) as connection:
        yield Normalizer(connection)
