"""Supabase's own advisors find nothing that advisors_exceptions.yaml does not argue."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry_cli.project import find_project
from tenantry_cli.testing import Database

EXCEPTIONS = yaml.safe_load(
    Path(__file__).with_name("advisors_exceptions.yaml").read_text(encoding="utf-8")
)

#: A configuration for the advisors alone: they look only at the schemas listed here.
_CONFIG = """
project_id = "advisors"
[api]
schemas = {schemas}
"""
#: What the API serves, and with what it serves nothing of.
_SERVED = ("public",)
_ALL = ("public", "private")

#: Violations that the advisors must find, or their silence means nothing.
_PLANTED = """
create table public.forgotten (id uuid primary key, business_id uuid);
grant select on public.forgotten to anon;
create view public.peek as select * from public.customers;
grant select on public.peek to authenticated;
create function public.loose() returns integer language plpgsql as $$ begin return 1; end $$;
create table private.hidden (id uuid primary key, customer uuid);
alter table private.hidden enable row level security;
drop index public.calls_customer_idx;
"""
_FOUND = {
    "rls_disabled_in_public_public_forgotten",
    "security_definer_view_public_peek",
    "function_search_path_mutable_public_loose_*",
    "rls_enabled_no_policy_private_hidden",
    "unindexed_foreign_keys_public_calls_calls_customer_fkey",
}


def _advise(
    database: Database, directory: Path, schemas: Sequence[str] = _ALL
) -> list[dict[str, Any]]:
    """All findings, information included."""
    program = find_project().node_modules / ".bin" / "supabase"
    assert program.exists(), "Supabase's CLI is not installed: run `npm ci`"
    (directory / "supabase").mkdir(exist_ok=True)
    (directory / "supabase" / "config.toml").write_text(
        _CONFIG.format(schemas=json.dumps(list(schemas))), encoding="utf-8"
    )
    finished = subprocess.run(
        [
            program, "db", "advisors", f"--remote={database.url()}", "--level", "info",
            "--output-format", "json", "--workdir", directory,
        ],
        env={**os.environ, "HOME": str(directory), "SUPABASE_TELEMETRY_DISABLED": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return list(json.loads(finished.stdout)["results"])


@pytest.fixture(scope="module")
def advised_database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture(scope="module")
def findings(
    advised_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    return _advise(advised_database, tmp_path_factory.mktemp("advisors"))


def _matches(key: str, patterns: list[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def test_every_finding_is_argued(findings: list[dict[str, Any]]) -> None:
    patterns = [pattern for one in EXCEPTIONS for pattern in one["keys"]]
    unexplained = [
        f"{one['level']} {one['cacheKey']}: {one['detail']}"
        for one in findings
        if not _matches(one["cacheKey"], patterns)
    ]
    assert not unexplained, "\n".join(unexplained)


def test_nothing_that_is_served_is_an_error(advised_database: Database, tmp_path: Path) -> None:
    """What Studio shows of the project."""
    found = _advise(advised_database, tmp_path, _SERVED)
    assert len(found) > 10
    assert {one["level"] for one in found} <= {"INFO", "WARN"}


def test_the_one_error_elsewhere_is_what_policies_read(findings: list[dict[str, Any]]) -> None:
    errors = [one["cacheKey"] for one in findings if one["level"] not in ("INFO", "WARN")]
    assert errors == ["security_definer_view_private_my_rights"]


def test_every_exception_is_needed(findings: list[dict[str, Any]]) -> None:
    keys = [one["cacheKey"] for one in findings]
    for exception in EXCEPTIONS:
        assert len(exception["reason"]) > 40
        for pattern in exception["keys"]:
            assert any(fnmatch(key, pattern) for key in keys), f"{pattern} is found no more"


def test_functions_without_a_path_have_bound_bodies(
    findings: list[dict[str, Any]], advised_database: Database
) -> None:
    """The exception for them is a fact that is looked up, not a promise."""
    patterns = [key for one in EXCEPTIONS if one.get("bound_body") for key in one["keys"]]
    named = {one["detail"].split("`")[1] for one in findings if _matches(one["cacheKey"], patterns)}
    assert named
    with advised_database.connect() as connection:
        rows = connection.execute(
            """
            select n.nspname || '.' || p.proname from pg_proc p
            join pg_namespace n on n.oid = p.pronamespace
            where p.prosqlbody is not null and not p.prosecdef
            """
        ).fetchall()
    assert named <= {name for (name,) in rows}


def test_planted_violations_are_found(new_database: Callable[[], Database], tmp_path: Path) -> None:
    database = new_database()
    with database.connect() as connection:
        connection.execute(_PLANTED)
    keys = {one["cacheKey"] for one in _advise(database, tmp_path)}
    for pattern in _FOUND:
        assert any(fnmatch(key, pattern) for key in keys), f"{pattern} was planted, not found"
