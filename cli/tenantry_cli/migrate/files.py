"""Migration files on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.errors import TenantryError
from tenantry_cli.migrate.statements import split_statements

_FILE_NAME = re.compile(r"([0-9]+)_(.*)\.sql")
# What a file says about itself, in a comment line of its own.
_NO_TRANSACTION = re.compile(r"^-- tenantry: no transaction\s*$", re.MULTILINE)
_COMPATIBLE_FROM = re.compile(r"^-- tenantry: compatible from ([0-9]+)\s*$", re.MULTILINE)
CONCURRENTLY = re.compile(r"\bconcurrently\b", re.IGNORECASE)


class MigrationError(TenantryError):
    """A migration cannot be read or applied; the message says which, where and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file: `<version>_<name>.sql`.

    Args:
        in_transaction: false for `-- tenantry: no transaction`: indexes built concurrently, alone
            in their file, which may run again after it was interrupted.
        compatible_from: from `-- tenantry: compatible from <version>`: code that does not know this
            version may not work with the database afterwards.
    """

    version: str
    name: str
    statements: tuple[str, ...]
    in_transaction: bool = True
    compatible_from: str | None = None

    @property
    def is_tenant(self) -> bool:
        """Whether it runs once more in each schema of an organization."""
        return self.name.startswith("tenant_")

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
        migrations.append(_parsed(match[1], match[2], text))
    _refuse_twins(migrations)
    return migrations


def read_rollbacks(directory: Path, migrations: Sequence[Migration]) -> dict[str, Migration]:
    """What takes back each migration, by version; those without a file are missing."""
    found = {one.version: one for one in read_migrations(directory)}
    for migration in migrations:
        rollback = found.get(migration.version)
        if rollback is not None and rollback.name != migration.name:
            raise MigrationError(
                f"rollbacks/{rollback.label}.sql is not named like "
                f"migrations/{migration.label}.sql: run `python tools/generate_rollbacks.py`"
            )
    return found


def _parsed(version: str, name: str, text: str) -> Migration:
    statements = tuple(split_statements(text))
    in_transaction = _NO_TRANSACTION.search(text) is None
    if not in_transaction and not all(CONCURRENTLY.search(one) for one in statements):
        raise MigrationError(
            f"{version}_{name}.sql says `-- tenantry: no transaction`, so it may hold nothing but "
            "indexes built or dropped concurrently: move the rest into a file of its own"
        )
    compatible = _COMPATIBLE_FROM.search(text)
    if compatible and compatible[1] > version:
        raise MigrationError(
            f"{version}_{name}.sql is compatible from {compatible[1]}, which is later"
        )
    return Migration(
        version, name, statements, in_transaction, compatible[1] if compatible else None
    )


def _refuse_twins(migrations: Sequence[Migration]) -> None:
    seen: dict[str, Migration] = {}
    for migration in migrations:
        if twin := seen.get(migration.version):
            raise MigrationError(
                f"{twin.label}.sql and {migration.label}.sql share the version "
                f"{migration.version}: give one of them another time stamp"
            )
        seen[migration.version] = migration
