"""The rollbacks of the project's own migrations: complete, current, and nothing is lost."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tenantry_cli.migrate import Migration, MigrationError, apply_migrations, read_migrations
from tenantry_cli.migrate.catalog import SHARED_SCHEMAS, read_facts, schema_hashes
from tenantry_cli.migrate.execution import StatementError
from tenantry_cli.migrate.files import read_rollbacks
from tenantry_cli.migrate.place import bring_up, read_state, roll_back
from tenantry_cli.migrate.saved import list_saved, recover
from tenantry_cli.migrate.statements import split_statements
from tenantry_cli.migrate.tenant_plane import create_tenant_schema, tenant_migrations
from tenantry_cli.project import find_project
from tenantry_cli.testing import Database

PROJECT = find_project()
ROLLBACKS = PROJECT.root / "supabase" / "rollbacks"

Connection = psycopg.Connection[Any]
NewDatabase = Callable[[], Database]

TAKEN_BACK = ("private.table_permissions", "private.tenant_tables")
_KILL = "select pg_terminate_backend(pg_backend_pid())"


@pytest.fixture(scope="module")
def migrations() -> list[Migration]:
    return read_migrations(PROJECT.migrations)


@pytest.fixture(scope="module")
def rollbacks(migrations: list[Migration]) -> dict[str, Migration]:
    return read_rollbacks(ROLLBACKS, migrations)


def take_back(
    connection: Connection,
    migrations: list[Migration],
    rollbacks: dict[str, Migration],
    *,
    to: str = "0",
    schema: str | None = None,
) -> None:
    state = read_state(connection, [schema] if schema else [])
    ledger = state.schemas[schema] if schema else state.ledger
    undo = [(one, rollbacks[one.version]) for one in ledger.applied_after(to, migrations)]
    roll_back(connection, schema, undo, [one for one in migrations if one.version <= to])


def contents(connection: Connection, schemas: tuple[str, ...]) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    tables = connection.execute(
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any (%s) and c.relkind in ('r', 'p') and not c.relispartition",
        (list(schemas),),
    ).fetchall()
    return {
        f"{schema}.{name}": [
            row[0]
            for row in connection.execute(
                sql.SQL("select t::text from {} t order by 1").format(sql.Identifier(schema, name))
            )
        ]
        for schema, name in tables
    }


def seed(connection: Connection) -> None:
    with connection.transaction():
        for statement in split_statements(PROJECT.seed.read_text(encoding="utf-8")):
            connection.execute(sql.SQL(statement))


def test_each_migration_has_a_rollback_of_the_same_name(
    migrations: list[Migration], rollbacks: dict[str, Migration]
) -> None:
    assert [one.label for one in migrations] == [one.label for one in rollbacks.values()]


@pytest.mark.slow
def test_the_files_are_current_and_each_leaves_what_was_there_before(
    new_empty_database: NewDatabase,
    migrations: list[Migration],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(PROJECT.root / "tools")
    from generate_rollbacks import generate

    assert "generate_rollbacks" in sys.modules
    with new_empty_database().connect() as connection:
        # Compares the catalog after each rollback with that before its migration, or raises.
        texts = generate(connection, migrations, ROLLBACKS)
    outdated = [
        path.name for path, text in texts.items() if path.read_text(encoding="utf-8") != text
    ]
    assert outdated == []


@pytest.mark.slow
def test_rows_survive_all_the_way_down_and_up(
    new_empty_database: NewDatabase, migrations: list[Migration], rollbacks: dict[str, Migration]
) -> None:
    with new_empty_database().connect(autocommit=True) as connection:
        bare = read_facts(connection)
        apply_migrations(connection, migrations)
        fresh = read_facts(connection)
        seed(connection)
        before = contents(connection, SHARED_SCHEMAS)
        assert len(before["public.messages"]) > 10

        take_back(connection, migrations, rollbacks)
        assert read_facts(connection) == bare
        saved = list_saved(connection)
        rows = {table.source: table.rows for one in saved for table in one.tables}
        assert rows == {
            name: len(found)
            for name, found in before.items()
            # Their rows are of other files, which took them back.
            if found and name not in TAKEN_BACK
        }
        for one in saved:
            found = connection.execute(
                "select bool_and(c.relrowsecurity), bool_or(c.relacl is not null and exists ("
                " select from aclexplode(c.relacl) a where a.grantee <> c.relowner))"
                " from pg_class c where c.relnamespace = to_regnamespace(%s) and c.relkind = 'r'",
                (one.schema,),
            ).fetchone()
            assert found == (True, False)

        apply_migrations(connection, migrations)
        assert read_facts(connection) == fresh
        report = [
            line
            for one in migrations
            if any(s.version == one.version for s in saved)
            for line in recover(connection, one.version)
        ]
        assert not any(line.missing for line in report)
        assert {line.source: line.put_back + line.kept for line in report} == rows
        after = contents(connection, SHARED_SCHEMAS)
        # The templates that the migration ships get new ids each time, and their codes are unique.
        shipped = "public.permission_templates"
        assert len(after.pop(shipped)) == len(before.pop(shipped))
        assert after == before
        kept = {line.source: line.kept for line in report if line.kept}
        assert set(kept) == {shipped}
        # Once more changes nothing.
        recover(connection, "20261121000500")
        assert contents(connection, ("public",))["public.customers"] == before["public.customers"]


def test_a_schema_goes_down_and_up_beside_the_pooled_tables(
    database: Database, migrations: list[Migration], rollbacks: dict[str, Migration]
) -> None:
    schema = "tenant_" + "a1" * 16
    tenant_files = tenant_migrations(migrations)
    with database.connect(autocommit=True) as connection:
        with connection.transaction():
            create_tenant_schema(connection, schema, migrations)
        seed(connection)
        pooled = schema_hashes(connection, SHARED_SCHEMAS)
        fresh = schema_hashes(connection, [schema])
        known = contents(connection, ("private",))
        with connection.transaction():
            connection.execute("set local session_replication_role = replica")
            connection.execute(
                sql.SQL(
                    "insert into {}.idempotency_keys (business_id, key, request_hash, result) "
                    "select id, 'one', '', '{{}}' from public.businesses limit 1"
                ).format(sql.Identifier(schema))
            )
        rows = contents(connection, (schema,))

        take_back(connection, tenant_files, rollbacks, schema=schema)
        left = connection.execute(
            "select array_agg(c.relname::text) from pg_class c where c.relkind in ('r', 'p', 'v')"
            " and c.relnamespace = to_regnamespace(%s)",
            (schema,),
        ).fetchone()
        assert left == (["schema_migrations"],)
        assert schema_hashes(connection, SHARED_SCHEMAS) == pooled
        # What the pooled tables need of the registry of tables is still there.
        assert contents(connection, ("private",)) == known

        bring_up(connection, schema, tenant_files)
        assert schema_hashes(connection, [schema]) == fresh
        report = recover(connection, "20261121000400")
        assert [(line.source, line.put_back) for line in report] == [
            (f"{schema}.idempotency_keys", 1)
        ]
        restored = contents(connection, (schema,))
        del rows[f"{schema}.schema_migrations"], restored[f"{schema}.schema_migrations"]
        assert restored == rows


def test_recovering_what_points_to_missing_rows_is_refused(
    new_empty_database: NewDatabase, migrations: list[Migration], rollbacks: dict[str, Migration]
) -> None:
    with new_empty_database().connect(autocommit=True) as connection:
        apply_migrations(connection, migrations)
        seed(connection)
        take_back(connection, migrations, rollbacks, to="20261121000410")
        apply_migrations(connection, migrations)
        with pytest.raises(MigrationError, match="recover the migration that made them first"):
            recover(connection, "20261121000600")
        assert contents(connection, ("public",))["public.conversations"] == []
        for version in ("20261121000430", "20261121000500", "20261121000600"):
            recover(connection, version)
        assert len(contents(connection, ("public",))["public.conversations"]) > 0


def positions(migration: Migration, chosen: random.Random) -> list[int]:
    count = len(migration.statements)
    return sorted({chosen.randint(1, count), count})


@pytest.mark.slow
def test_a_backend_that_dies_leaves_everything_as_it_was(
    new_empty_database: NewDatabase, migrations: list[Migration], rollbacks: dict[str, Migration]
) -> None:
    database = new_empty_database()
    chosen = random.Random(7)

    def fingerprint(connection: Connection) -> tuple[object, ...]:
        hashes = schema_hashes(connection, SHARED_SCHEMAS)
        return hashes, sorted(read_state(connection, []).ledger.versions), list_saved(connection)

    def killed(run: Callable[[Connection], None]) -> None:
        with (
            database.connect(autocommit=True) as connection,
            pytest.raises((StatementError, psycopg.OperationalError)),
        ):
            run(connection)

    def cut(migration: Migration, position: int) -> Migration:
        statements = (*migration.statements[:position], _KILL)
        return Migration(migration.version, migration.name, statements)

    with database.connect(autocommit=True) as watching:
        for migration in migrations:
            before = fingerprint(watching)
            for position in positions(migration, chosen):
                dying = cut(migration, position)
                killed(lambda connection, dying=dying: bring_up(connection, None, [dying]))  # type: ignore[misc]
            assert fingerprint(watching) == before, migration.label
            bring_up(watching, None, [migration])
        seed(watching)
        for migration in reversed(migrations):
            before = fingerprint(watching)
            undo = rollbacks[migration.version]
            for position in positions(undo, chosen):
                pair = (migration, cut(undo, position))
                killed(lambda connection, pair=pair: roll_back(connection, None, [pair], []))  # type: ignore[misc]
            assert fingerprint(watching) == before, migration.label
            roll_back(watching, None, [(migration, undo)], [])
