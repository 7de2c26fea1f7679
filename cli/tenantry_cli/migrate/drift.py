"""Whether the catalogs of a fleet are what the migrations make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry_cli.migrate.catalog import SHARED_SCHEMAS, schema_hashes, shared_hash
from tenantry_cli.migrate.targets import Connection, Target, Targets
from tenantry_cli.migrate.targets_record import (
    REFERENCE_DATABASE,
    REFERENCE_SCHEMA,
    write_hashes,
)
from tenantry_cli.migrate.tenant_plane import create_tenant_schema

if TYPE_CHECKING:
    from tenantry_cli.migrate.fleet import FleetMigration

#: As long as the names of real ones, so that texts that hold it are wrapped alike.
_SCRATCH = "tenant_" + "0" * 32


class _Undo(Exception):
    """Leaves a transaction that was only to look."""


def note_catalogs(
    fleet: FleetMigration, main: Connection, targets: Targets, databases: Iterable[str]
) -> None:
    """After a run: tell PostgREST of each database that changed, and note the new catalogs."""
    changed = sorted(databases)

    def visit(database: str) -> dict[str, str]:
        with fleet.opened(database, targets) as connection:
            connection.execute("notify pgrst, 'reload schema'")
            return read_hashes(connection, database, targets)

    hashes: dict[str, str] = {}
    with ThreadPoolExecutor(fleet.options.workers) as pool:
        for found in pool.map(visit, changed):
            hashes |= found
    if targets.template and targets.template.database in changed:
        _label_template(fleet, main, targets)
    write_hashes(main, hashes, read_references(fleet, targets))


def read_hashes(connection: Connection, database: str, targets: Targets) -> dict[str, str]:
    """The catalogs of a database and of the schemas in it, by the name of their target."""
    schemas = [one.schema for one in targets.schemas_of(database) if one.schema]
    found = schema_hashes(connection, [*SHARED_SCHEMAS, *schemas])
    own = {f"{database}/{name}": found[name] for name in schemas if name in found}
    return {database: shared_hash(found), **own}


def read_references(fleet: FleetMigration, targets: Targets) -> dict[str, str]:
    """What the catalogs should be: of the template, and of a schema made there and taken back.

    Without a template the main database stands for it, and a shelf for the schemas.
    """
    model = targets.template or targets.main
    references: dict[str, str] = {}
    with fleet.opened(model.database, targets) as connection:
        references[REFERENCE_DATABASE] = shared_hash(schema_hashes(connection, SHARED_SCHEMAS))
        if targets.schemas and targets.template:
            references[REFERENCE_SCHEMA] = _scratch_hash(fleet, connection)
    if targets.schemas and not targets.template:
        with fleet.opened(targets.schemas[0].database, targets) as connection:
            references[REFERENCE_SCHEMA] = _scratch_hash(fleet, connection)
    return references


def has_drifted(target: Target, found: str | None, references: dict[str, str]) -> bool | None:
    """Null where there is nothing to compare with."""
    expected = references.get(REFERENCE_SCHEMA if target.schema else REFERENCE_DATABASE)
    return None if found is None or expected is None else found != expected


def _scratch_hash(fleet: FleetMigration, connection: Connection) -> str:
    hashes: dict[str, str] = {}
    applied = _applied(connection)
    files = [one for one in fleet.migrations if one.version in applied]
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("set local lock_timeout = {}").format(
                    sql.Literal(fleet.options.lock_timeout)
                )
            )
            create_tenant_schema(connection, _SCRATCH, files)
            hashes = schema_hashes(connection, [_SCRATCH])
            raise _Undo
    except _Undo:
        pass
    except psycopg.errors.LockNotAvailable:
        return ""
    return hashes[_SCRATCH]


def _applied(connection: Connection) -> set[str]:
    rows = connection.execute("select version from supabase_migrations.schema_migrations")
    return {str(version) for (version,) in rows}


def _label_template(fleet: FleetMigration, main: Connection, targets: Targets) -> None:
    # Whoever clones it reads there whether it is new enough, without opening it.
    assert targets.template is not None
    name = targets.template.database
    with fleet.opened(name, targets) as connection:
        newest: Sequence[str] = sorted(_applied(connection))
    label = f"migrations up to {newest[-1]}" if newest else ""
    main.execute(
        sql.SQL("comment on database {} is {}").format(sql.Identifier(name), sql.Literal(label))
    )
