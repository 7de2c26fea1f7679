"""CORS as Supabase answers it. Functions speak for themselves: a webhook needs none."""

from __future__ import annotations

import re

from aiohttp import web

from tenantry_gateway.hygiene import Exchange

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_SECONDS = 7200  # browsers cap it here

# What supabase-js, supabase-py and our SDK send.
ALLOWED_HEADERS = (
    "accept",
    "accept-profile",
    "apikey",
    "authorization",
    "baggage",
    "cache-control",
    "content-profile",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "prefer",
    "range",
    "range-unit",
    "traceparent",
    "tracestate",
    "x-client-info",
    "x-metadata",
    "x-read-after",
    "x-read-preference",
    "x-region",
    "x-request-id",
    "x-retry-count",
    "x-supabase-api-version",
    "x-upsert",
)
EXPOSED_HEADERS = ", ".join(
    (
        "Content-Length",
        "Content-Location",
        "Content-Range",
        "ETag",
        "Location",
        "Preference-Applied",
        "Retry-After",
        "Sb-Error-Code",
        "X-Request-Id",
        "X-Tenantry-Position",
        "X-Tenantry-Source",
    )
)
_CUSTOM_HEADER = re.compile(r"x-[a-z0-9-]{1,64}")


class Cors:
    """Adds CORS headers for the allowed origins; `*` allows all, never with credentials."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._everyone = origins == ("*",)
        self._origins = frozenset(origins)

    def preflight(self, exchange: Exchange) -> web.Response:
        """The answer to OPTIONS, given before any key is looked at."""
        asked = exchange.headers.get("access-control-request-headers", "").lower()
        custom = {
            name.strip() for name in asked.split(",") if _CUSTOM_HEADER.fullmatch(name.strip())
        }
        names = sorted({*ALLOWED_HEADERS, *custom})
        return web.Response(
            status=204,
            headers={
                "Allow": METHODS,
                "Access-Control-Allow-Methods": METHODS,
                "Access-Control-Allow-Headers": ", ".join(names),
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
                "Vary": "Access-Control-Request-Headers",
            },
        )

    def decorate(self, origin: str | None, response: web.StreamResponse) -> None:
        """Let the page at `origin` read the response, if its origin is allowed."""
        headers = response.headers
        if self._everyone:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            vary = headers.get("Vary")
            headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
            if origin is None or origin not in self._origins:
                return
            headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
