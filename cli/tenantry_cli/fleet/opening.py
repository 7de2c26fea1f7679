"""Which fleet a command works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict

from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.migrate import read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.control import require_running_stack, stack_server
from tenantry_cli.stack.database import Server
from tenantry_cli.stack.home import Home
from tenantry_cli.stack.postgres import SUPERUSER


@contextmanager
def opened_fleet(database_url: str | None, *, prefix: str = "tenantry") -> Iterator[Fleet]:
    """`open_fleet` for one block; its connections are closed afterwards."""
    fleet = open_fleet(database_url, prefix=prefix)
    try:
        yield fleet
    finally:
        fleet.close()


def open_fleet(
    database_url: str | None, *, prefix: str = "tenantry", starting: bool = False
) -> Fleet:
    """The fleet whose main database the URL names (as its owner), or that of the local stack.

    `starting`: also while the stack is not ready yet.
    """
    project = find_project()
    migrations = read_migrations(project.migrations)
    if database_url is None:
        home = Home(project.home)
        server = stack_server(home) if starting else require_running_stack(home).server
        return Fleet(server, "postgres", migrations, prefix)
    parts = conninfo_to_dict(database_url)
    user = str(parts.get("user") or "postgres")
    return Fleet(
        Server.from_url(database_url),
        str(parts.get("dbname") or "postgres"),
        migrations,
        prefix,
        # A superuser only helps: what it made would not belong to the owner.
        owner="postgres" if user == SUPERUSER else user,
    )
