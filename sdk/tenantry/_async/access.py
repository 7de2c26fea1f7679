"""What the caller may do, and why."""

from __future__ import annotations

from uuid import UUID

from tenantry._async.resource import AsyncResource, check_id
from tenantry.models import AccessExplanation, MyPermission


class AsyncAccess(AsyncResource):
    """Rights of the caller: the signed-in user, or the API key."""

    async def my_permissions(self, *, everywhere: bool = False) -> list[MyPermission]:
        """What you may do now in the business in use, and how far it reaches.

        Args:
            everywhere: In all your businesses; none needs to be chosen then.
        """
        query = self._client.rpc("my_permissions")
        if not everywhere:
            query = query.eq("business_id", str(self._business_id))
        reply = await self._send(query, in_business=not everywhere)
        return reply.many(MyPermission)

    async def explain(
        self,
        table: str,
        row_id: UUID | str,
        verb: str = "select",
    ) -> AccessExplanation:
        """Whether you may do this with a row, and which rule says so.

        The verdict comes from the row policies themselves. A row of a business you do not belong
        to is not told from none.

        Args:
            table: Such as `customers`.
            row_id: Id of the row; for `insert` of the business.
            verb: `select`, `insert`, `update` or `delete`.

        Raises:
            ValidationError: There is no such table or verb.
        """
        arguments = {"table": table, "id": check_id(row_id, "row_id"), "verb": verb}
        reply = await self._call("explain_access", arguments, safety=self._repeatable)
        return self._single(reply, AccessExplanation)
