"""The PostgREST processes of tenants' databases: started when asked for, few at once.

All decisions are made between two awaits of one event loop, so a process is never stopped between
being found and being used: it is leased in the same step in which it is found ready, and stopped
only in a step that finds no lease.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

import aiohttp

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.limits import FairSlots
from tenantry_gateway.metrics import Metrics
from tenantry_gateway.place_process import PlaceFailed, PlaceProcess
from tenantry_gateway.settings import Settings

# A place that others wait for serves at least this long before it has to give way.
_TURN_SECONDS = 0.5
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
# After a life this long, the next failure starts again with the shortest pause.
_HEALTHY_SECONDS = 60.0

log = logging.getLogger("tenantry_gateway")


class State(Enum):
    """What a place does."""

    COLD = "cold"
    STARTING = "starting"
    READY = "ready"
    GIVING_WAY = "giving way"
    """Finishes its requests, takes no more, then stops."""
    STOPPING = "stopping"


class Place:
    """One tenant's database and schema, and their PostgREST.

    A shelf has one for each of its schemas: what PostgREST works out of the catalog grows with the
    square of the schemas it serves, and one that serves twenty of them stalls for half a minute.
    """

    def __init__(self, where: tuple[str, str], settings: Settings) -> None:
        self.database, self.schema = where
        self.state = State.COLD
        self.process: PlaceProcess | None = None
        self.session: aiohttp.ClientSession | None = None
        self.slots = FairSlots(
            settings.concurrency,
            settings.concurrency_per_tenant,
            settings.waiting_per_tenant,
            settings.waiting_seconds,
        )
        self.in_flight = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.ready_at = self.used_at = 0.0
        self.pause = _SHORTEST_PAUSE_SECONDS
        self.not_before = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it is ready and nobody uses it."""
        return self.state is State.READY and not self.in_flight


class Places:
    """At most `places_max` processes live at any moment, those that start or stop included."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._places: dict[tuple[str, str], Place] = {}
        self._line: deque[Place] = deque()
        self._live = 0
        self._started = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None
        self._turn: asyncio.TimerHandle | None = None
        self._directory: Path | None = None
        self._closed = False

    @property
    def live(self) -> int:
        """Processes that exist now."""
        return self._live

    async def close(self) -> None:
        """Stop all processes and remove their files."""
        self._closed = True
        if self._turn is not None:
            self._turn.cancel()
        if self._reaper is not None:
            self._reaper.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for place in self._places.values():
            while place.waiting:
                _fail(place.waiting.popleft(), PlaceFailed("the gateway stops"))
        await asyncio.gather(*(self._end(place) for place in self._places.values()))
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @asynccontextmanager
    async def lease(self, where: tuple[str, str]) -> AsyncIterator[Place]:
        """The place of a database and schema, ready, not stopped inside the block. Raises 503."""
        place = self._places.get(where)
        if place is None:
            place = self._places[where] = Place(where, self._settings)
        if place.state is State.READY:
            place.in_flight += 1
        else:
            await self._wait(place)
        try:
            yield place
        finally:
            self._give_back(place)

    async def _wait(self, place: Place) -> None:
        """Wait in line until the place is ready, and lease it."""
        rest = place.not_before - time.monotonic()
        if rest > 0 and place.state is State.COLD:
            raise _unavailable(rest)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place.waiting.append(turn)
        self._advance(place)
        try:
            async with asyncio.timeout(self._settings.places_wait_seconds):
                await turn
        except PlaceFailed:
            raise _unavailable(place.not_before - time.monotonic()) from None
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(place)  # the lease came at the same moment
            elif turn in place.waiting:
                place.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                if place.state is State.STARTING:
                    raise _unavailable(0) from None
                raise GatewayError(
                    503,
                    "place_busy",
                    "Too many tenants' databases are in use at once",
                    "Try again in a moment.",
                    headers={"Retry-After": "2"},
                ) from None
            raise

    def _give_back(self, place: Place) -> None:
        place.in_flight -= 1
        place.used_at = time.monotonic()
        if place.state is State.GIVING_WAY and not place.in_flight:
            self._stop(place)
        elif self._line:
            self._advance()

    def _advance(self, wanted: Place | None = None) -> None:
        """Start what is waited for, as far as the cap allows; make room for the rest."""
        if self._closed:
            return
        if wanted is not None and wanted.state is State.COLD and wanted not in self._line:
            self._line.append(wanted)
        while self._line and self._live < self._settings.places_max:
            place = self._line.popleft()
            if place.waiting and place.state is State.COLD:
                self._live += 1
                self._metrics.places_live(self._live)
                place.state = State.STARTING
                self._spawn(self._start(place))
        if self._line:
            self._make_room()

    def _make_room(self) -> None:
        leaving = (State.GIVING_WAY, State.STOPPING)
        needed = len(self._line) - sum(one.state in leaving for one in self._places.values())
        by_use = sorted(self._places.values(), key=lambda one: one.used_at)
        for place in by_use:
            if needed > 0 and place.is_idle:
                self._stop(place)
                needed -= 1
        if needed <= 0:
            return
        now = time.monotonic()
        busy = [one for one in self._places.values() if one.state is State.READY]
        busy.sort(key=lambda one: one.ready_at)
        for place in busy[:needed]:
            if now - place.ready_at >= _TURN_SECONDS:
                place.state = State.GIVING_WAY
            elif self._turn is None:
                self._turn = asyncio.get_running_loop().call_later(
                    place.ready_at + _TURN_SECONDS - now, self._next_turn
                )

    def _next_turn(self) -> None:
        self._turn = None
        self._advance()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, place: Place) -> None:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="tenantry-gateway-"))
            self._reaper = asyncio.create_task(self._stop_idle())
        self._started += 1
        self._metrics.cold_start()
        process = PlaceProcess(
            self._settings, place.database, place.schema, self._directory, self._started
        )
        place.process = process
        try:
            await process.start(self._settings.places_wait_seconds)
        except PlaceFailed as error:
            log.error("the place %s did not start: %s", place.database, error)
            await self._end(place)
            self._back_off(place)
            while place.waiting:
                _fail(place.waiting.popleft(), PlaceFailed(str(error)))
            self._gone(place)
            return
        place.session = aiohttp.ClientSession(
            connector=process.connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        place.state = State.READY
        place.ready_at = place.used_at = time.monotonic()
        self._spawn(self._watch(place, process))
        while place.waiting:
            turn = place.waiting.popleft()
            if not turn.done():
                place.in_flight += 1
                turn.set_result(None)
        self._advance()

    async def _watch(self, place: Place, process: PlaceProcess) -> None:
        await process.ended()
        if place.process is not process or place.state is State.STOPPING:
            return
        log.error("the place %s ended by itself", place.database)
        place.state = State.STOPPING
        self._back_off(place)
        await self._end(place)
        self._gone(place)

    def _back_off(self, place: Place) -> None:
        now = time.monotonic()
        if place.ready_at and now - place.ready_at > _HEALTHY_SECONDS:
            place.pause = _SHORTEST_PAUSE_SECONDS
        place.not_before = now + place.pause
        place.pause = min(place.pause * 2, _LONGEST_PAUSE_SECONDS)

    def _stop(self, place: Place) -> None:
        place.state = State.STOPPING
        self._spawn(self._finish(place))

    async def _finish(self, place: Place) -> None:
        await self._end(place)
        self._gone(place)

    async def _end(self, place: Place) -> None:
        session, process = place.session, place.process
        place.session = None
        if session is not None:
            await session.close()
        elif process is not None:
            await process.connector.close()
        if process is not None:
            await process.stop()
        place.process = None

    def _gone(self, place: Place) -> None:
        place.state = State.COLD
        self._live -= 1
        self._metrics.places_live(self._live)
        self._advance(place if place.waiting else None)

    async def _stop_idle(self) -> None:
        longest = self._settings.places_idle_seconds
        while True:
            await asyncio.sleep(min(longest / 2, 5.0))
            before = time.monotonic() - longest
            for place in self._places.values():
                if place.is_idle and place.used_at < before:
                    self._stop(place)


def _fail(turn: asyncio.Future[None], error: PlaceFailed) -> None:
    if not turn.done():
        turn.set_exception(error)
        turn.exception()  # a client that left does not ask for it


def _unavailable(seconds: float) -> GatewayError:
    return GatewayError(
        503,
        "place_unavailable",
        "This tenant's database is not available",
        "Try again in a moment.",
        headers={"Retry-After": str(max(1, round(seconds + 0.5)))},
    )
