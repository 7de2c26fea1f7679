"""Write the synchronous half of the SDK from its asynchronous half.

    python tools/generate_sync.py [--check]

Reads sdk/tenantry/_async/*.py, writes sdk/tenantry/_sync/*.py. With --check nothing is written and
the exit status is 1 when a file is not what it would be. The source stays ordinary async code; what
differs between the halves is the table below and nothing else.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "sdk" / "tenantry"

#: In this order; the last rule takes the prefix off our own names.
_RULES: tuple[tuple[str, str], ...] = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b_async\b", "_sync"),
    (r"\bimport asyncio\b", "import threading"),
    (r"\basyncio\.Lock\b", "threading.Lock"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\b__a(iter|next|enter|exit)__\b", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\bAsync(PostgrestClient|RequestBuilder|RPCFilterRequestBuilder)\b", r"Sync\1"),
    (r"\bAsync([A-Z]\w*)\b", r"\1"),
)


def synchronous(source: str, name: str) -> str:
    """The synchronous form of one file."""
    source = _without_awaitable(source)
    for pattern, replacement in _RULES:
        source = re.sub(pattern, replacement, source)
    if name == "__init__.py":
        return '"""The client without async. Made from `tenantry._async`: change that only."""\n'
    return f"# Made from _async/{name} by tools/generate_sync.py: do not edit.\n{source}"


def _without_awaitable(source: str) -> str:
    """`Awaitable[X]` is X."""
    while (start := source.find("Awaitable[")) >= 0:
        opening = position = start + len("Awaitable")
        depth = 0
        while True:
            depth += {"[": 1, "]": -1}.get(source[position], 0)
            if depth == 0:
                break
            position += 1
        source = source[:start] + source[opening + 1 : position] + source[position + 1 :]
    return source


def formatted(sources: dict[str, str]) -> dict[str, str]:
    """The files as ruff formats them, without what became superfluous."""
    project = PACKAGE.parents[1] / "pyproject.toml"
    # Modules that are not written yet would count as somebody else's.
    ours = ("--config", 'lint.isort.known-first-party=["tenantry"]')
    fixes = ("check", "--fix", "--unsafe-fixes", "--quiet", "--select=F401,I,UP028", *ours)
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources.items():
            (Path(folder) / name).write_text(source)
        for command in (fixes, ("format", "--quiet")):
            subprocess.run(  # noqa: S603  our own arguments
                [sys.executable, "-m", "ruff", *command, "--no-cache", f"--config={project}", "."],
                check=True,
                cwd=folder,
            )
        return {name: (Path(folder) / name).read_text() for name in sources}


def generate() -> dict[Path, str]:
    """The content of each generated file."""
    sources = {
        path.name: synchronous(path.read_text(), path.name)
        for path in sorted((PACKAGE / "_async").glob("*.py"))
    }
    return {PACKAGE / "_sync" / name: text for name, text in formatted(sources).items()}


def stale(files: dict[Path, str]) -> list[Path]:
    """Files that are not what they would be, and files that have no source any more."""
    changed = [
        path for path, text in files.items() if not path.exists() or path.read_text() != text
    ]
    return changed + [path for path in (PACKAGE / "_sync").glob("*.py") if path not in files]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    options = parser.parse_args()
    files = generate()
    changed = stale(files)
    for path in changed:
        print(f"_sync/{path.name} {'differs' if options.check else 'written'}")
        if options.check:
            continue
        if path in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path])
        else:
            path.unlink()
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
