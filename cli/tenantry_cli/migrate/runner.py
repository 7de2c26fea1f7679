"""Comparing migration files with a database's ledger, and applying what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tenantry_cli.migrate.execution import run_statements
from tenantry_cli.migrate.files import Migration, MigrationError
from tenantry_cli.migrate.locks import DATABASE_KEY

Connection = psycopg.Connection[TupleRow]

# The ledger of Supabase's CLI, created the way it creates it.
CREATE_LEDGER = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text not null primary key
);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
"""
_READ_LEDGER = """
select version, coalesce(name, ''), coalesce(statements, '{}')
from supabase_migrations.schema_migrations order by version
"""
WRITE_LEDGER = """
insert into supabase_migrations.schema_migrations (version, name, statements) values (%s, %s, %s)
"""

# As the CLI: a migration that cannot get its table locks gives up instead of queueing up traffic.
LOCK_TIMEOUT = "4s"


@dataclass(frozen=True)
class Plan:
    """How the files compare with the ledger, each list oldest first."""

    applied: tuple[Migration, ...]
    pending: tuple[Migration, ...]
    #: Applied, but the file says something else now.
    changed: tuple[Migration, ...]
    #: Versions in the ledger without a file.
    unknown: tuple[str, ...]

    @property
    def late(self) -> tuple[Migration, ...]:
        """Pending files that are older than the newest applied version."""
        newest = max([m.version for m in self.applied] + list(self.unknown), default="")
        return tuple(m for m in self.pending if m.version < newest)


@dataclass(frozen=True)
class Applied:
    """One migration that was applied, and how long it took in seconds."""

    migration: Migration
    seconds: float


def plan_migrations(connection: Connection, migrations: Sequence[Migration]) -> Plan:
    """Compare without changing anything."""
    ledger = _read_ledger(connection)
    return Plan(
        applied=tuple(m for m in migrations if m.version in ledger),
        pending=tuple(m for m in migrations if m.version not in ledger),
        changed=tuple(
            m
            for m in migrations
            if m.version in ledger and ledger[m.version] != (m.name, m.statements)
        ),
        unknown=tuple(sorted(set(ledger) - {m.version for m in migrations})),
    )


def apply_migrations(
    connection: Connection,
    migrations: Sequence[Migration],
    *,
    schema: str = "public",
    include_all: bool = False,
    on_wait: Callable[[], None] = lambda: None,
    on_start: Callable[[Migration], None] = lambda migration: None,
) -> list[Applied]:
    """Apply the pending migrations, each in a transaction of its own with its ledger row.

    Two runs at once are safe: the second waits (after calling `on_wait`) and finds nothing to do.
    `connection` must be idle and log in as the database's owner; tables go to `schema`. Raises
    MigrationError: migrations before the failing one stay applied, nothing of it does.
    """
    connection.autocommit = True
    with _only_run(connection, on_wait):
        connection.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        # Functions capture this path with `set search_path from current`. pg_temp comes last, so
        # that no temporary object can stand in for one of ours.
        connection.execute(
            sql.SQL("set search_path = {}, extensions, pg_temp").format(sql.Identifier(schema))
        )
        with connection.transaction():
            connection.execute(CREATE_LEDGER)
        plan = plan_migrations(connection, migrations)
        _refuse_disorder(plan, include_all)
        done = []
        for migration in plan.pending:
            on_start(migration)
            started = time.monotonic()
            _apply(connection, migration)
            done.append(Applied(migration, time.monotonic() - started))
        return done


def _read_ledger(connection: Connection) -> dict[str, tuple[str, tuple[str, ...]]]:
    exists = connection.execute(
        "select to_regclass('supabase_migrations.schema_migrations') is not null"
    ).fetchone()
    if exists != (True,):
        return {}
    rows = connection.execute(_READ_LEDGER).fetchall()
    return {str(version): (str(name), tuple(statements)) for version, name, statements in rows}


@contextmanager
def _only_run(connection: Connection, on_wait: Callable[[], None]) -> Iterator[None]:
    got_it = connection.execute("select pg_try_advisory_lock(%s)", (DATABASE_KEY,)).fetchone()
    if got_it != (True,):
        on_wait()
        connection.execute("set lock_timeout = 0")
        connection.execute("select pg_advisory_lock(%s)", (DATABASE_KEY,))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(%s)", (DATABASE_KEY,))


def _refuse_disorder(plan: Plan, include_all: bool) -> None:
    if plan.unknown:
        raise MigrationError(
            f"the database has migrations that supabase/migrations lacks: "
            f"{', '.join(plan.unknown)}. Update the checkout, or start afresh with `tenantry reset`"
        )
    if plan.late and not include_all:
        raise MigrationError(
            f"older than the newest applied migration: {', '.join(m.label for m in plan.late)}. "
            "Give them a later time stamp, or apply them anyway with --include-all"
        )


def _apply(connection: Connection, migration: Migration) -> None:
    with connection.transaction() if migration.in_transaction else nullcontext():
        run_statements(connection, migration)
        connection.execute(
            WRITE_LEDGER, (migration.version, migration.name, list(migration.statements))
        )
