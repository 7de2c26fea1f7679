"""The classes of paths that one origin serves."""

from __future__ import annotations

from enum import Enum


class Route(Enum):
    """A class of paths; its value labels the metrics."""

    REST = "rest"
    AUTH = "auth"
    STORAGE = "storage"
    FUNCTIONS = "functions"
    REALTIME = "realtime"
    HEALTH = "health"
    METRICS = "metrics"
    CONSOLE = "console"

    @property
    def for_browsers(self) -> bool:
        """Whether the gateway speaks CORS here. Functions decide that for themselves."""
        return self in _FOR_BROWSERS


_SERVICES = {
    "rest": Route.REST,
    "auth": Route.AUTH,
    "storage": Route.STORAGE,
    "functions": Route.FUNCTIONS,
    "realtime": Route.REALTIME,
}
_FOR_BROWSERS = frozenset({Route.REST, Route.AUTH, Route.STORAGE, Route.REALTIME})


def route_of(target: str) -> Route:
    """The route of a raw request target. Nothing is decoded: `/%72est/v1` is not `/rest/v1`."""
    path = target.partition("?")[0]
    if path == "/healthz":
        return Route.HEALTH
    if path == "/metrics":
        return Route.METRICS
    parts = path.split("/", 3)
    if len(parts) >= 3 and parts[0] == "" and parts[2] == "v1":
        return _SERVICES.get(parts[1], Route.CONSOLE)
    return Route.CONSOLE
