"""What browsers need: CORS for the API, and the console with a policy that holds."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example"
ROUTES = ["/rest/v1/customers", "/auth/v1/token", "/storage/v1/object/a/b", "/realtime/v1/x"]


@pytest.mark.parametrize("path", ROUTES)
async def test_preflight_needs_no_key(stack, path):
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,x-app-version,cookie,x-(bad",
    }
    answer = await stack.call("OPTIONS", path, None, asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    methods = {one.strip() for one in answer.headers["Access-Control-Allow-Methods"].split(",")}
    assert methods >= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    allowed = {one.strip() for one in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {
        "authorization", "apikey", "x-client-info", "content-type", "prefer", "accept-profile",
        "content-profile", "range", "idempotency-key", "x-request-id", "x-retry-count",
        "traceparent", "tracestate", "baggage", "x-upsert", "x-app-version",
    }  # fmt: skip
    assert not allowed & {"cookie", "x-(bad", "host", ""}
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert stack.untouched


@pytest.mark.parametrize("path", ROUTES)
async def test_refusals_can_be_read_by_the_page(stack, path):
    answer = await stack.call("GET", path, None, {"Origin": ORIGIN})
    assert answer.status in (401, 501)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    exposed = {one.strip() for one in answer.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed >= {"Content-Range", "X-Request-Id", "Retry-After"}


async def test_malformed_heads_can_be_read_too(stack):
    answer = await stack.raw_request(
        ["GET /rest/v1/a HTTP/1.1", "Host: x", "Prefer: a", "Prefer: b", f"Origin: {ORIGIN}"]
    )
    assert answer.status == 400
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_an_allow_list_of_origins(new_stack):
    stack = await new_stack(cors_origins=(ORIGIN, "http://localhost:5173"))
    for origin, allowed in (
        (ORIGIN, True),
        ("http://localhost:5173", True),
        ("https://evil.example", False),
        ("https://app.example.evil", False),
        ("null", False),
        (None, False),
    ):
        headers = {"Origin": origin} if origin else {}
        for method in ("OPTIONS", "GET"):
            answer = await stack.call(method, "/rest/v1/customers", headers=headers)
            assert answer.headers.get("Access-Control-Allow-Origin") == (
                origin if allowed else None
            )
            assert "Origin" in answer.headers["Vary"]


async def test_streamed_answers_carry_cors_too(stack):
    stack.rest.answers(200, b"[" + b"1," * 200_000 + b"1]")
    answer = await stack.call("GET", "/rest/v1/customers", headers={"Origin": ORIGIN})
    assert len(answer.body) == 400_003
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["X-Request-Id"]


@pytest.fixture
def console(tmp_path):
    root = tmp_path / "console"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<h1>Tenantry</h1>")
    (root / "assets" / "app.js").write_text("export const a = 'é'")
    (root / "assets" / "style.css").write_text("h1 {}")
    (root / "assets" / "index.html").write_text("inner")
    (root / ".env").write_text("SECRET")
    (root / "notes.py").write_text("SECRET")
    (tmp_path / "secret.txt").write_text("SECRET")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "assets" / ".hidden.js").write_text("SECRET")
    return root


async def test_the_console_is_a_page_that_runs_only_its_own_scripts(new_stack, console):
    stack = await new_stack(console_dir=console)
    for path in ("/", "/index.html"):
        answer = await stack.call("GET", path, None)
        assert (answer.status, answer.body) == (200, b"<h1>Tenantry</h1>")
        headers = answer.headers
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
        assert headers.getall("Server") == ["tenantry"]
    head = await stack.call("HEAD", "/", None)
    assert (head.status, head.body) == (200, b"")


async def test_assets_have_a_type_and_are_revalidated(new_stack, console):
    stack = await new_stack(console_dir=console)
    answer = await stack.call("GET", "/assets/app.js", None)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": answer.headers["ETag"]}
    assert (await stack.call("GET", "/assets/app.js", None, again)).status == 304
    assert (
        (await stack.call("GET", "/assets/style.css", None))
        .headers["Content-Type"]
        .startswith("text/css")
    )
    assert (await stack.call("GET", "/assets/", None)).body == b"inner"


@pytest.mark.parametrize(
    "path",
    ["/.env", "/notes.py", "/link.txt", "/assets/.hidden.js", "/../secret.txt",
     "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt", "/assets%5c..%5c..%5csecret.txt",
     "/assets", "/nothing.js",
     "/secret.txt", "/index.html/", "/index.html%00.js", "/" + "x" * 5000, "/assets/app.js/x"],
)  # fmt: skip
async def test_nothing_else_is_served(new_stack, console, path):
    stack = await new_stack(console_dir=console)
    answer = await stack.raw_request([f"GET {path} HTTP/1.1", "Host: x"])
    assert answer.status in (400, 404)
    assert b"SECRET" not in answer.body


async def test_the_console_is_only_read(new_stack, console):
    stack = await new_stack(console_dir=console)
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await stack.call(method, "/index.html", None)
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"


async def test_the_console_learns_the_publishable_key_and_no_other(new_stack, console, tmp_path):
    library = tmp_path / "supabase.js"
    library.write_text("var supabase")
    stack = await new_stack(console_dir=console, console_supabase_js=library)
    answer = await stack.call("GET", "/config.json", None)
    assert answer.json == {"publishable_key": stack.keys["publishable_key"]}
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = await stack.call("GET", "/vendor/supabase.js", None)
    assert (answer.status, answer.body) == (200, b"var supabase")
    assert answer.headers["Content-Type"].startswith("text/javascript")
    for path in ("/vendor/", "/vendor/other.js", "/vendor/../config.json"):
        assert (await stack.call("GET", path, None)).status in (400, 404)


async def test_without_a_console_there_is_no_config_and_no_library(new_stack, tmp_path):
    stack = await new_stack(console_supabase_js=tmp_path / "missing.js")
    for path in ("/config.json", "/vendor/supabase.js"):
        answer = await stack.call("GET", path, None)
        assert (answer.status, answer.reason) == (404, "not_found")


async def test_a_console_that_is_not_there(new_stack, tmp_path):
    stack = await new_stack(console_dir=tmp_path / "missing")
    answer = await stack.call("GET", "/", None)
    assert (answer.status, answer.reason) == (404, "not_found")
