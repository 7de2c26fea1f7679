"""Organizations, businesses, members: functions of the world, the caller, the arguments."""

from __future__ import annotations

import datetime
import re
from uuid import UUID

from tenantry.testing._problems import Problem, require
from tenantry.testing._world import Row, World


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


def invite_member(world: World, user: UUID, given: Row) -> list[Row]:
    if given["role"] == "customer":
        raise Problem(
            "22023", "Customers are invited with invite_portal_customer().", field="role",
            reason="portal_role", hint="Call invite_portal_customer with the customer_id.",
        )  # fmt: skip
    return _invite(world, user, given, given["role"])


def _invite(world: World, user: UUID, given: Row, code: str) -> list[Row]:
    business_id = given["business_id"]
    email = world.normalized(business_id, "email", given["email"], "email")
    role = check_role(world, business_id, code, "role")
    department_id = given.get("department_id")
    if department_id is not None:
        world.one("departments", "department_id", business_id=business_id, id=department_id)
    members = world.find("business_memberships", business_id=business_id)
    if any(m["status"] != "removed" and world.emails[m["user_id"]] == email for m in members):
        raise Problem(
            "23505", "This person is a member already.", field="email",
            reason="already_member", hint="Change their roles instead.",
        )  # fmt: skip
    for old in world.find("invitations", business_id=business_id, email_normalized=email):
        if old["status"] == "pending":
            old["status"] = "revoked"
    invitation = world.insert(
        "invitations", business_id=business_id, email_normalized=email, role_id=role["id"],
        department_id=department_id, customer_id=given.get("customer_id"), invited_by=user,
        expires_at=world.now() + datetime.timedelta(days=7),
    )  # fmt: skip
    token = f"fake-invitation-{invitation['id']}"
    world.invited[token] = (invitation, code)
    return [
        {
            "invitation_id": invitation["id"],
            "token": token,
            "expires_at": invitation["expires_at"],
        }
    ]


def check_role(world: World, business_id: UUID, code: str, field: str) -> Row:
    """The role with this code. Raises the error of the real server, which lists them."""
    role = world.role_named(business_id, code)
    if role is None:
        offered = [r for r in world.rows["roles"] if r["business_id"] in (None, business_id)]
        offered.sort(key=lambda r: (-r["rank"], r["code"]))
        raise Problem(
            "22023", f"There is no role '{code}' here.", field=field, reason="unknown_role",
            hint=f"Use one of: {', '.join(r['code'] for r in offered)}.",
        )  # fmt: skip
    return role


def invite_portal_customer(world: World, user: UUID, given: Row) -> list[Row]:
    world.one(
        "customers", "customer_id", business_id=given["business_id"], id=given["customer_id"],
        deleted_at=None,
    )  # fmt: skip
    return _invite(world, user, given, "customer")


def resend_invitation(world: World, user: UUID, given: Row) -> list[Row]:
    old = world.one("invitations", "invitation_id", id=given["invitation_id"])
    role = next(role for invitation, role in world.invited.values() if invitation is old)
    again = {
        "business_id": given["business_id"], "email": old["email_normalized"],
        "department_id": old["department_id"], "customer_id": old["customer_id"],
    }  # fmt: skip
    (issued,) = _invite(world, user, again, role)
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
    membership["customer_id"] = invitation["customer_id"]
    if invitation["department_id"] is not None:
        world.insert(
            "department_roles", business_id=membership["business_id"],
            department_id=invitation["department_id"], membership_id=membership["id"],
            role_id=invitation["role_id"],
        )  # fmt: skip
    invitation.update(status="accepted", accepted_by=user, accepted_at=world.now())
    return membership


def change_member_roles(world: World, user: UUID, given: Row) -> list[str]:
    leaving = member(world, given)
    business_id = given["business_id"]
    # The real server names the argument of its helper here.
    found = [check_role(world, business_id, code, "role") for code in given["roles"]]
    if not given["roles"]:
        raise Problem("22023", "roles must name at least one role.", field="roles", reason="empty")
    if "owner" not in given["roles"]:
        _keep_an_owner(world, leaving)
    found.sort(key=lambda role: (-role["rank"], role["code"]))
    world.roles[leaving["id"]] = list(dict.fromkeys(role["code"] for role in found))
    return world.roles[leaving["id"]]


def remove_member(world: World, user: UUID, given: Row) -> None:
    leaving = member(world, given)
    _keep_an_owner(world, leaving)
    leaving["status"] = "removed"
    world.roles[leaving["id"]] = []
    for table in ("department_roles", "user_permissions", "access_control_lists"):
        rows = world.rows[table]
        rows[:] = [row for row in rows if row["membership_id"] != leaving["id"]]
    for key in world.find("api_keys", membership_id=leaving["id"], revoked_at=None):
        key["revoked_at"] = world.now()


def suspend_member(world: World, user: UUID, given: Row) -> None:
    suspended = member(world, given)
    _keep_an_owner(world, suspended)
    suspended["status"] = "suspended"


def reactivate_member(world: World, user: UUID, given: Row) -> None:
    member(world, given)["status"] = "active"


def transfer_ownership(world: World, user: UUID, given: Row) -> None:
    heir = member(world, given)
    if heir["status"] != "active" or heir["customer_id"] is not None:
        raise Problem(
            "PT409", "Only an active member can become owner.", field="membership_id",
            reason="not_active", hint="Reactivate the member first.",
        )  # fmt: skip
    mine = world.membership_of(given["business_id"], user)
    if mine is None or "owner" not in world.roles[mine]:
        raise Problem(
            "42501", "Your own role is not high enough for that.", field="business_id",
            reason="rank_too_low", hint="Ask somebody with a higher role.",
        )  # fmt: skip
    if "owner" not in world.roles[heir["id"]]:
        world.roles[heir["id"]] = ["owner", *world.roles[heir["id"]]]
    if mine != heir["id"]:
        rest = [code for code in world.roles[mine] if code not in ("owner", "admin")]
        world.roles[mine] = ["admin", *rest]


def member(world: World, given: Row) -> Row:
    """The present member whom `membership_id` names."""
    wanted = {"business_id": given["business_id"], "id": given["membership_id"]}
    found = next(world.find("business_memberships", **wanted), None)
    if found is None or found["status"] == "removed":
        raise Problem(
            "PT404", "There is no such member in this business.", field="membership_id",
            reason="not_found", hint="List the members of the business.",
        )  # fmt: skip
    return found


def _keep_an_owner(world: World, leaving: Row) -> None:
    others = world.find("business_memberships", business_id=leaving["business_id"], status="active")
    if not any("owner" in world.roles[m["id"]] for m in others if m is not leaving):
        raise Problem(
            "PT409", "A business keeps at least one owner.", field="membership_id",
            reason="last_owner", hint="Make somebody else owner first.",
        )  # fmt: skip
