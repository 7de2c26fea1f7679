"""Migrations asked for through the API: what the worker runs for rows of fleet_jobs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from tenantry_cli.migrate.files import MigrationError
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.goal import find_goal
from tenantry_cli.migrate.place import Ledger, read_state
from tenantry_cli.migrate.report import Outcome, Report
from tenantry_cli.migrate.status import fleet_status
from tenantry_cli.migrate.targets import read_targets

KINDS = ("migrate_up", "migrate_status", "migrate_rollback")

# What each kind understands, and of which type.
_ARGUMENTS: dict[str, dict[str, type]] = {
    "migrate_up": {"tenant": str, "dry_run": bool, "workers": int},
    "migrate_status": {"drift": bool},
    "migrate_rollback": {
        "tenant": str,
        "dry_run": bool,
        "workers": int,
        "version": str,
        "to": str,
        "steps": int,
    },
}


def run_migration_job(
    kind: str, arguments: Mapping[str, Any], fleet: FleetMigration
) -> dict[str, Any]:
    """Run one job to its end; the result is plain JSON.

    Args:
        kind: one of KINDS.
        arguments: tenant (id of an organization), dry_run, workers; for a rollback version, to or
            steps; for the status drift.
        fleet: see FleetMigration; `read_rollbacks` must be in it.

    Raises MigrationError: the job is refused and nothing was begun. Places that fail are told in
    the result (`failed`) and do not raise.
    """
    given = _checked(kind, arguments)
    if "workers" in given:
        fleet = replace(fleet, options=replace(fleet.options, workers=given["workers"]))
    tenant, dry_run = given.get("tenant"), given.get("dry_run", False)
    if kind == "migrate_status":
        standings = fleet_status(fleet, with_drift=given.get("drift", True))
        return {"targets": [one.as_json() for one in standings]}
    if kind == "migrate_up":
        return report_json(fleet.up(tenant, dry_run=dry_run))
    choice = {name: given[name] for name in ("version", "to", "steps") if name in given}
    goal = find_goal(applied_versions(fleet, tenant), fleet.migrations, **choice)
    return report_json(fleet.rollback(goal, tenant, dry_run=dry_run))


def applied_versions(fleet: FleetMigration, tenant: str | None = None) -> list[str]:
    """What the main database has, or the place of one organization. Raises MigrationError."""
    with closing(fleet.connect(fleet.main)) as main:
        main.autocommit = True
        if tenant is None:
            return sorted(read_state(main, []).ledger.versions)
        own = [one for one in read_targets(main, fleet.template).all() if one.is_tenant]
    place = next((one for one in own if str(one.organization_id) == tenant), None)
    if place is None:
        raise MigrationError(f"organization {tenant} has no place of its own")
    with closing(fleet.connect(place.database)) as connection:
        connection.autocommit = True
        state = read_state(connection, [place.schema] if place.schema else [])
    ledger = state.schemas.get(place.schema, Ledger({})) if place.schema else state.ledger
    return sorted(ledger.versions)


def report_json(report: Report) -> dict[str, Any]:
    """For machines: counts, and every place that changed or failed."""
    return {
        "changed": [outcome_json(one) for one in report.changed],
        "failed": [outcome_json(one) for one in report.failed],
        "behind": [one.target.name for one in report.outcomes if one.state == "behind"],
        "places": len(report.outcomes),
        "stopped": report.stopped,
        "seconds": round(report.seconds, 3),
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """One place of a report."""
    organization = outcome.target.organization_id
    return {
        "target": outcome.target.name,
        "kind": outcome.target.kind,
        "organization_id": None if organization is None else str(organization),
        "state": outcome.state,
        "version": outcome.version,
        "files": list(outcome.files),
        "error": outcome.error,
        "seconds": round(outcome.seconds, 3),
    }


def _checked(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if kind not in _ARGUMENTS:
        raise MigrationError(f"kind {kind!r} is none: choose {', '.join(KINDS)}")
    known = _ARGUMENTS[kind]
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, value in given.items():
        wanted = known.get(name)
        if wanted is None:
            raise MigrationError(f"{name} is no argument of {kind}: it knows {', '.join(known)}")
        if type(value) is not wanted:
            raise MigrationError(f"{name} must be {wanted.__name__}, not {type(value).__name__}")
    for name in ("version", "to"):
        if name in given and not given[name].isdigit():
            raise MigrationError(f"{name} must be the version of a migration: digits alone")
    if not 1 <= given.get("workers", 1) <= 32:
        raise MigrationError("workers must be 1 to 32")
    return given
