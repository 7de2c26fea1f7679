"""Who may not run at the same time as whom.

Migrations of a fleet hold MOVES_KEY of the main database exclusively. Whoever makes, moves or drops
homes holds it shared meanwhile (`keep_migrations_away`), so neither ever meets a half-made other.
Below that, each database and each schema has a lock of its own, which `tenantry migrate up` of one
database respects too. All are locks of a session: they end with it, however it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from tenantry_cli.migrate.files import MigrationError

Connection = psycopg.Connection[Any]

#: Named in SQL: hashtext() of it is the key.
MOVES_KEY = "tenantry:moves"
#: Two runs on one database meet at this number. ASCII "tenantry".
DATABASE_KEY = int.from_bytes(b"tenantry", "big") >> 1


@contextmanager
def keep_moves_away(main: Connection) -> Iterator[None]:
    """Hold the lock of migrations. Raises MigrationError while a home is made or moved."""
    if not _ask(main, "select pg_try_advisory_lock(hashtext(%s))", MOVES_KEY):
        raise MigrationError(
            "a tenant is being made or moved, or the fleet is being migrated already: "
            "run this again when that is done (`tenantry tenant list`, `tenantry migrate status`)"
        )
    try:
        yield
    finally:
        if not main.closed:
            main.execute("select pg_advisory_unlock(hashtext(%s))", (MOVES_KEY,))


@contextmanager
def keep_migrations_away(main: Connection) -> Iterator[None]:
    """Hold the lock of moves, as many may. Raises MigrationError during a fleet migration."""
    if not _ask(main, "select pg_try_advisory_lock_shared(hashtext(%s))", MOVES_KEY):
        raise MigrationError(
            "the fleet is being migrated: homes are made and moved when that is done"
        )
    try:
        yield
    finally:
        if not main.closed:
            main.execute("select pg_advisory_unlock_shared(hashtext(%s))", (MOVES_KEY,))


def lock_place(connection: Connection, schema: str | None) -> bool:
    """Take the lock of this database, or of one schema in it, until the session ends."""
    if schema is None:
        return _ask(connection, "select pg_try_advisory_lock(%s)", DATABASE_KEY)
    key = f"tenantry:migrate:{schema}"
    return _ask(connection, "select pg_try_advisory_lock(hashtextextended(%s, 0))", key)


def _ask(connection: Connection, query: str, key: str | int) -> bool:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), (key,)).fetchone() == (True,)
