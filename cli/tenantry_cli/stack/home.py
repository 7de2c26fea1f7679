"""The state directory of a stack (`.tenantry/`): its paths, its lock and what its parts report."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from tenantry_cli.errors import TenantryError
from tenantry_cli.stack.keys import write_private

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]


@dataclass
class PartState:
    """What the supervisor knows about one of its children."""

    status: Literal["waiting", "starting", "ready", "restarting", "stopped"] = "waiting"
    pid: int | None = None
    #: psutil's creation time: with the pid it names one process for ever.
    created: float | None = None
    port: int | None = None
    restarts: int = 0
    #: Why it stopped the last time, if it was not asked to.
    reason: str | None = None


@dataclass
class StackState:
    """The file `state.json`, written by the supervisor alone."""

    pid: int
    created: float
    phase: Phase = "starting"
    #: What the start is doing right now, or why it failed.
    message: str = ""
    api_port: int = 0
    started_at: float = 0.0
    #: Seconds from the supervisor's first line to everything ready.
    start_seconds: float | None = None
    parts: dict[str, PartState] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> StackState | None:
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        parts = {name: PartState(**part) for name, part in content.pop("parts").items()}
        return cls(parts=parts, **content)

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=2))


class Busy(TenantryError):
    """A supervisor already holds this state directory."""


@dataclass(frozen=True)
class Home:
    """Paths below the state directory. Everything in it is private to its owner."""

    directory: Path

    @property
    def secrets(self) -> Path:
        return self.directory / "secrets.json"

    @property
    def state(self) -> Path:
        return self.directory / "state.json"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"

    @property
    def lite(self) -> Path:
        return self.directory / "lite"

    @property
    def initialised(self) -> Path:
        """Exists once the first start has applied all migrations and the seed."""
        return self.directory / "initialised"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def create(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the directory for one supervisor; the kernel lets go when the process ends.

        Raises Busy.
        """
        self.create()
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"{self.directory} is in use by a running stack") from error
            yield
        finally:
            os.close(descriptor)

    def is_claimed(self) -> bool:
        """Whether a supervisor runs (or is just stopping)."""
        if not self.directory.exists():
            return False
        try:
            with self.claim():
                return False
        except Busy:
            return True


def find_process(pid: int | None, created: float | None) -> psutil.Process | None:
    """The live process that had this pid at that creation time, or None if it has ended."""
    if pid is None or created is None:
        return None
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        # Two clock ticks of tolerance: the value went through JSON and a boot-time estimate.
        if abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def sweep(state: StackState | None) -> list[str]:
    """End what a killed supervisor left behind; returns the names of the parts that still ran."""
    if state is None:
        return []
    left = {
        name: process
        for name, part in state.parts.items()
        if (process := find_process(part.pid, part.created))
    }
    for name, process in left.items():
        with suppress(psutil.Error):
            # Postgres reads SIGTERM as "wait for every client to leave".
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(list(left.values()), timeout=15)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return sorted(left)
