"""How a request may name its tenant."""

from __future__ import annotations

import pytest

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.tenant_names import TenantName, names_of


def names(base_domain: str = "localhost", own: tuple[str, ...] = (), **headers: str):
    return names_of(
        {name.replace("_", "-"): value for name, value in headers.items()},
        base_domain,
        frozenset(own),
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:54321", None),
        ("127.0.0.1:54321", None),
        ("[::1]:54321", None),
        ("gateway", None),
        ("bad_host.localhost", None),
        ("", None),
        ("bluebird.localhost:54321", ("tenant", "bluebird", None, True)),
        ("BlueBird.LocalHost.", ("tenant", "bluebird", None, True)),
        ("clients.bluebird.localhost", ("tenant", "bluebird", "clients", True)),
        ("other.bluebird.localhost", ("host", "other.bluebird.localhost", None, True)),
        ("a.b.c.localhost", ("host", "a.b.c.localhost", None, True)),
        ("portal.bluebird.example", ("host", "portal.bluebird.example", None, False)),
        ("xlocalhost", None),
    ],
)
def test_hosts(host, expected):
    found = names(host=host)
    if expected is None:
        assert found == []
    else:
        kind, key, audience, required = expected
        assert found == [TenantName(kind, key, "Host", audience, required)]


def test_the_gateways_own_hosts_are_no_tenants():
    assert names("tenantry.example", ("api.tenantry.example",), host="api.tenantry.example") == []
    (found,) = names("tenantry.example", host="api.tenantry.example")
    assert found.key == "api"


@pytest.mark.parametrize("value", ["bluebird", "BLUEBIRD", "5f0c8a52-6a0b-4c1e-9a43-6e0d5f9f3b11"])
def test_tenant_headers(value):
    assert names(x_tenant=value) == [TenantName("tenant", value.lower(), "X-Tenant")]


def test_both_headers_and_a_host():
    found = names(x_tenant="a", x_agency_database="tenantry_a", host="b.localhost")
    assert [one.kind for one in found] == ["database", "tenant", "tenant"]


@pytest.mark.parametrize(
    "value",
    ["", " ", "a,b", "a b", "a/b", "a.b", "-a", "a-", "a" * 64, "ä", "a'", 'x"; drop', "A_"],
)
def test_malformed_tenants(value):
    with pytest.raises(GatewayError) as refused:
        names(x_tenant=value)
    assert (refused.value.status, refused.value.field) == (400, "X-Tenant")


@pytest.mark.parametrize("value", ["", "Postgres", "a-b", "1a", "a" * 64, "a,b", '"a"', "a;"])
def test_malformed_databases(value):
    with pytest.raises(GatewayError) as refused:
        names(x_agency_database=value)
    assert (refused.value.status, refused.value.field) == (400, "X-Agency-Database")
