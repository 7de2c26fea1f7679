"""Where a request for data is answered: whose it is, where that tenant lives, and which plane."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.homes import Home, Homes, Overview, Tenant, being_moved
from tenantry_gateway.hygiene import Exchange
from tenantry_gateway.keys import Caller
from tenantry_gateway.planes import Side
from tenantry_gateway.settings import Settings
from tenantry_gateway.tenant_names import TenantName, names_of
from tenantry_gateway.upstreams import PLACE_ORIGIN, POOLED_SCHEMA, Upstream

HOME_HEADER = "X-Tenantry-Home"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BUSINESS = re.compile(rf"(?:eq\.)?({_UUID})", re.IGNORECASE)
_LONGEST_SEARCHED_BODY_BYTES = 64 * 1024
_KIND_OF_AUDIENCE = {"clients": "client", "staff": "staff", "admin": "admin", "api": "key"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for data, as far as it decides where it is answered."""

    exchange: Exchange
    caller: Caller
    path: str
    """Without /rest/v1."""
    parameters: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request is answered, by the registry of state `version`."""

    upstream: Upstream
    home: str | None = None
    """What X-Tenantry-Home says: organization.epoch.schema."""
    version: int | None = None
    """None where no change of homes can matter."""
    moving: bool = False


class Router:
    """Finds the destination of requests for data. Raises GatewayError."""

    def __init__(self, settings: Settings, homes: Homes, main: Upstream) -> None:
        self.homes = homes
        self._main = main
        self._base_domain = settings.base_domain
        self._own_hosts = frozenset(settings.own_hosts)
        self._has_places = settings.places_database_url is not None

    async def route(self, asked: Asked) -> Destination:
        """Where `asked` is answered: 400, 403, 404, 423 or 503 where it is not."""
        names = self.names(asked.exchange)
        overview = await self.homes.overview()
        if not names and not overview.elsewhere and not overview.unsettled:
            return Destination(self._main, version=overview.version)
        if names:
            tenant = await self.named(names, asked.caller.user_id)
            if tenant is not None:
                _check_kind(tenant, asked.caller)
                return await self._at(tenant.home, asked, overview)
        if asked.caller.user_id is None:
            return Destination(self._main)
        return await self._by_caller(asked, asked.caller.user_id, overview)

    async def named_by(self, exchange: Exchange) -> Tenant | None:
        """The tenant that a request for another service names, whoever sends it."""
        names = self.names(exchange)
        return await self.named(names, None) if names else None

    def names(self, exchange: Exchange) -> list[TenantName]:
        """Which tenant a request names, in each way it does."""
        return names_of(exchange.headers, self._base_domain, self._own_hosts)

    async def named(self, names: Sequence[TenantName], principal: str | None) -> Tenant | None:
        """The one tenant that all names mean; None where only an unknown foreign host is named."""
        found: Tenant | None = None
        for name in names:
            tenant = await self.homes.tenant(name, principal)
            if tenant is None:
                if not name.required:
                    continue
                raise GatewayError(
                    404, "unknown_tenant", "There is no such tenant", "Check its name.",
                    field=name.field,
                )  # fmt: skip
            audience = name.audience or tenant.audience
            if found is not None and found.home.organization_id != tenant.home.organization_id:
                raise GatewayError(
                    400,
                    "tenant_conflict",
                    "The request names two tenants",
                    "Name one: by X-Tenant, X-Agency-Database or the host.",
                    field=name.field,
                )
            found = dataclasses.replace(
                tenant, audience=audience or (found.audience if found else None)
            )
        return found

    async def _by_caller(self, asked: Asked, principal: str, overview: Overview) -> Destination:
        """The home of somebody's organizations; main where they are several and none is named."""
        # Asked first: it also knows of a business that its caller joined a moment ago.
        business = business_of(asked)
        if business is not None:
            tenant = await self.homes.tenant(TenantName("tenant", business, "url"), principal)
            if tenant is not None and tenant.kinds:
                if not tenant.home.is_pooled:
                    return await self._at(tenant.home, asked, overview)
                moving = tenant.home.state == "moving"
                return Destination(self._main, version=overview.version, moving=moving)
        homes = await self.homes.homes_of(principal)
        usable = [one for one in homes if one.state in ("active", "read_only", "moving")] or homes
        if all(one.is_pooled for one in usable):
            moving = any(one.state == "moving" for one in homes)
            return Destination(self._main, version=overview.version, moving=moving)
        if len(usable) == 1:
            return await self._at(usable[0], asked, overview)
        return Destination(
            self._main,
            version=overview.version,
            moving=any(one.state == "moving" for one in usable),
        )

    async def _at(self, home: Home, asked: Asked, overview: Overview) -> Destination:
        """At the home of one tenant, or at main for what is kept there."""
        moving = check_state(home, asked.exchange.method)
        side = Side.MAIN
        if not home.is_pooled:
            select = next((value for name, value in asked.parameters if name == "select"), "")
            planes = await self.homes.planes()
            side = planes.side(asked.exchange.method, asked.path, select)
        if side is Side.MAIN:
            upstream = dataclasses.replace(self._main, tenant=home.organization_id)
            return Destination(upstream, version=overview.version, moving=moving)
        if not self._has_places:
            raise GatewayError(
                503,
                "place_unavailable",
                "This tenant's database is not served here",
                "Operators: set GATEWAY_PLACES_DATABASE_URL.",
            )
        upstream = dataclasses.replace(
            self._main,
            origin=PLACE_ORIGIN,
            schema=home.schema if side is Side.TENANT else POOLED_SCHEMA,
            tenant=home.organization_id,
            place=(home.database, home.schema),
        )
        said = f"{home.organization_id}.{home.epoch}.{home.schema}"
        return Destination(upstream, said, overview.version, moving)


def _check_kind(tenant: Tenant, caller: Caller) -> None:
    """Only those who belong to a tenant may name it with a token, and only its host's audience."""
    if caller.role == "service_role":
        return
    if caller.user_id is not None and not tenant.kinds:
        raise GatewayError(
            403,
            "agency_mismatch",
            "Agency mismatch",
            "Sign in as a member of this tenant, or name your own.",
        )
    audience = tenant.audience
    if audience is None:
        return
    if audience == "public":
        allowed = caller.user_id is None
    else:
        kind = _KIND_OF_AUDIENCE[audience]
        allowed = caller.user_id is not None and kind in tenant.kinds
    if not allowed:
        raise GatewayError(
            403,
            "wrong_audience",
            f"This host is not for you: its audience is {audience}",
            "Use the host of your part of the application, or the API's own.",
            field="Host",
        )


def check_state(home: Home, method: str) -> bool:
    """Whether the tenant is being moved. Raises where its state does not allow the request."""
    if home.state in ("active", "read_only"):
        return False
    if home.state == "moving":
        if method in ("GET", "HEAD"):
            return True
        raise being_moved()
    if home.state == "suspended":
        raise GatewayError(423, "tenant_suspended", "This tenant is suspended", "Ask the operator.")
    if home.state in ("closed", "archived"):
        raise GatewayError(
            404, f"tenant_{home.state}", f"This tenant is {home.state}", "Ask the operator."
        )
    raise GatewayError(
        503,
        f"tenant_{home.state}",
        f"This tenant is not ready: its state is {home.state}",
        "Try again later, or ask the operator.",
        headers={"Retry-After": "5" if home.state == "provisioning" else "60"},
    )


def business_of(asked: Asked) -> str | None:
    """The one business that a filter, an argument or a small JSON body names."""
    for name, value in asked.parameters:
        if name == "business_id" and (match := _BUSINESS.fullmatch(value)):
            return match[1].lower()
    if not asked.body or len(asked.body) > _LONGEST_SEARCHED_BODY_BYTES:
        return None
    try:
        sent = json.loads(asked.body)
    except (ValueError, RecursionError):
        return None
    rows = sent if isinstance(sent, list) else [sent]
    named = {row.get("business_id") if isinstance(row, dict) else None for row in rows}
    (first,) = named if len(named) == 1 else (None,)
    match = _BUSINESS.fullmatch(first) if isinstance(first, str) else None
    return match[1].lower() if match else None
