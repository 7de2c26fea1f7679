"""Write the list of what the gateway's boot gate expects of a database.

    python tools/generate_expected_database.py [--database-url postgresql://...] [--check]

Writes gateway/tenantry_gateway/expected_database.json. Without --database-url it starts a
throw-away Postgres and applies the migrations; give the URL of a database that you trust for a list
of your own (with --file). With --check nothing is written, and the exit status is 1 when it would
change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import create_database
from tenantry_cli.testing import throwaway_server
from tenantry_gateway.boot_facts import SHIPPED, Fact, written


def read_facts(connection: psycopg.Connection[TupleRow]) -> list[Fact]:
    """All rows of `boot_facts()`."""
    rows = connection.execute("select section, name, fingerprint, risk from public.boot_facts()")
    return [Fact(*row) for row in rows]


@contextmanager
def migrated_database() -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection to a new database with all migrations applied."""
    with throwaway_server() as server:
        create_database(server, "expected", with_auth_fallback=True)
        with server.connect("expected") as connection:
            apply_migrations(connection, read_migrations(find_project().migrations))
            yield connection


def generate(database_url: str | None) -> str:
    """The text of the list."""
    with psycopg.connect(database_url) if database_url else migrated_database() as connection:
        return written(read_facts(connection))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", help="default: a new database")
    parser.add_argument("--file", type=Path, default=SHIPPED, help="default: the shipped list")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    options = parser.parse_args()
    text = generate(options.database_url)
    if options.file.exists() and options.file.read_text(encoding="utf-8") == text:
        return 0
    if not options.check:
        options.file.write_text(text, encoding="utf-8")
    print(f"{options.file.name} {'differs' if options.check else 'written'}")
    return 1 if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
