"""Visiting the databases of the fleet, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection, Fleet, places


def databases_of(fleet: Fleet, only: str | None = None) -> list[str]:
    """The main database, then all others in use, or the one asked for. Raises TenantryError."""
    with fleet.connect() as main:
        names = [fleet.main, *places(main)]
    if only is None:
        return names
    if only not in names:
        raise TenantryError(f"no database {only} in the fleet. There are: {', '.join(names)}")
    return [only]


@dataclass
class Visited:
    """What a visit of the databases brought back, and where it failed."""

    found: dict[str, Any] = field(default_factory=dict)
    #: Database -> why nothing came of it.
    failed: dict[str, str] = field(default_factory=dict)


def visit(fleet: Fleet, work: Callable[[Connection], Any], *, only: str | None = None) -> Visited:
    """`work` in each database in turn. One that fails does not keep the others from being visited.

    Raises psycopg.OperationalError when the main database cannot be reached: it knows the others.
    """
    visited = Visited()
    for name in databases_of(fleet, only):
        try:
            with fleet.connect(name) as connection:
                visited.found[name] = work(connection)
        except psycopg.Error as error:
            visited.failed[name] = explain(error)
    return visited


def explain(error: psycopg.Error) -> str:
    """The error in one line, with what to do where that is known."""
    text = (error.diag.message_primary or str(error)).strip().splitlines()[0]
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"{text}: log in as the owner of the database"
    if isinstance(error, psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedTable):
        return f"{text}: apply the pending migrations there"
    return text
