"""doctor: what this machine lacks, and how to mend it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import psycopg
import typer

from tenantry_cli.migrate import MigrationError, plan_migrations, read_migrations
from tenantry_cli.options import OutputOption
from tenantry_cli.output import Format, console, plain_errors
from tenantry_cli.project import Project, find_project
from tenantry_cli.stack.account import AccountError, postgres_account
from tenantry_cli.stack.control import running_stack
from tenantry_cli.stack.home import Home, StackState, find_process
from tenantry_cli.stack.installation import PostgresError, find_programs
from tenantry_cli.stack.ports import PortError, configured_port, is_port_free, port_taken
from tenantry_cli.stack.programs import (
    ProgramMissing,
    find_lite,
    find_node,
    find_postgrest,
    node_version,
)

_LEAST_DISK_BYTES = 1_000_000_000
_MARKS = {"good": "[green]✓[/green]", "doubtful": "[yellow]![/yellow]", "bad": "[red]✗[/red]"}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    verdict: Literal["good", "doubtful", "bad"]
    detail: str
    fix: str = ""


def doctor(
    output: OutputOption = Format.pretty,
) -> None:
    """Check versions, programs, disk, port and migrations, and say how to mend what is wrong."""
    with plain_errors():
        project = find_project()
        findings = list(examine(project, Home(project.home)))
        if output is Format.json:
            console.print(json.dumps([asdict(one) for one in findings], indent=2), markup=False)
        else:
            for one in findings:
                console.print(f"{_MARKS[one.verdict]} {one.subject:<12}", end=" ")
                console.print(one.detail, markup=False)
                if one.fix:
                    console.print(f"  [bold]fix:[/bold] {one.fix}")
        if any(one.verdict == "bad" for one in findings):
            raise typer.Exit(1)


def examine(project: Project, home: Home) -> Iterator[Finding]:
    """Run every check, cheap ones first."""
    yield Finding("Python", "good", sys.version.split()[0])
    for subject, check in _PROGRAMS.items():
        try:
            yield Finding(subject, "good", check(project))
        except (ProgramMissing, PostgresError, AccountError) as error:
            yield Finding(subject, "bad", str(error), "run `make up`, or follow the line above")
    yield _disk(project)
    yield _secrets(home)
    yield _port(home)
    yield _processes(home)
    yield _migrations(project, home)


def _node(project: Project) -> str:
    node = find_node()
    return f"{'.'.join(map(str, node_version(node) or ()))} ({node})"


def _postgres(project: Project) -> str:
    programs = find_programs()
    account = postgres_account(Home(project.home).postgres)
    return f"{programs.major} ({programs.directory})" + (f" as {account.name}" if account else "")


def _postgrest(project: Project) -> str:
    program = find_postgrest(project)
    try:
        answer = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError as error:
        raise ProgramMissing(f"{program} does not run: {error}") from error
    if answer.returncode != 0:
        raise ProgramMissing(f"{program} does not run: {answer.stderr.strip()}")
    return f"{answer.stdout.strip()} ({program})"


def _lite(project: Project) -> str:
    manifest = find_lite(project).parents[2] / "package.json"
    return f"@supabase/lite {json.loads(manifest.read_text(encoding='utf-8'))['version']}"


_PROGRAMS: dict[str, Callable[[Project], str]] = {
    "Node.js": _node,
    "Postgres": _postgres,
    "PostgREST": _postgrest,
    "Auth": _lite,
}


def _disk(project: Project) -> Finding:
    free = shutil.disk_usage(project.root).free
    detail = f"{free / 1e9:.1f} GB free"
    if free < _LEAST_DISK_BYTES:
        return Finding("disk", "bad", detail, "free at least 1 GB, or move data with TENANTRY_HOME")
    return Finding("disk", "good", detail)


def _secrets(home: Home) -> Finding:
    if not home.secrets.exists():
        return Finding("secrets", "good", "none yet: the first start makes them")
    mode = stat.S_IMODE(home.secrets.stat().st_mode)
    if mode & 0o077:
        fix = f"chmod 600 {home.secrets}"
        return Finding("secrets", "bad", f"others may read {home.secrets}", fix)
    return Finding("secrets", "good", f"only their owner may read {home.secrets}")


def _port(home: Home) -> Finding:
    try:
        port = configured_port()
    except PortError as error:
        return Finding("port", "bad", str(error), "unset TENANTRY_PORT or name a free port")
    stack = running_stack(home)
    if stack is not None and stack.state.api_port == port:
        return Finding("port", "good", f"{port} is ours")
    if is_port_free(port):
        return Finding("port", "good", f"{port} is free")
    return Finding("port", "bad", port_taken(port).split(". ")[0], "set TENANTRY_PORT")


def _processes(home: Home) -> Finding:
    state = StackState.read(home.state)
    if state is None or state.phase == "stopped":
        return Finding("stack", "good", "not running")
    if home.is_claimed():
        troubled = [name for name, part in state.parts.items() if part.status == "restarting"]
        if troubled:
            fix = f"read `tenantry logs {troubled[0]}`"
            return Finding("stack", "bad", f"crashing: {', '.join(troubled)}", fix)
        return Finding("stack", "good", state.phase)
    left = [name for name, part in state.parts.items() if find_process(part.pid, part.created)]
    if left:
        return Finding("stack", "bad", f"left behind: {', '.join(left)}", "run `tenantry down`")
    if state.phase == "failed":
        return Finding("stack", "doubtful", f"the last start failed: {state.message}")
    return Finding("stack", "good", "not running; the last one was killed and left nothing behind")


def _migrations(project: Project, home: Home) -> Finding:
    try:
        migrations = read_migrations(project.migrations)
        stack = running_stack(home)
        if stack is None:
            return Finding("migrations", "good", f"{len(migrations)} files")
        with stack.server.connect() as connection:
            plan = plan_migrations(connection, migrations)
    except (MigrationError, psycopg.Error) as error:
        return Finding("migrations", "bad", str(error))
    if plan.pending:
        fix = "run `tenantry migrate up`"
        return Finding("migrations", "doubtful", f"{len(plan.pending)} are pending", fix)
    if plan.changed or plan.unknown:
        detail = f"{len(plan.changed) + len(plan.unknown)} differ from what the database has"
        return Finding("migrations", "doubtful", detail, "run `tenantry reset`, then `tenantry up`")
    return Finding("migrations", "good", f"{len(plan.applied)} applied")
