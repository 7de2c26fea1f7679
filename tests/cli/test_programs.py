"""Finding Node.js, PostgREST and Postgres, and saying how to get what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantry_cli.project import Project
from tenantry_cli.stack.installation import PostgresError, find_programs
from tenantry_cli.stack.programs import ProgramMissing, find_lite, find_node, find_postgrest

Script = Callable[[str, str], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(name: str, says: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TENANTRY_NODE", "POSTGREST_BIN", "TENANTRY_POSTGRES_BIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_a_new_enough_node_on_the_path_is_taken(script: Script) -> None:
    node = script("node", "v20.0.0")
    assert find_node() == node


@pytest.mark.parametrize(
    ("says", "shown"), [("v18.20.4", "is 18.20.4"), ("nonsense", "is broken"), ("", "is broken")]
)
def test_an_old_or_broken_node_is_named(script: Script, says: str, shown: str) -> None:
    script("node", says)
    with pytest.raises(ProgramMissing, match=f"Node.js 20 or newer is needed.*{shown}.*make up"):
        find_node()


def test_the_named_node_comes_first(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script("node", "v22.0.0")
    chosen = script("another-node", "v24.1.2")
    monkeypatch.setenv("TENANTRY_NODE", str(chosen))
    assert find_node() == chosen


def test_without_any_node_it_says_so() -> None:
    with pytest.raises(ProgramMissing, match="none found"):
        find_node()


def test_postgrest_is_the_named_one_the_one_on_the_path_or_the_packaged_one(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = Project(tmp_path, tmp_path / ".tenantry")
    with pytest.raises(ProgramMissing, match=r"npm ci.*POSTGREST_BIN"):
        find_postgrest(project)
    on_path = script("postgrest", "PostgREST 14.0")
    assert find_postgrest(project) == on_path
    monkeypatch.setenv("POSTGREST_BIN", "/opt/postgrest")
    assert find_postgrest(project) == Path("/opt/postgrest")


def test_missing_auth_and_postgres_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="npm ci"):
        find_lite(Project(tmp_path, tmp_path / ".tenantry"))
    with pytest.raises(PostgresError, match=r"make up.*TENANTRY_POSTGRES_BIN"):
        find_programs()
    with pytest.raises(PostgresError, match="no `postgres` program in"):
        find_programs(tmp_path)


def test_a_postgres_that_does_not_run_is_refused(script: Script) -> None:
    broken = script("postgres", "Segmentation fault")
    with pytest.raises(PostgresError, match="does not run: it answered 'Segmentation fault"):
        find_programs(broken.parent)
