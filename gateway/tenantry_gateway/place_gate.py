"""The boot gate of places: a tenant is served only from a database, and a schema, as shipped.

Looked at when first used, and again every `boot_gate_seconds` while in use. Places that are alike
have the same digest, so their facts are compared once. What differs closes that tenant alone; what
differs in the database itself, all tenants in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass

from tenantry_gateway.boot_facts import SHIPPED, SHIPPED_TENANT_SCHEMA, compare, read_expected
from tenantry_gateway.boot_gate import read_facts
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.place_process import PlaceProcess
from tenantry_gateway.places import Place
from tenantry_gateway.postgrest import PostgrestUnavailable
from tenantry_gateway.settings import Settings
from tenantry_gateway.upstreams import POOLED_SCHEMA

_CLOSED_SECONDS = 2.0
_MOST_DIGESTS = 1000
_MOST_SHOWN = 20

log = logging.getLogger("tenantry_gateway")


@dataclass(frozen=True, slots=True)
class _Verdict:
    at: float
    differences: tuple[str, ...]


class PlaceGate:
    """Lets requests into places, or not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._good: set[str] = set()
        self._verdicts: dict[tuple[str, str | None], _Verdict] = {}
        self._looking: dict[tuple[str, str | None], asyncio.Task[_Verdict]] = {}

    async def close(self) -> None:
        """End the looks under way."""
        tasks = list(self._looking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def enter(self, place: Place) -> None:
        """Return when a leased place may be used. Raises 503."""
        process = place.process
        if process is None:
            raise _unavailable()
        if self._settings.boot_gate == "off":
            return
        await self._check(process, place.database, None)
        if place.schema != POOLED_SCHEMA:
            await self._check(process, place.database, place.schema)

    async def _check(self, process: PlaceProcess, database: str, schema: str | None) -> None:
        verdict = self._verdicts.get((database, schema))
        age = time.monotonic() - verdict.at if verdict else 0.0
        every = self._settings.boot_gate_seconds
        if verdict is not None and verdict.differences:
            every = min(every, _CLOSED_SECONDS)
        if verdict is None or age > 2 * every or (verdict.differences and age > every):
            try:
                verdict = await asyncio.shield(self._look(process, database, schema))
            except PostgrestUnavailable:
                raise _unavailable() from None
        elif age > every:
            self._look(process, database, schema)
        if verdict.differences and self._settings.boot_gate == "enforce":
            raise GatewayError(
                503,
                "boot_gate",
                "This tenant's database is not the one that this gateway was made for",
                "Operators: the gateway's log names what differs.",
                headers={"Retry-After": str(round(_CLOSED_SECONDS))},
            )

    def _look(
        self, process: PlaceProcess, database: str, schema: str | None
    ) -> asyncio.Task[_Verdict]:
        key = (database, schema)
        task = self._looking.get(key)
        if task is None:
            task = self._looking[key] = asyncio.create_task(
                self._inspect(process, database, schema)
            )
            task.add_done_callback(lambda done: self._looked(key, done))
        return task

    def _looked(self, key: tuple[str, str | None], task: asyncio.Task[_Verdict]) -> None:
        self._looking.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        before, verdict = self._verdicts.get(key), task.result()
        self._verdicts[key] = verdict
        if verdict.differences and (before is None or before.differences != verdict.differences):
            listed = "\n  ".join(verdict.differences[:_MOST_SHOWN])
            log.error(
                "boot gate of %s: %d differences from what was shipped:\n  %s",
                " schema ".join(filter(None, key)),
                len(verdict.differences),
                listed,
            )

    async def _inspect(self, process: PlaceProcess, database: str, schema: str | None) -> _Verdict:
        began = time.monotonic()
        try:
            return _Verdict(began, await self._differences(process, schema))
        except PostgrestUnavailable:
            raise
        except Exception as error:  # a gate that cannot look stays shut
            log.exception("the boot gate cannot look at %s", database)
            return _Verdict(began, (f"gateway: the check failed with {type(error).__name__}",))

    async def _differences(self, process: PlaceProcess, schema: str | None) -> tuple[str, ...]:
        reply = await process.postgrest.ask("POST", "/rpc/boot_digest", body={"schema": schema})
        reply.require_up()
        digest = json.loads(reply.body) if reply.status == 200 else None
        if digest in self._good:
            return ()
        facts = await read_facts(process.postgrest, schema)
        if facts is None or digest is None:
            return ("functions: public.boot_facts() does not answer",)
        if schema is None:
            path = self._settings.expected_database or SHIPPED
        else:
            path = self._settings.expected_tenant_schema or SHIPPED_TENANT_SCHEMA
        expected = await asyncio.to_thread(read_expected, path)
        differences = compare(expected, facts).differences
        if not differences and len(self._good) < _MOST_DIGESTS:
            self._good.add(digest)
        return differences


def _unavailable() -> GatewayError:
    return GatewayError(
        503,
        "place_unavailable",
        "This tenant's database is not available",
        "Try again in a moment.",
        headers={"Retry-After": "1"},
    )
