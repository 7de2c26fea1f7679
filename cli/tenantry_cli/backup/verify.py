"""Reading a backup again: its checksums, and in depth by restoring it into a scratch database."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from tenantry_cli.backup.archive import Archive
from tenantry_cli.backup.fleet_saving import FLEET, check_fleet
from tenantry_cli.backup.log import Log
from tenantry_cli.backup.restoring import Restore, RestorePlan
from tenantry_cli.backup.saving import Progress, quiet
from tenantry_cli.fleet.databases import clone_template
from tenantry_cli.fleet.fleet import Fleet, Home
from tenantry_cli.fleet.mover import alone
from tenantry_cli.stack.database import drop_database


@dataclass(frozen=True)
class Verified:
    """What was read again."""

    path: Path
    archives: int
    rows: int
    deep: bool


def verify(
    path: Path, fleet: Fleet | None = None, *, deep: bool = False, progress: Progress = quiet
) -> Verified:
    """Read a backup again: an archive, or the directory of a fleet. Raises BackupError.

    `deep` restores each archive into a scratch database of the fleet's server, which is dropped
    afterwards, and compares digests, references, policies and grants there.
    """
    if path.is_dir() or path.name == FLEET:
        directory = path if path.is_dir() else path.parent
        progress("read the backup", 0.0)
        manifest = check_fleet(directory)
        archives = [directory / one.file for one in manifest.tenants]
    else:
        archives = [path]
    rows = 0
    for number, one in enumerate(archives):
        progress(f"verify {one.name}", number / len(archives))
        with Archive(one) as archive:
            archive.check()
            rows += archive.manifest.rows()
            if deep and fleet is not None:
                _rehearse(fleet, archive)
    progress("done", 1.0)
    return Verified(path, len(archives), rows, deep)


def _rehearse(fleet: Fleet, archive: Archive) -> None:
    """Restore into a database that is a fleet of its own, knows nobody, and is dropped again."""
    name = f"{fleet.prefix}_rehearsal_{secrets.token_hex(4)}"
    clone_template(fleet, name)
    scratch = replace(fleet, main=name, _open={})
    try:
        with scratch.session() as main:
            # Whoever the archive knows has an account here, so that every row comes back.
            for user, email in archive.registry()["users"].items():
                main.execute(
                    "insert into auth.users (id, email) values (%s, %s) on conflict do nothing",
                    (user, email),
                )
        plan = RestorePlan(archive.manifest, Home("pooled", name, "public"), None, False)
        with scratch.connect() as guard, alone(guard, archive.manifest.organization_id):
            Restore(scratch, archive, plan, Log(), quiet).run(archive.path.parent)
    finally:
        scratch.close()
        drop_database(fleet.server, name)
