"""Passing a request on and its answer back: streamed, with the hop-by-hop parts removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tenantry_gateway.bodies import StreamedBody
from tenantry_gateway.errors import JSON_TYPE, GatewayError
from tenantry_gateway.homes import being_moved
from tenantry_gateway.hygiene import Exchange, is_hearsay
from tenantry_gateway.limits import FairSlots
from tenantry_gateway.metrics import Metrics
from tenantry_gateway.places import Place
from tenantry_gateway.settings import Settings
from tenantry_gateway.upstreams import Upstream

# RFC 9110, 7.6.1, and what older software sends beside it.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FORWARDED = HOP_BY_HOP | {"content-length", "expect", "host", "x-request-id"}
_NOT_RETURNED = HOP_BY_HOP | {
    "content-length",
    "date",
    "server-timing",
    "x-powered-by",
    "x-request-id",
}
# What services say to browsers: the gateway does that itself.
CORS_HEADERS = frozenset(
    {
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "access-control-max-age",
    }
)
NOT_STORED = {"Cache-Control": "no-store"}
# Answers up to this size go out whole, with their length; larger ones piece by piece.
_SMALL_BYTES = 64 * 1024
# Below the 5 s after which uvicorn and Node close an idle connection: whoever closes first decides
# whether a request can fall into the gap.
_IDLE_SECONDS = 4.0

CleanError = Callable[[int, bytes], tuple[int, bytes]]
Mend = Callable[[bytes], bytes]
PlaceLease = Callable[[tuple[str, str]], AbstractAsyncContextManager[Place]]
Decorate = Callable[[Exchange, web.StreamResponse], None]


class AnswerBroken(ConnectionResetError):
    """The answer had begun and cannot be finished: all that is left is to cut the connection."""


class _NotRepeated(aiohttp.ClientError):
    """A request that may have been carried out and must not be sent again."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep the library from repeating PUT and DELETE: the second answer would hide the first."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _NotRepeated from error


class Confirm(Protocol):
    """Whether the service that answered is the one that had to."""

    def holds(self, answer: aiohttp.ClientResponse) -> bool:
        """Whether that is known without asking."""
        ...

    async def again(self, answer: aiohttp.ClientResponse) -> Forward | None:
        """Ask; what to send instead where it was not. Raises GatewayError."""
        ...


@dataclass(slots=True)
class Forward:
    """What to send to a service, and how to treat its answer."""

    upstream: Upstream
    target: str
    """Path and query for the service, percent-encoded as they arrived."""
    headers: CIMultiDict[str]
    sender: str
    """Whose share of the service it takes where the upstream names no tenant."""
    body: bytes | StreamedBody | None = None
    confirm: Confirm | None = None
    """Consulted before anything of the answer is used; only where the body can be sent again."""
    whole_answer: bool = False
    """The service has done its work when it begins to answer, and sends all at once."""
    clean_error: CleanError | None = None
    clean_from: int = 300
    """The lowest status that is an error to clean."""
    largest_error: int = _SMALL_BYTES
    mend: Mend | None = None
    """Applied to the body of a small answer that is no error."""
    dropped: frozenset[str] = frozenset()
    """Further headers of the answer to leave out, in lower case."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer where the service sends none of that name."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer, whatever the service sends."""


def forwardable(exchange: Exchange, without: Iterable[str] = ()) -> CIMultiDict[str]:
    """All end-to-end headers of a request, in their order, but those named in `without`."""
    nominated = exchange.headers.get("connection", "")
    refused = {*_NOT_FORWARDED, *without, *(one.strip().lower() for one in nominated.split(","))}
    kept: CIMultiDict[str] = CIMultiDict()
    for raw_name, raw_value in exchange.request.raw_headers:
        name = raw_name.decode("ascii")
        if name.lower() not in refused and not is_hearsay(name.lower()):
            kept.add(name, raw_value.decode())
    return kept


class Proxy:
    """The client side of the gateway. One connection pool for all services."""

    def __init__(
        self, settings: Settings, metrics: Metrics, decorate: Decorate, lease: PlaceLease
    ) -> None:
        self._pause = settings.pause_seconds
        self._lease = lease
        self._metrics = metrics
        self._decorate = decorate
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        self._origins: dict[str, URL] = {}

    async def close(self) -> None:
        """Close the connections to the services."""
        await self._session.close()

    async def send(
        self, exchange: Exchange, forward: Forward, slots: FairSlots
    ) -> web.StreamResponse:
        """Forward and answer. Raises GatewayError before the answer, AnswerBroken within it."""
        answered = await self._send(exchange, forward, slots)
        if isinstance(answered, Forward):
            self._metrics.rerouted()
            answered = await self._send(exchange, answered, slots)
        if isinstance(answered, Forward):
            raise being_moved()
        return answered

    async def _send(
        self, exchange: Exchange, forward: Forward, slots: FairSlots
    ) -> web.StreamResponse | Forward:
        """The answer, or what to send instead."""
        where = forward.upstream.place
        if where is None:
            return await self._ask(exchange, forward, slots, self._session)
        async with self._lease(where) as place:
            if place.session is None:
                raise self._unreachable(exchange)
            return await self._ask(exchange, forward, place.slots, place.session)

    async def _ask(
        self,
        exchange: Exchange,
        forward: Forward,
        slots: FairSlots,
        session: aiohttp.ClientSession,
    ) -> web.StreamResponse | Forward:
        tenant = forward.upstream.tenant or forward.sender
        async with slots.slot(tenant) as release:
            answer = await self._open(exchange, forward, session)
            try:
                if forward.whole_answer:
                    release()
                if forward.confirm is not None and not forward.confirm.holds(answer):
                    instead = await forward.confirm.again(answer)
                    if instead is not None:
                        return instead
                return await self._answer(exchange, forward, answer)
            finally:
                answer.release()  # closes the connection unless the answer was read to its end

    async def _open(
        self, exchange: Exchange, forward: Forward, session: aiohttp.ClientSession
    ) -> aiohttp.ClientResponse:
        headers = forward.headers
        headers["X-Request-Id"] = exchange.request_id
        if exchange.peer:
            headers["X-Forwarded-For"] = exchange.peer
        body = forward.body
        if isinstance(body, StreamedBody):
            length = exchange.headers.get("content-length")
            if length is not None:
                headers["Content-Length"] = length
        try:
            return await session.request(
                exchange.method,
                self._url(forward),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=forward.upstream.timeout,
                middlewares=(_send_once,) if exchange.method in ("PUT", "DELETE") else None,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(body, StreamedBody) and body.failure is not None:
                raise body.failure from None
            raise self._failed(exchange, error) from error

    def _url(self, forward: Forward) -> URL:
        origin = self._origins.get(forward.upstream.origin)
        if origin is None:
            origin = self._origins[forward.upstream.origin] = URL(forward.upstream.origin)
        path, _, query = forward.target.partition("?")
        return URL.build(
            scheme=origin.scheme,
            authority=origin.raw_authority,
            path=path,
            query_string=query,
            encoded=True,
        )

    def _failed(self, exchange: Exchange, error: BaseException) -> GatewayError:
        """What a failure before the answer means for the client."""
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return self._unreachable(exchange)
        if isinstance(error, TimeoutError):
            self._metrics.upstream_failed(exchange.route, "timeout")
            return GatewayError(
                504,
                "service_timeout",
                f"The {exchange.route.value} service did not answer in time",
                "It may still have acted: look before you repeat a change.",
            )
        self._metrics.upstream_failed(exchange.route, "disconnected")
        return GatewayError(
            502,
            "service_disconnected",
            f"The {exchange.route.value} service closed the connection without an answer",
            "It may still have acted: look before you repeat a change.",
        )

    def _unreachable(self, exchange: Exchange) -> GatewayError:
        self._metrics.upstream_failed(exchange.route, "unreachable")
        return GatewayError(
            503,
            "service_unavailable",
            f"The {exchange.route.value} service is not available",
            "Try again in a moment.",
            headers={"Retry-After": "1"},
        )

    async def _answer(
        self, exchange: Exchange, forward: Forward, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        status = answer.status
        headers = _returnable(answer, forward)
        if exchange.method == "HEAD" or status in (204, 304):
            # A HEAD tells the length that GET would have.
            announced = answer.headers.get("Content-Length")
            if announced is not None and exchange.method == "HEAD":
                headers["Content-Length"] = announced
            return web.Response(status=status, headers=headers)
        if forward.clean_error is not None and status >= forward.clean_from:
            body = await self._read(exchange, answer, forward.largest_error)
            status, body = forward.clean_error(status, body)
            headers["Content-Type"] = JSON_TYPE
            if "WWW-Authenticate" in headers:
                headers["WWW-Authenticate"] = "Bearer"  # without what the service says of it
            if status == 503:
                headers.setdefault("Retry-After", "1")
            return web.Response(status=status, headers=headers, body=body)
        first = b""
        length = answer.content_length
        if forward.whole_answer or (length is not None and length <= _SMALL_BYTES):
            first = await self._read(exchange, answer, _SMALL_BYTES)
            if answer.content.at_eof():
                if forward.mend is not None:
                    first = forward.mend(first)
                return web.Response(status=status, headers=headers, body=first)
        response = web.StreamResponse(status=status, headers=headers)
        if length is not None:
            response.content_length = length
        self._decorate(exchange, response)
        await response.prepare(exchange.request)
        await self._stream(exchange, answer, response, first)
        return response

    async def _read(self, exchange: Exchange, answer: aiohttp.ClientResponse, size: int) -> bytes:
        """At least `size` bytes of the answer, or all there are."""
        pieces: list[bytes] = []
        try:
            while size > 0 and (piece := await answer.content.readany()):
                pieces.append(piece)
                size -= len(piece)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._failed(exchange, error) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _stream(
        self,
        exchange: Exchange,
        answer: aiohttp.ClientResponse,
        response: web.StreamResponse,
        piece: bytes,
    ) -> None:
        while True:
            try:
                if piece:
                    async with asyncio.timeout(self._pause):
                        await response.write(piece)
                elif answer.content.at_eof():
                    await response.write_eof()
                    return
            except (TimeoutError, ConnectionError) as error:
                raise AnswerBroken("the client stopped reading") from error
            try:
                piece = await answer.content.readany()
            except (aiohttp.ClientError, TimeoutError) as error:
                self._metrics.upstream_failed(exchange.route, "broke_off")
                raise AnswerBroken("the service broke off its answer") from error


def _returnable(answer: aiohttp.ClientResponse, forward: Forward) -> CIMultiDict[str]:
    """The end-to-end headers of an answer."""
    headers: CIMultiDict[str] = CIMultiDict()
    nominated = answer.headers.get("Connection")
    refused = forward.dropped
    if nominated:
        refused = refused.union(one.strip().lower() for one in nominated.split(","))
    for name, value in answer.headers.items():
        lower = name.lower()
        if lower not in _NOT_RETURNED and lower not in refused:
            headers.add(name, value)
    for name, value in forward.defaults.items():
        headers.setdefault(name, value)
    for name, value in forward.fixed.items():
        headers[name] = value
    return headers
