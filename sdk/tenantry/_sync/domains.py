# Made from _async/domains.py by tools/generate_sync.py: do not edit.
"""Domains: host names of a business, and for whom each is."""

from __future__ import annotations

from uuid import UUID

from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, matching
from tenantry.models import BusinessDomain, BusinessDomainAudience


class Domains(Resource):
    """Host names of the business in use. They need `business.write`, to see them too."""

    def list(
        self,
        *,
        audience: BusinessDomainAudience | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[BusinessDomain]:
        """Host names by creation; one counts from its `verified_at` on."""
        query = matching(self._rows("business_domains", BusinessDomain), audience=audience)
        return self._pages(
            query, BusinessDomain, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def add(self, *, host: str, audience: BusinessDomainAudience) -> BusinessDomain:
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
        reply = self._call("add_domain", arguments, returns=BusinessDomain)
        return reply.one(BusinessDomain)

    def remove(self, domain_id: UUID | str) -> None:
        """Give a host name up. Raises NotFound, PermissionDenied."""
        arguments = {
            "business_id": self._business_id,
            "domain_id": check_id(domain_id, "domain_id"),
        }
        self._call("remove_domain", arguments)
