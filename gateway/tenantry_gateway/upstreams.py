"""Which service answers a request, and whose request it is.

`resolve` is the one place that decides; a registry of placements takes its place when tenants live
in databases of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import ClientTimeout

from tenantry_gateway.hygiene import Exchange
from tenantry_gateway.routes import Route
from tenantry_gateway.settings import Settings

POOLED_SCHEMA = "public"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service behind the gateway."""

    route: Route
    origin: str
    timeout: ClientTimeout
    schema: str = POOLED_SCHEMA
    """The one schema that PostgREST may serve this request from."""
    tenant: str | None = None
    """Whose share of the service the request uses; None where only the sender is known."""


class Upstreams:
    """The services of one project in the pooled placement."""

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

    async def resolve(self, exchange: Exchange) -> Upstream:
        """The service for a checked request."""
        return self._services[exchange.route]
