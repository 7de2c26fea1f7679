"""What no request may contain, whoever sends it and whatever serves it.

A header that appears twice, or a byte that two parsers read differently, lets a request mean one
thing here and another behind. Such requests are refused with 400 and the name of the part, never
repaired. The messages never repeat what the client sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aiohttp import HttpVersion11, web

from tenantry_gateway.addresses import Network, client_address
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.routes import Route

# Headers that decide what a request means: exactly one of each, or none.
# The same holds for every `X-` header but one.
SINGLE_HEADERS = frozenset(
    {
        "accept",
        "accept-profile",
        "apikey",
        "authorization",
        "content-encoding",
        "content-length",
        "content-profile",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "if-match",
        "if-none-match",
        "origin",
        "prefer",
        "range",
        "range-unit",
        "transfer-encoding",
    }
)
# An `X-` header that nobody acts on, and that supabase-py 2.34 sends twice after `schema()`.
_MAY_REPEAT = frozenset({"x-client-info"})
# What a client claims about the way it came. Believed by nobody, so neither checked nor forwarded.
_HEARSAY = frozenset(
    {
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    }
)

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
_ESCAPED_SLASH = re.compile(r"%(?:2f|5c)", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(slots=True)
class Exchange:
    """One request whose head has been checked."""

    request: web.BaseRequest
    route: Route
    request_id: str
    method: str
    path: str
    """As sent: percent-encoded, without the query."""
    query: str
    """As sent, without the question mark."""
    headers: dict[str, str]
    """By lower-case name. Of headers that may repeat, the last one."""
    peer: str
    """The client's address: the other end of the connection, or whom a trusted proxy names."""


def is_hearsay(name: str) -> bool:
    """Whether a (lower-case) header speaks about earlier hops."""
    return name in _HEARSAY or name.startswith("x-forwarded")


def request_id_of(request: web.BaseRequest) -> str:
    """The client's X-Request-Id where it is one well-formed id, else a new one."""
    given = request.headers.getall("X-Request-Id", [])
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return new_request_id()


def new_request_id() -> str:
    """A random id, well-formed for every header and log."""
    return os.urandom(16).hex()


def check_head(
    request: web.BaseRequest,
    route: Route,
    request_id: str,
    max_url_bytes: int,
    trusted_proxies: Sequence[Network] = (),
) -> Exchange:
    """Check request line and headers. Raises GatewayError."""
    headers = _check_headers(request)
    path, query = _check_target(request.raw_path, route, max_url_bytes)
    peer = request.remote or ""
    if trusted_proxies:
        forwarded = request.headers.getall("X-Forwarded-For", [])
        peer = client_address(peer, forwarded, trusted_proxies)
    return Exchange(request, route, request_id, request.method, path, query, headers, peer)


def _check_headers(request: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.raw_headers:
        name = raw_name.decode("ascii").lower()
        if is_hearsay(name):
            continue
        if (
            name in headers
            and (name in SINGLE_HEADERS or name.startswith("x-"))
            and name not in _MAY_REPEAT
        ):
            raise GatewayError(
                400,
                "duplicate_header",
                f"The header {name} appears more than once",
                f"Send {name} once; join several preferences with commas.",
                field=name,
                close=True,
            )
        if _CONTROL.search(raw_value.replace(b"\t", b"")):
            raise _bad_header(name, "contains a control character")
        try:
            headers[name] = raw_value.decode()
        except UnicodeDecodeError:
            raise _bad_header(name, "is not UTF-8 text") from None
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise _bad_header("transfer-encoding", "is not `chunked`")
    if "host" not in headers and request.version >= HttpVersion11:
        raise _bad_header("host", "is missing")
    return headers


def _bad_header(name: str, what: str) -> GatewayError:
    return GatewayError(
        400, "malformed_header", f"The header {name} {what}", field=name, close=True
    )


def _check_target(target: str, route: Route, max_url_bytes: int) -> tuple[str, str]:
    if len(target) > max_url_bytes:
        raise GatewayError(
            414,
            "url_too_long",
            f"The URL is longer than {max_url_bytes} bytes",
            "Send long lists in the body of an RPC, or in several requests.",
            field="url",
        )
    if not target.startswith("/"):
        raise _bad_url("must begin with a slash", "Send the path, not a whole URL.")
    if not _VISIBLE_ASCII.fullmatch(target):
        raise _bad_url("has a byte that must be percent-encoded", "Percent-encode it.")
    if "#" in target:
        raise _bad_url("contains #", "Encode it as %23.")
    path, _, query = target.partition("?")
    if _DOT_SEGMENT.search(path) or "//" in path or "\\" in path or _ESCAPED_SLASH.search(path):
        raise _bad_url(
            "path has an empty, `.` or `..` segment, a backslash or an encoded slash",
            "Send the plain path.",
        )
    if "%" in target:
        _check_escapes(path, query, route)
    return path, query


def _check_escapes(path: str, query: str, route: Route) -> None:
    if _BAD_ESCAPE.search(path) or _BAD_ESCAPE.search(query):
        raise _bad_url("has a % without two hexadecimal digits", "Encode % itself as %25.")
    for part in (path, query):
        decoded = unquote_to_bytes(part)
        # PostgREST cuts a value at NUL, so `eq.Alpha%00x` would match `Alpha`.
        if b"\0" in decoded:
            raise _bad_url("contains a NUL byte", "Remove %00.")
        if route is Route.FUNCTIONS:
            # A provider may put a message with line breaks, in its own charset, into the query.
            continue
        if _CONTROL.search(decoded):
            raise _bad_url("contains a control character", "Remove %01 to %1F and %7F.")
        try:
            decoded.decode()
        except UnicodeDecodeError:
            raise _bad_url("is not UTF-8 once decoded", "Encode text as UTF-8.") from None


def _bad_url(what: str, hint: str) -> GatewayError:
    return GatewayError(400, "malformed_url", f"The URL {what}", hint, field="url")
