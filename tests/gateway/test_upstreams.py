"""Services that are down, slow or broken, and what each client library then shows."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from aiohttp import web

pytestmark = pytest.mark.anyio

ROUTES = {
    "/rest/v1/customers": "rest",
    "/auth/v1/user": "lite",
    "/storage/v1/bucket": "lite",
    "/functions/v1/hello": "functions",
}


def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("path", ROUTES)
async def test_a_service_that_is_down(new_stack, path):
    stack = await new_stack(postgrest_url=nobody(), auth_url=nobody(), functions_url=nobody())
    answer = await stack.call("GET", path, "service_role_key")
    assert (answer.status, answer.reason) == (503, "service_unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", ROUTES)
async def test_a_service_that_does_not_answer(new_stack, path):
    stack = await new_stack(
        answer_seconds=0.2, storage_answer_seconds=0.2, functions_answer_seconds=0.2
    )

    async def sleep(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(10)
        return web.Response()

    getattr(stack, ROUTES[path]).answer = sleep
    started = time.monotonic()
    answer = await stack.call("GET", path, "service_role_key")
    assert (answer.status, answer.reason) == (504, "service_timeout")
    assert time.monotonic() - started < 2


async def test_a_slow_upload_is_not_a_slow_answer(new_stack):
    stack = await new_stack(functions_answer_seconds=0.4)

    async def body():
        for _ in range(6):
            await asyncio.sleep(0.15)
            yield b"x"

    answer = await stack.call("POST", "/functions/v1/hello", data=body())
    assert answer.status == 200
    assert stack.functions.last.body == b"xxxxxx"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_service_that_hangs_up(stack, method):
    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    stack.rest.answer = hang_up
    answer = await stack.call(method, "/rest/v1/customers?id=eq.1", json={})
    assert (answer.status, answer.reason) == (502, "service_disconnected")
    if method != "GET":
        # It may have acted: once is all it may be asked.
        assert len(stack.rest.seen) == 1


async def test_a_connection_that_went_stale_is_replaced(stack):
    await stack.call("GET", "/rest/v1/customers")

    async def closing(request: web.BaseRequest) -> web.StreamResponse:
        response = web.json_response([])
        response.force_close()
        return response

    stack.rest.answer = closing
    for _ in range(5):
        assert (await stack.call("POST", "/rest/v1/customers", json={})).status == 200


@pytest.mark.parametrize(
    "garbage",
    [b"nonsense\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b""],
)  # fmt: skip
async def test_a_service_that_speaks_nonsense(new_stack, garbage):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stack = await new_stack(postgrest_url=origin)
        answer = await stack.call("GET", "/rest/v1/customers")
        assert (answer.status, answer.reason) == (502, "service_disconnected")
        assert b"nonsense" not in answer.body


async def test_each_client_finds_its_words(new_stack):
    stack = await new_stack(postgrest_url=nobody(), auth_url=nobody(), functions_url=nobody())
    rest = (await stack.call("GET", "/rest/v1/customers")).json
    assert rest["message"]
    assert rest["hint"]
    assert rest["code"] == "GW503"
    auth = (await stack.call("GET", "/auth/v1/user")).json
    assert auth["msg"] == auth["message"]
    assert auth["error_code"] == "service_unavailable"
    storage = (await stack.call("GET", "/storage/v1/bucket", "secret_key")).json
    assert storage["statusCode"] == "503"
    assert storage["error"] == "Service Unavailable"
    functions = (await stack.call("GET", "/functions/v1/hello")).json
    assert functions["error"].startswith("The functions service is not available")
    assert all(body["request_id"] for body in (rest, auth, storage, functions))


async def test_redirects_belong_to_the_client(stack):
    async def redirect(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=303, headers={"Location": "https://app.example/#token=1"})

    stack.lite.answer = redirect
    answer = await stack.call("GET", "/auth/v1/verify?token=x&type=signup", None)
    assert (answer.status, answer.headers["Location"]) == (303, "https://app.example/#token=1")
    assert len(stack.lite.seen) == 1


async def test_the_services_reason_phrase_is_not_repeated(stack):
    async def talkative(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(
            status=404, reason="secret words", body=b'{"code":"PT404","message":"m"}'
        )

    stack.rest.answer = talkative
    received = await stack.raw(
        f"GET /rest/v1/x HTTP/1.1\r\nHost: x\r\napikey: {stack.keys['publishable_key']}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert received.splitlines()[0] == b"HTTP/1.1 404 Not Found"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(stack, status):
    async def empty(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"ETag": '"1"'})

    for service in stack.services:
        service.answer = empty
    for path in ROUTES:
        answer = await stack.call("GET", path, "secret_key")
        assert (answer.status, answer.body) == (status, b"")


async def test_head(stack):
    async def sized(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": "1234", "Content-Range": "0-0/7"})

    stack.functions.answer = stack.rest.answer = sized
    for path in ("/rest/v1/customers", "/functions/v1/hello"):
        answer = await stack.call("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Length"] == "1234"
        assert answer.headers["Content-Range"] == "0-0/7"
    stack.rest.answers(404, {"code": "42P01", "message": "m"})
    answer = await stack.call("HEAD", "/rest/v1/nothing")
    assert (answer.status, answer.body) == (404, b"")


async def test_compressed_answers_pass_untouched(stack):
    stack.functions.answers(200, b"\x1f\x8bnot really gzip", {"Content-Encoding": "gzip"})
    answer = await stack.call("GET", "/functions/v1/x", headers={"Accept-Encoding": "gzip"})
    assert answer.body == b"\x1f\x8bnot really gzip"
    assert answer.headers["Content-Encoding"] == "gzip"
