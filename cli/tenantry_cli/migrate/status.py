"""How a fleet stands, without changing anything."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from tenantry_cli.migrate.drift import has_drifted, read_hashes
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.place import DatabaseState, Ledger, read_state
from tenantry_cli.migrate.targets import Target, read_targets
from tenantry_cli.migrate.targets_record import Row, read_references, read_rows
from tenantry_cli.migrate.tenant_plane import tenant_migrations


@dataclass(frozen=True)
class Standing:
    """One place.

    Args:
        state: current, behind, failed (by the last run, and still behind) or unreachable.
        changed: files that say something else now than when they were applied.
        drifted: the catalog is not what the files make; null where that is not known.
    """

    target: Target
    state: str
    version: str | None
    pending: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    error: str | None = None
    attempts: int = 0
    drifted: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        organization = self.target.organization_id
        return {
            "target": self.target.name,
            "kind": self.target.kind,
            "organization_id": None if organization is None else str(organization),
            "state": self.state,
            "version": self.version,
            "pending": list(self.pending),
            "changed": list(self.changed),
            "error": self.error,
            "attempts": self.attempts,
            "drifted": self.drifted,
        }


def fleet_status(fleet: FleetMigration, *, with_drift: bool = True) -> list[Standing]:
    """Every place: one query per database, and one more where catalogs are compared."""
    with closing(fleet.connect(fleet.main)) as main:
        main.autocommit = True
        targets = read_targets(main, fleet.template)
        rows, references = read_rows(main), read_references(main)
    by_database: dict[str, list[Target]] = {}
    for target in targets.all():
        by_database.setdefault(target.database, []).append(target)

    def ask(database: str) -> tuple[DatabaseState | str, dict[str, str]]:
        schemas = [one.schema for one in by_database[database] if one.schema]
        try:
            with fleet.opened(database, targets) as connection:
                state = read_state(connection, schemas)
                return state, read_hashes(connection, database, targets) if with_drift else {}
        except psycopg.Error as error:
            return str(error).strip(), {}

    standings: list[Standing] = []
    with ThreadPoolExecutor(fleet.options.workers) as pool:
        for database, (state, hashes) in zip(by_database, pool.map(ask, by_database), strict=True):
            for target in by_database[database]:
                row = rows.get(target.name)
                if isinstance(state, str):
                    standings.append(Standing(target, "unreachable", None, error=state))
                    continue
                ledger = state.schemas.get(target.schema) if target.schema else state.ledger
                if ledger is None and target.may_be_missing:
                    continue
                standing = _standing(fleet, target, ledger, row)
                if standing.state == "current":
                    # A place that is behind differs from the reference as it should.
                    drifted = has_drifted(target, hashes.get(target.name), references)
                    standing = replace(standing, drifted=drifted)
                standings.append(standing)
    return standings


def _standing(
    fleet: FleetMigration, target: Target, ledger: Ledger | None, row: Row | None
) -> Standing:
    files = tenant_migrations(fleet.migrations) if target.schema else list(fleet.migrations)
    if ledger is None:
        return Standing(
            target, "failed", None, error="there is no such schema, or it has no ledger"
        )
    pending = tuple(one.label for one in ledger.pending(files))
    changed = tuple(ledger.changed(files))
    if pending and row and row.error:
        return Standing(target, "failed", ledger.newest, pending, changed, row.error, row.attempts)
    return Standing(target, "behind" if pending else "current", ledger.newest, pending, changed)
