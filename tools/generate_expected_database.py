"""Write the lists of what the gateway's boot gate expects of a database and of a tenant's schema.

    python tools/generate_expected_database.py [--database-url postgresql://...] [--check]
                                               [--schema tenant_...]

Writes expected_database.json and expected_tenant_schema.json in gateway/tenantry_gateway. It starts
a throw-away Postgres, applies the migrations and makes the schema of a tenant. For a list of your
own give the URL of a database that you trust, with --file, and for that of a schema with --schema.
With --check nothing is written, and the exit status is 1 when something would change.
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
from tenantry_cli.migrate.tenant_plane import create_tenant_schema
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import create_database
from tenantry_cli.testing import throwaway_server
from tenantry_gateway.boot_facts import SHIPPED, SHIPPED_TENANT_SCHEMA, Fact, written

_TENANT_SCHEMA = "tenant_" + "0" * 32


def read_facts(connection: psycopg.Connection[TupleRow], schema: str | None = None) -> list[Fact]:
    """All rows of `boot_facts()`: of the database, or of the schema of a tenant."""
    rows = connection.execute(
        "select section, name, fingerprint, risk from public.boot_facts(%s)", [schema]
    )
    return [Fact(*row) for row in rows]


@contextmanager
def migrated_database() -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection to a new database with all migrations applied."""
    with throwaway_server() as server:
        create_database(server, "expected", with_auth_fallback=True)
        with server.connect("expected") as connection:
            migrations = read_migrations(find_project().migrations)
            apply_migrations(connection, migrations)
            create_tenant_schema(connection, _TENANT_SCHEMA, migrations)
            yield connection


def generate() -> dict[Path, str]:
    """The text of each shipped list."""
    with migrated_database() as connection:
        return {
            SHIPPED: written(read_facts(connection)),
            SHIPPED_TENANT_SCHEMA: written(read_facts(connection, _TENANT_SCHEMA)),
        }


def generate_own(database_url: str, schema: str | None, file: Path | None) -> dict[Path, str]:
    """The text of the list of one database or schema."""
    with psycopg.connect(database_url) as connection:
        shipped = SHIPPED_TENANT_SCHEMA if schema else SHIPPED
        return {file or shipped: written(read_facts(connection, schema))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", help="default: a new database")
    parser.add_argument("--schema", help="of that database, for the list of a tenant's schema")
    parser.add_argument("--file", type=Path, help="default: the shipped list")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    options = parser.parse_args()
    if options.database_url:
        texts = generate_own(options.database_url, options.schema, options.file)
    elif options.schema or options.file:
        parser.error("--schema and --file need --database-url")
    else:
        texts = generate()
    changed = [
        file
        for file, text in texts.items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    for file in changed:
        if not options.check:
            file.write_text(texts[file], encoding="utf-8")
        print(f"{file.name} {'differs' if options.check else 'written'}")
    return 1 if changed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
