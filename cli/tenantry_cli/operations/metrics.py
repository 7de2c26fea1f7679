"""Gauges per tenant for Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.operations import reports
from tenantry_cli.operations.places import Visited

_LABELS = ("organization", "organization_id", "isolation", "database", "schema")
_STATES = (
    "provisioning", "active", "moving", "read_only", "failed", "archived", "unregistered",
)  # fmt: skip
_TABLES = ("customers", "conversations", "messages", "calls")


def collect(fleet: Fleet, *, only: str | None = None) -> tuple[Visited, list[reports.Row]]:
    """The tenants of all databases, and which databases did not answer."""
    visited = reports.in_each(fleet, reports.TENANTS, only=only)
    return visited, reports.together(visited)


def render(rows: Sequence[Mapping[str, Any]], failed: Iterable[str] = ()) -> str:
    """The text format 0.0.4 of rows as `private.tenant_statistics()` has them.

    Each row has `database` beside. `failed` are the databases that did not answer.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Tenants(rows, failed))
    return generate_latest(registry).decode()


class _Tenants:
    def __init__(self, rows: Sequence[Mapping[str, Any]], failed: Iterable[str]) -> None:
        self._rows, self._failed = rows, failed

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily(
            "tenantry_database_up", "Whether the database answered.", labels=("database",)
        )
        for name in sorted({row["database"] for row in self._rows} - set(self._failed)):
            up.add_metric((name,), 1)
        for name in self._failed:
            up.add_metric((name,), 0)
        yield up
        yield self._gauge("size_bytes", "Size; of a pooled tenant its share of shared tables.")
        yield self._gauge("connections", "Client connections; none told for pooled tenants.")
        yield self._gauge("users", "People with an active membership.")
        yield self._gauge(
            "migration_version", "Newest migration applied at its home, as yyyymmddHHMMSS."
        )
        rows = _family("rows", "Rows of the main tables.", "table")
        state = _family("placement_state", "1 for the state its home is in.", "state")
        for row in self._rows:
            labels = _labels(row)
            for table in _TABLES:
                rows.add_metric((*labels, table), row[table])
            for name in _STATES:
                state.add_metric((*labels, name), row["state"] == name)
        yield rows
        yield state

    def _gauge(self, name: str, text: str) -> GaugeMetricFamily:
        gauge = _family(name, text)
        for row in self._rows:
            if row[name] is not None:
                gauge.add_metric(_labels(row), float(row[name]))
        return gauge


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tenantry_tenant_{name}", text, labels=(*_LABELS, *labels))


def _labels(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["organization_slug"] or "",
        row["organization_id"] or "",
        row["isolation"],
        row["database_name"],
        row["schema_name"],
    )


class _Kept:
    """The last answer, for so many seconds: counting the rows of all tenants costs something."""

    def __init__(self, fleet: Fleet, keep_seconds: float, only: str | None) -> None:
        self._fleet, self._seconds, self._only = fleet, keep_seconds, only
        self._lock = threading.Lock()
        self._text, self._until = "", 0.0

    def text(self) -> str:
        with self._lock:
            if time.monotonic() >= self._until:
                visited, rows = collect(self._fleet, only=self._only)
                self._text = render(rows, visited.failed)
                self._until = time.monotonic() + self._seconds
            return self._text


def make_server(
    fleet: Fleet, address: str, *, keep_seconds: float, only: str | None = None
) -> ThreadingHTTPServer:
    """A server for /metrics that is bound and not yet serving. Raises TenantryError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise TenantryError(f"--listen {address}: use HOST:PORT, as in 127.0.0.1:9187")
    kept = _Kept(fleet, keep_seconds, only)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(404, "the metrics are at /metrics\n")
                return
            try:
                self._answer(200, kept.text())
            except (psycopg.Error, TenantryError):
                # What the database said may name hosts and users; the log of this process has it.
                self._answer(503, "the main database did not answer\n")

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """A scrape is nothing to write home about."""

    try:
        return ThreadingHTTPServer((host, int(port)), Handler)
    except OSError as error:
        raise TenantryError(f"--listen {address}: {error.strerror or error}") from error


def serve(fleet: Fleet, address: str, *, keep_seconds: float, only: str | None = None) -> None:
    """Serve /metrics until the process is interrupted. Raises TenantryError for a bad address."""
    with make_server(fleet, address, keep_seconds=keep_seconds, only=only) as server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
