"""`python -m bench run` measures, `python -m bench report` writes docs/performance.md from it."""

from __future__ import annotations

import dataclasses
import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import fleet_migrations, ingest, metrics, moves, placements, results, rls, triggers
from bench.comparison import Rates
from bench.data import load_rows
from bench.environment import SCALES, Environment, environment
from bench.placement_tables import Rows, migrations_table, moves_table, placements_tables
from bench.report import write_report
from bench.words import PERSONA_TITLES, SHAPE_TITLES, VARIANT_TITLES
from tenantry_cli.output import console, plain_errors, progress
from tenantry_cli.project import find_project

#: A table in a file or a pipe is not folded to 80 columns.
_tables = Console(highlight=False, width=None if console.is_terminal else 170)

app = typer.Typer(add_completion=False, help=__doc__)


class Section(StrEnum):
    """What can be measured."""

    rls = "rls"
    metrics = "metrics"
    ingest = "ingest"
    triggers = "triggers"
    placements = "placements"
    moves = "moves"
    fleet = "fleet"


class ScaleName(StrEnum):
    """How much data; see bench.environment.SCALES."""

    quick = "quick"
    full = "full"


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Without a command: run everything at full scale."""
    if context.invoked_subcommand is None:
        run()


@app.command()
def run(
    scale: Annotated[
        ScaleName, typer.Option(help="How much data; quick is for trying out.")
    ] = ScaleName.full,
    only: Annotated[list[Section] | None, typer.Option(help="Sections; all if not given.")] = None,
    tenants: Annotated[
        list[int] | None, typer.Option(min=1, help="Steps of placements; the last is fleet's size.")
    ] = None,
    move_rows: Annotated[
        int | None, typer.Option(min=2, help="Rows of the tenant that moves.")
    ] = None,
) -> None:
    """Build a throw-away server, measure, print, and save to bench/results/."""
    size = SCALES[scale]
    size = dataclasses.replace(
        size,
        tenants=tuple(sorted(set(tenants or size.tenants))),
        move_rows=move_rows or size.move_rows,
    )
    with plain_errors(), environment(size) as server:
        found = results.describe(server)
        found["load_average"] = {"before": results.busy()}
        measures = {
            Section.rls: _measure_rls,
            Section.metrics: _measure_metrics,
            Section.ingest: _measure_ingest,
            Section.triggers: _measure_triggers,
            Section.placements: _measure_placements,
            Section.moves: _measure_moves,
            Section.fleet: _measure_fleet,
        }
        for section, measure in measures.items():
            if not only or section in only:
                started = time.monotonic()
                found[section] = measure(server)
                progress.print(f"{section}: {time.monotonic() - started:.0f} s")
        found["load_average"] |= {"after": results.busy()}  # type: ignore[operator]
        path = results.save(found)
    console.print(f"saved to {path}")


@app.command()
def report(
    path: Annotated[Path | None, typer.Argument(help="Results; the newest if not given.")] = None,
) -> None:
    """Write docs/performance.md and its plot from saved results."""
    try:
        source = path or results.newest()
        found = json.loads(source.read_text(encoding="utf-8"))
        written = write_report(found, find_project().root / "docs")
    except FileNotFoundError as error:
        progress.print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from error
    for file in written:
        console.print(f"wrote {file}")


def _measure_rls(server: Environment) -> object:
    database = server.clone("bench_rls")
    with progress.status("loading customers, calls and messages"):
        rows = load_rows(server, database)
    progress.print(", ".join(f"{count:,} {table}" for table, count in rows.items()))
    found = rls.measure(server, database, on_cell=_print_cell)
    table = Table(title="Row security through PostgREST: time against a role without it")
    for heading in ("shape", "caller", "connections", "baseline ms", "ratio", "95 %", "A/A"):
        table.add_column(heading)
    table.add_column(f"<= {rls.GOAL:.2f}")
    for cell in found.cells:
        table.add_row(
            SHAPE_TITLES[cell.shape],
            PERSONA_TITLES[cell.persona],
            str(cell.connections),
            f"{cell.baseline_ms:.2f}",
            f"{cell.overhead.value:.2f}",
            f"{cell.overhead.low:.2f}-{cell.overhead.high:.2f}",
            f"{cell.noise.value:.2f}",
            cell.verdict,
        )
    _tables.print(table)
    return {"rows": rows, **rls.as_json(found)}


def _print_cell(cell: rls.Cell) -> None:
    progress.print(
        f"{cell.shape}, {cell.persona}, {cell.connections} connections:"
        f" {cell.overhead.value:.2f} (A/A {cell.noise.value:.2f})"
    )


def _measure_metrics(server: Environment) -> object:
    found = metrics.measure(server, _print_rates)
    _print_table("Inserting calls: rate against no metrics", found.rates)
    console.print(f"days whose metrics differ from recomputation: {found.drift}")
    return {"rates": [rates.as_json() for rates in found.rates], "drift": found.drift}


def _measure_ingest(server: Environment) -> object:
    found = ingest.measure(server, _print_rates)
    _print_table("Webhook events applied: rate against storing them only", found.rates)
    console.print(f"promises broken: {found.broken}")
    return {
        "rates": [rates.as_json() for rates in found.rates],
        "latencies": [dataclasses.asdict(latency) for latency in found.latencies],
        "broken": found.broken,
    }


def _measure_triggers(server: Environment) -> object:
    found = triggers.measure(server, _print_rates)
    _print_table("Customers: rate against no row triggers", found)
    return {"rates": [rates.as_json() for rates in found]}


def _measure_placements(server: Environment) -> object:
    found = placements.measure(
        server, lambda step: progress.print(f"{step.tenants} tenants of each placement")
    ).as_json()
    for table in placements_tables(found):
        _print_rows(table)
    return found


def _measure_moves(server: Environment) -> object:
    found = [
        move.as_json()
        for move in moves.measure(
            server, lambda move: progress.print(f"{move.source} to {move.target}")
        )
    ]
    _print_rows(moves_table(found))
    return {"moves": found}


def _measure_fleet(server: Environment) -> object:
    found = [
        run.as_json()
        for run in fleet_migrations.measure(
            server, lambda run: progress.print(f"{run.workers} workers: {run.seconds:.1f} s")
        )
    ]
    _print_rows(migrations_table(found))
    return {"runs": found}


def _print_rows(rows: Rows) -> None:
    table = Table(*rows.heads, title=rows.title)
    for row in rows.rows:
        table.add_row(*row)
    _tables.print(table)


def _print_rates(rates: Rates) -> None:
    shares = ", ".join(f"{v} {rates.share(v):.2f}" for v in rates.per_second)
    progress.print(f"{rates.load}, {rates.clients} clients: {shares}")


def _print_table(title: str, every: list[Rates]) -> None:
    table = Table(title=title)
    table.add_column("load")
    table.add_column("clients")
    for variant in every[0].per_second:
        table.add_column(VARIANT_TITLES[variant])
    for rates in every:
        baseline, *others = rates.per_second
        table.add_row(
            rates.load,
            str(rates.clients),
            f"{rates.median(baseline):,.0f}/s",
            *(f"{rates.median(v):,.0f}/s {rates.share(v):.2f}" for v in others),
        )
    _tables.print(table)


if __name__ == "__main__":
    app()
