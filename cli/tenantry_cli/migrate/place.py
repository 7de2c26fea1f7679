"""One place of a fleet: what it has, and bringing it to where it should be, all or nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tenantry_cli.migrate.execution import run_statements
from tenantry_cli.migrate.files import Migration, MigrationError
from tenantry_cli.migrate.runner import CREATE_LEDGER, WRITE_LEDGER
from tenantry_cli.migrate.tenant_plane import checksum, write_ledger

Connection = psycopg.Connection[Any]

_HAS_NEEDS = "select to_regclass('private.compatibility') is not null"
# Supabase's ledger keeps the statements themselves; this is `checksum` of them.
_OWN_LEDGER = sql.SQL("""
select 'supabase_migrations', version, (
  select encode(sha256(coalesce(string_agg(convert_to(s, 'UTF8'), '\\x00' order by n), '')), 'hex')
  from unnest(statements) with ordinality u(s, n))
from supabase_migrations.schema_migrations
""")
_EXISTS = """
select n.nspname from unnest(%s::text[]) n(nspname)
where to_regclass(quote_ident(n.nspname) || '.schema_migrations') is not null
"""


@dataclass(frozen=True)
class Ledger:
    """What a place says it has: the checksum of each applied version."""

    versions: Mapping[str, str]

    @property
    def newest(self) -> str | None:
        return max(self.versions, default=None)

    def pending(self, migrations: Sequence[Migration]) -> list[Migration]:
        return [one for one in migrations if one.version not in self.versions]

    def changed(self, migrations: Sequence[Migration]) -> list[str]:
        """Files that say something else than what was applied."""
        return [
            one.label
            for one in migrations
            if self.versions.get(one.version, checksum(one)) != checksum(one)
        ]

    def applied_after(self, version: str, migrations: Sequence[Migration]) -> list[Migration]:
        """What was applied after `version`, newest first: the order of a rollback."""
        known = {one.version: one for one in migrations}
        newest = sorted((one for one in self.versions if one > version), reverse=True)
        if unknown := [one for one in newest if one not in known]:
            raise MigrationError(
                f"migrations that this checkout lacks were applied: {', '.join(unknown)}: "
                "roll back with the version that has them"
            )
        return [known[one] for one in newest]


@dataclass(frozen=True)
class DatabaseState:
    """What one query tells of a database and the schemas of organizations in it."""

    ledger: Ledger
    schemas: Mapping[str, Ledger]
    #: The oldest code that may work with it: the newest migration that such code knows.
    compatible_from: str


def read_state(connection: Connection, schemas: Sequence[str]) -> DatabaseState:
    """One query where everything is there; a few where something is missing.

    Schemas without a ledger are left out: they do not exist.
    """
    there = ["supabase_migrations", *schemas]
    try:
        rows = connection.execute(_state_query(there, with_needs=True)).fetchall()
    except psycopg.errors.UndefinedTable:
        there = [str(name) for (name,) in connection.execute(_EXISTS, (there,))]
        with_needs = connection.execute(_HAS_NEEDS).fetchone() == (True,)
        query = _state_query(there, with_needs=with_needs)
        rows = connection.execute(query).fetchall() if there or with_needs else []
    versions: dict[str, dict[str, str]] = {name: {} for name in there}
    needed = "0"
    for place, version, value in rows:
        if place is None:
            needed = version
        else:
            versions[place][version] = value
    own = Ledger(versions.pop("supabase_migrations", {}))
    return DatabaseState(own, {name: Ledger(found) for name, found in versions.items()}, needed)


def _state_query(places: Iterable[str], *, with_needs: bool) -> sql.Composed:
    parts: list[sql.Composable] = [
        _OWN_LEDGER
        if place == "supabase_migrations"
        else sql.SQL("select {}, version, checksum from {}.schema_migrations").format(
            sql.Literal(place), sql.Identifier(place)
        )
        for place in places
    ]
    if with_needs:
        parts.append(sql.SQL("select null, compatible_from, null from private.compatibility"))
    return sql.SQL(" union all ").join(parts)


def bring_up(connection: Connection, schema: str | None, pending: Sequence[Migration]) -> None:
    """Apply `pending` to this database, or to one schema of it; `connection` is in autocommit.

    One transaction for all, cut only where a file must run outside of one. Raises StatementError;
    what such a cut committed stays, and its ledger says so.
    """
    _set_path(connection, schema)
    for in_transaction, files in itertools.groupby(pending, lambda one: one.in_transaction):
        with connection.transaction() if in_transaction else nullcontext():
            if schema is None:
                connection.execute(CREATE_LEDGER)
            for migration in files:
                _set_path(connection, schema)
                run_statements(connection, migration)
                _note(connection, schema, migration)
            if schema is None:
                _set_compatibility(
                    connection, "greatest(compatible_from::numeric, %s::numeric)::text", pending
                )


def roll_back(
    connection: Connection,
    schema: str | None,
    undo: Sequence[tuple[Migration, Migration]],
    remaining: Sequence[Migration],
) -> None:
    """Take back, newest first, pairs of a migration and its rollback, in one transaction.

    `remaining` stay applied: what they need of code counts from then on. Raises StatementError.
    """
    place = "supabase_migrations" if schema is None else schema
    forget = sql.SQL("delete from {}.schema_migrations where version = %s").format(
        sql.Identifier(place)
    )
    with connection.transaction():
        for migration, rollback in undo:
            _set_path(connection, schema)
            run_statements(connection, rollback)
            connection.execute(forget, (migration.version,))
        if schema is None:
            _set_compatibility(connection, "%s", remaining)


def _set_path(connection: Connection, schema: str | None) -> None:
    # Functions capture this path with `set search_path from current`. pg_temp comes last, so that
    # no temporary object can stand in for one of ours.
    connection.execute(
        sql.SQL("set search_path = {}, extensions, pg_temp").format(
            sql.Identifier(schema or "public")
        )
    )


def _note(connection: Connection, schema: str | None, migration: Migration) -> None:
    if schema is None:
        connection.execute(
            WRITE_LEDGER, (migration.version, migration.name, list(migration.statements))
        )
    else:
        connection.execute(
            write_ledger(schema), (migration.version, migration.name, checksum(migration))
        )


def _set_compatibility(
    connection: Connection, value: LiteralString, migrations: Sequence[Migration]
) -> None:
    needed = max((one.compatible_from or "0" for one in migrations), default="0", key=int)
    if connection.execute(_HAS_NEEDS).fetchone() == (True,):
        update: LiteralString = "update private.compatibility set compatible_from = "
        connection.execute(update + value, (needed,))
