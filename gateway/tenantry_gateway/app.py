"""The gateway: one request from its head to its answer."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from tenantry_gateway.boot_gate import BootGate
from tenantry_gateway.console import Console
from tenantry_gateway.cors import Cors
from tenantry_gateway.errors import GatewayError, error_response
from tenantry_gateway.homes import Homes
from tenantry_gateway.hygiene import Exchange, check_head, new_request_id, request_id_of
from tenantry_gateway.keys import KeyRing
from tenantry_gateway.limits import FairSlots
from tenantry_gateway.member_keys import MemberKeys
from tenantry_gateway.metrics import CONTENT_TYPE, Metrics
from tenantry_gateway.place_gate import PlaceGate
from tenantry_gateway.places import Place, Places
from tenantry_gateway.postgrest import Postgrest
from tenantry_gateway.proxy import AnswerBroken, Proxy
from tenantry_gateway.replicas import Replicas
from tenantry_gateway.routes import Route, route_of
from tenantry_gateway.routing import Router
from tenantry_gateway.services import Services
from tenantry_gateway.settings import Settings
from tenantry_gateway.upstreams import Upstreams

SERVER_NAME = "tenantry"
NOT_HERE = 501  # realtime clients ask for it again and again
CLIENT_GONE = 499  # as nginx counts a client that left before its answer

log = logging.getLogger("tenantry_gateway")

_SERVICES = (Route.REST, Route.AUTH, Route.STORAGE, Route.FUNCTIONS)


class Gateway:
    """Answers requests. Make it inside a running event loop, `start` it, `close` it at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._cors = Cors(settings.cors_origins)
        self._console = Console(
            settings.console_dir, settings.publishable_key, settings.console_supabase_js
        )
        self._keys = KeyRing(settings)
        self._postgrest = Postgrest(settings)
        self._homes = Homes(self._postgrest)
        self.boot_gate = BootGate(
            settings,
            self._postgrest,
            looked=self._homes.refresh_planes if settings.tenant_routing else None,
        )
        self._member_keys = MemberKeys(settings, self._postgrest)
        self._upstreams = Upstreams(settings)
        self._places = Places(settings, self.metrics)
        self._place_gate = PlaceGate(settings)
        router = Router(settings, self._homes, self._upstreams.of(Route.REST))
        self._services = Services(
            settings, self._keys, self._member_keys, router if settings.tenant_routing else None
        )
        self._proxy = Proxy(settings, self.metrics, self._decorate, self._enter_place)
        self._replicas = Replicas(settings, self._proxy, self._keys, self._postgrest, self.metrics)
        self._slots = {
            route: FairSlots(
                settings.concurrency,
                settings.concurrency_per_tenant,
                settings.waiting_per_tenant,
                settings.waiting_seconds,
            )
            for route in _SERVICES
        }

    def start(self) -> None:
        """Begin what runs beside the requests."""
        self.boot_gate.start()
        self._replicas.start()

    def look_again(self) -> None:
        """Look at the databases behind now instead of at the next turn."""
        self.boot_gate.look_again()
        self._replicas.look_again()

    async def close(self) -> None:
        """Stop what runs beside the requests and close the connections to the services."""
        await self.boot_gate.close()
        await self._replicas.close()
        await self._place_gate.close()
        await self._places.close()
        await self._homes.close()
        await self._member_keys.close()
        await self._postgrest.close()
        await self._proxy.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Raises only where the connection must be cut."""
        route = route_of(request.raw_path)
        request_id = request_id_of(request)
        started = time.perf_counter()
        status = CLIENT_GONE
        self.metrics.begin(route)
        try:
            response = await self._answer_or_explain(request, route, request_id)
            status = response.status
            return response
        except AnswerBroken as broken:
            log.warning("%s: %s", request_id, broken)
            raise
        finally:
            seconds = time.perf_counter() - started
            self.metrics.end(route, request.method, status, seconds)
            # Whoever watches the health asks again and again; the gate logs its changes itself.
            failed = status >= 500 and status != NOT_HERE and route is not Route.HEALTH
            if failed or self.settings.log_requests:
                _log_request(request_id, route, request.method, status, seconds)

    async def _answer_or_explain(
        self, request: web.BaseRequest, route: Route, request_id: str
    ) -> web.StreamResponse:
        exchange = None
        try:
            exchange = check_head(
                request,
                route,
                request_id,
                self.settings.max_url_bytes,
                self.settings.trusted_proxies,
            )
            response = await self._answer(exchange)
        except GatewayError as error:
            self.metrics.rejected(route, error.reason)
            response = error_response(error, route, request_id)
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s: unexpected failure", request_id)
            failure = GatewayError(
                500,
                "internal_error",
                "The gateway failed",
                "Report the request_id if it persists.",
                close=True,
            )
            response = error_response(failure, route, request_id)
        if not response.prepared:
            self._finish(response, route, request_id, request.headers.get("Origin"))
        return response

    def explain(self, error: GatewayError) -> web.Response:
        """The answer to bytes that are not an HTTP request."""
        request_id = new_request_id()
        self.metrics.rejected(Route.CONSOLE, error.reason)
        response = error_response(error, Route.CONSOLE, request_id)
        self._finish(response, Route.CONSOLE, request_id, None)
        return response

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        route = exchange.route
        if exchange.method == "OPTIONS" and route.for_browsers:
            return self._cors.preflight(exchange)
        if route is Route.REST:
            self.boot_gate.check()
        if route in self._slots:
            forward = await self._services.prepare(exchange, self._upstreams.of(route))
            began = time.perf_counter()
            try:
                return await self._replicas.send(exchange, forward, self._slots[route])
            finally:
                if forward.upstream.tenant is not None:
                    self.metrics.tenant(forward.upstream.tenant, time.perf_counter() - began)
        return _LOCAL[route](self, exchange)

    @contextlib.asynccontextmanager
    async def _enter_place(self, where: tuple[str, str]) -> AsyncIterator[Place]:
        """The PostgREST of a tenant's database, once database and schema have passed the gate."""
        async with self._places.lease(where) as place:
            await self._place_gate.enter(place)
            yield place

    def _realtime(self, exchange: Exchange) -> web.StreamResponse:
        raise GatewayError(
            501,
            "realtime_not_available",
            "Realtime is not available on this stack",
            "Poll the tables, or use the SDK's stream(), which does.",
        )

    def _health(self, exchange: Exchange) -> web.StreamResponse:
        _only_read(exchange)
        status, body = self.boot_gate.health()
        return web.Response(
            status=status, body=json.dumps(body).encode(), content_type="application/json"
        )

    def _metrics(self, exchange: Exchange) -> web.StreamResponse:
        _only_read(exchange)
        return web.Response(body=self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _page(self, exchange: Exchange) -> web.StreamResponse:
        return self._console.answer(exchange)

    def _decorate(self, exchange: Exchange, response: web.StreamResponse) -> None:
        self._finish(response, exchange.route, exchange.request_id, exchange.headers.get("origin"))

    def _finish(
        self, response: web.StreamResponse, route: Route, request_id: str, origin: str | None
    ) -> None:
        """The headers that every answer carries."""
        headers = response.headers
        headers["Server"] = SERVER_NAME
        headers["X-Request-Id"] = request_id
        headers["X-Content-Type-Options"] = "nosniff"
        if route.for_browsers:
            self._cors.decorate(origin, response)


_LOCAL: dict[Route, Callable[[Gateway, Exchange], web.StreamResponse]] = {
    Route.REALTIME: Gateway._realtime,
    Route.HEALTH: Gateway._health,
    Route.METRICS: Gateway._metrics,
    Route.CONSOLE: Gateway._page,
}


def _only_read(exchange: Exchange) -> None:
    if exchange.method not in ("GET", "HEAD"):
        raise GatewayError(
            405,
            "method_not_allowed",
            "This address can only be read",
            "Use GET or HEAD.",
            field="method",
            headers={"Allow": "GET, HEAD"},
        )


def _log_request(request_id: str, route: Route, method: str, status: int, seconds: float) -> None:
    """One line without path, query or key: they may name people."""
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(level, "%s %s %s %d %.1fms", request_id, route.value, method, status, seconds * 1000)
