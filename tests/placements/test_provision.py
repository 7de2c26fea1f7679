"""New tenants in each placement: complete, protected, known to their members alone."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest

from tenantry_cli.fleet import databases, lifecycle, provision
from tenantry_cli.fleet.fleet import Fleet, FleetError
from tenantry_cli.fleet.names import database_name, schema_name
from tenantry_cli.fleet.provision import ISOLATIONS, NewTenant, create_tenant

from .conftest import OWNER, STRANGER, Place

CATALOG = """
select 'policy' as kind, c.relname || ' ' || p.polname as name,
  replace(replace(coalesce(pg_get_expr(p.polqual, p.polrelid), '')
      || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), ''), %(schema)s || '.', ''),
    quote_literal(%(schema)s), 'its own') as text
from pg_policy p join pg_class c on c.oid = p.polrelid
where c.relnamespace = %(schema)s::regnamespace and c.relname = any (%(tables)s)
union all
select 'trigger', c.relname || ' ' || t.tgname, regexp_replace(replace(pg_get_triggerdef(t.oid),
  %(schema)s || '.', ''), ' ON [a-z_.0-9]+', '')
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where not t.tgisinternal and c.relnamespace = %(schema)s::regnamespace
  and c.relname = any (%(tables)s)
union all
select 'grants', c.relname, concat_ws(' ', c.relrowsecurity, c.relforcerowsecurity, c.relacl::text)
from pg_class c where c.relnamespace = %(schema)s::regnamespace and c.relname = any (%(tables)s)
union all
select 'key', c.relname || ' ' || k.conname, replace(replace(pg_get_constraintdef(k.oid),
  %(schema)s || '.', ''), 'public.', '')
from pg_constraint k join pg_class c on c.oid = k.conrelid
where c.relnamespace = %(schema)s::regnamespace and c.relname = any (%(tables)s)
  and k.contype <> 'n'
"""


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_new_tenant_works(fleet: Fleet, place_of: Callable[[str], Place], isolation: str) -> None:
    tenant = create_tenant(
        fleet, NewTenant(f"New {isolation}", "owner@bluebird.example", isolation=isolation)
    )
    assert (tenant.state, tenant.home.isolation, tenant.businesses) == ("active", isolation, 1)
    place = place_of(tenant.slug)
    business = place.value(
        OWNER, "select id from public.businesses where organization_id = %s", tenant.id
    )
    place.all(
        OWNER,
        "select create_customer(business_id => %s, first_name => 'Ada', phone => %s)",
        business,
        "+14155550123",
    )
    assert (
        place.value(OWNER, "select count(*) from customers where business_id = %s", business) == 1
    )
    assert place.value(
        OWNER, "select primary_phone from customers where business_id = %s", business
    )
    assert (
        place.value(STRANGER, "select count(*) from customers where business_id = %s", business)
        == 0
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.all(
            STRANGER, "insert into customers (business_id, first_name) values (%s, 'x')", business
        )


def test_every_home_has_the_same_protection(fleet: Fleet) -> None:
    catalogs = []
    for isolation in ISOLATIONS:
        tenant = create_tenant(
            fleet, NewTenant(f"Same {isolation}", "owner@bluebird.example", isolation=isolation)
        )
        with fleet.connect(tenant.home.database) as place:
            place.execute("set search_path = pg_catalog")
            tables = [
                row["table_name"]
                for row in place.execute("select table_name from private.tenant_tables")
            ]
            rows = place.execute(CATALOG, {"schema": tenant.home.schema, "tables": tables})
            catalogs.append({(row["kind"], row["name"]): row["text"] for row in rows})
    assert len(catalogs[0]) > 200
    for other in catalogs[1:]:
        assert {k: v for k, v in other.items() if catalogs[0].get(k) != v} == {}
        assert set(other) == set(catalogs[0])


def test_names_come_from_ids(fleet: Fleet) -> None:
    tenant = create_tenant(
        fleet,
        NewTenant('x"; drop schema public', "owner@bluebird.example", isolation="schema"),
    )
    assert tenant.home.schema == schema_name(tenant.id)
    other = create_tenant(
        fleet, NewTenant("pg_temp", "owner@bluebird.example", isolation="database")
    )
    assert other.home.database == database_name(fleet.prefix, other.id)
    with pytest.raises(ValueError, match="is no name"):
        database_name("x" * 40, other.id)


def test_a_current_template_is_left_alone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is open for a migration, nobody can clone it."""
    name = databases.ensure_template(fleet)

    def open_it(*arguments: object) -> None:
        raise AssertionError("the template was opened")

    monkeypatch.setattr(databases, "_bring_up_to_date", open_it)
    assert databases.ensure_template(fleet) == name


def test_shelves_fill_up(fleet: Fleet) -> None:
    small = Fleet(
        fleet.server, fleet.main, fleet.migrations, prefix=fleet.prefix, tenants_per_shelf=2
    )
    with fleet.connect() as main:
        main.execute("update public.placement_databases set state = 'closed' where kind = 'shelf'")
    homes = [
        create_tenant(
            small, NewTenant(f"Shelf {number}", "owner@bluebird.example", isolation="schema")
        ).home.database
        for number in range(3)
    ]
    assert homes[0] == homes[1] != homes[2]
    small.close()


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (NewTenant("A", "nobody@example.com"), "nobody has an account"),
        (NewTenant("A", "owner@bluebird.example", slug="bluebird"), "taken"),
        (NewTenant("A", "owner@bluebird.example", slug="Not a slug"), "slug"),
        (NewTenant("A", "owner@bluebird.example", isolation="cloud"), "choose pooled"),
        (NewTenant("A", "owner@bluebird.example", timezone="Mars"), "timezone"),
        (NewTenant("", "owner@bluebird.example"), "name"),
    ],
)
def test_bad_input_leaves_nothing(fleet: Fleet, new: NewTenant, message: str) -> None:
    before = len(fleet.tenants())
    with pytest.raises(FleetError, match=message):
        create_tenant(fleet, new)
    assert len(fleet.tenants()) == before


def test_a_failed_home_is_made_later(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise psycopg.OperationalError("no space left on device")

    monkeypatch.setattr(provision, "create_tenant_schema", broken)
    with pytest.raises(FleetError, match=r"(?s)no space left.*tenant resume"):
        create_tenant(
            fleet,
            NewTenant("Unlucky", "owner@bluebird.example", slug="unlucky", isolation="schema"),
        )
    assert fleet.tenant("unlucky").state == "failed"
    monkeypatch.undo()
    outcome = lifecycle.resume(fleet, "unlucky")
    assert outcome == fleet.tenant("unlucky")
    assert fleet.tenant("unlucky").state == "active"


def test_unknown_tenants_are_named(fleet: Fleet) -> None:
    for key in ("nobody", "", "'; select 1", UUID(int=0)):
        with pytest.raises(FleetError, match="there is no tenant"):
            fleet.tenant(key)
