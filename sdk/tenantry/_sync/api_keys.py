# Made from _async/api_keys.py by tools/generate_sync.py: do not edit.
"""API keys: a member's rights, narrowed to some permissions, for a machine."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Sequence
from uuid import UUID

from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id
from tenantry.models import ApiKey, IssuedApiKey


class ApiKeys(Resource):
    """API keys of the business in use. A client made with `api_key=` acts with one."""

    def create(
        self,
        *,
        name: str,
        scopes: Sequence[str],
        expires_at: datetime.datetime | None = None,
        allowed_addresses: Sequence[str] | None = None,
    ) -> IssuedApiKey:
        """Make a key that acts as you, narrowed to these permissions. Its text comes once.

        What you do not hold, or lose later, the key does not do either. It has no idempotency key:
        after a TransportError with `maybe_applied`, list the keys and revoke what nobody has.

        Args:
            scopes: Codes of permissions, at least one; you must hold each. A key never changes
                members, roles, sharing or keys.
            expires_at: From this moment on it is worth nothing; never by default.
            allowed_addresses: Networks such as `203.0.113.0/24` it may be used from; any by
                default. Neither they nor the scopes ever change: make a new key.

        Raises:
            ValidationError: Naming the field; `bad_scope` for what no key can have.
            PermissionDenied: Without `api_keys.write`, or a scope that you do not hold:
                `details["permission"]`.
            Conflict: You are no member of this business (owners of its organization may not be).
        """
        arguments = {
            "business_id": self._business_id,
            "name": name,
            "scopes": [scopes] if isinstance(scopes, str) else builtins.list(scopes),
            "expires_at": expires_at,
            "allowed_addresses": allowed_addresses,
        }
        reply = self._call("create_api_key", arguments)
        return self._single(reply, IssuedApiKey)

    def list(
        self,
        *,
        include_revoked: bool = False,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[ApiKey]:
        """Keys by creation, without their secret. Needs `api_keys.read`; else the list is empty."""
        query = self._rows("api_keys", ApiKey)
        if not include_revoked:
            query = query.is_("revoked_at", None)
        return self._pages(
            query, ApiKey, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def revoke(self, api_key_id: UUID | str) -> None:
        """End a key for good: from the next statement on it can do nothing.

        Raises:
            NotFound: There is none, or it was revoked.
            PermissionDenied: It is another's, and you lack `api_keys.write`.
        """
        arguments = {
            "business_id": self._business_id,
            "api_key_id": check_id(api_key_id, "api_key_id"),
        }
        self._call("revoke_api_key", arguments)
