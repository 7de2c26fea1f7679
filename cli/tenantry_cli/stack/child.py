"""One child process of the supervisor: started, watched, restarted, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tenantry_cli.errors import TenantryError
from tenantry_cli.stack.home import PartState
from tenantry_cli.stack.parts import Part
from tenantry_cli.stack.process import explain_exit, last_lines

_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_FIRST_START_ATTEMPTS = 3
_SHORTEST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
#: After a life this long, the next crash starts again with the shortest pause.
_HEALTHY_SECONDS = 60.0

logger = logging.getLogger("tenantry.supervisor")


class StartError(TenantryError):
    """The stack cannot start; the message says why and what to do."""


class Child:
    """One part as a running process."""

    def __init__(self, part: Part, state: PartState, log: Path, report: Callable[[], None]) -> None:
        self.part = part
        self.state = state
        self.log = log
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def notice_end(self) -> None:
        """Called on SIGCHLD: collect the process if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            self._ended.set()

    async def start(self) -> None:
        """Start the process and return when it is ready. Raises StartError if it ends instead."""
        await asyncio.to_thread(self.part.prepare)
        self._ended.clear()
        process = self._process = self.part.spawn()
        self.state.status, self.state.pid, self.state.port = "starting", process.pid, self.part.port
        with contextlib.suppress(psutil.Error):
            self.state.created = psutil.Process(process.pid).create_time()
        self._report()
        try:
            await self._wait_until_ready(process)
            await asyncio.to_thread(self.part.settle)
        except Exception:
            await self._end_process()
            raise
        self.state.status = "ready"
        logger.info(
            "%s is ready on port %d as process %d", self.part.name, self.part.port, process.pid
        )
        self._report()

    async def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not await self.part.is_ready():
            if process.poll() is not None:
                raise StartError(f"{self.part.name} {explain_exit(process.returncode)}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.part.name} was not ready after {_READY_SECONDS:.0f} s")
            await asyncio.sleep(0.03)

    async def start_first(self) -> None:
        """Start for the first time, trying again a few times, then watch. Raises StartError."""
        for attempt in range(1, _FIRST_START_ATTEMPTS + 1):
            try:
                await self.start()
                break
            except StartError as error:
                logger.error("%s, attempt %d", error, attempt)
                if attempt == _FIRST_START_ATTEMPTS:
                    raise StartError(f"{error}\n{last_lines(self.log)}") from error
                await asyncio.sleep(_SHORTEST_PAUSE)
        self._keeper = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            ready_at = time.monotonic()
            await self._ended.wait()
            assert self._process is not None
            reason = explain_exit(self._process.returncode)
            if time.monotonic() - ready_at > _HEALTHY_SECONDS:
                pause = _SHORTEST_PAUSE
            pause = await self._restart(reason, pause)

    async def _restart(self, reason: str, pause: float) -> float:
        """Start again until it is ready; returns the pause before the next restart, in seconds."""
        while True:
            self.state.status, self.state.pid = "restarting", None
            self.state.restarts += 1
            self.state.reason = reason
            logger.warning("%s %s; starting it again in %.1f s", self.part.name, reason, pause)
            self._report()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await self.start()
                return pause
            except Exception as error:  # whatever it is, a supervisor goes on trying
                reason = f"did not start: {error}"

    async def stop(self) -> None:
        """Stop watching, then stop the process; kill it if it does not obey."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._end_process()
        self.state.status, self.state.pid = "stopped", None
        self._report()

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        for stop_signal in (self.part.stop_signal, signal.SIGKILL):
            if process.poll() is not None:
                return
            process.send_signal(stop_signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._ended.wait()
            if stop_signal == signal.SIGKILL:
                logger.warning("%s had to be killed", self.part.name)
