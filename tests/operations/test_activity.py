"""Sessions by tenant: what is certain, what is guessed, and what cannot be seen."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.stack.database import create_database, drop_database
from tenantry_cli.testing import Database

from .conftest import BLUEBIRD, COPPERLINE, connect, scalar, schema_of


def _sessions(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    rows = connection.execute("select * from private.pg_stat_activity_by_schema").fetchall()
    return {(row["database_name"], row["schema_name"]): row for row in rows}


def test_a_pool_that_says_whose_it_is_is_believed(owner: Connection, story: Database) -> None:
    schema = schema_of(BLUEBIRD)
    owner.execute(
        "update public.organization_placements set isolation = 'schema', schema_name = %s"
        " where organization_id = %s",
        (schema, BLUEBIRD),
    )
    nobody = _sessions(owner)[story.name, schema]
    assert (nobody["total_connections"], nobody["attributed_by"]) == (0, None)
    with connect(story, application_name=schema), connect(story, application_name=schema) as busy:
        busy.autocommit = False
        busy.execute("select 1")
        found = _sessions(owner)[story.name, schema]
        assert found["organization_id"] == BLUEBIRD
        assert found["total_connections"] == 2
        assert found["idle_in_transaction"] == 1
        assert found["active_connections"] == 0
        assert found["attributed_by"] == "application name"
        # A tenant's connections are told with the tenant.
        told = scalar(
            owner,
            "select connections from private.tenant_statistics() where organization_id = %s",
            BLUEBIRD,
        )
        assert told == 2


def test_the_last_statement_is_second_best(owner: Connection, story: Database) -> None:
    schema = schema_of(COPPERLINE)
    with connect(story) as other, connect(story):
        before = _sessions(owner)[story.name, "public"]["total_connections"]
        other.execute(f"select 1 as {schema}".encode())
        sessions = _sessions(owner)
        assert sessions[story.name, schema]["total_connections"] == 1
        assert sessions[story.name, schema]["attributed_by"] == "last statement"
        assert sessions[story.name, "public"]["total_connections"] == before - 1
        assert sessions[story.name, "public"]["attributed_by"] == "nothing"


def test_a_database_of_its_own_is_certain(owner: Connection, story: Database) -> None:
    name = f"tenantry_{BLUEBIRD.hex}"
    create_database(story.server, name, with_auth_fallback=False)
    try:
        owner.execute(
            "update public.organization_placements set isolation = 'database', database_name = %s"
            " where organization_id = %s",
            (name, BLUEBIRD),
        )
        with connect(Database(story.server, name), application_name=schema_of(COPPERLINE)):
            found = _sessions(owner)[name, "public"]
            assert found["organization_id"] == BLUEBIRD
            assert (found["total_connections"], found["attributed_by"]) == (1, "database")
    finally:
        drop_database(story.server, name)


def test_shared_places_belong_to_nobody(owner: Connection, story: Database) -> None:
    assert _sessions(owner)[story.name, "public"]["organization_id"] is None


def test_transactions_that_stay_open_are_listed(owner: Connection, story: Database) -> None:
    def long() -> list[dict[str, Any]]:
        rows = owner.execute("select * from private.long_running_queries('0.3 seconds')").fetchall()
        return [row for row in rows if row["database_name"] == story.name]

    with connect(story) as idle, connect(story) as waiting:
        idle.autocommit = False
        idle.execute("lock table public.calls in access exclusive mode")
        thread = threading.Thread(
            target=lambda: waiting.execute("select count(*) from public.calls")
        )
        thread.start()
        deadline = time.monotonic() + 20
        while len(long()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        found = {row["pid"]: row for row in long()}
        idle.rollback()
        thread.join()
        assert found[idle.info.backend_pid]["state"] == "idle in transaction"
        assert found[waiting.info.backend_pid]["waits_for"] == "Lock: relation"
        assert found[waiting.info.backend_pid]["query"] == "select count(*) from public.calls"
    assert long() == []


def test_an_interval_must_be_one(owner: Connection) -> None:
    with pytest.raises(Exception, match="invalid input syntax for type interval"):
        owner.execute("select * from private.long_running_queries(%s::interval)", ("soon",))
