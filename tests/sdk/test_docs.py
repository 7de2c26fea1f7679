"""The examples of docs/reference/sdk.md run, in order, and print what they say they print."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tenantry import Tenantry, errors

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "sdk.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$")


@pytest.mark.stack
def test_the_examples_run_and_print_what_they_say(local_stack, monkeypatch) -> None:
    for name, value in local_stack.variables().items():
        monkeypatch.setenv(name, value)
    shown: list[str] = []
    scope: dict[str, object] = {"print": lambda *words: shown.append(" ".join(map(str, words)))}
    for number, block in enumerate(BLOCKS):
        shown.clear()
        exec(compile(block, f"sdk.md, example {number + 1}", "exec"), scope)  # noqa: S102
        expected = [m[1] for line in block.splitlines() if (m := PRINTED.match(line))]
        assert block.count("print(") == len(expected), "every print says what it shows"
        assert shown == expected, block
    assert len(BLOCKS) >= 12


@pytest.mark.parametrize(
    "resource", ["auth", "organizations", "businesses", "members", "customers", "channels",
                 "calls", "conversations", "messages", "metrics", "roles", "departments", "shares",
                 "access", "api_keys", "sessions", "domains"],
)  # fmt: skip
def test_every_call_is_in_the_table(resource: str) -> None:
    client = Tenantry("http://api.test", "key")
    kind = type(getattr(client, resource))
    (row,) = re.findall(rf"^\| `{resource}` \| (.*) \|$", PAGE, re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", row))
    calls = {n for n, _ in inspect.getmembers(kind) if not n.startswith("_")}
    assert documented == calls


def test_every_error_is_in_the_table() -> None:
    bases = {"TenantryError", "APIError"}
    for name in set(errors.__all__) - bases:
        assert f"`{name}`" in PAGE, name
