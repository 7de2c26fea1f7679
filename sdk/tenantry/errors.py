"""Everything the SDK raises.

    TenantryError
    ├── InvalidArgument        refused before sending: also a ValueError
    ├── NoBusinessChosen       a call that needs a business, before client.use(...)
    ├── APIError               the server answered with an error
    │   ├── BadRequest  ValidationError  AuthenticationError
    │   ├── PermissionDenied ── NotInBusiness
    │   ├── NotFound ── UnknownBusiness
    │   ├── Conflict ── IdempotencyConflict
    │   ├── PlanLimitExceeded  RateLimited
    │   ├── ServerError ── BusinessMoving
    │   └── UnexpectedResponse the answer was not what this version of the SDK can read
    ├── FleetJobError          client.fleet.wait(...)
    │   ├── FleetJobFailed     the job ended badly
    │   └── FleetJobUnfinished it did not end in time
    └── TransportError         no answer
        ├── Timeout
        └── ConnectionError

How an answer becomes one of these is in `tenantry._error_mapping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequest",
    "BusinessMoving",
    "Conflict",
    "ConnectionError",
    "FleetJobError",
    "FleetJobFailed",
    "FleetJobUnfinished",
    "IdempotencyConflict",
    "InvalidArgument",
    "NoBusinessChosen",
    "NotFound",
    "NotInBusiness",
    "PermissionDenied",
    "PlanLimitExceeded",
    "RateLimited",
    "ServerError",
    "TenantryError",
    "Timeout",
    "TransportError",
    "UnexpectedResponse",
    "UnknownBusiness",
    "ValidationError",
]


def _rebuild(kind: type[TenantryError], state: dict[str, Any]) -> TenantryError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    Exception.__init__(error, state.get("message", ""))
    return error


class TenantryError(Exception):
    """The base of all errors of this SDK. `str()` of one says what to do."""

    #: What to do when nobody said anything better.
    remedy: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self._hint = hint

    @property
    def hint(self) -> str:
        """What to do about it: the server's own words where it gave some."""
        return self._hint or self.remedy

    def _facts(self) -> list[str]:
        return []

    def __str__(self) -> str:
        # Postgres' own messages have no full stop.
        message = self.message if self.message.endswith((".", "!", "?")) else f"{self.message}."
        text = f"{message} {self.hint}".rstrip()
        facts = ", ".join(self._facts())
        return f"{text} ({facts})" if facts else text

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders in task queues; keyword-only arguments would not.
        return _rebuild, (type(self), dict(self.__dict__))


class InvalidArgument(TenantryError, ValueError):
    """An argument that cannot be sent. Nothing was sent."""

    def __init__(self, field: str, message: str, *, hint: str) -> None:
        super().__init__(f"{field}: {message}", hint=hint)
        self.field = field


class NoBusinessChosen(TenantryError):
    """The call needs to know in which business."""

    remedy = "Call client.use(<slug or id>) first; client.businesses.mine() lists yours."

    def __init__(self) -> None:
        super().__init__("No business is chosen.")


class APIError(TenantryError):
    """The server answered with an error.

    Attributes:
        status: HTTP status.
        code: SQLSTATE, PostgREST or auth code, such as `22023` or `invalid_credentials`.
        message: One sentence by the server.
        hint: The remedy.
        details: What else the server said: usually a mapping, sometimes text.
        field: Name of the argument or column at fault, where there is one.
        reason: Stable snake_case word for the exact cause, such as `bad_phone`.
        request_id: Give this to whoever runs the server.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        hint: str | None = None,
        details: Any = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id

    def _detail(self, name: str) -> Any:
        return self.details.get(name) if isinstance(self.details, Mapping) else None

    @property
    def field(self) -> str | None:
        value = self._detail("field")
        return value if isinstance(value, str) else None

    @property
    def reason(self) -> str | None:
        value = self._detail("reason")
        return value if isinstance(value, str) else None

    def _facts(self) -> list[str]:
        facts = [f"HTTP {self.status}"]
        if self.code:
            facts.append(self.code)
        if self.request_id:
            facts.append(f"request {self.request_id}")
        return facts


class BadRequest(APIError):
    """The request was malformed, or the server does not know what it names."""

    remedy = "Check the arguments, and that the SDK's version fits the server's."


class ValidationError(APIError):
    """A value was refused; `field` says which."""

    remedy = "Correct the value and send it again."


class AuthenticationError(APIError):
    """Nobody, or nobody any more: wrong password, missing, expired or forged token or key."""

    remedy = (
        "Sign in with client.auth.sign_in(...), or give a key and an access_token that are valid."
    )


class PermissionDenied(APIError):
    """Known, but without the right."""

    remedy = "Ask an owner or admin of the business for the right."


class NotInBusiness(PermissionDenied):
    """The caller does not belong to the business that the request names."""

    remedy = "Choose another with client.use(...); client.businesses.mine() lists yours."


class NotFound(APIError):
    """There is no such record, or the caller may not see it: the two look the same on purpose."""

    remedy = "Check the id, and that client.use(...) chose its business."


class UnknownBusiness(NotFound):
    """There is no business, or no address of one, as the request names it."""

    remedy = "Check the id or the host name; client.businesses.mine() lists yours."


class Conflict(APIError):
    """The state of things forbids it: it exists already, or the change of status is illegal."""

    remedy = "Read the current state and decide again."


class IdempotencyConflict(Conflict):
    """The idempotency key was used before for another request."""

    remedy = "Use a new idempotency_key for a new request; repeat the same arguments to repeat one."


class PlanLimitExceeded(APIError):
    """The organization's plan does not allow more."""

    remedy = "Remove some, or choose a larger plan."

    @property
    def limit(self) -> int | None:
        """The bound of the plan."""
        value = self._detail("limit")
        return value if isinstance(value, int) else None

    @property
    def used(self) -> int | None:
        """How many are in use."""
        value = self._detail("used")
        return value if isinstance(value, int) else None


class _Later(APIError):
    """The same request may succeed later.

    Attributes:
        retry_after: Seconds to wait as the server said, else None.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.retry_after = retry_after


class RateLimited(_Later):
    """Too many requests; retries did not help, or would have had to wait too long.

    Attributes:
        retry_after: Seconds to wait as the server said, else None.
    """

    @property
    def hint(self) -> str:
        if self._hint:
            return self._hint
        wait = "a while" if self.retry_after is None else f"{self.retry_after:g} seconds"
        return f"Wait {wait} and try again, or send less at once."


class ServerError(APIError):
    """The server failed or could not be reached by its own gateway."""

    remedy = "Try again; if it stays, report the request id."


class BusinessMoving(_Later, ServerError):
    """The business is being moved to another home and can only be read for a moment.

    Nothing was done. Requests that failed so are repeated while retries last.

    Attributes:
        retry_after: Seconds to wait as the server said, else None.
    """

    remedy = "Try again in a few seconds; reading works meanwhile."


class UnexpectedResponse(APIError):
    """The answer is not what this version of the SDK can read."""

    remedy = "Check that the URL is the API's origin and that the SDK's version fits the server's."


class FleetJobError(TenantryError):
    """An operator's job did not come to its end.

    Attributes:
        job_id: `client.fleet.job(job_id)` tells how it stands.
    """

    def __init__(self, message: str, *, job_id: UUID) -> None:
        super().__init__(message)
        self.job_id = job_id

    def _facts(self) -> list[str]:
        return [f"job {self.job_id}"]


class FleetJobFailed(FleetJobError):
    """The operator's worker could not do a job."""

    remedy = "Mend what the message names and ask again; `tenantry fleet worker` has the log."


class FleetJobUnfinished(FleetJobError):
    """A job is not done yet; it goes on."""

    remedy = "Wait again with client.fleet.wait(job_id); check that `tenantry fleet worker` runs."


class TransportError(TenantryError):
    """No answer came. A write may or may not have happened; see `Safety` in the reference.

    Attributes:
        request_id: The id that was sent along.
        maybe_applied: False when the request certainly did not reach the server.
    """

    def __init__(
        self, message: str, *, request_id: str | None = None, maybe_applied: bool = True
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.maybe_applied = maybe_applied

    def _facts(self) -> list[str]:
        return [f"request {self.request_id}"] if self.request_id else []


class Timeout(TransportError):
    """The answer took longer than `timeout` seconds."""

    remedy = "Try again, or allow more time: client.with_options(timeout=60)."


class ConnectionError(TransportError):  # noqa: A001  the word users look for; import the module
    """The connection could not be made, or broke."""

    remedy = "Check the URL and that the server runs."
