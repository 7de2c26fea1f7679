"""`tenantry migrate` on a fleet: what it prints, how it ends, and a file with everything in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenantry_cli.stack.database import Server

from .small_fleet import CHANGE, CHANGE_VERSION, TAKE_BACK, SmallFleet, small_fleet

CHANGE_FILE = f"{CHANGE_VERSION}_tenant_change.sql"


def command(fleet: SmallFleet, *arguments: str, status: int = 0) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "tenantry_cli", "migrate", *arguments],
        cwd=fleet.directory.parent,
        env={**os.environ, "TENANTRY_DATABASE_URL": fleet.server.url(fleet.main)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + (result.stderr if status else "")


def asked(fleet: SmallFleet, *arguments: str, status: int = 0) -> Any:
    return json.loads(command(fleet, *arguments, "-o", "json", status=status))


@pytest.mark.slow
def test_a_fleet_from_the_command_line(database_server: Server, tmp_path: Path) -> None:
    directory = tmp_path / "supabase"
    with small_fleet(
        database_server, directory, shelves=1, schemas_per_shelf=2, databases=1
    ) as fleet:
        fleet.add(CHANGE_FILE, CHANGE, TAKE_BACK)
        would = asked(fleet, "up", "--all", "--dry-run")
        assert len(would["would_change"]) == 6
        assert "6 places changed, 0 failed" in command(fleet, "up", "--all")
        assert asked(fleet, "up", "--all")["changed"] == []
        targets = asked(fleet, "status", "--all")["targets"]
        assert {(one["state"], one["drifted"]) for one in targets} == {("current", False)}
        assert "current" in command(fleet, "status", "--all")

        # One database has rows in what goes.
        with fleet.connect(fleet.main) as main:
            main.execute(
                "insert into notes (id, body, colour) values (1, 'a', 'red'), (2, 'b', null)"
            )
        refused = command(fleet, "rollback", "20260101000002", "--all", status=1)
        assert f"later migrations are built on 20260101000002: {CHANGE_VERSION}" in refused
        assert "only one of them" in command(
            fleet, "rollback", "--to", "0", "--steps", "1", status=1
        )
        back = asked(fleet, "rollback", CHANGE_VERSION, "--all")
        assert len(back["changed"]) == 6
        assert all("labels.id" not in columns for columns in fleet.columns().values())
        assert "6 places are behind" in command(fleet, "status", "--all")
        assert command(fleet, "saved") == "nothing was saved\n"

        # The main database alone.
        command(fleet, "up")
        label = CHANGE_FILE.removesuffix(".sql")
        assert command(fleet, "rollback", "--dry-run") == f"would take back {label}\n"
        assert asked(fleet, "rollback") == {"taken_back": [label]}
        assert "no rows were saved" in command(fleet, "recover", CHANGE_VERSION, status=1)
        assert "error: no rollback for" in command(fleet, "rollback", status=1)


def test_a_place_that_fails_ends_with_status_1(database_server: Server, tmp_path: Path) -> None:
    with small_fleet(
        database_server, tmp_path / "supabase", shelves=1, schemas_per_shelf=1, databases=1
    ) as fleet:
        fleet.add(CHANGE_FILE, CHANGE, TAKE_BACK)
        with fleet.connect(fleet.databases[0][0]) as connection:
            connection.execute("alter table notes add column colour integer")
        told = command(fleet, "up", "--all", status=1)
        assert f"failed {fleet.databases[0][0]}" in told
        assert 'column "colour" of relation "notes" already exists' in told
        targets = {one["target"]: one for one in asked(fleet, "status", "--all")["targets"]}
        assert targets[fleet.databases[0][0]]["state"] == "failed"


FIRST = """
create table public.kinds (code text primary key, label text not null);
insert into public.kinds values ('a', 'First'), ('b', 'Second');
create table public.items (
  id bigint generated always as identity primary key, kind text not null, size integer not null);
create function public.size_of(item bigint) returns integer language sql stable set search_path = ''
  as 'select size from public.items where id = item';
comment on function public.size_of(bigint) is 'Its size.';
revoke execute on function public.size_of(bigint) from public;
create view public.sizes as select kind, sum(size) as total from public.items group by kind;
"""
# Changes everything of the first file that a file can change.
SECOND = """
create or replace function public.size_of(item bigint) returns integer
  language sql stable set search_path = ''
  as 'select size * 2 from public.items where id = item';
comment on function public.size_of(bigint) is 'Twice its size.';
grant execute on function public.size_of(bigint) to authenticated;
alter table public.items add column note text;
alter table public.items add constraint items_size check (size > 0);
alter table public.items enable row level security;
create index items_kind_idx on public.items (kind);
create policy items_select on public.items for select to authenticated using (true);
grant select (id, note) on public.items to authenticated;
insert into public.kinds values ('c', 'Third');
update public.kinds set label = 'The first' where code = 'a';
delete from public.kinds where code = 'b';
create table public.extras (item bigint primary key references public.items, text text);
drop index public.items_kind_idx;
"""


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Any:
    from tenantry_cli.project import find_project

    monkeypatch.syspath_prepend(find_project().root / "tools")
    import generate_rollbacks

    return generate_rollbacks


def test_the_generator_takes_back_changes_of_what_others_made(
    generator: Any, new_empty_database: Any, tmp_path: Path
) -> None:
    from tenantry_cli.migrate import read_migrations
    from tenantry_cli.migrate.files import read_rollbacks
    from tenantry_cli.migrate.place import bring_up, roll_back
    from tenantry_cli.migrate.saved import list_saved, recover

    for name, text in (("1_platform_first", FIRST), ("2_platform_second", SECOND)):
        (tmp_path / f"{name}.sql").write_text(text)
    migrations = read_migrations(tmp_path)
    database = new_empty_database()
    target = tmp_path / "rollbacks"
    target.mkdir()
    with database.connect() as connection:
        for path, text in generator.generate(connection, migrations, target).items():
            path.write_text(text)
    rollbacks = read_rollbacks(target, migrations)
    with database.connect(autocommit=True) as connection:
        connection.execute("delete from supabase_migrations.schema_migrations")
        bring_up(connection, None, migrations)
        connection.execute(
            "insert into items (kind, size, note) values ('a', 3, 'red'), ('a', 4, null)"
        )
        connection.execute("insert into extras values (1, 'more')")
        roll_back(connection, None, [(migrations[1], rollbacks["2"])], migrations[:1])
        saved = {
            table.name: table.rows for one in list_saved(connection, "2") for table in one.tables
        }
        assert saved == {"extras": 1, "items.note": 1}
        kinds = connection.execute("select code, label from kinds order by 1").fetchall()
        assert kinds == [("a", "First"), ("b", "Second")]
        assert connection.execute("select size_of(1)").fetchone() == (3,)
        bring_up(connection, None, migrations[1:])
        report = {one.source: (one.put_back, one.kept) for one in recover(connection, "2")}
        assert report == {"public.extras": (1, 0), "public.items": (1, 0)}
        assert connection.execute("select id, note from items order by 1").fetchall() == [
            (1, "red"),
            (2, None),
        ]
