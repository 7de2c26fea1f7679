"""Prometheus metrics. Labels come from fixed lists: no tenant, no id, no path, no key."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tenantry_gateway.routes import Route

CONTENT_TYPE = CONTENT_TYPE_LATEST

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry per gateway, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gateway_requests",
            "Answered requests",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "gateway_request_seconds",
            "From the head of the request to the end of the answer",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rejections = Counter(
            "gateway_rejections",
            "Requests that the gateway refused itself",
            ("route", "reason"),
            registry=self.registry,
        )
        self._upstream_errors = Counter(
            "gateway_upstream_errors",
            "Requests that a service failed to answer",
            ("route", "kind"),
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "gateway_in_flight", "Requests under way", ("route",), registry=self.registry
        )
        self._replica_reads = Counter(
            "gateway_replica_reads",
            "Reads meant for the replica: `served` by it, or why the primary answered",
            ("outcome",),
            registry=self.registry,
        )
        self._replica_lag = Gauge(
            "gateway_replica_lag_seconds",
            "Age of what the replica shows, at most; +Inf where it is not known",
            registry=self.registry,
        )
        # Looked up once: finding a labelled child costs more than counting with it.
        self._now = {route: self._in_flight.labels(route.value) for route in Route}
        self._times = {route: self._seconds.labels(route.value) for route in Route}
        self._answers: dict[tuple[Route, str, int], Counter] = {}

    def begin(self, route: Route) -> None:
        """A request of `route` has arrived."""
        self._now[route].inc()

    def end(self, route: Route, method: str, status: int, seconds: float) -> None:
        """It has been answered with `status`; 499 where the client had gone."""
        self._now[route].dec()
        self._times[route].observe(seconds)
        known = method if method in _METHODS else "other"
        answers = self._answers.get((route, known, status))
        if answers is None:
            answers = self._requests.labels(route.value, known, str(status))
            self._answers[route, known, status] = answers
        answers.inc()

    def rejected(self, route: Route, reason: str) -> None:
        """The gateway refused a request for `reason`, one of the words in the code."""
        self._rejections.labels(route.value, reason).inc()

    def upstream_failed(self, route: Route, kind: str) -> None:
        """A service was unreachable, too slow, or broke off."""
        self._upstream_errors.labels(route.value, kind).inc()

    def replica_read(self, outcome: str) -> None:
        """A read meant for the replica: `served`, or one of the words in the code."""
        self._replica_reads.labels(outcome).inc()

    def replica_lag(self, seconds: float) -> None:
        """How old the replica's state may be."""
        self._replica_lag.set(seconds)

    def text(self) -> bytes:
        """The page a Prometheus server reads."""
        return generate_latest(self.registry)
