"""Request bodies: read whole where they must be looked at, passed on piece by piece elsewhere.

A body read whole also keeps slow senders away from the services behind: PostgREST sees a request
only when all of it is here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

from aiohttp import HttpVersion11, web

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.hygiene import Exchange

_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_EXPECTED = "100-continue"
_JSON = re.compile(r"(?:application/(?:json|[a-z0-9.+-]+\+json))?")


def has_body(exchange: Exchange) -> bool:
    """Whether the request brings a body, by its framing headers."""
    headers = exchange.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def check_length(exchange: Exchange, limit: int) -> int | None:
    """The announced length in bytes, None if unknown. Raises 413 before anything is read."""
    announced = exchange.headers.get("content-length")
    if announced is None:
        return None
    length = int(announced)  # the parser lets only digits through
    if length > limit:
        raise _too_large(limit)
    return length


async def _invite(exchange: Exchange) -> None:
    """Answer `Expect: 100-continue`, now that the request is welcome (RFC 9110, 10.1.1)."""
    expected = exchange.headers.get("expect")
    if expected is None:
        return
    if expected.lower() != _EXPECTED:
        raise GatewayError(
            417, "unknown_expectation", "Expect must be 100-continue", field="Expect", close=True
        )
    writer = exchange.request.writer
    if exchange.request.version >= HttpVersion11:
        await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.output_size = 0  # the final answer has not begun


async def read_body(exchange: Exchange, limit: int, seconds: float) -> bytes:
    """The whole body. Raises 413 over `limit` bytes, 408 when it takes over `seconds`."""
    if not has_body(exchange):
        return b""
    check_length(exchange, limit)
    await _invite(exchange)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            content = exchange.request.content
            while piece := await content.readany():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise _too_slow(seconds) from None
    except web.RequestPayloadError:
        raise _malformed() from None
    return b"".join(pieces)


class StreamedBody:
    """A body on its way to a service. `failure` tells afterwards why it broke off."""

    def __init__(self, exchange: Exchange, limit: int, pause_seconds: float) -> None:
        self._exchange = exchange
        self._limit = limit
        self._pause = pause_seconds
        self._started = False
        self.failure: GatewayError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._started:
            # The client library repeats idempotent requests; these bytes are gone.
            raise RuntimeError("a streamed body cannot be sent twice")
        self._started = True
        try:
            await _invite(self._exchange)
            content = self._exchange.request.content
            size = 0
            while True:
                async with asyncio.timeout(self._pause):
                    piece = await content.readany()
                if not piece:
                    return
                size += len(piece)
                if size > self._limit:
                    raise _too_large(self._limit)
                yield piece
        except TimeoutError:
            self.failure = _too_slow(self._pause)
            raise self.failure from None
        except web.RequestPayloadError:
            self.failure = _malformed()
            raise self.failure from None
        except GatewayError as failure:
            self.failure = failure
            raise


def check_rest_body(content_type: str, content_encoding: str, body: bytes) -> None:
    """Refuse what PostgREST or Postgres cannot hold: compressed bodies and NUL in text."""
    if content_encoding not in ("", "identity"):
        raise GatewayError(
            415,
            "body_compressed",
            "Compressed bodies are not accepted",
            "Send the body without Content-Encoding.",
            field="Content-Encoding",
        )
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/octet-stream":
        return
    nul = b"\0" in body
    if kind == "application/x-www-form-urlencoded":
        nul = nul or b"%00" in body
    elif b"\\u0000" in body and kind != "text/csv":
        nul = nul or _NUL_ESCAPE.search(body) is not None
    if nul:
        raise GatewayError(
            400,
            "nul_in_body",
            "The body contains a NUL character, which text cannot hold",
            r"Remove \u0000 from the values.",
            field="body",
        )

    if body and _JSON.fullmatch(kind):
        _check_json(body)


class _Ambiguous(Exception):
    """JSON that two parsers may read differently; says why."""


def _no_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Ambiguous("names a field of an object more than once")


def _no_number(constant: str) -> None:
    raise _Ambiguous("contains NaN or Infinity, which are no JSON numbers")


def _check_json(body: bytes) -> None:
    """Refuse what parsers disagree about. JSON that is merely broken is PostgREST's to refuse."""
    try:
        json.loads(
            body.decode(),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_number,
            parse_int=len,  # not converted: Python refuses integers that JSON allows
        )
    except _Ambiguous as ambiguous:
        problem = str(ambiguous)
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:
        return
    else:
        return
    raise GatewayError(
        400,
        "ambiguous_json",
        f"The JSON body {problem}",
        "Send every field once, and plain numbers.",
        field="body",
    )


def _too_large(limit: int) -> GatewayError:
    return GatewayError(
        413,
        "body_too_large",
        f"The body is larger than {limit} bytes",
        "Send it in smaller parts.",
        field="body",
        close=True,
    )


def _too_slow(seconds: float) -> GatewayError:
    return GatewayError(
        408,
        "body_too_slow",
        f"The body did not arrive within {seconds:g} seconds",
        "Send the request again over a better connection.",
        field="body",
        close=True,
    )


def _malformed() -> GatewayError:
    return GatewayError(
        400, "malformed_body", "The body's framing is broken", field="body", close=True
    )
