"""Webhooks while the operator's mover moves their business: all are stored, each of them once."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tenantry_cli.migrate import read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import drop_database
from tenantry_functions.testing import FunctionHost

pytest.importorskip("tenantry_cli.fleet.mover", reason="the mover is not in this version")
from tenantry_cli.fleet.fleet import Fleet, Home
from tenantry_cli.fleet.mover import move_tenant

Tenant = Any  # the class of the fixture `tenant`, see conftest.py
ISOLATIONS = ("schema", "database", "pooled")


def message(number: int) -> dict[str, str]:
    return {
        "AccountSid": "AC00000000000000000000000000000001",
        "MessageSid": f"SM{number:032}",
        "SmsStatus": "received",
        "From": "+14155550123",
        "To": "+14155550199",
        "Body": str(number),
    }


@pytest.fixture
def fleet(tenant: Tenant) -> Iterator[Fleet]:
    """A fleet of its own on the test server, gone afterwards."""
    server = tenant.database.server
    prefix = f"test_{secrets.token_hex(4)}"
    fleet = Fleet(server, tenant.database.name, read_migrations(find_project().migrations), prefix)
    yield fleet
    with fleet.connect() as main:
        main.execute("delete from organizations")
        made = main.execute(
            "select datname as name, datistemplate as is_template from pg_database"
            " where starts_with(datname, %s)",
            [prefix],
        ).fetchall()
        for one in made:
            if one["is_template"]:
                name = sql.Identifier(one["name"])
                main.execute(sql.SQL("alter database {} is_template false").format(name))
            fleet.close(one["name"])
            drop_database(server, one["name"])
    fleet.close(tenant.database.name)


def bodies(fleet: Fleet, home: Home, business_id: Any) -> list[int]:
    query = sql.SQL("select body from {} where business_id = %s").format(
        sql.Identifier(home.schema, "messages")
    )
    with psycopg.connect(fleet.server.url(home.database)) as connection:
        return sorted(int(row[0]) for row in connection.execute(query, [business_id]))


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_stored_twice(tenant: Tenant, fleet: Fleet) -> None:
    organization = tenant.one(
        "select organization_id from businesses where id = %s", tenant.business_id
    )["organization_id"]
    homes = [fleet.tenant(organization).home]
    troubles: list[BaseException] = []

    def move() -> None:
        try:
            for isolation in ISOLATIONS:
                move_tenant(fleet, organization, isolation)
                homes.append(fleet.tenant(organization).home)
        except BaseException as error:
            troubles.append(error)

    mover = threading.Thread(target=move)
    statuses: list[int] = []
    number = 0
    with FunctionHost(None, settings=tenant.settings()) as host:
        mover.start()
        while mover.is_alive() or number < 20:
            # As a provider: again and again until it is acknowledged, and sometimes once more.
            status = 0
            while status != 200:
                form = message(number)
                status = host.twilio("twilio-messaging", tenant.connection, form).status
                statuses.append(status)
                host.run(asyncio.sleep(0.01))
            if number % 3 == 0:
                again = host.twilio("twilio-messaging", tenant.connection, message(number // 2))
                statuses.append(again.status)
            number += 1
        mover.join()
    assert troubles == []
    assert set(statuses) == {200, 503}
    assert [home.isolation for home in homes] == ["pooled", *ISOLATIONS]
    # Back in the pooled tables, where it began.
    assert bodies(fleet, homes[-1], tenant.business_id) == list(range(number))
