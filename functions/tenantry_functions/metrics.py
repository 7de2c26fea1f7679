"""Counters for `/metrics`. Labels are names of ours, never values from a request."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    """One registry per app, so that two apps in a process do not share counts."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tenantry_functions_requests",
            "Requests answered.",
            ("function", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tenantry_functions_request_seconds",
            "Time to answer.",
            ("function",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._webhooks = Counter(
            "tenantry_functions_webhooks",
            "Webhooks by what became of them.",
            ("provider", "kind", "outcome"),
            registry=self.registry,
        )
        self._retries = Counter(
            "tenantry_functions_webhook_retries",
            "Stored webhooks that were applied again.",
            registry=self.registry,
        )

    def request(self, function: str, status: int, seconds: float) -> None:
        self._requests.labels(function, str(status)).inc()
        self._seconds.labels(function).observe(seconds)

    def webhook(self, provider: str, kind: str, outcome: str) -> None:
        self._webhooks.labels(provider, kind, outcome).inc()

    def retried(self, count: int) -> None:
        self._retries.inc(count)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
