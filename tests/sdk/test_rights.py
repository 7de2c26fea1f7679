"""Roles, departments, single permissions, shares, keys, sessions: on the real stack and the fake.

What only the real server refuses (ranks, rights) is in tests/e2e/test_rights.py.
"""

from __future__ import annotations

import datetime
import secrets
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sdk_worlds import World, founded, refused

from tenantry import Tenantry, errors
from tenantry.models import Member, RoleGrant


def soon() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)


def past() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)


Join = Callable[..., tuple[Tenantry, Member]]


@pytest.fixture
def joined(world: World) -> Iterator[Join]:
    """Makes a new member, and their client with the business in use; the seat is freed again."""
    members = []

    def join(role: str, **options: Any) -> tuple[Tenantry, Member]:
        person = world.new_user()
        issued = world.owner.members.invite(email=world.email_of(person), role=role, **options)
        membership = person.members.accept(issued.token)
        person = person.with_options(business=membership.business_id)
        (member,) = [m for m in world.owner.members.list() if m.id == membership.id]
        members.append(member)
        return person, member

    yield join
    for member in members:
        world.owner.members.remove(member.id)


def new_code() -> str:
    return f"role_{secrets.token_hex(4)}"


# Roles.


def test_system_roles_come_by_rank_with_what_they_carry(client) -> None:
    listed = client.roles.list(page_size=3).all()
    system = [role for role in listed if role.business_id is None]
    assert [role.code for role in system][:2] == ["owner", "admin"]
    assert [role.rank for role in listed] == sorted((r.rank for r in listed), reverse=True)
    everything = {permission.code for permission in client.roles.permissions()}
    assert set(system[0].permissions) == everything
    assert client.roles.get("sales_rep").permissions["customers.read"].scope == "own"
    assert client.roles.get(system[0].id) == system[0]


def test_a_role_is_made_changed_and_deleted(client) -> None:
    code = new_code()
    made = client.roles.create(
        code=code, name="Front desk", rank=200, template="buyer", inherits=["viewer"],
        permissions={"customers.read": "own", "calls.read": {"scope": "own", "grantable": True}},
    )  # fmt: skip
    assert (made.code, made.rank, made.business_id) == (code, 200, client.business_id)
    whole = client.roles.get(code)
    assert whole.inherits == ["viewer"]
    assert whole.permissions["customers.read"].scope == "own"  # above the template's
    assert whole.permissions["calls.read"].grantable
    assert whole.permissions["messages.write"].scope == "department"

    grants = whole.permissions | {"calls.read": RoleGrant(scope="business")}
    client.roles.update(made.id, name="Reception", permissions=grants, inherits=[])
    changed = client.roles.get(made.id)
    assert (changed.name, changed.rank, changed.inherits) == ("Reception", 200, [])
    assert changed.permissions["calls.read"] == RoleGrant(scope="business", grantable=False)
    assert changed.permissions.keys() == whole.permissions.keys()

    client.roles.delete(made.id)
    refused(errors.NotFound, "id", lambda: client.roles.get(made.id))
    refused(errors.NotFound, "role_id", lambda: client.roles.delete(made.id))


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        ({"permissions": {"customers.fly": "own"}}, "permissions", "unknown_permission"),
        ({"permissions": {"customers.read": "street"}}, "permissions", "bad_scope"),
        ({"permissions": {"members.read": "own"}}, "scope", "bad_scope"),
        ({"code": "Front Desk"}, "code", "bad_code"),
        ({"rank": 1000}, "rank", "out_of_range"),
        ({"template": "pirate"}, "template", "unknown_template"),
        ({"inherits": ["pirate"]}, "role", "unknown_role"),
        ({"inherits": ["owner"]}, "inherits", "owner_is_not_inherited"),
    ],
)
def test_a_role_that_cannot_be_is_refused_by_name(client, arguments, field, reason) -> None:
    given = {"code": new_code(), "name": "Role", **arguments}
    error = refused(errors.ValidationError, field, lambda: client.roles.create(**given))
    assert error.reason == reason


def test_a_role_in_use_stays_and_a_code_is_taken_once(world, joined) -> None:
    owner, code = world.owner, new_code()
    role = owner.roles.create(code=code, name="Helper")
    refused(errors.Conflict, "code", lambda: owner.roles.create(code=code, name="Again"))
    refused(errors.Conflict, "code", lambda: owner.roles.create(code="staff", name="Staff"))
    _, member = joined(code)
    assert member.roles == [code]
    error = refused(errors.Conflict, "role_id", lambda: owner.roles.delete(role.id))
    assert error.reason == "in_use"
    owner.members.change_roles(member.id, roles=["viewer"])
    owner.roles.delete(role.id)


def test_roles_inherit_without_circles(client) -> None:
    below = client.roles.create(code=new_code(), name="Below")
    above = client.roles.create(code=new_code(), name="Above", inherits=[below.code])
    error = refused(
        errors.ValidationError, "inherits",
        lambda: client.roles.update(below.id, inherits=[above.code]),
    )  # fmt: skip
    assert error.reason == "circular"
    refused(errors.Conflict, "role_id", lambda: client.roles.delete(below.id))


def test_nobody_changes_a_system_role(client) -> None:
    owner_role = client.roles.get("owner")
    refused(errors.NotFound, "role_id", lambda: client.roles.update(owner_role.id, name="Boss"))


# Departments.


def test_departments_are_a_tree(client) -> None:
    name = f"Sales {secrets.token_hex(3)}"
    top = client.departments.create(name=name, kind="sales")
    below = client.departments.create(name="North", kind="sales", parent_id=top.id)
    assert [d.id for d in client.departments.list(parent_id=top.id)] == [below.id]
    assert client.departments.get(below.id) == below
    refused(
        errors.Conflict, "name",
        lambda: client.departments.create(name="North", kind="it", parent_id=top.id),
    )  # fmt: skip
    error = refused(
        errors.ValidationError, "parent_id",
        lambda: client.departments.update(top.id, parent_id=below.id),
    )  # fmt: skip
    assert error.reason == "circular"
    error = refused(
        errors.Conflict, "department_id", lambda: client.departments.delete(top.id)
    )  # fmt: skip
    assert error.reason == "in_use"
    moved = client.departments.update(below.id, make_root=True, name=f"{name} North")
    assert (moved.parent_id, moved.kind) == (None, "sales")
    for department in (top, below):
        client.departments.delete(department.id)
    refused(errors.NotFound, "id", lambda: client.departments.get(top.id))
    refused(errors.NotFound, "department_id", lambda: client.departments.delete(top.id))
    refused(
        errors.ValidationError, "kind",
        lambda: client.departments.create(name="Dungeon", kind="dungeon"),
    )  # fmt: skip


def test_people_work_for_departments(world, joined) -> None:
    owner = world.owner
    desk = owner.departments.create(name=f"Desk {secrets.token_hex(3)}", kind="customer_service")
    _, member = joined("staff", department_id=desk.id)
    (assigned,) = owner.departments.assignments(department_id=desk.id)
    assert (assigned.membership_id, assigned.role) == (member.id, "staff")
    for _ in range(2):  # doing it twice is the same
        owner.departments.assign(desk.id, membership_id=member.id, role="manager")
    roles = [a.role for a in owner.departments.assignments(membership_id=member.id)]
    assert sorted(roles) == ["manager", "staff"]
    owner.departments.unassign(desk.id, membership_id=member.id, role="manager")
    refused(
        errors.NotFound, "role",
        lambda: owner.departments.unassign(desk.id, membership_id=member.id, role="manager"),
    )  # fmt: skip

    customer = owner.customers.create(first_name="Ana")
    owned = owner.customers.update(
        customer.id, owner_membership_id=member.id, department_id=desk.id
    )
    assert owned in owner.customers.list(owner_membership_id=member.id)
    assert [c.id for c in owner.customers.list(department_id=desk.id)] == [customer.id]
    owner.departments.delete(desk.id)
    assert owner.customers.get(customer.id).department_id is None
    assert owner.departments.assignments(department_id=desk.id) == []


# Members.


def test_a_suspended_member_has_no_rights_until_reactivated(world, joined) -> None:
    person, member = joined("staff")
    assert person.customers.list().page()
    for _ in range(2):
        world.owner.members.suspend(member.id)
    assert person.businesses.mine() == []
    assert person.access.my_permissions(everywhere=True) == []
    assert member.id in [m.id for m in world.owner.members.list(status="suspended")]
    for _ in range(2):
        world.owner.members.reactivate(member.id)
    (mine,) = person.businesses.mine()
    assert (mine.roles, mine.needs_second_factor) == (["staff"], False)
    assert "customers.write" in mine.permissions


def test_the_last_owner_stays_and_ownership_is_handed_over(world) -> None:
    # In a business of its own: the owner of the shared one stays owner.
    owner = world.new_user()
    founded(owner)
    (first,) = owner.members.list().all()
    for attempt in (owner.members.suspend, owner.members.remove):
        error = refused(errors.Conflict, "membership_id", lambda attempt=attempt: attempt(first.id))
        assert error.reason == "last_owner"
    person = world.new_user()
    issued = owner.members.invite(email=world.email_of(person), role="staff")
    heir = person.members.accept(issued.token)
    owner.members.suspend(heir.id)
    error = refused(
        errors.Conflict, "membership_id", lambda: owner.members.transfer_ownership(heir.id)
    )
    assert error.reason == "not_active"
    owner.members.reactivate(heir.id)
    owner.members.transfer_ownership(heir.id)
    roles = {m.id: m.roles for m in owner.members.list()}
    assert roles == {first.id: ["admin"], heir.id: ["owner", "staff"]}


def test_a_single_permission_is_given_denied_and_cleared(world, joined) -> None:
    owner, (person, member) = world.owner, joined("viewer")
    given = owner.members.set_permission(
        member.id, "audit.read", expires_at=soon(), reason="The yearly audit"
    )
    assert (given.effect, given.scope, given.reason) == ("allow", "business", "The yearly audit")
    mine = {p.permission: p for p in person.access.my_permissions()}
    assert mine["audit.read"].expires_at == given.expires_at
    assert mine["calls.read"].expires_at is None

    denied = owner.members.set_permission(member.id, "audit.read", effect="deny")
    assert (denied.id, denied.expires_at) == (given.id, None)
    assert [p.effect for p in owner.members.permissions(member.id)] == ["deny"]
    owner.members.set_permission(member.id, "calls.read", effect="deny")
    assert "calls.read" not in {p.permission for p in person.access.my_permissions()}
    for code in ("audit.read", "calls.read"):
        owner.members.clear_permission(member.id, code)
    assert owner.members.permissions(member.id).all() == []
    refused(
        errors.NotFound, "permission",
        lambda: owner.members.clear_permission(member.id, "audit.read"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("permission", "options", "field", "reason"),
    [
        ("customers.fly", {}, "permission", "unknown_permission"),
        ("customers.read", {"scope": "street"}, "scope", "bad_scope"),
        ("customers.read", {"scope": "own", "effect": "deny"}, "scope", "bad_scope"),
        ("metrics.read", {"scope": "own"}, "scope", "bad_scope"),
        ("customers.read", {"effect": "maybe"}, "effect", "bad_choice"),
        ("customers.read", {"expires_at": "past"}, "expires_at", "out_of_range"),
    ],
)
def test_a_permission_that_cannot_be_is_refused_by_name(
    world, permission, options, field, reason, joined
) -> None:
    if options.get("expires_at") == "past":
        options = {**options, "expires_at": past()}
    (_, member) = joined("viewer")
    error = refused(
        errors.ValidationError, field,
        lambda: world.owner.members.set_permission(member.id, permission, **options),
    )  # fmt: skip
    assert error.reason == reason


def test_nothing_is_denied_to_an_owner(client) -> None:
    (first, *_) = [m for m in client.members.list() if "owner" in m.roles]
    refused(
        errors.Conflict, "membership_id",
        lambda: client.members.set_permission(first.id, "calls.read", effect="deny"),
    )  # fmt: skip


def test_a_customer_comes_into_the_portal(world) -> None:
    owner, guest = world.owner, world.new_user()
    customer = owner.customers.create(first_name="Ana")
    issued = owner.members.invite_portal_customer(customer.id, email=world.email_of(guest))
    assert issued.token not in repr(issued)
    membership = guest.members.accept(issued.token)
    assert membership.customer_id == customer.id
    (mine,) = guest.businesses.mine()
    assert mine.permissions == ["conversations.read", "messages.read"]
    refused(
        errors.NotFound, "customer_id",
        lambda: owner.members.invite_portal_customer(uuid.uuid4(), email="x@example.com"),
    )  # fmt: skip
    error = refused(
        errors.ValidationError, "role",
        lambda: owner.members.invite(email="x@example.com", role="customer"),
    )  # fmt: skip
    assert error.reason == "portal_role"


# Shares and explanations.


def test_a_record_is_shared_with_one_grantee_at_a_time(world, joined) -> None:
    owner, (_, member) = world.owner, joined("sales_rep")
    customer = owner.customers.create(first_name="Ana")
    share = owner.shares.share("customers", customer.id, membership_id=member.id)
    assert (share.verbs, share.effect, share.expires_at) == (["read"], "allow", None)
    again = owner.shares.share(
        "customers", customer.id, verbs=["write", "read"], membership_id=member.id,
        expires_at=soon(),
    )  # fmt: skip
    assert (again.id, again.verbs) == (share.id, ["read", "write"])
    with_role = owner.shares.share("customers", customer.id, role="viewer")
    assert with_role.role_id == owner.roles.get("viewer").id
    listed = owner.shares.list(resource="customers", resource_id=customer.id)
    assert {s.id for s in listed} == {share.id, with_role.id}
    owner.shares.unshare(share.id)
    refused(errors.NotFound, "share_id", lambda: owner.shares.unshare(share.id))
    with pytest.raises(errors.InvalidArgument, match="one of membership_id"):
        owner.shares.share("customers", customer.id)


@pytest.mark.parametrize(
    ("resource", "options", "field"),
    [
        ("invoices", {}, "resource"),
        ("customers", {"verbs": ["eat"]}, "verbs"),
        ("customers", {"verbs": []}, "verbs"),
        ("customers", {"effect": "maybe"}, "effect"),
        ("customers", {"expires_at": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)},
         "expires_at"),
        ("customers", {"role": "pirate"}, "role"),
    ],
)  # fmt: skip
def test_a_share_that_cannot_be_is_refused_by_name(client, resource, options, field) -> None:
    customer = client.customers.create(first_name="Ana")
    options = {"role": "viewer", **options}
    refused(
        errors.ValidationError, field,
        lambda: client.shares.share(resource, customer.id, **options),
    )  # fmt: skip


def test_what_is_not_there_is_not_shared(world, joined) -> None:
    # Ids of other things are no records either: sharing one would share what stands behind it.
    owner, (_, member) = world.owner, joined("viewer")
    for foreign in (uuid.uuid4(), owner.business_id, member.id):
        refused(
            errors.NotFound, "resource_id",
            lambda foreign=foreign: owner.shares.share("customers", foreign, role="viewer"),
        )  # fmt: skip


def test_a_decision_is_explained(world, joined) -> None:
    owner, (person, _) = world.owner, joined("viewer")
    customer = owner.customers.create(first_name="Ana")
    seen = person.access.explain("customers", customer.id)
    assert (seen.allowed, seen.rule, seen.permission) == (True, "role", "customers.read")
    kept = person.access.explain("customers", customer.id, "delete")
    assert (kept.allowed, kept.rule, kept.permission) == (False, "no_role", "customers.delete")
    nothing = person.access.explain("customers", uuid.uuid4())
    assert (nothing.allowed, nothing.rule) == (False, "not_found")
    assert owner.access.explain("customers", owner.business_id, "insert").allowed
    refused(errors.ValidationError, "table", lambda: owner.access.explain("pirates", customer.id))
    refused(
        errors.ValidationError, "verb", lambda: owner.access.explain("customers", customer.id, "x")
    )


# API keys, sessions, domains, second factor.


def test_a_key_is_shown_once_and_never_printed(client) -> None:
    issued = client.api_keys.create(
        name="Website", scopes=["customers.write", "customers.read"], expires_at=soon(),
        allowed_addresses=["203.0.113.0/24"],
    )  # fmt: skip
    text = issued.key.get_secret_value()
    assert text.startswith("tnk_")
    for shown in (repr(issued), str(issued), issued.model_dump_json(), f"{issued.key}"):
        assert text not in shown
    (listed,) = [k for k in client.api_keys.list() if k.id == issued.api_key_id]
    assert (listed.name, listed.prefix) == ("Website", text[:12])
    assert listed.scopes == ["customers.read", "customers.write"]
    assert listed.allowed_addresses == ["203.0.113.0/24"]
    assert listed.expires_at == issued.valid_until
    assert text not in repr(listed)

    client.api_keys.revoke(issued.api_key_id)
    assert issued.api_key_id not in [k.id for k in client.api_keys.list()]
    (kept,) = [k for k in client.api_keys.list(include_revoked=True) if k.id == listed.id]
    assert kept.revoked_at is not None
    refused(errors.NotFound, "api_key_id", lambda: client.api_keys.revoke(issued.api_key_id))


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"scopes": []}, "scopes", "empty"),
        ({"scopes": ["members.write"]}, "scopes", "bad_scope"),
        ({"scopes": ["customers.fly"]}, "scopes", "bad_scope"),
        ({"expires_at": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}, "expires_at",
         "out_of_range"),
        ({"allowed_addresses": ["203.0.113.7/24"]}, "allowed_addresses", "bad_address"),
        ({"name": " "}, "name", "bad_length"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_is_refused_by_name(client, options, field, reason) -> None:
    given = {"name": "Key", "scopes": ["customers.read"], **options}
    error = refused(errors.ValidationError, field, lambda: client.api_keys.create(**given))
    assert error.reason == reason


def test_a_session_is_ended_from_elsewhere(world) -> None:
    user = world.new_user()
    (here,) = user.sessions.list()
    assert (here.is_current, here.aal) == (True, "aal1")
    assert user.sessions.revoke_others() == 0
    refused(errors.NotFound, "session_id", lambda: user.sessions.revoke(uuid.uuid4()))
    user.sessions.revoke(here.id)
    with pytest.raises(errors.PermissionDenied, match="Sign in again"):
        user.sessions.list()
    assert user.businesses.mine() == []
    with pytest.raises(errors.AuthenticationError):
        user.auth.refresh()


def test_a_domain_is_claimed_and_given_up(client) -> None:
    host = f"d{secrets.token_hex(4)}.example.com"
    made = client.domains.add(host=f"{host.upper()}.", audience="clients")
    assert (made.host, made.verified_at) == (host, None)
    assert made in client.domains.list(audience="clients")
    refused(errors.Conflict, "host", lambda: client.domains.add(host=host, audience="staff"))
    client.domains.remove(made.id)
    refused(errors.NotFound, "domain_id", lambda: client.domains.remove(made.id))
    refused(
        errors.ValidationError, "host",
        lambda: client.domains.add(host="https://x.example", audience="staff"),
    )  # fmt: skip
    refused(
        errors.ValidationError, "audience",
        lambda: client.domains.add(host=host, audience="pirates"),
    )  # fmt: skip


def test_who_asks_for_a_second_factor_has_one(client) -> None:
    organization_id = client.businesses.get(client.business_id).organization_id
    client.organizations.set_mfa_requirement(organization_id, required=False)
    error = refused(
        errors.PermissionDenied, "required",
        lambda: client.organizations.set_mfa_requirement(organization_id, required=True),
    )  # fmt: skip
    assert error.reason == "second_factor_missing"
    assert not client.organizations.get(organization_id).requires_mfa


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(world) -> None:
    async with world.asynchronous() as client:
        role = await client.roles.create(code=new_code(), name="Role", inherits=["viewer"])
        listed = [r async for r in client.roles.list(page_size=3)]
        assert [r.inherits for r in listed if r.id == role.id] == [["viewer"]]
        customer = await client.customers.create(first_name="Ana")
        share = await client.shares.share("customers", customer.id, role=role.code)
        assert [s.id async for s in client.shares.list(resource_id=customer.id)] == [share.id]
        await client.shares.unshare(share.id)
        await client.roles.delete(role.id)
        issued = await client.api_keys.create(name="Job", scopes="customers.read")
        await client.api_keys.revoke(issued.api_key_id)
        said = await client.access.explain("customers", customer.id, "delete")
        assert (said.allowed, said.permission) == (True, "customers.delete")
