"""Prometheus metrics. Labels come from fixed lists, and the ids of the busiest tenants: no path,
no key, no name."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tenantry_gateway.routes import Route

CONTENT_TYPE = CONTENT_TYPE_LATEST

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TENANT_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10)
MOST_TENANTS = 20
OTHER = "other"
_HALVED_AFTER = 10_000


class _Busiest:
    """The tenants with the most requests of late, at most `size` of them.

    A tenant takes the place of the least busy one once it has been counted more often. Counts are
    halved from time to time, so that yesterday's busiest makes room.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: Counts[str] = Counts()
        self._shown: set[str] = set()
        self._total = 0

    def count(self, tenant: str) -> tuple[bool, str | None]:
        """Whether the tenant has a label of its own now, and whose label it took."""
        self._counts[tenant] += 1
        self._total += 1
        if self._total >= _HALVED_AFTER:
            self._total = 0
            self._counts = Counts({one: n // 2 for one, n in self._counts.items() if n > 1})
        if tenant in self._shown:
            return True, None
        if len(self._shown) < self._size:
            self._shown.add(tenant)
            return True, None
        least = min(self._shown, key=lambda one: self._counts[one])
        if self._counts[tenant] <= 2 * self._counts[least]:
            return False, None
        self._shown.remove(least)
        self._shown.add(tenant)
        return True, least


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
        self._places = Gauge(
            "gateway_places_live",
            "PostgREST processes of tenants' databases",
            registry=self.registry,
        )
        self._cold_starts = Counter(
            "gateway_place_cold_starts", "Starts of such processes", registry=self.registry
        )
        self._rerouted = Counter(
            "gateway_rerouted",
            "Requests sent once more because their tenant had moved",
            registry=self.registry,
        )
        self._tenant_requests = Counter(
            "gateway_tenant_requests",
            "Requests of a tenant that is known; all but the first ones are `other`",
            ("tenant",),
            registry=self.registry,
        )
        self._tenant_seconds = Histogram(
            "gateway_tenant_request_seconds",
            "The time of these requests",
            ("tenant",),
            buckets=_TENANT_SECONDS,
            registry=self.registry,
        )
        self._tenants = _Busiest(MOST_TENANTS)
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

    def tenant(self, organization_id: str, seconds: float) -> None:
        """A request of a known tenant took so long."""
        entering, leaving = self._tenants.count(organization_id)
        if leaving is not None:
            self._tenant_requests.remove(leaving)
            self._tenant_seconds.remove(leaving)
        label = organization_id if entering else OTHER
        self._tenant_requests.labels(label).inc()
        self._tenant_seconds.labels(label).observe(seconds)

    def places_live(self, count: int) -> None:
        """So many processes of places exist now."""
        self._places.set(count)

    def cold_start(self) -> None:
        """The process of a place is being started."""
        self._cold_starts.inc()

    def rerouted(self) -> None:
        """A request is sent once more."""
        self._rerouted.inc()

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
