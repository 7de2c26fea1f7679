"""Which part of the API is answered where."""

from __future__ import annotations

import pytest

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.planes import Planes, Side, embedded_names

PLANES = Planes.read(
    [
        {"kind": kind, "name": name, "plane": plane}
        for kind, name, plane in (
            ("relation", "customers", "tenant"),
            ("relation", "contact_points", "tenant"),
            ("relation", "businesses", "registry"),
            ("relation", "organizations", "registry"),
            ("relation", "business_domains", "platform"),
            ("relation", "access_control_lists", "home"),
            ("function", "search_customers", "tenant"),
            ("function", "my_businesses", "platform"),
        )
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "select", "side"),
    [
        ("GET", "/customers", "", Side.TENANT),
        ("GET", "/custom%65rs", "*", Side.TENANT),
        ("POST", "/customers", "*,businesses(*)", Side.TENANT),
        ("GET", "/customers", "*,b:businesses!fk(name,organizations(name))", Side.TENANT),
        ("GET", "/customers", "*,customers_business_id_fkey(name)", Side.TENANT),
        ("POST", "/rpc/search_customers", "", Side.TENANT),
        ("GET", "/businesses", "*,organizations(*)", Side.MAIN),
        ("PATCH", "/businesses", "*", Side.MAIN),
        ("GET", "/businesses", "*,customers(count)", Side.TENANT),
        ("GET", "/businesses", "*,organizations(*),c:customers!inner(id)", Side.TENANT),
        ("GET", "/businesses", "*,...customers(id)", Side.TENANT),
        ("GET", "/businesses", '*,"customers"(id)', Side.TENANT),
        ("GET", "/businesses", "*,access_control_lists(*)", Side.TENANT),
        ("GET", "/business_domains", "*,businesses(*)", Side.MAIN),
        ("GET", "/access_control_lists", "*,businesses(*)", Side.HOME),
        ("POST", "/access_control_lists", "", Side.HOME),
        ("POST", "/rpc/my_businesses", "*,organizations(*)", Side.MAIN),
        ("GET", "/unknown", "*", Side.MAIN),
        ("GET", "/rpc/unknown", "", Side.MAIN),
    ],
)
def test_sides(method, path, select, side):
    assert PLANES.side(method, path, select) is side


@pytest.mark.parametrize(
    ("method", "path", "select"),
    [
        ("GET", "/customers", "*,businesses(*,business_domains(*))"),
        ("GET", "/businesses", "*,customers(*),business_domains(*)"),
        ("GET", "/business_domains", "*,businesses(*,customers(*))"),
        ("PATCH", "/businesses", "*,customers(*)"),
        ("POST", "/businesses", "*,customers(*)"),
        ("GET", "/rpc/my_businesses", "*,customers(*)"),
        ("POST", "/rpc/search_customers", "*,business_domains(*)"),
        ("POST", "/access_control_lists", "*,businesses(customers(*))"),
    ],
)
def test_rows_that_never_meet(method, path, select):
    with pytest.raises(GatewayError) as refused:
        PLANES.side(method, path, select)
    assert (refused.value.status, refused.value.reason) == (400, "embed_across_homes")


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("", set()),
        ("id,name", set()),
        ("count(),amount.sum()", set()),
        ("a(b(c))", {"a", "b"}),
        ("x:a!left(id), y : b!fk!inner(*)", {"a", "b"}),
        ("...a(id)", {"a"}),
        ("a(count())", {"a"}),
    ],
)
def test_embedded_names(select, expected):
    assert embedded_names(select) == expected
