"""Rights hold on the next statement: whatever takes a right away takes it away at once.

And the cache that policies read is always what the tables say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tenantry_cli.testing import Database

from .catalog import Connection
from .people import (
    ALPHA,
    ALPHA_ONE,
    FIELD_SALES,
    GUARDED,
    OWNED,
    SALES,
    SUPPORT,
    membership_id,
    record_id,
)
from .world import World

_DIFFERENCE = """
with kept as (
  select user_id, permission, home_database, home_schema, expires_at,
    array(select unnest(business_ids) order by 1),
    array(select unnest(mfa_business_ids) order by 1),
    array(select unnest(limited_business_ids) order by 1),
    array(select unnest(record_keys) order by 1), array(select unnest(denied_ids) order by 1),
    array(select unnest(blocked_session_ids) order by 1) from private.user_access),
wanted as (
  select c.user_id, c.permission, c.home_database, c.home_schema, c.expires_at,
    array(select unnest(c.business_ids) order by 1),
    array(select unnest(c.mfa_business_ids) order by 1),
    array(select unnest(c.limited_business_ids) order by 1),
    array(select unnest(c.record_keys) order by 1), array(select unnest(c.denied_ids) order by 1),
    array(select unnest(c.blocked_session_ids) order by 1)
  from private.compute_user_access(array(select id from auth.users)) c)
select (select count(*) from (select * from kept except select * from wanted) k)
  + (select count(*) from (select * from wanted except select * from kept) w)
"""


#: Customers of alpha-one: those of every business, and those that somebody owns.
_ALL = 3 + len(OWNED)


@dataclass
class Office:
    """Two sessions: the owner of the database changes things, a member looks."""

    world: World
    owner: Connection
    member: Connection

    def sees(self, name: str, table: str = "customers") -> int:
        """Rows that the member sees, in one request."""
        self.member.execute("set local role authenticated")
        self.member.execute(
            "select set_config('request.jwt.claims', %s, true)",
            [json.dumps(self.world.cast[name].claims)],
        )
        row = self.member.execute(f"select count(*) from public.{table}".encode()).fetchone()
        self.member.rollback()
        assert row is not None
        return int(row[0])

    def change(self, statement: str, *values: object) -> None:
        self.owner.execute(statement.encode(), values or None)
        drift = self.owner.execute(_DIFFERENCE).fetchone()
        assert drift == (0,), "private.user_access differs from what the tables say"
        self.owner.commit()

    def member_id(self, name: str) -> object:
        return self.world.cast[name].user_id


@pytest.fixture
def office(new_world: Callable[[], tuple[Database, World]]) -> Iterator[Office]:
    database, world = new_world()
    with database.connect() as owner, database.connect("authenticator") as member:
        yield Office(world, owner, member)
        owner.rollback()
        member.rollback()


def test_ends_of_a_membership(office: Office) -> None:
    set_status = (
        "update public.business_memberships set status = %s where business_id = %s and user_id = %s"
    )
    manager = (ALPHA_ONE.id, office.member_id("manager"))
    assert office.sees("manager") == _ALL
    office.change(set_status, "suspended", *manager)
    assert office.sees("manager") == 0
    office.change(set_status, "active", *manager)
    assert office.sees("manager") == _ALL
    office.change(set_status, "removed", *manager)
    assert office.sees("manager") == 0
    office.change(
        "delete from public.business_memberships where business_id = %s and user_id = %s",
        ALPHA_ONE.id,
        office.member_id("staff"),
    )
    assert office.sees("staff") == 0


def test_changes_of_roles(office: Office) -> None:
    of_viewer = (
        "membership_id = (select id from public.business_memberships"
        " where business_id = %s and user_id = %s)"
    )
    viewer = (ALPHA_ONE.id, office.member_id("viewer"))
    assert office.sees("viewer", "audit_logs") == 0
    office.change(
        "update public.membership_roles set role_id = (select id from public.roles"
        f" where business_id is null and code = 'director') where {of_viewer}",
        *viewer,
    )
    assert office.sees("viewer", "audit_logs") > 0
    office.change(f"delete from public.membership_roles where {of_viewer}", *viewer)
    assert office.sees("viewer", "audit_logs") == office.sees("viewer") == 0


def test_changes_of_what_a_role_carries(office: Office) -> None:
    assert office.sees("only customers.read") == _ALL
    office.change(
        "delete from public.role_permissions where permission_code = 'customers.read'"
        " and role_id = (select id from public.roles where code = 'only_customers_read')"
    )
    assert office.sees("only customers.read") == 0
    office.change(
        "insert into public.role_permissions (role_id, permission_code)"
        " select id, 'customers.read' from public.roles where code = 'only_customers_read'"
    )
    assert office.sees("only customers.read") == _ALL
    office.change(
        "update public.role_permissions set scope = 'own' where permission_code = 'customers.read'"
        " and role_id = (select id from public.roles where code = 'only_customers_read')"
    )
    assert office.sees("only customers.read") == 0  # the member owns none


def test_ends_of_a_seat_in_the_organization(office: Office) -> None:
    admin = (ALPHA.id, office.member_id("organization admin"))
    seat = "where organization_id = %s and user_id = %s"
    assert office.sees("organization admin") == _ALL + 3
    office.change(f"update public.organization_memberships set status = 'suspended' {seat}", *admin)
    assert office.sees("organization admin") == 0
    assert office.sees("organization admin", "organizations") == 0
    office.change(f"update public.organization_memberships set status = 'active' {seat}", *admin)
    assert office.sees("organization admin") == _ALL + 3
    office.change(f"delete from public.organization_memberships {seat}", *admin)
    assert office.sees("organization admin") == 0


def test_suspended_organizations_and_businesses(office: Office) -> None:
    set_organization = "update public.organizations set status = %s where id = %s"
    set_business = "update public.businesses set status = %s where id = %s"
    for statement, target in ((set_organization, ALPHA.id), (set_business, ALPHA_ONE.id)):
        assert office.sees("owner") == _ALL
        office.change(statement, "suspended", target)
        assert office.sees("owner") == 0
        office.change(statement, "active", target)
    assert office.sees("owner") == _ALL


def test_the_account_itself(office: Office) -> None:
    office.change("delete from auth.users where id = %s", office.member_id("viewer"))
    assert office.sees("viewer") == office.sees("viewer", "profiles") == 0


def test_a_new_business_is_reached_by_the_organization(office: Office) -> None:
    before = office.sees("organization owner", "businesses")
    office.change(
        "insert into public.businesses (organization_id, name, slug, country, currency)"
        " values (%s, 'New', 'new', 'US', 'USD')",
        ALPHA.id,
    )
    assert office.sees("organization owner", "businesses") == before + 1
    office.change("delete from public.businesses where slug = 'new'")
    assert office.sees("organization owner", "businesses") == before


def test_a_transaction_that_began_before_sees_the_change(office: Office) -> None:
    """Under READ COMMITTED the next statement decides, also inside one transaction."""
    office.member.execute("set local role authenticated")
    office.member.execute(
        "select set_config('request.jwt.claims', %s, true)",
        [json.dumps(office.world.cast["manager"].claims)],
    )
    count = "select count(*) from public.customers"
    assert office.member.execute(count).fetchone() == (_ALL,)
    office.change(
        "update public.business_memberships set status = 'removed' where user_id = %s",
        office.member_id("manager"),
    )
    assert office.member.execute(count).fetchone() == (0,)
    office.member.rollback()


def _membership(name: str) -> object:
    return membership_id(name, ALPHA_ONE)


def test_single_permissions(office: Office) -> None:
    assert office.sees("viewer", "audit_logs") == 0
    give = (
        "insert into public.user_permissions (business_id, membership_id, permission_code, effect)"
        " values (%s, %s, 'audit.read', %s)"
    )
    office.change(give, ALPHA_ONE.id, _membership("viewer"), "allow")
    assert office.sees("viewer", "audit_logs") > 0
    office.change(give, ALPHA_ONE.id, _membership("director"), "deny")
    assert office.sees("director", "audit_logs") == 0
    office.change("delete from public.user_permissions where permission_code = 'audit.read'")
    assert office.sees("viewer", "audit_logs") == 0
    assert office.sees("director", "audit_logs") > 0


def test_what_runs_out_runs_out_without_a_change(office: Office) -> None:
    """The cache holds until the moment, and from the moment on it is not believed."""
    until = "now() + interval '1 hour'"
    office.change(
        "insert into public.user_permissions"
        " (business_id, membership_id, permission_code, effect, expires_at)"
        f" values (%s, %s, 'audit.read', 'allow', {until}),"
        f" (%s, %s, 'customers.read', 'deny', {until})",
        *(ALPHA_ONE.id, _membership("viewer")) * 2,
    )
    assert office.sees("viewer", "audit_logs") > 0
    assert office.sees("viewer") == 0
    # An hour passes: neither table nor cache is touched by anybody.
    office.owner.execute("alter table public.user_permissions disable trigger user")
    office.owner.execute(
        "update public.user_permissions set expires_at = now() - interval '1 second'"
        " where expires_at > now()"
    )
    office.owner.execute("alter table public.user_permissions enable trigger user")
    office.owner.execute(
        "update private.user_access set expires_at = now() - interval '1 second'"
        " where expires_at > now()"
    )
    office.owner.commit()
    assert office.sees("viewer", "audit_logs") == 0
    assert office.sees("viewer") == _ALL
    refreshed = office.owner.execute("select private.refresh_expired_access()").fetchone()
    assert refreshed == (1,)
    office.change("select 1")
    assert office.sees("viewer") == _ALL


def test_departments(office: Office) -> None:
    sales = office.sees("staff")
    assert 0 < sales < _ALL
    office.change(
        "update public.departments set parent_id = %s where id = %s", SALES.id, SUPPORT.id
    )
    assert office.sees("staff") > sales
    office.change("update public.departments set parent_id = null where id = %s", SUPPORT.id)
    assert office.sees("staff") == sales
    office.change("update public.departments set parent_id = null where id = %s", FIELD_SALES.id)
    assert office.sees("staff") < sales
    office.change(
        "delete from public.department_roles where membership_id = %s", _membership("staff")
    )
    assert office.sees("staff") < sales - 1


def test_a_business_without_departments_is_one_department(office: Office) -> None:
    office.change("delete from public.departments where business_id = %s", ALPHA_ONE.id)
    assert office.sees("staff") == _ALL
    office.change(
        "insert into public.departments (business_id, name, kind) values (%s, 'First', 'it')",
        ALPHA_ONE.id,
    )
    assert office.sees("staff") < _ALL


def test_shared_records(office: Office) -> None:
    assert office.sees("shared with") == 1
    office.change(
        "delete from public.access_control_lists where membership_id = %s",
        _membership("shared with"),
    )
    assert office.sees("shared with") == 0
    office.change(
        "insert into public.access_control_lists"
        " (business_id, resource, resource_id, role_id, verbs, effect)"
        " select %s, 'customers', %s, id, '{read}', 'deny' from public.roles"
        " where business_id is null and code = 'owner'",
        ALPHA_ONE.id,
        record_id("customers", "support", ALPHA_ONE),
    )
    assert office.sees("owner") == _ALL - 1
    assert office.sees("organization owner") == _ALL - 1 + 3
    office.change(
        "delete from public.customers where id = %s", record_id("customers", "shared", ALPHA_ONE)
    )
    left = office.owner.execute(
        "select count(*) from public.access_control_lists where resource = 'customers'"
        " and resource_id = %s",
        [record_id("customers", "shared", ALPHA_ONE)],
    ).fetchone()
    assert left == (0,)


def test_inherited_roles(office: Office) -> None:
    assert office.sees("sales lead", "calls") > 0
    office.change(
        "delete from public.role_hierarchies where parent_role_id ="
        " (select id from public.roles where code = 'team_lead')"
    )
    assert office.sees("sales lead", "calls") == 0


def test_api_keys(office: Office) -> None:
    key = office.world.cast["key of owner"]
    rep = office.world.cast["key of rep"]
    assert office.sees("key of owner") == _ALL
    assert office.sees("key of rep") == 1
    office.change("update public.api_keys set revoked_at = now() where id = %s", key.key_id)
    assert office.sees("key of owner") == 0
    office.change(
        "update public.business_memberships set status = 'removed' where id = %s",
        _membership("sales_rep"),
    )
    assert office.sees("key of rep") == 0
    office.change(
        "update public.business_memberships set status = 'active' where id = %s",
        _membership("sales_rep"),
    )
    revoked = office.owner.execute(
        "select revoked_at is not null from public.api_keys where id = %s", [rep.key_id]
    ).fetchone()
    assert revoked == (True,), "who comes back starts anew"
    assert office.sees("key of rep") == 0


def test_a_second_factor(office: Office) -> None:
    demand = "update public.organizations set requires_mfa = %s where id = %s"
    assert office.sees("guarded aal1") == office.sees("guarded aal1", "organizations") == 0
    assert office.sees("guarded aal2") == 3
    office.change(demand, False, GUARDED.id)
    assert office.sees("guarded aal1") == 3
    office.change(demand, True, ALPHA.id)
    assert office.sees("owner") == office.sees("owner", "organizations") == 0
    assert office.sees("key of owner") == _ALL, "a key was made by somebody with a second factor"


def test_an_ended_session(office: Office) -> None:
    viewer = office.world.cast["viewer"]
    assert office.sees("viewer") == _ALL
    office.change(
        "insert into private.revoked_sessions (session_id, user_id) values (%s, %s)",
        viewer.session_id,
        viewer.user_id,
    )
    assert office.sees("viewer") == office.sees("viewer", "organizations") == 0
