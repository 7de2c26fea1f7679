"""The PostgREST processes of the places: started on demand, few at once, none left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import stat
import sys
from pathlib import Path

import aiohttp
import psutil
import pytest

pytestmark = pytest.mark.anyio


def processes() -> list[psutil.Process]:
    """Children of this process that run PostgREST for a place: not those of other tests."""
    found = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
            named = any("/tenantry-gateway-" in argument for argument in one.cmdline())
            if named and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


async def none_left() -> None:
    for _ in range(200):
        if not processes():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a process is left behind")


@pytest.mark.slow
async def test_churn(new_front, fleet):
    """Twelve databases, three processes at most, stopped at once when idle: 600 right answers."""
    tenants = [fleet.tenant(f"churn{number}", "database") for number in range(12)]
    front = await new_front(places_max=3, places_idle_seconds=0.1, places_wait_seconds=60.0)
    chance = random.Random(7)
    requests = [chance.choice(tenants) for _ in range(600)]
    most = 0
    line = iter(requests)

    async def worker() -> None:
        nonlocal most
        for one in line:
            answer = await front.call("GET", "/businesses?select=id,customers(id)", one.token)
            assert (answer.status, answer.json) == (200, [{"id": one.business, "customers": []}])
            most = max(most, len(processes()))
            if chance.random() < 0.1:
                await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(worker())
    assert most <= 3
    assert await front.metric("gateway_place_cold_starts_total") > 12
    await none_left()
    assert await front.metric("gateway_places_live") == 0


async def test_a_full_house_says_when_to_come_again(new_front, fleet):
    one, two = fleet.tenant("full1", "database"), fleet.tenant("full2", "database")
    front = await new_front(places_max=1, places_wait_seconds=4.0)
    async with front.gateway._places.lease((one.database, "public")):
        answer = await front.call("GET", "/customers", two.token)
    assert (answer.status, answer.reason) == (503, "place_busy")
    assert answer.headers["Retry-After"]
    assert len(processes()) <= 1


async def test_a_process_that_crashes_is_started_again(new_front, fleet):
    one = fleet.tenant("crash", "database")
    front = await new_front()
    assert await front.rows("/customers", one.token) == []
    (process,) = processes()
    assert process.cmdline()[0].endswith("postgrest")
    process.kill()
    await none_left()
    statuses = set()
    for _ in range(100):
        answer = await front.call("GET", "/customers", one.token)
        statuses.add(answer.status)
        if answer.status == 200:
            break
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        await asyncio.sleep(0.1)
    assert answer.status == 200


async def test_secrets_of_a_place_are_private_and_gone(new_front, fleet):
    one = fleet.tenant("secrets", "database")
    front = await new_front()
    await front.rows("/customers", one.token)
    (process,) = processes()
    directory = Path(process.cmdline()[1]).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.suffix for path in directory.iterdir()] == [".sock"]
    password = fleet.server.passwords["authenticator"]
    assert password not in " ".join(process.cmdline())
    assert password not in str(process.environ())


async def test_a_database_that_cannot_be_reached(new_front, fleet):
    one = fleet.tenant("nowhere", "database")
    front = await new_front(
        places_database_url="postgresql://authenticator:x@127.0.0.1:1/postgres",
        places_wait_seconds=1.0,
    )
    for _ in range(2):
        answer = await front.call("GET", "/customers", one.token)
        assert (answer.status, answer.reason) == (503, "place_unavailable")
        assert answer.headers["Retry-After"]
    await none_left()
    without = await new_front(places_database_url=None)
    answer = await without.call("GET", "/customers", one.token)
    assert (answer.status, answer.reason) == (503, "place_unavailable")
    assert (await without.call("GET", "/businesses", one.token)).status == 200


async def test_schemas_of_one_shelf_have_processes_of_their_own(new_front, fleet):
    shelf = fleet.shelf()
    first = fleet.tenant("shelf1", "schema", shelf)
    front = await new_front()
    assert await front.rows("/customers", first.token) == []
    (before,) = processes()
    second = fleet.tenant("shelf2", "schema", shelf)
    path = "/customers?select=id,contact_points(id),businesses(name)"
    assert await front.rows(path, second.token) == []
    assert len(processes()) == 2
    assert before.is_running()
    assert await front.rows("/access_control_lists?select=*", second.token) == []
    assert len(processes()) == 2


async def test_each_place_and_each_schema_has_a_boot_gate(new_front, fleet):
    """A-126, A-128: what a restored schema lacks closes that tenant; the others are served."""
    shelf = fleet.shelf()
    good = fleet.tenant("gate1", "schema", shelf)
    bare = fleet.tenant("gate2", "schema", shelf)
    behind = fleet.tenant("gate3", "schema", shelf)
    alone = fleet.tenant("gate4", "database")
    with fleet.at_home(bare) as owner:
        owner.execute("alter table customers no force row level security")
    with fleet.at_home(behind) as owner:
        owner.execute("delete from schema_migrations where name = 'tenant_explain'")
    front = await new_front(boot_gate="enforce", boot_gate_seconds=0.3)
    for one, status in ((good, 200), (bare, 503), (behind, 503), (alone, 200)):
        answer = await front.call("GET", "/customers", one.token)
        assert answer.status == status, (one.slug, answer)
        if status == 503:
            assert answer.reason == "boot_gate"
            assert answer.headers["Retry-After"]
    with fleet.at_home(bare) as owner:
        owner.execute("alter table customers force row level security")
    with fleet.at_home(alone) as owner:
        owner.execute("grant select on customers to anon")
    await asyncio.sleep(1)
    for one, status in ((bare, 200), (alone, 503), (good, 200)):
        for _ in range(20):  # the look goes on beside the requests
            answer = await front.call("GET", "/customers", one.token)
            if answer.status == status:
                break
            await asyncio.sleep(0.2)
        assert answer.status == status, one.slug


@pytest.mark.parametrize("isolation", ["schema", "database"])
async def test_members_keys_work_in_every_placement(new_front, fleet, isolation):
    one = fleet.tenant(
        f"keys-{isolation}", isolation, fleet.shelf() if isolation == "schema" else None
    )
    front = await new_front()
    with fleet.acting_as(one.owner) as connection:
        row = connection.execute(
            "select key, api_key_id"
            " from public.create_api_key(%s, 'reader', array['customers.read'])",
            [one.business],
        ).fetchone()
    key, key_id = row
    fleet.push(one)
    body = {"business_id": one.business, "first_name": "Ana"}
    assert (await front.call("POST", "/customers", one.token, body=body)).status == 201
    assert await front.rows("/customers?select=first_name", key) == [{"first_name": "Ana"}]
    assert (await front.call("POST", "/customers", key, body=body)).status == 403
    api = {"Host": f"api.{one.slug}.localhost"}
    assert (await front.call("GET", "/customers", key, headers=api)).status == 200
    wrong = await front.call("GET", "/customers", one.token, headers=api)
    assert (wrong.status, wrong.reason) == (403, "wrong_audience")
    with fleet.acting_as(one.owner) as connection:
        connection.execute("select public.revoke_api_key(%s, %s)", [one.business, key_id])
    fleet.push(one)
    answer = await front.call("GET", "/customers", key)
    assert answer.status == 401 or answer.json == []


async def test_the_children_die_with_the_gateway(fleet, gateway_environment):
    """Also when it is killed: nothing serves a database that nobody guards."""
    one = fleet.tenant("orphan", "database")
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tenantry_gateway",
        env=os.environ | gateway_environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert gateway.stdout is not None
    origin = (await gateway.stdout.readline()).decode().rpartition(" ")[2].strip()
    headers = {
        "apikey": gateway_environment["GATEWAY_PUBLISHABLE_KEY"],
        "Authorization": f"Bearer {one.token}",
    }
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{origin}/rest/v1/customers", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
    (child,) = psutil.Process(gateway.pid).children()
    gateway.send_signal(signal.SIGKILL)
    await gateway.wait()
    await asyncio.to_thread(child.wait, 10)
