"""One streaming replica: how far it is, and whether it may be read from at all."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import time

from tenantry_gateway.boot_gate import BootGate, State
from tenantry_gateway.metrics import Metrics
from tenantry_gateway.positions import AFTER_HEADER, parse_position, print_position
from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.primary import Primary
from tenantry_gateway.settings import Settings

_TARGET = "/rpc/replay_position"
# What no server can have replayed: asked for to see that it is refused.
_BEYOND_ALL = print_position(2**64 - 1)
_NOWHERE = print_position(0)
REFUSED_STATUS = 425  # Too Early, from the hook's PT425

log = logging.getLogger("tenantry_gateway")


class Replica:
    """Looks at a replica again and again. `start` it inside a running loop, `close` it after."""

    def __init__(self, settings: Settings, origin: str, primary: Primary, metrics: Metrics) -> None:
        self._seconds = settings.replica_poll_seconds
        self._gated = settings.boot_gate != "off"
        self._guard_seconds = settings.boot_gate_seconds
        self._guarded_until = 0.0
        self._primary = primary
        self._metrics = metrics
        # The gate reads whatever state there is; only the service may, whom no rights bind.
        impatient = dataclasses.replace(settings, answer_seconds=settings.replica_answer_seconds)
        self._postgrest = Postgrest(impatient, origin=origin, headers={AFTER_HEADER: _NOWHERE})
        self.gate = BootGate(settings, self._postgrest, "the replica")
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = "unknown"
        self.position = 0
        """What it had replayed at the last look. It may be further, or have gone back: the replica
        itself checks what each read must see."""

    @property
    def problem(self) -> str | None:
        """Why it may not be read from, one word; None where it may."""
        if self._problem is None and self._gated and self.gate.state is not State.OPEN:
            return "boot_gate"
        return self._problem

    def start(self) -> None:
        """Begin to look."""
        self.gate.start()
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop looking and close the connections."""
        await self.gate.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._postgrest.close()

    def failed(self) -> None:
        """It did not answer a read: do not try again before the next look."""
        self._report("unreachable")

    async def _watch(self) -> None:
        while True:
            try:
                # The primary first: its position must not be younger than the replica's.
                await self._primary.position()
                self._report(await self._look())
            except PostgrestUnavailable:
                self._report("unreachable")
            except Exception:
                log.exception("the replica cannot be looked at")
                self._report("unreachable")
            lag = float("inf") if self.problem else self._primary.lag_seconds(self.position)
            self._metrics.replica_lag(lag)
            await asyncio.sleep(self._seconds)

    async def _look(self) -> str | None:
        """Why it may not be read from, or None."""
        reply = await self._postgrest.ask("GET", _TARGET)
        reply.require_up()
        if reply.status == REFUSED_STATUS:
            return "not_a_replica"
        try:
            answer = json.loads(reply.body)
            if answer["position"] is None:
                return "not_a_replica"
            position, system = parse_position(answer["position"]), answer["system"]
        except (ValueError, TypeError, KeyError):
            return "unknown"
        if system != self._primary.system:
            return "another_server"
        if not await self._is_guarded():
            return "unguarded"
        self.position = position
        return None

    async def _is_guarded(self) -> bool:
        """Whether it refuses what it must. Looked at when it comes back, and from time to time."""
        if self._problem is None and time.monotonic() < self._guarded_until:
            return True
        reply = await self._postgrest.ask("GET", _TARGET, headers={AFTER_HEADER: _BEYOND_ALL})
        reply.require_up()
        self._guarded_until = time.monotonic() + self._guard_seconds
        return reply.status == REFUSED_STATUS

    def _report(self, problem: str | None) -> None:
        if problem != self._problem:
            level = logging.INFO if problem is None else logging.WARNING
            log.log(level, "the replica is %s", problem or "there")
        self._problem = problem
