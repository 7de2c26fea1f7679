"""What a request to /rest/v1 may ask, and how it reaches PostgREST."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.anyio

PLANNER_COUNTS = [
    "count=planned",
    "count=estimated",
    "COUNT=Planned",
    "count = planned",
    "count=\tplanned",
    'count="planned"',
    "return=minimal,count=planned",
    "return=minimal, count=planned",
    "return=minimal; count=estimated",
    "count=exact,count=planned",
    "count=planned,count=exact",
    "count=exact return=minimal count=planned",
    "count=anything",
    "count",
]


@pytest.mark.parametrize("prefer", PLANNER_COUNTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH"])
async def test_only_exact_counts(stack, prefer, method):
    target = "/rest/v1/customers?id=eq.1"
    answer = await stack.call(method, target, headers={"Prefer": prefer})
    assert answer.status == 400
    if method != "HEAD":
        assert (answer.reason, answer.field) == ("count_not_exact", "Prefer")
        assert "count=exact" in answer.json["hint"]
    assert stack.untouched


@pytest.mark.parametrize(
    "prefer", ["count=exact", "return=representation,count=exact", "count=none", "tx=commit"]
)
async def test_other_preferences_pass_unchanged(stack, prefer):
    answer = await stack.call("GET", "/rest/v1/customers", headers={"Prefer": prefer})
    assert answer.status == 200
    assert stack.rest.last.headers["Prefer"] == prefer


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.pgrst.plan",
        "application/vnd.pgrst.plan+json",
        'application/vnd.pgrst.plan+text; for="application/json"; options=analyze',
        "application/json, application/vnd.pgrst.plan",
        "Application/Vnd.PGRST.Plan",
        "application/ vnd.pgrst.plan",
    ],
)
async def test_no_query_plans(stack, accept):
    answer = await stack.call("GET", "/rest/v1/customers", headers={"Accept": accept})
    assert (answer.status, answer.reason) == (406, "plan_not_available")
    assert stack.untouched


@pytest.mark.parametrize("name", ["Accept-Profile", "Content-Profile"])
@pytest.mark.parametrize(
    "schema", ["private", "auth", "PUBLIC", "public,private", "pg_catalog", "__proto__", ""]
)
async def test_the_schema_is_the_gateways_choice(stack, name, schema):
    answer = await stack.call("GET", "/rest/v1/customers", headers={name: schema})
    assert answer.status == 406
    assert answer.json["code"] == "PGRST106"
    assert "private" not in answer.body.decode()
    assert stack.untouched


async def test_the_gateway_sets_the_profile(stack):
    for method in ("GET", "HEAD"):
        await stack.call(method, "/rest/v1/customers", headers={"Accept-Profile": "public"})
        sent = stack.rest.last.headers
        assert sent.getall("Accept-Profile") == ["public"]
        assert "Content-Profile" not in sent
    await stack.call("POST", "/rest/v1/customers", json={})
    sent = stack.rest.last.headers
    assert sent.getall("Content-Profile") == ["public"]
    assert "Accept-Profile" not in sent


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?&",
        "?select=id",
        "?limit=1&order=id&offset=0",
        "?columns=name",
        "?on_conflict=id",
        "?calls.id=eq.99",
        "?calls.id=eq.99&select=*,calls(*)",
        "?calls.or=(id.eq.1)",
        "?%73elect=id",
        "?sel%65ct=id&lim%69t=1",
    ],
)
async def test_changing_rows_needs_a_filter(stack, method, query):
    answer = await stack.call(method, f"/rest/v1/customers{query}", json={"name": "x"})
    assert (answer.status, answer.reason) == (400, "filter_required")
    assert "id=not.is.null" in answer.json["hint"]
    assert stack.untouched


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    "query",
    ["?id=eq.1", "?or=(id.eq.1,id.eq.2)", "?not.and=(a.eq.1,b.eq.2)", "?id=not.is.null&select=id"],
)
async def test_changing_filtered_rows(stack, method, query):
    answer = await stack.call(method, f"/rest/v1/customers{query}", json={"name": "x"})
    assert answer.status == 200
    assert stack.rest.last.target == f"/customers{query}"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/rest/v1/rpc/log_call", "GET, HEAD, POST, OPTIONS"),
        ("PATCH", "/rest/v1/rpc/log_call?a=eq.1", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/rest/v1/rpc/log_call?a=eq.1", "GET, HEAD, POST, OPTIONS"),
        ("TRACE", "/rest/v1/customers", "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS"),
    ],
)
async def test_methods(stack, method, path, allowed):
    answer = await stack.call(method, path)
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed
    assert stack.untouched


def nested(depth: int) -> str:
    return "id" if depth == 0 else f"id,t{depth}({nested(depth - 1)})"


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        (nested(4), None),
        (nested(5), "embed_too_deep"),
        (nested(12), "embed_too_deep"),
        ("a(b(c(d(count()))))", None),
        ("a(b(c(d(amount.sum(),e(id)))))", "embed_too_deep"),
        (",".join(f"t{n}(id)" for n in range(20)), None),
        (",".join(f"t{n}(id)" for n in range(21)), "too_many_embeds"),
        (",".join(f"c{n}" for n in range(300)), None),
        (",".join(f"c{n}" for n in range(301)), "too_many_columns"),
        ('"odd name",id', None),
        ('"a,b"', "malformed_select"),
        ('id,"a(b"', "malformed_select"),
        (r'"a\"b"', "malformed_select"),
        ('id,"', "malformed_select"),
        ('data->>",a(b(c(d(e(id))))),data->>"', "malformed_select"),
        ('a(b(c(d(id,"))))",e(id)))))', "malformed_select"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_select_may_ask(stack, select, reason, method):
    for spelled in (select, quote(select)):
        target = f"/rest/v1/customers?select={spelled}".replace('"', "%22").replace(" ", "%20")
        answer = await stack.call(method, target.replace("\\", "%5C"))
        if reason is None:
            assert answer.status == 200
        else:
            assert (answer.status, answer.reason, answer.field) == (400, reason, "select")
    assert stack.untouched is (reason is not None)


async def test_columns_are_bounded_too(stack):
    target = "/rest/v1/customers?columns=" + ",".join("c" for _ in range(301))
    answer = await stack.call("POST", target, json=[])
    assert (answer.reason, answer.field) == ("too_many_columns", "columns")


@pytest.mark.parametrize("name", ["select", "order", "limit", "offset", "columns", "on_conflict"])
async def test_parameters_that_decide_appear_once(stack, name):
    encoded = f"%{ord(name[0]):02x}{name[1:]}"
    for second in (name, encoded):
        answer = await stack.call("GET", f"/rest/v1/customers?{name}=id&a=eq.1&{second}=b")
        assert (answer.reason, answer.field) == ("duplicate_parameter", name)
    assert stack.untouched


async def test_semicolons_do_not_separate(stack):
    answer = await stack.call("GET", "/rest/v1/customers?limit=1;select=a(b(c(d(e(f)))))")
    assert (answer.status, answer.reason) == (400, "malformed_url")
    assert stack.untouched
    answer = await stack.call("GET", "/rest/v1/customers?name=eq.a%3Bb")
    assert answer.status == 200


async def test_repeated_filters_are_fine_and_bounded(stack):
    target = "/rest/v1/customers?" + "&".join("a=gt.1" for _ in range(100))
    assert (await stack.call("GET", target)).status == 200
    answer = await stack.call("GET", target + "&a=lt.9")
    assert answer.reason == "too_many_parameters"


async def test_path_query_and_body_arrive_as_sent(stack):
    target = "/rpc/search_customers?query=%28415%29+555%2D0123&x=in.(%22a,b%22,c)"
    target += "&select=id,full%20name"
    body = '{"name": "José \\u00e9 \\\\u0000 ✓"}'.encode()
    answer = await stack.call(
        "POST",
        "/rest/v1" + target,
        data=body,
        headers={"Content-Type": "application/json", "Idempotency-Key": "k-1"},
    )
    assert answer.status == 200
    seen = stack.rest.last
    assert (seen.method, seen.target, seen.body) == ("POST", target, body)
    assert seen.headers["Content-Length"] == str(len(body))
    assert seen.headers["Idempotency-Key"] == "k-1"


async def test_only_known_headers_reach_postgrest(stack):
    sent = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Cookie": "a=b",
        "Range": "0-9",
        "Range-Unit": "items",
        "X-Client-Info": "supabase-js/2",
        "X-Unknown": "1",
        "Origin": "http://app.example",
        "Referer": "http://app.example/secret",
    }
    await stack.call("GET", "/rest/v1/customers", headers=sent)
    got = {name.lower(): value for name, value in stack.rest.last.headers.items()}
    assert got.keys() - {"user-agent"} == {
        "host", "accept", "range", "range-unit", "x-client-info",
        "authorization", "accept-profile", "x-request-id", "x-forwarded-for",
    }  # fmt: skip
    assert got["range"] == "0-9"


@pytest.mark.parametrize(
    ("kind", "body", "refused"),
    [
        ("application/json", rb'{"a":"x\u0000y"}', True),
        ("application/json", rb'{"a":"\\\u0000"}', True),
        ("application/json", rb'{"a":"\\u0000"}', False),
        ("application/json", rb'{"a":"\\\\u0000"}', False),
        ("application/json", rb'{"a":"\\\\\u0000"}', True),
        ("application/json", rb'{"\u0000":1}', True),
        ("application/json; charset=utf-8", rb'{"a":"\u0000"}', True),
        ("APPLICATION/JSON", rb'{"a":"\u0000"}', True),
        ("", rb'{"a":"\u0000"}', True),
        ("application/vnd.pgrst.object+json", rb'{"a":"\u0000"}', True),
        ("application/json", rb'{"a":"\u00001"}', True),
        ("application/json", b'{"a":"\0"}', True),
        ("text/csv", b"a\n\0", True),
        ("text/csv", rb"a,\u0000", False),
        ("application/x-www-form-urlencoded", b"a=x%00", True),
        ("application/octet-stream", b"\0\1", False),
    ],
)
async def test_nul_never_reaches_postgres(stack, kind, body, refused):
    answer = await stack.call(
        "POST", "/rest/v1/customers", data=body, headers={"Content-Type": kind}
    )
    if refused:
        assert (answer.status, answer.reason, answer.field) == (400, "nul_in_body", "body")
        assert stack.untouched
    else:
        assert answer.status == 200
        assert stack.rest.last.body == body


async def test_backslashes_without_end_cost_no_time(stack):
    body = b'"' + b"\\" * 1_000_000 + rb"\u0000" + b'"'
    answer = await stack.call(
        "POST", "/rest/v1/customers", data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status in (200, 400)


async def test_compressed_bodies(stack):
    answer = await stack.call(
        "POST", "/rest/v1/customers", data=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}
    )
    assert (answer.status, answer.reason) == (415, "body_compressed")
    assert stack.untouched


async def test_a_body_of_get_is_not_passed_on(stack):
    answer = await stack.call("GET", "/rest/v1/customers", json={})
    assert answer.status == 200
    assert stack.rest.last.body == b""
    assert "Content-Type" in stack.rest.last.headers


async def test_success_keeps_what_clients_read(stack):
    stack.rest.answers(
        206,
        [{"id": 1}],
        {
            "Content-Range": "0-0/100",
            "Content-Location": "/customers?limit=1",
            "Preference-Applied": "count=exact",
            "Server": "postgrest/12",
            "Server-Timing": "plan;dur=1",
            "X-Powered-By": "x",
            "Set-Cookie": "a=b",
            "Access-Control-Allow-Origin": "https://internal",
        },
    )
    answer = await stack.call("GET", "/rest/v1/customers?limit=1")
    assert answer.status == 206
    assert json.loads(answer.body) == [{"id": 1}]
    headers = answer.headers
    assert headers["Content-Range"] == "0-0/100"
    assert headers["Preference-Applied"] == "count=exact"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers.getall("Server") == ["tenantry"]
    assert headers.getall("Access-Control-Allow-Origin") == ["*"]
    assert len(headers.getall("Date")) == 1
    assert not {"Server-Timing", "X-Powered-By", "Set-Cookie"} & {*headers}
