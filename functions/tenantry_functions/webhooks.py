"""Receiving a webhook: find the connection, verify, store once. Answering is the function's.

The order is the protection: nothing is parsed before it is verified, the tenant comes from the
connection that verified it and never from the body, and the body must name the same account.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from tenantry_functions.errors import FunctionError
from tenantry_functions.inbox import Connection, Inbox, Receipt
from tenantry_functions.metrics import Metrics
from tenantry_functions.providers import (
    Payload,
    Reading,
    SignatureError,
    SignedRequest,
    WebhookProvider,
)

_log = logging.getLogger("tenantry.functions.webhooks")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MEDIA_TYPES = frozenset({"application/x-www-form-urlencoded", "application/json"})


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is verified and stored."""

    connection: Connection
    route: str
    payload: Payload
    reading: Reading
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Receiver:
    """Receives webhooks for every function.

    Args:
        public_origin: scheme, host and port that the provider was told.
    """

    inbox: Inbox
    public_origin: str
    metrics: Metrics

    async def receive(
        self, provider: WebhookProvider, path: str, request: Request, body: bytes
    ) -> Delivery:
        """Take a request through to the inbox.

        Args:
            path: what follows the function's name: `<connection id>[/<route>]`.

        Raises:
            FunctionError: 401 unknown connection or not signed by it (one answer for both),
                403 signed but about another account, 404 unknown route, 415 unknown body type.
            Unavailable: not stored; the provider shall send again.
        """
        identifier, _, route = path.partition("/")
        if route not in provider.routes:
            known = ", ".join(sorted(filter(None, provider.routes)))
            raise FunctionError(404, "not_found", f"After the connection id comes: {known}.")
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in _MEDIA_TYPES:
            raise FunctionError(
                415,
                "unsupported_media_type",
                "Send application/x-www-form-urlencoded or application/json.",
                field="content-type",
            )
        signed = SignedRequest(self._signed_url(request), request.headers, body)
        connection = await self._connection(identifier, provider)
        payload = self._verify(provider, signed, connection)
        if connection is None or payload is None:
            self.metrics.webhook(provider.name, "any", "refused")
            raise FunctionError(
                401,
                "invalid_signature",
                "The signature does not fit this connection. Check the auth token of the "
                "connection and that the provider calls exactly the URL that we show.",
            )
        if provider.account(payload) != connection.account_ref:
            self.metrics.webhook(provider.name, "any", "other_account")
            raise FunctionError(
                403,
                "account_mismatch",
                "The request is about another account than the connection's.",
                field="AccountSid",
            )
        reading = _read(provider, payload)
        receipt = await self.inbox.ingest(connection, reading, payload)
        outcome = "duplicate" if receipt.duplicate else receipt.status
        self.metrics.webhook(provider.name, reading.kind, outcome)
        return Delivery(connection, route, payload, reading, receipt)

    def url(self, function: str, connection: Connection, route: str) -> str:
        """Our own URL to give to the provider for what comes next."""
        return f"{self.public_origin}/functions/v1/{function}/{connection.id}/{route}"

    def _signed_url(self, request: Request) -> bytes:
        """The URL that the provider signed; Host and X-Forwarded-* have no say in it."""
        raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
        query: bytes = request.scope["query_string"]
        return self.public_origin.encode() + raw_path + (b"?" + query if query else b"")

    async def _connection(self, identifier: str, provider: WebhookProvider) -> Connection | None:
        if not _UUID.fullmatch(identifier):
            return None
        connection = await self.inbox.connection(UUID(identifier))
        if connection is None or not connection.is_active or connection.provider != provider.name:
            return None
        return connection

    def _verify(
        self, provider: WebhookProvider, signed: SignedRequest, connection: Connection | None
    ) -> Payload | None:
        """The payload, None for any reason not to trust it."""
        # Without a connection the same work is done, so that the time taken does not tell.
        secrets = connection.secrets if connection else ("no such connection",)
        try:
            payload = provider.verify(signed, secrets)
        except SignatureError as error:
            _log.info("refused: %s", error)
            return None
        except Exception as error:
            _log.warning("refused: the verifier failed with %s", type(error).__name__)
            return None
        # A verifier that ignored an empty list of secrets must not let anybody in.
        return payload if connection and any(connection.secrets) else None


def _read(provider: WebhookProvider, payload: Payload) -> Reading:
    """Its meaning; a reader that fails loses nothing, the request is stored as it came."""
    try:
        return provider.read(payload)
    except Exception:
        _log.exception("the reader of %s failed; the request is stored unread", provider.name)
        text = json.dumps(payload, sort_keys=True)
        return Reading("unread", "unread:" + hashlib.sha256(text.encode()).hexdigest())
