"""Organizations, businesses, members: functions of the world, the caller, the arguments."""

from __future__ import annotations

import datetime
import re
from uuid import UUID

from tenantry.testing._problems import Problem, require
from tenantry.testing._world import ROLES, Row, World


def slug_of(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "x"


def create_organization(world: World, user: UUID, given: Row) -> Row:
    require(given, "name")
    slug = given.pop("slug", None) or slug_of(given["name"])
    if next(world.find("organizations", slug=slug), None):
        raise Problem(
            "23505", "This slug is taken.", field="slug", reason="taken",
            hint="Choose another slug, or leave it out.",
        )  # fmt: skip
    organization = world.insert("organizations", slug=slug, **given)
    world.organization_owners[organization["id"]] = user
    return organization


def create_business(world: World, user: UUID, given: Row) -> Row:
    require(given, "name", "timezone", "country", "currency")
    if world.organization_owners.get(given["organization_id"]) != user:
        raise Problem("42501", "You may not add businesses here.", field="organization_id")
    slug = given.pop("slug", None) or slug_of(given["name"])
    same = {"organization_id": given["organization_id"], "slug": slug}
    if next(world.find("businesses", **same), None):
        raise Problem("23505", "This slug is taken.", field="slug", reason="taken")
    business = world.insert("businesses", slug=slug, **given)
    join(world, user, business["id"], "owner")
    return business


def join(world: World, user: UUID, business_id: UUID, role: str) -> Row:
    """Make a user a member."""
    for row in world.find("business_memberships", business_id=business_id, user_id=user):
        if row["status"] != "removed":
            raise Problem(
                "23505", "You are a member of this business already.", reason="already_member"
            )
        row["status"] = "active"
        world.roles[row["id"]] = [role]
        return row
    row = world.insert("business_memberships", business_id=business_id, user_id=user)
    world.roles[row["id"]] = [role]
    return row


def my_businesses(world: World, user: UUID, given: Row) -> list[Row]:
    found = []
    for membership in world.find("business_memberships", user_id=user, status="active"):
        business = next(world.find("businesses", id=membership["business_id"]))
        organization = next(world.find("organizations", id=business["organization_id"]))
        found.append(
            {
                "business_id": business["id"], "organization_name": organization["name"],
                "roles": world.roles[membership["id"]], "permissions": [],
                **{n: business[n] for n in ("name", "slug", "organization_id", "timezone",
                                            "country", "currency")},
            }
        )  # fmt: skip
    return found


def invite_member(world: World, user: UUID, given: Row) -> list[Row]:
    email = world.normalized(given["business_id"], "email", given["email"], "email")
    _role(given["role"], "role")
    for old in world.find("invitations", business_id=given["business_id"], email_normalized=email):
        if old["status"] == "pending":
            old["status"] = "revoked"
    invitation = world.insert(
        "invitations", business_id=given["business_id"], email_normalized=email,
        role_id=world.new_id(), invited_by=user,
        expires_at=world.now() + datetime.timedelta(days=7),
    )  # fmt: skip
    token = f"fake-invitation-{invitation['id']}"
    world.invited[token] = (invitation, given["role"])
    return [
        {
            "invitation_id": invitation["id"],
            "token": token,
            "expires_at": invitation["expires_at"],
        }
    ]


def _role(code: str, field: str) -> None:
    if code not in ROLES:
        raise Problem(
            "22023", f"There is no role '{code}' here.", field=field, reason="unknown_role",
            hint=f"Use one of: {', '.join(ROLES)}.",
        )  # fmt: skip


def resend_invitation(world: World, user: UUID, given: Row) -> list[Row]:
    old = world.one("invitations", "invitation_id", id=given["invitation_id"])
    role = next(role for invitation, role in world.invited.values() if invitation is old)
    again = {"business_id": given["business_id"], "email": old["email_normalized"], "role": role}
    (issued,) = invite_member(world, user, again)
    return [{"new_invitation_id": issued.pop("invitation_id"), **issued}]


def revoke_invitation(world: World, user: UUID, given: Row) -> None:
    world.one("invitations", "invitation_id", id=given["invitation_id"])["status"] = "revoked"


def accept_invitation(world: World, user: UUID, given: Row) -> Row:
    invitation, role = world.invited.get(given["token"], ({}, ""))
    for_caller = invitation.get("email_normalized") == world.emails[user]
    if invitation.get("status") != "pending" or not for_caller:
        raise Problem(
            "PT404", "This invitation is not valid.", field="token", reason="not_found",
            hint="Ask for a new invitation.",
        )  # fmt: skip
    membership = join(world, user, invitation["business_id"], role)
    invitation.update(status="accepted", accepted_by=user, accepted_at=world.now())
    return membership


def change_member_roles(world: World, user: UUID, given: Row) -> list[str]:
    member = _member(world, given)
    for code in given["roles"]:
        _role(code, "roles")
    if not given["roles"]:
        raise Problem("22023", "roles must name at least one role.", field="roles", reason="empty")
    if "owner" not in given["roles"]:
        _keep_an_owner(world, member)
    world.roles[member["id"]] = sorted(set(given["roles"]), key=ROLES.index)
    return world.roles[member["id"]]


def remove_member(world: World, user: UUID, given: Row) -> None:
    member = _member(world, given)
    _keep_an_owner(world, member)
    member["status"] = "removed"
    world.roles[member["id"]] = []


def _member(world: World, given: Row) -> Row:
    wanted = {"business_id": given["business_id"], "id": given["membership_id"]}
    member = next(world.find("business_memberships", **wanted), None)
    if member is None or member["status"] == "removed":
        raise Problem(
            "PT404", "There is no such member in this business.", field="membership_id",
            reason="not_found",
        )  # fmt: skip
    return member


def _keep_an_owner(world: World, leaving: Row) -> None:
    others = world.find("business_memberships", business_id=leaving["business_id"], status="active")
    if not any("owner" in world.roles[m["id"]] for m in others if m is not leaving):
        raise Problem(
            "PT409", "A business keeps at least one owner.", field="membership_id",
            reason="last_owner", hint="Make somebody else owner first.",
        )  # fmt: skip
