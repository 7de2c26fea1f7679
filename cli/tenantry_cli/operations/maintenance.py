"""Maintenance of one database, and of all: what is due, once, whoever else runs it too."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.operations.places import Visited, explain, visit
from tenantry_cli.operations.upkeep import TASKS

SCHEDULES = ("minutely", "daily", "weekly", "monthly")

#: The lock that private.run_due_tasks() takes too.
_LOCK = "hashtextextended('tenantry maintenance', 0)"
_STATUS = """
  select task, schedule, runs_in, is_enabled, is_due, last_started_at, duration_ms, error,
    last_success_at, result
  from private.maintenance_status()
"""

Row = dict[str, Any]


def maintenance_status(connection: Connection) -> list[Row]:
    """Every task with its last run and whether it is due."""
    return connection.execute(_STATUS).fetchall()


def run_due_maintenance(
    fleet: Fleet, *, only: str | None = None, limit: Iterable[str] = SCHEDULES
) -> Visited:
    """Run what is due in each database of the fleet; call it as often as you like.

    A database where somebody else runs maintenance at this moment is left to them (None). Otherwise
    the rows {task, duration_ms, result, error} of what ran; error is None for what succeeded.
    """
    schedules = frozenset(limit)
    return visit(
        fleet, lambda connection: run_maintenance(connection, schedules, only_due=True), only=only
    )


def run_maintenance(
    connection: Connection, schedules: Iterable[str], *, only_due: bool
) -> list[Row] | None:
    """Run the enabled tasks of these schedules in one database, one after the other.

    None when another runner works there. `connection` must commit each statement.
    """
    wanted = frozenset(schedules)
    if unknown := wanted - set(SCHEDULES):
        raise TenantryError(
            f"no schedule {', '.join(sorted(unknown))}: there are {', '.join(SCHEDULES)}"
        )
    if not connection.autocommit:
        raise TenantryError("maintenance needs a connection that commits each statement")
    with _alone(connection) as is_alone:
        if not is_alone:
            return None
        # Looked up under the lock: what the runner before has done is not due any more.
        tasks = [
            one
            for one in maintenance_status(connection)
            if one["schedule"] in wanted and one["is_enabled"] and (one["is_due"] or not only_due)
        ]
        return [_run(connection, one) for one in tasks]


def _run(connection: Connection, task: Row) -> Row:
    name = task["task"]
    started = datetime.datetime.now(datetime.UTC)
    if task["runs_in"] == "database":
        row = connection.execute(
            "select private.run_maintenance_task(%s) as done", (name,)
        ).fetchone()
        assert row is not None
        result, error = row["done"].get("result"), row["done"].get("error")
    else:
        result, error = _upkeep(connection, name)
        connection.execute(
            "select private.record_maintenance(%s, least(%s, clock_timestamp()), %s::jsonb, %s)",
            (name, started, None if result is None else json.dumps(result), error),
        )
    seconds = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
    return {"task": name, "duration_ms": round(seconds * 1000), "result": result, "error": error}


def _upkeep(connection: Connection, name: str) -> tuple[Row | None, str | None]:
    if name not in TASKS:
        return None, f"this version of tenantry does not know the task {name}: update it"
    try:
        result = TASKS[name](connection)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return None, explain(error)
    if result["failed"]:
        first, reason = next(iter(result["failed"].items()))
        return result, f"{len(result['failed'])} failed, {first} among them: {reason}"
    return result, None


@contextmanager
def _alone(connection: Connection) -> Iterator[bool]:
    """The lock of this database's maintenance, held by the session: vacuum has no transaction."""
    row = connection.execute(f"select pg_try_advisory_lock({_LOCK}) as is_held".encode()).fetchone()
    is_held = row is not None and bool(row["is_held"])
    try:
        yield is_held
    finally:
        if is_held and not connection.closed:
            connection.execute(f"select pg_advisory_unlock({_LOCK})".encode())
