# Made from _async/members.py by tools/generate_sync.py: do not edit.
"""Members: users of a business, their roles, and inviting them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from uuid import UUID

from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._reply import columns_of
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, matching
from tenantry.models import (
    BusinessMembership,
    BusinessMembershipStatus,
    Invitation,
    InvitationStatus,
    IssuedInvitation,
    Member,
    Profile,
)

_COLUMNS = columns_of(BusinessMembership) + ",roles:membership_roles(role:roles(code))"


class Members(Resource):
    """People of the business in use. System roles: owner, admin, director, manager, staff,
    sales_rep, viewer, customer.
    """

    def list(
        self,
        *,
        status: BusinessMembershipStatus | None = "active",
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Member]:
        """Members with roles and names. `status=None` also gives suspended and removed ones."""
        query = self._table("business_memberships").select(_COLUMNS)
        query = matching(query, business_id=self._business_id, status=status)
        return self._pages(
            query,
            Member,
            keyset=by_age(newest_first),
            page_size=page_size,
            after=after,
            complete=self._with_names,
        )

    def _with_names(self, members: builtins.list[Member]) -> builtins.list[Member]:
        # Profiles hang on the account, not on the membership: a second request per page.
        ids = [str(member.user_id) for member in members]
        query = self._table("profiles").select(columns_of(Profile)).in_("user_id", ids)
        reply = self._send(query)
        names = {profile.user_id: profile.full_name for profile in reply.many(Profile)}
        return [m.model_copy(update={"full_name": names.get(m.user_id)}) for m in members]

    def invite(self, *, email: str, role: str) -> IssuedInvitation:
        """Invite an address, with a role of up to your own rank, for 7 days.

        Inviting an address again replaces its earlier invitation. The token is in the answer only.

        Raises:
            ValidationError: The address is none, or there is no such role.
            Conflict: The person is a member already.
            PermissionDenied: Without `members.write`, or for a higher role than yours.
        """
        arguments = {"business_id": self._business_id, "email": email, "role": role}
        # A repeated one replaces the first, whose token nobody has seen.
        reply = self._call("invite_member", arguments, safety=self._repeatable)
        return self._single(reply, IssuedInvitation)

    def resend(self, invitation_id: UUID | str) -> IssuedInvitation:
        """Replace an open or expired invitation by a new one with a new token."""
        arguments = {
            "business_id": self._business_id,
            "invitation_id": check_id(invitation_id, "invitation_id"),
        }
        reply = self._call("resend_invitation", arguments)
        if isinstance(reply.data, builtins.list) and reply.data:
            row = dict(reply.data[0])
            row["invitation_id"] = row.pop("new_invitation_id", None)
            return IssuedInvitation.model_validate(row)
        raise reply.unexpected("an invitation was expected")

    def revoke(self, invitation_id: UUID | str) -> None:
        """Take an open invitation back; its token stops working at once. Raises NotFound."""
        arguments = {
            "business_id": self._business_id,
            "invitation_id": check_id(invitation_id, "invitation_id"),
        }
        self._call("revoke_invitation", arguments)

    def invitations(
        self,
        *,
        status: InvitationStatus | None = "pending",
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Invitation]:
        """Invitations of the business; `status=None` for all."""
        query = matching(self._rows("invitations", Invitation), status=status)
        return self._pages(
            query, Invitation, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def accept(self, token: str) -> BusinessMembership:
        """Join the business of an invitation; `use` it next. Works once.

        Raises:
            NotFound: The token is unknown, used, expired or for another address: one answer.
            Conflict: You are a member already.
        """
        arguments = {"token": token}
        reply = self._call("accept_invitation", arguments, returns=BusinessMembership)
        return reply.one(BusinessMembership)

    def change_roles(
        self, membership_id: UUID | str, *, roles: Sequence[str]
    ) -> builtins.list[str]:
        """Replace a member's roles; holds from the next statement. Returns the new ones.

        Raises:
            PermissionDenied: Without `members.write`, or for a rank not below yours.
            Conflict: The business would be without an owner.
        """
        arguments = {
            "business_id": self._business_id,
            "membership_id": check_id(membership_id, "membership_id"),
            "roles": [roles] if isinstance(roles, str) else builtins.list(roles),
        }
        reply = self._call("change_member_roles", arguments, safety=self._repeatable)
        if not isinstance(reply.data, builtins.list):
            raise reply.unexpected("a list of roles was expected")
        return reply.data

    def remove(self, membership_id: UUID | str) -> None:
        """End a membership: a lower member's, or your own.

        Raises:
            NotFound: There is no such member (any more).
            Conflict: The last owner cannot go.
        """
        arguments = {
            "business_id": self._business_id,
            "membership_id": check_id(membership_id, "membership_id"),
        }
        self._call("remove_member", arguments)
