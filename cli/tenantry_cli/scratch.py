"""Directories for servers that are thrown away: in memory where there is room, and then gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_MEMORY = Path("/dev/shm")  # noqa: S108 - what Linux offers for this; the directories are private
_PREFIX = "tenantry-test-"
#: A test run's servers rarely hold more than two gigabytes.
_ROOM_BYTES = 8 * 2**30


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A private directory that is gone after the block.

    In memory, because a cloned database is two thousand files: ext4 is slow to make them where as
    many were deleted a moment ago (it passes over inodes freed within the last minutes). TMPDIR
    chooses another place. Whatever a killed run left there is removed first.
    """
    parent = _parent()
    _sweep(parent)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    # Locked before it has its name, so that nobody else ever finds it free.
    unnamed = directory / "lock.new"
    lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(directory / "lock")
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _parent() -> Path:
    if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK):
        room = min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available)
        if room > _ROOM_BYTES:
            return _MEMORY
    return Path(tempfile.gettempdir())


def _sweep(parent: Path) -> None:
    """Remove directories whose lock nobody holds: their process was killed."""
    for directory in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # being made, somebody else's, or not ours at all
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(lock)
