"""Directories of throwaway servers: private, gone afterwards, and those of killed runs swept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry_cli import scratch
from tenantry_cli.scratch import scratch_directory

KILLED = """
import os, signal
from tenantry_cli.scratch import scratch_directory
with scratch_directory() as directory:
    print(directory, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_private_and_gone_afterwards(parent: Path) -> None:
    with scratch_directory() as directory:
        assert directory.parent == parent, "TMPDIR chooses the place"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "postgres").mkdir()
    assert not directory.exists()


def test_what_a_killed_run_left_is_swept_and_what_lives_is_not(parent: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False
    )
    left = Path(killed.stdout.strip())
    assert killed.returncode == -9
    assert (left / "lock").exists()
    being_made = parent / "tenantry-test-young"
    being_made.mkdir()
    (being_made / "lock.new").touch()
    foreign = parent / "something-else"
    foreign.mkdir()
    with scratch_directory() as one, scratch_directory() as other:
        assert not left.exists()
        assert one.exists()
        assert other.exists()
    assert being_made.exists()
    assert foreign.exists()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system in memory")  # noqa: S108
def test_it_is_in_memory_only_where_there_is_room(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(scratch, "_ROOM_BYTES", 0)
    with scratch_directory() as directory:
        assert directory.parent == Path("/dev/shm")  # noqa: S108
    monkeypatch.setattr(scratch, "_ROOM_BYTES", 2**60)
    with scratch_directory() as directory:
        assert directory.parent == parent
