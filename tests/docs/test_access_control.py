"""docs/how-to/access-control.md: its examples run in order and show what they say they show."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from tenantry_cli.project import find_project

PAGE = find_project().root / "docs" / "how-to" / "access-control.md"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$")


class Reader:
    """Somebody who types the examples in, one after the other."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.scope: dict[str, Any] = {"print": self.show}

    def show(self, *words: object) -> None:
        self.shown.append(" ".join(map(str, words)))

    def python(self, source: str) -> None:
        self.shown.clear()
        exec(compile(source, PAGE.name, "exec"), self.scope)  # noqa: S102
        expected = [m[1] for line in source.splitlines() if (m := PRINTED.match(line))]
        assert self.shown == expected, source

    def bash(self, source: str, output: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", source],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == output.strip(), source


@pytest.mark.stack
def test_the_examples_run_and_show_what_they_say(local_stack, monkeypatch) -> None:
    for name, value in local_stack.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WEBSITE_KEY", "")  # which the page sets, is forgotten again
    reader = Reader()
    blocks = BLOCK.findall(PAGE.read_text())
    for language, source, output in blocks:
        if language == "python":
            reader.python(source)
        else:
            reader.bash(source, output)
    assert len(blocks) >= 18
