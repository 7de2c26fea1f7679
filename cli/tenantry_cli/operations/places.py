"""The databases of the fleet, and visiting one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import DictRow, dict_row

from tenantry_cli.errors import TenantryError
from tenantry_cli.project import find_project
from tenantry_cli.stack.control import require_running_stack
from tenantry_cli.stack.home import Home

_CONNECT_SECONDS = 5

Connection = psycopg.Connection[DictRow]


def list_databases(connection: psycopg.Connection[Any]) -> list[str]:
    """This database first, then every other that the registry names, each once, by name."""
    with connection.cursor(row_factory=dict_row) as cursor:
        names = _column(cursor, "select current_database()")
        known = _column(cursor, "select distinct database_name from public.organization_placements")
        if _column(cursor, "select to_regclass('public.placement_databases')") != [None]:
            known += _column(cursor, "select name from public.placement_databases")
    return [*names, *sorted({str(one) for one in known} - {str(one) for one in names})]


def _column(cursor: psycopg.Cursor[DictRow], query: str) -> list[Any]:
    return [next(iter(row.values())) for row in cursor.execute(query.encode())]


@dataclass(frozen=True)
class Fleet:
    """Where the main database is: a connection string whose database name is exchanged."""

    main_url: str

    @classmethod
    def chosen(cls, database_url: str | None) -> Fleet:
        """The fleet of this URL, or of the running local stack. Raises StackError without one."""
        if database_url is not None:
            return cls(database_url)
        return cls(require_running_stack(Home(find_project().home)).server.url())

    def connect(self, database: str | None = None) -> Connection:
        """A new connection to a database, by default the main one, that commits each statement.

        The caller closes it. Raises psycopg.OperationalError.
        """
        parameters: dict[str, Any] = conninfo.conninfo_to_dict(self.main_url)
        parameters.setdefault("connect_timeout", _CONNECT_SECONDS)
        parameters.setdefault("application_name", "tenantry operations")
        if database is not None:
            parameters["dbname"] = database
        return psycopg.connect(**parameters, autocommit=True, row_factory=dict_row)

    def databases(self, only: str | None = None) -> list[str]:
        """All databases of the fleet, or the one asked for. Raises TenantryError for another."""
        with self.connect() as connection:
            names = list_databases(connection)
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
    for name in fleet.databases(only):
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
