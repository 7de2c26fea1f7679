"""Errors as the real server writes them."""

from __future__ import annotations

from typing import Any, get_args

import httpx

from tenantry import _json, errors


class Problem(Exception):
    """A failed answer."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        hint: str = "",
        **more: Any,
    ) -> None:
        super().__init__(message)
        details = {"field": field, "reason": reason, **more}
        given = {name: value for name, value in details.items() if value is not None}
        self.body = {
            "code": code,
            "message": message,
            "details": _json.encode(given).decode() if given else None,
            "hint": hint or None,
        }
        self.status = _STATUS.get(code, 400)

    def response(self) -> httpx.Response:
        return httpx.Response(self.status, content=_json.encode(self.body))


_STATUS = {
    "22023": 400, "42501": 403, "GW403": 403, "PGRST301": 401, "PT402": 402, "PT404": 404,
    "PGRST202": 404, "42P01": 404, "23505": 409, "23503": 409, "PT409": 409, "PT429": 429,
}  # fmt: skip

#: What makes the client raise an error of each kind.
_INJECTED: dict[type[errors.TenantryError], tuple[int, str]] = {
    errors.BadRequest: (400, "PGRST100"),
    errors.ValidationError: (400, "22023"),
    errors.AuthenticationError: (401, "PGRST301"),
    errors.PermissionDenied: (403, "42501"),
    errors.NotFound: (404, "PT404"),
    errors.Conflict: (409, "PT409"),
    errors.IdempotencyConflict: (409, "PT409"),
    errors.PlanLimitExceeded: (402, "PT402"),
    errors.RateLimited: (429, "PT429"),
    errors.ServerError: (503, "PGRST001"),
    errors.BusinessMoving: (503, "PT503"),
    errors.NotInBusiness: (403, "GW403"),
    errors.UnknownBusiness: (404, "GW404"),
}
_REASONS: dict[type[errors.TenantryError], str] = {
    errors.IdempotencyConflict: "idempotency_conflict",
    errors.BusinessMoving: "moving",
    errors.NotInBusiness: "agency_mismatch",
    errors.UnknownBusiness: "unknown_tenant",
}


def injected(
    kind: type[errors.TenantryError], message: str, retry_after: float | None
) -> httpx.Response | httpx.TransportError:
    """The answer (or the lack of one) that makes the client raise this."""
    if issubclass(kind, errors.Timeout):
        return httpx.ReadTimeout(message)
    if issubclass(kind, errors.ConnectionError):
        return httpx.ConnectError(message)
    if kind not in _INJECTED:
        raise errors.InvalidArgument(
            "kind", f"{kind.__name__} cannot be brought about", hint="Give a concrete error class."
        )
    status, code = _INJECTED[kind]
    details = _json.encode({"reason": _REASONS.get(kind, "injected")}).decode()
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    body = {"code": code, "message": message, "details": details, "hint": None}
    return httpx.Response(status, headers=headers, content=_json.encode(body))


def require(given: dict[str, Any], *fields: str) -> None:
    """Refuse missing and blank arguments."""
    for field in fields:
        if not str(given.get(field) or "").strip():
            raise Problem(
                "22023", f"{field} must not be empty.", field=field, reason="bad_length",
                hint=f"Send {field}.",
            )  # fmt: skip


def choices_of(alias: Any) -> tuple[str, ...]:
    """The known values of an open list of the models: `Literal[...] | str`."""
    return get_args(get_args(alias)[0])


def choice(given: dict[str, Any], field: str, *choices: str) -> None:
    """Refuse a value that is not one of these."""
    if given.get(field) is not None and given[field] not in choices:
        raise Problem(
            "22023", f"{field} is not one we know.", field=field, reason="bad_choice",
            hint=f"Send {', '.join(choices)}.",
        )  # fmt: skip
