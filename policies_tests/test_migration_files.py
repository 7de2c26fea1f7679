"""What the files must look like, so that one text serves every place: two planes, no transactions.

The catalog gates see what a file made; these see what it would make elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tenantry_cli.migrate import Migration, read_migrations
from tenantry_cli.migrate.statements import split_statements
from tenantry_cli.project import find_project

from .specification import load_specification

MIGRATIONS = read_migrations(find_project().migrations)
TENANT_TABLES = [
    one.name
    for one in load_specification().tables.values()
    if one.plane == "tenant" and one.schema == "public"
]
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_FIRST = "select set_config('search_path', current_schema() || ', extensions, pg_temp', true)"


def _code(statement: str) -> str:
    return _COMMENTS.sub("", statement).strip().lower()


def _is_tenant(migration: Migration) -> bool:
    return migration.name.startswith("tenant_")


def has_no_transaction_control(migration: Migration) -> str | None:
    """Each file is atomic with its ledger row; one that commits is not."""
    for statement in migration.statements:
        if re.match(r"(begin|commit|rollback|start|end|savepoint|release)\b", _code(statement)):
            return statement
    return None


def builds_nothing_concurrently(migration: Migration) -> str | None:
    """CONCURRENTLY cannot run inside a transaction and stays half done when it fails.

    A file that says that it runs outside of one holds nothing else: `read_migrations` sees to it.
    """
    if not migration.in_transaction:
        return None
    return next((s for s in migration.statements if "concurrently" in _code(s)), None)


def replaces_no_view(migration: Migration) -> str | None:
    """CREATE OR REPLACE VIEW forgets security_invoker."""
    pattern = r"create\s+or\s+replace\s+view"
    return next((s for s in migration.statements if re.search(pattern, _code(s))), None)


def tells_its_plane(migration: Migration) -> str | None:
    return None if re.match(r"(platform|tenant)_[a-z_]+$", migration.name) else migration.name


def pins_the_schema_first(migration: Migration) -> str | None:
    """Supabase's CLI would otherwise have functions capture `"$user", public`."""
    first = _code(migration.statements[0])
    return None if not _is_tenant(migration) or first == _FIRST else migration.statements[0]


def qualifies_no_tenant_table(migration: Migration) -> str | None:
    """A tenant file that says public.customers works in one place only."""
    pattern = rf"\bpublic\.({'|'.join(TENANT_TABLES)})\b"
    for statement in migration.statements if _is_tenant(migration) else ():
        if re.search(pattern, _code(statement)):
            return statement
    return None


def makes_nothing_shared(migration: Migration) -> str | None:
    """Types, extensions, roles and schemas exist once per database or cluster."""
    pattern = r"create\s+(type|domain|extension|role|schema|sequence|text\s+search)\b"
    for statement in migration.statements if _is_tenant(migration) else ():
        if re.match(pattern, _code(statement)):
            return statement
    return None


def captures_its_schema(migration: Migration) -> str | None:
    """A function of the tenant plane runs in the schema it was made in, or its body is bound."""
    for statement in migration.statements if _is_tenant(migration) else ():
        code = _code(statement)
        if re.match(r"create\s+(or\s+replace\s+)?(function|procedure)\b", code):
            header = re.split(r"\bas\s+\$", code, maxsplit=1)[0]
            if "set search_path from current" not in header and "begin atomic" not in code:
                return statement
    return None


Rule = Callable[[Migration], str | None]
RULES: dict[Rule, tuple[str, ...]] = {
    has_no_transaction_control: ("commit;", "select 1; begin; select 2;"),
    builds_nothing_concurrently: ("create index concurrently a on customers (business_id);",),
    replaces_no_view: ("create or replace view a as select 1;",),
    pins_the_schema_first: ("create table a (id uuid);", "set search_path = public;"),
    qualifies_no_tenant_table: ("select 1 from public.customers;",),
    makes_nothing_shared: ("create type mood as enum ('a');", "create extension hstore;"),
    captures_its_schema: (
        "create function a() returns int language sql as $$ select 1 $$;",
        "create function a() returns int language sql set search_path = public as $$ select 1 $$;",
    ),
}


@pytest.mark.parametrize("rule", [*RULES, tells_its_plane], ids=lambda rule: rule.__name__)
def test_files_obey(rule: Rule) -> None:
    found = {one.label: rule(one) for one in MIGRATIONS}
    assert not {label: text for label, text in found.items() if text is not None}


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, texts in RULES.items() for text in texts]
)
def test_rules_notice(rule: Rule, text: str) -> None:
    planted = Migration("20990101000000", "tenant_planted", tuple(split_statements(text)))
    assert rule(planted) is not None


def test_a_file_without_a_plane_is_noticed() -> None:
    assert tells_its_plane(Migration("20990101000000", "add_notes", ())) is not None


def test_both_planes_have_files() -> None:
    assert sum(map(_is_tenant, MIGRATIONS)) > 5
    assert sum(not _is_tenant(one) for one in MIGRATIONS) > 5
