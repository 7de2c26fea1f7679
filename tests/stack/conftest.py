"""Stacks that a test may hurt: each has its own state directory and ports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from tenantry_cli.scratch import scratch_directory
from tenantry_cli.stack import control
from tenantry_cli.stack.control import RunningStack, StackError
from tenantry_cli.stack.home import Home, StackState
from tenantry_cli.stack.ports import free_port


@dataclass(frozen=True)
class Bench:
    """A state directory and the `tenantry` command on it."""

    home: Home
    settings: Mapping[str, str]
    python: str = sys.executable
    options: Mapping[str, int] = field(default_factory=dict)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-m", "tenantry_cli", *arguments],
            env={**os.environ, **self.settings, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
            **self.options,  # type: ignore[call-overload]
        )

    def up(self) -> RunningStack:
        result = self.run("up")
        assert result.returncode == 0, result.stderr
        return self.stack()

    def stack(self) -> RunningStack:
        return control.require_running_stack(self.home)

    def state(self) -> StackState:
        state = StackState.read(self.home.state)
        assert state is not None
        return state

    def processes(self) -> list[psutil.Process]:
        """Everything alive that belongs to this stack, found by its environment or directory."""
        mark = str(self.home.directory)
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                belongs = process.environ().get("TENANTRY_HOME") == mark
                if belongs or any(mark in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_until(self, condition: Callable[[], bool], seconds: float = 45) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (
                f"not within {seconds} s; the supervisor's log:\n"
                + self.home.log("supervisor").read_text()[-3000:]
            )
            time.sleep(0.1)

    def clean_up(self) -> None:
        """Leave nothing behind, whatever the test did."""
        try:
            control.stop(self.home)
        except StackError:
            pass
        finally:
            for process in self.processes():
                process.kill()


@contextmanager
def new_bench() -> Iterator[Bench]:
    # Not tmp_path, whose long name would move the database's socket elsewhere.
    with scratch_directory() as directory:
        home = Home(directory / "home")
        settings = {
            "TENANTRY_HOME": str(home.directory),
            "TENANTRY_PORT": str(free_port()),
            "TENANTRY_STOP_WITH": str(os.getpid()),
        }
        one = Bench(home, settings)
        try:
            yield one
        finally:
            one.clean_up()


@pytest.fixture
def empty_bench() -> Iterator[Bench]:
    """A stack that has never been started."""
    with new_bench() as one:
        yield one


@pytest.fixture(scope="session")
def prepared_home() -> Iterator[Home]:
    """The state directory of a stack after its first start, stopped: to be copied."""
    with new_bench() as one:
        one.up()
        assert one.run("down").returncode == 0
        yield one.home


def copy_home(source: Home, target: Home) -> None:
    target.create()
    for name in ("postgres", "lite", "secrets.json", "initialised"):
        subprocess.run(["cp", "-a", source.directory / name, target.directory], check=True)


@pytest.fixture
def bench(prepared_home: Home) -> Iterator[Bench]:
    """A stack of its own for one test, migrated and seeded, not running."""
    with new_bench() as one:
        copy_home(prepared_home, one.home)
        yield one


@pytest.fixture(scope="module")
def running(prepared_home: Home) -> Iterator[Bench]:
    """A running stack that the tests of a module share and do not hurt."""
    with new_bench() as one:
        copy_home(prepared_home, one.home)
        one.up()
        yield one
