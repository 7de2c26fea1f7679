"""Write the SDK's models from the catalog of a migrated database.

    python tools/generate_sdk_models.py --database-url postgresql://... [--check]

Writes sdk/tenantry/_generated/{models,arguments}.py. The same catalog gives the same bytes. With
--check nothing is written and the exit status is 1 when a file is not what it would be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import psycopg
from sdk_models.catalog import read_catalog
from sdk_models.render import render_arguments, render_models

GENERATED = Path(__file__).resolve().parents[1] / "sdk" / "tenantry" / "_generated"


def generate(database_url: str) -> dict[Path, str]:
    """The content of each generated file."""
    with psycopg.connect(database_url) as connection:
        catalog = read_catalog(connection)
    return {
        GENERATED / "models.py": formatted(render_models(catalog)),
        GENERATED / "arguments.py": formatted(render_arguments(catalog)),
    }


def formatted(source: str) -> str:
    """The source as ruff formats it, unused imports removed."""
    name = ("--stdin-filename", str(GENERATED / "models.py"), "-")
    # Modules that are not written yet would count as somebody else's.
    ours = ("--config", 'lint.isort.known-first-party=["tenantry"]')
    fixes = ("check", "--fix", "--quiet", "--select=F401,I", *ours)
    for command in (fixes, ("format", "--quiet")):
        source = subprocess.run(  # noqa: S603  our own arguments
            [sys.executable, "-m", "ruff", *command, *name],
            input=source,
            capture_output=True,
            text=True,
            check=True,
            cwd=GENERATED.parents[2],
        ).stdout
    return source


def stale(files: dict[Path, str]) -> list[Path]:
    """The files that are not what they would be."""
    return [path for path, text in files.items() if not path.exists() or path.read_text() != text]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", default=os.environ.get("DB_URL"), help="default: $DB_URL")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    options = parser.parse_args()
    if not options.database_url:
        parser.error("give --database-url of a database with all migrations applied")
    files = generate(options.database_url)
    changed = stale(files)
    for path in changed:
        print(f"{path.name} {'differs' if options.check else 'written'}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
