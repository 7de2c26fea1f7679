"""What the operator's worker calls for the kinds `backup` and `restore` of fleet_jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenantry_cli.backup.fleet_saving import backup_fleet
from tenantry_cli.backup.log import fleet_log, write_log
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.restoring import restore_tenant
from tenantry_cli.backup.saving import Progress, archive_tenant, quiet
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.project import find_project

__all__ = ["archive_tenant", "default_directory", "run_backup_job"]


def default_directory() -> Path:
    """Where backups are unless said otherwise: `.tenantry/backups`."""
    return find_project().home / "backups"


def run_backup_job(
    fleet: Fleet,
    kind: str,
    arguments: Mapping[str, Any],
    on_progress: Progress = quiet,
    *,
    directory: Path | None = None,
) -> dict[str, Any]:
    """Do a job; returns what becomes its `result`. Raises BackupError.

    backup    {"tenant": slug or id}, or {} for the whole fleet
    restore   {"archive": file below the directory of backups, "isolation": …, "replace": bool}
    """
    backups = directory or default_directory()
    if kind == "backup":
        return _backup(fleet, arguments, on_progress, backups)
    if kind == "restore":
        return _restore(fleet, arguments, on_progress, backups)
    raise BackupError(f"{kind!r} is no job of backups: give backup or restore")


def _backup(
    fleet: Fleet, arguments: Mapping[str, Any], on_progress: Progress, directory: Path
) -> dict[str, Any]:
    if tenant := arguments.get("tenant"):
        path = archive_tenant(fleet, str(tenant), directory, progress=on_progress)
        log, _ = fleet_log(fleet)
        write_log(directory, log)
        return {"archive": str(path.relative_to(directory))}
    place, manifest = backup_fleet(fleet, directory, progress=on_progress)
    if not manifest.is_whole:
        raise BackupError(f"{place} lacks: {'; '.join(manifest.missing)}")
    return {"directory": str(place.relative_to(directory)), "tenants": len(manifest.tenants)}


def _restore(
    fleet: Fleet, arguments: Mapping[str, Any], on_progress: Progress, directory: Path
) -> dict[str, Any]:
    name = arguments.get("archive")
    if not isinstance(name, str):
        raise BackupError("archive is missing: give the name of a file below the backups")
    path = (directory / name).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise BackupError(f"archive {name!r} is not below the directory of backups")
    isolation = arguments.get("isolation")
    done = restore_tenant(
        fleet,
        path,
        directory=directory,
        isolation=str(isolation) if isolation else None,
        replace=arguments.get("replace") is True,
        progress=on_progress,
    )
    return {
        "tenant": str(done.organization_id),
        "rows": done.rows,
        "erased_again": done.erased_again,
        "saved_first": str(done.saved_first.relative_to(directory)) if done.saved_first else None,
        "left_out": done.left_out,
    }
