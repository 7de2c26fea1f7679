"""What operators asked for through the API, done by the worker: the rows of public.fleet_jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from tenantry_cli.backup.jobs import archive_tenant, default_directory, run_backup_job
from tenantry_cli.fleet import lifecycle
from tenantry_cli.fleet.fleet import Fleet, FleetError, Tenant
from tenantry_cli.fleet.mover import Move, move_tenant
from tenantry_cli.fleet.names import template_name
from tenantry_cli.fleet.provision import NewTenant, create_tenant
from tenantry_cli.migrate.files import read_rollbacks
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.jobs import KINDS, run_migration_job
from tenantry_cli.migrate.report import Outcome
from tenantry_cli.operations.maintenance import run_due_maintenance
from tenantry_cli.project import find_project

MOST_ATTEMPTS = 3

Arguments = Mapping[str, Any]
#: Told how far a job is: words for people, and a part of the whole, 0 to 1.
Progress = Callable[[str, float], None]
Work = Callable[[Fleet, Arguments, Progress], dict[str, Any]]


def describe(one: Tenant | Move) -> dict[str, Any]:
    """A tenant or a move as JSON: ids as text, homes as objects."""
    return {
        key: value if isinstance(value, (str, int, dict, type(None))) else str(value)
        for key, value in dataclasses.asdict(one).items()
    }


def _provision(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    names = {one.name for one in dataclasses.fields(NewTenant)}
    given = {key: value for key, value in arguments.items() if key in names and value is not None}
    return describe(create_tenant(fleet, NewTenant(**given)))


def _move(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    return describe(
        move_tenant(fleet, _tenant(arguments), _text(arguments, "isolation"), progress=progress)
    )


def _suspend(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    return describe(lifecycle.suspend(fleet, _tenant(arguments)))


def _resume(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    return describe(lifecycle.resume(fleet, _tenant(arguments)))


def _archive(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    return describe(lifecycle.archive(fleet, _tenant(arguments)))


def _migrate(kind: str) -> Work:
    def work(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
        project = find_project()
        done = 0

        def tell(outcome: Outcome) -> None:
            nonlocal done
            done += 1
            progress(f"{outcome.target.name}: {outcome.state}", min(done / planned, 1.0))

        planned = 1

        def plan(count: int) -> None:
            nonlocal planned
            planned = max(count, 1)

        return run_migration_job(
            kind,
            arguments,
            FleetMigration(
                connect=lambda database: fleet.server.connect(database, fleet.owner),
                main=fleet.main,
                migrations=fleet.migrations,
                rollbacks=read_rollbacks(project.rollbacks, fleet.migrations),
                template=template_name(fleet.prefix),
                on_outcome=tell,
                on_plan=plan,
            ),
        )

    return work


def _maintain(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    visited = run_due_maintenance(fleet)
    return {"databases": sorted(visited.found), "failed": visited.failed}


def _back_up(kind: str) -> Work:
    def work(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
        return run_backup_job(fleet, kind, arguments, progress)

    return work


def _drop(fleet: Fleet, arguments: Arguments, progress: Progress) -> dict[str, Any]:
    tenant = fleet.tenant(_tenant(arguments))
    if arguments.get("confirm") != tenant.slug:
        raise FleetError(f"dropping is confirmed by {{'confirm': '{tenant.slug}'}}")
    return {"archive": lifecycle.drop(fleet, tenant.id, save_before_drop(fleet))}


def save_before_drop(fleet: Fleet, directory: Path | None = None) -> lifecycle.Save:
    """Saves a tenant among the backups; returns where."""
    return lambda tenant: str(archive_tenant(fleet, tenant.id, directory or default_directory()))


WORK: dict[str, Work] = {
    "provision": _provision,
    "move": _move,
    "suspend": _suspend,
    "resume": _resume,
    "archive": _archive,
    "drop": _drop,
    "backup": _back_up("backup"),
    "restore": _back_up("restore"),
    "maintenance": _maintain,
    **{kind: _migrate(kind) for kind in KINDS},
}


def _tenant(arguments: Arguments) -> str:
    return _text(arguments, "tenant")


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise FleetError(f"the job's arguments lack {name!r}")
    return value


def requeue_interrupted(fleet: Fleet) -> None:
    """Take back what a worker that died was doing; give up what was interrupted again and again."""
    with fleet.session() as main:
        main.execute(
            "update public.fleet_jobs set state = case when attempts < %s then 'queued' "
            "else 'failed' end, error = case when attempts < %s then error else "
            "'interrupted again and again: see the log of the worker' end "
            "where state = 'running'",
            (MOST_ATTEMPTS, MOST_ATTEMPTS),
        )


def run_next_job(fleet: Fleet) -> bool:
    """Do the oldest waiting job; False where there is none."""
    with fleet.session() as main:
        job = main.execute(
            "update public.fleet_jobs set state = 'running', attempts = attempts + 1, "
            "started_at = clock_timestamp() where id = (select id from public.fleet_jobs "
            "where state = 'queued' order by created_at limit 1 for update skip locked) "
            "returning id, kind, arguments"
        ).fetchone()
    if job is None:
        return False

    def progress(step: str, done: float) -> None:
        with fleet.session() as main:
            main.execute(
                "update public.fleet_jobs set progress = %s where id = %s",
                (Jsonb({"step": step, "done": round(done, 3)}), job["id"]),
            )

    state, result, problem = "failed", None, None
    try:
        work = WORK.get(job["kind"])
        if work is None:
            raise FleetError(f"this worker does no jobs of kind {job['kind']}")
        result = Jsonb(work(fleet, job["arguments"], progress))
        state = "done"
    except Exception as error:  # whatever it was, the row says so and the next job goes on
        problem = f"{error}"[:4000]
    with fleet.session() as main:
        main.execute(
            "update public.fleet_jobs set state = %s, result = %s, error = %s, "
            "finished_at = clock_timestamp() where id = %s",
            (state, result, problem, job["id"]),
        )
    return True
