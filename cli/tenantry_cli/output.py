"""What all commands print with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from tenantry_cli.errors import TenantryError

#: Results go to standard output, everything about the way there to standard error.
console = Console(highlight=False, soft_wrap=True)
progress = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(StrEnum):
    """How a command prints its result."""

    pretty = "pretty"
    env = "env"
    json = "json"


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the command with one readable message instead of a traceback."""
    try:
        yield
    except TenantryError as error:
        fail(str(error))
    except psycopg.OperationalError as error:
        fail(f"cannot reach the database: {str(error).strip()}")


def fail(message: str) -> None:
    """Print `message` as an error and end the command with status 1."""
    progress.print("[red]error:[/red] ", end="")
    progress.print(message, markup=False)
    raise typer.Exit(1)


def print_whole(table: Table) -> None:
    """Print a table as wide as it is: a folded one can be neither searched nor copied from."""
    Console(highlight=False, width=10_000).print(table)


def is_terminal() -> bool:
    """Whether someone may answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()
