"""Running the statements of one file, and saying where it failed."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from tenantry_cli.migrate.files import CONCURRENTLY, Migration, MigrationError

Connection = psycopg.Connection[Any]


class StatementError(MigrationError):
    """A statement of a migration was refused. `sqlstate` is null where the connection broke."""

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def run_statements(
    connection: Connection, migration: Migration, *, with_concurrently: bool = True
) -> None:
    """Run a file in the caller's transaction, or outside of one. Raises StatementError.

    Without `with_concurrently` its indexes are built while writers wait, as a transaction demands:
    for tables that nobody uses yet.
    """
    position = 0
    try:
        for statement in migration.statements:
            position += 1
            text = statement if with_concurrently else CONCURRENTLY.sub("", statement)
            # Our own migration files are SQL by definition.
            connection.execute(sql.SQL(text))
    except psycopg.Error as error:
        raise StatementError(_describe(migration, position, error), error.sqlstate) from error


def _describe(migration: Migration, position: int, error: psycopg.Error) -> str:
    diagnostics = error.diag
    lines = [f"{migration.label}.sql, statement {position}: {diagnostics.message_primary or error}"]
    for label, text in (
        ("detail", diagnostics.message_detail),
        ("hint", diagnostics.message_hint),
        ("context", diagnostics.context),
        ("sqlstate", diagnostics.sqlstate),
    ):
        if text:
            lines.append(f"  {label}: {text}")
    if position and diagnostics.statement_position:
        offset = int(diagnostics.statement_position) - 1
        statement = migration.statements[position - 1]
        line = statement.count("\n", 0, offset)
        lines.append(f"  at line {line + 1} of the statement: {statement.splitlines()[line]}")
    if migration.in_transaction:
        lines.append("  nothing of this file was applied")
    else:
        lines.append("  this file runs outside a transaction: run it again")
    return "\n".join(lines)
