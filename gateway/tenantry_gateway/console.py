"""The console's files, served from one directory with a policy that runs only its own scripts.

Two files are not in that directory: `/vendor/supabase.js` comes from the installed package, and
`/config.json` tells the page the publishable key, which is made for browsers to have.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.hygiene import Exchange

_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
# Asset names carry no version, so a browser asks each time and mostly hears 304.
_ASSET_HEADERS = {"Cache-Control": "no-cache"}
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class Console:
    """Serves the files below `directory`; without one, everything is 404."""

    def __init__(
        self, directory: Path | None, publishable_key: str = "", supabase_js: Path | None = None
    ) -> None:
        self._directory = directory.resolve() if directory and directory.is_dir() else None
        self._supabase_js = supabase_js if supabase_js and supabase_js.is_file() else None
        self._config = json.dumps({"publishable_key": publishable_key})

    def answer(self, exchange: Exchange) -> web.StreamResponse:
        """The file at the path. Raises 404 or 405."""
        path = unquote(exchange.path)
        if self._directory and path == "/config.json" and exchange.method in ("GET", "HEAD"):
            return web.Response(
                text=self._config,
                content_type="application/json",
                headers={"Cache-Control": "no-store"},
            )
        file = self._supabase_js if path == "/vendor/supabase.js" else self._find(path)
        if file is None:
            raise GatewayError(
                404,
                "not_found",
                "There is nothing at this address",
                "The API is below /rest/v1, /auth/v1, /storage/v1 and /functions/v1.",
                field="url",
            )
        if exchange.method not in ("GET", "HEAD"):
            raise GatewayError(
                405,
                "method_not_allowed",
                "This page can only be read",
                "Use GET or HEAD.",
                field="method",
                headers={"Allow": "GET, HEAD"},
            )
        page = file.suffix == ".html"
        response = web.FileResponse(file, headers=_PAGE_HEADERS if page else _ASSET_HEADERS)
        response.content_type = _TYPES[file.suffix]
        if response.content_type.startswith("text/"):
            response.charset = "utf-8"
        return response

    def _find(self, path: str) -> Path | None:
        """The file of a decoded path: of a known type, visible, and really inside."""
        if self._directory is None:
            return None
        names = [name for name in path.split("/") if name]
        if path.endswith("/"):
            names.append("index.html")
        if any(name.startswith(".") for name in names):
            return None
        try:
            file = self._directory.joinpath(*names).resolve(strict=True)
        except (OSError, ValueError):
            return None
        inside = file.is_relative_to(self._directory)
        return file if inside and file.is_file() and file.suffix in _TYPES else None
