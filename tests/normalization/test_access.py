"""Who may call the functions, and that the tables behind them stay closed."""

from __future__ import annotations

import psycopg
import pytest

from tenantry_cli.testing import Database

from .conftest import Normalizer

FUNCTIONS = {
    "normalize_phone(text, text)": "select public.normalize_phone('+14155550123', 'US')",
    "is_valid_phone(text, text)": "select public.is_valid_phone('+14155550123', 'US')",
    "format_phone(text, text)": "select public.format_phone('+14155550123')",
    "normalize_email(text)": "select public.normalize_email('Ana@bücher.example')",
    "is_valid_email(text)": "select public.is_valid_email('ana@c.de')",
}
TABLES = (
    "phone_regions", "phone_ranges", "phone_formats", "character_classes", "character_folds",
)  # fmt: skip


def call_as(database: Database, role: str, query: str) -> object:
    with database.connect("authenticator") as connection:
        connection.execute(f"set local role {role}")
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_members_and_jobs_may_call(
    normalization_database: Database, role: str, function: str
) -> None:
    assert call_as(normalization_database, role, FUNCTIONS[function])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_visitors_may_not(normalization_database: Database, function: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        call_as(normalization_database, "anon", FUNCTIONS[function])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_tables_are_closed(normalization_database: Database, role: str, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        call_as(normalization_database, role, f"select count(*) from private.{table}")


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_the_helpers_are_closed(normalization_database: Database, role: str) -> None:
    for query in (
        "select private.parse_phone('+14155550123', null)",
        "select private.email_key('a@c.de')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            call_as(normalization_database, role, query)


def test_tables_are_forced_and_functions_documented(normalizer: Normalizer) -> None:
    for table in TABLES:
        assert normalizer.one(
            "select relrowsecurity and relforcerowsecurity from pg_class"
            " where oid = ('private.' || %s)::regclass",
            table,
        )
        assert normalizer.one("select obj_description(('private.' || %s)::regclass)", table)
    for function in FUNCTIONS:
        definition = normalizer.connection.execute(
            "select prosecdef, provolatile, proconfig, obj_description(oid) from pg_proc"
            " where oid = ('public.' || %s)::regprocedure",
            (function,),
        ).fetchone()
        assert definition is not None
        assert definition[:3] == (True, "s", ['search_path=""'])
        assert "Never raises" in definition[3] or "never raises" in definition[3]
