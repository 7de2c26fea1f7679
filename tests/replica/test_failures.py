"""A replica that dies, breaks off, or is not what it should be: the primary answers, without an
error."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from tenantry_cli.stack.ports import free_port

from .conftest import DATABASE, postgrest
from .test_reads import ME, from_replica, until

pytestmark = pytest.mark.anyio


async def refusals(gateway: Any, user: Any, outcome: str) -> None:
    """Reads are answered by the primary, because of `outcome`."""

    async def counted() -> bool:
        answer = await user.read(ME + user.id)
        assert answer.status == 200, answer.body
        assert answer.source != "replica"
        return outcome in await gateway.outcomes()

    await until(counted)


async def test_a_killed_replica_costs_nobody_an_answer(gateway, pair):
    ana = gateway.user()
    await from_replica(ana, ME + ana.id)
    answers: list[Any] = []
    ends = time.monotonic() + 3

    async def read_on() -> None:
        while time.monotonic() < ends:
            answers.append(await ana.read(ME + ana.id))

    readers = [asyncio.create_task(read_on()) for _ in range(4)]
    await asyncio.sleep(0.5)
    killed = len(answers)
    await asyncio.to_thread(pair.replica_cluster.stop, signal.SIGQUIT)
    await asyncio.gather(*readers)
    assert {answer.status for answer in answers} == {200}
    assert killed
    assert {answer.source for answer in answers[:killed]} == {"replica"}
    assert answers[-1].source == "primary"
    assert all(answer.json[0]["user_id"] == ana.id for answer in answers)
    pair.start_replica()
    await from_replica(ana, ME + ana.id)  # PostgREST and the gateway come back by themselves


async def test_a_read_that_recovery_cancels_is_asked_again(new_gateway, pair):
    """Vacuum on the primary removes what a long read on the replica still needs."""
    pair.on_replica("alter system set max_standby_streaming_delay = '50ms'")
    pair.on_replica("select pg_reload_conf()")
    pair.on_primary(
        "create view public.slow with (security_invoker = true) as"
        " select user_id, full_name,"
        " pg_sleep(case when pg_is_in_recovery() then 4 else 0 end)::text as slept"
        " from public.profiles"
    )
    pair.on_primary("grant select on public.slow to authenticated")
    pair.on_primary("notify pgrst, 'reload schema'")
    pair.catch_up()
    try:
        # A new one, because on a replica PostgREST does not hear that the schema has changed.
        with postgrest(
            free_port(), pair.directory, REPLICA_URL=pair.replica.url(DATABASE, "authenticator")
        ) as origin:
            gateway = await new_gateway(replica_url=origin, replica_answer_seconds=10.0)
            ana, ben = gateway.user(), gateway.user()
            await from_replica(ana, ME + ana.id)
            reading = asyncio.create_task(ana.read(f"/rest/v1/slow?user_id=eq.{ana.id}"))
            asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"

            async def is_reading() -> bool:
                return bool(pair.on_replica(asleep))

            await until(is_reading)
            # Again and again: other transactions keep vacuum from what is dead by then.
            while not reading.done():
                pair.on_primary("update public.profiles set full_name = 'Ben'")
                pair.on_primary("vacuum public.profiles")
                await asyncio.sleep(0.05)
            answer = reading.result()
            assert (answer.status, answer.source) == (200, "primary"), answer.body
            assert answer.json[0]["full_name"] == "Ben"
            log = (pair.directory / "replica.log").read_text()
            assert "canceling statement due to conflict with recovery" in log
            assert (await gateway.outcomes())["failed"] == 1
            assert (await from_replica(ben, ME + ben.id)).json[0]["full_name"] == "Ben"
    finally:
        pair.on_primary("drop view public.slow")


async def test_a_replica_that_differs_is_not_read_from(new_gateway, pair):
    pair.on_primary("alter table public.calls no force row level security")
    pair.catch_up()
    try:
        gateway = await new_gateway(boot_gate="warn")
        ana = gateway.user()
        await refusals(gateway, ana, "boot_gate")
    finally:
        pair.on_primary("alter table public.calls force row level security")
    await from_replica(ana, ME + ana.id)


async def test_a_replica_that_does_not_check_is_not_read_from(new_gateway, pair):
    with postgrest(
        free_port(),
        pair.directory,
        REPLICA_URL=pair.replica.url(DATABASE, "authenticator"),
        PGRST_DB_PRE_REQUEST="",
    ) as origin:
        gateway = await new_gateway(replica_url=origin)
        await refusals(gateway, gateway.user(), "unguarded")


async def test_a_primary_is_no_replica(new_gateway, pair):
    with postgrest(
        free_port(), pair.directory, REPLICA_URL=pair.primary.url(DATABASE, "authenticator")
    ) as origin:
        gateway = await new_gateway(replica_url=origin)
        await refusals(gateway, gateway.user(), "not_a_replica")
