"""The database as role `integrator`: three functions, nothing else.

Everything that goes wrong here before a row is known to be stored is `Unavailable`, so that the
provider sends again. Sending again is safe: an event is stored once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow, dict_row, scalar_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from tenantry_functions.errors import Unavailable
from tenantry_functions.inbox import Connection, Receipt
from tenantry_functions.providers import Payload, Reading
from tenantry_functions.settings import Settings

_log = logging.getLogger("tenantry.functions.database")
_Answer = TypeVar("_Answer")
Pool = AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]


@asynccontextmanager
async def open_pool(settings: Settings) -> AsyncIterator[Pool]:
    """A pool that starts without waiting for the database, and waits for it later.

    Each connection commits every statement: one call, one transaction. A queue that grows longer
    than the pool can serve in its waiting time is refused at once.
    """
    timeout = settings.statement_timeout_ms
    options = (
        f"-c statement_timeout={timeout} -c lock_timeout={max(1, timeout * 4 // 5)}"
        " -c idle_in_transaction_session_timeout=10000"
    )
    pool: Pool = AsyncConnectionPool(
        settings.database_url,
        min_size=1,
        max_size=settings.pool_max,
        max_waiting=settings.pool_max * 20,
        timeout=settings.pool_wait_seconds,
        max_lifetime=1800,
        reconnect_timeout=30,
        open=False,
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
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close(timeout=5)


class PostgresInbox:
    """The inbox in the database. See `inbox.Inbox` for what each method promises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def connection(self, connection_id: UUID) -> Connection | None:
        async def ask(database: psycopg.AsyncConnection[TupleRow]) -> dict[str, Any] | None:
            cursor = database.cursor(row_factory=dict_row)
            query = "select * from public.webhook_connection(%s)"
            return await (await cursor.execute(query, (connection_id,))).fetchone()

        row = await self._run(ask)
        if row is None:
            return None
        return Connection(
            id=connection_id,
            business_id=row["business_id"],
            provider=row["provider"],
            account_ref=row["account_ref"],
            secrets=tuple(secret for secret in row["secrets"] or () if secret),
            is_active=row["is_active"] is True,
        )

    async def ingest(self, connection_id: UUID, reading: Reading, payload: Payload) -> Receipt:
        arguments = (
            connection_id,
            reading.event_id,
            reading.kind,
            Jsonb(dict(payload)),
            Jsonb(list(reading.events)),
        )

        async def store(database: psycopg.AsyncConnection[TupleRow]) -> dict[str, Any]:
            cursor = database.cursor(row_factory=scalar_row)
            query = "select public.ingest_webhook(%s, %s, %s, %s, %s)"
            answer = await (await cursor.execute(query, arguments)).fetchone()
            if not isinstance(answer, dict):
                raise psycopg.DataError("ingest_webhook answered no object")
            return answer

        answer = await self._run(store)
        results = answer.get("results")
        return Receipt(
            event_id=str(answer.get("event_id")),
            duplicate=answer.get("duplicate") is True,
            status=str(answer.get("status")),
            results=tuple(r for r in results if isinstance(r, dict))
            if isinstance(results, list)
            else (),
        )

    async def retry(self, limit: int) -> int:
        async def again(database: psycopg.AsyncConnection[TupleRow]) -> int:
            cursor = database.cursor(row_factory=scalar_row)
            query = "select public.retry_webhook_events(%s)"
            return int(await (await cursor.execute(query, (limit,))).fetchone() or 0)

        return await self._run(again)

    async def is_reachable(self) -> bool:
        """Whether the database answers now."""

        async def ask(database: psycopg.AsyncConnection[TupleRow]) -> bool:
            await database.execute("select 1")
            return True

        try:
            return await self._run(ask)
        except Unavailable:
            return False

    async def _run(
        self, work: Callable[[psycopg.AsyncConnection[TupleRow]], Awaitable[_Answer]]
    ) -> _Answer:
        """Do the work; once more when the connection turns out to be dead.

        A pooled connection does not know that the server was restarted until it is used.
        """
        try:
            try:
                return await self._once(work)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not _is_lost_connection(error):
                    raise
                # Its neighbours are most likely dead too.
                await self._pool.check()
                return await self._once(work)
        except psycopg.Error as error:
            # The text of a database error can hold values of the row: log its class and state.
            _log.error("database refused: %s %s", type(error).__name__, error.sqlstate or "")
            raise Unavailable(
                "We cannot store this now and have kept nothing; send it again in a moment."
            ) from error

    async def _once(
        self, work: Callable[[psycopg.AsyncConnection[TupleRow]], Awaitable[_Answer]]
    ) -> _Answer:
        async with self._pool.connection() as database:
            return await work(database)


def _is_lost_connection(error: psycopg.Error) -> bool:
    if isinstance(error, (PoolTimeout, TooManyRequests)):
        return False
    # 57P01..57P03: the server is shutting down or starting; no state: the socket broke.
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))
