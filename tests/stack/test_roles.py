"""A new database is what hosted Supabase hands over: roles, grants, timeouts, extensions.

What hosted has is taken from the role tests of the supabase/postgres releases.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from tenantry_cli.stack.database import (
    DatabaseError,
    clone_database,
    create_database,
    prepare_cluster,
)
from tenantry_cli.testing import Database, throwaway_server


@pytest.fixture(scope="module")
def bare() -> Iterator[Database]:
    """On a server of its own: migrations change roles, which belong to the whole server."""
    with throwaway_server(os.environ.get("TENANTRY_TEST_POSTGRES_BIN")) as server:
        create_database(server, "bare", with_auth_fallback=True)
        yield Database(server, "bare")


@pytest.mark.parametrize(
    ("role", "attributes"),
    [
        # login, superuser, createdb, createrole, replication, bypassrls, inherit
        ("postgres", (True, False, True, True, True, True, True)),
        ("anon", (False, False, False, False, False, False, True)),
        ("authenticated", (False, False, False, False, False, False, True)),
        ("service_role", (False, False, False, False, False, True, True)),
        ("authenticator", (True, False, False, False, False, False, False)),
        ("supabase_admin", (True, True, True, True, True, True, True)),
    ],
)
def test_roles_have_the_hosted_attributes(
    bare: Database, role: str, attributes: tuple[bool, ...]
) -> None:
    with bare.connect() as connection:
        assert (
            attributes
            == connection.execute(
                """select rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication,
                      rolbypassrls, rolinherit
               from pg_roles where rolname = %s""",
                (role,),
            ).fetchone()
        )


def test_authenticator_is_a_member_of_exactly_the_three_api_roles(bare: Database) -> None:
    with bare.connect() as connection:
        rows = connection.execute(
            """select roleid::regrole::text from pg_auth_members
               where member = 'authenticator'::regrole order by 1"""
        )
        assert [role for (role,) in rows] == ["anon", "authenticated", "service_role"]


@pytest.mark.parametrize(
    ("role", "settings"),
    [
        ("anon", ["statement_timeout=3s"]),
        ("authenticated", ["statement_timeout=8s"]),
        ("authenticator", ["lock_timeout=8s", "statement_timeout=8s"]),
        ("postgres", ['search_path="$user", public, extensions']),
        ("service_role", None),
    ],
)
def test_roles_have_the_hosted_settings(
    bare: Database, role: str, settings: list[str] | None
) -> None:
    with bare.connect() as connection:
        row = connection.execute(
            "select rolconfig from pg_roles where rolname = %s", (role,)
        ).fetchone()
    assert row is not None
    assert (sorted(row[0]) if row[0] else None) == settings


def test_postgres_owns_the_database_and_may_do_what_migrations_need(bare: Database) -> None:
    with bare.connect() as connection:
        assert connection.execute(
            "select datdba::regrole::text from pg_database where datname = current_database()"
        ).fetchone() == ("postgres",)
        role = f"tenantry_test_{secrets.token_hex(4)}"
        connection.execute(f"create role {role} nologin")
        connection.execute(f"grant {role} to authenticator")
        connection.execute("create schema private")
        connection.execute("revoke temporary on database " + bare.name + " from public")
        connection.execute("create table referring (id uuid references auth.users (id))")
        connection.execute(
            "create function touch() returns trigger language plpgsql as 'begin return new; end'"
        )
        connection.execute(
            "create trigger touch after insert on auth.users for each row execute function touch()"
        )
        for extension in ("citext", "pg_trgm", "btree_gist", "unaccent", "ltree", "hstore"):
            connection.execute(f"create extension if not exists {extension} with schema extensions")
        for grantee in ("anon", "authenticated", "service_role"):
            connection.execute(f"grant select on referring to {grantee}")
            connection.execute(f"set role {grantee}")
            connection.execute("reset role")
        connection.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "alter role postgres superuser",
        "create role another superuser",
        "alter table auth.users add column mine int",
        "drop table auth.users",
        "create event trigger watch on ddl_command_end execute function extensions.nothing()",
        "copy (select 1) to program 'true'",
        "set role supabase_admin",
        "set lc_messages = 'C'",
    ],
)
def test_postgres_is_no_superuser(bare: Database, statement: str) -> None:
    with (
        bare.connect() as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction)),
    ):
        connection.execute(statement)


def test_postgres_may_copy_rows_as_they_are(bare: Database) -> None:
    """As hosted, where supautils allows it: `supabase db dump` writes this line too."""
    with bare.connect() as connection:
        connection.execute("set session_replication_role = replica")


def test_untrusted_extensions_of_the_hosted_allow_list_are_there(bare: Database) -> None:
    with bare.connect() as connection:
        rows = connection.execute(
            """select a.name, e.extname is not null, e.extnamespace::regnamespace::text
               from pg_available_extensions a left join pg_extension e on e.extname = a.name
               where a.name in ('pg_stat_statements', 'vector', 'moddatetime')"""
        ).fetchall()
        assert {row[0] for row in rows} >= {"pg_stat_statements", "moddatetime"}
        assert all(row[1:] == (True, "extensions") for row in rows)
        for name, *_ in rows:
            # What a migration says; it must not fail for want of superuser rights.
            connection.execute(f"create extension if not exists {name} with schema extensions")


def test_what_is_new_in_public_is_open_to_the_api_roles_as_on_hosted(bare: Database) -> None:
    with bare.connect() as connection:
        connection.execute("create table open_by_default (id int generated always as identity)")
        assert connection.execute(
            """select bool_and(has_table_privilege(role, 'open_by_default', 'select, insert'))
               from unnest('{anon,authenticated,service_role}'::text[]) as role"""
        ).fetchone() == (True,)
        connection.rollback()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("request.jwt.claims", '{"sub": "%s", "role": "authenticated", "email": "a@b.example"}'),
        ("request.jwt.claim.sub", "%s"),
    ],
)
def test_auth_uid_understands_both_forms_of_claims(
    bare: Database, setting: str, value: str
) -> None:
    user = "6f2c1b1e-5a2c-4f57-9d0a-1f6f0b0f7c11"
    with bare.connect() as connection:
        connection.execute("select set_config(%s, %s, true)", (setting, value % user))
        connection.execute("set local role authenticated")
        assert connection.execute("select auth.uid()::text").fetchone() == (user,)
        connection.rollback()
        connection.execute("set local role anon")
        assert connection.execute("select auth.uid(), auth.role(), auth.email()").fetchone() == (
            None,
            None,
            None,
        )


def test_a_change_of_the_catalog_tells_postgrest(bare: Database) -> None:
    with bare.connect(autocommit=True) as listener, bare.connect() as connection:
        listener.execute("listen pgrst")
        connection.execute("create table noticed ()")
        connection.commit()
        [notice] = list(listener.notifies(timeout=5, stop_after=1))
        assert notice.payload == "reload schema"
        connection.execute("drop table noticed")
        connection.commit()
        [notice] = list(listener.notifies(timeout=5, stop_after=1))
        assert notice.payload == "reload schema"


def test_a_copy_has_the_rights_of_its_template(bare: Database) -> None:
    create_database(bare.server, "template", with_auth_fallback=False)
    with bare.server.connect("template") as connection:
        connection.execute("revoke temporary on database template from public")
        connection.execute("grant create on database template to service_role")
    clone_database(bare.server, "template", "copy")
    with bare.connect() as connection:
        [template, copy] = connection.execute(
            """select datname, array(select (grantee, privilege_type)::text
                                     from aclexplode(datacl) order by 1)
               from pg_database where datname in ('template', 'copy') order by datname desc"""
        ).fetchall()
    assert template[1] == copy[1]
    assert "(0,CONNECT)" in copy[1]
    assert "(0,TEMPORARY)" not in copy[1]


def test_a_server_whose_superuser_is_called_postgres_is_refused(bare: Database) -> None:
    with bare.connect("supabase_admin", autocommit=True) as admin:
        admin.execute("alter role postgres superuser")
        try:
            with pytest.raises(DatabaseError, match="must be an ordinary role as on Supabase"):
                prepare_cluster(replace(bare.server, administrator="postgres"))
        finally:
            admin.execute("alter role postgres nosuperuser")


def test_a_supabase_is_used_as_it_is(bare: Database) -> None:
    """Where we are only `postgres`, roles and passwords are left alone."""
    as_supabase = replace(bare.server, administrator="postgres")
    prepare_cluster(as_supabase)
    create_database(as_supabase, "another", with_auth_fallback=True)
    with as_supabase.connect("another") as connection:
        assert connection.execute("select auth.uid()").fetchone() == (None,)
        connection.execute("create extension if not exists citext with schema extensions")
