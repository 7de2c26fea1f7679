"""Bodies: limits, slowness, streaming both ways, and clients or services that go away."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time

import aiohttp
import pytest
from aiohttp import web

pytestmark = pytest.mark.anyio

MEGABYTE = 2**20


async def pieces(size: int, piece: int = 64 * 1024):
    """A body of unknown length, so that it is sent in chunks."""
    while size > 0:
        yield b"x" * min(piece, size)
        size -= piece


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("path", "limit"),
    [("/rest/v1/customers", "max_body_bytes"), ("/auth/v1/signup", "max_body_bytes"),
     ("/storage/v1/object/a/b", "storage_max_body_bytes"),
     ("/functions/v1/hello", "functions_max_body_bytes")],
)  # fmt: skip
async def test_the_largest_body(new_stack, path, limit, chunked):
    stack = await new_stack(**{limit: 100_000})
    for size, status in ((100_000, 200), (100_001, 413)):
        body = pieces(size) if chunked else b"x" * size
        answer = await stack.call("POST", path, "service_role_key", data=body)
        assert answer.status == status
        if status == 413:
            assert "100000 bytes" in answer.json["message"]
            assert (answer.reason, answer.field) == ("body_too_large", "body")


async def test_defaults(stack):
    for path, size in (("/rest/v1/customers", MEGABYTE), ("/functions/v1/hello", 25 * MEGABYTE)):
        head = f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size + 1}"
        answer = await stack.raw_request(list(head))
        assert answer.status == 413
    assert stack.untouched


async def test_a_refused_announcement_is_answered_without_reading(stack):
    started = time.monotonic()
    answer = await stack.raw_request(
        ["POST /rest/v1/customers HTTP/1.1", "Host: x", "Content-Length: 999999999999"]
    )
    assert answer.status == 413
    assert time.monotonic() - started < 4
    assert stack.untouched


async def test_expect_continue_is_answered_only_when_welcome(stack):
    def head(path: str, length: int, key: bool = True) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}"]
        lines += [f"apikey: {stack.keys['publishable_key']}"] if key else []
        return "\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode()

    for path in ("/rest/v1/customers", "/functions/v1/hello"):
        reader, writer = await asyncio.open_connection(*stack.address)
        writer.write(head(path, 2))
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(b"{}")
        assert await reader.readline() == b"\r\n"
        assert b" 200 " in await reader.readline()
        writer.close()
    assert [service.last.body for service in (stack.rest, stack.functions)] == [b"{}", b"{}"]
    for refused in (head("/rest/v1/customers", 9 * MEGABYTE), head("/rest/v1/customers", 2, False)):
        reader, writer = await asyncio.open_connection(*stack.address)
        writer.write(refused)
        first = await reader.readline()
        assert b" 413 " in first or b" 401 " in first
        writer.close()


async def test_an_unknown_expectation(stack):
    lines = ["POST /rest/v1/a HTTP/1.1", "Host: x", "Content-Length: 2", "Expect: miracles"]
    answer = await stack.raw_request(lines, b"{}")
    assert (answer.status, answer.field) == (417, "Expect")
    assert stack.untouched


@pytest.mark.parametrize("path", ["/rest/v1/customers", "/functions/v1/hello"])
@pytest.mark.parametrize("length", ["Content-Length: 10", "Content-Length: 300000", "chunked"])
async def test_a_body_that_never_comes(new_stack, path, length):
    stack = await new_stack(body_seconds=0.2, pause_seconds=0.2)
    framing = "Transfer-Encoding: chunked" if length == "chunked" else length
    answer = await stack.raw_request([f"POST {path} HTTP/1.1", "Host: x", framing], b"3\r\nabc")
    assert (answer.status, answer.reason) == (408, "body_too_slow")


@pytest.mark.parametrize("path", ["/rest/v1/customers", "/functions/v1/hello"])
async def test_slow_senders_do_not_hold_a_service(new_stack, path):
    stack = await new_stack(body_seconds=1, concurrency=1, concurrency_per_tenant=1)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\napikey: {stack.keys['publishable_key']}\r\n"
    _reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(head.encode() + b"Content-Length: 10\r\n\r\nabc")
    await writer.drain()
    answer = await asyncio.wait_for(stack.call("GET", path), 0.8)
    assert answer.status == 200
    writer.close()


@pytest.mark.parametrize(
    "broken",
    [b"zz\r\nabc\r\n0\r\n\r\n", b"3\r\nabcX", b"3;\x01\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n"],
)
@pytest.mark.parametrize("path", ["/rest/v1/customers", "/functions/v1/hello"])
async def test_broken_chunks(stack, path, broken):
    answer = await stack.raw_request(
        [f"POST {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked"], broken
    )
    assert answer.status == 400
    assert all(not seen.body.endswith(b"X") for seen in stack.functions.seen)
    assert not stack.rest.seen


async def test_a_large_upload_streams(new_stack):
    """Bytes arrive at the service while the client is still sending."""
    stack = await new_stack()
    size, arrived = 20 * MEGABYTE, asyncio.Event()
    stack.functions.reads_body = False
    received = hashlib.sha256()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        async for piece in request.content.iter_any():
            received.update(piece)
            arrived.set()
        return web.json_response({"sha256": received.hexdigest()})

    stack.functions.answer = answer
    sent = hashlib.sha256()

    async def body():
        for number in range(size // MEGABYTE):
            piece = bytes([number]) * MEGABYTE
            sent.update(piece)
            yield piece
            if number == 0:
                await asyncio.wait_for(arrived.wait(), 2)

    got = await stack.call("POST", "/functions/v1/hello", data=body())
    assert got.status == 200
    assert got.json["sha256"] == sent.hexdigest()


@pytest.mark.parametrize("known_length", [True, False])
@pytest.mark.parametrize(
    ("path", "service"), [("/rest/v1/customers", "rest"), ("/functions/v1/x", "functions")]
)
async def test_a_large_answer_streams_and_waits_for_its_reader(stack, path, service, known_length):
    size = 48 * MEGABYTE
    produced = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal produced
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if known_length:
            response.content_length = size
        await response.prepare(request)
        for _ in range(size // MEGABYTE):
            await response.write(b"y" * MEGABYTE)
            produced += MEGABYTE
        return response

    getattr(stack, service).answer = answer
    headers = {"apikey": stack.keys["publishable_key"]}
    async with stack.client.get(stack.origin + path, headers=headers) as response:
        assert response.status == 200
        assert ("Content-Length" in response.headers) is known_length
        await response.content.readexactly(MEGABYTE)
        await asyncio.sleep(0.3)
        # The reader has stopped; buffers of sockets aside, so has the service.
        assert produced < size // 2
        rest = 0
        async for piece in response.content.iter_any():
            rest += len(piece)
    assert rest == size - MEGABYTE


async def test_an_answer_in_pieces_arrives_in_pieces(stack):
    go_on = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.wait_for(go_on.wait(), 2)
        await response.write(b"data: 2\n\n")
        return response

    stack.functions.answer = answer
    async with stack.client.get(stack.origin + "/functions/v1/events") as response:
        assert await response.content.readany() == b"data: 1\n\n"
        go_on.set()
        assert await response.content.read() == b"data: 2\n\n"


@pytest.mark.parametrize(
    ("path", "service"), [("/rest/v1/customers", "rest"), ("/functions/v1/x", "functions")]
)
async def test_a_client_that_leaves_ends_the_work(new_stack, path, service):
    stack = await new_stack(concurrency=1, concurrency_per_tenant=1)
    started, ended = asyncio.Event(), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return web.json_response({})

    one = getattr(stack, service)
    one.answer = answer
    key = stack.keys["publishable_key"]
    _, writer = await asyncio.open_connection(*stack.address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\napikey: {key}\r\n\r\n".encode())
    await asyncio.wait_for(started.wait(), 2)
    writer.close()
    await asyncio.wait_for(ended.wait(), 2)
    one.answer = None
    assert (await stack.call("GET", path)).status == 200  # its place is free again


async def test_a_client_that_leaves_in_mid_upload(stack):
    stack.functions.reads_body = False
    started, failed = asyncio.Event(), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        started.set()
        try:
            await request.read()
        except BaseException:
            failed.set()
            raise
        return web.json_response({})

    stack.functions.answer = answer
    _, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"POST /functions/v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\nabc")
    await asyncio.wait_for(started.wait(), 2)
    writer.close()
    await asyncio.wait_for(failed.wait(), 2)
    stack.functions.answer, stack.functions.reads_body = None, True
    assert (await stack.call("GET", "/functions/v1/x")).status == 200


async def test_a_client_that_stops_reading_is_cut_off(new_stack):
    stack = await new_stack(pause_seconds=0.3, concurrency=1, concurrency_per_tenant=1)
    broken = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(b"z" * MEGABYTE)
        except BaseException:
            broken.set()
            raise
        return response

    stack.functions.answer = answer
    _, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"GET /functions/v1/x HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(broken.wait(), 5)
    writer.close()
    stack.functions.answer = None
    assert (await stack.call("GET", "/functions/v1/x")).status == 200


async def test_slow_readers_do_not_hold_postgrest(new_stack):
    stack = await new_stack(concurrency=1, concurrency_per_tenant=1, waiting_seconds=0.5)
    stack.rest.answers(200, b"[" + b"1," * 8 * MEGABYTE + b"1]")
    headers = {"apikey": stack.keys["publishable_key"]}
    async with stack.client.get(stack.origin + "/rest/v1/large", headers=headers) as unread:
        assert unread.status == 200
        stack.rest.answers(200, [])
        assert (await stack.call("GET", "/rest/v1/small")).status == 200
        assert len(await unread.read()) == 16 * MEGABYTE + 3


async def test_compressed_bodies_reach_functions_as_they_are(stack):
    body = gzip.compress(b"signed as sent")
    for data in (body, pieces_of(body)):
        answer = await stack.call(
            "POST", "/functions/v1/x", data=data, headers={"Content-Encoding": "gzip"}
        )
        assert answer.status == 200
        assert stack.functions.last.body == body
        assert stack.functions.last.headers["Content-Encoding"] == "gzip"


async def pieces_of(body: bytes):
    yield body


@pytest.mark.parametrize("known_length", [True, False])
@pytest.mark.parametrize("service", ["rest", "functions"])
async def test_an_answer_that_breaks_off_never_looks_complete(stack, service, known_length):
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if known_length:
            response.content_length = MEGABYTE
        await response.prepare(request)
        await response.write(b"a" * 200_000)
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    getattr(stack, service).answer = answer
    path = "/rest/v1/customers" if service == "rest" else "/functions/v1/x"
    headers = {"apikey": stack.keys["publishable_key"]}
    with pytest.raises(aiohttp.ClientError):
        async with stack.client.get(stack.origin + path, headers=headers) as response:
            await response.read()


async def test_a_small_answer_that_breaks_off_is_an_error(stack):
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    stack.rest.answer = answer
    answer_ = await stack.call("GET", "/rest/v1/customers")
    assert (answer_.status, answer_.reason) == (502, "service_disconnected")


async def test_an_early_answer_ends_an_upload(stack):
    stack.functions.reads_body = False

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.json_response({"error": "no such function"}, status=404)
        response.force_close()
        return response

    stack.functions.answer = answer
    got = await stack.call("POST", "/functions/v1/none", data=pieces(2 * MEGABYTE))
    assert got.status in (404, 502)
    stack.functions.answer, stack.functions.reads_body = None, True
    assert (await stack.call("POST", "/functions/v1/x", data=b"{}")).status == 200
    assert stack.functions.last.body == b"{}"


AMBIGUOUS = {
    "a field twice": (b'{"a": 1, "b": 2, "a": 3}', "more than once"),
    "twice in another spelling": (rb'{"name": 1, "n\u0061me": 2}', "more than once"),
    "twice within": (b'[{"custom": {"x": {"a": 1, "a": 1}}}]', "more than once"),
    "twice behind a long number": (
        b'{"n": ' + b"9" * 5000 + b', "a": 1, "a": 2}',
        "more than once",
    ),
    "NaN": (b'{"amount": NaN}', "NaN"),
    "Infinity": (b"[1, Infinity]", "NaN"),
    "-Infinity": (b'{"a": -Infinity}', "NaN"),
    "deep": (b"[" * 100_000, "too deeply"),
    "not UTF-8": (b'{"a": "\xff"}', "UTF-8"),
    "a large body": (b'[{"a": 1}, "' + b"x" * 100_000 + b'", {"b": 1, "b": 2}]', "once"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/vnd.pgrst.object+json",
        "",
    ],
)
async def test_json_that_two_parsers_may_read_differently(stack, name, kind):
    body, words = AMBIGUOUS[name]
    for method, target in (("POST", "/rest/v1/rpc/f"), ("PATCH", "/rest/v1/calls?id=eq.1")):
        headers = {"Content-Type": kind}
        answer = await stack.call(method, target, headers=headers, data=body)
        assert (answer.status, answer.reason, answer.field) == (400, "ambiguous_json", "body")
        assert words in answer.json["message"]
    assert stack.untouched


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'[{"a": 1}, {"a": 1, "b": {"a": 1}}]'),
        ("application/json", b'{"a": "NaN", "b": "Infinity", "NaN": null, "n": 1e400}'),
        ("application/json", b'{"n": ' + b"9" * 5000 + b"}"),
        ("application/json", b"{broken"),  # PostgREST says so in the words clients know
        ("application/json", b"[" * 100 + b"]" * 100),
        ("text/csv", b"a,a\nNaN,1"),
        ("text/plain", b'{"a": 1, "a": 2}'),
    ],
)
async def test_other_bodies_are_passed_on_as_they_are(stack, kind, body):
    answer = await stack.call("POST", "/rest/v1/calls", headers={"Content-Type": kind}, data=body)
    assert answer.status == 200
    assert stack.rest.last.body == body
