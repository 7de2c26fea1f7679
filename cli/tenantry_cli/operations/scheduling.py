"""The schedule where pg_cron is installed: tasks of the database without a runner."""

from __future__ import annotations

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection

#: One job each minute does whatever is due, so that a server that was down makes up for it.
JOB = "tenantry maintenance"
_EVERY_MINUTE = "* * * * *"
_COMMAND = "select private.run_due_tasks()"


def schedule_with_pg_cron(connection: Connection) -> int:
    """Register the job for this database; its number. May be done again.

    Raises TenantryError where pg_cron is absent or lives in another database of the cluster.
    """
    _require_pg_cron(connection)
    row = connection.execute(
        "select cron.schedule(%s, %s, %s) as job", (JOB, _EVERY_MINUTE, _COMMAND)
    ).fetchone()
    assert row is not None
    return int(row["job"])


def unschedule_with_pg_cron(connection: Connection) -> bool:
    """Remove the job; False when there was none. Raises TenantryError where pg_cron is absent."""
    _require_pg_cron(connection)
    found = connection.execute("select jobid from cron.job where jobname = %s", (JOB,)).fetchone()
    if found is None:
        return False
    connection.execute("select cron.unschedule(%s::bigint)", (found["jobid"],))
    return True


def _require_pg_cron(connection: Connection) -> None:
    row = connection.execute(
        """
        select exists (select from pg_extension where extname = 'pg_cron') as is_installed,
          exists (select from pg_available_extensions where name = 'pg_cron') as is_available
        """
    ).fetchone()
    assert row is not None
    if row["is_installed"]:
        return
    name = connection.info.dbname
    instead = "or have `tenantry maintenance run` called every minute, which needs no extension"
    if row["is_available"]:
        raise TenantryError(
            f"pg_cron is not installed in {name}: as a superuser `create extension pg_cron` in the "
            f"database that cron.database_name names, {instead}"
        )
    raise TenantryError(f"this server has no pg_cron: {instead.removeprefix('or ')}")
