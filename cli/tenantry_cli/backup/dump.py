"""Saving and restoring the main database with pg_dump and pg_restore.

The rows of organizations are left out: each has an archive of its own, from which it can be
restored alone, and a database is never written twice.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tenantry_cli.backup.archive import private_file
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.fleet.rows import ACCESS_LISTS
from tenantry_cli.stack.database import Server
from tenantry_cli.stack.installation import find_programs

# Tables whose rows a dump takes: all of the database that are no part of an extension.
_TABLES = """
select n.nspname::text as schema_name, c.relname::text as table_name
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_'
  and n.nspname <> 'information_schema'
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
                  and d.objid = c.oid and d.deptype = 'e')
order by 1, 2
"""
_TENANT_TABLES = """
select c.relname::text as name from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
  and (c.relname in (select table_name from private.tenant_tables) or c.relname = %s
    or exists (select from pg_inherits i join pg_class p on p.oid = i.inhparent
               where i.inhrelid = c.oid
                 and p.relname in (select table_name from private.tenant_tables)))
order by 1
"""


def dump_main(fleet: Fleet, path: Path) -> dict[str, int]:
    """Dump the main database into a new file; returns the rows of each table that is in it.

    Raises BackupError, also where the file holds other rows than the database did: a role that is
    under row security dumps none of them and says nothing.
    """
    with fleet.connect() as main, main.transaction():
        main.execute("set transaction isolation level repeatable read read only")
        _require_all_rows(main)
        left_out = {row["name"] for row in main.execute(_TENANT_TABLES, (ACCESS_LISTS,))}
        snapshot = main.execute("select pg_export_snapshot() as id").fetchone()
        assert snapshot is not None
        options = [f"--snapshot={snapshot['id']}", "--format=custom", "--no-password"]
        options += [f"--exclude-table-data=public.{name}" for name in sorted(left_out)]
        with private_file(path) as output:
            _run(
                fleet.server, "pg_dump", [*options, f"--dbname={_address(fleet)}"], output.fileno()
            )
            os.fsync(output.fileno())
        expected = {}
        for row in main.execute(_TABLES).fetchall():
            if row["schema_name"] == "public" and row["table_name"] in left_out:
                continue
            name = sql.Identifier(row["schema_name"], row["table_name"])
            count = main.execute(sql.SQL("select count(*) as rows from {}").format(name)).fetchone()
            assert count is not None
            expected[f"{row['schema_name']}.{row['table_name']}"] = int(count["rows"])
    require_rows(path, expected)
    return expected


def require_rows(path: Path, expected: dict[str, int]) -> None:
    """Raises BackupError unless a dump holds as many rows of each table as expected."""
    found = rows_in_dump(path)
    for name, rows in expected.items():
        if found.get(name, 0) != rows:
            raise BackupError(
                f"{path}: {name} has {found.get(name, 0)} rows in the dump and {rows} in the "
                "database: dump as a role that bypasses row security (postgres), and again"
            )


def rows_in_dump(path: Path) -> dict[str, int]:
    """How many rows of each table a dump holds, by reading it whole."""
    counts: dict[str, int] = {}
    table: str | None = None
    with _reading(path) as lines:
        for line in lines:
            if table is not None:
                if line == b"\\.\n":
                    table = None
                else:
                    counts[table] += 1
            elif line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
                name = line[5:].split(b" (")[0].split(b" FROM stdin")[0]
                table = name.decode().replace('"', "")
                counts[table] = 0
    return counts


def restore_dump(server: Server, path: Path, database: str) -> None:
    """Restore a dump into an empty database, as the superuser. Raises BackupError."""
    major = find_programs().major
    with server.administer(database) as connection:
        there = connection.info.server_version // 10000
    if there != major:
        raise BackupError(
            f"the server is Postgres {there} and pg_restore is {major}: set TENANTRY_POSTGRES_BIN "
            f"to the programs of Postgres {there}"
        )
    address = _without_password(server, database, server.administrator)
    options = ["--exit-on-error", "--no-password", f"--dbname={address}", str(path)]
    _run(server, "pg_restore", options, subprocess.DEVNULL, server.administrator)


def _require_all_rows(main: Connection) -> None:
    row = main.execute(
        "select rolsuper or rolbypassrls as sees_all, rolname from pg_roles "
        "where rolname = current_user"
    ).fetchone()
    if not (row and row["sees_all"]):
        raise BackupError(
            f"the role {row['rolname'] if row else '?'} is under row security and would save "
            "nothing: log in as postgres, or another role with BYPASSRLS"
        )


def _address(fleet: Fleet) -> str:
    return _without_password(fleet.server, fleet.main, "postgres")


def _without_password(server: Server, database: str, user: str) -> str:
    """A connection string for a command line, which everybody on the machine may read."""
    return psycopg.conninfo.make_conninfo(
        host=server.host, port=server.port, user=user, dbname=database, **server.options
    )


def _run(
    server: Server, program: str, options: Sequence[str], output: int, user: str = "postgres"
) -> None:
    done = subprocess.run(  # noqa: S603
        [find_programs().path(program), *options],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        env=_environment(server.passwords[user]),
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{program} failed: {done.stderr.decode(errors='replace').strip()}")


def _environment(password: str | None = None) -> dict[str, str]:
    # PG* variables of the caller must not lead elsewhere.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**own, "PGPASSWORD": password} if password else own


@contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    with subprocess.Popen(  # noqa: S603
        [find_programs().path("pg_restore"), "--data-only", "--file=-", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield iter(process.stdout)
        reason = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise BackupError(f"{path} is damaged: {reason}")
