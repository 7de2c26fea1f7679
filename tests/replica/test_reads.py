"""Reads from a real streaming replica: when it answers, and that it never shows too little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

pytestmark = pytest.mark.anyio

ME = "/rest/v1/profiles?select=user_id,full_name&user_id=eq."


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.02)
    return found


async def from_replica(user: Any, target: str) -> Any:
    """The first answer of the replica to a read."""

    async def once() -> Any:
        answer = await user.read(target)
        assert answer.status == 200, answer.body
        return answer if answer.source == "replica" else None

    return await until(once)


async def rename(user: Any, name: str) -> Any:
    answer = await user.call("PATCH", ME + user.id, json={"full_name": name})
    assert answer.status == 204, answer.body
    return answer


async def test_reads_that_ask_for_it_come_from_the_replica(gateway):
    ana = gateway.user()
    answer = await from_replica(ana, ME + ana.id)
    assert [row["user_id"] for row in answer.json] == [ana.id]
    assert (await ana.call("GET", ME + ana.id)).source is None
    head = await ana.call("HEAD", ME + ana.id, headers={"X-Read-Preference": "replica"})
    assert (head.status, head.source) == (200, "replica")
    bad = await ana.read(ME + ana.id, X_Read_Preference="nearest")
    assert (bad.status, "bad_read_preference" in bad.json["details"]) == (400, True)


async def test_relations_on_the_list_need_no_header(new_gateway):
    gateway = await new_gateway(replica_relations=frozenset({"profiles"}))
    ana = gateway.user()
    await from_replica(ana, ME + ana.id)
    assert (await ana.call("GET", ME + ana.id)).source == "replica"
    assert (await ana.read(ME + ana.id, X_Read_Preference="primary")).source is None
    assert (await ana.call("GET", "/rest/v1/permissions?select=code")).source is None


async def test_a_caller_never_misses_its_own_write(gateway, pair):
    ana, ben = gateway.user(), gateway.user()
    for user in (ana, ben):
        await from_replica(user, ME + user.id)
    with pair.paused():
        for number in range(3):
            await rename(ana, f"Ana {number}")
            answer = await ana.read(ME + ana.id)
            assert (answer.source, answer.json[0]["full_name"]) == ("primary", f"Ana {number}")
            # Nobody else has to wait for that.
            assert (await ben.read(ME + ben.id)).source == "replica"
    answer = await from_replica(ana, ME + ana.id)
    assert answer.json[0]["full_name"] == "Ana 2"
    assert (await gateway.outcomes())["own_write"] >= 3


async def test_writes_one_after_the_other_are_seen_while_the_replica_follows(gateway):
    ana = gateway.user()
    await from_replica(ana, ME + ana.id)
    sources = set()
    for number in range(24):
        await rename(ana, f"Ana {number}")
        for _ in range(3):
            answer = await ana.read(ME + ana.id)
            assert answer.json[0]["full_name"] == f"Ana {number}", answer.source
            sources.add(answer.source)
        await asyncio.sleep(0.05 * (number % 4))
    assert sources == {"primary", "replica"}


async def test_another_gateway_learns_it_from_the_client(new_gateway, pair):
    one, other = await new_gateway(), await new_gateway()
    ana = one.user()
    there = other.user(ana.id)
    await from_replica(there, ME + ana.id)
    with pair.paused():
        position = (await rename(ana, "Ana Two")).headers["X-Tenantry-Position"]
        assert "/" not in position  # not the plain number
        assert (await there.read(ME + ana.id)).source == "replica"  # older, as was asked for
        answer = await there.read(ME + ana.id, X_Read_After=position)
        assert (answer.source, answer.json[0]["full_name"]) == ("primary", "Ana Two")
    forged = await there.read(ME + ana.id, X_Read_After="0/0")
    assert (forged.status, "bad_position" in forged.json["details"]) == (400, True)


async def test_what_was_written_before_the_gateway_began_is_seen(new_gateway, pair):
    first = await new_gateway()
    ana = first.user()
    await from_replica(ana, ME + ana.id)
    with pair.paused():
        await rename(ana, "Ana Three")
        ana = (await new_gateway()).user(ana.id)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            answer = await ana.read(ME + ana.id)
            assert (answer.status, answer.source) in ((200, "primary"), (503, None))
            if answer.status == 200:
                assert answer.json[0]["full_name"] == "Ana Three"
    await from_replica(ana, ME + ana.id)


async def test_what_functions_and_sign_ins_write_is_seen(new_gateway, pair):
    async def service(request: web.BaseRequest) -> web.Response:
        pair.on_primary("update public.profiles set full_name = 'By ' || %s", request.path)
        return web.json_response({})

    gateway = await new_gateway(service)
    ana, ben = gateway.user(), gateway.user()
    for user in (ana, ben):
        await from_replica(user, ME + user.id)
    with pair.paused():
        answer = await ana.call("POST", "/functions/v1/rename", json={})
        assert answer.headers["X-Tenantry-Position"]
        answer = await ana.read(ME + ana.id)
        assert (answer.source, answer.json[0]["full_name"]) == (
            "primary", "By /functions/v1/rename",
        )  # fmt: skip
        assert (await ben.read(ME + ben.id)).source == "replica"
        # Whoever signs in has no name yet, so everybody may be them.
        visitor = {"apikey": ana.headers["apikey"]}
        await gateway.call("POST", "/auth/v1/token?grant_type=password", visitor, json={})
        answer = await ben.read(ME + ben.id)
        assert (answer.source, answer.json[0]["full_name"]) == ("primary", "By /auth/v1/token")


async def test_only_reads_of_relations_go_there(gateway):
    ana = gateway.user()
    await from_replica(ana, ME + ana.id)
    before = await gateway.outcomes()
    prefer = {"X-Read-Preference": "replica"}
    answer = await ana.call("PATCH", ME + ana.id, headers=prefer, json={"full_name": "Ana Four"})
    assert (answer.status, answer.source) == (204, None)
    function = "/rest/v1/rpc/is_valid_email"
    for call in (
        ana.call("GET", f"{function}?raw=ana@example.com", headers=prefer),
        ana.call("POST", function, headers=prefer, json={"raw": "ana@example.com"}),
    ):
        answer = await call
        assert (answer.status, answer.source) == (200, None), answer.body
    assert await gateway.outcomes() == before
    visitor = {"apikey": ana.headers["apikey"], **prefer}
    answer = await gateway.call("GET", "/rest/v1/subscription_plans?select=code", visitor)
    assert (answer.status, answer.source) == (200, "primary")


async def test_a_removed_member_sees_nothing_at_once(gateway, pair):
    owner, member, other = gateway.user(), gateway.user(), gateway.user()

    async def rpc(user: Any, function: str, /, **arguments: object) -> Any:
        answer = await user.call("POST", f"/rest/v1/rpc/{function}", json=arguments)
        assert answer.status < 300, answer.body
        return answer.json if answer.body else None

    organization = await rpc(owner, "create_organization", name="Acme", country="US")
    business = await rpc(
        owner, "create_business", organization_id=organization["id"], name="Acme",
        timezone="America/New_York", country="US",
    )  # fmt: skip
    for user in (member, other):
        invitation = await rpc(
            owner, "invite_member", business_id=business["id"],
            email=f"{user.id[:13]}@people.example", role="viewer",
        )  # fmt: skip
        [row] = invitation
        await rpc(user, "accept_invitation", token=row["token"])
    target = f"/rest/v1/businesses?select=id&id=eq.{business['id']}"
    for user in (owner, member, other):
        assert (await from_replica(user, target)).json == [{"id": business["id"]}]
    find = "select id from public.business_memberships where user_id = %s"
    with pair.paused():
        # Not by the member, and past every gateway: nothing has told this one.
        pair.on_primary(
            "delete from public.business_memberships where id = %s",
            pair.on_primary(find, member.id),
        )
        answer = await member.read(target)
        assert (answer.source, answer.json) == ("primary", [])
        assert (await gateway.outcomes())["refused"] == 1
        # The rights of the others are what they were.
        assert (await other.read(target)).source == "replica"
    assert (await from_replica(member, target)).json == []


async def test_rights_may_be_remembered_for_a_time_that_is_set(new_gateway, pair):
    gateway = await new_gateway(replica_rights_seconds=0.5)
    ana = gateway.user()
    await from_replica(ana, ME + ana.id)
    with pair.paused():
        pair.on_primary(
            "insert into private.user_organization_access values (%s, 'organization.read', '{}')",
            ana.id,
        )
        changed = time.monotonic()

        async def noticed() -> bool:
            return (await ana.read(ME + ana.id)).source == "primary"  # type: ignore[no-any-return]

        await until(noticed)
        assert time.monotonic() - changed < 1.0


async def test_nothing_older_than_the_permitted_lag(new_gateway, pair):
    gateway = await new_gateway(replica_max_lag_seconds=0.5)
    ana = gateway.user()
    await from_replica(ana, ME + ana.id)
    with pair.paused():
        pair.on_primary("update public.profiles set full_name = 'Later' where user_id = %s", ana.id)
        written = time.monotonic()

        async def read() -> Any:
            answer = await ana.read(ME + ana.id)
            assert answer.source == "primary" or time.monotonic() - written < 1.5
            return answer.source == "primary"

        await until(read)
        assert (await ana.read(ME + ana.id)).json[0]["full_name"] == "Later"
        assert (await gateway.outcomes())["lag"] >= 1
        page = (await gateway.call("GET", "/metrics", {})).body.decode()
        assert "gateway_replica_lag_seconds" in page
    await from_replica(ana, ME + ana.id)


async def test_an_idle_primary_at_the_start_of_a_page_is_no_lag(new_gateway, pair):
    gateway = await new_gateway(replica_max_lag_seconds=0.5)
    ana = gateway.user()
    for _ in range(20):
        with pair.primary.administer() as connection:
            connection.execute("select pg_switch_wal()")
        position, raw = (
            pair.on_primary("select public.wal_position() ->> 'position'"),
            pair.on_primary("select pg_current_wal_insert_lsn()::text"),
        )
        if position != raw:
            break
        await asyncio.sleep(0.05)  # a process of the server wrote in between: not idle yet
    assert position != raw, "the case that is tried"
    await from_replica(ana, ME + ana.id)
