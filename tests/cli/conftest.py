"""Databases without migrations, and small migration directories."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tenantry_cli.stack.database import Server, create_database, drop_database
from tenantry_cli.testing import Database

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def empty_database(database_server: Server) -> Iterator[Database]:
    """A database as Supabase hands it over, before the first migration."""
    name = f"tenantry_test_{secrets.token_hex(6)}"
    create_database(database_server, name, with_auth_fallback=True)
    yield Database(database_server, name)
    drop_database(database_server, name)


@pytest.fixture
def write_migrations(tmp_path: Path) -> Write:
    """Writes files into a project's supabase/migrations and returns that directory."""
    directory = tmp_path / "supabase" / "migrations"
    directory.mkdir(parents=True)

    def write(texts: dict[str, str]) -> Path:
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
        return directory

    return write
