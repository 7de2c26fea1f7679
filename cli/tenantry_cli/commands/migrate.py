"""migrate up, migrate status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import psycopg
import typer
from psycopg.rows import TupleRow
from rich.table import Table

from tenantry_cli.migrate import (
    Applied,
    Migration,
    Plan,
    apply_migrations,
    plan_migrations,
    read_migrations,
)
from tenantry_cli.output import Format, console, fail, plain_errors, progress
from tenantry_cli.project import find_project
from tenantry_cli.stack.control import require_running_stack
from tenantry_cli.stack.home import Home

app = typer.Typer(no_args_is_help=True, help="Apply supabase/migrations to a database.")

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="TENANTRY_DATABASE_URL",
        show_envvar=True,
        help="Which database, logging in as its owner. Default: the running local stack.",
    ),
]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="pretty or json.")]


@app.command()
def up(
    database_url: DatabaseUrl = None,
    include_all: Annotated[
        bool, typer.Option("--include-all", help="Also apply files older than the newest applied.")
    ] = False,
    output: OutputOption = Format.pretty,
) -> None:
    """Apply the pending migrations, each in a transaction of its own."""
    with plain_errors(), _connect(database_url) as connection:
        _refuse_env(output)
        migrations = read_migrations(find_project().migrations)
        done = apply_migrations(
            connection,
            migrations,
            include_all=include_all,
            on_wait=lambda: progress.print("waiting for another run on this database to finish"),
            on_start=lambda migration: progress.print(f"applying {migration.label}"),
        )
        if output is Format.json:
            _print_json({"applied": [_applied_json(one) for one in done], "pending": []})
        elif done:
            seconds = sum(one.seconds for one in done)
            console.print(f"applied {len(done)} migrations in {seconds:.1f} s; nothing is pending")
        else:
            console.print("nothing to do: the database is up to date")


@app.command()
def status(database_url: DatabaseUrl = None, output: OutputOption = Format.pretty) -> None:
    """Compare the files with the database's ledger. Changes nothing."""
    with plain_errors(), _connect(database_url) as connection:
        _refuse_env(output)
        plan = plan_migrations(connection, read_migrations(find_project().migrations))
        if output is Format.json:
            _print_json(
                {
                    "applied": _labels(plan.applied),
                    "pending": _labels(plan.pending),
                    "changed": _labels(plan.changed),
                    "unknown": list(plan.unknown),
                }
            )
        else:
            _print_plan(plan)


def _connect(database_url: str | None) -> psycopg.Connection[TupleRow]:
    if database_url is None:
        stack = require_running_stack(Home(find_project().home))
        return stack.server.connect(autocommit=True)
    return psycopg.connect(database_url, autocommit=True, connect_timeout=10)


def _refuse_env(output: Format) -> None:
    if output is Format.env:
        fail("--output must be pretty or json here")


def _print_json(content: dict[str, object]) -> None:
    console.print(json.dumps(content, indent=2), markup=False)


def _applied_json(one: Applied) -> dict[str, object]:
    return {
        "version": one.migration.version,
        "name": one.migration.name,
        "seconds": round(one.seconds, 3),
    }


def _labels(migrations: Sequence[Migration]) -> list[str]:
    return [migration.label for migration in migrations]


def _print_plan(plan: Plan) -> None:
    table = Table("version", "name", "state", box=None)
    rows = [(m.version, m.name, "applied") for m in plan.applied if m not in plan.changed]
    rows += [(m.version, m.name, "[yellow]changed since applied[/yellow]") for m in plan.changed]
    rows += [(m.version, m.name, "[cyan]pending[/cyan]") for m in plan.pending]
    rows += [(version, "", "[red]no such file here[/red]") for version in plan.unknown]
    for row in sorted(rows):
        table.add_row(*row)
    console.print(table)
    if plan.pending:
        console.print(f"{len(plan.pending)} pending. Next: `tenantry migrate up`.")
    else:
        console.print("nothing is pending")
