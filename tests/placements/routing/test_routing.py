"""One API for tenants in three placements: the right home, the right people, the same answers."""

from __future__ import annotations

import multidict
import pytest

pytestmark = pytest.mark.anyio

PLACEMENTS = ("pooled", "schema", "database")


@pytest.fixture(scope="module")
def tenants(fleet):
    shelf = fleet.shelf()
    fleet.tenant("robin", "schema", shelf)
    return {
        "pooled": fleet.tenant("bluebird"),
        "schema": fleet.tenant("kestrel", "schema", shelf),
        "database": fleet.tenant("osprey", "database"),
    }


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_what_a_member_writes_is_at_home_and_nowhere_else(front, fleet, tenants, placement):
    one = tenants[placement]
    made = await front.call(
        "POST",
        "/customers?select=id",
        one.token,
        headers={"Prefer": "return=representation"},
        body={"business_id": one.business, "first_name": "Ana"},
    )
    assert made.status == 201, made
    assert "Content-Profile" not in made.headers
    customer = made.json[0]["id"]
    for other in tenants.values():
        with fleet.at_home(other) as connection:
            found = connection.execute("select 1 from customers where id = %s", [customer])
            assert (found.fetchone() is not None) == (other is one)
    rows = await front.rows("/customers?select=first_name,businesses(name)", one.token)
    assert {"first_name": "Ana", "businesses": {"name": f"{one.slug} shop"}} in rows
    back = await front.rows("/businesses?select=name,customers(first_name)", one.token)
    assert [r["customers"][0]["first_name"] for r in back] == ["Ana"]


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_answers_are_alike_in_every_placement(front, tenants, placement):
    one = tenants[placement]
    business = one.business
    made = await front.call(
        "POST",
        "/rpc/create_customer",
        one.token,
        body={"business_id": business, "first_name": "Bo", "last_name": "Li"},
    )
    assert made.status == 200, made
    (row,) = await front.rows(
        "/customers?select=display_name,businesses(name,organizations(name)),contact_points(kind)"
        "&display_name=eq.Bo Li",
        one.token,
    )
    assert row == {
        "display_name": "Bo Li",
        "businesses": {"name": f"{one.slug} shop", "organizations": {"name": one.slug.title()}},
        "contact_points": [],
    }
    wrong = await front.call("GET", "/customers?select=*,nothing(*)", one.token)
    assert (wrong.status, wrong.json["code"]) == (400, "PGRST200")
    assert "tenant_" not in str(wrong.json)
    profile = await front.call("GET", "/customers", one.token, headers={"Accept-Profile": "public"})
    assert profile.status == 200
    updated = await front.call(
        "PATCH",
        "/customers?display_name=eq.Bo Li&select=lifecycle_stage,businesses(name)",
        one.token,
        headers={"Prefer": "return=representation"},
        body={"lifecycle_stage": "customer"},
    )
    assert updated.json == [
        {"lifecycle_stage": "customer", "businesses": {"name": f"{one.slug} shop"}}
    ]
    found = await front.call(
        "POST", "/rpc/search_customers", one.token, body={"business_id": business, "query": "li"}
    )
    assert [one["display_name"] for one in found.json] == ["Bo Li"]
    assert await front.rows("/access_control_lists?select=*,businesses(name)", one.token) == []
    assert len(await front.rows("/roles?select=name", one.token)) > 2
    gone = await front.call("DELETE", "/customers?display_name=eq.Bo Li", one.token)
    assert gone.status == 204


async def test_rows_in_different_databases_are_not_embedded(front, tenants):
    one = tenants["schema"]
    for path in (
        "/customers?select=*,business_domains(*)",
        "/businesses?select=*,business_domains(*),customers(*)",
        "/rpc/my_businesses?select=*,customers(*)",
    ):
        answer = await front.call("GET", path, one.token)
        assert (answer.status, answer.reason) == (400, "embed_across_homes"), path
    pooled = tenants["pooled"]
    answer = await front.call(
        "GET", "/businesses?select=*,business_domains(*),customers(*)", pooled.token
    )
    assert answer.status == 200


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("named", ["slug", "id", "business", "host", "audience"])
async def test_a_tenant_is_named(front, tenants, placement, named):
    one = tenants[placement]
    headers = {
        "slug": {"X-Tenant": one.slug},
        "id": {"X-Tenant": one.id},
        "business": {"X-Tenant": one.business},
        "host": {"Host": f"{one.slug}.localhost:54321"},
        "audience": {"Host": f"staff.{one.slug}.localhost"},
    }[named]
    answer = await front.call("GET", "/businesses?select=id", one.token, headers=headers)
    assert answer.json == [{"id": one.business}]
    other = tenants["schema" if placement != "schema" else "database"]
    answer = await front.call("GET", "/customers", other.token, headers=headers)
    assert (answer.status, answer.json["message"]) == (403, "Agency mismatch")
    assert answer.reason == "agency_mismatch"


async def test_the_database_header_is_a_hint(front, fleet, tenants):
    """A-121, A-122: the database comes from the registry, never from the header."""
    one, other = tenants["database"], tenants["pooled"]
    own = {"X-Agency-Database": one.database}
    made = await front.call(
        "POST", "/customers", one.token, headers=own,
        body={"business_id": one.business, "first_name": "Own"},
    )  # fmt: skip
    assert made.status == 201
    assert len(await front.rows("/customers?first_name=eq.Own", one.token, **own)) == 1
    foreign = await front.call("GET", "/customers", other.token, headers=own)
    assert (foreign.status, foreign.json["message"]) == (403, "Agency mismatch")
    for unknown in (
        "postgres",
        fleet.main.name,
        tenants["schema"].database,
        "tenantry_" + "0" * 32,
    ):
        answer = await front.call(
            "GET", "/customers", one.token, headers={"X-Agency-Database": unknown}
        )
        assert (answer.status, answer.reason) == (404, "unknown_tenant"), unknown
    service = await front.call("GET", "/customers?select=first_name", key="secret_key", headers=own)
    assert {"first_name": "Own"} in service.json
    anonymous = await front.call("GET", "/customers", headers=own)
    assert anonymous.status == 401  # PostgREST's own answer to visitors, not ours


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a,b",
        'x"; drop schema public',
        "pg_temp;",
        "public.customers",
        "a" * 64,
        "Ünï",
        "a b",
    ],
)
@pytest.mark.parametrize("name", ["X-Agency-Database", "X-Tenant"])
async def test_names_that_are_none(front, tenants, name, value):
    """A-121, A-123."""
    answer = await front.call("GET", "/customers", tenants["database"].token, headers={name: value})
    assert (answer.status, answer.reason) == (400, "malformed_header")
    assert value.strip() == "" or value not in str(answer.json)


async def test_repeated_and_conflicting_names(front, tenants):
    one, other = tenants["schema"], tenants["database"]
    twice = multidict.CIMultiDict([("X-Tenant", one.slug), ("X-Tenant", one.slug)])
    answer = await front.call("GET", "/customers", one.token, headers=twice)
    assert (answer.status, answer.reason) == (400, "duplicate_header")
    for headers in (
        {"X-Tenant": one.slug, "X-Agency-Database": other.database},
        {"X-Tenant": one.slug, "Host": f"{other.slug}.localhost"},
    ):
        answer = await front.call("GET", "/customers", one.token, headers=headers)
        assert answer.status in (400, 403), headers
        service = await front.call("GET", "/customers", key="secret_key", headers=headers)
        assert (service.status, service.reason) == (400, "tenant_conflict")
    assert (
        await front.call("GET", "/customers", one.token, headers={"X-Tenant": "no-such-tenant"})
    ).reason == "unknown_tenant"
    assert (
        await front.call("GET", "/customers", one.token, headers={"Host": "nobody.localhost"})
    ).reason == "unknown_tenant"


@pytest.mark.parametrize("header", ["X-Tenantry-Home", "X-Tenantry-Registry"])
async def test_clients_do_not_set_the_gateways_headers(front, tenants, header):
    one = tenants["schema"]
    value = {"X-Tenantry-Home": f"{one.id}.999.public", "X-Tenantry-Registry": "1"}[header]
    answer = await front.call("GET", "/customers?limit=1", one.token, headers={header: value})
    assert answer.status == 200
    foreign = await front.call(
        "GET", "/customers", one.token, headers={"Accept-Profile": tenants["database"].schema + "x"}
    )
    assert (foreign.status, foreign.reason) == (406, "schema_not_available")


async def test_a_tenants_token_sees_nothing_of_its_shelf_neighbour(front, fleet, tenants):
    one, neighbour = tenants["schema"], fleet.tenants["robin"]
    made = await front.call(
        "POST", "/customers", neighbour.token,
        body={"business_id": neighbour.business, "first_name": "Secret"},
    )  # fmt: skip
    assert made.status == 201
    assert await front.rows("/customers?first_name=eq.Secret", one.token) == []
    assert [r["id"] for r in await front.rows("/businesses?select=id", one.token)] == [one.business]
    stolen = await front.call(
        "POST", "/customers", one.token,
        body={"business_id": neighbour.business, "first_name": "X"},
    )  # fmt: skip
    assert stolen.status == 403
