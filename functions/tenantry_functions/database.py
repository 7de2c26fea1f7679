"""The inbox in Postgres, as role `integrator`: four functions, nothing else.

Connections are looked up in the main database; a delivery is stored at the home of its business,
which may be another database or a schema of its own. Everything that goes wrong before a row is
known to be stored is `Unavailable`, so that the provider sends again. Sending again is safe: an
event is stored once, and where its business moves its rows go along.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, scalar_row
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout, TooManyRequests

from tenantry_functions.errors import Unavailable
from tenantry_functions.inbox import Connection, Home, Receipt
from tenantry_functions.places import Database, Places, Work, checked_name
from tenantry_functions.providers import Payload, Reading

_log = logging.getLogger("tenantry.functions.database")
_Answer = TypeVar("_Answer")
#: The place says that the business lives elsewhere, or is not there at all: no such schema.
_NOT_HOME = frozenset({"PT404", "PT409", "3F000", "42883"})
_MOVING = "PT503"
_DATABASES_AT_ONCE = 4


class _NotHome(Unavailable):
    """A place that should be the home refused; the home may have changed meanwhile."""


class PostgresInbox:
    """The inbox in the databases. See `inbox.Inbox` for what each method promises.

    Args:
        elsewhere_seconds: between two visits of the worker to a database other than the main one.
    """

    def __init__(self, places: Places, *, elsewhere_seconds: float) -> None:
        self._places = places
        self._elsewhere_seconds = elsewhere_seconds
        #: When the worker goes to a database again, in seconds of the monotonic clock.
        self._next_visit: dict[str, float] = {}

    async def connection(self, connection_id: UUID) -> Connection | None:
        async def ask(database: Database) -> dict[str, Any] | None:
            cursor = database.cursor(row_factory=dict_row)
            query = "select * from public.webhook_connection(%s)"
            return await (await cursor.execute(query, (connection_id,))).fetchone()

        row = await self._run(self._places.main, ask)
        if row is None:
            return None
        return Connection(
            id=connection_id,
            business_id=row["business_id"],
            provider=row["provider"],
            account_ref=row["account_ref"],
            secrets=tuple(secret for secret in row["secrets"] or () if secret),
            is_active=row["is_active"] is True,
            home=Home(row["database_name"], row["schema_name"], row["state"], row["epoch"]),
        )

    async def ingest(self, connection: Connection, reading: Reading, payload: Payload) -> Receipt:
        home = connection.home
        try:
            return await self._store(home, connection.id, reading, payload)
        except _NotHome:
            found = await self.connection(connection.id)
            if found is None or not found.is_active or found.home == home:
                raise
            return await self._store(found.home, connection.id, reading, payload)

    async def retry(self, limit: int) -> int:
        async def ask(database: Database) -> list[tuple[str, str]]:
            query = "select database_name, schema_name from public.webhook_homes()"
            return await (await database.execute(query)).fetchall()

        schemas: dict[str, list[str]] = {}
        for database, schema in await self._run(self._places.main, ask):
            schemas.setdefault(database, []).append(schema)
        turns = asyncio.Semaphore(_DATABASES_AT_ONCE)

        async def visit(database: str) -> int:
            async with turns:
                return await self._retry_in(database, schemas[database], limit)

        due = self._due(list(schemas))
        counts = await asyncio.gather(*map(visit, due), return_exceptions=True)
        done = 0
        for count in counts:
            if isinstance(count, BaseException):
                raise count
            done += count
        return done

    async def is_reachable(self) -> bool:
        """Whether the main database answers now."""

        async def ask(database: Database) -> bool:
            await database.execute("select 1")
            return True

        try:
            return await self._run(self._places.main, ask)
        except Unavailable:
            return False

    async def _store(
        self, home: Home, connection_id: UUID, reading: Reading, payload: Payload
    ) -> Receipt:
        if not home.takes_events:
            raise _being_moved()
        query = sql.SQL("select {}.ingest_webhook(%s, %s, %s, %s, %s)").format(_schema(home.schema))
        arguments = (
            connection_id,
            reading.event_id,
            reading.kind,
            Jsonb(dict(payload)),
            Jsonb(list(reading.events)),
        )

        async def store(database: Database) -> dict[str, Any]:
            cursor = database.cursor(row_factory=scalar_row)
            answer = await (await cursor.execute(query, arguments)).fetchone()
            if not isinstance(answer, dict):
                raise psycopg.DataError("ingest_webhook answered no object")
            return answer

        answer = await self._run(home.database, store)
        results = answer.get("results")
        return Receipt(
            event_id=str(answer.get("event_id")),
            duplicate=answer.get("duplicate") is True,
            status=str(answer.get("status")),
            results=tuple(r for r in results if isinstance(r, dict))
            if isinstance(results, list)
            else (),
        )

    def _due(self, databases: list[str]) -> list[str]:
        """The databases to visit in this round; the others were visited not long ago."""
        now = time.monotonic()
        self._next_visit = {name: self._next_visit.get(name, now) for name in databases}
        due = [name for name in databases if self._next_visit[name] <= now]
        for name in due:
            if name != self._places.main:
                self._next_visit[name] = now + self._elsewhere_seconds
        return due

    async def _retry_in(self, database: str, schemas: list[str], limit: int) -> int:
        """Retry in the homes of one database; its trouble is not that of the others."""
        done = 0
        for schema in schemas:

            async def again(connection: Database, schema: str = schema) -> int:
                cursor = connection.cursor(row_factory=scalar_row)
                query = sql.SQL("select {}.retry_webhook_events(%s)").format(_schema(schema))
                return int(await (await cursor.execute(query, (limit,))).fetchone() or 0)

            try:
                count = await self._run(database, again)
            except Unavailable as error:
                if database == self._places.main:
                    raise
                _log.warning("no retries in %s.%s this time", database, schema)
                if isinstance(error.__cause__, (PoolTimeout, TooManyRequests)):
                    return done  # nor in its other schemas
                continue
            done += count
            if count >= limit:
                self._next_visit[database] = 0.0  # there may be more: in the next round
        return done

    async def _run(self, database: str, work: Work[_Answer]) -> _Answer:
        try:
            return await self._places.run(database, work)
        except psycopg.Error as error:
            if error.sqlstate == _MOVING:
                raise _being_moved() from error
            # The text of a database error can hold values of the row: log its class and state.
            _log.error("database refused: %s %s", type(error).__name__, error.sqlstate or "")
            kind = _NotHome if error.sqlstate in _NOT_HOME else Unavailable
            raise kind(
                "We cannot store this now and have kept nothing; send it again in a moment."
            ) from error


def _schema(name: str) -> sql.Identifier:
    return sql.Identifier(checked_name(name))


def _being_moved() -> Unavailable:
    return Unavailable(
        "This business is being moved and takes no events for a moment; we have kept nothing,"
        " send it again.",
        code="moving",
    )
