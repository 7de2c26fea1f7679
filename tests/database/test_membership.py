"""Who belongs to a business: founding, inviting, changing, leaving, and what each refuses."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors


def refused(call: object, *args: object, **arguments: object) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        call(*args, **arguments)  # type: ignore[operator]
    return caught.value


def reason(error: psycopg.Error) -> str:
    import json

    assert error.diag.message_detail is not None, error
    return str(json.loads(error.diag.message_detail)["reason"])


def test_a_new_account_gets_a_profile_and_logins_are_counted(world):
    ana = world.person("ana@people.example")
    assert ana.one("select full_name, login_count from profiles") == {
        "full_name": "Ana",
        "login_count": 0,
    }
    world.operator.execute(
        "update auth.users set last_sign_in_at = now() where id = %s", (ana.user_id,)
    )
    row = ana.one("select login_count, last_login_at from profiles")
    assert row["login_count"] == 1
    assert row["last_login_at"] is not None


def test_the_founder_owns_and_a_stranger_sees_nothing(world):
    owner, stranger = world.person(), world.person()
    business = world.business(owner)
    assert owner.value("select count(*) from businesses where id = %s", business) == 1
    assert stranger.value("select count(*) from businesses") == 0
    assert stranger.value("select count(*) from organizations") == 0
    mine = owner.one("select * from my_businesses() where business_id = %s", business)
    assert mine["roles"] == ["owner"]
    assert "members.write" in mine["permissions"]


def test_the_four_questions_answer_about_oneself_only(world):
    owner, stranger = world.person(), world.person()
    business = world.business(owner)
    ask = "select can_access_business(%s, %s)"
    assert owner.value(ask, owner.user_id, business) is True
    assert stranger.value(ask, stranger.user_id, business) is False
    assert stranger.value(ask, owner.user_id, business) is False  # not about others
    assert owner.value(ask, None, None) is False
    assert owner.value("select has_business_role(%s, %s, 'owner')", owner.user_id, business) is True
    assert (
        owner.value("select has_business_role(%s, %s, 'viewer')", owner.user_id, business) is False
    )
    assert owner.value("select is_business_admin(%s, %s)", owner.user_id, business) is True
    organization = owner.value("select organization_id from businesses where id = %s", business)
    assert owner.value("select get_user_organization_id(%s)", owner.user_id) == organization
    assert stranger.value("select get_user_organization_id(%s)", owner.user_id) is None


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "A", "slug": "Not A Slug"}, "slug"),
        ({"name": "A", "slug": "two--hyphens"}, "slug"),
        ({"name": "A", "country": "usa"}, "country"),
        ({"name": "A", "billing_email": "nobody"}, "billing_email"),
    ],
)
def test_bad_organizations_name_the_field_and_the_remedy(world, arguments, field):
    error = refused(world.person().rpc, "create_organization", **arguments)
    assert error.sqlstate == "22023"
    assert f'"field": "{field}"' in str(error.diag.message_detail)
    assert error.diag.message_hint


def test_any_name_gets_a_slug(world):
    owner = world.person()
    slug = owner.rpc("create_organization", name="日本歯科", country="JP")["slug"]
    assert slug.startswith("organization-")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "EST5EDT4"}, "timezone"),
        ({"currency": "dollars"}, "currency"),
        ({"country": "XXX"}, "country"),
        ({"locale": "english please"}, "locale"),
    ],
)
def test_bad_businesses_name_the_field(world, arguments, field):
    owner = world.person()
    organization = owner.rpc("create_organization", name="Acme", country="US")
    error = refused(
        owner.rpc, "create_business", organization_id=organization["id"], name="Shop", **arguments
    )
    assert error.sqlstate == "22023"
    assert f'"field": "{field}"' in str(error.diag.message_detail)


def test_the_plan_bounds_businesses_and_seats(world):
    owner = world.person()
    organization = owner.rpc("create_organization", name="Small", country="US")["id"]
    first = owner.rpc("create_business", organization_id=organization, name="One")["id"]
    owner.rpc("create_business", organization_id=organization, name="Two")
    error = refused(owner.rpc, "create_business", organization_id=organization, name="Three")
    assert error.sqlstate == "PT402"
    for _ in range(4):  # the owner is the first of five
        world.member(owner, first, "viewer")
    error = refused(world.member, owner, first, "viewer")
    assert error.sqlstate == "PT402"
    assert '"field": "seats"' in str(error.diag.message_detail)


def test_an_invitation_is_for_one_address_and_one_use(world):
    owner, invited, other = world.person(), world.person(), world.person()
    business = world.business(owner)
    token = owner.rpc("invite_member", business_id=business, email=invited.email, role="staff")[
        "token"
    ]
    assert reason(refused(other.rpc, "accept_invitation", token=token)) == "invalid_invitation"
    invited.rpc("accept_invitation", token=token)
    assert reason(refused(invited.rpc, "accept_invitation", token=token)) == "invalid_invitation"
    # The hash is nobody's to read, not even the owner's.
    with pytest.raises(errors.InsufficientPrivilege):
        owner.all("select token_hash from private.invitation_tokens")


def test_an_unconfirmed_address_cannot_accept(world):
    owner, invited = world.person(), world.person(confirmed=False)
    business = world.business(owner)
    token = owner.rpc("invite_member", business_id=business, email=invited.email, role="staff")[
        "token"
    ]
    assert reason(refused(invited.rpc, "accept_invitation", token=token)) == "invalid_invitation"


@pytest.mark.parametrize("how", ["expired", "revoked", "replaced", "inviter_demoted"])
def test_a_dead_invitation_says_nothing_about_why(world, how):
    owner = world.person()
    business = world.business(owner)
    admin, invited = world.member(owner, business, "admin"), world.person()
    row = admin.rpc("invite_member", business_id=business, email=invited.email, role="admin")
    if how == "expired":
        world.operator.execute(
            "update invitations set expires_at = now() where id = %s", (row["invitation_id"],)
        )
    elif how == "revoked":
        admin.rpc("revoke_invitation", business_id=business, invitation_id=row["invitation_id"])
    elif how == "replaced":
        admin.rpc("invite_member", business_id=business, email=invited.email, role="viewer")
    else:
        membership = owner.value(
            "select id from business_memberships where user_id = %s", admin.user_id
        )
        owner.rpc(
            "change_member_roles", business_id=business, membership_id=membership, roles=["viewer"]
        )
    error = refused(invited.rpc, "accept_invitation", token=row["token"])
    assert (error.sqlstate, error.diag.message_primary) == (
        "PT404",
        "This invitation is not valid.",
    )


def test_nobody_gives_or_takes_above_their_rank(world):
    owner = world.person()
    business = world.business(owner)
    admin, other_admin = (world.member(owner, business, "admin") for _ in range(2))
    manager = world.member(owner, business, "manager")

    def membership(person: object) -> object:
        return owner.value(
            "select id from business_memberships where user_id = %s and business_id = %s",
            person.user_id,  # type: ignore[attr-defined]
            business,
        )

    invite = {"business_id": business, "email": "x@people.example"}
    assert reason(refused(admin.rpc, "invite_member", **invite, role="owner")) == "rank_too_low"
    assert (
        reason(refused(manager.rpc, "invite_member", **invite, role="viewer"))
        == "permission_missing"
    )
    change = {"business_id": business, "membership_id": membership(other_admin)}
    assert (
        reason(refused(admin.rpc, "change_member_roles", **change, roles=["viewer"]))
        == "rank_too_low"
    )
    own = {"business_id": business, "membership_id": membership(admin)}
    assert (
        reason(refused(admin.rpc, "change_member_roles", **own, roles=["owner"])) == "rank_too_low"
    )
    assert reason(refused(admin.rpc, "change_member_roles", **own, roles=[])) == "empty"
    assert (
        reason(refused(owner.rpc, "change_member_roles", **own, roles=["emperor"]))
        == "unknown_role"
    )


def test_rights_are_gone_on_the_next_statement(world):
    owner = world.person()
    business = world.business(owner)
    staff = world.member(owner, business, "staff")
    owner.rpc("create_customer", business_id=business, first_name="Zoe")
    with staff.request() as connection:  # one long transaction, removed in the middle of it
        assert connection.execute("select count(*) from customers").fetchone()["count"] == 1
        membership = owner.value(
            "select id from business_memberships where user_id = %s", staff.user_id
        )
        owner.rpc("remove_member", business_id=business, membership_id=membership)
        assert connection.execute("select count(*) from customers").fetchone()["count"] == 0


def test_direct_changes_of_members_are_refused(world):
    owner = world.person()
    business = world.business(owner)
    staff = world.member(owner, business, "staff")
    for statement in (
        "update business_memberships set status = 'active'",
        "update membership_roles set role_id = (select id from roles where code = 'owner')",
        "insert into membership_roles (business_id, membership_id, role_id)"
        " select business_id, id, (select id from roles where code = 'owner')"
        " from business_memberships",
        "delete from business_memberships",
        "insert into private.user_access (user_id, permission, home_database, home_schema,"
        " business_ids) values (gen_random_uuid(), 'x', 'x', 'x', '{}')",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            staff.all(statement)
