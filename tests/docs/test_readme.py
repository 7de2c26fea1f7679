"""The README does what it says: its examples run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry_cli.project import find_project
from tenantry_cli.stack.programs import find_node

ROOT = find_project().root
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


@pytest.mark.stack
def test_the_minute_runs_as_it_is_written(local_stack, tmp_path: Path):
    def run(command: list[str], source: str, suffix: str) -> str:
        # Beside node_modules, where Node looks for packages.
        script = ROOT / f".readme-{os.getpid()}{suffix}"
        script.write_text(source)
        try:
            result = subprocess.run(
                [*command, str(script)],
                env={**os.environ, **local_stack.variables()},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
                cwd=tmp_path,
            )
        finally:
            script.unlink()
        assert result.returncode == 0, result.stderr
        return result.stdout

    text, sdk = blocks("python")
    assert run([sys.executable], text, ".py") == "200\n"
    assert run([sys.executable], sdk, ".py") == "Hello! Is ten o'clock free?\n"
    [front_end] = blocks("js")
    node = [str(find_node()), "--experimental-websocket", "--no-warnings"]
    assert run(node, front_end, ".mjs").splitlines() == [
        "viewer@bluebird.example 1",
        "owner@copperline.example 0",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`make ([a-z]+)`", (ROOT / "README.md").read_text()))
    assert named <= targets
    assert {"up", "test"} <= named
