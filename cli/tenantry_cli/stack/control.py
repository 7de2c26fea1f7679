"""Starting, watching and stopping a stack from outside: what the commands do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from tenantry_cli.errors import TenantryError
from tenantry_cli.project import Project
from tenantry_cli.stack.database import Server
from tenantry_cli.stack.home import Home, StackState, find_process, sweep
from tenantry_cli.stack.keys import StackKeys, load_or_create_keys
from tenantry_cli.stack.ports import PortError, configured_port, is_port_free, port_taken
from tenantry_cli.stack.process import last_lines

_START_SECONDS = 300.0  # a first start on a slow disk, with all migrations and the seed
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05


class StackError(TenantryError):
    """A command cannot do what it was asked; the message says why and what to do."""


@dataclass(frozen=True)
class RunningStack:
    """A stack that serves, seen from outside."""

    state: StackState
    keys: StackKeys

    @property
    def server(self) -> Server:
        port = self.state.parts["postgres"].port
        assert port is not None
        return Server("127.0.0.1", port, self.keys.passwords)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.state.api_port}"

    def variables(self) -> dict[str, str]:
        """What `tenantry status -o env` prints, under the names that `supabase status` uses."""
        return {
            "API_URL": self.origin,
            "DB_URL": self.server.url(),
            "ANON_KEY": self.keys.anon_key,
            "SERVICE_ROLE_KEY": self.keys.service_role_key,
            "PUBLISHABLE_KEY": self.keys.publishable_key,
            "SECRET_KEY": self.keys.secret_key,
            "JWT_SECRET": self.keys.jwt_secret,
            "CONSOLE_URL": f"{self.origin}/",
        }


def running_stack(home: Home) -> RunningStack | None:
    """The stack of this state directory if it is ready, else None."""
    state = StackState.read(home.state)
    if state is None or state.phase != "ready" or not home.is_claimed():
        return None
    return RunningStack(state, load_or_create_keys(home.secrets))


def stack_server(home: Home) -> Server:
    """The database server of a stack that is up or coming up. For the stack's own parts."""
    state = StackState.read(home.state)
    if state is None or "postgres" not in state.parts or state.parts["postgres"].port is None:
        raise StackError("the stack is not running: start it with `tenantry up`")
    return RunningStack(state, load_or_create_keys(home.secrets)).server


def require_running_stack(home: Home) -> RunningStack:
    """The running stack. Raises StackError if there is none."""
    if stack := running_stack(home):
        return stack
    raise StackError("the stack is not running: start it with `tenantry up`")


def start(
    project: Project,
    home: Home,
    show: Callable[[StackState], None],
    settings: Mapping[str, str] = os.environ,
) -> RunningStack:
    """Start a supervisor in the background and return when the stack is ready.

    `settings` are environment variables (TENANTRY_PORT); others come from ours. Calls `show`
    whenever the supervisor reports something new. Returns at once if the stack runs already.
    Raises StackError or PortError.
    """
    if stack := running_stack(home):
        return stack
    home.create()
    log = home.log("supervisor")
    supervisor: subprocess.Popen[bytes] | None = None
    if not home.is_claimed():
        supervisor = _launch(project, home, settings)
        # It outlives this command; a process that stays, such as a test run, must still reap it.
        threading.Thread(target=supervisor.wait, daemon=True).start()
    try:
        return _wait_until_ready(home, supervisor, show)
    except KeyboardInterrupt:
        stop(home)
        raise StackError(f"interrupted; everything is stopped. The log is {log}") from None


def _launch(project: Project, home: Home, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    port = configured_port(settings)
    # What an earlier supervisor left behind may hold the port; it is the next one's to clear.
    left_behind = StackState.read(home.state)
    held_by_us = (
        left_behind is not None
        and left_behind.api_port == port
        and any(find_process(part.pid, part.created) for part in left_behind.parts.values())
    )
    if not held_by_us and not is_port_free(port):
        raise PortError(port_taken(port))
    with home.log("supervisor").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tenantry_cli.stack.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=project.root,
            env={**os.environ, **settings, "TENANTRY_HOME": str(home.directory)},
            start_new_session=True,
        )


def _wait_until_ready(
    home: Home, supervisor: subprocess.Popen[bytes] | None, show: Callable[[StackState], None]
) -> RunningStack:
    deadline = time.monotonic() + _START_SECONDS
    shown = None
    while time.monotonic() < deadline:
        state = StackState.read(home.state)
        if state is not None and (supervisor is None or state.pid == supervisor.pid):
            if state != shown:
                show(state)
                shown = state
            if state.phase == "ready":
                return RunningStack(state, load_or_create_keys(home.secrets))
            if state.phase in ("failed", "stopped"):
                raise StackError(state.message or "the stack was stopped while it started")
        if supervisor is not None and supervisor.poll() is not None:
            if not home.is_claimed():
                raise StackError(f"the supervisor ended:\n{last_lines(home.log('supervisor'))}")
            supervisor = None  # another `up` was faster: wait for its supervisor
        time.sleep(_POLL_SECONDS)
    raise StackError(
        f"not ready after {_START_SECONDS:.0f} s: see `tenantry logs`, stop with `tenantry down`"
    )


def stop(home: Home) -> bool:
    """Stop the stack and whatever a killed supervisor left; False if nothing was running."""
    state = StackState.read(home.state)
    if not home.is_claimed():
        return bool(sweep(state))
    if state is not None and (supervisor := find_process(state.pid, state.created)):
        with contextlib.suppress(psutil.Error):
            supervisor.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while home.is_claimed():
        if time.monotonic() > deadline:
            raise StackError(f"the supervisor does not stop: see {home.log('supervisor')}")
        time.sleep(_POLL_SECONDS)
    sweep(StackState.read(home.state))
    return True


def wipe(home: Home) -> None:
    """Delete the data of a stopped stack: database and files. Keys and logs stay."""
    home.initialised.unlink(missing_ok=True)
    for directory in (home.postgres, home.lite):
        shutil.rmtree(directory, ignore_errors=True)
    if home.postgres.exists():
        raise StackError(f"{home.postgres} could not be deleted: remove it as its owner")
