"""tenantry fleet: the worker, and what it does by hand."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Annotated

import typer

from tenantry_cli.commands.tenant import fleet_of
from tenantry_cli.fleet.listening import Answer, listening
from tenantry_cli.fleet.mover import clean_moves
from tenantry_cli.fleet.opening import open_fleet
from tenantry_cli.fleet.registry import reconcile as send_all
from tenantry_cli.fleet.worker import Worker
from tenantry_cli.options import DatabaseUrl
from tenantry_cli.output import console, plain_errors

app = typer.Typer(no_args_is_help=True, help="All databases together.")


@app.command()
def worker(
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT for /healthz. Default: nowhere.")
    ] = None,
    of_stack: Annotated[bool, typer.Option("--of-stack", hidden=True)] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Send changes of members and rights on, do jobs, clean up. Runs until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with plain_errors():
        one = Worker(lambda: open_fleet(database_url, starting=of_stack))

        def stop(number: int, frame: FrameType | None) -> None:
            one.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

        def health() -> Answer:
            state = "working" if one.ready.is_set() else "waiting for its turn"
            return 200, "text/plain", f"{state}\n"

        with listening(listen, {"/healthz": health}):
            one.run()


@app.command()
def reconcile(database_url: DatabaseUrl = None) -> None:
    """Send all registry copies again, also where the place claims a later state."""
    with fleet_of(database_url) as fleet:
        sent = send_all(fleet, force=True)
        failed = [one for one in sent if one.error]
        for one in failed:
            console.print(f"{one.database}, {one.organization_id}: {one.error}", markup=False)
        console.print(f"{len(sent) - len(failed)} copies are up to date, {len(failed)} failed")
        if failed:
            raise typer.Exit(1)


@app.command()
def clean(
    now: bool = typer.Option(False, "--now", help="Also before the grace period is over."),
    database_url: DatabaseUrl = None,
) -> None:
    """Remove what finished moves left at the old homes."""
    with fleet_of(database_url) as fleet:
        cleaned = clean_moves(fleet, now=now)
        console.print(f"cleaned up after {len(cleaned)} moves")
