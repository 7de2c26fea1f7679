"""Homes change while requests come: nothing is lost, doubled, or answered by an old home."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from psycopg import sql

from tenantry_cli.stack.database import clone_database

pytestmark = pytest.mark.anyio


def copy_customers(fleet, one, database, schema):
    """The rows of one small table, as the mover copies them."""
    with fleet.at_home(one) as source:
        rows = source.execute(
            "select business_id, id, first_name, metric_date from customers where business_id = %s",
            [one.business],
        ).fetchall()
    with fleet.server.administer(database, autocommit=True) as target:
        target.execute("set session_replication_role = replica")
        for row in rows:
            target.execute(
                sql.SQL(
                    "insert into {} (business_id, id, first_name, metric_date)"
                    " values (%s, %s, %s, %s)"
                ).format(sql.Identifier(schema, "customers")),
                row,
            )


def move(fleet, one, isolation, database, schema):
    """Freeze, copy, switch, tell the new home: what a mover does, without its checks."""
    fleet.announce(one)
    time.sleep(0.2)  # transactions that began before have ended
    copy_customers(fleet, one, database, schema)
    fleet.switch(one, isolation, database, schema)
    fleet.push(one)


@pytest.mark.parametrize("named", [True, False])
async def test_a_move_under_load(new_front, fleet, named):
    """A-125: a writer and readers go on while a tenant moves from the pooled tables."""
    one = fleet.tenant(f"mover-{named}".lower())
    database = f"tenantry_{one.hex}"
    clone_database(fleet.server, fleet.template, database)
    fleet.databases.append(database)
    front = await new_front()
    headers = {"X-Tenant": one.slug} if named else {}
    acknowledged: list[str] = []
    refused: list[int] = []
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            body = {"business_id": one.business, "first_name": f"C{number:04}"}
            made = await front.call("POST", "/customers", one.token, headers=headers, body=body)
            if made.status == 201:
                acknowledged.append(body["first_name"])
            else:
                refused.append(made.status)
                assert made.status == 503, made
                assert made.headers["Retry-After"]
                await asyncio.sleep(0.02)

    async def read() -> int:
        reads = 0
        while not done.is_set():
            known = len(acknowledged)
            answer = await front.call(
                "GET", "/customers?select=first_name", one.token, headers=headers
            )
            if answer.status == 503:  # between the switch and the news at the new home
                assert answer.headers["Retry-After"]
            else:
                assert answer.status == 200, answer
                assert len(answer.json) >= known, "stale"
            reads += 1
        return reads

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        readers = [group.create_task(read()) for _ in range(3)]
        await asyncio.sleep(1)
        await asyncio.to_thread(move, fleet, one, "database", database, "public")
        await asyncio.sleep(1.5)
        done.set()
    with fleet.at_home(one) as home:
        stored = [r[0] for r in home.execute("select first_name from customers").fetchall()]
    assert sorted(stored) == sorted(acknowledged)
    assert refused, "nobody wrote while it moved"
    assert sum(task.result() for task in readers) > 10


async def test_while_it_moves(front, fleet):
    one = fleet.tenant("hoopoe", "schema", fleet.shelf())
    assert await front.rows("/customers", one.token) == []
    fleet.announce(one)
    fleet.push(one)
    with contextlib.suppress(AssertionError):  # not yet known: the home itself refuses
        await front.rows("/customers", one.token)
    for method, path, body in (
        ("POST", "/customers", {"business_id": one.business, "first_name": "A"}),
        ("PATCH", "/customers?first_name=eq.A", {"first_name": "B"}),
        ("DELETE", "/customers?first_name=eq.A", None),
        ("POST", "/rpc/create_customer", {"business_id": one.business, "first_name": "A"}),
    ):
        answer = await front.call(method, path, one.token, body=body)
        assert (answer.status, answer.reason) == (503, "moving"), (method, path)
        assert answer.headers["Retry-After"]
    assert await front.rows("/customers", one.token) == []
    fleet.set_state(one, "active")
    fleet.push(one)


@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
async def test_a_pooled_tenant_begins_to_move_unnoticed(front, fleet, verb):
    """No write is answered as done that found the rows frozen."""
    one = fleet.tenant(f"finch-{verb.lower()}")
    body = {"business_id": one.business, "first_name": "A"}
    assert (await front.call("POST", "/customers", one.token, body=body)).status == 201
    assert len(await front.rows("/customers", one.token)) == 1
    fleet.announce(one)
    changes = {"first_name": "B"} if verb == "PATCH" else None
    answer = await front.call(verb, "/customers?first_name=eq.A", one.token, body=changes)
    assert (answer.status, answer.reason) == (503, "moving")
    fleet.set_state(one, "active")


async def test_a_home_that_was_left_says_so(front, fleet):
    """The registry's memory is outdated at the place: 421 inside, one more try, then the truth."""
    shelf = fleet.shelf()
    one = fleet.tenant("wren", "schema", shelf)
    assert await front.rows("/businesses?select=id", one.token) == [{"id": one.business}]
    before = await front.metric("gateway_rerouted_total")
    fleet.announce(one)
    fleet.switch(one, "schema", shelf, one.schema)  # another epoch
    answer = await front.call("GET", "/customers", one.token)
    assert (answer.status, answer.reason) == (503, "moving")
    assert await front.metric("gateway_rerouted_total") == before + 1
    fleet.push(one)
    assert (await front.call("GET", "/customers", one.token)).status == 200


@pytest.mark.parametrize(
    ("state", "status"),
    [("suspended", 423), ("archived", 404), ("provisioning", 503), ("failed", 503)],
)
async def test_tenants_that_are_not_served(front, fleet, state, status):
    one = fleet.tenant(f"swift-{state}", "schema", fleet.shelf())
    with fleet.main.connect() as owner:
        if state == "suspended":
            owner.execute(
                "update public.organizations set status = 'suspended' where id = %s", [one.id]
            )
        else:
            owner.execute("set local session_replication_role = replica")
            owner.execute(
                "update public.organization_placements set state = %s where organization_id = %s",
                [state, one.id],
            )
            owner.execute("update private.placement_version set version = version + 1")
    for headers in ({"X-Tenant": one.slug}, {}):
        answer = await front.call("GET", "/customers", one.token, headers=headers)
        assert (answer.status, answer.reason) == (status, f"tenant_{state}"), headers
        assert (status == 503) == ("Retry-After" in answer.headers)


async def test_members_of_several_homes(front, fleet):
    shelf = fleet.shelf()
    one, two = fleet.tenant("lark", "schema", shelf), fleet.tenant("tern", "schema", shelf)
    pooled = fleet.tenant("rook")
    with fleet.main.connect() as owner:
        for other in (two, pooled):
            owner.execute(
                """
                with m as (insert into public.business_memberships (business_id, user_id)
                           values (%(business)s, %(user)s) returning id)
                insert into public.membership_roles (business_id, membership_id, role_id)
                select %(business)s, m.id, (private.role_of(%(business)s, 'manager')).id from m
                """,
                {"business": other.business, "user": one.owner},
            )
    fleet.push(two)
    for tenant in (one, two, pooled):
        body = {"business_id": tenant.business, "first_name": tenant.slug}
        made = await front.call("POST", "/customers", one.token, body=body)
        assert made.status == 201, (tenant.slug, made)
        rows = await front.rows(
            f"/customers?select=first_name&business_id=eq.{tenant.business}", one.token
        )
        assert rows == [{"first_name": tenant.slug}]
        named = await front.rows(
            "/customers?select=first_name", one.token, **{"X-Tenant": tenant.slug}
        )
        assert named == rows
        found = await front.call(
            "POST", "/rpc/search_customers", one.token,
            body={"business_id": tenant.business, "query": tenant.slug},
        )  # fmt: skip
        assert len(found.json) == 1, found
    unnamed = await front.rows("/customers?select=first_name", one.token)
    assert unnamed == [{"first_name": "rook"}]


async def test_who_joins_is_routed_at_once(front, fleet):
    one = fleet.tenant("crane", "schema", fleet.shelf())
    newcomer = fleet.person()
    bearer = fleet.token(newcomer)
    assert await front.rows("/businesses?select=id", bearer) == []
    with fleet.main.connect() as owner:
        owner.execute(
            "insert into public.business_memberships (business_id, user_id) values (%s, %s)",
            [one.business, newcomer],
        )
    fleet.push(one)
    found = await front.rows("/customers?select=id", bearer)
    assert found == []
    assert (
        await front.call("GET", "/businesses", bearer, headers={"X-Tenant": "crane"})
    ).status == 200
