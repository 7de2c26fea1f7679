"""The one error that functions raise, and the one body in which it is told.

`{"error": "<sentence>", "code": "...", "request_id": "...", "field"?: "..."}`. `error` is a
string because Supabase's clients show only `body["error"]` when a function fails.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response


class FunctionError(Exception):
    """An answer that is not a success.

    Args:
        status: HTTP status of the answer.
        code: stable snake_case word for programs.
        message: a sentence for people that names the field and the remedy; never a value of a
            secret, a piece of SQL or a stack.
        field: the field of the request that is wrong, if one is.
        headers: further headers of the answer, such as Retry-After or Allow.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = headers or {}


class Unavailable(FunctionError):
    """We cannot do it now and stored nothing: 503, so that the caller tries again."""

    def __init__(
        self, message: str, *, code: str = "unavailable", retry_after_seconds: int = 5
    ) -> None:
        super().__init__(503, code, message, headers={"Retry-After": str(retry_after_seconds)})


def error_response(error: FunctionError, request_id: str) -> Response:
    """The answer for an error; it is never cached."""
    body: dict[str, Any] = {
        "error": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if error.field is not None:
        body["field"] = error.field
    return Response(
        json.dumps(body, ensure_ascii=False),
        status_code=error.status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", "X-Request-Id": request_id, **error.headers},
    )


def internal_error() -> FunctionError:
    """What a client learns of a fault of ours: nothing but where to ask."""
    return FunctionError(
        500,
        "internal_error",
        "Something went wrong on our side. Tell us the request_id if it happens again.",
    )
