"""The kernel: what every function gets without asking, and cannot get around.

    @edge(auth="user")
    async def handler(ctx: Context, request: Request) -> Response: ...

Around the handler, in this order: request id, CORS, method, authentication, body limit, time
limit, one error handler. A webhook's handler runs only for a delivery that is verified and stored.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tenantry_functions import logs
from tenantry_functions.auth import Caller, TokenVerifier, check_key
from tenantry_functions.body import DEFAULT_MAX_BODY_BYTES, parse_json, read_body
from tenantry_functions.errors import FunctionError, Unavailable, error_response, internal_error
from tenantry_functions.metrics import Metrics
from tenantry_functions.providers import WebhookProvider
from tenantry_functions.rest import RestClient
from tenantry_functions.settings import Settings
from tenantry_functions.webhooks import Delivery, Receiver

Auth = Literal["user", "webhook", "publishable", "secret", "none"]

_log = logging.getLogger("tenantry.functions")
_HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,128}")
# What supabase-js, supabase-py and our SDK send to functions.
_ALLOWED_HEADERS = (
    "authorization, apikey, content-type, idempotency-key, x-request-id, x-client-info, x-region, "
    "x-retry-count, x-supabase-api-version, x-tenant, traceparent, tracestate, baggage"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may use; from function.toml."""

    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Services:
    """What the app lends to every request."""

    settings: Settings
    receiver: Receiver
    tokens: TokenVerifier
    metrics: Metrics
    http: aiohttp.ClientSession


@dataclass(slots=True)
class Context:
    """What a handler knows about its request.

    Args:
        path: what follows the function's name in the URL, without slashes around it.
        body: the whole body, within the function's limit.
        tenant: what the request's X-Tenant header names, an id or a slug; `rest` sends it on. It
            says where to look and gives no right.
    """

    request_id: str
    function: str
    path: str
    services: Services = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    tenant: str | None = None
    _caller: Caller | None = None
    _credentials: dict[str, str] | None = field(default=None, repr=False)
    _delivery: Delivery | None = None

    @property
    def caller(self) -> Caller:
        """The signed-in user; only with auth="user"."""
        if self._caller is None:
            raise RuntimeError('only a function with auth="user" has a caller')
        return self._caller

    @property
    def delivery(self) -> Delivery:
        """The verified and stored webhook; only with auth="webhook"."""
        if self._delivery is None:
            raise RuntimeError('only a function with auth="webhook" has a delivery')
        return self._delivery

    @property
    def rest(self) -> RestClient:
        """The API acting as the caller: a user, or with auth="secret" the service role.

        Whoever holds the secret key may do all of that without us; nobody else comes this far.
        """
        settings = self.services.settings
        if settings.rest_url is None:
            raise RuntimeError("FUNCTIONS_REST_URL is not set")
        if self._credentials is None:
            raise RuntimeError('only a function with auth="user" or "secret" has the API')
        headers = {**self._credentials, "X-Request-Id": self.request_id}
        if self.tenant is not None:
            headers["X-Tenant"] = self.tenant
        return RestClient(self.services.http, settings.rest_url, headers)

    def json(self) -> Any:
        """The body as strict JSON.

        Raises:
            FunctionError: 400 with the reason.
        """
        return parse_json(self.body)


Handler = Callable[[Context, Request], Awaitable[Response]]


def edge(
    *,
    auth: Auth = "user",
    methods: Sequence[str] = ("POST",),
    provider: WebhookProvider | None = None,
) -> Callable[[Handler], EdgeFunction]:
    """Make a handler a function.

    Args:
        auth: who may call. Without saying anything: a signed-in user.
        methods: HTTP methods answered; the others get 405.
        provider: who sends the webhooks; with auth="webhook", and only then.

    Raises:
        ValueError: auth and provider do not go together.
    """
    if (auth == "webhook") != (provider is not None):
        raise ValueError('a provider belongs to auth="webhook", and to nothing else')

    def decorate(handler: Handler) -> EdgeFunction:
        return EdgeFunction(handler, auth, tuple(m.upper() for m in methods), provider)

    return decorate


@dataclass(frozen=True, slots=True)
class EdgeFunction:
    """A handler with what is around it."""

    handler: Handler
    auth: Auth
    methods: tuple[str, ...]
    provider: WebhookProvider | None

    async def respond(
        self, name: str, path: str, request: Request, services: Services, limits: Limits
    ) -> Response:
        """Answer one request. Never raises."""
        context = Context(
            request_id_of(request),
            name,
            path.strip("/"),
            services,
            tenant=_harmless(request.headers.get("x-tenant", "")),
        )
        logs.request_id.set(context.request_id)
        started = time.perf_counter()
        if request.method == "OPTIONS" and self.auth != "webhook":
            # Before authentication: a browser's preflight carries no token.
            response = Response(status_code=204)
        else:
            response = await self._guarded(context, request, limits)
        self._finish(response, context, services)
        seconds = time.perf_counter() - started
        services.metrics.request(name, response.status_code, seconds)
        _log.info("%s %s %d %.1f ms", request.method, name, response.status_code, seconds * 1000)
        return response

    async def _guarded(self, context: Context, request: Request, limits: Limits) -> Response:
        try:
            async with asyncio.timeout(limits.timeout_seconds):
                return await self._handle(context, request, limits)
        except FunctionError as error:
            return error_response(error, context.request_id)
        except TimeoutError:
            _log.error("no answer within %g seconds", limits.timeout_seconds)
            late = Unavailable("It took too long; try again in a moment.")
            return error_response(late, context.request_id)
        except ClientDisconnect:
            gone = FunctionError(
                400, "disconnected", "The connection closed before the body ended."
            )
            return error_response(gone, context.request_id)
        except Exception:
            _log.exception("unhandled")
            return error_response(internal_error(), context.request_id)

    async def _handle(self, context: Context, request: Request, limits: Limits) -> Response:
        if request.method not in self.methods:
            allowed = ", ".join(self.methods)
            raise FunctionError(
                405, "method_not_allowed", f"Use {allowed}.", headers={"Allow": allowed}
            )
        services = context.services
        if self.auth == "user":
            context._caller = await services.tokens.verify(request.headers)
            context._credentials = {"Authorization": f"Bearer {context._caller.token}"}
            if services.settings.publishable_keys:
                context._credentials["apikey"] = services.settings.publishable_keys[0]
        elif self.auth == "publishable":
            keys = services.settings.publishable_keys + services.settings.secret_keys
            check_key(request.headers, keys, "publishable")
        elif self.auth == "secret":
            check_key(request.headers, services.settings.secret_keys, "secret")
            context._credentials = {"apikey": services.settings.secret_keys[0]}
        context.body = await read_body(request, limits.max_body_bytes)
        if self.provider is not None:
            context._delivery = await services.receiver.receive(
                self.provider, context.path, request, context.body
            )
        return await self.handler(context, request)

    def _finish(self, response: Response, context: Context, services: Services) -> None:
        response.headers["X-Request-Id"] = context.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        if self.auth == "webhook":
            # No browser has business here.
            return
        headers = response.headers
        headers["Access-Control-Allow-Origin"] = services.settings.cors_origin
        headers["Access-Control-Allow-Methods"] = ", ".join((*self.methods, "OPTIONS"))
        headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
        headers["Access-Control-Expose-Headers"] = "x-request-id, retry-after"
        headers["Access-Control-Max-Age"] = "86400"


def request_id_of(request: Request) -> str:
    """The caller's own id, if it is harmless in a header and a log; else a new one."""
    return _harmless(request.headers.get("x-request-id", "")) or uuid.uuid4().hex


def _harmless(value: str) -> str | None:
    return value if _HARMLESS.fullmatch(value) else None
