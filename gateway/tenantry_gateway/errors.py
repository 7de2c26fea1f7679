"""What the gateway says when it refuses, in the shape the calling client library shows.

Every body carries `code`, `message`, `details`, `hint` (as PostgREST) and `request_id`; `details`
is JSON text with the `field` and a stable `reason`, as the database's own errors have it. Beside
these, each path adds what its library reads: auth-js `msg` and `error_code`, storage-js
`statusCode` and `error`, functions clients a string `error`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from tenantry_gateway.routes import Route

JSON_TYPE = "application/json; charset=utf-8"


class GatewayError(Exception):
    """A request that the gateway answers itself.

    `reason` is a stable snake_case word: it labels the metric and stands in `details`.
    `close` ends the connection, for requests whose end or whose sender cannot be trusted.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        hint: str | None = None,
        *,
        field: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.hint = hint
        self.field = field
        self.code = code or f"GW{status}"
        self.headers = headers or {}
        self.close = close


def details(reason: str, field: str | None = None) -> str:
    """The JSON text of `details`."""
    return json.dumps({"field": field, "reason": reason} if field else {"reason": reason})


def error_body(error: GatewayError, route: Route, request_id: str) -> bytes:
    """The JSON body of `error` for the client library of `route`."""
    body: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "details": details(error.reason, error.field),
        "hint": error.hint,
        "request_id": request_id,
    }
    if route is Route.AUTH:
        # auth-js takes `error_code` where no API version is announced; `code` is the status there.
        body |= {"code": error.status, "error_code": error.reason, "msg": error.message}
    elif route is Route.STORAGE:
        body |= {"statusCode": str(error.status), "error": _phrase(error.status)}
    elif route is Route.FUNCTIONS:
        hint = f" {error.hint}" if error.hint else ""
        body["error"] = f"{error.message}{hint}"
    return json.dumps(body).encode()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def error_response(error: GatewayError, route: Route, request_id: str) -> web.Response:
    """The whole answer. Never cached: the next attempt may succeed."""
    response = web.Response(
        status=error.status,
        body=error_body(error, route, request_id),
        headers={"Content-Type": JSON_TYPE, "Cache-Control": "no-store", **error.headers},
    )
    if error.close:
        response.force_close()
    return response
