"""Saving a whole fleet: a dump of the main database, and an archive for each organization.

Archives, not dumps of shelves and databases: everything but the rows of organizations is made by
migrations there, one form restores into any placement, and one organization can be brought back
alone from every backup. Each organization is saved as of one moment, the registry last, so that it
knows whatever the rows refer to.

`fleet.json` is written last, with the SHA-256 of every file: a directory without it is no backup.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from tenantry_cli.backup.archive import Archive, private_file, sync_directory
from tenantry_cli.backup.dump import dump_main, require_rows
from tenantry_cli.backup.log import fleet_log, write_log
from tenantry_cli.backup.manifest import (
    FORMAT,
    BackupError,
    file_sha256,
    now,
    require_format,
    stamp,
)
from tenantry_cli.backup.saving import Progress, quiet, write_archive
from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Fleet, Tenant
from tenantry_cli.fleet.mover import alone

MAIN = "main.dump"
FLEET = "fleet.json"
WORKERS = 4

# What a dump lacks and prepare_cluster, migrations and fleet restores make again; passwords are
# not among it.
_ROLES = """
select r.rolname::text as name, r.rolinherit, r.rolcreatedb, r.rolcreaterole, r.rolcanlogin,
  r.rolreplication, r.rolbypassrls,
  array(select a.roleid::regrole::text from pg_auth_members a where a.member = r.oid order by 1)
    as member_of,
  array(select k from pg_db_role_setting s, unnest(s.setconfig) k where s.setrole = r.oid
        order by 1) as settings
from pg_roles r where r.rolname !~ '^pg_' order by 1
"""
_DATABASE = """
select pg_get_userbyid(datdba)::text as owner, datacl::text as rights, pg_encoding_to_char(encoding)
  as encoding from pg_database where datname = current_database()
"""


@dataclass(frozen=True)
class SavedTenant:
    """An organization in a fleet's backup."""

    organization_id: UUID
    slug: str
    file: str
    sha256: str


@dataclass(frozen=True)
class FleetManifest:
    """What `fleet.json` says. Whole when nothing is missing."""

    main: str
    prefix: str
    taken_at: datetime
    main_sha256: str
    main_rows: Mapping[str, int]
    tenants: tuple[SavedTenant, ...]
    #: What could not be saved, in words.
    missing: tuple[str, ...] = ()
    shelves: tuple[str, ...] = ()
    cluster: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return not self.missing

    def to_json(self) -> bytes:
        content = {"format": FORMAT, "kind": "fleet", **asdict(self)}
        return json.dumps(content, indent=1, default=str, ensure_ascii=False).encode()


def read_fleet(directory: Path) -> FleetManifest:
    """The manifest of a fleet's backup. Raises BackupError where it is unfinished or damaged."""
    path = directory / FLEET
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        require_format(content, path)
        return FleetManifest(
            main=content["main"],
            prefix=content["prefix"],
            taken_at=datetime.fromisoformat(content["taken_at"]),
            main_sha256=content["main_sha256"],
            main_rows=dict(content["main_rows"]),
            tenants=tuple(
                SavedTenant(UUID(t["organization_id"]), t["slug"], t["file"], t["sha256"])
                for t in content["tenants"]
            ),
            missing=tuple(content["missing"]),
            shelves=tuple(content["shelves"]),
            cluster=content["cluster"],
        )
    except FileNotFoundError:
        raise BackupError(f"{directory} is no finished backup: it has no {FLEET}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{path} is damaged ({error})") from error


def check_fleet(directory: Path) -> FleetManifest:
    """Read every file of a fleet's backup. Raises BackupError naming what is damaged."""
    manifest = read_fleet(directory)
    for name, expected in [(MAIN, manifest.main_sha256)] + [
        (one.file, one.sha256) for one in manifest.tenants
    ]:
        path = directory / name
        if not path.is_file() or file_sha256(path) != expected:
            raise BackupError(f"{path} is missing or damaged")
    require_rows(directory / MAIN, dict(manifest.main_rows))
    for one in manifest.tenants:
        with Archive(directory / one.file) as archive:
            archive.check()
    return manifest


def backup_fleet(
    fleet: Fleet, directory: Path, *, workers: int = WORKERS, progress: Progress = quiet
) -> tuple[Path, FleetManifest]:
    """Save a whole fleet below `directory`; what cannot be saved is in `missing` of the manifest.

    Raises BackupError where the main database cannot be saved: then there is no backup.
    """
    taken_at = now()
    place = directory / "fleet" / stamp(taken_at)
    place.mkdir(mode=0o700, parents=True)
    tenants = fleet.tenants()
    saved, missing = _save_each(fleet, tenants, place, workers, progress)
    progress("dump the main database", 0.8)
    main_rows = dump_main(fleet, place / MAIN)
    # Whoever came while the others were saved is in the dump, and must have an archive.
    late = [one for one in fleet.tenants() if one.id not in saved and one.id not in missing]
    late_saved, late_missing = _save_each(fleet, late, place, workers)
    saved |= late_saved
    missing |= late_missing
    progress("note erasures", 0.95)
    log, unreachable = fleet_log(fleet)
    write_log(directory, log)
    with fleet.session() as main:
        roles = main.execute(_ROLES).fetchall()
        database = main.execute(_DATABASE).fetchone()
        shelves = main.execute(
            "select name from public.placement_databases where kind = 'shelf' order by 1"
        ).fetchall()
    manifest = FleetManifest(
        main=fleet.main,
        prefix=fleet.prefix,
        taken_at=taken_at,
        main_sha256=file_sha256(place / MAIN),
        main_rows=main_rows,
        tenants=tuple(sorted(saved.values(), key=lambda one: one.slug)),
        missing=(*missing.values(), *(f"erasures of {one}" for one in unreachable)),
        shelves=tuple(row["name"] for row in shelves),
        cluster={"roles": roles, "database": database},
    )
    unfinished = place / (FLEET + ".partial")
    with private_file(unfinished) as file:
        file.write(manifest.to_json())
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(place / FLEET)
    sync_directory(place)
    progress("done", 1.0)
    return place, manifest


def _save_each(
    fleet: Fleet,
    tenants: Sequence[Tenant],
    place: Path,
    workers: int,
    progress: Progress = quiet,
) -> tuple[dict[UUID, SavedTenant], dict[UUID, str]]:
    """Save organizations side by side; returns those saved, and why the others are not."""
    saved: dict[UUID, SavedTenant] = {}
    missing: dict[UUID, str] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = {pool.submit(_save, fleet, one, place): one for one in tenants}
        for future in as_completed(running):
            tenant = running[future]
            try:
                saved[tenant.id] = future.result()
            except (psycopg.Error, TenantryError, OSError) as error:
                missing[tenant.id] = f"{tenant.slug}: {str(error).strip()}"
            progress(f"saved {tenant.slug}", 0.8 * (len(saved) + len(missing)) / len(tenants))
    return saved, missing


def _save(fleet: Fleet, tenant: Tenant, place: Path) -> SavedTenant:
    # Each thread has connections of its own.
    own = Fleet(fleet.server, fleet.main, fleet.migrations, fleet.prefix, fleet.tenants_per_shelf)
    try:
        with own.connect() as guard, alone(guard, tenant.id):
            path = place / f"{tenant.id}.tar"
            write_archive(own, own.tenant(tenant.id), path)
        return SavedTenant(tenant.id, tenant.slug, path.name, file_sha256(path))
    finally:
        own.close()
