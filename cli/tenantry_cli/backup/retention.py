"""Which backups there are, and which are kept."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from tenantry_cli.backup.archive import UNFINISHED, Archive
from tenantry_cli.backup.fleet_saving import FLEET, read_fleet
from tenantry_cli.backup.manifest import BackupError, now

#: Leftovers younger than this may still be being written.
_UNFINISHED_HOURS = 24
_STAMP = "%Y%m%dT%H%M%S_%fZ"


@dataclass(frozen=True)
class Backup:
    """One archive of an organization, or one directory with a whole fleet."""

    path: Path
    #: "tenant" or "fleet".
    kind: str
    taken_at: datetime
    tenants: tuple[UUID, ...]
    slugs: tuple[str, ...]
    size_bytes: int
    #: Why it cannot be restored as a whole; None where it can.
    problem: str | None = None


@dataclass(frozen=True)
class PrunePlan:
    """What pruning would do."""

    keep: tuple[Backup, ...]
    remove: tuple[Backup, ...]
    #: Of the kept, those that are kept only because nothing newer has that organization.
    last_of_a_tenant: tuple[Backup, ...]
    unfinished: tuple[Path, ...]


def list_backups(directory: Path) -> list[Backup]:
    """All finished backups below the directory, newest first; manifests alone are read."""
    found = [_tenant(path) for path in (directory / "tenants").glob("*/*.tar")]
    found += [_fleet(path.parent) for path in (directory / "fleet").glob(f"*/{FLEET}")]
    return sorted(found, key=lambda one: one.taken_at, reverse=True)


def plan_prune(
    directory: Path, existing: Collection[UUID], *, daily: int, weekly: int, monthly: int
) -> PrunePlan:
    """What to remove. `existing` are the organizations of the fleet as it is.

    Of each series (the fleet, and each organization) the newest backup of so many days, weeks and
    months is kept. The newest whole backup of an organization that exists is never removed, nor one
    with a problem that is newer than all whole ones of its series.
    """
    if min(daily, weekly, monthly) < 0 or daily + weekly + monthly == 0:
        raise BackupError("keep at least one backup: --keep-daily, --keep-weekly or --keep-monthly")
    backups = list_backups(directory)
    series: dict[object, list[Backup]] = {}
    for one in backups:
        series.setdefault(one.path.parent if one.kind == "tenant" else "fleet", []).append(one)
    keep: set[Path] = set()
    for members in series.values():
        whole = [one for one in members if one.problem is None]
        keep |= {one.path for one in _kept(whole, daily, weekly, monthly)}
        newest = max((one.taken_at for one in whole), default=None)
        keep |= {
            one.path
            for one in members
            if one.problem is not None and (newest is None or one.taken_at > newest)
        }
    needed = _newest_of_each(backups, existing)
    protected = [one for one in backups if one.path in needed and one.path not in keep]
    keep |= needed
    return PrunePlan(
        keep=tuple(one for one in backups if one.path in keep),
        remove=tuple(one for one in backups if one.path not in keep),
        last_of_a_tenant=tuple(protected),
        unfinished=tuple(_unfinished(directory)),
    )


def prune(plan: PrunePlan) -> None:
    """Remove what the plan says."""
    for path in (*(one.path for one in plan.remove), *plan.unfinished):
        if path.is_dir():
            # Without its manifest it is no backup, however far this gets.
            (path / FLEET).unlink(missing_ok=True)
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _newest_of_each(backups: Sequence[Backup], existing: Collection[UUID]) -> set[Path]:
    needed: dict[UUID, Path] = {}
    for one in backups:  # newest first
        # An archive in a fleet's backup is whole even where others are missing.
        if one.problem is not None and one.kind == "tenant":
            continue
        for tenant in one.tenants:
            if tenant in existing:
                needed.setdefault(tenant, one.path)
    return set(needed.values())


def _kept(whole: Sequence[Backup], daily: int, weekly: int, monthly: int) -> Iterable[Backup]:
    for count, period in ((daily, "%Y-%m-%d"), (weekly, "%G-%V"), (monthly, "%Y-%m")):
        seen: set[str] = set()
        for one in whole:  # newest first: the newest of each period
            name = one.taken_at.astimezone(UTC).strftime(period)
            if name not in seen and len(seen) < count:
                seen.add(name)
                yield one


def _tenant(path: Path) -> Backup:
    try:
        with Archive(path) as archive:
            one = archive.manifest
        return Backup(
            path,
            "tenant",
            one.taken_at,
            (one.organization_id,),
            (one.slug,),
            path.stat().st_size,
        )
    except BackupError as error:
        return Backup(path, "tenant", _moment(path.stem), (), (), path.stat().st_size, str(error))


def _fleet(path: Path) -> Backup:
    size = sum(one.stat().st_size for one in path.iterdir() if one.is_file())
    try:
        manifest = read_fleet(path)
    except BackupError as error:
        return Backup(path, "fleet", _moment(path.name), (), (), size, str(error))
    return Backup(
        path,
        "fleet",
        manifest.taken_at,
        tuple(one.organization_id for one in manifest.tenants),
        tuple(one.slug for one in manifest.tenants),
        size,
        None if manifest.is_whole else f"missing: {'; '.join(manifest.missing)}",
    )


def _moment(name: str) -> datetime:
    try:
        return datetime.strptime(name, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _unfinished(directory: Path) -> Iterable[Path]:
    before = (now() - timedelta(hours=_UNFINISHED_HOURS)).timestamp()
    found = list((directory / "tenants").glob(f"*/*{UNFINISHED}"))
    fleets = directory / "fleet"
    found += [one for one in fleets.glob("*") if one.is_dir() and not (one / FLEET).exists()]
    return sorted(one for one in found if one.stat().st_mtime < before)
