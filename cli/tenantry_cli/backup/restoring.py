"""Restoring one organization from its archive, into any placement.

    check      the archive is read whole, before anything is touched
    close      its home is `provisioning`: nobody reads or writes, older routers are refused
    copy       rows as they were, compared with the archive's digests
    mend       references to registry rows that are gone are cleared, erased people are erased again
    compare    policies, grants, triggers, constraints are those that were shipped
    open       the home is `active`

Copying and mending is one transaction of the place. Whatever fails, the home stays closed, and the
same command may be given again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from tenantry_cli.backup.archive import Archive
from tenantry_cli.backup.check import differences
from tenantry_cli.backup.erasing import erase_again
from tenantry_cli.backup.log import Log, fleet_log, logs_beside
from tenantry_cli.backup.manifest import BackupError, Manifest, names, now, stamp
from tenantry_cli.backup.registry import Registry
from tenantry_cli.backup.saving import Progress, quiet, tenant_directory, write_archive
from tenantry_cli.fleet import provision
from tenantry_cli.fleet.fleet import Connection, Fleet, FleetError, Home, Tenant, exists
from tenantry_cli.fleet.mover import alone, drain
from tenantry_cli.fleet.registry import send
from tenantry_cli.fleet.rows import (
    Table,
    as_they_are,
    copy_in,
    digest,
    make_partitions,
    orphans,
    plain_text,
    remove_rows,
    tables_at,
)

# What a tenant's partitions look like; the text of an archive becomes SQL here alone.
_PARTITION = re.compile(r"audit_logs_\d{4}_\d{2}")
_BOUND = re.compile(r"FOR VALUES FROM \('[-0-9: +]{10,32}'\) TO \('[-0-9: +]{10,32}'\)")


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would do."""

    manifest: Manifest
    target: Home
    #: The organization as it is now; None where it is gone.
    current: Tenant | None
    interrupted: bool
    #: The registry names a home that is no more: there is nothing to save first.
    is_lost: bool = False

    def sentences(self) -> list[str]:
        """The plan in words."""
        one, target = self.manifest, self.target
        told = [
            f"{one.slug} ({one.organization_id}) as of {one.taken_at:%Y-%m-%d %H:%M:%S} UTC: "
            f"{one.rows()} rows of {len(one.businesses)} businesses",
            f"into {target.isolation}: {target.database}.{target.schema}",
        ]
        if self.current is None:
            told.append("its registry rows come back without what was revoked since")
        else:
            told.append("members, roles and keys stay as they are today")
        if self.interrupted:
            told.append("an interrupted restore is taken up")
        elif self.is_lost:
            told.append("its home is no more, so there are no rows of today to save first")
        elif self.current is not None:
            told.append("today's rows are saved first, then replaced")
        return told


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    organization_id: UUID
    slug: str
    home: Home
    rows: int
    erased_again: int
    #: Today's rows as they were before; None where there were none.
    saved_first: Path | None
    left_out: list[str] = field(default_factory=list)


def plan_restore(
    fleet: Fleet, archive: Archive, isolation: str | None = None, *, replace: bool = False
) -> RestorePlan:
    """What restoring would do. Raises BackupError where it may not be done."""
    manifest = archive.manifest
    current = next((one for one in fleet.tenants() if one.id == manifest.organization_id), None)
    if isolation is not None:
        provision.check_isolation(isolation)
    if current is None:
        target = provision.new_home(
            fleet, manifest.organization_id, isolation or manifest.home.isolation
        )
        return RestorePlan(manifest, target, None, False)
    interrupted = current.state in ("provisioning", "failed")
    if not replace and not interrupted:
        raise BackupError(
            f"{current.slug} exists (state {current.state}): --replace saves its rows and puts "
            "those of the archive in their place"
        )
    if current.state == "moving":
        raise BackupError(
            f"{current.slug} is being moved: `tenantry tenant resume {current.slug}` first"
        )
    if isolation is not None and isolation != current.home.isolation:
        raise BackupError(
            f"{current.slug} lives in placement {current.home.isolation}: restore it there, then "
            f"`tenantry tenant move {current.slug} {isolation}`"
        )
    return RestorePlan(
        manifest, current.home, current, interrupted, not _is_there(fleet, current.home)
    )


def _is_there(fleet: Fleet, home: Home) -> bool:
    """Whether a home exists. One that cannot be reached raises instead."""
    with fleet.session() as main:
        if not exists(main, home.database):
            return False
    with fleet.session(home.database) as place:
        row = place.execute(
            "select to_regnamespace(%s) is not null as found", (home.schema,)
        ).fetchone()
    return bool(row and row["found"])


def restore_tenant(
    fleet: Fleet,
    path: Path,
    *,
    directory: Path,
    isolation: str | None = None,
    replace: bool = False,
    log: Log | None = None,
    progress: Progress = quiet,
) -> Restored:
    """Restore an organization. Raises BackupError; then its home is closed, or as it was before.

    `directory` is that of all backups, where today's rows are saved. `log` adds to what the
    databases of the fleet and the files beside the archive know of erasures and revocations.
    """
    progress("read the archive", 0.0)
    with Archive(path) as archive, fleet.connect() as guard:
        archive.check()
        with alone(guard, archive.manifest.organization_id):
            plan = plan_restore(fleet, archive, isolation, replace=replace)
            known, unreachable = fleet_log(fleet)
            if unreachable:
                raise BackupError(
                    "who was erased cannot be asked everywhere, so nothing was restored: "
                    + "; ".join(unreachable)
                )
            whole = (log or Log()).add(known, logs_beside(path))
            return Restore(fleet, archive, plan, whole, progress).run(directory)


class Restore:
    """One restore of an organization that nobody else moves or saves meanwhile."""

    def __init__(
        self, fleet: Fleet, archive: Archive, plan: RestorePlan, log: Log, progress: Progress
    ) -> None:
        self._fleet, self._archive, self._plan, self._log = fleet, archive, plan, log
        self._progress = progress
        self._manifest = archive.manifest
        self._id = archive.manifest.organization_id
        self._left_out: list[str] = []

    def run(self, directory: Path) -> Restored:
        saved_first = self._save_first(directory)
        try:
            self._close()
            erased = self._fill()
        except (psycopg.Error, FleetError) as error:
            stays = "stays closed" if self._fail() else "nothing was changed"
            before = f" Its rows before the restore: {saved_first}." if saved_first else ""
            raise BackupError(
                f"{self._manifest.slug} was not restored, {stays}: {str(error).strip()}."
                f"{before} Mend the cause and give the same command again"
            ) from error
        self._open()
        return Restored(
            self._id,
            self._manifest.slug,
            self._plan.target,
            self._manifest.rows(),
            erased,
            saved_first,
            self._left_out,
        )

    def _save_first(self, directory: Path) -> Path | None:
        current = self._plan.current
        if current is None or self._plan.interrupted or self._plan.is_lost:
            return None
        self._progress("save today's rows", 0.05)
        path = tenant_directory(directory, self._id) / f"{stamp(now())}.tar"
        path = write_archive(self._fleet, current, path)
        with Archive(path) as saved:
            saved.check()
            newer = set(saved.manifest.businesses) - set(self._manifest.businesses)
        if newer:
            self._left_out.append(
                f"{len(newer)} businesses are newer than the archive and keep their rows"
            )
        return path

    def _close(self) -> None:
        self._progress("close the home", 0.1)
        with self._fleet.session() as main, main.transaction():
            if self._plan.current is None:
                registry = Registry(self._archive.registry())
                # More than the moves between the archive and the end of the organization, so that
                # whatever a router or an old copy remembers is older.
                registry.restore(main, self._plan.target, self._manifest.epoch + 1000, self._log)
                self._left_out += registry.left_out
            else:
                provision.set_state(main, self._id, "provisioning")
                main.execute(
                    "update public.organization_placements set epoch = epoch + 1 "
                    "where organization_id = %s",
                    (self._id,),
                )
                self._left_out.append("members, roles and keys are today's")
        provision.make_place(self._fleet, self._id, self._plan.target)
        send(self._fleet, self._id, self._plan.target.database, force=True)

    def _fill(self) -> int:
        target, businesses = self._plan.target, list(self._manifest.businesses)
        if self._plan.current is not None and not self._plan.interrupted:
            drain(self._fleet, target.database)
        # A session of its own: it changes what its transaction checks.
        with self._fleet.connect(target.database) as place:
            here = {one.name: one for one in tables_at(place, target)}
            wanted = self._columns(here)
            plain_text(place)
            with as_they_are(place):
                self._make_partitions(place)
                remove_rows(place, list(here.values()), businesses)
                for number, table in enumerate(self._manifest.tables):
                    self._progress(f"copy {table.name}", 0.15 + 0.5 * number / len(wanted))
                    statement = copy_in(
                        here[table.name].identifier, wanted[table.name].columns, "text"
                    )
                    with place.cursor().copy(statement) as rows:
                        for block in self._archive.rows(table):
                            rows.write(block)
                self._compare(place, wanted)
                # What the registry has lost since: cleared as its foreign keys would have.
                place.execute("select private.mend_references(%s)", ([target.schema],))
                place.execute("set local session_replication_role = origin")
                self._progress("erase again who was erased", 0.88)
                erased = erase_again(
                    place, self._id, target.schema, businesses, self._log.erased(businesses)
                )
                if broken := orphans(place, list(here.values()), businesses):
                    raise BackupError(f"references would point to nothing: {names(broken)}")
            for one in here.values():
                place.execute(sql.SQL("analyze {}").format(one.identifier))
        self._progress("compare policies and grants", 0.9)
        # A new session: definitions are printed by its settings, and kept ones may differ.
        with self._fleet.connect(target.database) as place:
            different = differences(place, target)
        if different:
            raise BackupError(
                f"{target.database}.{target.schema} is not protected as it was shipped "
                f"({names(different)}): drop what was made by hand, or run "
                "`tenantry migrate up --all`"
            )
        return erased

    def _columns(self, here: dict[str, Table]) -> dict[str, Table]:
        """The archive's tables at the target. A newer target may have more tables and columns."""
        wanted, different = {}, []
        for table in self._manifest.tables:
            there = here.get(table.name)
            if there is None or not set(table.types) <= set(there.types):
                different.append(table.name)
            else:
                wanted[table.name] = table.at(there.schema)
        if different:
            raise BackupError(
                f"the archive was taken at migration {self._manifest.migration} and its tables "
                f"differ from those here ({names(different)}): restore it with the checkout of "
                "Tenantry that has that migration as its newest, into an empty server, then run "
                "`tenantry migrate up` of this one"
            )
        return wanted

    def _make_partitions(self, place: Connection) -> None:
        for one in self._manifest.partitions:
            if not (_PARTITION.fullmatch(one.name) and _BOUND.fullmatch(one.bound)):
                raise BackupError(f"the archive names a partition that is none: {one.name!r}")
            if one.parent != "audit_logs":
                raise BackupError(f"the archive has parts of {one.parent!r}, which has none")
        make_partitions(place, self._plan.target, self._manifest.partitions)

    def _compare(self, place: Connection, wanted: dict[str, Table]) -> None:
        for number, table in enumerate(self._manifest.tables):
            self._progress(f"compare {table.name}", 0.65 + 0.2 * number / len(wanted))
            found = digest(place, wanted[table.name], self._manifest.businesses)
            if found != table.digest:
                raise BackupError(
                    f"{table.name} differs from the archive: {found.rows} rows, checksum "
                    f"{found.checksum}; in the archive {table.rows}, checksum {table.checksum}"
                )

    def _open(self) -> None:
        self._progress("open the home", 0.97)
        with self._fleet.session() as main, main.transaction():
            provision.set_state(main, self._id, "active")
            before = self._plan.current.state if self._plan.current else "active"
            if before in ("read_only", "archived"):
                provision.set_state(main, self._id, before)
            send(self._fleet, self._id, self._plan.target.database, main=main, force=True)
        self._progress("done", 1.0)

    def _fail(self) -> bool:
        """Have a home that was closed stay so; false where it was not closed yet."""
        with self._fleet.session() as main:
            closed = main.execute(
                "update public.organization_placements set state = 'failed' "
                "where organization_id = %s and state = 'provisioning'",
                (self._id,),
            ).rowcount
            with suppress(psycopg.Error):  # it was told to be closed, or knows nobody
                send(self._fleet, self._id, self._plan.target.database, main=main, force=True)
        return bool(closed)
