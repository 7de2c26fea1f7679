"""backup, backup list, backup verify, backup prune, restore."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from tenantry_cli.backup.archive import Archive
from tenantry_cli.backup.fleet_restoring import restore_fleet
from tenantry_cli.backup.fleet_saving import WORKERS, FleetManifest, backup_fleet, read_fleet
from tenantry_cli.backup.jobs import default_directory
from tenantry_cli.backup.log import Log, fleet_log, read_log, write_log
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.restoring import plan_restore, restore_tenant
from tenantry_cli.backup.retention import list_backups, plan_prune, prune
from tenantry_cli.backup.saving import Progress as Told
from tenantry_cli.backup.saving import archive_tenant
from tenantry_cli.backup.verify import verify
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.fleet.opening import opened_fleet
from tenantry_cli.options import OutputOption
from tenantry_cli.output import Format, console, fail, is_terminal, plain_errors
from tenantry_cli.output import progress as told

app = typer.Typer(help="Save organizations, or the whole fleet.", no_args_is_help=False)

DirectoryOption = Annotated[
    Path | None,
    typer.Option("--directory", help="Where backups are. Default: .tenantry/backups."),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        "--server",
        envvar="TENANTRY_DATABASE_URL",
        help="URL of the main database, as superuser or postgres. Default: the local stack.",
    ),
]
PrefixOption = Annotated[str, typer.Option(help="Begins the names of the fleet's databases.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.callback(invoke_without_command=True)
def backup(
    context: typer.Context,
    tenant: Annotated[
        str | None, typer.Option(help="One organization: its slug or id, or a business's id.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="The whole fleet.")] = False,
    directory: DirectoryOption = None,
    server: ServerOption = None,
    prefix: PrefixOption = "tenantry",
    workers: Annotated[int, typer.Option(min=1, max=32, help="Organizations at a time.")] = WORKERS,
) -> None:
    """Save one organization, or the whole fleet. The files hold secrets: keep them safe."""
    if context.invoked_subcommand is not None:
        return
    with plain_errors():
        if (tenant is None) == (not all_):
            raise BackupError("say what to save: --tenant SLUG or --all")
        backups = directory or default_directory()
        with _fleet(server, prefix) as fleet, _bar() as bar:
            if tenant is not None:
                path = archive_tenant(fleet, tenant, backups, progress=bar)
                log, unreachable = fleet_log(fleet)
                write_log(backups, log)
                problems = [f"erasures of {one}" for one in unreachable]
            else:
                path, manifest = backup_fleet(fleet, backups, workers=workers, progress=bar)
                problems = list(manifest.missing)
        console.print(str(path), markup=False)
        if problems:
            fail("not everything was saved:\n  " + "\n  ".join(problems))


@app.command("list")
def list_(directory: DirectoryOption = None, output: OutputOption = Format.pretty) -> None:
    """The finished backups, newest first."""
    with plain_errors():
        backups = list_backups(directory or default_directory())
        if output is Format.json:
            rows = [
                {
                    "path": str(one.path),
                    "kind": one.kind,
                    "taken_at": one.taken_at.isoformat(),
                    "tenants": list(one.slugs),
                    "size_bytes": one.size_bytes,
                    "problem": one.problem,
                }
                for one in backups
            ]
            console.print(json.dumps(rows, indent=2), markup=False)
            return
        table = Table("taken (UTC)", "what", "size", "state", box=None)
        table.add_column("path", overflow="fold")
        for one in backups:
            what = f"fleet of {len(one.slugs)}" if one.kind == "fleet" else ", ".join(one.slugs)
            table.add_row(
                f"{one.taken_at:%Y-%m-%d %H:%M:%S}",
                what,
                f"{one.size_bytes / 1e6:.1f} MB",
                one.problem or "whole",
                str(one.path),
            )
        console.print(table)


@app.command("verify")
def verify_(
    path: Annotated[Path, typer.Argument(help="An archive, or the directory of a fleet's backup.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Restore each archive into a scratch database.")
    ] = False,
    server: ServerOption = None,
    prefix: PrefixOption = "tenantry",
) -> None:
    """Read a backup again: every checksum, every row; with --deep also as a database."""
    with plain_errors():
        if deep:
            with _fleet(server, prefix) as fleet, _bar() as bar:
                found = verify(path, fleet, deep=True, progress=bar)
        else:
            with _bar() as bar:
                found = verify(path, progress=bar)
        console.print(f"whole: {found.archives} archives, {found.rows} rows")


@app.command("prune")
def prune_(
    keep_daily: Annotated[int, typer.Option(min=0)] = 7,
    keep_weekly: Annotated[int, typer.Option(min=0)] = 4,
    keep_monthly: Annotated[int, typer.Option(min=0)] = 12,
    directory: DirectoryOption = None,
    server: ServerOption = None,
    prefix: PrefixOption = "tenantry",
    yes: YesOption = False,
) -> None:
    """Remove old backups; never the newest whole one of an organization that exists."""
    with plain_errors():
        backups = directory or default_directory()
        with _fleet(server, prefix) as fleet:
            existing = [one.id for one in fleet.tenants()]
        plan = plan_prune(
            backups, existing, daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly
        )
        for one in plan.last_of_a_tenant:
            console.print(f"keep (the newest of {', '.join(one.slugs)}): {one.path}", markup=False)
        for path in (*(one.path for one in plan.remove), *plan.unfinished):
            console.print(f"remove: {path}", markup=False)
        console.print(f"{len(plan.keep)} backups stay")
        if plan.remove or plan.unfinished:
            _confirm("Remove them?", yes)
            prune(plan)


def restore(
    path: Annotated[Path, typer.Argument(help="An archive, or the directory of a fleet's backup.")],
    isolation: Annotated[
        str | None, typer.Option(help="pooled, schema or database. Default: as it was saved.")
    ] = None,
    replace_: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of one that exists.")
    ] = False,
    erasures: Annotated[
        list[Path] | None, typer.Option(help="Another erasures.jsonl to go by; may be repeated.")
    ] = None,
    directory: DirectoryOption = None,
    server: ServerOption = None,
    prefix: PrefixOption = "tenantry",
    yes: YesOption = False,
) -> None:
    """Bring back one organization, or a whole fleet into an empty server.

    Who was erased and what was revoked since stays so.
    """
    with plain_errors():
        backups = directory or default_directory()
        log = Log()
        for one in erasures or []:
            if not one.exists():
                raise BackupError(f"there is no file {one}")
            log.add(read_log(one))
        # A fleet comes back into a server that has none of its databases yet.
        if path.is_dir():
            if isolation or replace_:
                raise BackupError("--isolation and --replace are for one organization")
            _restore_fleet(path, log, server, yes)
            return
        with _fleet(server, prefix) as fleet:
            with Archive(path) as archive:
                plan = plan_restore(fleet, archive, isolation, replace=replace_)
            for sentence in plan.sentences():
                told.print(sentence, markup=False)
            _confirm("Restore?", yes)
            with _bar() as bar:
                done = restore_tenant(
                    fleet,
                    path,
                    directory=backups,
                    isolation=isolation,
                    replace=replace_,
                    log=log,
                    progress=bar,
                )
        for sentence in done.left_out:
            told.print(f"not restored: {sentence}", markup=False)
        if done.saved_first:
            told.print(f"its rows before: {done.saved_first}", markup=False)
        console.print(
            f"{done.slug} is back in {done.home.database}.{done.home.schema}: {done.rows} rows, "
            f"{done.erased_again} erased again"
        )


def _restore_fleet(path: Path, log: Log, server: str | None, yes: bool) -> None:
    manifest: FleetManifest = read_fleet(path)
    told.print(
        f"the fleet of {len(manifest.tenants)} organizations as of "
        f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC into database {manifest.main} and others named "
        f"{manifest.prefix}_…",
        markup=False,
    )
    _confirm("Restore?", yes)
    with _fleet(server, manifest.prefix, empty=True) as fleet, _bar() as bar:
        done = restore_fleet(replace(fleet, main=manifest.main), path, log=log, progress=bar)
    console.print(
        f"{len(done.tenants)} organizations are back; {done.revoked_again} rights revoked again, "
        f"{done.erased_again} rows erased again. Everybody signs in again."
    )
    if done.failed:
        fail("not restored:\n  " + "\n  ".join(done.failed))


@contextmanager
def _fleet(url: str | None, prefix: str, *, empty: bool = False) -> Iterator[Fleet]:
    """The fleet of the local stack, or of a server."""
    if url is None and empty:
        raise BackupError("a fleet is restored into an empty server: name it with --server URL")
    with ExitStack() as stack:
        try:
            fleet = stack.enter_context(opened_fleet(url, prefix=prefix))
        except psycopg.ProgrammingError as error:
            raise BackupError(f"--server is no connection URL: {str(error).strip()}") from error
        yield fleet


@contextmanager
def _bar() -> Iterator[Told]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=told, transient=True) as shown:
        task = shown.add_task("", total=1.0)

        def tell(step: str, done: float) -> None:
            shown.update(task, description=step, completed=done)

        yield tell


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not is_terminal():
        fail("nothing was done: --yes does it without asking")
    typer.confirm(question, abort=True, err=True)
