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
from .people import ALPHA, ALPHA_ONE
from .world import World

_DIFFERENCE = """
with kept as (
  select user_id, permission, home_database, home_schema, expires_at,
    array(select unnest(business_ids) order by 1), array(select unnest(mfa_business_ids) order by 1),
    array(select unnest(record_keys) order by 1), array(select unnest(denied_ids) order by 1),
    array(select unnest(blocked_session_ids) order by 1) from private.user_access),
wanted as (
  select c.user_id, c.permission, c.home_database, c.home_schema, c.expires_at,
    array(select unnest(c.business_ids) order by 1), array(select unnest(c.mfa_business_ids) order by 1),
    array(select unnest(c.record_keys) order by 1), array(select unnest(c.denied_ids) order by 1),
    array(select unnest(c.blocked_session_ids) order by 1)
  from private.compute_user_access(array(select id from auth.users)) c)
select (select count(*) from (select * from kept except select * from wanted) k)
  + (select count(*) from (select * from wanted except select * from kept) w)
"""


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
    assert office.sees("manager") == 3
    office.change(set_status, "suspended", *manager)
    assert office.sees("manager") == 0
    office.change(set_status, "active", *manager)
    assert office.sees("manager") == 3
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
    assert office.sees("only customers.read") == 3
    office.change(
        "delete from public.role_permissions where permission_code = 'customers.read'"
        " and role_id = (select id from public.roles where code = 'only_customers_read')"
    )
    assert office.sees("only customers.read") == 0
    office.change(
        "insert into public.role_permissions (role_id, permission_code)"
        " select id, 'customers.read' from public.roles where code = 'only_customers_read'"
    )
    assert office.sees("only customers.read") == 3
    office.change(
        "update public.role_permissions set scope = 'own' where permission_code = 'customers.read'"
        " and role_id = (select id from public.roles where code = 'only_customers_read')"
    )
    # Scopes below the business give nothing until policies know them.
    assert office.sees("only customers.read") == 0


def test_ends_of_a_seat_in_the_organization(office: Office) -> None:
    admin = (ALPHA.id, office.member_id("organization admin"))
    seat = "where organization_id = %s and user_id = %s"
    assert office.sees("organization admin") == 6
    office.change(f"update public.organization_memberships set status = 'suspended' {seat}", *admin)
    assert office.sees("organization admin") == 0
    assert office.sees("organization admin", "organizations") == 0
    office.change(f"update public.organization_memberships set status = 'active' {seat}", *admin)
    assert office.sees("organization admin") == 6
    office.change(f"delete from public.organization_memberships {seat}", *admin)
    assert office.sees("organization admin") == 0


def test_suspended_organizations_and_businesses(office: Office) -> None:
    set_organization = "update public.organizations set status = %s where id = %s"
    set_business = "update public.businesses set status = %s where id = %s"
    for statement, target in ((set_organization, ALPHA.id), (set_business, ALPHA_ONE.id)):
        assert office.sees("owner") == 3
        office.change(statement, "suspended", target)
        assert office.sees("owner") == 0
        office.change(statement, "active", target)
    assert office.sees("owner") == 3


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
    assert office.member.execute(count).fetchone() == (3,)
    office.change(
        "update public.business_memberships set status = 'removed' where user_id = %s",
        office.member_id("manager"),
    )
    assert office.member.execute(count).fetchone() == (0,)
    office.member.rollback()
