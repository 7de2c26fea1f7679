"""Whom a request is for, and how long an answer of the registry is believed; with a fake one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

pytestmark = pytest.mark.anyio

ALPHA = "0a0a0a0a-0000-4000-8000-000000000001"
BETA = "0b0b0b0b-0000-4000-8000-000000000002"
BUSINESS = "0c0c0c0c-0000-4000-8000-000000000003"


def home(organization: str = ALPHA, **changes: Any) -> dict[str, Any]:
    return {
        "organization_id": organization,
        "isolation": "pooled",
        "database_name": "postgres",
        "schema_name": "public",
        "state": "active",
        "epoch": 1,
        "audience": None,
        "kinds": ["staff", "admin"],
        "version": 1,
    } | changes


class Registry:
    """The main database as far as the gateway asks it; counts the questions."""

    def __init__(self) -> None:
        self.overview = {"version": 1, "elsewhere": 1, "unsettled": 0, "settle_seconds": 0.5}
        self.tenants: dict[str, dict[str, Any]] = {}
        self.homes: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.status = 200

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.removeprefix("/rpc/")
        if not request.path.startswith("/rpc/"):
            return web.json_response([{"ok": True}], status=self.status)
        body = json.loads(await request.read() or b"{}")
        self.asked.append(name)
        found = {
            "placement_overview": lambda: [self.overview],
            "resolve_tenant": lambda: [x for x in [self.tenants.get(body["key"])] if x],
            "homes_of": lambda: self.homes,
            "api_planes": lambda: [{"kind": "relation", "name": "customers", "plane": "tenant"}],
        }
        return web.json_response(found[name]())

    def count(self, name: str) -> int:
        return self.asked.count(name)


@pytest.fixture
async def routed(new_stack):
    registry = Registry()

    async def start(**changes: Any):
        stack = await new_stack(tenant_routing=True, **changes)
        stack.rest.answer = registry.answer
        stack.registry = registry
        stack.signed_in = {"Authorization": f"Bearer {stack.token()}"}
        return stack

    return start


async def get(stack, **headers: str):
    return await stack.call("GET", "/rest/v1/customers", headers=stack.signed_in | headers)


async def test_nobody_elsewhere_costs_one_look(routed):
    stack = await routed()
    stack.registry.overview["elsewhere"] = 0
    for _ in range(20):
        assert (await get(stack)).status == 200
    assert set(stack.registry.asked) == {"placement_overview"}
    assert stack.registry.count("placement_overview") <= 2
    sent = stack.rest.last.headers
    assert not [name for name in sent if name.lower().startswith("x-tenantry")]


async def test_what_is_known_is_not_asked_again(routed):
    stack = await routed()
    stack.registry.homes = [home()]
    stack.registry.tenants["alpha"] = home()
    for _ in range(10):
        assert (await get(stack)).status == 200
        assert (await get(stack, **{"X-Tenant": "alpha"})).status == 200
    assert stack.registry.count("homes_of") == 1
    assert stack.registry.count("resolve_tenant") == 1


async def test_a_business_elsewhere_that_was_joined_a_moment_ago(routed):
    """What is remembered of the caller's homes does not hide it."""
    stack = await routed()
    stack.registry.homes = [home()]
    assert (await get(stack)).status == 200
    stack.registry.tenants[BUSINESS] = home(BETA, isolation="database", database_name="b")
    path = f"/rest/v1/customers?business_id=eq.{BUSINESS}"
    answer = await stack.call("GET", path, headers=stack.signed_in)
    assert (answer.status, answer.reason) == (503, "place_unavailable")  # there are none here
    answer = await stack.call(
        "POST", "/rest/v1/customers", headers=stack.signed_in, json={"business_id": BUSINESS}
    )
    assert answer.reason == "place_unavailable"


async def test_another_version_forgets_everything(routed):
    stack = await routed()
    stack.registry.homes = [home()]
    await get(stack)
    stack.registry.overview["version"] = 2
    await asyncio.sleep(0.6)
    await get(stack)
    assert stack.registry.count("homes_of") == 2


async def test_many_at_once_ask_once(routed):
    stack = await routed()
    stack.registry.tenants["alpha"] = home()
    await asyncio.gather(*(get(stack, **{"X-Tenant": "alpha"}) for _ in range(20)))
    assert stack.registry.count("resolve_tenant") == 1


async def test_unknown_tenants_are_remembered_shortly(routed):
    stack = await routed()
    for _ in range(5):
        answer = await get(stack, **{"X-Tenant": "nobody"})
        assert (answer.status, answer.reason) == (404, "unknown_tenant")
    assert stack.registry.count("resolve_tenant") == 1


async def test_strangers_are_refused_and_visitors_are_not(routed):
    stack = await routed()
    stack.registry.tenants["alpha"] = home(kinds=[])
    answer = await get(stack, **{"X-Tenant": "alpha"})
    assert (answer.status, answer.json["message"]) == (403, "Agency mismatch")
    named = {"X-Tenant": "alpha"}
    assert (await stack.call("GET", "/rest/v1/customers", headers=named)).status == 200
    service = await stack.call("GET", "/rest/v1/customers", "secret_key", headers=named)
    assert service.status == 200


@pytest.mark.parametrize(
    ("audience", "kinds", "status"),
    [
        ("clients", ["client"], 200),
        ("clients", ["staff", "admin"], 403),
        ("staff", ["staff"], 200),
        ("staff", ["staff", "admin"], 200),
        ("staff", ["client"], 403),
        ("staff", ["key"], 403),
        ("admin", ["staff", "admin"], 200),
        ("admin", ["staff"], 403),
        ("api", ["key"], 200),
        ("api", ["staff", "admin"], 403),
        ("public", ["staff"], 403),
    ],
)
@pytest.mark.parametrize("way", ["label", "domain"])
async def test_audiences(routed, audience, kinds, status, way):
    stack = await routed()
    stack.registry.tenants["alpha"] = home(kinds=kinds)
    stack.registry.tenants["portal.example"] = home(kinds=kinds, audience=audience)
    host = f"{audience}.alpha.localhost:54321" if way == "label" else "portal.example"
    answer = await get(stack, Host=host)
    assert answer.status == status
    if status == 403:
        assert answer.reason == "wrong_audience"
    visitor = await stack.call("GET", "/rest/v1/customers", headers={"Host": host})
    assert visitor.status == (200 if audience == "public" else 403)
    # Another name for the same tenant opens nothing that the host closes.
    named = await get(stack, Host=host, **{"X-Tenant": "alpha"})
    assert named.status == status


async def test_a_foreign_host_that_nobody_has_is_the_gateways_own(routed):
    stack = await routed()
    assert (await get(stack, Host="api.example.com")).status == 200


async def test_the_registry_is_away(routed):
    stack = await routed()
    stack.registry.tenants["alpha"] = home()
    assert (await get(stack, **{"X-Tenant": "alpha"})).status == 200

    async def away(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"code": "PGRST000"}, status=503)

    stack.rest.answer = away
    await asyncio.sleep(0.6)
    answer = await get(stack)
    assert answer.status == 503
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("rows", [[], [{}], [{"version": "x"}], {"version": 1}, None])
async def test_a_registry_that_makes_no_sense(routed, rows):
    stack = await routed()

    async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(rows)

    stack.rest.answer = nonsense
    answer = await get(stack)
    assert (answer.status, answer.reason) == (503, "service_unavailable")


async def test_functions_get_the_tenant(routed):
    stack = await routed()
    stack.registry.tenants["alpha"] = home()
    await stack.call("POST", "/functions/v1/hook", headers={"Host": "alpha.localhost"}, data=b"{}")
    assert stack.functions.last.headers["X-Tenant"] == ALPHA
    await stack.call("POST", "/functions/v1/hook", headers={"X-Tenant": "alpha"}, data=b"{}")
    assert stack.functions.last.headers.getall("X-Tenant") == [ALPHA]
    await stack.call("POST", "/functions/v1/hook", data=b"{}")
    assert "X-Tenant" not in stack.functions.last.headers
    refused = await stack.call("POST", "/functions/v1/hook", headers={"X-Tenant": "no"}, data=b"{}")
    assert refused.status == 404


async def test_metrics_name_the_busiest_tenants_only(routed):
    stack = await routed()
    for number in range(25):
        organization = f"0a0a0a0a-0000-4000-8000-{number:012}"
        stack.registry.tenants[f"t{number}"] = home(organization)
        assert (await get(stack, **{"X-Tenant": f"t{number}"})).status == 200
    for _ in range(5):
        await get(stack, **{"X-Tenant": "t24"})
    text = (await stack.call("GET", "/metrics", None)).body.decode()
    lines = [x for x in text.splitlines() if x.startswith("gateway_tenant_requests_total{")]
    assert len(lines) == 21
    assert any('tenant="other"' in line for line in lines)
    assert any("8000-000000000024" in line for line in lines)


async def test_a_late_answer_is_looked_at_again(routed):
    """Longer than the registry may be believed: the version decides, not the clock."""
    stack = await routed()
    stack.registry.homes = [home()]
    answered = stack.rest.answer

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.startswith("/rpc/"):
            await asyncio.sleep(0.7)
        return await answered(request)

    stack.rest.answer = slowly
    await get(stack)
    before = stack.registry.count("placement_overview")
    assert (await get(stack)).status == 200
    assert stack.registry.count("placement_overview") > before


async def test_a_write_denied_while_it_begins_to_move(routed):
    stack = await routed()
    stack.registry.homes = [home()]
    await get(stack)

    async def refused(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/rpc/"):
            return await stack.registry.answer(request)
        stack.registry.overview |= {"version": 2, "unsettled": 1}
        stack.registry.homes = [home(state="moving")]
        return web.json_response({"code": "42501", "message": "no"}, status=403)

    stack.rest.answer = refused
    answer = await stack.call(
        "POST", "/rest/v1/customers", headers=stack.signed_in, json={"business_id": BUSINESS}
    )
    assert (answer.status, answer.reason) == (503, "moving")
