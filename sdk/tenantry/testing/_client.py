"""The real clients, connected to a server in memory."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Self

import httpx
from pydantic import SecretStr

from tenantry._async.client import AsyncTenantry
from tenantry._session import Session
from tenantry._sync.client import Tenantry
from tenantry.errors import TenantryError
from tenantry.models import Message
from tenantry.testing._server import SECRET_KEY, FakeServer

_URL = "http://tenantry.test"
_KEY = "sb_publishable_fake"


class _Fake:
    """What both fakes add to their client."""

    server: FakeServer

    def fail_next(
        self,
        kind: type[TenantryError],
        message: str = "Brought about by the test.",
        *,
        times: int = 1,
        retry_after: float | None = None,
    ) -> None:
        """Let the next requests fail with this error, such as `errors.RateLimited`.

        Retries are off unless you give `max_retries`; back-off then takes real time.
        """
        self.server.fail_next(kind, message, times=times, retry_after=retry_after)

    def receive_message(self, *, channel_id: Any, peer: str, body: str) -> Message:
        """Let a message from outside arrive on a channel, as a provider's webhook would."""
        return Message.model_validate(self.server.receive_message(channel_id, peer, body))


class FakeTenantry(_Fake, Tenantry):
    """A client signed in as the owner of a business `demo`, which is in use.

    Args:
        server: Share the world of another fake, to act as another user in it.
        email: Who to be; made when unknown. `owner@demo.example` by default.
        now: A clock of your own. Times of rows come from it.
        api_key: Act with this key of the shared world instead of a user; see `as_api_key`.
        operator: Act with the secret key instead of a user; see `as_operator`.
        options: As of `Tenantry`: `timeout`, `max_retries` (0 here), `on_response`.
    """

    def __init__(
        self,
        *,
        server: FakeServer | None = None,
        email: str | None = None,
        now: Callable[[], datetime.datetime] | None = None,
        api_key: SecretStr | str | None = None,
        operator: bool = False,
        **options: Any,
    ) -> None:
        self.server = server or FakeServer(now)
        self._http = httpx.Client(transport=httpx.MockTransport(self.server))
        options = {"max_retries": 0, "api_key": api_key, **options}
        key = SECRET_KEY if operator else _KEY
        super().__init__(_URL, key, **options, http_client=self._http)
        self._transport._owns_http = True  # so that closing the client closes it
        if operator or api_key is not None:
            return
        self.auth.restore(Session.model_validate(self.server.session_of(email)))
        if email is None and self.business_id is None:
            self._options = self._options.replace(business_id=self.server.demo_business_id)

    def as_user(self, email: str, **options: Any) -> Self:
        """Another user of the same world; a new one is in no business yet."""
        return type(self)(server=self.server, email=email, **options)

    def as_api_key(self, api_key: SecretStr | str, **options: Any) -> Self:
        """A client of the same world that acts with this API key, in its business."""
        return type(self)(server=self.server, api_key=api_key, **options)

    def as_operator(self, **options: Any) -> Self:
        """A client of the same world with the secret key: for `client.fleet` alone."""
        return type(self)(server=self.server, operator=True, **options)


class AsyncFakeTenantry(_Fake, AsyncTenantry):
    """The same for `AsyncTenantry`."""

    def __init__(
        self,
        *,
        server: FakeServer | None = None,
        email: str | None = None,
        now: Callable[[], datetime.datetime] | None = None,
        api_key: SecretStr | str | None = None,
        operator: bool = False,
        **options: Any,
    ) -> None:
        self.server = server or FakeServer(now)
        self._http = httpx.AsyncClient(transport=httpx.MockTransport(self.server))
        options = {"max_retries": 0, "api_key": api_key, **options}
        key = SECRET_KEY if operator else _KEY
        super().__init__(_URL, key, **options, http_client=self._http)
        self._transport._owns_http = True  # so that closing the client closes it
        if operator or api_key is not None:
            return
        self.auth.restore(Session.model_validate(self.server.session_of(email)))
        if email is None and self.business_id is None:
            self._options = self._options.replace(business_id=self.server.demo_business_id)

    def as_user(self, email: str, **options: Any) -> Self:
        """Another user of the same world; a new one is in no business yet."""
        return type(self)(server=self.server, email=email, **options)

    def as_api_key(self, api_key: SecretStr | str, **options: Any) -> Self:
        """A client of the same world that acts with this API key, in its business."""
        return type(self)(server=self.server, api_key=api_key, **options)

    def as_operator(self, **options: Any) -> Self:
        """A client of the same world with the secret key: for `client.fleet` alone."""
        return type(self)(server=self.server, operator=True, **options)
