"""The pool of places, with processes that start and end at once: who gets one, and when."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest

from tenantry_gateway import places
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.metrics import Metrics
from tenantry_gateway.place_process import PlaceFailed, configuration
from tenantry_gateway.places import Places, State
from tenantry_gateway.settings import Settings

from .conftest import KEYS, SECRET

pytestmark = pytest.mark.anyio


def settings(**changes: Any) -> Settings:
    nobody = "http://127.0.0.1:1"
    return dataclasses.replace(
        Settings(
            postgrest_url=nobody, auth_url=nobody, functions_url=nobody, jwt_secret=SECRET, **KEYS
        ),
        **changes,
    )  # fmt: skip


class FakeProcess:
    """Counts how many live; fails or dies when told to."""

    live = most = 0
    fails: ClassVar[set[str]] = set()
    start_seconds = 0.01

    def __init__(
        self, settings: Settings, database: str, schema: str, directory: Path, number: int
    ) -> None:
        self.database = database
        self.connector = aiohttp.TCPConnector()
        self.dead = asyncio.Event()
        self.runs = False

    async def start(self, seconds: float) -> None:
        FakeProcess.live += 1
        self.runs = True
        FakeProcess.most = max(FakeProcess.most, FakeProcess.live)
        await asyncio.sleep(self.start_seconds)
        if self.database in self.fails:
            raise PlaceFailed("told to")

    async def ended(self) -> None:
        await self.dead.wait()

    async def stop(self) -> None:
        await asyncio.sleep(0.005)
        if self.runs:
            self.runs = False
            FakeProcess.live -= 1
        self.dead.set()


@pytest.fixture
async def pool(monkeypatch):
    monkeypatch.setattr(places, "PlaceProcess", FakeProcess)
    monkeypatch.setattr(places, "_TURN_SECONDS", 0.05)
    FakeProcess.live = FakeProcess.most = 0
    FakeProcess.fails = set()
    opened: list[Places] = []

    def make(**changes: Any) -> Places:
        one = Places(settings(**changes), Metrics())
        opened.append(one)
        return one

    yield make
    for one in opened:
        await one.close()
    assert FakeProcess.live == 0


async def use(pool: Places, database: str, seconds: float = 0.0) -> None:
    async with pool.lease((database, "public")) as place:
        assert place.state in (State.READY, State.GIVING_WAY)
        assert place.process is not None
        assert place.process.runs
        await asyncio.sleep(seconds)
        assert place.process is not None
        assert place.process.runs, "stopped while in use"


async def test_never_more_than_the_cap_and_never_stopped_in_use(pool):
    one = pool(places_max=3, places_idle_seconds=0.05, places_wait_seconds=20.0)
    chance = random.Random(3)
    work = [
        use(one, f"d{chance.randrange(12)}", chance.choice((0, 0.001, 0.02))) for _ in range(600)
    ]
    gate = asyncio.Semaphore(16)

    async def bounded(job: Any) -> None:
        async with gate:
            await job

    await asyncio.gather(*map(bounded, work))
    assert FakeProcess.most == 3


async def test_a_place_that_never_rests_gives_way(pool):
    one = pool(places_max=1, places_wait_seconds=5.0)
    busy = True

    async def hot() -> int:
        count = 0
        while busy:
            await use(one, "hot", 0.01)
            count += 1
        return count

    tasks = [asyncio.create_task(hot()) for _ in range(4)]
    await asyncio.sleep(0.1)
    for _ in range(3):
        await use(one, "cold")
    busy = False
    assert min(await asyncio.gather(*tasks)) > 3


async def test_idle_places_stop_by_themselves(pool):
    one = pool(places_idle_seconds=0.05)
    await use(one, "a")
    assert one.live == 1
    await asyncio.sleep(0.3)
    assert one.live == 0
    await use(one, "a")


async def test_who_waits_too_long_or_leaves_holds_nothing(pool):
    one = pool(places_max=1, places_wait_seconds=0.1)
    async with one.lease(("a", "public")):
        with pytest.raises(GatewayError) as refused:
            await use(one, "b")
        assert (refused.value.status, refused.value.reason) == (503, "place_busy")
        leaving = asyncio.create_task(use(one, "b"))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await use(one, "c")
    assert FakeProcess.most == 1


async def test_a_failed_start_is_not_tried_at_once_again(pool):
    one = pool()
    FakeProcess.fails = {"bad"}
    for _ in range(3):
        with pytest.raises(GatewayError) as refused:
            await use(one, "bad")
        assert (refused.value.status, refused.value.reason) == (503, "place_unavailable")
        assert int(refused.value.headers["Retry-After"]) >= 1
    assert one._started == 1
    await use(one, "good")
    FakeProcess.fails = set()
    await asyncio.sleep(0.6)
    await use(one, "bad")


async def test_a_crash_is_noticed(pool):
    one = pool()
    async with one.lease(("a", "public")) as place:
        assert place.process is not None
        place.process.dead.set()
        await asyncio.sleep(0.05)
        assert place.state is State.COLD
    assert one.live == 0
    await asyncio.sleep(0.6)
    await use(one, "a")


async def test_closing_ends_those_that_start_and_those_that_wait(pool):
    one = pool(places_max=1)
    first = asyncio.create_task(use(one, "a", 5))
    second = asyncio.create_task(use(one, "b"))
    await asyncio.sleep(0.003)
    await one.close()
    assert FakeProcess.live == 0
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)


def test_the_configuration_is_quoted():
    text = configuration(
        settings(places_database_url="postgresql://authenticator:p%40ss@h:5432/postgres"),
        "tenantry_x",
        "tenant_a",
        Path('/tmp/a"b\\c'),  # noqa: S108 - never made
    )
    assert 'db-uri = "postgresql://authenticator:p%40ss@h:5432/tenantry_x"' in text
    assert 'db-schemas = "public,tenant_a"' in text
    assert 'server-unix-socket = "/tmp/a\\"b\\\\c"' in text
    assert "db-config = false" in text


def test_places_need_postgrest():
    from tenantry_gateway.settings import SettingsError

    environment = {
        f"GATEWAY_{name.upper()}": value
        for name, value in {
            "postgrest_url": "http://a",
            "auth_url": "http://a",
            "functions_url": "http://a",
            "jwt_secret": SECRET,
            "places_database_url": "postgresql://authenticator:x@h/postgres",
            **KEYS,
        }.items()
    }
    with pytest.raises(SettingsError, match="GATEWAY_POSTGREST_BIN is not set"):
        Settings.from_environment(environment)
