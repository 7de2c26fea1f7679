"""What all commands print with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import psycopg
import typer
from rich.console import Console

from tenantry_cli.migrate import MigrationError
from tenantry_cli.project import ProjectError
from tenantry_cli.stack.account import AccountError
from tenantry_cli.stack.control import StackError
from tenantry_cli.stack.database import DatabaseError
from tenantry_cli.stack.home import Busy
from tenantry_cli.stack.installation import PostgresError
from tenantry_cli.stack.ports import PortError
from tenantry_cli.stack.programs import ProgramMissing

#: Results go to standard output, everything about the way there to standard error.
console = Console(highlight=False, soft_wrap=True)
progress = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(StrEnum):
    """How a command prints its result."""

    pretty = "pretty"
    env = "env"
    json = "json"


_EXPECTED = (
    AccountError,
    Busy,
    DatabaseError,
    MigrationError,
    PortError,
    PostgresError,
    ProgramMissing,
    ProjectError,
    StackError,
)


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the command with one readable message instead of a traceback."""
    try:
        yield
    except _EXPECTED as error:
        fail(str(error))
    except psycopg.OperationalError as error:
        fail(f"cannot reach the database: {str(error).strip()}")


def fail(message: str) -> None:
    """Print `message` as an error and end the command with status 1."""
    progress.print("[red]error:[/red] ", end="")
    progress.print(message, markup=False)
    raise typer.Exit(1)


def is_terminal() -> bool:
    """Whether someone may answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()
