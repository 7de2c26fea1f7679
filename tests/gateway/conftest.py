"""A gateway in front of fake services: real HTTP on loopback, in one event loop with the test."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from tenantry_gateway.server import serving
from tenantry_gateway.settings import Settings

SECRET = "a-secret-of-the-tests-only-with-enough-bytes-for-every-algorithm-of-hmac"
USER = "5f0c8a52-6a0b-4c1e-9a43-6e0d5f9f3b11"


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A user's access token; a claim of None is left out."""
    now = int(time.time())
    body = {
        "sub": USER,
        "role": "authenticated",
        "aud": "authenticated",
        "iat": now,
        "exp": now + 600,
    }
    body |= claims
    present = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(present, secret, algorithm=algorithm)


def role_key(role: str) -> str:
    return jwt.encode({"role": role, "iss": "supabase", "exp": 4102444800}, SECRET, "HS256")


KEYS = {
    "anon_key": role_key("anon"),
    "service_role_key": role_key("service_role"),
    "publishable_key": "sb_publishable_for_the_tests_only",
    "secret_key": "sb_secret_for_the_tests_only_0001",
    "lite_publishable_key": "sb_publishable_that_lite_knows_1",
    "lite_secret_key": "sb_secret_that_lite_knows_00001",
}


@dataclass
class Seen:
    """A request as a fake service received it."""

    method: str
    target: str
    headers: aiohttp.typedefs.CIMultiDictProxy[str] | Any
    body: bytes


@dataclass
class Service:
    """A fake service. `answer` may be replaced by a test; `seen` holds what arrived."""

    origin: str = ""
    seen: list[Seen] = field(default_factory=list)
    reads_body: bool = True
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None

    @property
    def last(self) -> Seen:
        assert self.seen, "the service was not asked"
        return self.seen[-1]

    def answers(
        self, status: int = 200, body: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        """Answer everything like this."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            kind = {"Content-Type": "application/json; charset=utf-8"}
            return web.Response(status=status, body=raw, headers=kind | (headers or {}))

        self.answer = answer

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if self.reads_body else b""
        self.seen.append(Seen(request.method, request.raw_path, request.headers, body))
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response([{"ok": True}])


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    server = web.Server(service.handle, handler_cancellation=True, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.origin = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield service
    finally:
        await runner.cleanup()


class Stack:
    """The gateway under test with its three services, and two ways to speak to it."""

    keys = KEYS
    user = USER
    secret = SECRET
    token = staticmethod(token)

    def __init__(self) -> None:
        self.rest, self.lite, self.functions = Service(), Service(), Service()
        self.origin = ""
        self.client: aiohttp.ClientSession

    @property
    def services(self) -> tuple[Service, Service, Service]:
        return self.rest, self.lite, self.functions

    @property
    def untouched(self) -> bool:
        """Whether no service has been asked for anything."""
        return not any(service.seen for service in self.services)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.origin.removeprefix("http://").split(":")
        return host, int(port)

    async def call(
        self,
        method: str,
        target: str,
        key: str | None = "publishable_key",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """One request with the named key as apikey; the target is sent exactly as given."""
        sent = {"apikey": KEYS[key]} if key else {}
        from yarl import URL

        async with self.client.request(
            method,
            URL(self.origin + target, encoded=True),
            headers=sent | (headers or {}),
            allow_redirects=False,
            **more,
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def raw(self, data: bytes, *, seconds: float = 5) -> bytes:
        """Send exact bytes; all that comes back until the gateway closes, or falls silent."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(data)
            await writer.drain()
            received = b""
            async with asyncio.timeout(seconds):
                while chunk := await reader.read(65536):
                    received += chunk
            return received
        finally:
            writer.close()

    async def raw_request(
        self, lines: list[str | bytes], body: bytes = b"", *, key: bool = True
    ) -> Answer:
        """A request of exact header lines, on a connection of its own; its first answer."""
        head = [line if isinstance(line, bytes) else line.encode() for line in lines]
        if key:
            head.append(b"apikey: " + KEYS["publishable_key"].encode())
        head += [b"Connection: close", b"", b""]
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(b"\r\n".join(head) + body)
            async with asyncio.timeout(5):
                received = await reader.readuntil(b"\r\n\r\n")
                length = Answer.parse(received).headers.get("Content-Length")
                # A refusal may linger before it closes; its end is known without that.
                received += await (reader.readexactly(int(length)) if length else reader.read())
            return Answer.parse(received)
        finally:
            writer.close()


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Answer:
        """The first response in raw bytes; a chunked body stays as it is."""
        from multidict import CIMultiDict

        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1."), data
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.add(name, value.strip())
        return cls(int(lines[0].split()[1]), headers, body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The stable word of a refusal."""
        return str(json.loads(self.json["details"])["reason"])

    @property
    def field(self) -> str | None:
        return json.loads(self.json["details"]).get("field")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def new_stack() -> AsyncIterator[Callable[..., Awaitable[Stack]]]:
    """Start a gateway with settings changed by keyword; all stop at the end of the test."""
    async with AsyncExitStack() as open_things:

        async def start(**changes: Any) -> Stack:
            stack = Stack()
            for service in stack.services:
                await open_things.enter_async_context(running(service))
            settings = Settings(
                postgrest_url=stack.rest.origin,
                auth_url=stack.lite.origin,
                functions_url=stack.functions.origin,
                jwt_secret=SECRET,
                port=0,
                shutdown_seconds=0.1,
                boot_gate="off",  # the fakes are no database
                tenant_routing=False,  # and have no registry
                **KEYS,
            )
            settings = dataclasses.replace(settings, **changes)
            stack.client = await open_things.enter_async_context(
                aiohttp.ClientSession(auto_decompress=False)
            )
            stack.origin = await open_things.enter_async_context(serving(settings))
            return stack

        yield start


@pytest.fixture
async def stack(new_stack: Callable[..., Awaitable[Stack]]) -> Stack:
    """A gateway with the default settings."""
    return await new_stack()
