"""What a gate is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

#: Our schemas, for a query that names pg_namespace `n`.
OURS = "(n.nspname in ('public', 'private') or n.nspname ~ '^tenant_')"
#: Every role that a request can act as, and `PUBLIC` as the oid 0.
API_ROLES = "('anon', 'authenticated', 'service_role', 'integrator')"


@dataclass(frozen=True)
class Plant:
    """A violation: statements to run (in a transaction that is rolled back) and what is found."""

    statements: str
    finds: str
    #: Roles, extensions and the database itself need the server's superuser.
    as_superuser: bool = False


@dataclass(frozen=True)
class Gate:
    """A query whose rows are violations. The first column says what is wrong."""

    name: str
    #: Why it matters; shown when the gate fails.
    reason: str
    query: str
    plants: tuple[Plant, ...]
    #: Finding -> why it is right all the same. An exception that is not found any more fails.
    allowed: Mapping[str, str] = field(default_factory=dict)


def find(connection: psycopg.Connection[Any], gate: Gate) -> set[str]:
    """All findings of a gate, allowed ones included."""
    query = gate.query.replace("{ours}", OURS).replace("{api_roles}", API_ROLES)
    return {str(row[0]) for row in connection.execute(sql.SQL(query))}
