"""The rows of public.migration_targets: what the last run left behind at each place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from tenantry_cli.migrate.targets import Target

Connection = psycopg.Connection[Any]

REFERENCE_DATABASE = "reference/database"
REFERENCE_SCHEMA = "reference/schema"

_EXISTS = "select to_regclass('public.migration_targets') is not null"
_READ = "select target, version, state, error, attempts, catalog_hash from public.migration_targets"
_WRITE = """
insert into public.migration_targets as t
  (target, kind, database_name, schema_name, organization_id, version, state, error, attempts)
values (%(target)s, %(kind)s, %(database)s, %(schema)s, %(organization)s, %(version)s, %(state)s,
  %(error)s, case when %(error)s::text is null then 0 else 1 end)
on conflict (target) do update set kind = excluded.kind, organization_id = excluded.organization_id,
  version = excluded.version, state = excluded.state, error = excluded.error, updated_at = now(),
  attempts = case when excluded.error is null then 0 else t.attempts + 1 end
"""
_WRITE_HASH = "update public.migration_targets set catalog_hash = %s where target = %s"
_WRITE_REFERENCE = """
insert into public.migration_targets (target, kind, database_name, state, catalog_hash)
values (%s, 'reference', '', 'current', %s)
on conflict (target) do update set catalog_hash = excluded.catalog_hash, updated_at = now()
"""
# The trigger on this table makes every router look again, so only what differs is written.
_WRITE_VERSION = """
update public.organization_placements set schema_version = %s
where organization_id = %s and schema_version is distinct from %s
"""
_FORGET = "delete from public.migration_targets where kind <> 'reference' and target <> all (%s)"


@dataclass(frozen=True)
class Row:
    """What was noted of one place."""

    version: str | None
    state: str
    error: str | None
    attempts: int
    catalog_hash: str | None


def read_rows(main: Connection) -> dict[str, Row]:
    """By the name of the target; empty while the table does not exist."""
    if main.execute(_EXISTS).fetchone() != (True,):
        return {}
    return {str(name): Row(*rest) for name, *rest in main.execute(_READ).fetchall()}


def write_row(
    main: Connection, target: Target, version: str | None, state: str, error: str | None
) -> None:
    """Note how a place was left. Nothing where the table does not exist (yet, or any more)."""
    if main.execute(_EXISTS).fetchone() != (True,):
        return
    main.execute(
        _WRITE,
        {
            "target": target.name,
            "kind": target.kind,
            "database": target.database,
            "schema": target.schema,
            "organization": target.organization_id,
            "version": version,
            "state": state,
            "error": error,
        },
    )
    if target.organization_id is not None:
        main.execute(_WRITE_VERSION, (version, target.organization_id, version))


def write_hashes(
    main: Connection, hashes: Mapping[str, str], references: Mapping[str, str]
) -> None:
    """Note catalogs by the name of their target, and what they should be."""
    if main.execute(_EXISTS).fetchone() != (True,):
        return
    for name, value in references.items():
        main.execute(_WRITE_REFERENCE, (name, value))
    for name, value in hashes.items():
        main.execute(_WRITE_HASH, (value, name))


def forget_others(main: Connection, names: list[str]) -> None:
    """Remove the rows of places that are gone."""
    if main.execute(_EXISTS).fetchone() == (True,):
        main.execute(_FORGET, (names,))


def read_references(main: Connection) -> dict[str, str]:
    """What catalogs should hash to, as the last run noted."""
    references = (REFERENCE_DATABASE, REFERENCE_SCHEMA)
    rows = read_rows(main)
    return {
        name: value
        for name in references
        if name in rows and (value := rows[name].catalog_hash) is not None
    }
