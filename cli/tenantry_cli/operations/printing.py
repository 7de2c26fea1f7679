"""How the commands of operations take their options and print what they found."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import typer
from rich.table import Table
from rich.text import Text

from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.fleet.opening import opened_fleet
from tenantry_cli.operations.places import Visited, explain
from tenantry_cli.output import Format, console, fail, plain_errors, print_whole, progress

Database = Annotated[
    str | None, typer.Option("--database", "-d", help="Only this one. Default: all of the fleet.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many rows.")]

Row = dict[str, Any]

_LONGEST_TEXT = 120


@contextmanager
def operating(database_url: str | None, output: Format) -> Iterator[Fleet]:
    """The fleet to work on. Errors end the command with one line."""
    with plain_errors():
        if output is Format.env:
            fail("--output must be pretty or json here")
        try:
            with opened_fleet(database_url) as fleet:
                yield fleet
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            fail(explain(error))


def show(output: Format, rows: Sequence[Row], empty: str) -> None:
    """Print rows as a JSON list, or as a table whose headings are the names."""
    if output is Format.json:
        show_json(list(rows))
    elif not rows:
        console.print(empty, markup=False)
    else:
        grid = Table(box=None, pad_edge=False)
        shown = [name for name in rows[0] if _is_telling(name, rows)]
        for name in shown:
            is_number = isinstance(rows[0][name], int | float | Decimal)
            grid.add_column(_heading(name), justify="right" if is_number else "left")
        for row in rows:
            grid.add_row(*(Text(_cell(name, row[name])) for name in shown))
        print_whole(grid)


def _is_telling(name: str, rows: Sequence[Row]) -> bool:
    """Ids are for programs; a column without any value says nothing, nor does the only database."""
    values = {str(row[name]) for row in rows if row[name] not in (None, [])}
    if name in ("database", "database_name") and len(rows) > 1:
        return len(values) > 1
    return bool(values) and not name.endswith("_id")


def show_json(value: Any) -> None:
    """Print a value as JSON; times in ISO 8601, decimal numbers as numbers."""
    console.print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain), markup=False)


def end(visited: Visited) -> None:
    """Say which databases failed; the command then ends with status 1."""
    for name, reason in visited.failed.items():
        progress.print(f"[red]error:[/red] {name}: ", end="")
        progress.print(reason, markup=False)
    if visited.failed:
        raise typer.Exit(1)


def _heading(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_at").replace("_", " ")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    if name.endswith("_bytes"):
        return readable_bytes(int(value))
    # Statements are written by strangers, and over many lines.
    text = " ".join(str(value).split())
    if len(text) > _LONGEST_TEXT:
        text = text[: _LONGEST_TEXT - 1] + "…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def readable_bytes(count: int) -> str:
    """1536 -> 1.5 KiB"""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)
