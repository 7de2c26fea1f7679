"""The ASGI app: every function folder at `/functions/v1/<name>`.

    uvicorn tenantry_functions.app:app

reads its settings from the environment (see `settings`). `/healthz` says that the process
serves, `/readyz` that its database answers, `/metrics` counts; the last two are for operators.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tenantry_functions import logs
from tenantry_functions.auth import KeySet, TokenVerifier
from tenantry_functions.database import PostgresInbox
from tenantry_functions.errors import FunctionError, error_response
from tenantry_functions.inbox import Inbox
from tenantry_functions.kernel import Services, request_id_of
from tenantry_functions.loader import LoadedFunction, load_functions
from tenantry_functions.metrics import Metrics
from tenantry_functions.places import open_places
from tenantry_functions.settings import Settings
from tenantry_functions.webhooks import Receiver
from tenantry_functions.worker import RetryWorker


def create_app(settings: Settings, *, inbox: Inbox | None = None) -> Starlette:
    """The app.

    Args:
        inbox: instead of the database's, for tests.

    Raises:
        LoadError: a function folder is wrong.
    """
    functions = load_functions(settings.functions_dir, settings.only)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        logs.configure()
        async with AsyncExitStack() as stack:
            app.state.services = await _start(stack, settings, inbox)
            yield

    return Starlette(
        routes=[
            Route("/healthz", _health),
            Route("/readyz", _ready),
            Route("/metrics", _metrics),
            Route("/functions/v1/{name}", _Dispatcher(functions)),
            Route("/functions/v1/{name}/{path:path}", _Dispatcher(functions)),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_route},
    )


async def _start(stack: AsyncExitStack, settings: Settings, inbox: Inbox | None) -> Services:
    http = await stack.enter_async_context(
        # No proxy from the environment, no cookies between users.
        aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
    )
    if inbox is None:
        inbox = PostgresInbox(
            await stack.enter_async_context(open_places(settings)),
            elsewhere_seconds=settings.elsewhere_retry_seconds,
        )
    metrics = Metrics()
    worker = RetryWorker(
        inbox,
        metrics,
        interval_seconds=settings.retry_interval_seconds,
        batch=settings.retry_batch,
    )
    await stack.enter_async_context(worker.running())
    jwks = KeySet(settings.jwks_url, http) if settings.jwks_url else None
    return Services(
        settings=settings,
        receiver=Receiver(inbox, settings.public_origin, metrics),
        tokens=TokenVerifier(settings, jwks),
        metrics=metrics,
        http=http,
    )


class _Dispatcher:
    """Hands a request to the function that its path names, with any method."""

    def __init__(self, functions: dict[str, LoadedFunction]) -> None:
        self._functions = functions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        name, path = scope["path_params"]["name"], scope["path_params"].get("path", "")
        services: Services = scope["app"].state.services
        loaded = self._functions.get(name)
        if loaded is None:
            missing = FunctionError(404, "not_found", "There is no function of this name.")
            response = error_response(missing, request_id_of(request))
            services.metrics.request("unknown", 404, 0.0)
        else:
            response = await loaded.function.respond(name, path, request, services, loaded.limits)
        await response(scope, receive, send)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    services: Services = request.app.state.services
    inbox = services.receiver.inbox
    if isinstance(inbox, PostgresInbox) and not await inbox.is_reachable():
        return JSONResponse({"status": "database unreachable"}, status_code=503)
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.services.metrics
    return Response(metrics.exposition(), headers={"Content-Type": metrics.content_type})


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    code = "method_not_allowed" if status == 405 else "not_found"
    said = FunctionError(status, code, "Functions are at /functions/v1/<name>.")
    return error_response(said, request_id_of(request))


def __getattr__(name: str) -> Any:
    """`app`, made when uvicorn asks for it: importing this module alone reads no settings."""
    if name != "app":
        raise AttributeError(name)
    app = create_app(Settings.from_environment())
    globals()["app"] = app
    return app
