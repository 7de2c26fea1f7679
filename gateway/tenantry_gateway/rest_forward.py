"""What PostgREST is sent, and whether its answer came from where the tenant lives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import aiohttp
from multidict import CIMultiDict

from tenantry_gateway.cleaning import LARGEST_ERROR_BYTES, clean
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.homes import being_moved
from tenantry_gateway.proxy import CORS_HEADERS, NOT_STORED, Forward
from tenantry_gateway.routing import HOME_HEADER, Asked, Destination, Router
from tenantry_gateway.upstreams import POOLED_SCHEMA

# What PostgREST needs, and what SQL may want to read from `request.headers`.
_REST_HEADERS = (
    "accept",
    "baggage",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "prefer",
    "range",
    "range-unit",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-client-info",
    "x-retry-count",
)
_REST_DROPPED = CORS_HEADERS | {"set-cookie", "content-profile"}
# PT421 of check_request(): the tenant does not live here.
NOT_HOME = 421


def rest_forward(asked: Asked, destination: Destination, sender: str) -> Forward:
    """What PostgREST is sent at the request's destination."""
    exchange, upstream = asked.exchange, destination.upstream
    reads = exchange.method in ("GET", "HEAD")
    headers = exchange.headers
    sent = CIMultiDict({name: headers[name] for name in _REST_HEADERS if name in headers})
    sent["Authorization"] = f"Bearer {asked.caller.token}"
    sent["Accept-Profile" if reads else "Content-Profile"] = upstream.schema
    if destination.home is not None:
        sent[HOME_HEADER] = destination.home
    target = f"{asked.path}?{exchange.query}" if exchange.query else asked.path
    return Forward(
        upstream,
        target,
        sent,
        sender,
        body=None if reads or not asked.body else asked.body,
        whole_answer=True,
        clean_error=partial(_clean_alike, upstream.schema, target, exchange.request_id),
        largest_error=LARGEST_ERROR_BYTES,
        dropped=_REST_DROPPED,
        defaults=NOT_STORED,
    )


def _clean_alike(
    schema: str, target: str, request_id: str, status: int, body: bytes
) -> tuple[int, bytes]:
    """Errors read the same in every placement, without the name of the tenant's schema."""
    if schema != POOLED_SCHEMA:
        body = body.replace(schema.encode(), POOLED_SCHEMA.encode())
    return clean(target, request_id, status, body)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Looks, once an answer has come, whether it came from where the tenant lives."""

    router: Router
    asked: Asked
    destination: Destination
    sender: str

    def holds(self, answer: aiohttp.ClientResponse) -> bool:
        """Whether it did, as far as that is known without asking."""
        where = self.destination
        if where.home is not None and answer.status == NOT_HOME:
            return False
        return where.version is None or (
            not self._may_be_frozen(answer)
            and self.router.homes.holds_now(where.version, moving=where.moving)
        )

    def _may_be_frozen(self, answer: aiohttp.ClientResponse) -> bool:
        """Whether a write may have found nothing because the tenant has begun to move."""
        method = self.asked.exchange.method
        if method in ("GET", "HEAD"):
            return False
        if answer.status in (403, 404, 409):
            return True
        return answer.status < 300 and (
            method == "DELETE"
            or (method == "PATCH" and answer.headers.get("Content-Range", "*").startswith("*"))
        )

    async def again(self, answer: aiohttp.ClientResponse) -> Forward | None:
        """Ask the registry; what to send instead where the tenant lives elsewhere by now."""
        where, homes, method = self.destination, self.router.homes, self.asked.exchange.method
        if where.home is not None and answer.status == NOT_HOME:
            homes.forget()  # refused before anything happened
        else:
            assert where.version is not None
            frozen = self._may_be_frozen(answer)
            if frozen and where.moving:
                raise being_moved()
            try:
                if await homes.still_holds(where.version, moving=where.moving or frozen):
                    return None
            except GatewayError:
                if where.home is not None:
                    return None  # the home itself knew the tenant
                raise
            if method == "POST" and answer.status < 300:
                return None  # done where it was sent, or it would have been refused
        now = await self.router.route(self.asked)
        same = (now.upstream, now.home) == (where.upstream, where.home)
        if same and answer.status != NOT_HOME:
            if now.moving and self._may_be_frozen(answer):
                raise being_moved()
            return None
        forward = rest_forward(self.asked, now, self.sender)
        forward.confirm = Confirmation(self.router, self.asked, now, self.sender)
        return forward
