"""Migration files on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.errors import TenantryError
from tenantry_cli.migrate.statements import split_statements

_FILE_NAME = re.compile(r"([0-9]+)_(.*)\.sql")


class MigrationError(TenantryError):
    """A migration cannot be read or applied; the message says which, where and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file: `<version>_<name>.sql`."""

    version: str
    name: str
    statements: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.version}_{self.name}"


def read_migrations(directory: Path) -> list[Migration]:
    """The migrations of `directory`, oldest first. Raises MigrationError for two of one version.

    Files with other names are ignored, as Supabase's CLI ignores them.
    """
    migrations: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise MigrationError(f"{path} is not UTF-8 text: {error}") from error
        migrations.append(Migration(match[1], match[2], tuple(split_statements(text))))
    _refuse_twins(migrations)
    return migrations


def _refuse_twins(migrations: Sequence[Migration]) -> None:
    seen: dict[str, Migration] = {}
    for migration in migrations:
        if twin := seen.get(migration.version):
            raise MigrationError(
                f"{twin.label}.sql and {migration.label}.sql share the version "
                f"{migration.version}: give one of them another time stamp"
            )
        seen[migration.version] = migration
