"""The client object: where, with which key, as whom, in which business."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, Self
from uuid import UUID

import httpx
from postgrest import AsyncPostgrestClient, AsyncRequestBuilder
from postgrest._async.request_builder import AsyncRPCFilterRequestBuilder
from pydantic import SecretStr

from tenantry._async.access import AsyncAccess
from tenantry._async.api_keys import AsyncApiKeys
from tenantry._async.auth import AsyncAuth
from tenantry._async.businesses import AsyncBusinesses
from tenantry._async.calls import AsyncCalls
from tenantry._async.channels import AsyncChannels
from tenantry._async.conversations import AsyncConversations
from tenantry._async.customers import AsyncCustomers
from tenantry._async.departments import AsyncDepartments
from tenantry._async.domains import AsyncDomains
from tenantry._async.fleet import AsyncFleet
from tenantry._async.members import AsyncMembers
from tenantry._async.messages import AsyncMessages
from tenantry._async.metrics import AsyncMetrics
from tenantry._async.organizations import AsyncOrganizations
from tenantry._async.resource import request_of
from tenantry._async.roles import AsyncRoles
from tenantry._async.sessions import AsyncSessions
from tenantry._async.shares import AsyncShares
from tenantry._async.transport import AsyncTransport
from tenantry._options import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    Exchange,
    Options,
    check_identity,
    check_url,
)
from tenantry._reply import Reply
from tenantry._retry import Safety
from tenantry.errors import InvalidArgument
from tenantry.models import Business


class AsyncTenantry:
    """A client of one Tenantry API.

    Args:
        url: The API's origin, such as `http://127.0.0.1:54321`.
        key: The publishable key (or, on a server only, the secret key). Older anon and
            service_role keys work too. Not needed with an `api_key`.
        access_token: Act as the user of this token, for a server that got it with a request.
            It is not renewed; `auth.sign_in` gives a session that is.
        api_key: Act with a business's API key (`tnk_...`), as `api_keys.create` gave it: as the
            member who made it, narrowed to its scopes. Nobody signs in on such a client.
        timeout: Seconds for each phase of a request: connecting, sending, waiting for bytes.
        max_retries: Further attempts after 408, 429, 502 to 504 and broken connections; waits
            grow from 0.5 s and are random, or as long as the server asks, up to a minute.
            Writes are repeated only where that cannot do them twice.
        business: Id of the business to work in, when it is known: saves calling `use`.
        on_response: Called after each attempt, with its status, headers, request id and duration.
        http_client: Your own httpx client: proxies, certificates, limits. You close it.

    Raises:
        InvalidArgument: Naming the argument that cannot be right.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        access_token: str | None = None,
        api_key: SecretStr | str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        business: UUID | str | None = None,
        on_response: Callable[[Exchange], None] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._options = Options(
            timeout=timeout,
            max_retries=max_retries,
            business_id=_business_id(business),
            on_response=on_response,
        )
        origin = check_url(url)
        identity = check_identity(key, access_token, api_key)
        self._transport = AsyncTransport(origin, identity, http_client=http_client)
        # Builds queries only; the transport sends them.
        self._queries = AsyncPostgrestClient(
            f"{self._transport.url}/rest/v1", headers={}, http_client=self._transport.http
        )
        # The schema is the gateway's choice: it knows where the business lives.
        for name in ("Accept-Profile", "Content-Profile", "X-Client-Info"):
            self._queries.headers.pop(name, None)
        self.auth = AsyncAuth(self)

    # Resources: made when first used.

    @functools.cached_property
    def organizations(self) -> AsyncOrganizations:
        """Who pays: organizations of the signed-in user."""
        return AsyncOrganizations(self)

    @functools.cached_property
    def businesses(self) -> AsyncBusinesses:
        """The tenants: businesses of the signed-in user."""
        return AsyncBusinesses(self)

    @functools.cached_property
    def members(self) -> AsyncMembers:
        """People of the business in use, and their roles."""
        return AsyncMembers(self)

    @functools.cached_property
    def roles(self) -> AsyncRoles:
        """What people of the business in use can be: sets of permissions."""
        return AsyncRoles(self)

    @functools.cached_property
    def departments(self) -> AsyncDepartments:
        """Departments of the business in use, and who works where."""
        return AsyncDepartments(self)

    @functools.cached_property
    def shares(self) -> AsyncShares:
        """Single records shared with, or kept from, people of the business in use."""
        return AsyncShares(self)

    @functools.cached_property
    def access(self) -> AsyncAccess:
        """What you may do, and why."""
        return AsyncAccess(self)

    @functools.cached_property
    def api_keys(self) -> AsyncApiKeys:
        """Keys for machines of the business in use."""
        return AsyncApiKeys(self)

    @functools.cached_property
    def sessions(self) -> AsyncSessions:
        """Where you are signed in."""
        return AsyncSessions(self)

    @functools.cached_property
    def domains(self) -> AsyncDomains:
        """Host names of the business in use."""
        return AsyncDomains(self)

    @functools.cached_property
    def customers(self) -> AsyncCustomers:
        """Whom the business in use serves."""
        return AsyncCustomers(self)

    @functools.cached_property
    def channels(self) -> AsyncChannels:
        """Phone numbers, mailboxes and chats of the business in use."""
        return AsyncChannels(self)

    @functools.cached_property
    def calls(self) -> AsyncCalls:
        """Phone calls of the business in use."""
        return AsyncCalls(self)

    @functools.cached_property
    def conversations(self) -> AsyncConversations:
        """Threads of messages of the business in use."""
        return AsyncConversations(self)

    @functools.cached_property
    def messages(self) -> AsyncMessages:
        """Messages of the business in use."""
        return AsyncMessages(self)

    @functools.cached_property
    def metrics(self) -> AsyncMetrics:
        """Daily figures of the business in use."""
        return AsyncMetrics(self)

    @functools.cached_property
    def fleet(self) -> AsyncFleet:
        """Where organizations live: for operators, with the secret key."""
        return AsyncFleet(self)

    # Choosing.

    async def use(self, business: str | UUID) -> Business:
        """Work in this business from now on. One request, which checks that you may.

        Args:
            business: Its slug or id.

        Raises:
            NotFound: There is no such business, or you are no member.
            Conflict: Two of your organizations have a business of this slug; give the id.
        """
        found = await self.businesses.get(business)
        self._options = self._options.replace(business_id=found.id)
        return found

    @property
    def business_id(self) -> UUID | None:
        """The business in use."""
        return self._options.business_id

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        business: UUID | str | None = None,
        on_response: Callable[[Exchange], None] | None = None,
    ) -> Self:
        """The same client with other options: same user, same connections.

        Calling `use` on the new one does not change this one.
        """
        clone = copy.copy(self)
        clone.__dict__ = {
            name: value
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), functools.cached_property)
        }
        clone._options = self._options.replace(
            timeout=timeout,
            max_retries=max_retries,
            business_id=_business_id(business),
            on_response=on_response,
        )
        clone.auth = AsyncAuth(clone)
        return clone

    # Beyond the resources.

    def from_(self, table: str) -> AsyncRequestBuilder:
        """A query of a table or view, built with postgrest-py. Give it to `send`."""
        return self._queries.from_(table)

    def rpc(
        self, function: str, arguments: Mapping[str, Any] | None = None
    ) -> AsyncRPCFilterRequestBuilder:
        """A call of a database function, built with postgrest-py. Give it to `send`."""
        return self._queries.rpc(function, dict(arguments or {}))

    async def send(self, builder: Any, *, repeatable: bool | None = None) -> Reply:
        """Send a query of `from_` or `rpc`: exact numbers, our errors and retries.

        Args:
            builder: The query. Do not call its `execute`.
            repeatable: Whether sending it twice does no harm. By default reads and updates are
                repeatable; inserts and functions are not.
        """
        if repeatable is None:
            repeatable = builder.request.http_method in ("GET", "HEAD", "PATCH", "DELETE")
        safety = Safety.REPEATABLE if repeatable else Safety.ONCE
        request = request_of(builder, safety, in_business=True)
        return await self._transport.send(request, self._options)

    # Closing.

    async def aclose(self) -> None:
        """Close the connections. Clients made by `with_options` share them."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.url!r}, business={self.business_id})"


def _business_id(business: UUID | str | None) -> UUID | None:
    if business is None or isinstance(business, UUID):
        return business
    try:
        return UUID(business)
    except (ValueError, AttributeError, TypeError):
        raise InvalidArgument(
            "business", f"{business!r} is no id", hint="Give its UUID here, or its slug to use()."
        ) from None
