"""tenantry tenant: organizations and their homes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tenantry_cli.fleet import lifecycle
from tenantry_cli.fleet.fleet import Fleet, Tenant
from tenantry_cli.fleet.jobs import describe, save_before_drop
from tenantry_cli.fleet.mover import GRACE_HOURS, Move, move_tenant
from tenantry_cli.fleet.mover import Progress as Tell
from tenantry_cli.fleet.opening import opened_fleet
from tenantry_cli.fleet.provision import NewTenant, create_tenant
from tenantry_cli.options import DatabaseUrl, OutputOption
from tenantry_cli.output import (
    Format,
    console,
    fail,
    is_terminal,
    plain_errors,
    print_whole,
    progress,
)

app = typer.Typer(
    no_args_is_help=True, help="Tenants: organizations, where they live, and their life."
)

TenantArgument = Annotated[
    str, typer.Argument(help="Slug or id of an organization, or the id of one of its businesses.")
]
Placement = Annotated[str, typer.Option("--placement", help="pooled, schema or database.")]


@contextmanager
def fleet_of(database_url: str | None) -> Iterator[Fleet]:
    """The fleet for one command; its problems become one readable line."""
    with plain_errors(), opened_fleet(database_url) as fleet:
        yield fleet


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the organization.")],
    owner: Annotated[str, typer.Option(help="E-mail address of its owner, who has an account.")],
    placement: Placement = "pooled",
    business: Annotated[
        str | None, typer.Option(help="Name of its first business; default: the same name.")
    ] = None,
    slug: Annotated[str | None, typer.Option(help="Default: made from the name.")] = None,
    timezone: Annotated[str, typer.Option(help="Of the business, as in the tz database.")] = "UTC",
    country: Annotated[str, typer.Option(help="ISO 3166-1 code.")] = "US",
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Found an organization with one business, in any placement."""
    with fleet_of(database_url) as fleet:
        tenant = create_tenant(
            fleet,
            NewTenant(name, owner, business, slug, timezone, country, placement),
        )
        _print_tenant(tenant, output)


@app.command("list")
def list_tenants(database_url: DatabaseUrl = None, output: OutputOption = Format.pretty) -> None:
    """All organizations and where they live."""
    with fleet_of(database_url) as fleet:
        tenants = fleet.tenants()
        if output is Format.json:
            _print_json([describe(one) for one in tenants])
            return
        table = Table(
            "tenant", "name", "placement", "home", "state", "epoch", "businesses", box=None
        )
        for one in tenants:
            table.add_row(
                one.slug,
                one.name,
                one.home.isolation,
                f"{one.home.database}.{one.home.schema}",
                _state(one),
                str(one.epoch),
                str(one.businesses),
            )
        print_whole(table)


@app.command()
def show(
    tenant: TenantArgument, database_url: DatabaseUrl = None, output: OutputOption = Format.pretty
) -> None:
    """One organization: its home, its state, its moves."""
    with fleet_of(database_url) as fleet:
        found = fleet.tenant(tenant)
        with fleet.session() as main:
            moves = main.execute(
                "select from_isolation, to_isolation, state, write_pause_ms, error, created_at, "
                "finished_at, cleaned_at from public.placement_moves where organization_id = %s "
                "order by created_at",
                (found.id,),
            ).fetchall()
            copies = main.execute(
                "select database_name, version, sent_version, sent_at, error "
                "from private.registry_places where organization_id = %s order by 1",
                (found.id,),
            ).fetchall()
        if output is Format.json:
            _print_json({**describe(found), "moves": moves, "copies": copies})
            return
        _print_tenant(found, output)
        for copy in copies:
            behind = copy["version"] - copy["sent_version"]
            state = "up to date" if behind == 0 else f"{behind} changes behind"
            console.print(f"registry copy in {copy['database_name']}: {state}")
            if copy["error"]:
                console.print(f"  {copy['error']}", markup=False)
        for one in moves:
            pause = one["write_pause_ms"]
            console.print(
                f"move {one['from_isolation']} to {one['to_isolation']}: {one['state']}"
                + (f", writes paused {pause} ms" if pause is not None else "")
                + (f", {one['error']}" if one["error"] else ""),
                markup=False,
            )


@app.command()
def move(
    tenant: TenantArgument,
    to: Annotated[str, typer.Option("--to", help="pooled, schema or database.")],
    grace_hours: Annotated[
        float, typer.Option(min=0, help="How long the old home keeps its rows, inert.")
    ] = GRACE_HOURS,
    database_url: DatabaseUrl = None,
    output: OutputOption = Format.pretty,
) -> None:
    """Move an organization into another placement while it is in use."""
    with fleet_of(database_url) as fleet, _bar() as tell:
        done = move_tenant(fleet, tenant, to, progress=tell, grace_hours=grace_hours)
    _print_move(done, output)


@app.command()
def suspend(
    tenant: TenantArgument, database_url: DatabaseUrl = None, output: OutputOption = Format.pretty
) -> None:
    """Close an organization to its members; nothing is removed."""
    with fleet_of(database_url) as fleet:
        _print_tenant(lifecycle.suspend(fleet, tenant), output)


@app.command()
def resume(
    tenant: TenantArgument, database_url: DatabaseUrl = None, output: OutputOption = Format.pretty
) -> None:
    """Open a suspended or archived organization, or take up what was interrupted."""
    with fleet_of(database_url) as fleet:
        outcome = lifecycle.resume(fleet, tenant)
        if isinstance(outcome, Move):
            _print_move(outcome, output)
        else:
            _print_tenant(outcome, output)


@app.command()
def archive(
    tenant: TenantArgument, database_url: DatabaseUrl = None, output: OutputOption = Format.pretty
) -> None:
    """Put an organization away: its rows stay, nobody reaches them."""
    with fleet_of(database_url) as fleet:
        _print_tenant(lifecycle.archive(fleet, tenant), output)


@app.command()
def drop(
    tenant: TenantArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where it is saved. Default: .tenantry/backups.")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Save an organization, then remove it with all it has."""
    with fleet_of(database_url) as fleet:
        plan = lifecycle.plan_drop(fleet, tenant)
        console.print("This removes:")
        for line in plan.lines():
            console.print(f"  {line}", markup=False)
        if not yes:
            if not is_terminal():
                fail("nothing was removed: say --yes where nobody can be asked")
            if typer.prompt(f"Type {plan.tenant.slug} to remove it") != plan.tenant.slug:
                fail("nothing was removed")
        saved = lifecycle.drop(fleet, plan.tenant.id, save_before_drop(fleet, directory))
        console.print(f"saved to {saved}; removed", markup=False)


def _state(tenant: Tenant) -> str:
    return tenant.state if tenant.status == "active" else f"{tenant.state}, {tenant.status}"


def _print_tenant(tenant: Tenant, output: Format) -> None:
    if output is Format.json:
        _print_json(describe(tenant))
        return
    if output is Format.env:
        fail("--output must be pretty or json here")
    console.print(
        f"{tenant.name} ({tenant.slug}): {tenant.home.isolation}, "
        f"{tenant.home.database}.{tenant.home.schema}, {_state(tenant)}, epoch {tenant.epoch}, "
        f"id {tenant.id}",
        markup=False,
    )


def _print_move(done: Move, output: Format) -> None:
    if output is Format.json:
        _print_json(describe(done))
        return
    rows = sum(done.row_counts.values())
    console.print(
        f"moved {rows} rows of {len(done.row_counts)} tables from {done.source.isolation} "
        f"({done.source.database}.{done.source.schema}) to {done.target.isolation} "
        f"({done.target.database}.{done.target.schema}); counts and checksums are equal, no "
        f"reference points to nothing; writes were paused for {done.write_pause_ms} ms",
        markup=False,
    )


def _print_json(content: Any) -> None:
    console.print(json.dumps(content, indent=2, default=str), markup=False)


@contextmanager
def _bar() -> Iterator[Tell]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, done: bar.update(task, description=step, completed=done)
