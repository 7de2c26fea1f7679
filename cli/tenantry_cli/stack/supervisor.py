"""The process that owns the stack: starts its parts, restarts what crashes, stops them all.

Run as `python -m tenantry_cli.stack.supervisor`; `tenantry up` does that in the background. With
TENANTRY_STOP_WITH=<process id> the stack stops when that process ends (test runs use it).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import psutil

from tenantry_cli.errors import TenantryError
from tenantry_cli.project import Project, find_project
from tenantry_cli.stack.bootstrap import initialise, prepare_server
from tenantry_cli.stack.child import Child
from tenantry_cli.stack.home import Busy, Home, PartState, StackState, sweep
from tenantry_cli.stack.keys import load_or_create_keys
from tenantry_cli.stack.parts import (
    Part,
    Ports,
    Stack,
    fleet_part,
    functions_part,
    gateway_part,
    lite_part,
    postgres_part,
    postgrest_part,
)
from tenantry_cli.stack.ports import (
    PortError,
    configured_port,
    free_ports,
    is_port_free,
    port_taken,
)
from tenantry_cli.stack.postgres import SUPERUSER, Cluster

_OWNER_SECONDS = 0.5
_LOG_LIMIT = 10 * 1024 * 1024

logger = logging.getLogger("tenantry.supervisor")


class Supervisor:
    """Runs a whole stack until it is told to stop."""

    def __init__(self, project: Project, home: Home, api_port: int) -> None:
        self.project = project
        self.home = home
        self.api_port = api_port
        self.children: list[Child] = []
        self._stop = asyncio.Event()
        me = psutil.Process()
        self.state = StackState(me.pid, me.create_time(), api_port=api_port, started_at=time.time())
        if previous := StackState.read(home.state):
            # Kept until each part starts again: who still runs, and on which ports they were.
            self.state.parts = {
                name: replace(part, status="waiting") for name, part in previous.parts.items()
            }

    def say(self, message: str) -> None:
        """Tell whoever waits for the start what is going on."""
        logger.info(message)
        self.state.message = message
        self.report()

    def report(self) -> None:
        self.state.write(self.home.state)

    async def run(self) -> int:
        """Start, serve until a signal comes, stop. Returns the exit status."""
        self.report()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGCHLD, self._notice_ends)
        owner = asyncio.create_task(self._stop_with_owner())
        start = asyncio.create_task(self._start_all())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        failure = await self._failure(start)
        if failure is None:
            await stop
        else:
            logger.error("the stack did not start: %s", failure)
            stop.cancel()
        owner.cancel()
        await self._stop_all()
        self.state.phase = "failed" if failure else "stopped"
        self.state.message = failure or ""
        self.report()
        return 1 if failure else 0

    async def _stop_with_owner(self) -> None:
        pid = os.environ.get("TENANTRY_STOP_WITH", "")
        if not pid.isdecimal():
            return
        with contextlib.suppress(psutil.Error):
            owner = psutil.Process(int(pid))
            while True:  # it is not our child, so nothing tells us
                if not owner.is_running() or owner.status() == psutil.STATUS_ZOMBIE:
                    break
                await asyncio.sleep(_OWNER_SECONDS)
        logger.warning("process %s has ended, so the stack stops", pid)
        self._stop.set()

    async def _failure(self, start: asyncio.Task[None]) -> str | None:
        """Why the start failed; None if it succeeded or was interrupted."""
        if not start.done():
            start.cancel()
        try:
            await start
        except asyncio.CancelledError:
            return None
        except TenantryError as error:
            return str(error)
        except Exception as error:  # a fault of ours: stop everything all the same
            logger.exception("unexpected")
            return f"unexpected {type(error).__name__}: {error}"
        return None

    def _notice_ends(self) -> None:
        for child in self.children:
            child.notice_end()

    async def _start_all(self) -> None:
        began = time.monotonic()
        if left := await asyncio.to_thread(sweep, self.state):
            logger.warning("stopped what an earlier supervisor left behind: %s", ", ".join(left))
        if not is_port_free(self.api_port):
            raise PortError(port_taken(self.api_port))
        stack = self._describe_stack()
        cluster = Cluster(self.home.postgres, stack.keys.passwords[SUPERUSER])
        if not cluster.exists:
            self.say("creating the database")
        await self._start(postgres_part(stack, cluster))
        await asyncio.to_thread(prepare_server, stack.server)
        if not self.home.initialised.exists():
            # Auth makes its tables before the migrations, which refer to them; the API and the
            # functions log in with roles that the migrations make.
            self.say("starting Auth and Storage for the first time")
            await self._start(lite_part(stack))
            await asyncio.to_thread(initialise, self.project, self.home, stack.server, self.say)
            inner = [postgrest_part(stack), functions_part(stack), fleet_part(stack)]
        else:
            inner = [
                lite_part(stack),
                postgrest_part(stack),
                functions_part(stack),
                fleet_part(stack),
            ]
        self.say("starting Auth, Storage, API and functions")
        await self._start_together(inner)
        # Last, so that nobody is served before everything behind it is ready.
        await self._start(gateway_part(stack))
        self.state.phase = "ready"
        self.state.start_seconds = round(time.monotonic() - began, 2)
        self.say(f"ready after {self.state.start_seconds} s")

    async def _start(self, part: Part) -> None:
        state = self.state.parts[part.name] = PartState()
        child = Child(part, state, self.home.log(part.name), self.report)
        self.children.append(child)
        await child.start_first()

    async def _start_together(self, parts: Sequence[Part]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(self._start(part))
        except ExceptionGroup as failures:  # the first failure has cancelled the others
            raise failures.exceptions[0] from None

    def _describe_stack(self) -> Stack:
        # The same ports as before where they are free, so that DB_URL stays the same.
        names = ("postgres", "postgrest", "lite", "functions", "fleet")
        before = [self.state.parts.get(name, PartState()).port for name in names]
        postgres, postgrest, lite, functions, fleet, admin = free_ports(*before, None)
        ports = Ports(
            api=self.api_port,
            postgres=postgres,
            postgrest=postgrest,
            postgrest_admin=admin,
            lite=lite,
            functions=functions,
            fleet=fleet,
        )
        return Stack(self.project, self.home, load_or_create_keys(self.home.secrets), ports)

    async def _stop_all(self) -> None:
        self.state.phase = "stopping"
        self.report()
        # The edge first, then what it uses, the database last.
        await asyncio.gather(*(c.stop() for c in self.children if c.part.name != "postgres"))
        for child in self.children:
            if child.part.name == "postgres":
                await child.stop()


def main() -> int:
    """Run the stack of the project around the working directory. Returns the exit status."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    project = find_project()
    home = Home(project.home)
    try:
        with home.claim():
            rotate_logs(home)
            return asyncio.run(_run(project, home))
    except (Busy, PortError) as error:
        logger.error(error)
        return 1


async def _run(project: Project, home: Home) -> int:
    return await Supervisor(project, home, configured_port()).run()


def rotate_logs(home: Home) -> None:
    """Put a log over 10 MB aside, keeping one older generation."""
    for log in home.logs.glob("*.log"):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))


if __name__ == "__main__":
    sys.exit(main())
