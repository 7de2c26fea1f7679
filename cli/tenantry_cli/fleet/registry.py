"""Members follow: the registry rows of an organization are kept equal wherever it lives.

The main database counts changes per organization and place. `send` takes a snapshot and gives it
to the place, which refuses to go back to an earlier state; `send_due` does so for all that changed,
and `reconcile` for all there are, whatever was counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from tenantry_cli.fleet.fleet import Connection, Fleet

_SNAPSHOT = """
select private.registry_snapshot(%s) as snapshot,
  (select version from private.registry_places where organization_id = %s and database_name = %s)
"""
# Changes are counted at commit; what is sent before it has to be counted before.
_COUNT_NOW = """
set constraints public._950_registry, public._950_registry_update, private._950_registry immediate
"""
_SENT = """
update private.registry_places set sent_version = greatest(sent_version, %s), sent_at = now(),
  error = null
where organization_id = %s and database_name = %s
"""
_FAILED = """
update private.registry_places set error = left(%s, 1000)
where organization_id = %s and database_name = %s
"""
_DUE = """
select organization_id, database_name from private.registry_places
where sent_version < version order by sent_at nulls first
"""


@dataclass(frozen=True)
class Sent:
    """One copy that was brought up to date, or why it was not."""

    organization_id: UUID
    database: str
    error: str | None = None


def add_place(main: Connection, organization_id: UUID, database: str) -> None:
    """Remember that a database other than the main one holds a copy, which is outdated now."""
    main.execute(
        "insert into private.registry_places (organization_id, database_name) values (%s, %s) "
        "on conflict (organization_id, database_name) "
        "do update set version = registry_places.version + 1",
        (organization_id, database),
    )


def send(
    fleet: Fleet,
    organization_id: UUID,
    database: str,
    *,
    main: Connection | None = None,
    force: bool = False,
) -> None:
    """Bring one copy up to date. Does nothing for the main database itself.

    `main` may be in a transaction whose changes shall be sent before they are committed. `force`
    overwrites also where the place claims a later state (after a restore of the main database).
    """
    if database == fleet.main:
        return
    if main is None:
        with fleet.session() as own:
            send(fleet, organization_id, database, main=own, force=force)
        return
    if main.info.transaction_status is TransactionStatus.INTRANS:
        main.execute(_COUNT_NOW)
    row = main.execute(_SNAPSHOT, (organization_id, organization_id, database)).fetchone()
    if row is None or row["version"] is None:
        return  # no such place any more
    with fleet.session(database) as place, place.transaction():
        # Rows that were checked where they were made must not be checked or counted again.
        place.execute(
            "select private.receive_registry(%s, %s, %s)",
            (Jsonb(row["snapshot"]), row["version"], force),
        )
    main.execute(_SENT, (row["version"], organization_id, database))


def send_due(fleet: Fleet) -> list[Sent]:
    """Bring all outdated copies up to date; one that fails keeps its error and is tried again."""
    with fleet.session() as main:
        due = main.execute(_DUE).fetchall()
        return _send_each(
            fleet, main, [(row["organization_id"], row["database_name"]) for row in due]
        )


def reconcile(fleet: Fleet, *, force: bool = False) -> list[Sent]:
    """Send every copy again: whatever was lost, changed by hand or restored is right afterwards."""
    with fleet.session() as main:
        rows = main.execute(
            "select organization_id, database_name from private.registry_places order by 2, 1"
        ).fetchall()
        for row in rows:
            # A version of its own, or the place would take the snapshot for the one it has.
            add_place(main, row["organization_id"], row["database_name"])
        return _send_each(
            fleet,
            main,
            [(row["organization_id"], row["database_name"]) for row in rows],
            force=force,
        )


def _send_each(
    fleet: Fleet, main: Connection, copies: Sequence[tuple[UUID, str]], *, force: bool = False
) -> list[Sent]:
    sent = []
    for organization_id, database in copies:
        try:
            send(fleet, organization_id, database, main=main, force=force)
            sent.append(Sent(organization_id, database))
        except psycopg.Error as error:
            message = str(error).strip()
            main.execute(_FAILED, (message, organization_id, database))
            sent.append(Sent(organization_id, database, message))
    return sent
