"""Which service answers a request, and whose request it is."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import ClientTimeout

from tenantry_gateway.routes import Route
from tenantry_gateway.settings import Settings

POOLED_SCHEMA = "public"
# A place is reached over a socket, whatever the URL says.
PLACE_ORIGIN = "http://place"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service behind the gateway."""

    route: Route
    origin: str
    timeout: ClientTimeout
    schema: str = POOLED_SCHEMA
    """The one schema that PostgREST may serve this request from."""
    tenant: str | None = None
    """The organization whose share of the service it uses; None where only the sender is known."""
    place: tuple[str, str] | None = None
    """Database and schema of a tenant that lives elsewhere than in the pooled tables."""


class Upstreams:
    """The services of one project, with the pooled placement for tables."""

    def __init__(self, settings: Settings) -> None:
        self._services = {
            route: Upstream(
                route,
                origin,
                ClientTimeout(sock_connect=settings.connect_seconds, sock_read=seconds),
            )
            for route, origin, seconds in (
                (Route.REST, settings.postgrest_url, settings.answer_seconds),
                (Route.AUTH, settings.auth_url, settings.answer_seconds),
                (Route.STORAGE, settings.auth_url, settings.storage_answer_seconds),
                (Route.FUNCTIONS, settings.functions_url, settings.functions_answer_seconds),
            )
        }

    def of(self, route: Route) -> Upstream:
        """The service for a class of paths."""
        return self._services[route]
