"""tenantry monitor: what goes on in the databases of the fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry_cli.errors import TenantryError
from tenantry_cli.operations import reports
from tenantry_cli.operations.printing import (
    Database,
    Limit,
    Row,
    end,
    operating,
    show,
)
from tenantry_cli.options import DatabaseUrl, OutputOption
from tenantry_cli.output import Format, console, progress

app = typer.Typer(
    no_args_is_help=True, help="Look at sizes, connections, indexes, statements and tenants."
)


@app.command()
def sizes(database_url: DatabaseUrl = None, output: OutputOption = Format.pretty) -> None:
    """Every database of the server, the largest first."""
    _cluster(reports.SIZES, database_url, output)


@app.command()
def connections(database_url: DatabaseUrl = None, output: OutputOption = Format.pretty) -> None:
    """Client connections of each database, and how much of the limit they are."""
    _cluster(reports.CONNECTIONS, database_url, output)


@app.command()
def activity(
    longer_than: Annotated[
        int | None,
        typer.Option(help="List transactions open for more seconds instead.", min=0),
    ] = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Client connections by tenant; or transactions that stay open."""
    if longer_than is None:
        _cluster(reports.ACTIVITY, database_url, output)
    else:
        _cluster(reports.LONG_TRANSACTIONS, database_url, output, longer_than)


@app.command()
def indexes(
    verdict: Annotated[
        str | None,
        typer.Option(help="Only: invalid, duplicate, unused, 'rarely used' or effective."),
    ] = None,
    limit: Limit = 40,
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """What to do about each index."""
    with operating(database_url, output) as fleet:
        known = ("invalid", "duplicate", "unused", "rarely used", "effective")
        if verdict not in (None, *known):
            raise TenantryError(f"--verdict {verdict}: use one of {', '.join(known)}")
        visited = reports.in_each(fleet, reports.INDEXES, only=database)
        found = [row for row in reports.together(visited) if verdict in (None, row["verdict"])]
        show(output, found[:limit], "no such index")
        end(visited)


@app.command()
def tables(
    limit: Limit = 40,
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Rows, dead rows, reads and upkeep of each table, the largest first."""
    with operating(database_url, output) as fleet:
        visited = reports.in_each(fleet, reports.TABLES, only=database)
        found = sorted(reports.together(visited), key=lambda row: -int(row["size_bytes"]))
        show(output, found[:limit], "no tables")
        end(visited)


@app.command()
def queries(
    by_tenant: Annotated[
        bool, typer.Option("--by-tenant", help="Times by tenant schema in the last hour.")
    ] = False,
    limit: Limit = 20,
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Statements that took most time since the counters began."""
    with operating(database_url, output) as fleet:
        states = reports.in_each(fleet, reports.STATEMENTS_STATE, only=database)
        for row in reports.together(states):
            if row["remedy"] is not None:
                text = f"{row['database']}: statements are not all counted ({row['state']})."
                progress.print(f"{text} {row['remedy']}.", markup=False)
        if by_tenant:
            visited = reports.in_each(fleet, reports.BY_TENANT, only=database)
        else:
            visited = reports.in_each(fleet, reports.STATEMENTS, limit, only=database)
        show(output, reports.together(visited), "no statements")
        end(visited)


@app.command()
def tenants(
    users_of: Annotated[
        str | None, typer.Option(help="The people of this organization (slug, id) or schema.")
    ] = None,
    growth: Annotated[
        bool, typer.Option("--growth", help="How they grew in 30 days, from daily samples.")
    ] = False,
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Every tenant: home, people, rows, size; with the total."""
    with operating(database_url, output) as fleet:
        if users_of is not None:
            with fleet.connect(database) as connection:
                found = reports.rows_of(connection, reports.TENANT_USERS, users_of)
            show(output, found, "nobody")
            return
        query = reports.GROWTH if growth else reports.TENANTS
        visited = reports.in_each(fleet, query, only=database)
        rows = [_without_database(row) for row in reports.together(visited)]
        show(output, rows, "no tenants")
        if output is Format.pretty and rows and not growth:
            total = {
                name: sum(row[name] for row in rows)
                for name in ("businesses", "customers", "conversations", "messages", "calls")
            }
            listed = ", ".join(f"{count} {name}" for name, count in total.items())
            console.print(f"{len(rows)} tenants: {listed}")
        end(visited)


@app.command()
def roles(database_url: DatabaseUrl = None, output: OutputOption = Format.pretty) -> None:
    """The roles for logins to the database, and what an administrator has yet to grant."""
    _cluster("select * from private.database_roles()", database_url, output)


@app.command()
def benchmark(
    executions: Annotated[int, typer.Option(min=5, max=1000, help="Of each query.")] = 30,
    business: Annotated[
        str | None, typer.Option("--business", "-b", help="Slug or id. Default: the largest.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="With the run before; status 1 if one is slower.")
    ] = False,
    slower: Annotated[
        float, typer.Option(min=1.0, help="How many times the median before counts as slower.")
    ] = 1.5,
    database: Database = None,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Run the queries that everybody uses, as a member and as the owner, and record their times."""
    from tenantry_cli.operations.benchmarks import compare_with_last, run_benchmarks

    with operating(database_url, output) as fleet, fleet.connect(database) as connection:
        measured = run_benchmarks(connection, business=business, executions=executions)
        rows: list[Row] = compare_with_last(connection, measured, slower) if compare else measured
        show(output, rows, "nothing was measured")
        if any(row.get("verdict") == "slower" for row in rows):
            raise typer.Exit(1)


@app.command()
def metrics(
    listen: Annotated[
        str | None, typer.Option(help="Serve them at http://HOST:PORT/metrics instead.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Seconds for which an answer is kept when serving.")
    ] = 60,
    database: Database = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Gauges per tenant in the text format of Prometheus."""
    from tenantry_cli.operations.metrics import collect, render, serve

    with operating(database_url, Format.pretty) as fleet:
        if listen is not None:
            progress.print(f"serving http://{listen}/metrics; Ctrl-C stops", markup=False)
            serve(fleet, listen, keep_seconds=every, only=database)
            return
        visited, rows = collect(fleet, only=database)
        console.print(render(rows, visited.failed), markup=False, end="")
        end(visited)


def _cluster(query: str, database_url: str | None, output: Format, *values: object) -> None:
    """What any database of the cluster can tell about all."""
    with operating(database_url, output) as fleet, fleet.connect() as connection:
        show(output, reports.rows_of(connection, query, *values), "nothing")


def _without_database(row: Row) -> Row:
    """Rows of tenants name their database themselves."""
    return {name: value for name, value in row.items() if name != "database"}
