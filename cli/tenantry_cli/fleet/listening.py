"""What the worker tells about itself over HTTP, for whoever watches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tenantry_cli.fleet.fleet import FleetError

Answer = tuple[int, str, str]
"""Status, content type, text."""


@contextmanager
def listening(address: str | None, pages: dict[str, Callable[[], Answer]]) -> Iterator[None]:
    """Serve these pages at HOST:PORT inside the block; nowhere without an address."""
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise FleetError(f"--listen wants HOST:PORT, not {address!r}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, text = page() if page else (404, "text/plain", "not found\n")
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Whoever watches asks every few seconds."""

    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
