"""The places that migrations go to, as the registry of the main database lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from tenantry_cli.migrate.files import MigrationError

Connection = psycopg.Connection[Any]
#: A new connection to a database as its owner, by name; the caller closes it.
Connect = Callable[[str], Connection]

# A fleet's tables may not exist yet: the main database may be about to get them.
_HAS_REGISTRY = "select to_regclass('public.placement_databases') is not null"
_PLACES = """
select case when p.isolation = 'schema' then 'schema' else 'database' end as kind, p.database_name,
  case when p.isolation = 'schema' then p.schema_name end as schema_name, p.organization_id,
  p.state in ('provisioning', 'failed', 'archived') as may_be_missing
from public.organization_placements p
where p.isolation in ('schema', 'database') and p.database_name <> current_database()
union all
select d.kind, d.name, null, null, false from public.placement_databases d
where d.name <> current_database()
order by 2, 3 nulls first
"""
_DATABASES = "select datname, datallowconn from pg_database"


@dataclass(frozen=True)
class Target:
    """One database, or one schema of an organization in a shelf.

    Args:
        kind: main, template, shelf, database (of one organization) or schema (of one organization).
        may_be_missing: its home is being made, was never finished or is archived.
    """

    kind: str
    database: str
    schema: str | None = None
    organization_id: UUID | None = None
    may_be_missing: bool = False

    @property
    def name(self) -> str:
        return f"{self.database}/{self.schema}" if self.schema else self.database

    @property
    def is_tenant(self) -> bool:
        return self.organization_id is not None


@dataclass(frozen=True)
class Targets:
    """All places of a fleet. Databases come before the schemas in them."""

    main: Target
    template: Target | None
    databases: tuple[Target, ...]
    schemas: tuple[Target, ...]
    #: Databases of the server that take no connections: they are opened while they are migrated.
    closed: frozenset[str]

    def all(self) -> list[Target]:
        first = [self.template] if self.template else []
        return [*first, self.main, *self.databases, *self.schemas]

    def schemas_of(self, database: str) -> list[Target]:
        return [one for one in self.schemas if one.database == database]


def read_targets(main: Connection, template_name: str) -> Targets:
    """Every place there is. Raises MigrationError for a home whose database does not exist."""
    row = main.execute("select current_database()").fetchone()
    assert row is not None
    here = Target("main", str(row[0]))
    existing: dict[str, bool] = dict(main.execute(_DATABASES).fetchall())
    template = Target("template", template_name) if template_name in existing else None
    databases: list[Target] = []
    schemas: list[Target] = []
    if main.execute(_HAS_REGISTRY).fetchone() == (True,):
        for found in main.execute(_PLACES).fetchall():
            target = Target(*found)
            if target.may_be_missing and target.database not in existing:
                continue
            if target.kind == "schema":
                schemas.append(target)
            elif target.kind == "template":
                template = target
            else:
                databases.append(target)
    known = {one.database for one in databases} | {here.database}
    if lost := sorted({one.database for one in schemas} - known):
        raise MigrationError(
            f"{', '.join(lost)}: organizations live there, but it is no shelf of "
            "placement_databases: add it, or mend organization_placements"
        )
    closed = frozenset(name for name, is_open in existing.items() if not is_open)
    return Targets(here, template, tuple(databases), tuple(schemas), closed)


def set_open(main: Connection, database: str, is_open: bool) -> None:
    """Let a template be connected to, or not: it can be cloned only while nobody is."""
    main.execute(
        sql.SQL("alter database {} allow_connections {}").format(
            sql.Identifier(database), sql.Literal(is_open)
        )
    )
