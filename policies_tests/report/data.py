"""The figures of a run, as the tests left them, and the facts around it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tenantry_cli.project import find_project
from tenantry_cli.stack.programs import ProgramMissing, find_postgrest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: Written by the harness; every other JSON file is a section of its own.
OURS = ("matrix", "mutation", "gates", "races", "run", "versions")
#: Figures that other tests of the proof leave.
EXPECTED = ("two_worlds", "http_repeat")


@dataclass(frozen=True)
class Figures:
    """name -> content of name.json; a file that is no JSON object counts as missing."""

    files: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def failed(self) -> list[str]:
        """Tests that failed, or are expected to."""
        return list(self.files.get("run", {}).get("failed", []))

    def outcome(self, path: str) -> str:
        """How the tests of a file (or of a directory) ended: passed, failed or not run."""
        found = [
            outcomes
            for name, outcomes in self.files.get("run", {}).get("outcomes", {}).items()
            if name == path or name.startswith(path.rstrip("/") + "/")
        ]
        if any(set(outcomes) - {"passed", "skipped"} for outcomes in found):
            return "failed"
        return "passed" if any(outcomes.get("passed") for outcomes in found) else "not run"


def load(directory: Path) -> Figures:
    files = {}
    for path in sorted(directory.glob("*.json")):
        try:
            content = json.loads(path.read_text())
        except ValueError:
            continue
        if isinstance(content, dict):
            files[path.stem] = content
    return Figures(files, _versions(files))


def _versions(files: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        "Postgres": files.get("versions", {}).get("postgres") or "unknown",
        "PostgREST": _output(_postgrest(), "--version"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
    }


def _postgrest() -> str:
    try:
        return str(find_postgrest(find_project()))
    except ProgramMissing:
        return "postgrest"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def standards() -> dict[str, Any]:
    """standards.yaml: name of the standard -> its table."""
    loaded: dict[str, Any] = yaml.safe_load((HERE / "standards.yaml").read_text())
    return loaded


def what_remains(document: Path = ROOT / "docs" / "security.md") -> list[str]:
    """The items of the section `What remains`, one line each."""
    _, heading, rest = document.read_text().partition("\n## What remains\n")
    assert heading, f"{document} has no section What remains"
    section = rest.partition("\n## ")[0]
    items = [" ".join(one.split()) for one in section.split("\n- ")[1:]]
    assert items, "the section What remains lists nothing"
    return items
