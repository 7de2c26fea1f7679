"""Organizations: who pays."""

from __future__ import annotations

from typing import Unpack
from uuid import UUID

from tenantry._async.page import AsyncPages
from tenantry._async.resource import AsyncResource, check_changes, check_id, not_found
from tenantry._generated.arguments import OrganizationUpdate
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._reply import columns_of
from tenantry.models import Organization


class AsyncOrganizations(AsyncResource):
    """Organizations of the signed-in user."""

    _in_business = False

    async def create(
        self,
        *,
        name: str,
        slug: str | None = None,
        country: str | None = None,
        billing_email: str | None = None,
    ) -> Organization:
        """Found an organization on the free plan, with you as its owner.

        It has no idempotency key: after a TransportError with `maybe_applied`, list yours first.

        Args:
            slug: Short name in addresses, unique; made from the name by default.
            country: ISO 3166-1 alpha-2, such as `US`.

        Raises:
            ValidationError: Naming the field.
            Conflict: The slug is taken.
        """
        arguments = {
            "name": name, "slug": slug, "country": country, "billing_email": billing_email,
        }  # fmt: skip
        reply = await self._call("create_organization", arguments, returns=Organization)
        return reply.one(Organization)

    async def get(self, organization_id: UUID | str) -> Organization:
        """An organization. Raises NotFound, also for one you are not in."""
        query = self._table("organizations").select(columns_of(Organization))
        reply = await self._send(query.eq("id", check_id(organization_id)))
        rows = reply.many(Organization)
        if not rows:
            raise not_found("organizations", organization_id, reply)
        return rows[0]

    def list(
        self,
        *,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> AsyncPages[Organization]:
        """Your organizations."""
        query = self._table("organizations").select(columns_of(Organization))
        return self._pages(
            query, Organization, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    async def update(
        self, organization_id: UUID | str, **changes: Unpack[OrganizationUpdate]
    ) -> Organization:
        """Change name, billing address or country. Raises NotFound, ValidationError."""
        query = (
            self._table("organizations")
            .update(check_changes(changes, OrganizationUpdate))
            .eq("id", check_id(organization_id))
            .select(columns_of(Organization))
        )
        return await self._updated("organizations", organization_id, query, Organization)

    async def set_mfa_requirement(self, organization_id: UUID | str, *, required: bool) -> None:
        """Open the organization's businesses only to sessions with a second factor, or to all.

        Holds from the next statement on, for everybody. API keys are not asked for one.

        Raises:
            PermissionDenied: You are no owner of the organization; or, with reason
                `second_factor_missing`, your own session has no second factor.
        """
        arguments = {
            "organization_id": check_id(organization_id, "organization_id"),
            "required": required,
        }
        await self._call("set_mfa_requirement", arguments, safety=self._repeatable)
