"""up, down, status, reset, logs: the local stack."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Annotated

import typer
from rich.table import Table

from tenantry_cli.output import Format, console, fail, is_terminal, plain_errors, progress
from tenantry_cli.project import find_project
from tenantry_cli.stack import control, supervisor
from tenantry_cli.stack.home import Home, StackState
from tenantry_cli.stack.process import read_json

_DEMO_PASSWORD = "tenantry-demo"  # noqa: S105  # of the seed's people, who exist locally only
_DEMO_LOGINS = (
    ("owner@bluebird.example", "owner of Bluebird Dental"),
    ("manager@bluebird.example", "manager"),
    ("staff@bluebird.example", "staff"),
    ("viewer@bluebird.example", "viewer"),
    ("owner@copperline.example", "owner of Copperline Print, another organization"),
)

OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]


def up(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay attached; Ctrl-C stops the stack.")
    ] = False,
) -> None:
    """Start the local stack and print its URLs, keys and demo logins."""
    with plain_errors():
        project = find_project()
        home = Home(project.home)
        if foreground:
            raise typer.Exit(supervisor.main())
        already = control.running_stack(home) is not None
        began = time.monotonic()
        with progress.status("starting") as spinner:
            known: dict[str, str] = {}

            def show(state: StackState) -> None:
                spinner.update(state.message or state.phase)
                for name, part in state.parts.items():
                    if part.status == "ready" and known.get(name) != "ready":
                        progress.print(f"  [green]✓[/green] {name}")
                    known[name] = part.status

            stack = control.start(project, home, show)
        _print_stack(stack)
        took = "was already running" if already else f"ready in {time.monotonic() - began:.1f} s"
        console.print(f"\nTenantry {took}. `tenantry status`, `tenantry logs`, `tenantry down`.")
        _hint_pending(stack)
        _hint_boot_gate(stack)


def down() -> None:
    """Stop the local stack. Its data stays."""
    with plain_errors():
        home = Home(find_project().home)
        with progress.status("stopping"):
            stopped = control.stop(home)
        console.print("stopped" if stopped else "nothing was running")


def status(output: OutputOption = Format.pretty) -> None:
    """Print URLs, keys and the state of each part. Ends with status 1 if the stack is down."""
    with plain_errors():
        home = Home(find_project().home)
        stack = control.require_running_stack(home)
        if output is Format.env:
            for name, value in stack.variables().items():
                console.print(f'{name}="{value}"', markup=False)
        elif output is Format.json:
            console.print(json.dumps(stack.variables(), indent=2), markup=False)
        else:
            _print_stack(stack)
            console.print()
            _print_parts(stack.state)


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the stack and delete its data: database and stored files. Keys stay."""
    with plain_errors():
        home = Home(find_project().home)
        if not yes:
            if not is_terminal():
                fail(f"reset deletes all data in {home.directory}: say --yes to mean it")
            typer.confirm(f"Delete all data in {home.directory}?", abort=True, err=True)
        control.stop(home)
        control.wipe(home)
        console.print("all data deleted. `tenantry up` starts afresh.")


def logs(
    part: Annotated[
        str, typer.Argument(help="supervisor, postgres, postgrest, lite, functions or gateway.")
    ] = "supervisor",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many last lines.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines as they come.")
    ] = False,
) -> None:
    """Print the log of one part."""
    with plain_errors():
        home = Home(find_project().home)
        log = home.log(part)
        if not log.exists():
            known = ", ".join(sorted(path.stem for path in home.logs.glob("*.log"))) or "none yet"
            fail(f"there is no log of {part!r}. Logs: {known}")
        with log.open(errors="replace") as file:
            content = file.read().splitlines()
            for line in content[len(content) - lines :] if lines else []:
                console.print(line, markup=False)
            while follow:
                if line := file.readline():
                    console.print(line, markup=False, end="")
                    continue
                if os.stat(log).st_ino != os.fstat(file.fileno()).st_ino:
                    return  # put aside by a new start
                time.sleep(0.2)


def _print_stack(stack: control.RunningStack) -> None:
    for name, value in stack.variables().items():
        # Not a table: it would cut long keys to the width of the terminal.
        console.print(f"[bold]{name.replace('_', ' '):<16}[/bold]  {value}")
    console.print(f"\nDemo logins (password {_DEMO_PASSWORD}):")
    for email, who in _DEMO_LOGINS:
        console.print(f"  {email:<28} {who}")


def _print_parts(state: StackState) -> None:
    table = Table("part", "state", "port", "process", "restarts", "last stop", box=None)
    for name, part in state.parts.items():
        row = [name, part.status, str(part.port or ""), str(part.pid or ""), str(part.restarts)]
        table.add_row(*row, part.reason or "")
    console.print(table)


def _hint_pending(stack: control.RunningStack) -> None:
    from tenantry_cli.migrate import plan_migrations, read_migrations

    with stack.server.connect() as connection:
        plan = plan_migrations(connection, read_migrations(find_project().migrations))
    if plan.pending:
        console.print(
            f"[yellow]{len(plan.pending)} migrations are pending:[/yellow] `tenantry migrate up`."
        )
    if plan.changed:
        console.print(
            f"[yellow]{len(plan.changed)} applied migrations have changed since:[/yellow] "
            "`tenantry reset` starts afresh with them."
        )


def _hint_boot_gate(stack: control.RunningStack) -> None:
    health = asyncio.run(read_json(stack.state.api_port, "/healthz"))
    if not isinstance(health, dict) or not health.get("differences"):
        return
    refuses = health.get("status") == "failing"
    console.print(
        "[yellow]The database is not what the gateway was made for"
        f"{', so it serves no data' if refuses else ''}:[/yellow]"
    )
    for one in health["differences"]:
        console.print(f"  {one}", markup=False)
    console.print(str(health.get("hint", "")), markup=False)
