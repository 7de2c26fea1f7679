"""Installs what package-lock.json pins, with the system's Node.js or, without one, a Python wheel.

`make` runs it as `python -m tenantry_cli.node_parts`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tenantry_cli.project import Project, ProjectError, find_project
from tenantry_cli.stack.programs import ProgramMissing, find_node


def install(project: Project) -> None:
    """Run `npm ci`, after fetching Node.js where the machine has none. Raises ProgramMissing."""
    try:
        node = find_node()
    except ProgramMissing:
        _run(
            "fetching Node.js",
            [sys.executable, "-m", "pip", "install", "--quiet"],
            project,
            "--require-hashes",
            "-r",
            "requirements-node.lock",
        )
        node = find_node()
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
    options = ["--no-audit", "--no-fund", "--loglevel=error"]
    _run("installing Node packages", [*npm_command(node), "ci", *options], project, PATH=path)


def npm_command(node: Path) -> list[str]:
    """The npm that belongs to `node`. Raises ProgramMissing."""
    home = node.resolve().parent.parent
    for script in (
        home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
        home / "share" / "nodejs" / "npm" / "bin" / "npm-cli.js",  # Debian
    ):
        if script.exists():
            return [str(node), str(script)]
    if npm := shutil.which("npm"):
        return [npm]
    raise ProgramMissing(f"{node} has no npm: install npm, or remove that Node.js from PATH")


def _run(what: str, command: list[str], project: Project, *more: str, **environment: str) -> None:
    print(what, file=sys.stderr)
    result = subprocess.run(  # noqa: S603
        [*command, *more],
        cwd=project.root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).splitlines()
        raise ProgramMissing("\n".join([f"{what} failed:", *lines[:20]]))


if __name__ == "__main__":
    try:
        install(find_project())
    except (ProgramMissing, ProjectError) as problem:
        sys.exit(f"error: {problem}")
