"""The migration runner against a real Postgres."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from tenantry_cli.migrate import (
    Applied,
    MigrationError,
    apply_migrations,
    plan_migrations,
    read_migrations,
)
from tenantry_cli.migrate import runner as runner_module
from tenantry_cli.testing import Database

from .conftest import Write

TWO = {
    "20260101000000_platform_one.sql": "create table one (id int);\ninsert into one values (1);",
    "20260102000000_tenant_two.sql": "create table two (id int);",
}


def migrate(database: Database, directory: Path, **options: bool) -> list[Applied]:
    with database.connect() as connection:
        return apply_migrations(connection, read_migrations(directory), **options)


def ledger(database: Database) -> list[tuple[str, str, list[str]]]:
    with database.connect() as connection:
        return connection.execute(
            "select version, name, statements from supabase_migrations.schema_migrations order by 1"
        ).fetchall()


def tables(database: Database) -> set[str]:
    with database.connect() as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        return {name for (name,) in rows}


def test_pending_files_are_applied_in_order_once(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(TWO)
    done = migrate(empty_database, directory)
    assert [one.migration.version for one in done] == ["20260101000000", "20260102000000"]
    assert ledger(empty_database) == [
        (
            "20260101000000",
            "platform_one",
            ["create table one (id int)", "insert into one values (1)"],
        ),
        ("20260102000000", "tenant_two", ["create table two (id int)"]),
    ]
    assert migrate(empty_database, directory) == []
    with empty_database.connect() as connection:
        assert connection.execute("select count(*) from one").fetchone() == (1,)


def test_it_runs_as_the_owner_who_is_no_superuser_with_a_safe_search_path(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(
        {
            "1_platform_probe.sql": """
              create table probe as
                select current_user as who, usesuper, current_setting('search_path') as path
                from pg_user where usename = current_user;
              create function captured() returns int language sql set search_path from current
                as 'select 1';
            """
        }
    )
    migrate(empty_database, directory)
    with empty_database.connect() as connection:
        assert connection.execute("select * from probe").fetchone() == (
            "postgres",
            False,
            "public, extensions, pg_temp",
        )
        assert connection.execute(
            "select proconfig from pg_proc where proname = 'captured'"
        ).fetchone() == (["search_path=public, extensions, pg_temp"],)


def test_a_failing_file_leaves_nothing_and_the_earlier_ones_stay(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(
        {
            **TWO,
            "20260103000000_platform_bad.sql": (
                "create table three (id int);\n"
                "insert into three values (1);\n"
                "insert into three\n  values ('seven');\n"
            ),
            "20260104000000_platform_never.sql": "create table four (id int);",
        }
    )
    with pytest.raises(MigrationError) as failure:
        migrate(empty_database, directory)
    message = str(failure.value)
    assert "20260103000000_platform_bad.sql, statement 3: invalid input syntax" in message
    assert "sqlstate: 22P02" in message
    assert "at line 2 of the statement:   values ('seven')" in message
    assert "nothing of this file was applied" in message
    assert tables(empty_database) == {"one", "two"}
    assert [version for version, _, _ in ledger(empty_database)] == [
        "20260101000000",
        "20260102000000",
    ]


def test_two_runs_at_once_apply_each_file_once(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(
        {"1_platform_slow.sql": "select pg_sleep(0.5); create table slow (id int);"}
    )
    barrier = threading.Barrier(4)
    results: list[int] = []
    waits: list[int] = []

    def run() -> None:
        with empty_database.connect() as connection:
            barrier.wait()
            done = apply_migrations(
                connection, read_migrations(directory), on_wait=lambda: waits.append(1)
            )
            results.append(len(done))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 0, 0, 1]
    assert len(waits) == 3
    assert len(ledger(empty_database)) == 1


def test_a_table_in_use_makes_it_give_up_instead_of_queueing(
    empty_database: Database, write_migrations: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_database, write_migrations(TWO))
    monkeypatch.setattr(runner_module, "LOCK_TIMEOUT", "200ms")
    directory = write_migrations({"20260103000000_platform_x.sql": "alter table one add y int;"})
    with empty_database.connect() as reader:
        reader.execute("select * from one")
        with pytest.raises(MigrationError, match="lock timeout"):
            migrate(empty_database, directory)
    assert len(migrate(empty_database, directory)) == 1


def test_a_dead_runner_leaves_nothing_locked(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations({"1_platform_slow.sql": "create table t(); select pg_sleep(60);"})
    connection = empty_database.connect()
    backend = connection.info.backend_pid

    def kill_when_busy() -> None:
        with empty_database.connect("supabase_admin", autocommit=True) as admin:
            busy = "select 1 from pg_stat_activity where pid = %s and query ~ '^select pg_sleep'"
            while admin.execute(busy, (backend,)).fetchone() is None:
                pass
            admin.execute("select pg_terminate_backend(%s)", (backend,))

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    with pytest.raises((MigrationError, psycopg.OperationalError)):
        apply_migrations(connection, read_migrations(directory))
    killer.join()
    connection.close()
    assert tables(empty_database) == set()
    (directory / "1_platform_slow.sql").write_text("create table t();")
    assert len(migrate(empty_database, directory)) == 1


def test_files_that_come_late_are_refused_unless_asked_for(
    empty_database: Database, write_migrations: Write
) -> None:
    migrate(empty_database, write_migrations(TWO))
    directory = write_migrations({"20260101120000_platform_late.sql": "create table late ();"})
    with pytest.raises(MigrationError, match=r"20260101120000_platform_late.*--include-all"):
        migrate(empty_database, directory)
    assert len(migrate(empty_database, directory, include_all=True)) == 1


def test_versions_without_a_file_are_refused(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(TWO)
    migrate(empty_database, directory)
    (directory / "20260101000000_platform_one.sql").unlink()
    with pytest.raises(MigrationError, match="lacks: 20260101000000"):
        migrate(empty_database, directory)


def test_a_file_that_was_edited_after_it_was_applied_is_noticed(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(TWO)
    migrate(empty_database, directory)
    write_migrations({"20260102000000_tenant_two.sql": "create table two (id bigint);"})
    with empty_database.connect() as connection:
        plan = plan_migrations(connection, read_migrations(directory))
    assert [migration.name for migration in plan.changed] == ["tenant_two"]
    assert plan.pending == ()


def test_two_files_of_one_version_are_refused(write_migrations: Write) -> None:
    directory = write_migrations({"1_platform_a.sql": "", "1_tenant_b.sql": ""})
    with pytest.raises(MigrationError, match="share the version 1"):
        read_migrations(directory)


def test_other_files_are_ignored_and_bytes_that_are_not_text_refused(
    write_migrations: Write,
) -> None:
    directory = write_migrations({"notes.sql": "nonsense", "1_platform_a.sql.bak": "nonsense"})
    assert read_migrations(directory) == []
    (directory / "1_platform_a.sql").write_bytes(b"select '\xff'")
    with pytest.raises(MigrationError, match=r"1_platform_a\.sql is not UTF-8"):
        read_migrations(directory)


def command(
    directory: Path, *arguments: str, database: Database
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tenantry_cli", "migrate", *arguments],
        cwd=directory.parents[1],
        env={**os.environ, "TENANTRY_DATABASE_URL": database.url()},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_what_it_did_and_what_is_next(
    empty_database: Database, write_migrations: Write
) -> None:
    directory = write_migrations(TWO)
    before = command(directory, "status", "-o", "json", database=empty_database)
    assert json.loads(before.stdout) == {
        "applied": [],
        "pending": ["20260101000000_platform_one", "20260102000000_tenant_two"],
        "changed": [],
        "unknown": [],
    }
    status = command(directory, "status", database=empty_database)
    assert "2 pending. Next: `tenantry migrate up`." in status.stdout
    up = command(directory, "up", database=empty_database)
    assert up.returncode == 0
    assert "applied 2 migrations" in up.stdout
    assert "applying 20260102000000_tenant_two" in up.stderr
    again = command(directory, "up", "-o", "json", database=empty_database)
    assert json.loads(again.stdout) == {"applied": [], "pending": []}
    write_migrations({"3_platform_bad.sql": "select nonsense"})
    bad = command(directory, "up", "--include-all", database=empty_database)
    assert bad.returncode == 1
    assert 'column "nonsense" does not exist' in bad.stderr
    assert "Traceback" not in bad.stderr
