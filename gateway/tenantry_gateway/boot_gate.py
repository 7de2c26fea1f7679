"""The boot gate: no data is served unless the database behind PostgREST is the one that was
shipped with this gateway, and PostgREST refuses what it must.

It looks when the gateway starts, then every `boot_gate_seconds`, on SIGHUP, and more often while it
is closed. Where PostgREST does not answer it waits: requests would fail by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any
from urllib.parse import quote

from tenantry_gateway.boot_facts import (
    REBUILD,
    Comparison,
    Fact,
    compare,
    parse_facts,
    read_expected,
)
from tenantry_gateway.boot_probes import run_probes
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.settings import Settings

_CLOSED_SECONDS = 2.0
_WAITING_SECONDS = 0.2
_MOST_PAGES = 50
_MOST_SHOWN = 50
_FACTS = "/rpc/boot_facts?order=section,name,fingerprint,risk"
HINT = f"If the change is intended, rebuild the list of what is expected: {REBUILD}"

log = logging.getLogger("tenantry_gateway")


class State(Enum):
    """What the gate knows of the database."""

    STARTING = "starting"
    OPEN = "open"
    CLOSED = "closed"


class BootGate:
    """Lets requests for data pass, or not. `start` it inside a running loop, `close` it after.

    After each look that found the shipped database, it calls `looked`.
    """

    def __init__(
        self,
        settings: Settings,
        postgrest: Postgrest,
        database: str = "the database",
        *,
        looked: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`database` names it in the log."""
        self._database = database
        self._looked = looked
        self._mode = settings.boot_gate
        self._seconds = settings.boot_gate_seconds
        self._expected = settings.expected_database
        self._secret = settings.jwt_secret
        self._postgrest = postgrest
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()
        self._found = Comparison((), ())
        self.state = State.STARTING

    def start(self) -> None:
        """Begin to look, unless the gate is off."""
        if self._mode != "off":
            self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look_again(self) -> None:
        """Look now instead of at the next turn."""
        self._again.set()

    def check(self) -> None:
        """Raises 503 while the gate is enforced and not open."""
        if self._mode != "enforce" or self.state is State.OPEN:
            return
        if self.state is State.STARTING:
            raise GatewayError(
                503,
                "starting",
                "The gateway is waiting for the database",
                "Try again in a moment.",
                headers={"Retry-After": "1"},
            )
        raise GatewayError(
            503,
            "boot_gate",
            "The database is not the one that this gateway was made for, so no data is served",
            "Operators: /healthz and the gateway's log name what differs.",
            headers={"Retry-After": str(round(_CLOSED_SECONDS))},
        )

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of /healthz."""
        if self._mode == "off" or self.state is State.OPEN:
            return 200, {"status": "ok"}
        enforced = self._mode == "enforce"
        if self.state is State.STARTING:
            return (503 if enforced else 200), {"status": "starting", "reason": "starting"}
        status, word = (503, "failing") if enforced else (200, "warning")
        differences = list(self._found.differences)
        return status, {
            "status": word,
            "reason": "boot_gate",
            "differences": differences[:_MOST_SHOWN],
            "count": len(differences),
            "hint": HINT,
        }

    async def _watch(self) -> None:
        while True:
            self._again.clear()
            pause = await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._again.wait()

    async def _look(self) -> float:
        """Look once; the seconds until the next time."""
        try:
            found = await self._inspect()
        except PostgrestUnavailable:
            return _WAITING_SECONDS
        except Exception as error:  # a gate that cannot look stays shut
            log.exception("the boot gate cannot look")
            found = Comparison((f"gateway: the check failed with {type(error).__name__}",), ())
        self._decide(found)
        if self._looked is not None and self.state is State.OPEN:
            with contextlib.suppress(GatewayError):
                await self._looked()
        return self._seconds if self.state is State.OPEN else min(self._seconds, _CLOSED_SECONDS)

    def _decide(self, found: Comparison) -> None:
        state = State.CLOSED if found.differences else State.OPEN
        changed = state is not self.state or found != self._found
        self.state, self._found = state, found
        if not changed:
            return
        if found.differences:
            listed = "\n  ".join(found.differences[:_MOST_SHOWN])
            refused = "no data is served" if self._mode == "enforce" else "only a warning"
            log.error(
                "boot gate: %s has %d differences from what was shipped, %s:\n  %s\n%s",
                self._database,
                len(found.differences),
                refused,
                listed,
                HINT,
            )
        else:
            log.info("boot gate: open for %s", self._database)
        if found.unknown:
            log.info("boot gate: %d objects of your own", len(found.unknown))

    async def _inspect(self) -> Comparison:
        try:
            expected = await asyncio.to_thread(read_expected, self._expected)
        except (OSError, ValueError) as error:
            problem = f"gateway: the list of what is expected cannot be read ({error})"
            return Comparison((problem,), ())
        facts = await read_facts(self._postgrest)
        if facts is None:
            return Comparison(("functions: public.boot_facts() does not answer",), ())
        found = compare(expected, facts)
        probes = await run_probes(self._postgrest, self._secret)
        return Comparison((*found.differences, *probes), found.unknown)


async def read_facts(postgrest: Postgrest, schema: str | None = None) -> list[Fact] | None:
    """All facts of a database, or of one schema, in as many pages as PostgREST makes of them.

    None where it has none for us. Raises PostgrestUnavailable.
    """
    target = f"{_FACTS}&schema={quote(schema)}" if schema else _FACTS
    facts: list[Fact] = []
    for _ in range(_MOST_PAGES):
        reply = await postgrest.ask(
            "GET", f"{target}&offset={len(facts)}", headers={"Prefer": "count=exact"}
        )
        reply.require_up()
        if reply.status not in (200, 206):
            return None
        page = parse_facts(json.loads(reply.body))
        facts += page
        total = int(reply.headers["Content-Range"].rpartition("/")[2])
        if not page or len(facts) >= total:
            return facts
    raise ValueError("too many rows")
