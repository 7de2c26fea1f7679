"""Listening: the HTTP server around the gateway, its start, its stop, and its last words."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from tenantry_gateway.app import Gateway
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.settings import Settings

# Above our own limits, so that our answers name the limit; the parser's are the last resort.
_LONGEST_LINE_BYTES = 16 * 1024
_LONGEST_HEADER_BYTES = 16 * 1024
_MOST_HEADERS = 100
# After an early refusal: how long to read on, so that the client sees the answer, not a reset.
_LINGERING_SECONDS = 2.0

# How the parser names the header it objects to; its other messages quote the client's bytes.
_NAMED_HEADER = re.compile(r"(Duplicate|Missing) '([A-Za-z-]{1,40})' header")


class _Protocol(web.RequestHandler):
    """Answers malformed requests in the gateway's own words, and logs none of their bytes."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway, server: web.Server, loop: asyncio.AbstractEventLoop):
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=gateway.settings.keepalive_seconds,
            max_line_size=_LONGEST_LINE_BYTES,
            max_field_size=_LONGEST_HEADER_BYTES,
            max_headers=_MOST_HEADERS,
            lingering_time=_LINGERING_SECONDS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # None switches it off
        )
        self._gateway = gateway

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer has begun")
        return self._gateway.explain(_malformed(exc))


class _Server(web.Server):
    def __init__(self, gateway: Gateway) -> None:
        # A client that leaves ends the work done for it.
        super().__init__(gateway.handle, handler_cancellation=True)
        self._gateway = gateway

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self._gateway, self, asyncio.get_running_loop())


def _malformed(error: BaseException | None) -> GatewayError:
    if isinstance(error, LineTooLong):
        return GatewayError(
            431,
            "head_too_large",
            "The URL or a header is too long",
            f"Keep each below {_LONGEST_HEADER_BYTES} bytes.",
            close=True,
        )
    if isinstance(error, HttpProcessingError):
        if named := _NAMED_HEADER.match(error.message):
            what = "appears more than once" if named[1] == "Duplicate" else "is missing"
            return GatewayError(
                400,
                "duplicate_header" if named[1] == "Duplicate" else "malformed_header",
                f"The header {named[2].lower()} {what}",
                "Send it once.",
                field=named[2].lower(),
                close=True,
            )
        return GatewayError(
            400,
            "malformed_http",
            "This is not a well-formed HTTP request",
            "Check the request line, the headers and the body's framing.",
            close=True,
        )
    return GatewayError(500, "internal_error", "The gateway failed", close=True)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, on_start: Callable[[Gateway], None] = Gateway.start
) -> AsyncIterator[str]:
    """Serve inside the block; yields the origin. Raises OSError where the port is taken."""
    gateway = Gateway(settings)
    runner = web.ServerRunner(
        _Server(gateway),
        handle_signals=False,
        shutdown_timeout=settings.shutdown_seconds,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        on_start(gateway)
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        await runner.cleanup()
        await gateway.close()


async def serve_until_signal(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; open requests get `shutdown_seconds` to end.

    SIGHUP looks at the database behind again.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop.set)

    def begin(gateway: Gateway) -> None:
        loop.add_signal_handler(signal.SIGHUP, gateway.look_again)
        gateway.start()

    async with serving(settings, begin) as origin:
        print(f"gateway listening on {origin}", flush=True)
        await stop.wait()
