"""Where tenants live: what the main database's registry says, remembered for as long as it holds.

A home is left only after that was announced (state `moving`) for longer than `settle_seconds`; the
main database sees to that. So an answer that came within `settle_seconds` of a look at the registry
came from the right home, unless the tenant was known to be moving. Looks are shared by all
requests; an answer that took longer, or concerns a moving tenant, waits for one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.keys import CANONICAL_UUID
from tenantry_gateway.planes import Planes
from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.tenant_names import TenantName

# Who belongs to whom may change without a change of homes; every database decides by itself too.
KNOWN_SECONDS = 5.0
UNKNOWN_SECONDS = 1.0
# While the registry does not answer: a home itself refuses tenants that have left it.
OUTAGE_SECONDS = 600.0
REMEMBERED = 10_000

_Value = TypeVar("_Value")

log = logging.getLogger("tenantry_gateway")


@dataclass(frozen=True, slots=True)
class Home:
    """Where an organization lives."""

    organization_id: str
    isolation: str
    database: str
    schema: str
    state: str
    """Of the placement; of the organization where that is not active."""
    epoch: int

    @property
    def is_pooled(self) -> bool:
        """Whether it lives in the shared tables of the main database."""
        return self.isolation == "pooled"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A named tenant, and as what the caller belongs to it."""

    home: Home
    audience: str | None
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the registry."""

    version: int
    elsewhere: int
    unsettled: int
    settle_seconds: float


class Homes:
    """Asks the main database. Raises 503 where it does not answer."""

    def __init__(self, postgrest: Postgrest) -> None:
        self._postgrest = postgrest
        self._overview: Overview | None = None
        self._looked = float("-inf")
        self._look: asyncio.Task[None] | None = None
        self._planes: Planes | None = None
        self._tenants: _Remembered[Tenant | None] = _Remembered(
            lambda tenant: KNOWN_SECONDS if tenant and tenant.kinds else UNKNOWN_SECONDS
        )
        # Who belongs nowhere yet may belong somewhere in a moment.
        self._homes: _Remembered[tuple[Home, ...]] = _Remembered(
            lambda homes: KNOWN_SECONDS if homes else 0.0
        )

    async def close(self) -> None:
        """End the look under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def overview(self) -> Overview:
        """The state of the registry as far as it is known; begins a look when that grows old."""
        if self._overview is None:
            await self._look_since(float("-inf"))
            assert self._overview is not None
        elif time.monotonic() - self._looked > self._overview.settle_seconds / 2:
            self._begin_look()
        return self._overview

    async def still_holds(self, version: int, *, moving: bool) -> bool:
        """Whether the registry still had state `version` when the answer at hand was given."""
        now = time.monotonic()
        settle = self._overview.settle_seconds if self._overview and not moving else 0.0
        if now - self._looked > settle:
            await self._look_since(now - settle)
        return self._overview is not None and self._overview.version == version

    def holds_now(self, version: int, *, moving: bool) -> bool:
        """The same without waiting; False where it takes a look to know."""
        known = self._overview
        return (
            known is not None
            and known.version == version
            and not moving
            and time.monotonic() - self._looked <= known.settle_seconds
        )

    async def planes(self) -> Planes:
        """What of the API lives where."""
        if self._planes is None:
            await self.refresh_planes()
            assert self._planes is not None
        return self._planes

    async def refresh_planes(self) -> None:
        """Read again what of the API lives where: migrations may have changed it."""
        self._planes = await self._asked("api_planes", {}, Planes.read)

    async def tenant(self, name: TenantName, principal: str | None) -> Tenant | None:
        """The tenant of that name, and as what `principal` belongs to it; None for unknown ones."""
        body = {"kind": name.kind, "key": name.key, "principal": principal}

        async def ask() -> Tenant | None:
            found = await self._asked("resolve_tenant", body, _tenants)
            return found[0] if found else None

        return await self._tenants.get((name.kind, name.key, principal), ask)

    async def homes_of(self, principal: str) -> tuple[Home, ...]:
        """The homes of all organizations that a user or an API key belongs to."""

        async def ask() -> tuple[Home, ...]:
            return await self._asked("homes_of", {"principal": principal}, _homes)

        return await self._homes.get(principal, ask)

    def forget(self) -> None:
        """Look everything up again: somebody saw that it is outdated."""
        self._tenants.clear()
        self._homes.clear()

    def _begin_look(self) -> asyncio.Task[None]:
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._read_overview())
            self._look.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._look

    async def _look_since(self, moment: float) -> None:
        """Return once a look that began after `moment` has succeeded."""
        while True:
            await asyncio.shield(self._begin_look())
            if self._looked >= moment:
                return

    async def _read_overview(self) -> None:
        began = time.monotonic()
        found = await self._asked("placement_overview", {}, _overview)
        if self._overview is None or found.version != self._overview.version:
            self.forget()
        self._overview, self._looked = found, began

    async def _asked(
        self, function: str, body: dict[str, Any], read: Callable[[list[Any]], _Value]
    ) -> _Value:
        try:
            reply = await self._postgrest.ask("POST", f"/rpc/{function}", body=body)
            reply.require_up()
            rows = json.loads(reply.body)
            if reply.status != 200 or not isinstance(rows, list):
                raise ValueError(f"status {reply.status}")
            return read(rows)
        except PostgrestUnavailable as error:
            raise registry_unavailable() from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.error("%s cannot be used: %s: %s", function, type(error).__name__, error)
            raise registry_unavailable() from error


def registry_unavailable() -> GatewayError:
    """The main database does not say where tenants live."""
    return GatewayError(
        503,
        "service_unavailable",
        "The registry of tenants is not available",
        "Try again in a moment.",
        headers={"Retry-After": "1"},
    )


def being_moved() -> GatewayError:
    """A tenant on its way."""
    return GatewayError(
        503,
        "moving",
        "This tenant is being moved",
        "Try again in a few seconds.",
        headers={"Retry-After": "2"},
    )


def _home(row: Any) -> Home:
    if not CANONICAL_UUID.fullmatch(row["organization_id"]):
        raise ValueError("not an id")
    return Home(
        row["organization_id"],
        row["isolation"],
        row["database_name"],
        row["schema_name"],
        row["state"],
        int(row["epoch"]),
    )


def _homes(rows: list[Any]) -> tuple[Home, ...]:
    return tuple(map(_home, rows))


def _tenants(rows: list[Any]) -> list[Tenant]:
    return [Tenant(_home(row), row["audience"], frozenset(row["kinds"])) for row in rows]


def _overview(rows: list[Any]) -> Overview:
    (row,) = rows
    return Overview(
        int(row["version"]),
        int(row["elsewhere"]),
        int(row["unsettled"]),
        float(row["settle_seconds"]),
    )


@dataclass(slots=True)
class _Remembered(Generic[_Value]):
    """The latest answers, each for `seconds(answer)`; one question at a time for each key."""

    seconds: Callable[[_Value], float]
    _known: OrderedDict[Hashable, tuple[float, _Value]] = field(default_factory=OrderedDict)
    _asking: dict[Hashable, asyncio.Task[_Value]] = field(default_factory=dict)
    _generation: int = 0

    def clear(self) -> None:
        """Forget everything, also what is being asked now."""
        self._generation += 1
        self._known.clear()
        self._asking.clear()

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[_Value]]) -> _Value:
        """The answer for `key`; what was known when the registry does not answer."""
        known = self._known.get(key)
        now = time.monotonic()
        if known is not None and now - known[0] < self.seconds(known[1]):
            self._known.move_to_end(key)
            return known[1]
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._ask(key, ask, now, self._generation))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        try:
            return await asyncio.shield(task)
        except GatewayError:
            if known is not None and now - known[0] < OUTAGE_SECONDS:
                return known[1]
            raise

    async def _ask(
        self, key: Hashable, ask: Callable[[], Awaitable[_Value]], began: float, generation: int
    ) -> _Value:
        value = await ask()
        if generation == self._generation:
            self._known[key] = (began, value)
            self._known.move_to_end(key)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return value

    def _finished(self, key: Hashable, task: asyncio.Task[_Value]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever waits has it
