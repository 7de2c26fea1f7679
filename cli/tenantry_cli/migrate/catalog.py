"""What a database holds, as facts that can be compared: between databases, schemas and moments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

#: The schemas that every database of a fleet has.
SHARED_SCHEMAS = ("public", "private")

_ROLES = """
select 'role', quote_ident(r.rolname), concat_ws(' ', r.rolinherit, r.rolbypassrls, r.rolconfig::text)
from pg_roles r where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'integrator')
"""
# A schema's own name is taken out, so that two schemas made by the same files are equal.
_HASHES = """
select schema, md5(string_agg(entry, e'\\n' order by entry collate "C")) from (
  select schema, concat_ws(e'\\t', kind, case schema when 'public' then name else replace(name, schema, '<home>') end,
    case schema when 'public' then definition else replace(definition, schema, '<home>') end) as entry
  from facts
) entries group by schema
"""


@dataclass(frozen=True, order=True)
class Fact:
    """What one thing in a catalog is called: `table public.calls to anon`, kind `grant`."""

    kind: str
    name: str


Facts = Mapping[Fact, str]


def _read(name: str) -> str:
    return files("tenantry_cli.migrate").joinpath("sql", name).read_text(encoding="utf-8")


def read_facts(
    connection: Connection, schemas: Sequence[str] = SHARED_SCHEMAS, *, with_roles: bool = False
) -> dict[Fact, str]:
    """Everything that migrations make in `schemas` and beside them, with its definition.

    Roles are shared by all databases of a server, so they are asked for apart.
    """
    found: dict[Fact, str] = {}
    with connection.transaction():
        connection.execute("set local search_path = ''")
        rows = connection.execute(
            (_read("catalog.sql") + "select kind, name, definition from facts").encode(),
            {"schemas": list(schemas)},
        ).fetchall()
        rows += connection.execute(_read("database.sql").encode()).fetchall()
        if with_roles:
            rows += connection.execute(_ROLES).fetchall()
    for kind, name, definition in rows:
        found[Fact(str(kind), str(name))] = str(definition)
    return found


def schema_hashes(connection: Connection, schemas: Sequence[str]) -> dict[str, str]:
    """A hash of the catalog of each schema, in one query; equal for schemas made by equal files."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        rows = connection.execute(
            (_read("catalog.sql") + _HASHES).encode(), {"schemas": list(schemas)}
        ).fetchall()
    return {str(schema): str(value) for schema, value in rows}


def shared_hash(hashes: Mapping[str, str]) -> str:
    """One hash of what every database of a fleet has, from those of its shared schemas."""
    text = "\n".join(f"{name} {hashes.get(name, '')}" for name in SHARED_SCHEMAS)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
