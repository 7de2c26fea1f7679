"""Numbers about tenants are those of the tables; unknown names are refused."""

from __future__ import annotations

import psycopg
import pytest

from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.testing import Database

from .conftest import BLUEBIRD, COPPERLINE, connect, make_tenant_schema, scalar, schema_of


def _tenants(connection: Connection) -> dict[str | None, dict]:
    rows = connection.execute("select * from private.tenant_statistics()").fetchall()
    return {row["organization_slug"]: row for row in rows}


def test_every_tenant_is_counted_by_itself(owner: Connection) -> None:
    tenants = _tenants(owner)
    assert set(tenants) == {"bluebird", "copperline"}
    for slug, row in tenants.items():
        for table in ("customers", "conversations", "messages", "calls"):
            counted = scalar(
                owner,
                f"select count(*) from public.{table} t join public.businesses b"
                " on b.id = t.business_id join public.organizations o on o.id = b.organization_id"
                " where o.slug = %s",
                slug,
            )
            assert row[table] == counted, (slug, table)
    assert tenants["bluebird"]["customers"] > tenants["copperline"]["customers"] > 0
    assert tenants["bluebird"]["businesses"] == 2
    assert tenants["bluebird"]["users"] == 4
    assert tenants["copperline"]["users"] == 1
    newest = scalar(owner, "select max(version) from supabase_migrations.schema_migrations")
    assert {row["migration_version"] for row in tenants.values()} == {newest}


def test_shared_tables_are_shared_out_by_rows(owner: Connection) -> None:
    tenants = _tenants(owner)
    assert all(row["is_size_estimated"] for row in tenants.values())
    assert all(row["connections"] is None for row in tenants.values())
    total = sum(row["size_bytes"] for row in tenants.values())
    tables = scalar(
        owner,
        "select sum(pg_total_relation_size(t)) from unnest(array['public.customers',"
        " 'public.conversations', 'public.messages', 'public.calls']::regclass[]) t",
    )
    assert abs(total - tables) <= 4  # rounding, once per tenant and table
    assert tenants["bluebird"]["size_bytes"] > tenants["copperline"]["size_bytes"]


def test_a_schema_is_one_tenants_and_its_size_is_exact(owner: Connection) -> None:
    name = make_tenant_schema(owner, COPPERLINE)
    assert _tenants(owner)[None]["schema_name"] == name, "until somebody registers it"
    assert _tenants(owner)[None]["state"] == "unregistered"
    owner.execute(
        "update public.organization_placements set isolation = 'schema', schema_name = %s"
        " where organization_id = %s",
        (name, COPPERLINE),
    )
    owner.execute(
        f"insert into {name}.customers (business_id, first_name)"
        " select id, 'Ada' from public.businesses where organization_id = %s",
        (COPPERLINE,),
    )
    row = _tenants(owner)["copperline"]
    assert None not in _tenants(owner)
    assert (row["customers"], row["isolation"], row["is_size_estimated"]) == (1, "schema", False)
    size = scalar(
        owner,
        "select sum(pg_total_relation_size(c.oid)) from pg_class c"
        " where c.relnamespace = %s::regnamespace and c.relkind = 'r'",
        name,
    )
    assert row["size_bytes"] == size > 500_000


def test_the_system_is_the_sum_of_its_tenants(owner: Connection) -> None:
    tenants = _tenants(owner).values()
    system = owner.execute("select * from private.system_statistics()").fetchone()
    assert system is not None
    assert system["tenants"] == 2
    for name in ("businesses", "users", "customers", "conversations", "messages", "calls"):
        assert system[name] == sum(row[name] for row in tenants), name
    assert system["connections"] >= 1


def test_somebody_in_two_organizations_is_one_user(owner: Connection) -> None:
    owner.execute(
        "insert into public.business_memberships (business_id, user_id)"
        " select id, 'a0000000-0000-4000-8000-000000000001' from public.businesses"
        " where organization_id = %s",
        (COPPERLINE,),
    )
    assert scalar(owner, "select users from private.system_statistics()") == 5
    assert sum(row["users"] for row in _tenants(owner).values()) == 6


def test_rows_of_a_table_are_counted(owner: Connection) -> None:
    name = make_tenant_schema(owner, BLUEBIRD)
    counted = scalar(owner, "select count(*) from public.customers")
    assert scalar(owner, "select private.get_table_count('public', 'customers')") == counted > 0
    assert scalar(owner, "select private.get_table_count(%s, 'customers')", name) == 0
    # The query of a report over all tenants.
    total = scalar(
        owner,
        "select sum(private.get_table_count(s, 'customers')) from private.place_schemas() s",
    )
    assert total == counted


@pytest.mark.parametrize(
    ("schema", "table", "field"),
    [
        ("public", "nothing", "table_name"),
        ("public", None, "table_name"),
        ("public", "customers; drop table public.calls", "table_name"),
        ("public", "customers, public.calls", "table_name"),
        ("public", 'customers" where false --', "table_name"),
        ("public", "customers_pkey", "table_name"),
        ("tenant_nobody", "customers", "schema_name"),
        ("auth", "users", "schema_name"),
        (None, "customers", "schema_name"),
    ],
)
def test_what_is_no_table_is_refused(
    shared_story: Database, schema: str | None, table: str | None, field: str
) -> None:
    with connect(shared_story) as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select private.get_table_count(%s, %s)", (schema, table))
        assert caught.value.sqlstate == "PT404"
        assert f'"field": "{field}"' in str(caught.value.diag.message_detail)
        assert caught.value.diag.message_hint
        assert scalar(connection, "select to_regclass('public.calls') is not null")


def test_people_of_a_tenant(shared_story: Database) -> None:
    with connect(shared_story) as connection:
        by_slug = connection.execute("select * from private.tenant_users('bluebird')").fetchall()
        by_id = connection.execute(
            "select * from private.tenant_users(%s)", (str(BLUEBIRD),)
        ).fetchall()
        everybody = connection.execute("select * from private.tenant_users('public')").fetchall()
        assert by_slug == by_id
        assert [row["email"].partition("@")[0] for row in by_slug] == [
            "manager", "owner", "staff", "viewer",
        ]  # fmt: skip
        assert {row["organization_slug"] for row in everybody} == {"bluebird", "copperline"}
        assert len(everybody) == 5
        [owner] = [row for row in by_slug if row["email"].startswith("owner")]
        assert owner["roles"] == ["organization owner", "owner"]
        assert owner["businesses"] == 2
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select private.tenant_users('nobody')")
        assert caught.value.sqlstate == "PT404"


def test_people_who_left_are_none(owner: Connection) -> None:
    owner.execute(
        "update public.business_memberships set status = 'removed' where user_id ="
        " (select id from auth.users where email = 'viewer@bluebird.example')"
    )
    emails = {
        row["email"] for row in owner.execute("select * from private.tenant_users('bluebird')")
    }
    assert len(emails) == 3
    assert "viewer@bluebird.example" not in emails


def test_databases_of_the_cluster(shared_story: Database) -> None:
    with connect(shared_story) as connection, connect(shared_story):
        sizes = {
            row["database_name"]: row
            for row in connection.execute("select * from private.database_sizes()")
        }
        assert sizes[shared_story.name]["kind"] == "this"
        exact = scalar(connection, "select pg_database_size(current_database())")
        assert abs(sizes[shared_story.name]["size_bytes"] - exact) < 1_000_000
        assert sizes["postgres"]["kind"] == "other"
        used = {
            row["database_name"]: row
            for row in connection.execute("select * from private.connection_usage()")
        }
        assert used[shared_story.name]["connections"] >= 2
        assert used[shared_story.name]["active"] >= 1
        limit = scalar(
            connection,
            "select current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int",
        )
        share = round(100 * used[shared_story.name]["connections"] / limit, 1)
        assert float(used[shared_story.name]["percent_of_limit"]) == pytest.approx(share, abs=0.06)


def test_a_database_of_its_own_is_told_as_its_tenants(owner: Connection, story: Database) -> None:
    owner.execute(
        "update public.organization_placements set isolation = 'database'"
        " where organization_id = %s",
        (BLUEBIRD,),
    )
    [row] = [
        one
        for one in owner.execute("select * from private.database_sizes()")
        if one["database_name"] == story.name
    ]
    assert (row["kind"], row["organization_id"]) == ("tenant", BLUEBIRD)
    assert _tenants(owner)["bluebird"]["size_bytes"] == pytest.approx(row["size_bytes"], rel=0.1)


def test_growth_is_reckoned_from_samples(owner: Connection) -> None:
    first = owner.execute("select private.sample_capacity() as made").fetchone()
    assert first == {"made": {"tenants": 2}}
    owner.execute(
        "update private.capacity_samples set taken_on = taken_on - 10,"
        " size_bytes = size_bytes / 2, row_count = row_count - 5"
    )
    owner.execute("select private.sample_capacity()")
    owner.execute("select private.sample_capacity()")  # the same day: one row
    assert scalar(owner, "select count(*) from private.capacity_samples") == 4
    for row in owner.execute("select * from private.tenant_growth()").fetchall():
        assert row["growth_rows"] == 5
        assert float(row["growth_percent"]) == pytest.approx(100, abs=1)
        assert row["bytes_in_a_year"] == row["size_bytes"] + row["growth_bytes"] * 365 // 10
    assert not owner.execute(
        "select 1 from private.tenant_growth(5) where growth_bytes <> 0"
    ).fetchall(), "what is older than the days asked for is left out"


def test_schema_names_of_the_tests_are_those_of_the_product() -> None:
    assert schema_of(BLUEBIRD) == "tenant_b0000000000040008000000000000001"
