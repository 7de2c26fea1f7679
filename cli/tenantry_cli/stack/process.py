"""Child processes: bound to their parent's life, checked over HTTP, explained when they end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

_PROBE_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """What a child runs before exec so that Linux stops it when the thread that started it ends.

    Elsewhere the next start sweeps up what a killed supervisor left.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arrange


def spawn(
    command: list[str], environment: Mapping[str, str], directory: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start `command` with its output appended to `log`. Call it from the main thread."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone
            preexec_fn=die_with_parent(signal.SIGTERM),
        )


def explain_exit(code: int) -> str:
    """A return code of subprocess in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, for an error message."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    return ""


async def read_json(port: int, path: str) -> object:
    """What GET 127.0.0.1:`port``path` answers within two seconds, whatever its status, as JSON.

    None where nothing answers or it is no JSON.
    """
    writer = None
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.0\r\nConnection: close\r\n\r\n".encode())
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return json.loads(body)
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.close()


async def answers(port: int, path: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether GET 127.0.0.1:`port``path` answers 200 within two seconds."""
    writer = None
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            status_line = await reader.readline()
            return status_line.split(b" ")[1:2] == [b"200"]
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
