"""Auth, Storage, functions, realtime, health, metrics: what is particular to each."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.anyio

PUBLISHABLE, SECRET = "sb_publishable_that_lite_knows_1", "sb_secret_that_lite_knows_00001"


# Auth


@pytest.mark.parametrize(
    ("key", "translated"),
    [("publishable_key", PUBLISHABLE), ("anon_key", PUBLISHABLE), ("secret_key", SECRET),
     ("service_role_key", SECRET)],
)  # fmt: skip
@pytest.mark.parametrize("bearer", [True, False])
async def test_auth_gets_the_opaque_key_it_knows(stack, key, translated, bearer):
    headers = {"Authorization": f"Bearer {stack.keys[key]}"} if bearer else {}
    answer = await stack.call("POST", "/auth/v1/signup?x=1", key, headers, json={"email": "a@b.c"})
    assert answer.status == 200
    seen = stack.lite.last
    assert seen.target == "/auth/v1/signup?x=1"
    assert seen.body == b'{"email": "a@b.c"}'
    assert seen.headers.getall("apikey") == [translated]
    assert "Authorization" not in seen.headers


async def test_auth_needs_a_key_but_for_links_and_redirects(stack):
    for path in (
        "signup",
        "user",
        "verifyx",
        "token?grant_type=password",
        "authorize/x",
        "verify/",
    ):
        answer = await stack.call("GET", f"/auth/v1/{path}", None)
        assert answer.status == 401, path
        assert answer.json["msg"] == "No API key found in request"
    assert stack.untouched
    for path in (
        "verify?token=x",
        "callback",
        "authorize?provider=github",
        ".well-known/jwks.json",
    ):
        answer = await stack.call("GET", f"/auth/v1/{path}", None)
        assert answer.status == 200, path
        assert "apikey" not in stack.lite.last.headers


async def test_auth_keys_in_the_url_do_not_count(stack):
    target = f"/auth/v1/user?apikey={stack.keys['secret_key']}"
    assert (await stack.call("GET", target, None)).status == 401
    assert stack.untouched


async def test_auth_sees_users_tokens_even_expired_ones_but_no_others(stack):
    now = int(time.time())
    for token in (stack.token(), stack.token(iat=now - 7200, exp=now - 3600)):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await stack.call("POST", "/auth/v1/logout", headers=headers)).status == 200
        assert stack.lite.last.headers["Authorization"] == f"Bearer {token}"
    stack.lite.seen.clear()
    bad = [stack.token(exp=None), stack.token(role="service_role"), stack.token(secret="x" * 64)]
    for token in bad:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await stack.call("GET", "/auth/v1/user", headers=headers)
        assert answer.status == 401
        assert answer.json["error_code"].startswith("bad_jwt")
    assert stack.untouched


async def test_auth_answers_pass_but_for_their_cors(stack):
    stack.lite.answers(
        400,
        {"code": 400, "error_code": "validation_failed", "msg": "no"},
        {"Access-Control-Allow-Origin": "https://inner", "X-Supabase-Api-Version": "2024-01-01"},
    )
    answer = await stack.call("POST", "/auth/v1/signup", json={})
    assert answer.json == {"code": 400, "error_code": "validation_failed", "msg": "no"}
    assert answer.headers.getall("Access-Control-Allow-Origin") == ["*"]
    assert answer.headers["X-Supabase-Api-Version"] == "2024-01-01"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/auth/v1/signup", "/storage/v1/bucket"])
async def test_a_service_that_breaks_says_nothing_of_its_inside(stack, path):
    for status in (500, 503, 599):
        stack.lite.answers(status, {"message": "relation auth.users: select * from secret"})
        answer = await stack.call("POST", path, "secret_key", json={})
        assert answer.status == status
        assert b"secret" not in answer.body
        assert answer.reason == "unexpected_failure"
        assert answer.json["request_id"] == answer.headers["X-Request-Id"]


# Storage


async def test_private_objects_are_for_the_service_alone(stack):
    user = {"Authorization": f"Bearer {stack.token()}"}
    for key, headers in (
        ("publishable_key", {}),
        ("publishable_key", user),
        ("secret_key", user),
    ):
        for method, path in (("GET", "object/a/b"), ("POST", "object/a/b"), ("GET", "bucket")):
            answer = await stack.call(method, f"/storage/v1/{path}", key, headers)
            assert (answer.status, answer.reason) == (403, "storage_not_for_users")
    for method, path in (
        ("GET", "object/a/b"),
        ("POST", "object/public/a/b"),
        ("DELETE", "object/public/a/b"),
        ("GET", "object/sign/a/b"),
        ("POST", "object/sign/a/b?token=x"),
        ("PUT", "object/upload/sign/a/b"),
        ("PUT", "object/a/b?token=x"),
        ("GET", "object/public/"),
    ):
        answer = await stack.call(method, f"/storage/v1/{path}", None)
        assert answer.status == 401, path
        assert answer.json["statusCode"] == "401"
    assert stack.untouched
    answer = await stack.call("POST", "/storage/v1/object/a/b", "service_role_key", data=b"file")
    assert answer.status == 200
    assert stack.lite.last.headers["apikey"] == SECRET
    assert stack.lite.last.body == b"file"


async def test_public_and_signed_objects_need_no_key(stack):
    for method, path in (
        ("GET", "object/public/a/b.png"),
        ("HEAD", "object/public/a/b.png"),
        ("GET", "object/info/public/a/b.png"),
        ("GET", "render/image/public/a/b.png?width=10"),
        ("GET", "object/sign/a/b?token=x"),
        ("PUT", "object/upload/sign/a/b?token=x"),
    ):
        answer = await stack.call(method, f"/storage/v1/{path}", None)
        assert answer.status == 200, path
        assert not {"apikey", "Authorization"} & {*stack.lite.last.headers}


async def test_storage_may_be_opened_to_users(new_stack):
    stack = await new_stack(storage_access="users")
    token = stack.token()
    headers = {"Authorization": f"Bearer {token}"}
    assert (await stack.call("GET", "/storage/v1/bucket", headers=headers)).status == 200
    assert stack.lite.last.headers["apikey"] == PUBLISHABLE
    assert stack.lite.last.headers["Authorization"] == f"Bearer {token}"
    bad = {"Authorization": f"Bearer {stack.token(exp=None)}"}
    assert (await stack.call("GET", "/storage/v1/bucket", headers=bad)).status == 401
    assert (await stack.call("GET", "/storage/v1/bucket", None)).status == 401


async def test_uploaded_pages_cannot_run(stack):
    stack.lite.answers(
        200,
        b"<script>alert(1)</script>",
        {"Content-Type": "text/html", "Content-Security-Policy": "default-src *"},
    )
    answer = await stack.call("GET", "/storage/v1/object/public/a/x.html", None)
    policy = answer.headers.getall("Content-Security-Policy")
    assert len(policy) == 1
    assert policy[0].startswith("sandbox; default-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_path_tricks_do_not_make_an_object_public(stack):
    for path in (
        "object/public/../a/b",
        "object/public/%2e%2e/a/b",
        "object/public//../a/b",
        "object/public/a%2f..%2f..%2fa/b",
        "object/publicx/a/b",
        "/object/public/a/b",
    ):
        answer = await stack.raw_request([f"GET /storage/v1/{path} HTTP/1.1", "Host: x"], key=False)
        assert answer.status in (400, 401), path
    assert stack.untouched


# Functions


async def test_a_webhook_arrives_byte_for_byte(stack):
    body = b"From=%2B14155550123&Body=caf%E9%00&\xff\xfe"
    head = [
        "POST /functions/v1/twilio-messaging/1b6f?x=1&y=%20a+b&empty= HTTP/1.1",
        "Host: hooks.example",
        "X-Twilio-Signature: 0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
        "I-Twilio-Idempotency-Token: t-1",
        "Stripe-Signature: t=1,v1=ab,v1=cd",
        "webhook-id: msg_1",
        "Content-Type: application/x-www-form-urlencoded",
        "Authorization: Basic dXNlcjpwYXNz",
        "Cookie: a=b",
        f"Content-Length: {len(body)}",
    ]
    answer = await stack.raw_request(head, body, key=False)
    assert answer.status == 200
    seen = stack.functions.last
    assert seen.target == "/functions/v1/twilio-messaging/1b6f?x=1&y=%20a+b&empty="
    assert seen.body == body
    for line in head[2:]:
        name, _, value = line.partition(": ")
        assert seen.headers.getall(name) == [value]


async def test_functions_decide_about_keys_and_cors_themselves(stack):
    stack.functions.answers(200, {}, {"Access-Control-Allow-Origin": "https://app.example"})
    token = stack.token(exp=None)
    headers = {"Authorization": f"Bearer {token}", "Origin": "https://app.example"}
    for key in (None, "publishable_key", "secret_key"):
        answer = await stack.call("POST", "/functions/v1/hello", key, headers)
        assert answer.headers.getall("Access-Control-Allow-Origin") == ["https://app.example"]
        seen = stack.functions.last.headers
        assert seen["Authorization"] == f"Bearer {token}"
        assert seen.get("apikey") == (stack.keys[key] if key else None)
    stack.functions.answers(200, {})
    answer = await stack.call("POST", "/functions/v1/twilio-voice/x", None)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    await stack.call("OPTIONS", "/functions/v1/hello", None)
    assert stack.functions.last.method == "OPTIONS"


async def test_what_a_function_answers_passes(stack):
    stack.functions.answers(
        422, {"error": "no", "code": "x"}, {"Set-Cookie": "a=b", "X-Relay-Error": "false"}
    )
    answer = await stack.call("POST", "/functions/v1/hello", None)
    assert (answer.status, answer.json) == (422, {"error": "no", "code": "x"})
    assert answer.headers["Set-Cookie"] == "a=b"


# The gateway's own


async def test_realtime_says_that_it_is_not_there(stack):
    for headers in ({}, {"Connection": "Upgrade", "Upgrade": "websocket"}):
        answer = await stack.call(
            "GET", f"/realtime/v1/websocket?apikey={stack.keys['anon_key']}", None, headers
        )
        assert (answer.status, answer.reason) == (501, "realtime_not_available")
    assert stack.untouched


async def test_health(stack):
    answer = await stack.call("GET", "/healthz", None)
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert (await stack.call("HEAD", "/healthz", None)).status == 200
    assert (await stack.call("POST", "/healthz", None)).status == 405


async def test_unknown_addresses(stack):
    for path in ("/", "/rest", "/rest/v2/a", "/graphql/v1", "/pg/tables", "/.env", "/healthz/x"):
        answer = await stack.call("GET", path, None)
        assert (answer.status, answer.reason) == (404, "not_found"), path
    assert stack.untouched


async def test_metrics_count_what_happened_and_name_nobody(stack):
    user = {"Authorization": f"Bearer {stack.token()}", "X-Request-Id": "my-request"}
    await stack.call("GET", "/rest/v1/customers?name=eq.Ana", headers=user)
    await stack.call("GET", "/rest/v1/customers?name=eq.Ana", None)
    await stack.call("PURGE", "/functions/v1/secret-name", None)
    await stack.raw(b"nonsense\r\n\r\n")
    text = (await stack.call("GET", "/metrics", None)).body.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['gateway_requests_total{method="GET",route="rest",status="200"}'] == "1.0"
    assert lines['gateway_requests_total{method="GET",route="rest",status="401"}'] == "1.0"
    assert lines['gateway_rejections_total{reason="no_api_key",route="rest"}'] == "1.0"
    assert lines['gateway_rejections_total{reason="malformed_http",route="console"}'] == "1.0"
    assert lines['gateway_request_seconds_count{route="rest"}'] == "2.0"
    assert lines['gateway_in_flight{route="rest"}'] == "0.0"
    assert lines['gateway_in_flight{route="metrics"}'] == "1.0"
    for private in (
        "Ana",
        "customers",
        "secret-name",
        "my-request",
        stack.user,
        "PURGE",
        "127.0.0.1",
    ):
        assert private not in text
    for key in stack.keys.values():
        assert key not in text
