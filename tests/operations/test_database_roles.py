"""Logins of app_rw, app_ro, app_admin and app_backup: what they can do, and what they cannot."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tenantry_cli.stack.database import Server
from tenantry_cli.stack.installation import find_programs
from tenantry_cli.testing import Database

from .conftest import DENTAL, PRINT, connect, scalar

Login = Callable[[str], psycopg.Connection]

_VIEWER = "a0000000-0000-4000-8000-000000000004"
_NUMBERS = ("tenant_statistics", "system_statistics", "database_sizes", "connection_usage",
            "tenant_growth")  # fmt: skip


@pytest.fixture
def login(story: Database, database_server: Server) -> Iterator[Login]:
    """A connection of a new login in the role asked for."""
    made: list[str] = []
    connections: list[psycopg.Connection] = []
    with database_server.administer(autocommit=True) as superuser:

        def log_in(role: str) -> psycopg.Connection:
            name, password = f"login_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
            superuser.execute(f"create role {name} login password '{password}' in role {role}")
            made.append(name)
            connections.append(
                psycopg.connect(
                    story.url(), user=name, password=password, autocommit=True,
                )
            )  # fmt: skip
            return connections[-1]

        yield log_in
        for connection in connections:
            connection.close()
        for name in made:
            superuser.execute(f"drop role {name}")


def _act_for(connection: psycopg.Connection, user_id: str) -> None:
    claims = json.dumps({"sub": user_id, "role": "authenticated"})
    connection.execute("select set_config('request.jwt.claims', %s, false)", (claims,))


def test_a_backend_sees_nothing_until_it_says_for_whom(login: Login) -> None:
    backend = login("app_rw")
    assert scalar(backend, "select count(*) from public.customers") == 0
    _act_for(backend, _VIEWER)
    seen = backend.execute("select distinct business_id from public.customers").fetchall()
    assert seen == [(DENTAL,)]


def test_a_backend_may_what_the_member_may(login: Login) -> None:
    backend = login("app_rw")
    change = b"update public.customers set notes = 'x' where true"
    insert = b"insert into public.customers (business_id, first_name) values (%s, 'Ada')"
    _act_for(backend, _VIEWER)
    assert backend.execute(change).rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        backend.execute(insert, (DENTAL,))
    _act_for(backend, "a0000000-0000-4000-8000-000000000001")
    assert backend.execute(change).rowcount > 0
    backend.execute(insert, (DENTAL,))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        backend.execute(insert, (PRINT,))


@pytest.mark.parametrize("role", ["app_rw", "app_ro"])
def test_they_do_not_become_more(login: Login, role: str) -> None:
    connection = login(role)
    for other in ("service_role", "postgres", "app_admin", "app_backup", "integrator"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"set role {other}".encode())
    for table in ("private.user_access", "private.provider_secrets", "private.query_samples",
                  "auth.users"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"select 1 from {table}".encode())
    for schema in ("public", "private"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"create table {schema}.mine (id int)".encode())


def test_analytics_reads_numbers_and_no_rows(login: Login) -> None:
    analytics = login("app_ro")
    for function in _NUMBERS:
        assert analytics.execute(f"select * from private.{function}()".encode()).description
    assert scalar(analytics, "select sum(customers) from private.tenant_statistics()") > 0
    _act_for(analytics, _VIEWER)
    for table in ("customers", "calls", "organizations", "business_memberships"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analytics.execute(f"select 1 from public.{table}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        analytics.execute("select * from private.tenant_users('bluebird')")


def test_a_backend_reads_no_numbers_about_all(login: Login) -> None:
    backend = login("app_rw")
    for function in _NUMBERS:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            backend.execute(f"select * from private.{function}()".encode())


def _dump(story: Database, backup: psycopg.Connection) -> None:
    """pg_dump as the login that is in app_backup, as the page on operations says."""
    program = find_programs(os.environ.get("TENANTRY_TEST_POSTGRES_BIN")).path("pg_dump")
    result = subprocess.run(
        [program, "--role=app_backup", "--table=public.customers", "--data-only", story.name],
        env={
            **os.environ, "PGHOST": story.server.host, "PGPORT": str(story.server.port),
            "PGUSER": backup.info.user, "PGPASSWORD": backup.info.password,
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = result.stdout.partition("FROM stdin;\n")[2].partition("\n\\.")[0].splitlines()
    assert len(rows) == scalar(backup, "select count(*) from public.customers") > 0


def test_what_is_missing_is_said_and_can_be_given(
    login: Login, story: Database, database_server: Server
) -> None:
    """What the migrations could not grant, an administrator grants with the statements told."""
    with connect(story) as connection, database_server.administer(autocommit=True) as superuser:
        missing = connection.execute("select * from private.missing_role_grants()").fetchall()
        major = connection.info.server_version // 10000
        told = {row["remedy"] for row in missing}
        if major >= 16:
            wanted = {
                "revoke app_admin from postgres; grant postgres to app_admin",
                "grant pg_read_all_data to app_backup",
            }
        else:
            wanted = {"alter role app_backup bypassrls"}
        assert told <= wanted, "an earlier test may have granted some"
        for statement in wanted:
            superuser.execute(statement.encode())
        assert connection.execute("select * from private.missing_role_grants()").fetchall() == []
        roles = connection.execute("select * from private.database_roles()").fetchall()
        assert [row["role"] for row in roles] == ["app_rw", "app_ro", "app_admin", "app_backup"]
        assert all(row["is_present"] and row["missing"] == [] for row in roles)
        assert [row["role"] for row in roles if row["reads_past_row_security"]] == ["app_backup"]
        everything = scalar(connection, "select count(*) from public.customers")

    backup = login("app_backup")
    assert scalar(backup, "select count(*) from public.customers") == 0, "only as app_backup"
    backup.execute("set role app_backup")
    assert scalar(backup, "select count(*) from public.customers") == everything
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        backup.execute("delete from public.customers")

    _dump(story, backup)

    admin = login("app_admin")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        admin.execute("set role supabase_admin")
    admin.execute("set role postgres")
    admin.execute("create table public.made_by_admin (id int)")
    owner = scalar(admin, "select relowner::regrole from pg_class where relname = 'made_by_admin'")
    assert owner == "postgres"


def test_what_the_migration_cannot_grant_it_says_and_goes_on(
    database_server: Server, story: Database
) -> None:
    """The statements of the migration once more, after the roles lost what they had."""
    from tenantry_cli.migrate import read_migrations
    from tenantry_cli.project import find_project

    [migration] = [
        one
        for one in read_migrations(find_project().migrations)
        if one.name == "platform_database_roles"
    ]
    grants = next(one for one in migration.statements if "missing_role_grants() m" in one)
    notices: list[str] = []
    with database_server.administer(autocommit=True) as superuser:
        superuser.execute("revoke authenticated from app_rw")
        superuser.execute("revoke postgres from app_admin")
        superuser.execute("revoke pg_read_all_data from app_backup")
        superuser.execute("alter role app_backup nobypassrls")
    with connect(story) as connection:
        connection.add_notice_handler(lambda one: notices.append(str(one.message_primary)))
        connection.execute(grants.encode())
        left = connection.execute("select * from private.missing_role_grants()").fetchall()
        assert "app_rw" not in {row["role"] for row in left}
        assert left, "no version lets postgres grant everything"
        for row in left:
            assert any(row["remedy"] in one and "administrator" in one for one in notices)


def test_roles_have_no_password_and_do_not_log_in(shared_story: Database) -> None:
    with connect(shared_story) as connection:
        rows = connection.execute(
            "select rolname, rolcanlogin, rolsuper from pg_roles where rolname like 'app\\_%%'"
        ).fetchall()
        assert len(rows) == 4
        assert not any(row["rolcanlogin"] or row["rolsuper"] for row in rows)
