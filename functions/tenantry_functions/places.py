"""The databases that businesses live in: one pool for the main one, a small one for each other.

All are databases of one server and are reached as the same login role; only the name differs. A
name comes from the registry's answer, never from a request.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from tenantry_functions.errors import Unavailable
from tenantry_functions.settings import Settings

_log = logging.getLogger("tenantry.functions.places")
_Answer = TypeVar("_Answer")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: A home that was left must be free to be dropped soon.
_IDLE_SECONDS = 30.0

Database = psycopg.AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Database]
Work = Callable[[Database], Awaitable[_Answer]]


def checked_name(name: str) -> str:
    """The name of a database or schema as the registry makes them.

    Raises:
        Unavailable: it is none of those.
    """
    if not _NAME.fullmatch(name):
        _log.error("the registry names a place that cannot be one")
        raise Unavailable("We cannot reach this business now; try again in a moment.")
    return name


@dataclass(slots=True)
class _Place:
    pool: Pool
    users: int = 0


class Places:
    """Runs work in a database by its name; see `open_places`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.main = str(conninfo_to_dict(settings.database_url).get("dbname", ""))
        self._main_pool = _pool(settings, settings.database_url, 1, settings.pool_max)
        #: The least recently used first.
        self._others: OrderedDict[str, _Place] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start the main pool without waiting for its database."""
        await self._main_pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        pools = [self._main_pool, *(place.pool for place in self._others.values())]
        self._others.clear()
        await asyncio.gather(*(pool.close(timeout=5) for pool in pools), *self._closing)

    async def run(self, database: str, work: Work[_Answer]) -> _Answer:
        """Do the work in a database; once more when the connection turns out to be dead.

        A pooled connection does not know that the server was restarted until it is used.

        Raises:
            psycopg.Error: what the database says; PoolTimeout and TooManyRequests when there is
                no connection to be had.
            Unavailable: see `checked_name`.
        """
        async with self._pool_of(database) as pool:
            try:
                return await _once(pool, work)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not _is_lost_connection(error):
                    raise
                # Its neighbours are most likely dead too.
                await pool.check()
                return await _once(pool, work)

    @asynccontextmanager
    async def _pool_of(self, database: str) -> AsyncIterator[Pool]:
        if database == self.main:
            yield self._main_pool
            return
        place = self._others.get(database)
        if place is None:
            place = self._others[database] = self._new_place(checked_name(database))
        self._others.move_to_end(database)
        place.users += 1
        try:
            await place.pool.open(wait=False)  # does nothing when it is open
            yield place.pool
        finally:
            place.users -= 1

    def _new_place(self, database: str) -> _Place:
        settings = self._settings
        if len(self._others) >= settings.elsewhere_databases_max:
            self._close_one()
        url = make_conninfo(settings.database_url, dbname=database)
        return _Place(_pool(settings, url, 0, settings.elsewhere_pool_max))

    def _close_one(self) -> None:
        """Make room: close what nobody has used for longest."""
        name = next((name for name, place in self._others.items() if not place.users), None)
        if name is None:
            raise TooManyRequests("all pools for other databases are in use")
        task = asyncio.create_task(self._others.pop(name).pool.close(timeout=5))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


@asynccontextmanager
async def open_places(settings: Settings) -> AsyncIterator[Places]:
    """The places, for the length of the block."""
    places = Places(settings)
    await places.open()
    try:
        yield places
    finally:
        await places.close()


def _pool(settings: Settings, url: str, min_size: int, max_size: int) -> Pool:
    """A pool that starts without waiting for the database, and waits for it later.

    Each connection commits every statement: one call, one transaction. A queue that grows longer
    than the pool can serve in its waiting time is refused at once.
    """
    timeout = settings.statement_timeout_ms
    options = (
        f"-c statement_timeout={timeout} -c lock_timeout={max(1, timeout * 4 // 5)}"
        " -c idle_in_transaction_session_timeout=10000"
    )
    return AsyncConnectionPool(
        url,
        min_size=min_size,
        max_size=max_size,
        max_waiting=max_size * 20,
        timeout=settings.pool_wait_seconds,
        max_idle=_IDLE_SECONDS,
        max_lifetime=1800,
        reconnect_timeout=30,
        open=False,
        num_workers=min(3, max_size),
        name="tenantry-functions",
        kwargs={
            "autocommit": True,
            "connect_timeout": 3,
            "application_name": "tenantry-functions",
            "options": options,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )


async def _once(pool: Pool, work: Work[_Answer]) -> _Answer:
    async with pool.connection() as database:
        return await work(database)


def _is_lost_connection(error: psycopg.Error) -> bool:
    if isinstance(error, (PoolTimeout, TooManyRequests)):
        return False
    # 57P01..57P03: the server is shutting down or starting; no state: the socket broke.
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))
