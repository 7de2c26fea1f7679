"""From an answer to the error that says it: once, here, for PostgREST, auth, functions, gateway."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantry import _json, errors

#: SQLSTATEs and PostgREST codes that say more than the HTTP status (PostgreSQL, Appendix A;
#: PostgREST, Errors). A two-letter key stands for the whole class.
_BY_CODE: Mapping[str, type[errors.APIError]] = {
    "22": errors.ValidationError,  # data exception
    "23502": errors.ValidationError,  # not null
    "23514": errors.ValidationError,  # check
    "23503": errors.Conflict,  # foreign key
    "23505": errors.Conflict,  # unique
    "23P01": errors.Conflict,  # exclusion
    "PT402": errors.PlanLimitExceeded,
    "PT404": errors.NotFound,
    "PT409": errors.Conflict,
    "PT429": errors.RateLimited,
    "PGRST116": errors.NotFound,  # not exactly one row
    "PGRST202": errors.BadRequest,  # no such function: a 404 that is not about a record
    "PGRST204": errors.BadRequest,  # no such column
    "PGRST205": errors.BadRequest,  # no such table
    "42P01": errors.BadRequest,
    "42703": errors.BadRequest,
    "PGRST300": errors.ServerError,  # the server has no JWT secret
    "PGRST301": errors.AuthenticationError,
    "PGRST302": errors.AuthenticationError,
    "PGRST303": errors.AuthenticationError,
    # Auth codes whose status (400, 422) says less (Supabase Auth, Error codes).
    "invalid_credentials": errors.AuthenticationError,
    "invalid_grant": errors.AuthenticationError,
    "email_not_confirmed": errors.AuthenticationError,
    "refresh_token_not_found": errors.AuthenticationError,
    "refresh_token_already_used": errors.AuthenticationError,
    "session_not_found": errors.AuthenticationError,
    "session_expired": errors.AuthenticationError,
    "bad_jwt": errors.AuthenticationError,
    "user_already_exists": errors.Conflict,
    "email_exists": errors.Conflict,
    "validation_failed": errors.ValidationError,
    "weak_password": errors.ValidationError,
    "email_address_invalid": errors.ValidationError,
}

#: What the gateway and the database say about the home of a business.
_BY_REASON: Mapping[str, type[errors.APIError]] = {
    "agency_mismatch": errors.NotInBusiness,
    "unknown_tenant": errors.UnknownBusiness,
    "moving": errors.BusinessMoving,
}

_BY_STATUS: Mapping[int, type[errors.APIError]] = {
    401: errors.AuthenticationError,
    402: errors.PlanLimitExceeded,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    409: errors.Conflict,
    421: errors.BusinessMoving,  # the gateway looked twice and missed it
    422: errors.ValidationError,
    423: errors.PermissionDenied,  # suspended by the operator
    429: errors.RateLimited,
}

#: Fields that auth errors are about; its answers name none.
_AUTH_FIELDS: Mapping[str, str] = {
    "weak_password": "password",
    "user_already_exists": "email",
    "email_exists": "email",
    "email_address_invalid": "email",
}


@dataclass(frozen=True)
class Problem:
    """What a failed answer says, whoever wrote it."""

    message: str
    code: str | None = None
    hint: str | None = None
    details: Any = None

    @property
    def reason(self) -> str | None:
        reason = self.details.get("reason") if isinstance(self.details, Mapping) else None
        return reason if isinstance(reason, str) else None


def read_problem(status: int, content: bytes) -> Problem:
    """The problem in the body of a failed answer; a plain one when the body is no JSON object."""
    try:
        body = _json.decode(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return Problem(f"The server answered with HTTP status {status}.")
    # PostgREST and the gateway: message; auth: msg or error_description; functions: error.
    message = next(
        (
            body[name]
            for name in ("message", "msg", "error_description", "error")
            if isinstance(body.get(name), str) and body[name]
        ),
        f"The server answered with HTTP status {status}.",
    )
    code = body.get("error_code") or body.get("code")
    if not isinstance(code, str):
        # Older auth answers put the status into `code` and the word into `error`.
        named = body.get("error") if "error_description" in body else None
        code = named if isinstance(named, str) else None
    details = _details(body.get("details"))
    if details is None and code is not None and code in _AUTH_FIELDS:
        details = {"field": _AUTH_FIELDS[code], "reason": code}
    hint = body.get("hint")
    return Problem(message, code, hint if isinstance(hint, str) and hint else None, details)


def _details(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        decoded = _json.decode(value.encode())
    except ValueError:
        return value
    return decoded if isinstance(decoded, dict | list) else value


def error_of(
    status: int, headers: Mapping[str, str], content: bytes, request_id: str | None
) -> errors.APIError:
    """The error of a failed answer."""
    problem = read_problem(status, content)
    kind = _kind(status, problem)
    rest: dict[str, Any] = {
        "status": status,
        "code": problem.code,
        "hint": problem.hint,
        "details": problem.details,
        "request_id": request_id,
    }
    if issubclass(kind, errors.RateLimited | errors.BusinessMoving):
        return kind(problem.message, retry_after=retry_after(headers), **rest)
    return kind(problem.message, **rest)


def _kind(status: int, problem: Problem) -> type[errors.APIError]:
    if (reason := problem.reason or "") in _BY_REASON:
        return _BY_REASON[reason]
    code = problem.code or ""
    kind = _BY_CODE.get(code)
    if kind is None and len(code) == 5 and code[:2] == "22":
        kind = _BY_CODE["22"]
    if code == "42501":  # the server says 401 when nobody is signed in
        kind = errors.AuthenticationError if status == 401 else errors.PermissionDenied
    if kind is errors.Conflict and reason.startswith("idempotency"):
        return errors.IdempotencyConflict
    if kind is not None:
        return kind
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500 or status == 408:
        return errors.ServerError
    return errors.BadRequest if status >= 400 else errors.UnexpectedResponse


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3): a number or a date. None without one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    # NaN compares false with everything and ends here as well.
    return seconds if 0 <= seconds < float("inf") else 0.0 if seconds < 0 else None
