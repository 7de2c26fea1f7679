"""tenantry maintenance: what has to be done in time."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tenantry_cli.operations.maintenance import (
    SCHEDULES,
    maintenance_status,
    run_due_maintenance,
    run_maintenance,
)
from tenantry_cli.operations.places import Visited, visit
from tenantry_cli.operations.printing import (
    Database,
    Row,
    end,
    operating,
    show,
)
from tenantry_cli.operations.scheduling import schedule_with_pg_cron, unschedule_with_pg_cron
from tenantry_cli.options import DatabaseUrl, OutputOption
from tenantry_cli.output import Format, console, fail, progress

app = typer.Typer(
    no_args_is_help=True, help="Vacuum, rebuild, clean up and report, daily, weekly and monthly."
)


class Schedule(StrEnum):
    """Which tasks to run."""

    daily = "daily"
    weekly = "weekly"
    monthly = "monthly"


@app.command()
def run(
    schedule: Annotated[
        Schedule | None, typer.Argument(help="Run its tasks now. Default: only what is due.")
    ] = None,
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Run maintenance: whatever is due, or all tasks of a schedule. Status 1 if one failed."""
    with operating(database_url, output) as fleet:
        if schedule is None:
            visited = run_due_maintenance(fleet, only=database)
        else:
            visited = visit(
                fleet,
                lambda connection: run_maintenance(connection, [schedule.value], only_due=False),
                only=database,
            )
        _show_runs(visited, output)


@app.command()
def status(
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Every task: when it last ran, how long it took, whether it is due, what went wrong."""
    with operating(database_url, output) as fleet:
        visited = visit(fleet, maintenance_status, only=database)
        rows: list[Row] = []
        for name, tasks in visited.found.items():
            for task in tasks:
                shown = task if output is Format.json else _without(task, "result", "runs_in")
                rows.append({"database": name, **shown})
        order = {name: number for number, name in enumerate(SCHEDULES)}
        rows.sort(key=lambda row: (row["database"], order[row["schedule"]], row["task"]))
        show(output, rows, "no tasks")
        end(visited)


@app.command()
def schedule(
    pg_cron: Annotated[
        bool, typer.Option("--pg-cron", help="Have pg_cron run the tasks of the database.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove that job again.")] = False,
    database: Database = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Register the job with pg_cron, where that is installed."""
    with operating(database_url, Format.pretty) as fleet:
        if not pg_cron:
            fail(
                "say how: --pg-cron; or have something call `tenantry maintenance run` every minute"
            )
        with fleet.connect(database) as connection:
            if remove:
                was_there = unschedule_with_pg_cron(connection)
                console.print("the job is removed" if was_there else "there was no job")
                return
            job = schedule_with_pg_cron(connection)
        console.print(f"pg_cron runs what is due every minute (job {job})")
        console.print(
            "vacuum, analyze and reindex are left: run `tenantry maintenance run` each day"
        )


def _show_runs(visited: Visited, output: Format) -> None:
    rows: list[Row] = []
    for name, runs in visited.found.items():
        if runs is None:
            progress.print(f"{name}: another runner works there", markup=False)
        for one in runs or ():
            shown = one if output is Format.json else _without(one, "result")
            rows.append({"database": name, **shown})
    show(output, rows, "nothing is due")
    end(visited)
    if any(row["error"] is not None for row in rows):
        raise typer.Exit(1)


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}
