"""Domains: host names of a business, and for whom each is."""

from __future__ import annotations

from uuid import UUID

from tenantry._async.page import AsyncPages
from tenantry._async.resource import AsyncResource, check_id, matching
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry.models import BusinessDomain, BusinessDomainAudience


class AsyncDomains(AsyncResource):
    """Host names of the business in use. They need `business.write`, to see them too."""

    def list(
        self,
        *,
        audience: BusinessDomainAudience | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> AsyncPages[BusinessDomain]:
        """Host names by creation; one counts from its `verified_at` on."""
        query = matching(self._rows("business_domains", BusinessDomain), audience=audience)
        return self._pages(
            query, BusinessDomain, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    async def add(self, *, host: str, audience: BusinessDomainAudience) -> BusinessDomain:
        """Claim a host name. Publish its `verification_token` as TXT record `_tenantry.<host>`.

        Args:
            host: Without scheme and port; internationalised names in their `xn--` form.
            audience: `public`, `clients` (the portal), `staff`, `admin` or `api`.

        Raises:
            ValidationError: Naming the field.
            Conflict: The business has this host already.
            PermissionDenied: Without `business.write`.
        """
        arguments = {"business_id": self._business_id, "host": host, "audience": audience}
        reply = await self._call("add_domain", arguments, returns=BusinessDomain)
        return reply.one(BusinessDomain)

    async def remove(self, domain_id: UUID | str) -> None:
        """Give a host name up. Raises NotFound, PermissionDenied."""
        arguments = {
            "business_id": self._business_id,
            "domain_id": check_id(domain_id, "domain_id"),
        }
        await self._call("remove_domain", arguments)
