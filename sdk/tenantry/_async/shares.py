"""Shares: single records given to, or kept from, a member, a role or a department."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Sequence
from uuid import UUID

from tenantry._async.page import AsyncPages
from tenantry._async.resource import AsyncResource, check_id, matching
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry.errors import InvalidArgument
from tenantry.models import (
    AccessControlList,
    AccessControlListEffect,
    AccessControlListResource,
)


class AsyncShares(AsyncResource):
    """Shared and denied records of the business in use."""

    async def share(
        self,
        resource: AccessControlListResource,
        resource_id: UUID | str,
        *,
        verbs: Sequence[str] = ("read",),
        membership_id: UUID | str | None = None,
        role: str | None = None,
        department_id: UUID | str | None = None,
        effect: AccessControlListEffect | None = None,
        expires_at: datetime.datetime | None = None,
    ) -> AccessControlList:
        """Share one record and its parts (messages, contact points, transcripts).

        Sharing again with the same replaces verbs and end. Name one of `membership_id`, `role` and
        `department_id`.

        Args:
            resource: `customers`, `conversations` or `calls`.
            verbs: Some of `read`, `write` and, for customers, `delete`.
            role: Code: all who hold it.
            department_id: All who work for it or for one below it.
            effect: `allow` by default; `deny` keeps the record from them whatever else allows it,
                and needs `members.write` and a higher rank.
            expires_at: From this moment on it means nothing; never by default.

        Raises:
            ValidationError: Naming the field.
            NotFound: There is no such record among those you reach, or no such grantee.
            PermissionDenied: Without `records.share`, or without the permission on this record
                that you would share: `details["permission"]`.
        """
        given = [one for one in (membership_id, role, department_id) if one is not None]
        if len(given) != 1:
            raise InvalidArgument(
                "membership_id",
                "a record is shared with one of membership_id, role and department_id",
                hint="Name one of them; share again for the next.",
            )
        arguments = {
            "business_id": self._business_id,
            "resource": resource, "resource_id": check_id(resource_id, "resource_id"),
            "verbs": [verbs] if isinstance(verbs, str) else builtins.list(verbs),
            "membership_id": membership_id, "role": role, "department_id": department_id,
            "effect": effect, "expires_at": expires_at,
        }  # fmt: skip
        reply = await self._call(
            "share_record", arguments, returns=AccessControlList, safety=self._repeatable
        )
        return reply.one(AccessControlList)

    async def unshare(self, share_id: UUID | str) -> None:
        """End a share, or a denial. Raises NotFound for one that you may not end."""
        arguments = {
            "business_id": self._business_id,
            "share_id": check_id(share_id, "share_id"),
        }
        await self._call("unshare_record", arguments)

    def list(
        self,
        *,
        resource: AccessControlListResource | None = None,
        resource_id: UUID | str | None = None,
        membership_id: UUID | str | None = None,
        department_id: UUID | str | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> AsyncPages[AccessControlList]:
        """Shares and denials by creation: your own, and with `members.write` everybody's.

        Those that have ended (`expires_at`) are listed too.
        """
        query = matching(
            self._rows("access_control_lists", AccessControlList),
            resource=resource,
            resource_id=resource_id,
            membership_id=membership_id,
            department_id=department_id,
        )
        return self._pages(
            query, AccessControlList, keyset=by_age(newest_first), page_size=page_size, after=after
        )
