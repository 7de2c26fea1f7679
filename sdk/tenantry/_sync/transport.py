# Made from _async/transport.py by tools/generate_sync.py: do not edit.
"""Sending a request and reading its answer: headers, attempts, time-outs, errors. No tables."""

from __future__ import annotations

import logging
import platform
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tenantry import _json
from tenantry._error_mapping import error_of, retry_after
from tenantry._options import Exchange, Identity, Options, is_jwt, trusted_authorities
from tenantry._reply import Reply
from tenantry._retry import RetryPolicy, Safety
from tenantry._session import TokenState
from tenantry._version import __version__
from tenantry.errors import (
    APIError,
    AuthenticationError,
    BusinessMoving,
    ConnectionError,  # noqa: A004
    Timeout,
    TransportError,
    UnexpectedResponse,
)

log = logging.getLogger("tenantry")

_AGENT = f"tenantry-py/{__version__} python/{platform.python_version()}"
#: These happen before the first byte of a request leaves.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


@dataclass(frozen=True)
class Request:
    """What to send.

    Attributes:
        signed: False for requests that must not carry the user's token.
        in_business: The request is about the business in use: the gateway sends it to its home.
    """

    method: str
    url: str
    params: httpx.QueryParams = field(default_factory=httpx.QueryParams)
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    content: bytes | None = None
    safety: Safety = Safety.REPEATABLE
    signed: bool = True
    in_business: bool = False


class Transport:
    """One origin, one key, one HTTP connection pool, one user's token.

    Logs a line per attempt to the logger `tenantry` at DEBUG: never bodies, queries or tokens.
    """

    def __init__(self, url: str, identity: Identity, *, http_client: httpx.Client | None) -> None:
        self.url = url
        self.tokens = TokenState(identity.bearer)
        self.has_api_key = identity.is_api_key
        self.http = http_client or httpx.Client(verify=trusted_authorities())
        self._owns_http = http_client is None
        self._key = identity.key
        #: Held while the token is renewed: a refresh token works once.
        self.renewing = threading.Lock()
        #: Set by the auth resource, which knows how.
        self.renew: Callable[[Options], None] | None = None

    def close(self) -> None:
        """Close the connections, unless they were given from outside."""
        if self._owns_http:
            self.http.close()

    def send(self, request: Request, options: Options) -> Reply:
        """The answer, after as many attempts as the options and the request allow.

        Raises APIError for an error answer, TransportError when there was none.
        """
        policy = RetryPolicy(options.max_retries)
        request_id = uuid.uuid4().hex
        attempt = 0
        may_renew = request.signed
        while True:
            if request.signed and self.tokens.is_due:
                self._renew_quietly(options)
            token = self.tokens.access_token if request.signed else None
            try:
                response = self._attempt(request, options, request_id, attempt, token)
            except TransportError as error:
                wait = policy.wait_after_silence(
                    attempt, maybe_applied=error.maybe_applied, safety=request.safety
                )
                if wait is None:
                    raise
            else:
                if response.is_success:
                    return _reply(response, request_id, attempt)
                error_answer = _error(response, request_id)
                if may_renew and isinstance(error_answer, AuthenticationError):
                    # The server's clock may end a token before ours does. 401: nothing was done.
                    may_renew = False
                    if error_answer.code != "42501" and self._renew_rejected(token, options):
                        continue
                wait = policy.wait_after_answer(
                    attempt,
                    status=response.status_code,
                    code=error_answer.code,
                    retry_after=retry_after(response.headers),
                    safety=request.safety,
                    is_refused=isinstance(error_answer, BusinessMoving),
                )
                if wait is None:
                    raise error_answer
            time.sleep(wait)
            attempt += 1

    def _attempt(
        self, request: Request, options: Options, request_id: str, attempt: int, token: str | None
    ) -> httpx.Response:
        headers = httpx.Headers(request.headers)
        headers.update(self._headers(request, request_id, attempt, token))
        if request.in_business and options.business_id is not None:
            headers["x-tenant"] = str(options.business_id)
        started = time.monotonic()
        try:
            response = self.http.request(
                request.method,
                request.url,
                params=request.params,
                headers=headers,
                content=request.content,
                timeout=options.timeout,
                # A redirect would carry the key to wherever it points.
                follow_redirects=False,
            )
        except httpx.TimeoutException as error:
            raise Timeout(
                f"No answer within {options.timeout:g} seconds.",
                request_id=request_id,
                maybe_applied=not isinstance(error, _NOT_SENT),
            ) from error
        except httpx.TransportError as error:
            raise ConnectionError(
                f"The connection to {self.url} failed: {error or type(error).__name__}.",
                request_id=request_id,
                maybe_applied=not isinstance(error, _NOT_SENT),
            ) from error
        elapsed = time.monotonic() - started
        path = response.request.url.path
        log.debug(
            "%s %s %s request_id=%s attempt=%d seconds=%.3f",
            *(request.method, path, response.status_code, request_id, attempt, elapsed),
        )
        if options.on_response is not None:
            options.on_response(
                Exchange(
                    method=request.method,
                    path=path,
                    status=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    request_id=response.headers.get("x-request-id") or request_id,
                    attempt=attempt,
                    elapsed=elapsed,
                )
            )
        return response

    def _headers(
        self, request: Request, request_id: str, attempt: int, token: str | None
    ) -> dict[str, str]:
        headers = {
            "apikey": self._key,
            "user-agent": _AGENT,
            "x-client-info": _AGENT,
            "x-request-id": request_id,
        }
        # The newer keys are no tokens and are not sent as such; the gateway knows their role.
        if bearer := token or (self._key if is_jwt(self._key) else None):
            headers["authorization"] = f"Bearer {bearer}"
        if request.content is not None:
            headers["content-type"] = "application/json"
        if "accept" not in request.headers:
            headers["accept"] = "application/json"
        if attempt:
            headers["x-retry-count"] = str(attempt)
        return headers

    def _renew_quietly(self, options: Options) -> None:
        """Renew a token that is about to end; go on with the present one while it lasts."""
        with self.renewing:
            if self.renew is None or not self.tokens.is_due:
                return
            try:
                self.renew(options)
            except (APIError, TransportError):
                if self.tokens.session is None or self.tokens.is_over:
                    raise

    def _renew_rejected(self, rejected: str | None, options: Options) -> bool:
        """True when another token than the rejected one is there now."""
        if self.tokens.session is None or self.renew is None:
            return False
        with self.renewing:
            if self.tokens.access_token == rejected:
                self.renew(options)
        return self.tokens.access_token != rejected


def _reply(response: httpx.Response, request_id: str, retries: int) -> Reply:
    server_id = response.headers.get("x-request-id") or request_id
    data: Any = None
    if response.content and response.request.method != "HEAD":
        try:
            data = _json.decode(response.content)
        except (ValueError, RecursionError) as error:
            raise UnexpectedResponse(
                f"{response.request.url.path} answered with something that is not JSON.",
                status=response.status_code,
                request_id=server_id,
            ) from error
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(data, response.status_code, headers, server_id, retries)


def _error(response: httpx.Response, request_id: str) -> APIError:
    return error_of(
        response.status_code,
        response.headers,
        response.content,
        response.headers.get("x-request-id") or request_id,
    )
