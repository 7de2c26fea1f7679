"""Roles, departments, single permissions, shares, keys, domains: functions of the world.

What is asked is checked, whether the caller may ask it is not: the fake has no ranks.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from tenantry import models
from tenantry.testing import _people
from tenantry.testing._catalogue import NOT_FOR_KEYS, PERMISSIONS, TEMPLATES, is_record_scoped
from tenantry.testing._problems import Problem, choice, choices_of, require
from tenantry.testing._world import Row, World

_LEVELS = {"own": 1, "department": 2, "business": 3}
_VERBS = {
    "customers": ("read", "write", "delete"),
    "conversations": ("read", "write"),
    "calls": ("read", "write"),
}
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")

# Roles.


def create_role(world: World, user: UUID, given: Row) -> Row:
    require(given, "name")
    code = given["code"]
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", code):
        raise Problem(
            "22023", "code must be lower-case letters, digits and underscores.",
            field="code", reason="bad_code", hint="For example: front_desk.",
        )  # fmt: skip
    if world.role_named(given["business_id"], code):
        raise Problem(
            "23505", "This business has a role with this code.", field="code", reason="taken",
            hint="Choose another code, or change that role.",
        )  # fmt: skip
    permissions = dict(given.get("permissions") or {})
    if (template := given.get("template")) is not None:
        if template not in TEMPLATES:
            raise Problem(
                "22023", f"There is no template '{template}'.", field="template",
                reason="unknown_template", hint=f"Use one of: {', '.join(sorted(TEMPLATES))}.",
            )  # fmt: skip
        permissions = TEMPLATES[template][1] | permissions
    rank = _rank(given.get("rank", 100))
    grants, inherits = _grants(permissions), _inherited(world, given)
    role = world.insert(
        "roles", business_id=given["business_id"], code=code, name=given["name"], rank=rank
    )
    world.grants[role["id"]], world.inherits[role["id"]] = grants, inherits
    return role


def update_role(world: World, user: UUID, given: Row) -> Row:
    role = _own_role(world, given)
    if given.get("permissions") is not None:
        world.grants[role["id"]] = _grants(given["permissions"])
    if given.get("inherits") is not None:
        inherits = _inherited(world, given)
        if any(role in world.carried(given["business_id"], code) for code in inherits):
            raise Problem(
                "22023", "A role cannot inherit from itself.", field="inherits",
                reason="circular", hint="Leave out the role that inherits from this one.",
            )  # fmt: skip
        world.inherits[role["id"]] = inherits
    if "rank" in given:
        _rank(given["rank"])
    role.update({name: given[name] for name in ("name", "rank") if name in given})
    return role


def delete_role(world: World, user: UUID, given: Row) -> None:
    role = _own_role(world, given)
    members = world.find("business_memberships", business_id=given["business_id"])
    used = (
        any(role["code"] in world.roles[m["id"]] for m in members)
        or any(world.find("department_roles", role_id=role["id"]))
        or any(world.find("invitations", role_id=role["id"], status="pending"))
        or any(role["code"] in inherited for inherited in world.inherits.values())
    )
    if used:
        raise Problem(
            "PT409", "Members, invitations or other roles still use this role.",
            field="role_id", reason="in_use", hint="Give them another role first.",
        )  # fmt: skip
    world.rows["roles"].remove(role)


def _own_role(world: World, given: Row) -> Row:
    wanted = {"business_id": given["business_id"], "id": given["role_id"]}
    for role in world.find("roles", **wanted):
        return role
    raise Problem(
        "PT404", "This business has no such role of its own.", field="role_id",
        reason="not_found", hint="System roles cannot be changed.",
    )  # fmt: skip


def _rank(rank: int) -> int:
    if not 0 <= rank <= 999:
        raise Problem(
            "22023", "rank must be between 0 and 999.", field="rank", reason="out_of_range",
            hint="Viewers have 100, staff 300, managers 500, admins 900.",
        )  # fmt: skip
    return rank


def _grants(permissions: Row) -> dict[str, tuple[str, bool]]:
    grants = {}
    for code, asked in permissions.items():
        _known(code, "permissions")
        whole = asked if isinstance(asked, dict) else {"scope": asked}
        scope = whole.get("scope", "business")
        if scope not in _LEVELS or (scope != "business" and not is_record_scoped(code)):
            raise Problem(
                "22023", f"{code} needs another scope.",
                field="permissions" if scope not in _LEVELS else "scope", reason="bad_scope",
                hint="Send own, department or business.",
            )  # fmt: skip
        grants[code] = (scope, bool(whole.get("grantable", False)))
    return grants


def _known(permission: str, field: str) -> None:
    if permission not in PERMISSIONS:
        raise Problem(
            "22023", f"There is no permission '{permission}'.", field=field,
            reason="unknown_permission", hint="List the table permissions.",
        )  # fmt: skip


def _inherited(world: World, given: Row) -> list[str]:
    codes = list(given.get("inherits") or ())
    for code in codes:
        _people.check_role(world, given["business_id"], code, "role")
    if "owner" in codes:
        raise Problem(
            "22023", "No role inherits from owner.", field="inherits",
            reason="owner_is_not_inherited", hint="Make the member an owner instead.",
        )  # fmt: skip
    return codes


# Departments.


def create_department(world: World, user: UUID, given: Row) -> Row:
    require(given, "name")
    _check_department(world, given)
    return world.insert("departments", **given)


def update_department(world: World, user: UUID, given: Row) -> Row:
    department = _department(world, given)
    changes: Row = {
        n: given[n] for n in ("name", "kind", "parent_id", "manager_membership_id") if n in given
    }
    if given.get("make_root"):
        changes["parent_id"] = None
    above = changes.get("parent_id")
    while above is not None:
        if above == department["id"]:
            raise Problem(
                "22023", "A department cannot stand below itself.", field="parent_id",
                reason="circular", hint="Choose a department outside its own branch.",
            )  # fmt: skip
        above = next((d["parent_id"] for d in world.find("departments", id=above)), None)
    _check_department(world, {**department, **changes})
    department.update(changes)
    return department


def delete_department(world: World, user: UUID, given: Row) -> None:
    department = _department(world, given)
    if any(world.find("departments", parent_id=department["id"])):
        raise Problem(
            "PT409", "This department has others below it.", field="department_id",
            reason="in_use", hint="Move or delete those first.",
        )  # fmt: skip
    world.rows["departments"].remove(department)
    for table in ("department_roles", "access_control_lists"):
        rows = world.rows[table]
        rows[:] = [row for row in rows if row["department_id"] != department["id"]]
    for table in ("customers", "conversations", "calls", "channels"):
        for row in world.find(table, department_id=department["id"]):
            row["department_id"] = None


def assign_department_role(world: World, user: UUID, given: Row) -> None:
    wanted = _assignment(world, given)
    if not any(world.find("department_roles", **wanted)):
        world.insert("department_roles", **wanted)


def remove_department_role(world: World, user: UUID, given: Row) -> None:
    row = next(world.find("department_roles", **_assignment(world, given)), None)
    if row is None:
        raise Problem(
            "PT404", "The member does not hold this role there.", field="role",
            reason="not_found", hint="List department_roles of the business.",
        )  # fmt: skip
    world.rows["department_roles"].remove(row)


def _assignment(world: World, given: Row) -> Row:
    department = _department(world, given)
    member = _people.member(world, given)
    role = _people.check_role(world, given["business_id"], given["role"], "role")
    return {
        "business_id": given["business_id"], "department_id": department["id"],
        "membership_id": member["id"], "role_id": role["id"],
    }  # fmt: skip


def _department(world: World, given: Row, field: str = "department_id") -> Row:
    return world.one("departments", field, business_id=given["business_id"], id=given[field])


def _check_department(world: World, given: Row) -> None:
    choice(given, "kind", *choices_of(models.DepartmentKind))
    if given.get("parent_id"):
        _department(world, given, "parent_id")
    if manager := given.get("manager_membership_id"):
        _people.member(world, {**given, "membership_id": manager})
    same = {n: given.get(n) for n in ("business_id", "parent_id", "name")}
    if any(d["id"] != given.get("id") for d in world.find("departments", **same)):
        raise Problem(
            "23505", "There is a department with this name there.", field="name",
            reason="taken", hint="Choose another name.",
        )  # fmt: skip


# Single permissions and single records.


def set_member_permission(world: World, user: UUID, given: Row) -> Row:
    _known(given["permission"], "permission")
    choice(given, "effect", "allow", "deny")
    effect, scope = given.get("effect", "allow"), given.get("scope", "business")
    if scope not in _LEVELS or (
        scope != "business" and (effect == "deny" or not is_record_scoped(given["permission"]))
    ):
        raise Problem(
            "22023", "scope must be own, department or business.", field="scope",
            reason="bad_scope", hint="Leave scope out to deny.",
        )  # fmt: skip
    _not_over(world, given)
    member = _people.member(world, given)
    if effect == "deny" and "owner" in world.roles[member["id"]]:
        raise Problem(
            "PT409", "Nothing can be denied to an owner.", field="membership_id",
            reason="is_owner", hint="Give the member another role instead.",
        )  # fmt: skip
    wanted = {
        "business_id": given["business_id"], "membership_id": member["id"],
        "permission_code": given["permission"],
    }  # fmt: skip
    row = next(world.find("user_permissions", **wanted), None)
    row = row or world.insert("user_permissions", **wanted)
    row.update(
        effect=effect, scope=scope, expires_at=given.get("expires_at"),
        reason=given.get("reason"), granted_by=user,
    )  # fmt: skip
    return row


def clear_member_permission(world: World, user: UUID, given: Row) -> None:
    member = _people.member(world, given)
    wanted = {"membership_id": member["id"], "permission_code": given["permission"]}
    row = next(world.find("user_permissions", **wanted), None)
    if row is None:
        raise Problem(
            "PT404", "The member has no such single permission.", field="permission",
            reason="not_found", hint="List user_permissions of the business.",
        )  # fmt: skip
    world.rows["user_permissions"].remove(row)


def share_record(world: World, user: UUID, given: Row) -> Row:
    choice(given, "resource", *_VERBS)
    resource, verbs = given["resource"], sorted(set(given["verbs"]))
    if not verbs or set(verbs) - set(_VERBS[resource]):
        raise Problem(
            "22023", f"verbs must name what to share of {resource}.", field="verbs",
            reason="bad_choice", hint=f"Send some of {', '.join(_VERBS[resource])}.",
        )  # fmt: skip
    choice(given, "effect", "allow", "deny")
    _not_over(world, given)
    wanted = dict.fromkeys(("membership_id", "role_id", "department_id"))
    if given.get("membership_id"):
        wanted["membership_id"] = _people.member(world, given)["id"]
    elif given.get("role"):
        role = _people.check_role(world, given["business_id"], given["role"], "role")
        wanted["role_id"] = role["id"]
    else:
        wanted["department_id"] = _department(world, given)["id"]
    business = {"business_id": given["business_id"]}
    world.one(resource, "resource_id", **business, id=given["resource_id"])
    place = {**business, "resource": resource, "resource_id": given["resource_id"], **wanted}
    place["effect"] = given.get("effect", "allow")
    row = next(world.find("access_control_lists", **place), None)
    row = row or world.insert("access_control_lists", **place)
    row.update(verbs=verbs, expires_at=given.get("expires_at"), granted_by=user)
    return row


def unshare_record(world: World, user: UUID, given: Row) -> None:
    wanted = {"business_id": given["business_id"], "id": given["share_id"]}
    row = next(world.find("access_control_lists", **wanted), None)
    if row is None:
        raise Problem(
            "PT404", "There is no such share that you may end.", field="share_id",
            reason="not_found", hint="List access_control_lists of the business.",
        )  # fmt: skip
    world.rows["access_control_lists"].remove(row)


def _not_over(world: World, given: Row) -> None:
    ends = given.get("expires_at")
    if ends is not None and ends <= world.now():
        raise Problem(
            "22023", "expires_at must be in the future.", field="expires_at",
            reason="out_of_range", hint="Send a later time, or null for no end.",
        )  # fmt: skip


# What somebody may do.


def held(world: World, membership: Row) -> dict[str, tuple[str, datetime.datetime | None]]:
    """Permissions of a member: the widest scope, and when a part of it ends."""
    business_id, now = membership["business_id"], world.now()
    found: dict[str, tuple[str, datetime.datetime | None]] = {}

    def add(code: str, scope: str, ends: datetime.datetime | None = None) -> None:
        if scope == "department" and not divided:
            scope = "business"
        old, old_end = found.get(code, (scope, ends))
        ends = min(filter(None, (old_end, ends)), default=None)
        found[code] = (max(old, scope, key=_LEVELS.__getitem__), ends)

    divided = any(world.find("departments", business_id=business_id))
    for permission, scope in _of_roles(world, business_id, world.roles[membership["id"]]):
        add(permission, scope)
    for assigned in world.find("department_roles", membership_id=membership["id"]):
        (role,) = world.find("roles", id=assigned["role_id"])
        for permission, scope in _of_roles(world, business_id, [role["code"]]):
            if is_record_scoped(permission):
                add(permission, min(scope, "department", key=_LEVELS.__getitem__))
    single = [
        p for p in world.find("user_permissions", membership_id=membership["id"])
        if p["expires_at"] is None or p["expires_at"] > now
    ]  # fmt: skip
    for row in single:
        if row["effect"] == "allow":
            add(row["permission_code"], row["scope"], row["expires_at"])
    for row in single:
        if row["effect"] == "deny":
            found.pop(row["permission_code"], None)
    return found


def _of_roles(world: World, business_id: UUID, codes: list[str]) -> Iterator[tuple[str, str]]:
    for code in codes:
        for role in world.carried(business_id, code):
            for permission, (scope, _) in world.grants[role["id"]].items():
                yield permission, scope


def my_businesses(world: World, user: UUID, given: Row) -> list[Row]:
    found = []
    for membership in world.find("business_memberships", user_id=user, status="active"):
        business = next(world.find("businesses", id=membership["business_id"]))
        organization = next(world.find("organizations", id=business["organization_id"]))
        found.append(
            {
                "business_id": business["id"], "organization_name": organization["name"],
                "roles": world.roles[membership["id"]], "needs_second_factor": False,
                "permissions": sorted(held(world, membership)),
                **{n: business[n] for n in ("name", "slug", "organization_id", "timezone",
                                            "country", "currency")},
            }
        )  # fmt: skip
    return found


def my_permissions(world: World, user: UUID, given: Row) -> list[Row]:
    return [
        {"business_id": membership["business_id"], "permission": code, "scope": scope,
         "expires_at": ends}
        for membership in world.find("business_memberships", user_id=user, status="active")
        for code, (scope, ends) in sorted(held(world, membership).items())
    ]  # fmt: skip


# API keys and domains.


def create_api_key(world: World, user: UUID, given: Row) -> list[Row]:
    require(given, "name")
    if not given["scopes"]:
        raise Problem(
            "22023", "scopes must name at least one permission.", field="scopes",
            reason="empty", hint="Name what the key is for.",
        )  # fmt: skip
    usable = PERMISSIONS.keys() - NOT_FOR_KEYS
    for code in given["scopes"]:
        if code not in usable:
            raise Problem(
                "22023", f"'{code}' is not a permission that a key can have.", field="scopes",
                reason="bad_scope", hint=f"Use some of: {', '.join(sorted(usable))}.",
            )  # fmt: skip
    _not_over(world, given)
    try:
        addresses = [str(ipaddress.ip_network(a)) for a in given.get("allowed_addresses") or ()]
    except ValueError:
        raise Problem(
            "22023", "allowed_addresses must be networks.", field="allowed_addresses",
            reason="bad_address", hint="For example: 203.0.113.0/24.",
        ) from None  # fmt: skip
    member = world.membership_of(given["business_id"], user)
    row = world.insert(
        "api_keys", business_id=given["business_id"], membership_id=member, name=given["name"],
        scopes=sorted(set(given["scopes"])), allowed_addresses=addresses or None,
        expires_at=given.get("expires_at"),
    )  # fmt: skip
    key = f"tnk_{row['id'].hex:0>64}"
    row["prefix"] = key[:12]
    world.key_rows[key] = row
    return [
        {"api_key_id": row["id"], "key": key, "prefix": row["prefix"],
         "valid_until": row["expires_at"]}
    ]  # fmt: skip


def revoke_api_key(world: World, user: UUID, given: Row) -> None:
    wanted = {"business_id": given["business_id"], "id": given["api_key_id"], "revoked_at": None}
    row = next(world.find("api_keys", **wanted), None)
    if row is None:
        raise Problem(
            "PT404", "There is no such key, or it was revoked.", field="api_key_id",
            reason="not_found", hint="List the API keys of the business.",
        )  # fmt: skip
    row["revoked_at"] = world.now()


def add_domain(world: World, user: UUID, given: Row) -> Row:
    host = given["host"].strip(" .").lower()
    if not _HOST.fullmatch(host):
        raise Problem(
            "22023", "host is not a host name.", field="host", reason="bad_host",
            hint="For example: clients.bluebird.example, without https:// and port.",
        )  # fmt: skip
    choice(given, "audience", *choices_of(models.BusinessDomainAudience))
    wanted = {"business_id": given["business_id"], "host": host}
    if any(world.find("business_domains", **wanted)):
        raise Problem(
            "23505", "This business has this host already.", field="host", reason="taken",
            hint="Remove it first to change its audience.",
        )  # fmt: skip
    return world.insert(
        "business_domains", **wanted, audience=given["audience"],
        verification_token=world.new_id().hex,
    )  # fmt: skip


def remove_domain(world: World, user: UUID, given: Row) -> None:
    wanted = {"business_id": given["business_id"], "id": given["domain_id"]}
    row = next(world.find("business_domains", **wanted), None)
    if row is None:
        raise Problem(
            "PT404", "This business has no such domain.", field="domain_id",
            reason="not_found", hint="List the domains of the business.",
        )  # fmt: skip
    world.rows["business_domains"].remove(row)


def set_mfa_requirement(world: World, user: UUID, given: Row) -> None:
    if world.organization_owners.get(given["organization_id"]) != user:
        raise Problem(
            "42501", "You do not hold organization.owner in this organization.",
            field="organization_id", reason="permission_missing",
            hint="Ask an owner of the organization.",
        )  # fmt: skip
    if given["required"]:  # nobody has a second factor here
        raise Problem(
            "42501", "This needs a session with a second factor.", field="required",
            reason="second_factor_missing", hint="Enrol a factor, verify it, and try again.",
        )  # fmt: skip


FUNCTIONS: dict[str, Any] = {
    function.__name__: function
    for function in (
        create_role, update_role, delete_role, create_department, update_department,
        delete_department, assign_department_role, remove_department_role,
        set_member_permission, clear_member_permission, share_record, unshare_record,
        my_businesses, my_permissions, create_api_key, revoke_api_key, add_domain, remove_domain,
        set_mfa_requirement,
    )
}  # fmt: skip
