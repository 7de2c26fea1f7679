# Made from _async/members.py by tools/generate_sync.py: do not edit.
"""Members: users of a business, their roles, and inviting them."""

from __future__ import annotations

import builtins
import datetime
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
    UserPermission,
    UserPermissionEffect,
    UserPermissionScope,
)

_COLUMNS = columns_of(BusinessMembership) + ",roles:membership_roles(role:roles(code))"


class Members(Resource):
    """People of the business in use. System roles: owner, admin, director, manager, staff,
    sales_rep, viewer, customer; `client.roles` lists what each carries.
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

    def invite(
        self, *, email: str, role: str, department_id: UUID | str | None = None
    ) -> IssuedInvitation:
        """Invite an address, with a role of up to your own rank, for 7 days.

        Inviting an address again replaces its earlier invitation. The token is in the answer only.

        Args:
            department_id: The department to work for, with the same role there.

        Raises:
            ValidationError: The address is none, or there is no such role.
            NotFound: There is no such department.
            Conflict: The person is a member already.
            PermissionDenied: Without `members.write`, for a higher role than yours, or one that
                carries what you may not pass on.
        """
        arguments = {
            "business_id": self._business_id,
            "email": email,
            "role": role,
            "department_id": department_id,
        }
        # A repeated one replaces the first, whose token nobody has seen.
        reply = self._call("invite_member", arguments, safety=self._repeatable)
        return self._single(reply, IssuedInvitation)

    def invite_portal_customer(self, customer_id: UUID | str, *, email: str) -> IssuedInvitation:
        """Invite a customer into the portal: they see their own conversations and messages.

        Takes no seat of the plan. Inviting the address again replaces its earlier invitation.

        Raises:
            NotFound: There is no such customer.
            ValidationError, Conflict, PermissionDenied: As in `invite`.
        """
        arguments = {
            "business_id": self._business_id,
            "customer_id": check_id(customer_id, "customer_id"),
            "email": email,
        }
        reply = self._call("invite_portal_customer", arguments, safety=self._repeatable)
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
        reply = self._call(
            "accept_invitation", arguments, returns=BusinessMembership, in_business=False
        )
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

    def suspend(self, membership_id: UUID | str) -> None:
        """Take all rights of a member and of their API keys until `reactivate`; roles stay noted.

        Raises:
            NotFound: There is no such member.
            PermissionDenied: Without `members.write`, or for a rank not below yours.
            Conflict: The last owner cannot be suspended.
        """
        self._call("suspend_member", self._one(membership_id), safety=self._repeatable)

    def reactivate(self, membership_id: UUID | str) -> None:
        """Give a suspended member their rights back.

        Raises:
            NotFound: There is no such member.
            PermissionDenied: Without `members.write`, or for a rank not below yours.
            PlanLimitExceeded: The plan has no seat left.
        """
        self._call("reactivate_member", self._one(membership_id), safety=self._repeatable)

    def transfer_ownership(self, membership_id: UUID | str) -> None:
        """Make another active member owner of the business; you, who are owner, become admin.

        Raises:
            PermissionDenied: You are no owner.
            NotFound: There is no such member.
            Conflict: The member is suspended, or a customer in the portal.
        """
        self._call("transfer_ownership", self._one(membership_id))

    # Single permissions.

    def set_permission(
        self,
        membership_id: UUID | str,
        permission: str,
        *,
        effect: UserPermissionEffect | None = None,
        scope: UserPermissionScope | None = None,
        expires_at: datetime.datetime | None = None,
        reason: str | None = None,
    ) -> UserPermission:
        """Give a member one permission beside their roles, or deny it whatever the roles say.

        Replaces an earlier one for the same permission.

        Args:
            effect: `allow` by default, or `deny`, which has no scope.
            scope: `own`, `department` or `business`, the default.
            expires_at: From this moment on it means nothing; never by default.
            reason: For those who read it later; at most 500 characters.

        Raises:
            ValidationError: Naming the field; `unknown_permission`, `bad_scope`, `out_of_range`.
            PermissionDenied: Without `roles.write`, for a rank not below yours, or with reason
                `may_not_grant` for what you may not pass on.
            NotFound: There is no such member.
            Conflict: Nothing can be denied to an owner.
        """
        arguments = {
            **self._one(membership_id),
            "permission": permission, "effect": effect, "scope": scope,
            "expires_at": expires_at, "reason": reason,
        }  # fmt: skip
        reply = self._call(
            "set_member_permission", arguments, returns=UserPermission, safety=self._repeatable
        )
        return reply.one(UserPermission)

    def clear_permission(self, membership_id: UUID | str, permission: str) -> None:
        """Take a single permission or denial back: the member's roles decide again.

        Raises:
            NotFound: The member has no such single permission.
            PermissionDenied: As in `set_permission`; also for a denial of what you may not grant.
        """
        arguments = {**self._one(membership_id), "permission": permission}
        self._call("clear_member_permission", arguments)

    def permissions(
        self,
        membership_id: UUID | str | None = None,
        *,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[UserPermission]:
        """Single permissions and denials, of one member or all; those that have ended too.

        What a member may do altogether follows from these and the roles; see `client.access`.
        """
        query = self._rows("user_permissions", UserPermission)
        if membership_id is not None:
            query = query.eq("membership_id", str(check_id(membership_id, "membership_id")))
        return self._pages(
            query, UserPermission, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def _one(self, membership_id: UUID | str) -> dict[str, UUID]:
        return {
            "business_id": self._business_id,
            "membership_id": check_id(membership_id, "membership_id"),
        }
