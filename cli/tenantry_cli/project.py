"""Where the project and its state live."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.errors import TenantryError


class ProjectError(TenantryError):
    """There is no Tenantry project here; the message says what was looked for."""


@dataclass(frozen=True)
class Project:
    """The checkout (source) and the state directory of its local stack."""

    root: Path
    home: Path

    @property
    def migrations(self) -> Path:
        return self.root / "supabase" / "migrations"

    @property
    def rollbacks(self) -> Path:
        return self.root / "supabase" / "rollbacks"

    @property
    def seed(self) -> Path:
        return self.root / "supabase" / "seed.sql"

    @property
    def node_modules(self) -> Path:
        return self.root / "node_modules"

    @property
    def functions(self) -> Path:
        return self.root / "functions"

    @property
    def console(self) -> Path:
        return self.root / "console"


def find_project(start: Path | None = None) -> Project:
    """The project around `start` (default: the working directory), else the one we live in.

    TENANTRY_HOME moves its state directory. Raises ProjectError.
    """
    here = (start or Path.cwd()).resolve()
    installed = Path(__file__).resolve().parents[2]
    for candidate in (here, *here.parents, installed):
        if (candidate / "supabase" / "migrations").is_dir():
            home = os.environ.get("TENANTRY_HOME")
            return Project(candidate, Path(home).absolute() if home else candidate / ".tenantry")
    raise ProjectError(f"no supabase/migrations directory in {here} or above it")
