"""Reads from a streaming replica, where a client may have them from there.

What a caller must see is worked out here, and checked by the replica in the transaction of the
read: everything this caller has written, what the client says it has seen, nothing older than the
permitted lag, and exactly the rights that the caller holds on the primary. Whatever the replica
does not answer with success is asked again on the primary, so it can only ever save work.
"""

from __future__ import annotations

import dataclasses
import re

from aiohttp import ClientTimeout, web

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.hygiene import Exchange
from tenantry_gateway.keys import KeyRing
from tenantry_gateway.limits import FairSlots
from tenantry_gateway.metrics import Metrics
from tenantry_gateway.positions import AFTER_HEADER, PositionTokens, Writers, print_position
from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.primary import Primary
from tenantry_gateway.proxy import Forward, Proxy
from tenantry_gateway.replica import REFUSED_STATUS, Replica
from tenantry_gateway.routes import Route
from tenantry_gateway.settings import Settings
from tenantry_gateway.upstreams import Upstream

POSITION_HEADER = "X-Tenantry-Position"
SOURCE_HEADER = "X-Tenantry-Source"
PREFERENCE_HEADER = "x-read-preference"
RIGHTS_HEADER = "x-rights-version"

_RELATION = re.compile(r"/rest/v1/([A-Za-z0-9_]+)")
# Auth changes something for these although they are asked with GET.
_AUTH_LINKS = ("/auth/v1/verify", "/auth/v1/callback")
_EVERYBODY = ""


class _NotFromHere(Exception):
    """The primary has to answer this read; the argument says why."""


class Replicas:
    """Sends requests on: reads to the replica or to the primary, everything else to the primary.

    Without `replica_url` it does nothing. `start` it inside a running loop, `close` it after.
    """

    def __init__(
        self,
        settings: Settings,
        proxy: Proxy,
        keys: KeyRing,
        postgrest: Postgrest,
        metrics: Metrics,
    ) -> None:
        self._proxy = proxy
        self._keys = keys
        self._metrics = metrics
        self._relations = settings.replica_relations
        self._pooled_origin = settings.postgrest_url
        self._tokens = PositionTokens(settings.jwt_secret)
        self._writers = Writers()
        self._primary = Primary(settings, postgrest)
        self._slots = FairSlots(
            settings.concurrency,
            settings.concurrency_per_tenant,
            settings.waiting_per_tenant,
            settings.waiting_seconds,
        )
        self._replica: Replica | None = None
        if settings.replica_url is not None:
            self._origin = settings.replica_url
            self._timeout = ClientTimeout(
                sock_connect=settings.connect_seconds, sock_read=settings.replica_answer_seconds
            )
            self._replica = Replica(settings, settings.replica_url, self._primary, metrics)

    def start(self) -> None:
        """Begin to look at the replica."""
        if self._replica is not None:
            self._replica.start()

    async def close(self) -> None:
        """Stop looking at it."""
        if self._replica is not None:
            await self._replica.close()
        await self._primary.close()

    def look_again(self) -> None:
        """Compare the replica with what was shipped now instead of at the next turn."""
        if self._replica is not None:
            self._replica.gate.look_again()

    async def send(
        self, exchange: Exchange, forward: Forward, slots: FairSlots
    ) -> web.StreamResponse:
        """As `Proxy.send`, from the replica where that is as good."""
        if self._replica is None:
            return await self._proxy.send(exchange, forward, slots)
        if not _may_write(exchange):
            if self._is_meant_for_replica(exchange, forward.upstream):
                return await self._read(exchange, forward, slots, self._replica)
            return await self._proxy.send(exchange, forward, slots)
        writer = self._writer(exchange, forward)
        if writer is None:
            return await self._proxy.send(exchange, forward, slots)
        if writer == _EVERYBODY:
            return await self._sign_in(exchange, forward, slots)
        return await self._write(exchange, forward, slots, writer)

    def _is_meant_for_replica(self, exchange: Exchange, upstream: Upstream) -> bool:
        match = _RELATION.fullmatch(exchange.path)
        if exchange.route is not Route.REST or match is None:
            return False
        preference = exchange.headers.get(PREFERENCE_HEADER)
        if preference not in (None, "replica", "primary"):
            raise GatewayError(
                400,
                "bad_read_preference",
                f"The header {PREFERENCE_HEADER} is neither `replica` nor `primary`",
                "Send one of the two, or leave it out.",
                field=PREFERENCE_HEADER,
            )
        wanted = preference == "replica" or (preference is None and match[1] in self._relations)
        # Only the pooled database has a replica.
        return wanted and upstream.origin == self._pooled_origin

    async def _read(
        self, exchange: Exchange, forward: Forward, slots: FairSlots, replica: Replica
    ) -> web.StreamResponse:
        after = exchange.headers.get(AFTER_HEADER)
        seen = self._tokens.open(after) if after is not None else 0
        try:
            copy = await self._for_replica(forward, replica, seen)
            response = await self._ask_replica(exchange, copy, replica)
            self._metrics.replica_read("served")
            return response
        except _NotFromHere as why:
            self._metrics.replica_read(str(why))
            return await self._proxy.send(exchange, _marked(forward, "primary"), slots)

    async def _for_replica(self, forward: Forward, replica: Replica, seen: int) -> Forward:
        """The read as the replica is asked. Raises _NotFromHere."""
        kind, _, principal = forward.sender.partition(":")
        if kind == "address":
            raise _NotFromHere("visitor")
        if replica.problem is not None:
            raise _NotFromHere(replica.problem)
        floor, newest = self._primary.floor(), self._primary.newest()
        if floor is None or newest is None or replica.position < floor:
            raise _NotFromHere("lag")
        own = self._writers.position(forward.sender, newest.asked_at, newest.position)
        if own is None or replica.position < max(own, seen):
            raise _NotFromHere("own_write")
        headers = forward.headers.copy()
        headers[AFTER_HEADER] = print_position(max(floor, own, seen))
        if kind == "user":
            try:
                headers[RIGHTS_HEADER] = await self._primary.rights(principal)
            except PostgrestUnavailable:
                raise _NotFromHere("rights_unknown") from None
        return dataclasses.replace(
            _marked(forward, "replica"),
            upstream=dataclasses.replace(
                forward.upstream, origin=self._origin, timeout=self._timeout
            ),
            headers=headers,
            clean_error=_refused,
        )

    async def _ask_replica(
        self, exchange: Exchange, copy: Forward, replica: Replica
    ) -> web.StreamResponse:
        """Its answer, if that is a success. Raises _NotFromHere, and AnswerBroken within it."""
        try:
            response = await self._proxy.send(exchange, copy, self._slots)
        except GatewayError as error:
            if error.reason in ("service_unavailable", "service_disconnected"):
                replica.failed()
            raise _NotFromHere("failed") from None
        if response.status >= 300 and response.status != 304:  # a HEAD has no body to look into
            raise _NotFromHere("failed")
        return response

    def _writer(self, exchange: Exchange, forward: Forward) -> str | None:
        """Whose later reads must see what this request writes; None where nobody's can."""
        if exchange.route in (Route.REST, Route.STORAGE):
            return forward.sender
        user = self._bearer(forward.headers.get("Authorization"))
        if user is None and exchange.route is Route.AUTH:
            return _EVERYBODY
        return user

    def _bearer(self, authorization: str | None) -> str | None:
        """The caller that a function or Auth will see."""
        try:
            bearer = self._keys.bearer(authorization)
            if bearer is None:
                return None
            key = self._keys.identify(bearer)
            if key is not None:
                return "service" if key.role == "service_role" else None
            user = self._keys.caller(self._keys.publishable(), authorization).user_id
        except GatewayError:
            return None
        return f"user:{user}"

    async def _write(
        self, exchange: Exchange, forward: Forward, slots: FairSlots, writer: str
    ) -> web.StreamResponse:
        """Until its position is known, its caller reads from the primary alone."""
        self._writers.begin(writer)
        position = None
        try:
            response = await self._proxy.send(exchange, forward, slots)
            if response.status < 500:
                position = await self._written(response)
            return response
        finally:
            self._writers.end(writer, position)
            self._writers.forget(self._primary.floor() or 0)

    async def _sign_in(
        self, exchange: Exchange, forward: Forward, slots: FairSlots
    ) -> web.StreamResponse:
        """A request to Auth by somebody who is nobody yet. One whose answer gets lost hands out no
        session, so nobody waits for it."""
        response = await self._proxy.send(exchange, forward, slots)
        if response.status < 400 and (position := await self._written(response)) is not None:
            self._writers.everybody_wrote(position)
        return response

    async def _written(self, response: web.StreamResponse) -> int | None:
        """The position after a write that has been answered, told to the client too."""
        try:
            position = await self._primary.position()
        except PostgrestUnavailable:
            return None
        if not response.prepared:
            response.headers[POSITION_HEADER] = self._tokens.seal(position)
        return position


def _may_write(exchange: Exchange) -> bool:
    if exchange.route is Route.FUNCTIONS:
        return True
    if exchange.route is Route.AUTH and exchange.path in _AUTH_LINKS:
        return True
    return exchange.method not in ("GET", "HEAD", "OPTIONS")


def _marked(forward: Forward, source: str) -> Forward:
    return dataclasses.replace(forward, fixed={**forward.fixed, SOURCE_HEADER: source})


def _refused(status: int, body: bytes) -> tuple[int, bytes]:
    """In place of cleaning an error of the replica."""
    raise _NotFromHere("refused" if status == REFUSED_STATUS else "failed")
