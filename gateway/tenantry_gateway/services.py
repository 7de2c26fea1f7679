"""How each service behind the gateway is asked: its rules, its keys, its headers."""

from __future__ import annotations

import asyncio
import re
from functools import partial

from tenantry_gateway.bodies import (
    StreamedBody,
    check_length,
    check_rest_body,
    has_body,
    read_body,
)
from tenantry_gateway.errors import GatewayError, error_body
from tenantry_gateway.hygiene import Exchange
from tenantry_gateway.keys import AUDIENCE, Caller, KeyRing
from tenantry_gateway.limits import TokenBuckets
from tenantry_gateway.member_keys import MemberKeys, looks_like_one, presented_key
from tenantry_gateway.proxy import CORS_HEADERS, NOT_STORED, Forward, forwardable
from tenantry_gateway.rest_forward import Confirmation, rest_forward
from tenantry_gateway.rest_query import (
    check_method,
    check_negotiation,
    check_query,
    parse_query,
)
from tenantry_gateway.routes import Route
from tenantry_gateway.routing import Asked, Destination, Router
from tenantry_gateway.settings import Settings
from tenantry_gateway.upstreams import Upstream

# Auth answers these without a key: links in e-mails, redirects of identity providers, public keys.
_OPEN_AUTH = re.compile(
    r"/auth/v1/(?:(?:verify|callback|authorize)|(?:sso/saml|\.well-known|oauth)/.+)"
)
# Storage answers these without a key: public buckets, and URLs signed by Storage itself.
_PUBLIC_OBJECT = re.compile(r"/storage/v1/(?:object|render/image)/(?:info/)?public/.+")
_SIGNED_DOWNLOAD = re.compile(r"/storage/v1/(?:object|render/image)/sign/.+")
_SIGNED_UPLOAD = re.compile(r"/storage/v1/object/upload/sign/.+")

# Read whole before the service is asked: cheaper, and a slow sender holds no place there.
_SMALL_BODY_BYTES = 64 * 1024
_CREDENTIALS = ("apikey", "authorization", "cookie")
_POSTGRES_TIME = re.compile(
    rb'("[a-z_]+_at"\s*:\s*"\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)\+00(?=")'
)
# Uploaded HTML or SVG must not run as a page of the console's origin.
_INERT = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}


class Services:
    """Turns a checked request into what the service is sent. Raises GatewayError."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyRing,
        member_keys: MemberKeys,
        router: Router | None,
    ) -> None:
        self._settings = settings
        self._router = router
        self._keys = keys
        self._member_keys = member_keys
        self._rate = TokenBuckets(settings.rate, settings.burst)
        self._auth_rate = TokenBuckets(settings.auth_rate, settings.auth_burst)

    async def prepare(self, exchange: Exchange, upstream: Upstream) -> Forward:
        """The request for `upstream`."""
        if exchange.route is Route.REST:
            return await self._rest(exchange, upstream)
        if exchange.route is Route.AUTH:
            return await self._auth(exchange, upstream)
        if exchange.route is Route.STORAGE:
            return await self._storage(exchange, upstream)
        return await self._function(exchange, upstream)

    async def _caller(self, exchange: Exchange) -> Caller:
        headers = exchange.headers
        member_key = presented_key(headers)
        if member_key is not None and looks_like_one(headers.get("apikey")):
            key = self._keys.publishable()
        else:
            key = self._keys.api_key(headers.get("apikey"), headers.get("user-agent", ""))
        if member_key is None:
            return self._keys.caller(key, headers.get("authorization"))
        found = await self._member_keys.exchange(member_key, exchange.peer)
        return Caller(key, AUDIENCE, found.key_id, found.token)

    async def _rest(self, exchange: Exchange, upstream: Upstream) -> Forward:
        settings, headers = self._settings, exchange.headers
        caller = await self._caller(exchange)
        sender = sender_of(caller, exchange)
        self._rate.take(sender)
        path = exchange.path.removeprefix("/rest/v1") or "/"
        if path == "/" and caller.role != "service_role":
            raise GatewayError(
                403,
                "description_not_public",
                "The description of the API is not public",
                "Call it with the secret key.",
            )
        check_method(exchange.method, path.startswith("/rpc/"))
        check_negotiation(headers, upstream.schema)
        parameters = parse_query(exchange.query, settings) if exchange.query else []
        check_query(exchange.method, parameters, settings)
        body = await read_body(exchange, settings.max_body_bytes, settings.body_seconds)
        kind, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        if len(body) > _SMALL_BODY_BYTES:
            await asyncio.to_thread(check_rest_body, kind, encoding, body)  # milliseconds of work
        else:
            check_rest_body(kind, encoding, body)
        asked = Asked(exchange, caller, path, parameters, body)
        if self._router is None:
            return rest_forward(asked, Destination(upstream), sender)
        destination = await self._router.route(asked)
        forward = rest_forward(asked, destination, sender)
        forward.confirm = Confirmation(self._router, asked, destination, sender)
        return forward

    async def _auth(self, exchange: Exchange, upstream: Upstream) -> Forward:
        settings, headers = self._settings, exchange.headers
        sender = f"address:{exchange.peer}"
        self._auth_rate.take(sender)
        if presented_key(headers) is not None:
            raise GatewayError(
                403,
                "api_key_not_for_auth",
                "An API key is no account: it cannot sign in, out, or change users",
                "Use the publishable key and, where needed, a user's access token.",
            )
        sent = forwardable(exchange, _CREDENTIALS)
        if "apikey" in headers or not _OPEN_AUTH.fullmatch(exchange.path):
            key = self._keys.api_key(headers.get("apikey"), headers.get("user-agent", ""))
            bearer = self._keys.bearer(headers.get("authorization"))
            if bearer is not None and self._keys.identify(bearer) is None:
                # Expired ones too: signing out and refreshing must work with them.
                self._keys.verify(bearer, expired_too=True)
                sent["Authorization"] = f"Bearer {bearer}"
            sent["apikey"] = self._keys.auth_key(key)
        body = await read_body(exchange, settings.max_body_bytes, settings.body_seconds)
        return Forward(
            upstream,
            _target(exchange),
            sent,
            sender,
            body=body or None,
            clean_error=partial(_hide_failure, exchange),
            clean_from=500,
            mend=_in_rfc_3339,
            dropped=CORS_HEADERS,
            defaults=NOT_STORED,
        )

    async def _storage(self, exchange: Exchange, upstream: Upstream) -> Forward:
        settings = self._settings
        sent = forwardable(exchange, _CREDENTIALS)
        if _needs_no_key(exchange):
            sender = f"address:{exchange.peer}"
        else:
            caller = await self._caller(exchange)
            sender = sender_of(caller, exchange)
            if settings.storage_access == "service" and caller.role != "service_role":
                raise GatewayError(
                    403,
                    "storage_not_for_users",
                    "Private objects are not open to users here: Storage does not check who owns "
                    "an object",
                    "Use a public bucket, a signed URL, or the secret key on your server.",
                )
            sent["apikey"] = self._keys.auth_key(caller.key)
            if caller.user_id is not None:
                sent["Authorization"] = f"Bearer {caller.token}"
        self._rate.take(sender)
        return Forward(
            upstream,
            _target(exchange),
            sent,
            sender,
            body=await self._body(exchange, settings.storage_max_body_bytes),
            clean_error=partial(_hide_failure, exchange),
            clean_from=500,
            dropped=CORS_HEADERS,
            fixed=_INERT,
        )

    async def _function(self, exchange: Exchange, upstream: Upstream) -> Forward:
        # One line and one rate per function and next segment, which is a webhook's connection.
        sender = "/".join(exchange.path.split("/", 5)[3:5])
        self._rate.take(sender)
        sent = forwardable(exchange)
        tenant = await self._router.named_by(exchange) if self._router is not None else None
        if tenant is not None:
            sent["X-Tenant"] = tenant.home.organization_id
        member_key = presented_key(exchange.headers)
        if member_key is not None:
            found = await self._member_keys.exchange(member_key, exchange.peer)
            self._rate.take(f"user:{found.key_id}")
            sent["Authorization"] = f"Bearer {found.token}"
            if looks_like_one(exchange.headers.get("apikey")):
                sent["apikey"] = self._settings.publishable_key
        return Forward(
            upstream,
            _target(exchange),
            sent,
            sender,
            body=await self._body(exchange, self._settings.functions_max_body_bytes),
        )

    async def _body(self, exchange: Exchange, limit: int) -> bytes | StreamedBody | None:
        if not has_body(exchange):
            return None
        announced = check_length(exchange, limit)
        if announced is not None and announced <= _SMALL_BODY_BYTES:
            return await read_body(exchange, limit, self._settings.body_seconds)
        return StreamedBody(exchange, limit, self._settings.pause_seconds)


def sender_of(caller: Caller, exchange: Exchange) -> str:
    """Whose rate and share a request uses: the user, the service, or one address of the public."""
    if caller.user_id is not None:
        return f"user:{caller.user_id}"
    if caller.role == "service_role":
        return "service"
    return f"address:{exchange.peer}"


def _hide_failure(exchange: Exchange, status: int, body: bytes) -> tuple[int, bytes]:
    """What a service says when it breaks may hold SQL; its log has it under the request id."""
    failure = GatewayError(
        status,
        "unexpected_failure",
        f"The {exchange.route.value} service failed",
        "Report the request_id if it persists.",
    )
    return status, error_body(failure, exchange.route, exchange.request_id)


def _in_rfc_3339(body: bytes) -> bytes:
    """The local Auth service writes times as Postgres prints them, which strict clients such as
    supabase-py refuse; hosted Auth writes RFC 3339."""
    return _POSTGRES_TIME.sub(rb"\1T\2Z", body)


def _target(exchange: Exchange) -> str:
    return f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path


def _needs_no_key(exchange: Exchange) -> bool:
    path, method = exchange.path, exchange.method
    if method in ("GET", "HEAD"):
        return bool(
            _PUBLIC_OBJECT.fullmatch(path)
            or (_SIGNED_DOWNLOAD.fullmatch(path) and "token=" in exchange.query)
        )
    return method == "PUT" and bool(_SIGNED_UPLOAD.fullmatch(path) and "token=" in exchange.query)
