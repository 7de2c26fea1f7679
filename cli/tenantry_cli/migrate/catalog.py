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


@dataclass(frozen=True, order=True)
class Fact:
    """What one thing in a catalog is called: `table public.calls to anon`, kind `grant`."""

    kind: str
    name: str


Facts = Mapping[Fact, str]


def _read(*names: str) -> bytes:
    directory = files("tenantry_cli.migrate").joinpath("sql")
    return b"".join(directory.joinpath(name).read_bytes() for name in names)


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
            _read("catalog.sql", "facts.sql"),
            {"schemas": list(schemas)},
        ).fetchall()
        rows += connection.execute(_read("database.sql")).fetchall()
        if with_roles:
            rows += connection.execute(_read("roles.sql")).fetchall()
    for kind, name, definition in rows:
        found[Fact(str(kind), str(name))] = str(definition)
    return found


def schema_hashes(connection: Connection, schemas: Sequence[str]) -> dict[str, str]:
    """A hash of the catalog of each schema, in one query; equal for schemas made by equal files."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        rows = connection.execute(
            _read("catalog.sql", "hashes.sql"), {"schemas": list(schemas)}
        ).fetchall()
    return {str(schema): str(value) for schema, value in rows}


def shared_hash(hashes: Mapping[str, str]) -> str:
    """One hash of what every database of a fleet has, from those of its shared schemas."""
    text = "\n".join(f"{name} {hashes.get(name, '')}" for name in SHARED_SCHEMAS)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
