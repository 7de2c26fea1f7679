"""`tenantry migrate` and Supabase's own CLI leave the same ledger and the same catalog."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tenantry_cli.migrate import apply_migrations, read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import Server, create_database, drop_database
from tenantry_cli.stack.installation import find_programs
from tenantry_cli.stack.programs import find_node
from tenantry_cli.testing import Database

from .conftest import Write

SUPABASE = find_project().node_modules / "supabase" / "dist" / "supabase.js"

pytestmark = pytest.mark.skipif(not SUPABASE.exists(), reason="npm packages are not installed")

# Everything that makes cutting a file into statements hard.
HARD = """-- a comment; with a semicolon
create table public.a (id int, t text default 'x;y');  -- another; one

/* block ; /* nested ; */ */
create function public.f() returns int language sql begin atomic
  select case when true then 1 else 2 end;
end;
create function public.g() returns int language plpgsql as $body$ begin return 1; end; $body$;
insert into public.a values (1, 'it''s;'), (2, e'it\\'s;'), (3, $$;$$);
;
create rule r as on insert to public.a do also (select 1; select 2);
create function public.h() returns text language sql set search_path from current
  as 'select current_user::text';
do $do$ begin execute 'create view public.v as select 1 as "one;two"'; end $do$;
-- the end; really
"""


@pytest.fixture
def two_databases(database_server: Server) -> Iterator[Callable[[str], Database]]:
    """Two equal databases by name: ours and theirs."""
    suffix = secrets.token_hex(4)
    names = {who: f"tenantry_test_{who}_{suffix}" for who in ("ours", "theirs")}
    for name in names.values():
        create_database(database_server, name, with_auth_fallback=True)
    yield lambda who: Database(database_server, names[who])
    for name in names.values():
        drop_database(database_server, name)


def supabase(project: Path, database: Database, *arguments: str) -> str:
    result = subprocess.run(
        [
            *(find_node(), SUPABASE, "--workdir", project, *arguments),
            f"--remote={database.url()}?search_path=public,extensions,pg_temp",
        ],
        env={**os.environ, "SUPABASE_TELEMETRY_DISABLED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def ledger(database: Database) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(
            "select version, name, statements from supabase_migrations.schema_migrations order by 1"
        ).fetchall()


def catalog(database: Database, tmp_path: Path) -> str:
    """The database as pg_dump writes it, without the key it invents for each dump."""
    target = tmp_path / "dump.sql"
    pg_dump = find_programs(os.environ.get("TENANTRY_TEST_POSTGRES_BIN")).path("pg_dump")
    subprocess.run(
        [pg_dump, "--schema-only", "-f", target, database.url("supabase_admin")], check=True
    )
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", target.read_text())


@pytest.mark.parametrize("verb", [("migration", "up"), ("db", "push")])
def test_hard_files_are_cut_alike(
    two_databases: Callable[[str], Database],
    write_migrations: Write,
    tmp_path: Path,
    verb: tuple[str, str],
) -> None:
    directory = write_migrations(
        {"20260101000000_platform_hard.sql": HARD, "20260102000000_tenant_b.sql": "select 1"}
    )
    compare(two_databases, directory, tmp_path, verb)


def test_the_projects_own_migrations_are_applied_alike(
    two_databases: Callable[[str], Database], tmp_path: Path
) -> None:
    directory = tmp_path / "supabase" / "migrations"
    shutil.copytree(find_project().migrations, directory)
    assert list(directory.iterdir())
    compare(two_databases, directory, tmp_path, ("migration", "up"))


def compare(
    two_databases: Callable[[str], Database],
    directory: Path,
    tmp_path: Path,
    verb: tuple[str, str],
) -> None:
    ours, theirs = two_databases("ours"), two_databases("theirs")
    migrations = read_migrations(directory)
    with ours.connect() as connection:
        assert len(apply_migrations(connection, migrations)) == len(migrations)
    supabase(tmp_path, theirs, *verb, "--yes")
    assert ledger(ours) == ledger(theirs)
    assert catalog(ours, tmp_path) == catalog(theirs, tmp_path)
    # Each finds nothing to do where the other has been.
    with theirs.connect() as connection:
        assert apply_migrations(connection, migrations) == []
    before = ledger(ours)
    supabase(tmp_path, ours, *verb, "--yes")
    assert ledger(ours) == before
    listing = supabase(tmp_path, ours, "migration", "list")
    assert all(listing.count(f"`{migration.version}`") == 2 for migration in migrations)
