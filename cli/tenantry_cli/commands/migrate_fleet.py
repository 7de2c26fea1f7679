"""What the migrate commands do with a whole fleet, and how they print it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tenantry_cli.migrate import Migration, MigrationError
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.jobs import applied_versions, report_json
from tenantry_cli.migrate.report import Options, Outcome, Report
from tenantry_cli.migrate.saved import Recovered, Saved
from tenantry_cli.migrate.status import Standing, fleet_status
from tenantry_cli.output import Format, console, progress

__all__ = [
    "applied_versions",
    "fleet_of",
    "organization_id",
    "print_recovered",
    "print_saved",
    "print_status",
    "run",
]


def fleet_of(
    url: str,
    migrations: Sequence[Migration],
    rollbacks: dict[str, Migration],
    options: Options,
) -> FleetMigration:
    """The fleet whose main database is at `url`; the others are on the same server."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    main = parts.get("dbname") or parts.get("user") or "postgres"

    def connect(database: str) -> psycopg.Connection[Any]:
        target = make_conninfo(**{**parts, "dbname": database})
        return psycopg.connect(target, connect_timeout=10, application_name="tenantry migrate")

    return FleetMigration(connect, main, migrations, rollbacks, options=options)


def organization_id(fleet: FleetMigration, tenant: str | None) -> str | None:
    """The id of an organization by its slug or id, or that of one of its businesses."""
    if tenant is None:
        return None
    with closing(fleet.connect(fleet.main)) as main:
        try:
            row = main.execute(
                "select private.organization_of_tenant(%s)::text", (tenant.lower(),)
            ).fetchone()
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
            raise MigrationError("this database has no tenants yet: migrate it first") from None
    if row is None or row[0] is None:
        raise MigrationError(
            f"there is no tenant {tenant!r}: give the slug or id of an organization"
        )
    return str(row[0])


def run(fleet: FleetMigration, work: Callable[[], Report], output: Format, dry_run: bool) -> None:
    """Do it with a progress bar, print the report, and end with status 1 where something failed."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=progress, transient=True, disable=dry_run) as bar:
        task = bar.add_task("migrating", total=None)

        def on_outcome(outcome: Outcome) -> None:
            bar.update(task, advance=1, description=outcome.target.name)

        fleet.on_plan = lambda count: bar.update(task, total=count)
        fleet.on_outcome = on_outcome
        report = work()
    if output is Format.json:
        body = report_json(report)
        if dry_run:
            body["would_change"] = body.pop("changed")
        console.print(json.dumps(body, indent=2), markup=False)
    else:
        _print_report(report, dry_run)
    if report.failed or report.stopped:
        raise typer.Exit(1)


def print_status(fleet: FleetMigration, output: Format, with_drift: bool) -> None:
    """One line for each place."""
    standings = fleet_status(fleet, with_drift=with_drift)
    if output is Format.json:
        content = {"targets": [one.as_json() for one in standings]}
        console.print(json.dumps(content, indent=2), markup=False)
        return
    table = Table("target", "kind", "version", "pending", "state", "drift", box=None)
    for one in standings:
        table.add_row(
            one.target.name,
            one.target.kind,
            one.version or "-",
            str(len(one.pending)),
            _state(one),
            {True: "[red]drifted[/red]", False: "no", None: "-"}[one.drifted],
        )
    console.print(table)
    for one in standings:
        if one.error:
            console.print(f"{one.target.name}: {one.error}", markup=False)
    behind = sum(one.state != "current" for one in standings)
    if behind:
        console.print(f"{behind} places are behind. Next: `tenantry migrate up --all`.")


def print_saved(saved: Sequence[Saved], output: Format) -> None:
    """One line for each table that was saved."""
    if output is Format.json:
        console.print(json.dumps([asdict(one) for one in saved], indent=2), markup=False)
        return
    table = Table("migration", "saved in", "rows", "of", "at", box=None)
    for place in saved:
        for one in place.tables:
            source = f"{one.source}.{one.column}" if one.column else one.source
            table.add_row(place.version, place.schema, str(one.rows), source, place.saved_at)
    console.print(table if saved else "nothing was saved")


def print_recovered(recovered: Sequence[Recovered], output: Format) -> None:
    """One line for each table."""
    if output is Format.json:
        console.print(json.dumps([asdict(one) for one in recovered], indent=2), markup=False)
        return
    for one in recovered:
        outcome = (
            "is gone: nothing was put back"
            if one.missing
            else f"{one.put_back} of {one.saved} rows put back"
            + (f", {one.kept} left out: another row has what must be unique" if one.kept else "")
        )
        console.print(f"{one.source}: {outcome}", markup=False)


def _print_report(report: Report, dry_run: bool) -> None:
    listed = [one for one in report.outcomes if one.files] if dry_run else report.changed
    for one in listed if dry_run else []:
        console.print(f"{one.target.name}: {', '.join(one.files)}", markup=False)
    for one in report.failed:
        console.print(f"[red]failed[/red] {one.target.name}", highlight=False)
        console.print(f"  {one.error}", markup=False)
    if report.stopped:
        console.print(f"stopped: {report.stopped}", markup=False)
    left = sum(one.state == "behind" and not one.files for one in report.outcomes)
    verb = "would change" if dry_run else "changed"
    console.print(
        f"{len(listed)} places {verb}, {len(report.failed)} failed, {left} left alone, of "
        f"{len(report.outcomes)} in {report.seconds:.1f} s"
    )
    if report.failed:
        console.print("Mend what failed and run the same again: only those are visited.")


def _state(one: Standing) -> str:
    colour = {"current": "green", "behind": "cyan"}.get(one.state, "red")
    tries = f" ({one.attempts}x)" if one.attempts > 1 else ""
    changed = " [yellow]files changed[/yellow]" if one.changed else ""
    return f"[{colour}]{one.state}[/{colour}]{tries}{changed}"
