"""Requests that mean two things: refused before any service sees them. Exact bytes on a socket."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio

GET = "GET /rest/v1/customers HTTP/1.1"
POST = "POST /rest/v1/customers HTTP/1.1"
HOST = "Host: x"

DUPLICATES = [
    ("Authorization", "Bearer a", "Bearer b"),
    ("authorization", "Bearer a", "Bearer a"),
    ("Prefer", "count=planned", "return=minimal"),
    ("prefer", "return=minimal", "count=planned"),
    ("Accept", "application/vnd.pgrst.plan", "application/json"),
    ("Accept-Profile", "public", "private"),
    ("Content-Profile", "public", "private"),
    ("Host", "x", "y"),
    ("Content-Type", "application/json", "text/csv"),
    ("Range", "0-1", "0-9"),
    ("Range-Unit", "items", "bytes"),
    ("X-Request-Id", "a", "b"),
    ("X-Anything", "a", "b"),
    ("Idempotency-Key", "a", "b"),
    ("Origin", "http://a", "http://b"),
    ("If-Match", "a", "b"),
    ("Expect", "100-continue", "100-continue"),
    ("Content-Encoding", "identity", "gzip"),
]


@pytest.mark.parametrize(("name", "first", "second"), DUPLICATES)
async def test_a_header_that_decides_appears_once(stack, name, first, second):
    lines = [GET, HOST, f"{name}: {first}", f"{name.upper()}: {second}"]
    answer = await stack.raw_request(lines)
    assert (answer.status, answer.reason) == (400, "duplicate_header")
    assert answer.field == name.lower()
    assert stack.untouched


async def test_the_librarys_name_may_repeat(stack):
    # supabase-py 2.34 says it twice after schema(); nobody acts on it.
    answer = await stack.raw_request([GET, HOST, "X-Client-Info: a", "X-Client-Info: b"])
    assert answer.status == 200
    assert stack.rest.last.headers.getall("X-Client-Info") == ["b"]


async def test_two_api_keys(stack):
    answer = await stack.raw_request([GET, HOST, "apikey: first"])  # and the real one
    assert (answer.status, answer.reason, answer.field) == (400, "duplicate_header", "apikey")
    assert stack.untouched


@pytest.mark.parametrize(
    "lines",
    [
        [POST, HOST, "Content-Length: 3", "Content-Length: 3"],
        [POST, HOST, "Content-Length: 3", "Content-Length: 4"],
        [POST, HOST, "Content-Length: 3, 4"],
        [POST, HOST, "Content-Length: +3"],
        [POST, HOST, "Content-Length: -3"],
        [POST, HOST, "Content-Length: 0x3"],
        [POST, HOST, "Content-Length: 3_0"],
        [POST, HOST, "Content-Length: ٣"],
        [POST, HOST, "Content-Length: 3", "Transfer-Encoding: chunked"],
        [POST, HOST, "Transfer-Encoding: chunked", "Content-Length: 3"],
        [POST, HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        [POST, HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        [POST, HOST, "Transfer-Encoding: chunked, identity"],
        [POST, HOST, "Transfer-Encoding: identity, chunked"],
        [POST, HOST, "Transfer-Encoding: gzip"],
        [POST, HOST, "Transfer-Encoding: xchunked"],
        [POST, HOST, "Transfer-Encoding : chunked"],
        [POST, HOST, "Transfer-Encoding:\x0bchunked"],
        [POST, HOST, 'Transfer-Encoding: "chunked"'],
        [POST, HOST, " Transfer-Encoding: chunked"],
        [POST, HOST, "Content-Length\x00: 3"],
        [POST, HOST, "Content Length: 3"],
        [POST, HOST, "X-A: b\n\nGET /rest/v1/secrets HTTP/1.1"],
        [POST, HOST, "X-A: b\x00c"],
        [POST, HOST, "X-A: b\rc"],
        [POST, HOST, ": nameless"],
        [POST, HOST, "no colon"],
        [POST, "Host : x"],
        [POST.replace("1.1", "1.1x"), HOST],
        [POST.replace("HTTP/1.1", "HTTP/2.0"), HOST],
        [POST.replace("HTTP/1.1", ""), HOST],
        ["PO ST /rest/v1/customers HTTP/1.1", HOST],
        ["POST\t/rest/v1/customers HTTP/1.1", HOST],
        ["POST /rest/v1/cust omers HTTP/1.1", HOST],
    ],
)
async def test_ambiguous_framing_and_broken_heads(stack, lines):
    answer = await stack.raw_request(lines, b"abc")
    assert answer.status == 400
    assert answer.json["code"] == "GW400"
    assert answer.headers["Server"] == "tenantry"
    assert stack.untouched


async def test_nothing_after_an_ambiguous_request_is_answered(stack):
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    received = await stack.raw(
        b"POST /rest/v1/customers HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled
    )
    assert received.count(b"HTTP/1.") == 1
    assert b" 400 Bad Request" in received.splitlines()[0]
    assert stack.untouched


async def test_a_request_hidden_in_a_body_stays_a_body(stack):
    hidden = b"GET /rest/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"{POST}\r\n{HOST}\r\napikey: {stack.keys['publishable_key']}\r\n"
    body = head.encode() + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(hidden) + hidden
    received = await stack.raw(body)
    assert received.count(b"HTTP/1.1 200") == 1
    assert [seen.body for seen in stack.rest.seen] == [hidden]


async def test_pipelined_requests_are_answered_in_order(stack):
    head = f"\r\n{HOST}\r\napikey: {stack.keys['publishable_key']}\r\n"
    one = f"GET /rest/v1/a HTTP/1.1{head}\r\n"
    two = f"GET /rest/v1/b HTTP/1.1{head}Connection: close\r\n\r\n"
    received = await stack.raw((one + two).encode())
    assert received.count(b"HTTP/1.1 200") == 2
    assert [seen.target for seen in stack.rest.seen] == ["/a", "/b"]


async def test_host_is_required_and_believed_by_nobody(stack):
    answer = await stack.raw_request([GET])
    assert (answer.status, answer.field) == (400, "host")
    assert stack.untouched
    await stack.raw_request([GET, "Host: evil.example"])
    assert stack.rest.last.headers["Host"] == stack.rest.origin.removeprefix("http://")


async def test_what_a_client_claims_about_earlier_hops_is_dropped(stack):
    claims = [
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-For: 5.6.7.8",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "Via: 1.1 evil",
        "X-Original-URL: /rest/v1/secrets",
        "X-HTTP-Method-Override: DELETE",
    ]
    for path in ("/rest/v1/customers", "/auth/v1/health", "/functions/v1/hello"):
        answer = await stack.raw_request([f"GET {path} HTTP/1.1", HOST, *claims])
        assert answer.status == 200
    for service in stack.services:
        sent = service.last.headers
        assert sent.getall("X-Forwarded-For") == ["127.0.0.1"]
        assert not {"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP"} & {*sent}
        assert not {"Via", "X-Original-URL", "X-HTTP-Method-Override"} & {*sent}


@pytest.mark.parametrize(
    "value", [b"X-A: \x01", b"X-A: a\x7f", b"X-A: \xff\xfe", b"User-Agent: caf\xe9"]
)
async def test_header_values_are_clean_text(stack, value):
    answer = await stack.raw_request([GET, HOST, value])
    assert answer.status == 400
    assert stack.untouched


async def test_header_text_beyond_ascii_passes(stack):
    answer = await stack.raw_request([GET, HOST, "User-Agent: café"])
    assert answer.status == 200
    assert stack.rest.last.headers["User-Agent"] == "café"


BAD_TARGETS = [
    "/rest/v1/customers?name=eq.Alpha%00zzz",
    "/rest/v1/customers?name%00=eq.a",
    "/rest/v1/custom%00ers",
    "/rest/v1/customers?name=eq.a%0Ab",
    "/rest/v1/customers?name=eq.a%1fb",
    "/rest/v1/customers?name=eq.a%7Fb",
    "/rest/v1/customers?name=eq.%zz",
    "/rest/v1/customers?name=eq.%",
    "/rest/v1/customers?name=eq.%4",
    "/rest/v1/customers?name=eq.%ff",
    "/rest/v1/customers?name=eq.%C0%80",
    "/rest/v1/customers?name=eq.%ED%A0%80",
    "/rest/v1/%ff",
    "/rest/v1/custom%zzers",
    "/rest/v1/customers%4",
    "/rest/v1/customers#x",
    "/rest/v1/../rest/v1/customers",
    "/rest/v1/./customers",
    "/rest/v1/%2e%2e/customers",
    "/rest/v1/.%2E/customers",
    "/rest/v1/rpc/..",
    "/rest/v1//customers",
    "//rest/v1/customers",
    "/rest/v1/rpc%2fecho",
    "/rest/v1/rpc%5Cecho",
    "/rest/v1/rpc\\echo",
    "http://evil.example/rest/v1/customers",
    "rest/v1/customers",
    "*",
    "/auth/v1/../../rest/v1/customers",
    "/storage/v1/object/public/a/..%2fb",
    "/functions/v1/hello?a=%00",
    "/functions/v1/../../rest/v1/customers",
]


@pytest.mark.parametrize("target", BAD_TARGETS)
async def test_bad_targets(stack, target):
    answer = await stack.raw_request([f"GET {target} HTTP/1.1", HOST])
    assert answer.status == 400
    assert stack.untouched


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x7f", b"\xc3\xa9", b"\x80"])
async def test_raw_bytes_in_the_target(stack, byte):
    answer = await stack.raw_request(
        [b"GET /rest/v1/customers?name=eq.a" + byte + b" HTTP/1.1", HOST]
    )
    assert answer.status == 400
    assert stack.untouched


async def test_a_prefix_in_disguise_reaches_no_service(stack):
    for target in (
        "/%72est/v1/customers",
        "/rest/v1%2Fcustomers",
        "/REST/v1/customers",
        "/rest/v2/x",
    ):
        answer = await stack.raw_request([f"GET {target} HTTP/1.1", HOST])
        assert answer.status in (400, 404), target
    assert stack.untouched


async def test_providers_may_send_line_breaks_and_old_charsets_to_functions(stack):
    target = "/functions/v1/twilio-messaging?Body=a%0Ab&Name=caf%e9"
    answer = await stack.raw_request([f"GET {target} HTTP/1.1", HOST])
    assert answer.status == 200
    assert stack.functions.last.target == target


@pytest.mark.parametrize(("length", "status"), [(8192, 200), (8193, 414), (12_000, 414)])
async def test_url_length(stack, length, status):
    target = "/rest/v1/customers?a=eq."
    target += "x" * (length - len(target))
    answer = await stack.raw_request([f"GET {target} HTTP/1.1", HOST])
    assert answer.status == status
    if status == 414:
        assert "8192 bytes" in answer.json["message"]
        assert stack.untouched


async def test_absurd_heads_are_cut_off(stack):
    answer = await stack.raw_request([f"GET /{'x' * 20_000} HTTP/1.1", HOST])
    assert answer.status in (400, 431)
    answer = await stack.raw_request([GET, HOST, f"X-A: {'x' * 20_000}"])
    assert answer.status in (400, 431)
    answer = await stack.raw_request([GET, HOST, *(f"H{number}: a" for number in range(300))])
    assert answer.status in (400, 431)
    assert stack.untouched


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "BREW", "get", "M-SEARCH"])
async def test_unknown_methods(stack, method):
    target = "x:1" if method == "CONNECT" else "/rest/v1/customers"
    answer = await stack.raw_request([f"{method} {target} HTTP/1.1", HOST])
    assert answer.status in (400, 405)
    assert stack.untouched


async def test_request_ids(stack):
    answer = await stack.call("GET", "/rest/v1/customers", headers={"X-Request-Id": "mine-1.2_3"})
    assert answer.headers["X-Request-Id"] == "mine-1.2_3"
    assert stack.rest.last.headers.getall("X-Request-Id") == ["mine-1.2_3"]
    for bad in ("", "-x", "a b", "x" * 129, "<script>", "a\tb"):
        answer = await stack.call("GET", "/rest/v1/customers", headers={"X-Request-Id": bad})
        made = answer.headers["X-Request-Id"]
        assert len(made) == 32
        assert stack.rest.last.headers["X-Request-Id"] == made
    refused = await stack.call("GET", "/rest/v1/customers", None)
    assert refused.json["request_id"] == refused.headers["X-Request-Id"]


async def test_http_1_0_is_served_without_chunks(stack):
    key = stack.keys["publishable_key"]
    received = await stack.raw(f"GET /rest/v1/customers HTTP/1.0\r\napikey: {key}\r\n\r\n".encode())
    assert received.startswith(b"HTTP/1.0 200")
    assert b"chunked" not in received


async def test_hop_by_hop_headers_stay_on_their_hop(stack):
    lines = [
        "GET /functions/v1/hello HTTP/1.1",
        HOST,
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Trailer: X-T",
        "Proxy-Authorization: Basic eA==",
        "Proxy-Connection: keep-alive",
        "Upgrade: h2c",
        "HTTP2-Settings: x",
        "X-Kept: yes",
    ]
    answer = await stack.raw_request(lines)
    assert answer.status == 200
    sent = {name.lower() for name in stack.functions.last.headers}
    assert "x-kept" in sent
    assert not sent & {"keep-alive", "te", "trailer", "proxy-authorization", "proxy-connection"}
    assert "upgrade" not in sent


async def test_headers_named_by_connection_are_dropped(stack):
    lines = [
        "GET /functions/v1/hello HTTP/1.1",
        HOST,
        "Connection: X-Private, close",
        "X-Private: 1",
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    await stack.raw(head)
    assert "X-Private" not in stack.functions.last.headers
