"""migrate up, status, rollback, saved, recover."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import psycopg
import typer
from psycopg.rows import TupleRow
from rich.table import Table

from tenantry_cli.commands import migrate_fleet
from tenantry_cli.migrate import (
    Applied,
    Migration,
    MigrationError,
    Plan,
    apply_migrations,
    plan_migrations,
    read_migrations,
)
from tenantry_cli.migrate.files import read_rollbacks
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.goal import find_goal
from tenantry_cli.migrate.locks import lock_place
from tenantry_cli.migrate.place import read_state, roll_back
from tenantry_cli.migrate.report import Options
from tenantry_cli.migrate.runner import LOCK_TIMEOUT
from tenantry_cli.migrate.saved import list_saved
from tenantry_cli.migrate.saved import recover as recover_saved
from tenantry_cli.options import DatabaseUrl, OutputOption
from tenantry_cli.output import Format, console, fail, plain_errors, progress
from tenantry_cli.project import find_project
from tenantry_cli.stack.control import require_running_stack
from tenantry_cli.stack.home import Home

app = typer.Typer(no_args_is_help=True, help="Apply supabase/migrations to a database.")


TenantOption = Annotated[
    str | None,
    typer.Option("--tenant", help="Only the place of this organization: its slug or id."),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="The whole fleet: all databases and schemas of organizations.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, max=32, help="Places worked on at once.")
]
CanariesOption = Annotated[
    int,
    typer.Option("--canaries", min=0, help="Tenants that go first; one that fails stops the run."),
]


@app.command()
def up(
    database_url: DatabaseUrl = None,
    tenant: TenantOption = None,
    everywhere: AllOption = False,
    include_all: Annotated[
        bool, typer.Option("--include-all", help="Also apply files older than the newest applied.")
    ] = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = Options.workers,
    canaries: CanariesOption = Options.canaries,
    output: OutputOption = Format.pretty,
) -> None:
    """Apply the pending migrations: to one database, the fleet, or the place of one tenant."""
    with plain_errors():
        _refuse_env(output)
        if everywhere or tenant is not None:
            options = Options(workers=workers, canaries=canaries, include_all=include_all)
            fleet = _fleet(database_url, options)
            key = migrate_fleet.organization_id(fleet, tenant)
            migrate_fleet.run(fleet, lambda: fleet.up(key, dry_run=dry_run), output, dry_run)
            return
        with _connect(database_url) as connection:
            _up_here(connection, include_all, dry_run, output)


def _up_here(
    connection: psycopg.Connection[TupleRow], include_all: bool, dry_run: bool, output: Format
) -> None:
    migrations = read_migrations(find_project().migrations)
    if dry_run:
        pending = _labels(plan_migrations(connection, migrations).pending)
        if output is Format.json:
            _print_json({"applied": [], "pending": pending})
        else:
            console.print("\n".join(pending) or "nothing is pending")
        return
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
def status(
    database_url: DatabaseUrl = None,
    everywhere: AllOption = False,
    drift: Annotated[
        bool, typer.Option("--drift/--no-drift", help="Compare catalogs as well (with --all).")
    ] = True,
    output: OutputOption = Format.pretty,
) -> None:
    """Compare the files with the database's ledger, or with all ledgers. Changes nothing."""
    with plain_errors():
        _refuse_env(output)
        if everywhere:
            migrate_fleet.print_status(_fleet(database_url, Options()), output, drift)
            return
        with _connect(database_url) as connection:
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


@app.command()
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="Take back this one, if it is the newest. Default: it is.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Take back everything after this version; 0 for all.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Take back so many of the newest.")
    ] = None,
    database_url: DatabaseUrl = None,
    tenant: TenantOption = None,
    everywhere: AllOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = Options.workers,
    canaries: CanariesOption = Options.canaries,
    output: OutputOption = Format.pretty,
) -> None:
    """Take back the newest migrations by supabase/rollbacks. Rows that would be lost are saved."""
    with plain_errors():
        _refuse_env(output)
        if version is not None and not version.isdigit():
            raise MigrationError("the version is the number that the file's name begins with")
        fleet = _fleet(database_url, Options(workers=workers, canaries=canaries))
        if everywhere or tenant is not None:
            key = migrate_fleet.organization_id(fleet, tenant)
            applied = migrate_fleet.applied_versions(fleet, key)
            goal = find_goal(applied, fleet.migrations, version=version, to=to, steps=steps)
            migrate_fleet.run(
                fleet, lambda: fleet.rollback(goal, key, dry_run=dry_run), output, dry_run
            )
            return
        with _connect(database_url) as connection:
            ledger = read_state(connection, []).ledger
            applied = sorted(ledger.versions)
            goal = find_goal(applied, fleet.migrations, version=version, to=to, steps=steps)
            undo = fleet.pairs(ledger.applied_after(goal, fleet.migrations))
            if not dry_run:
                if not lock_place(connection, None):
                    raise MigrationError("another run is working on this database")
                connection.execute("select set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
                remaining = [one for one in fleet.migrations if one.version <= goal]
                roll_back(connection, None, undo, remaining)
                connection.execute("notify pgrst, 'reload schema'")
        labels = [migration.label for migration, _ in undo]
        if output is Format.json:
            _print_json({"would_take_back" if dry_run else "taken_back": labels})
        elif labels:
            verb = "would take back" if dry_run else "took back"
            console.print("\n".join(f"{verb} {label}" for label in labels))
        else:
            console.print("nothing to take back")


@app.command()
def saved(database_url: DatabaseUrl = None, output: OutputOption = Format.pretty) -> None:
    """List the rows that rollbacks saved in one database."""
    with plain_errors(), _connect(database_url) as connection:
        _refuse_env(output)
        migrate_fleet.print_saved(list_saved(connection), output)


@app.command()
def recover(
    version: Annotated[str, typer.Argument(help="Of the migration whose rollback saved the rows.")],
    database_url: DatabaseUrl = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="Which copy. Default: the latest of each place.")
    ] = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Put saved rows back, after their migration was applied again and before work goes on."""
    with plain_errors(), _connect(database_url) as connection:
        _refuse_env(output)
        migrate_fleet.print_recovered(recover_saved(connection, version, schema), output)


def _connect(database_url: str | None) -> psycopg.Connection[TupleRow]:
    return psycopg.connect(_url(database_url), autocommit=True, connect_timeout=10)


def _url(database_url: str | None) -> str:
    if database_url is not None:
        return database_url
    return require_running_stack(Home(find_project().home)).server.url()


def _fleet(database_url: str | None, options: Options) -> FleetMigration:
    project = find_project()
    migrations = read_migrations(project.migrations)
    rollbacks = read_rollbacks(project.rollbacks, migrations)
    return migrate_fleet.fleet_of(_url(database_url), migrations, rollbacks, options)


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
