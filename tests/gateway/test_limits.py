"""Rates and shares: one sender slowed, one tenant bounded, everybody else served."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from aiohttp import web

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.limits import FairSlots, TokenBuckets

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_given_back_can_be_taken_again_and_no_more():
    buckets = TokenBuckets(0.001, 2, clock=Clock())
    buckets.give_back("a")  # nothing was taken
    buckets.take("a")
    buckets.give_back("a")
    buckets.give_back("a")
    for _ in range(2):
        buckets.take("a")
    with pytest.raises(GatewayError):
        buckets.take("a")


def test_a_bucket_gives_its_burst_and_then_its_rate():
    clock = Clock()
    buckets = TokenBuckets(2.0, 3, clock=clock)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(GatewayError) as refused:
        buckets.take("a")
    assert (refused.value.status, refused.value.reason) == (429, "rate_limit")
    assert refused.value.headers["Retry-After"] == "1"
    buckets.take("b")  # somebody else is not concerned
    clock.now += 0.5
    buckets.take("a")
    with pytest.raises(GatewayError):
        buckets.take("a")
    clock.now += 3600
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(GatewayError):
        buckets.take("a")


def test_retry_after_names_a_time_that_suffices():
    clock = Clock()
    buckets = TokenBuckets(0.2, 1, clock=clock)
    buckets.take("a")
    with pytest.raises(GatewayError) as refused:
        buckets.take("a")
    clock.now += int(refused.value.headers["Retry-After"])
    buckets.take("a")


def test_buckets_do_not_grow_without_end_and_zero_means_no_limit():
    buckets = TokenBuckets(1.0, 1, capacity=10)
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets._buckets) == 10
    free = TokenBuckets(0, 1)
    for _ in range(1000):
        free.take("a")


async def test_slots_bound_the_whole_and_each_tenant():
    slots = FairSlots(6, 4, 100, 5)
    now, most, held, most_held = 0, 0, Counter(), Counter()

    async def work(tenant: str) -> None:
        nonlocal now, most
        async with slots.slot(tenant):
            now += 1
            held[tenant] += 1
            most = max(most, now)
            most_held[tenant] = max(most_held[tenant], held[tenant])
            await asyncio.sleep(random.random() / 200)
            now -= 1
            held[tenant] -= 1

    await asyncio.gather(*(work(f"t{number % 3}") for number in range(150)))
    assert most == 6
    assert max(most_held.values()) <= 4
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_crowd_delays_a_single_request_by_one_turn_only():
    slots = FairSlots(1, 1, 1000, 5)
    order: list[str] = []

    async def work(tenant: str) -> None:
        async with slots.slot(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    async with slots.slot("crowd"):
        tasks = [asyncio.create_task(work("crowd")) for _ in range(100)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(work("single")))
        await asyncio.sleep(0)
        assert slots.waiting == 101
    await asyncio.gather(*tasks)
    assert order.index("single") <= 1


async def test_a_tenants_share_leaves_room_for_the_next():
    slots = FairSlots(10, 8, 100, 0.2)
    release = asyncio.Event()

    async def hold() -> None:
        async with slots.slot("greedy"):
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(20)]
    await asyncio.sleep(0)
    assert (slots.busy, slots.waiting) == (8, 12)
    async with slots.slot("other"):
        pass
    release.set()
    await asyncio.gather(*tasks)


async def test_a_slot_that_others_give_back_does_not_exceed_a_share():
    slots = FairSlots(10, 4, 100, 5)
    release = asyncio.Event()

    async def hold() -> None:
        async with slots.slot("greedy"):
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(10)]
    for _ in range(3):
        async with slots.slot("other"):
            await asyncio.sleep(0)
        assert (slots.busy, slots.waiting) == (4, 6)
    release.set()
    await asyncio.gather(*tasks)


async def test_a_full_line_is_429_and_a_long_wait_is_503():
    slots = FairSlots(1, 1, 1, 0.05)
    async with slots.slot("a"):
        waiting = asyncio.create_task(slots._acquire("a"))
        await asyncio.sleep(0)
        with pytest.raises(GatewayError) as full:
            await slots._acquire("a")
        assert (full.value.status, full.value.reason) == (429, "concurrency_limit")
        with pytest.raises(GatewayError) as late:
            await waiting
        assert (late.value.status, late.value.reason) == (503, "service_busy")
        assert late.value.headers["Retry-After"] == "1"
    assert (slots.busy, slots.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_whoever_gives_up_when(seed):
    """Random arrivals, cancellations, time-outs and early releases; then every slot is free."""
    chance = random.Random(seed)
    slots = FairSlots(3, 2, 5, 0.004)
    served = 0

    async def work() -> None:
        nonlocal served
        try:
            async with slots.slot(f"t{chance.randrange(3)}") as release:
                served += 1
                await asyncio.sleep(chance.random() / 300)
                if chance.random() < 0.5:
                    release()
                    await asyncio.sleep(chance.random() / 500)
        except GatewayError:
            pass

    tasks = []
    for _ in range(120):
        tasks.append(asyncio.create_task(work()))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() / 1000)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (slots.busy, slots.waiting) == (0, 0)
    assert not slots._lines
    assert not slots._held
    assert served > 10


async def test_over_http_a_user_is_limited_and_another_is_not(new_stack):
    stack = await new_stack(rate=0.01, burst=2)
    mine = {"Authorization": f"Bearer {stack.token()}"}
    other = stack.token(sub="00000000-0000-4000-8000-000000000001")
    for _ in range(2):
        assert (await stack.call("GET", "/rest/v1/a", headers=mine)).status == 200
    answer = await stack.call("GET", "/rest/v1/a", headers=mine)
    assert (answer.status, answer.reason) == (429, "rate_limit")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    # Another spelling, another path, a hop claimed, a fresh token: the same sender.
    again = {"Authorization": f"bearer {stack.token(exp=None) and stack.token()}"}
    for headers in (again, mine | {"X-Forwarded-For": "9.9.9.9"}):
        assert (await stack.call("GET", "/rest/v1/b", headers=headers)).status == 429
    theirs = {"Authorization": f"Bearer {other}"}
    assert (await stack.call("GET", "/rest/v1/a", headers=theirs)).status == 200
    assert (await stack.call("GET", "/rest/v1/a", "secret_key")).status == 200


async def test_sign_in_has_a_rate_of_its_own(new_stack):
    stack = await new_stack(auth_rate=0.01, auth_burst=3)
    for _ in range(3):
        assert (
            await stack.call("POST", "/auth/v1/token?grant_type=password", json={})
        ).status == 200
    answer = await stack.call("POST", "/auth/v1/token?grant_type=password", "secret_key", json={})
    assert answer.status == 429
    assert answer.json["error_code"] == "rate_limit"
    assert (await stack.call("GET", "/rest/v1/a")).status == 200


async def test_one_webhook_connection_does_not_slow_another(new_stack):
    stack = await new_stack(rate=0.01, burst=2)
    for _ in range(2):
        assert (await stack.call("POST", "/functions/v1/twilio-voice/a", None)).status == 200
    assert (await stack.call("POST", "/functions/v1/twilio-voice/a/status", None)).status == 429
    assert (await stack.call("POST", "/functions/v1/twilio-voice/b", None)).status == 200


async def test_slow_calls_of_one_user_do_not_block_another(new_stack):
    stack = await new_stack(concurrency=4, concurrency_per_tenant=3, waiting_per_tenant=2)
    release = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == "/slow":
            await release.wait()
        return web.json_response([])

    stack.rest.answer = slow
    mine = {"Authorization": f"Bearer {stack.token()}"}
    tasks = [
        asyncio.create_task(stack.call("GET", "/rest/v1/slow", headers=mine)) for _ in range(6)
    ]
    async with asyncio.timeout(10):  # until it is full, and longer, so that too many would show
        while len(stack.rest.seen) < 3:  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(stack.rest.seen) == 3
    answer = await asyncio.wait_for(stack.call("GET", "/rest/v1/fast"), 1)
    assert answer.status == 200
    release.set()
    statuses = Counter(answer.status for answer in await asyncio.gather(*tasks))
    assert statuses == {200: 5, 429: 1}
