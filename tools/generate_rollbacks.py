"""Write supabase/rollbacks/: for each migration the file that takes it back.

    python tools/generate_rollbacks.py [--check] [--migrations FOLDER] [--rollbacks FOLDER]

Applies the migrations one by one in a throw-away Postgres, compares the catalog before and after
each, and then proves the result: runs all files backwards and compares the catalog after each with
what it was. What cannot be known from the catalog alone (roles, extensions, default privileges) is
written by hand at the end of the file and kept. With --check nothing is written, and the exit
status is 1 when a file would change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rollbacks.differences import Comparison, Moment, Table
from rollbacks.files import rollback_text, written_by_hand
from rollbacks.objects import read_objects

from tenantry_cli.migrate import Migration, apply_migrations, read_migrations
from tenantry_cli.migrate.catalog import Facts, read_facts
from tenantry_cli.migrate.statements import split_statements
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import create_database
from tenantry_cli.testing import throwaway_server

Connection = psycopg.Connection[Any]

_TABLES = """
select quote_ident(n.nspname) || '.' || quote_ident(c.relname),
  array(select quote_ident(a.attname)
    from pg_index i cross join unnest(i.indkey) with ordinality k(number, place)
    join pg_attribute a on a.attnum = k.number and a.attrelid = c.oid
    where i.indrelid = c.oid and i.indisprimary order by k.place),
  array(select quote_ident(a.attname) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and a.attgenerated = '' order by a.attnum),
  exists (select from pg_constraint k where k.contype = 'f' and k.confrelid = c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'private') and c.relkind in ('r', 'p')
  and not c.relispartition order by 1
"""
# Larger tables are filled by their own file alone.
_MOST_ROWS = 2000


def read_moment(connection: Connection) -> Moment:
    """All that is compared."""
    tables = {}
    for name, key, columns, is_referenced in connection.execute(_TABLES).fetchall():
        table = sql.SQL(name)
        limited = sql.SQL("select count(*) from (select from {} limit {}) t")
        found = connection.execute(limited.format(table, _MOST_ROWS + 1)).fetchone()
        if not key or (found and found[0] > _MOST_ROWS):
            continue
        listed = sql.SQL(", ").join(sql.SQL(f"{one}::text") for one in columns)
        rows = [
            dict(zip(columns, row, strict=True))
            for row in connection.execute(sql.SQL("select {} from {}").format(listed, table))
        ]
        tables[name] = Table(
            tuple(key), {tuple(row[one] for one in key): row for row in rows}, is_referenced
        )
    facts = read_facts(connection, with_roles=True)
    return Moment(facts, read_objects(connection), tables)


def generate(
    connection: Connection, migrations: list[Migration], directory: Path
) -> dict[Path, str]:
    """The text of each file, from a database without migrations. Raises ValueError."""
    connection.autocommit = True
    texts: dict[Path, str] = {}
    moments = [read_moment(connection)]
    platform: set[str] = set()
    for index, migration in enumerate(migrations, 1):
        apply_migrations(connection, migrations[:index])
        moments.append(read_moment(connection))
        path = directory / f"{migration.label}.sql"
        tenant = migration.is_tenant
        added = moments[-1].objects.added_since(moments[-2].objects)
        if not tenant:
            platform |= {
                one.identity.split("(")[0].rpartition(".")[2]
                for one in added
                if one.schema == "public"
            }
        undo = Comparison(*moments[-2:], tenant=tenant, platform=platform).undo()
        by_hand = written_by_hand(path)
        if undo.by_hand and not by_hand:
            listed = "\n  ".join(undo.by_hand)
            raise ValueError(f"{path.name}: write by hand what takes back\n  {listed}")
        texts[path] = rollback_text(migration, undo, by_hand)
    _prove(connection, migrations, texts, directory, [moment.facts for moment in moments])
    return texts


def _prove(
    connection: Connection,
    migrations: list[Migration],
    texts: dict[Path, str],
    directory: Path,
    facts: list[Facts],
) -> None:
    for index in range(len(migrations) - 1, -1, -1):
        migration = migrations[index]
        with connection.transaction():
            connection.execute("set local search_path = public, extensions, pg_temp")
            for statement in split_statements(texts[directory / f"{migration.label}.sql"]):
                try:
                    connection.execute(sql.SQL(statement))
                except psycopg.Error as error:
                    raise ValueError(
                        f"the rollback of {migration.label}: {error}\n{statement}"
                    ) from error
        if left := differences(facts[index], read_facts(connection, with_roles=True)):
            raise ValueError(f"the rollback of {migration.label} leaves\n  " + "\n  ".join(left))


def differences(expected: Facts, found: Facts) -> list[str]:
    """One line for each fact that is not as expected."""
    return [
        f"{fact.kind} {fact.name}: {found.get(fact)!r} instead of {expected.get(fact)!r}"
        for fact in sorted(set(expected) | set(found))
        if expected.get(fact) != found.get(fact)
    ]


def main() -> int:
    project = find_project()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--migrations", type=Path, default=project.migrations)
    parser.add_argument("--rollbacks", type=Path, default=project.root / "supabase" / "rollbacks")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    options = parser.parse_args()
    with throwaway_server() as server:
        create_database(server, "rollbacks", with_auth_fallback=True)
        with server.connect("rollbacks") as connection:
            texts = generate(connection, read_migrations(options.migrations), options.rollbacks)
    unwanted = set(options.rollbacks.glob("*.sql")) - texts.keys()
    differing = [
        path
        for path, text in texts.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in sorted(unwanted):
        print(f"{path.name} has no migration")
    for path in differing:
        print(f"{path.name} {'differs' if options.check else 'written'}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
    return 1 if unwanted or (options.check and differing) else 0


if __name__ == "__main__":
    sys.exit(main())
