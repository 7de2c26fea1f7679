"""The Makefile where nothing is installed yet, and where something is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tenantry_cli.project import find_project

ROOT = find_project().root

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_alone_it_lists_every_target(checkout: Path) -> None:
    result = make(checkout)
    assert result.returncode == 0
    listed = set(re.findall(r"^  make (\w+)  +\S", result.stdout, re.M))
    assert listed >= {"up", "down", "reset", "status", "test", "check", "bench"}
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert phony is not None
    assert listed == set(phony[1].split())
    assert sorted(path.name for path in checkout.iterdir()) == [
        *("Makefile", "package-lock.json", "pyproject.toml", "requirements.lock")
    ]


def test_without_a_python_that_is_new_enough_it_says_so(checkout: Path) -> None:
    result = make(checkout, "up", "PYTHON=")
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed" in result.stdout


def test_without_ensurepip_it_says_what_to_install(checkout: Path) -> None:
    python = checkout / "python-without-ensurepip"
    python.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec python3 "$@"\n')
    python.chmod(0o755)
    result = make(checkout, "up", f"PYTHON={python}")
    assert result.returncode != 0
    assert "apt install python3-venv" in result.stdout
    assert not (checkout / ".venv").exists()


def test_a_failing_pip_shows_its_end_and_is_tried_again(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("./without-a-hash\n")
    shutil.copytree(ROOT / "sdk", checkout / "without-a-hash")
    for _ in range(2):
        result = make(checkout, "up")
        assert result.returncode != 0
        assert "its whole output is in .venv/pip.log" in result.stdout
        assert "hash" in result.stdout.lower(), "packages without a hash are refused"
        assert not (checkout / ".venv" / ".run-installed").exists()
