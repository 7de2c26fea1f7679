"""Businesses: the tenants. Everything else belongs to one of them."""

from __future__ import annotations

import builtins
from typing import Unpack
from uuid import UUID

from tenantry._async.page import AsyncPages
from tenantry._async.resource import AsyncResource, check_changes, check_id, matching, not_found
from tenantry._generated.arguments import BusinessUpdate
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._reply import columns_of
from tenantry.errors import Conflict, InvalidArgument
from tenantry.models import Business, BusinessStatus, MyBusiness


class AsyncBusinesses(AsyncResource):
    """Businesses of the signed-in user, across organizations."""

    _in_business = False

    async def create(
        self,
        *,
        organization_id: UUID | str,
        name: str,
        timezone: str,
        country: str,
        currency: str,
        slug: str | None = None,
        locale: str | None = None,
    ) -> Business:
        """Add a business to an organization, with you as its owner. `use` it next.

        It has no idempotency key: after a TransportError with `maybe_applied`, list yours first.

        Args:
            timezone: IANA name, such as `America/Los_Angeles`: what a day is for its metrics.
            country: ISO 3166-1 alpha-2: how phone numbers without a country code are read.
            currency: ISO 4217, such as `USD`.
            slug: Short name, unique in the organization; made from the name by default.
            locale: BCP 47, such as `en-US`; `en` by default.

        Raises:
            ValidationError: Naming the field.
            PermissionDenied: You may not add businesses to this organization.
            Conflict: The slug is taken.
            PlanLimitExceeded: The plan allows no more businesses.
        """
        arguments = {
            "organization_id": check_id(organization_id, "organization_id"),
            "name": name, "timezone": timezone, "country": country, "currency": currency,
            "slug": slug, "locale": locale,
        }  # fmt: skip
        reply = await self._call("create_business", arguments, returns=Business)
        return reply.one(Business)

    async def mine(self) -> builtins.list[MyBusiness]:
        """The businesses you work in, with your roles and permissions there."""
        reply = await self._call("my_businesses", {}, safety=self._repeatable)
        return reply.many(MyBusiness)

    async def get(self, business: UUID | str) -> Business:
        """A business by id or slug.

        Raises:
            NotFound: There is none, or you may not see it.
            Conflict: Two of your organizations have one of this slug; give the id.
        """
        query = self._table("businesses").select(columns_of(Business))
        query = query.eq(*_id_or_slug(business)).limit(2)
        reply = await self._send(query)
        rows = reply.many(Business)
        if not rows:
            raise not_found(
                "businesses", business, reply,
                hint="client.businesses.mine() lists the businesses you may work in.",
            )  # fmt: skip
        if len(rows) > 1:
            raise Conflict(
                f"More than one business has the slug {business}.",
                status=409, hint="Give its id instead.", request_id=reply.request_id,
                details={"field": "business", "reason": "ambiguous_slug"},
            )  # fmt: skip
        return rows[0]

    def list(
        self,
        *,
        organization_id: UUID | str | None = None,
        status: BusinessStatus | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> AsyncPages[Business]:
        """The businesses you may see."""
        query = self._table("businesses").select(columns_of(Business))
        query = matching(query, organization_id=organization_id, status=status)
        return self._pages(
            query, Business, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    async def update(self, business_id: UUID | str, **changes: Unpack[BusinessUpdate]) -> Business:
        """Change name, time zone, settings and so on. Raises NotFound, ValidationError."""
        query = (
            self._table("businesses")
            .update(check_changes(changes, BusinessUpdate))
            .eq("id", check_id(business_id, "business_id"))
            .select(columns_of(Business))
        )
        return await self._updated("businesses", business_id, query, Business)


def _id_or_slug(business: UUID | str) -> tuple[str, str]:
    if isinstance(business, UUID):
        return "id", str(business)
    if not isinstance(business, str) or not business:
        raise InvalidArgument("business", f"{business!r} names none", hint="Give its slug or id.")
    try:
        return "id", str(UUID(business))
    except ValueError:
        return "slug", business
