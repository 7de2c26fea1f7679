# Made from _async/client.py by tools/generate_sync.py: do not edit.
"""The client object: where, with which key, as whom, in which business."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, Self
from uuid import UUID

import httpx
from postgrest import SyncPostgrestClient, SyncRequestBuilder
from postgrest._sync.request_builder import SyncRPCFilterRequestBuilder
from pydantic import SecretStr

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
from tenantry._sync.access import Access
from tenantry._sync.api_keys import ApiKeys
from tenantry._sync.auth import Auth
from tenantry._sync.businesses import Businesses
from tenantry._sync.calls import Calls
from tenantry._sync.channels import Channels
from tenantry._sync.conversations import Conversations
from tenantry._sync.customers import Customers
from tenantry._sync.departments import Departments
from tenantry._sync.domains import Domains
from tenantry._sync.fleet import Fleet
from tenantry._sync.members import Members
from tenantry._sync.messages import Messages
from tenantry._sync.metrics import Metrics
from tenantry._sync.organizations import Organizations
from tenantry._sync.resource import request_of
from tenantry._sync.roles import Roles
from tenantry._sync.sessions import Sessions
from tenantry._sync.shares import Shares
from tenantry._sync.transport import Transport
from tenantry.errors import InvalidArgument
from tenantry.models import Business


class Tenantry:
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
        http_client: httpx.Client | None = None,
    ) -> None:
        self._options = Options(
            timeout=timeout,
            max_retries=max_retries,
            business_id=_business_id(business),
            on_response=on_response,
        )
        origin = check_url(url)
        identity = check_identity(key, access_token, api_key)
        self._transport = Transport(origin, identity, http_client=http_client)
        # Builds queries only; the transport sends them.
        self._queries = SyncPostgrestClient(
            f"{self._transport.url}/rest/v1", headers={}, http_client=self._transport.http
        )
        # The schema is the gateway's choice: it knows where the business lives.
        for name in ("Accept-Profile", "Content-Profile", "X-Client-Info"):
            self._queries.headers.pop(name, None)
        self.auth = Auth(self)

    # Resources: made when first used.

    @functools.cached_property
    def organizations(self) -> Organizations:
        """Who pays: organizations of the signed-in user."""
        return Organizations(self)

    @functools.cached_property
    def businesses(self) -> Businesses:
        """The tenants: businesses of the signed-in user."""
        return Businesses(self)

    @functools.cached_property
    def members(self) -> Members:
        """People of the business in use, and their roles."""
        return Members(self)

    @functools.cached_property
    def roles(self) -> Roles:
        """What people of the business in use can be: sets of permissions."""
        return Roles(self)

    @functools.cached_property
    def departments(self) -> Departments:
        """Departments of the business in use, and who works where."""
        return Departments(self)

    @functools.cached_property
    def shares(self) -> Shares:
        """Single records shared with, or kept from, people of the business in use."""
        return Shares(self)

    @functools.cached_property
    def access(self) -> Access:
        """What you may do, and why."""
        return Access(self)

    @functools.cached_property
    def api_keys(self) -> ApiKeys:
        """Keys for machines of the business in use."""
        return ApiKeys(self)

    @functools.cached_property
    def sessions(self) -> Sessions:
        """Where you are signed in."""
        return Sessions(self)

    @functools.cached_property
    def domains(self) -> Domains:
        """Host names of the business in use."""
        return Domains(self)

    @functools.cached_property
    def customers(self) -> Customers:
        """Whom the business in use serves."""
        return Customers(self)

    @functools.cached_property
    def channels(self) -> Channels:
        """Phone numbers, mailboxes and chats of the business in use."""
        return Channels(self)

    @functools.cached_property
    def calls(self) -> Calls:
        """Phone calls of the business in use."""
        return Calls(self)

    @functools.cached_property
    def conversations(self) -> Conversations:
        """Threads of messages of the business in use."""
        return Conversations(self)

    @functools.cached_property
    def messages(self) -> Messages:
        """Messages of the business in use."""
        return Messages(self)

    @functools.cached_property
    def metrics(self) -> Metrics:
        """Daily figures of the business in use."""
        return Metrics(self)

    @functools.cached_property
    def fleet(self) -> Fleet:
        """Where organizations live: for operators, with the secret key."""
        return Fleet(self)

    # Choosing.

    def use(self, business: str | UUID) -> Business:
        """Work in this business from now on. One request, which checks that you may.

        Args:
            business: Its slug or id.

        Raises:
            NotFound: There is no such business, or you are no member.
            Conflict: Two of your organizations have a business of this slug; give the id.
        """
        found = self.businesses.get(business)
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
        clone.auth = Auth(clone)
        return clone

    # Beyond the resources.

    def from_(self, table: str) -> SyncRequestBuilder:
        """A query of a table or view, built with postgrest-py. Give it to `send`."""
        return self._queries.from_(table)

    def rpc(
        self, function: str, arguments: Mapping[str, Any] | None = None
    ) -> SyncRPCFilterRequestBuilder:
        """A call of a database function, built with postgrest-py. Give it to `send`."""
        return self._queries.rpc(function, dict(arguments or {}))

    def send(self, builder: Any, *, repeatable: bool | None = None) -> Reply:
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
        return self._transport.send(request, self._options)

    # Closing.

    def close(self) -> None:
        """Close the connections. Clients made by `with_options` share them."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
