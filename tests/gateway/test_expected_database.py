"""The shipped list and the real database: it is up to date, and every weakening is named.

Changes are planted in a transaction that is undone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tenantry_cli.project import find_project
from tenantry_cli.testing import Database
from tenantry_gateway.boot_facts import SHIPPED, Comparison, Fact, compare, read_expected, written

TOOL = find_project().root / "tools" / "generate_expected_database.py"


def facts_of(connection: Any) -> list[Fact]:
    connection.execute("set local role service_role")
    rows = connection.execute("select section, name, fingerprint, risk from public.boot_facts()")
    facts = [Fact(*row) for row in rows.fetchall()]
    connection.execute("reset role")
    return facts


@pytest.fixture
def connection(module_database: Database) -> Iterator[Any]:
    """The owner's; what the test does is undone."""
    with module_database.connect() as one:
        yield one
        one.rollback()


@pytest.fixture
def superuser(module_database: Database) -> Iterator[Any]:
    """For what only the operator of the server can do; undone as well."""
    with module_database.connect("supabase_admin") as one:
        yield one
        one.rollback()


def look(connection: Any) -> Comparison:
    return compare(read_expected(), facts_of(connection))


def test_the_shipped_list_is_up_to_date(connection: Any) -> None:
    found = look(connection)
    listed = "\n  ".join([*found.differences, *(f"{one} is new" for one in found.unknown)][:40])
    assert not listed, (
        f"the migrations make another database than {SHIPPED.name} says; if the change is "
        f"intended, run: make expected\n  {listed}"
    )
    assert SHIPPED.read_text(encoding="utf-8") == written(facts_of(connection))


def test_months_and_the_name_of_the_database_do_not_matter(
    connection: Any, new_database: Any
) -> None:
    before = facts_of(connection)
    connection.execute("select ensure_audit_partitions(30)")
    assert set(facts_of(connection)) == set(before)
    with new_database().connect() as other:
        assert set(facts_of(other)) == set(before)


#: What is done, and the differences it must be reported as.
PLANTED = {
    "drop a policy": (
        "drop policy customers_select on public.customers",
        ["policies: public.customers customers_select is missing"],
    ),
    "open a policy": (
        "alter policy customers_select on public.customers using (true)",
        ["policies: public.customers customers_select differs"],
    ),
    "another role in a policy": (
        "alter policy customers_select on public.customers to anon",
        ["policies: public.customers customers_select differs"],
    ),
    "one more policy": (
        "create policy more on public.customers for select using (true)",
        [
            "policies: public.customers more is extra (one more policy on a shipped table)",
        ],
    ),
    "no row security": (
        "alter table public.customers disable row level security",
        ["policies: public.customers differs"],
    ),
    "not forced": (
        "alter table public.customers no force row level security",
        ["policies: public.customers differs"],
    ),
    "a partition without row security": (
        "alter table public.audit_logs_default disable row level security",
        ["policies: public.audit_logs partition differs"],
    ),
    "grant to visitors": (
        "grant select on public.customers to anon",
        ["grants: public.customers to anon is extra (open to visitors or to everybody)"],
    ),
    "grant of a column": (
        "grant update (business_id) on public.customers to authenticated",
        ["grants: public.customers to authenticated differs"],
    ),
    "grant of a partition": (
        "grant select on public.audit_logs_default to integrator",
        [
            "grants: public.audit_logs partition to integrator is extra"
            " (one more grant on a shipped object)"
        ],
    ),
    "grant that may be passed on": (
        "grant delete on public.customers to service_role with grant option",
        ["grants: public.customers to service_role differs"],
    ),
    "revoke": (
        "revoke all on public.subscription_plans from service_role",
        ["grants: public.subscription_plans to service_role is missing"],
    ),
    "execute for everybody": (
        "grant execute on function private.new_id() to public",
        ["grants: private.new_id() to PUBLIC is extra (open to visitors or to everybody)"],
    ),
    "usage of a schema": (
        "grant usage on schema private to anon",
        ["grants: schema private to anon is extra (open to visitors or to everybody)"],
    ),
    "default grants": (
        "alter default privileges in schema public grant select on tables to authenticated",
        [
            "grants: default r in public to authenticated is extra"
            " (open to visitors or to everybody)"
        ],
    ),
    "functions for everybody by default": (
        "alter default privileges grant execute on functions to public",
        ["grants: default functions differs"],
    ),
    "a trigger switched off": (
        "alter table public.customers disable trigger _010_guard",
        ["triggers: public.customers _010_guard differs"],
    ),
    "a trigger dropped": (
        "drop trigger _010_guard on public.customers",
        ["triggers: public.customers _010_guard is missing"],
    ),
    "a trigger for replicas only": (
        "alter table public.customers enable replica trigger _010_guard",
        ["triggers: public.customers _010_guard differs"],
    ),
    "a rule": (
        "create rule quiet as on delete to public.customers do instead nothing",
        ["triggers: public.customers rule quiet is extra (a rule on a shipped table)"],
    ),
    "another body": (
        "create or replace function private.is_trusted_caller() returns boolean"
        " language sql stable parallel safe begin atomic select true; end",
        ["functions: private.is_trusted_caller() differs"],
    ),
    "another id": (
        "create or replace function private.new_id() returns uuid language sql volatile"
        " parallel safe begin atomic select pg_catalog.gen_random_uuid(); end",
        ["functions: private.new_id() differs"],
    ),
    "a definer": (
        "alter function private.new_id() security definer",
        [
            "functions: private.new_id() differs",
        ],
    ),
    "a setting of a function": (
        "alter function private.current_user_id() set search_path = public",
        ["functions: private.current_user_id() differs"],
    ),
    "a view that runs as its owner": (
        "alter view public.daily_metrics set (security_invoker = off)",
        ["views: public.daily_metrics differs"],
    ),
    "a reference dropped": (
        "alter table public.calls drop constraint calls_customer_fkey",
        ["constraints: public.calls calls_customer_fkey is missing"],
    ),
    "a migration missing": (
        "delete from supabase_migrations.schema_migrations where version = '20261121000500'",
        ["migrations: 20261121000500 is missing"],
    ),
    "no timeout": (
        "alter role authenticated reset lock_timeout",
        ["roles: authenticated set lock_timeout is missing"],
    ),
    "a table of one's own, open": (
        "create table public.notes (id int)",
        ["policies: public.notes is extra (row security is not enabled and forced)"],
    ),
    "a function of one's own, open": (
        "create function public.mine() returns int language sql security definer as 'select 1'",
        ["functions: public.mine() is extra (SECURITY DEFINER without a pinned search_path)"],
    ),
    "a function of one's own, for visitors": (
        "create function public.mine() returns int language sql as 'select 1';"
        " grant execute on function public.mine() to anon",
        ["grants: public.mine() to anon is extra (open to visitors or to everybody)"],
    ),
    "a view of one's own, as its owner": (
        "create view public.mine as select id from public.customers",
        ["views: public.mine is extra (does not run as its caller)"],
    ),
    "a materialized view": (
        "create materialized view public.mine as select 1 as id",
        ["views: public.mine is extra (does not run as its caller)"],
    ),
}

#: Only a superuser of the server can do these.
BY_OPERATOR = {
    "another owner": (
        "alter table public.customers owner to anon",
        ["policies: public.customers differs"],
    ),
    "one more membership": (
        "grant pg_read_all_data to authenticator",
        ["roles: authenticator in pg_read_all_data is extra (changes what an API role is)"],
    ),
    "a setting of PostgREST": (
        "alter role authenticator set pgrst.db_plan_enabled = 'true'",
        [
            "settings: authenticator set pgrst.db_plan_enabled is extra"
            " (changes what a request means)"
        ],
    ),
    "claims that everybody has": (
        "alter role authenticated set request.jwt.claims = '{}'",
        [
            "roles: authenticated set request.jwt.claims is extra (changes what an API role is)",
        ],
    ),
    "a member of the service": (
        "grant service_role to authenticated",
        ["roles: authenticated in service_role is extra (changes what an API role is)"],
    ),
    "a role past row security": (
        "alter role authenticated bypassrls",
        ["roles: authenticated differs"],
    ),
    "keys switched off": (
        "alter table public.calls disable trigger all",
        ["triggers: public.calls keys is extra (the triggers of its keys are switched off)"],
    ),
}

OWN = {
    "a table with forced row security": (
        "create table public.notes (id int primary key);"
        " alter table public.notes enable row level security, force row level security;"
        " create policy mine on public.notes for select to authenticated using (true);"
        " grant select on public.notes to authenticated",
        {
            "policies: public.notes",
            "policies: public.notes mine",
            "grants: public.notes to authenticated",
            "constraints: public.notes notes_pkey",
        },
    ),
    "a function for members": (
        "create function public.mine() returns int language sql security definer"
        " set search_path = '' as 'select 1';"
        " grant execute on function public.mine() to authenticated",
        {"functions: public.mine()", "grants: public.mine() to authenticated"},
    ),
    "a view that runs as its caller": (
        "create view public.mine with (security_invoker = on) as select id from public.customers",
        {"views: public.mine"},
    ),
    "a private table": ("create table private.notes (id int)", {"policies: private.notes"}),
    "a migration": (
        "insert into supabase_migrations.schema_migrations (version) values ('20990101000000')",
        {"migrations: 20990101000000"},
    ),
    "a narrowing policy": (
        "create policy narrower on public.customers as restrictive for select using (true)",
        {"policies: public.customers narrower"},
    ),
    "a trigger": (
        "create function private.mine() returns trigger language plpgsql as"
        " 'begin return new; end';"
        " create trigger mine before insert on public.customers"
        " for each row execute function private.mine()",
        {"functions: private.mine()", "triggers: public.customers mine"},
    ),
    "a memory setting": (
        "alter role authenticated set work_mem = '8MB'",
        {"roles: authenticated set work_mem"},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted(connection: Any, name: str) -> None:
    statements, differences = PLANTED[name]
    connection.execute(statements.encode())
    assert list(look(connection).differences) == differences


@pytest.mark.parametrize("name", BY_OPERATOR)
def test_planted_by_the_operator(superuser: Any, name: str) -> None:
    statements, differences = BY_OPERATOR[name]
    superuser.execute(statements.encode())
    found = look(superuser).differences
    assert set(differences) <= set(found)
    # An owner's grants are not listed, and switching off the keys switches off all triggers.
    assert len(found) == 1 or name in ("another owner", "keys switched off")


@pytest.mark.parametrize("name", OWN)
def test_what_a_team_builds_on_top_is_only_named(connection: Any, name: str) -> None:
    statements, unknown = OWN[name]
    connection.execute(statements.encode())
    found = look(connection)
    assert found.differences == ()
    assert set(found.unknown) == unknown


@pytest.mark.parametrize("role", ["anon", "authenticated", "integrator"])
@pytest.mark.parametrize("function", ["boot_facts", "boot_rows"])
def test_only_the_service_asks(superuser: Any, role: str, function: str) -> None:
    superuser.execute(f"set local role {role}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        superuser.execute(f"select * from public.{function}()".encode())


def test_the_tool_says_what_it_would_change(module_database: Database, tmp_path: Path) -> None:
    file = tmp_path / "expected.json"
    command = [sys.executable, str(TOOL), "--database-url", module_database.url()]
    command += ["--file", str(file)]

    def run(*more: str) -> tuple[int, str]:
        result = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert result.stderr == ""
        return result.returncode, result.stdout

    assert run("--check") == (1, "expected.json differs\n")
    assert not file.exists()
    assert run() == (0, "expected.json written\n")
    assert run("--check") == (0, "")
    assert file.read_text() == SHIPPED.read_text()
