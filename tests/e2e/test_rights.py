"""One business from its first role to its last revoked right, and what is refused on the way."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tenantry import Tenantry, errors
from tenantry.models import BusinessMembership

pytestmark = pytest.mark.stack

PASSWORD = "correct-horse-7"


class Office:
    """A new business with its owner, and people who join it."""

    def __init__(self, local_stack, closing: ExitStack) -> None:
        self._keys, self._closing = local_stack.variables(), closing
        self.owner = self.person()
        name = f"Office {secrets.token_hex(4)}"
        organization = self.owner.organizations.create(name=name, country="US")
        business = self.owner.businesses.create(
            organization_id=organization.id, name=name, timezone="UTC", country="US",
            currency="USD",
        )  # fmt: skip
        self.owner.use(business.id)

    def person(self) -> Tenantry:
        client = Tenantry(self._keys["API_URL"], self._keys["PUBLISHABLE_KEY"])
        self._closing.callback(client.close)
        email = f"{secrets.token_hex(6)}@example.com"
        client.auth.sign_up(email=email, password=PASSWORD)
        return client

    def hire(self, role: str, **options: object) -> tuple[Tenantry, BusinessMembership]:
        person = self.person()
        email = person.auth.user().email or ""
        issued = self.owner.members.invite(email=email, role=role, **options)  # type: ignore[arg-type]
        membership = person.members.accept(issued.token)
        return person.with_options(business=membership.business_id), membership


@pytest.fixture
def office(local_stack) -> Iterator[Office]:
    with ExitStack() as closing:
        yield Office(local_stack, closing)


def refused(reason: str, call: Callable[[], object]) -> errors.APIError:
    with pytest.raises(errors.APIError) as caught:
        call()
    assert caught.value.reason == reason, caught.value
    assert caught.value.hint
    return caught.value


def names(client: Tenantry) -> set[str | None]:
    return {customer.first_name for customer in client.customers.list()}


def test_rights_are_given_and_taken_and_hold_at_once(office: Office) -> None:
    owner = office.owner
    desk = owner.departments.create(name="Desk", kind="customer_service")
    field = owner.departments.create(name="Field", kind="sales")
    role = owner.roles.create(
        code="desk_clerk", name="Desk clerk", rank=200,
        permissions={
            "customers.read": "department", "customers.write": "own", "business.read": "business",
        },
    )  # fmt: skip
    clerk, membership = office.hire("desk_clerk", department_id=desk.id)
    clerk.use(owner.business_id or "")

    ana = owner.customers.create(first_name="Ana")
    owner.customers.update(ana.id, department_id=desk.id)
    ben = owner.customers.create(first_name="Ben")
    owner.customers.update(ben.id, department_id=field.id)
    assert names(clerk) == {"Ana"}
    assert clerk.access.explain("customers", ben.id).rule == "out_of_scope"
    assert not clerk.access.explain("customers", ana.id, "update").allowed

    # One record, to read and write.
    share = owner.shares.share(
        "customers", ben.id, verbs=["read", "write"], membership_id=membership.id
    )
    assert names(clerk) == {"Ana", "Ben"}
    assert clerk.customers.update(ben.id, city="Bern").city == "Bern"
    assert clerk.access.explain("customers", ben.id, "update").rule == "record_shared"
    owner.shares.unshare(share.id)
    assert names(clerk) == {"Ana"}

    # One record denied, whatever the role says.
    denial = owner.shares.share(
        "customers", ana.id, membership_id=membership.id, effect="deny"
    )  # fmt: skip
    assert names(clerk) == set()
    assert clerk.access.explain("customers", ana.id).rule == "record_denied"
    owner.shares.unshare(denial.id)

    # One permission, for a while; then the role itself.
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    owner.members.set_permission(membership.id, "customers.read", expires_at=soon)
    assert names(clerk) == {"Ana", "Ben"}
    assert clerk.access.explain("customers", ben.id).rule == "permission_given"
    owner.members.clear_permission(membership.id, "customers.read")
    owner.roles.update(role.id, permissions={"customers.read": "business"})
    assert names(clerk) == {"Ana", "Ben"}

    issued = owner.api_keys.create(name="Job", scopes=["customers.read"])
    assert [key.id for key in owner.api_keys.list()] == [issued.api_key_id]
    owner.api_keys.revoke(issued.api_key_id)
    assert owner.api_keys.list().all() == []

    owner.members.suspend(membership.id)
    assert (names(clerk), clerk.access.my_permissions()) == (set(), [])
    owner.members.reactivate(membership.id)
    assert names(clerk) == {"Ana", "Ben"}
    owner.members.remove(membership.id)
    assert names(clerk) == set()
    assert clerk.access.explain("customers", ana.id).rule == "not_found"


def test_nobody_gives_what_they_may_not_pass_on(office: Office) -> None:
    admin, admin_membership = office.hire("admin")
    staff, staff_membership = office.hire("staff")
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)

    refused(
        "unknown_permission",
        lambda: admin.members.set_permission(staff_membership.id, "customers.fly"),
    )
    refused(
        "out_of_range",
        lambda: admin.members.set_permission(staff_membership.id, "audit.read", expires_at=past),
    )
    # Admins do not hold billing.write, so neither alone nor in a role can they give it.
    for attempt in (
        lambda: admin.members.set_permission(staff_membership.id, "billing.write"),
        lambda: admin.roles.create(
            code="boss", name="Boss", permissions={"billing.write": "business"}
        ),
    ):
        error = refused("may_not_grant", attempt)
        assert isinstance(error, errors.PermissionDenied)
        assert error.details["permission"] == "billing.write"
    # Nor somebody as high as themselves, nor those who may give nothing.
    refused("rank_too_low", lambda: admin.roles.create(code="boss", name="Boss", rank=950))
    refused(
        "rank_too_low",
        lambda: admin.members.set_permission(admin_membership.id, "calls.read", effect="deny"),
    )
    refused("permission_missing", lambda: admin.members.transfer_ownership(staff_membership.id))
    for attempt in (
        lambda: staff.members.set_permission(staff_membership.id, "audit.read"),
        lambda: staff.roles.create(code="mine", name="Mine"),
        lambda: staff.departments.create(name="Mine", kind="it"),
        lambda: staff.api_keys.create(name="Mine", scopes=["customers.read"]),
        lambda: staff.members.suspend(admin_membership.id),
        lambda: staff.domains.add(host="mine.example.com", audience="staff"),
    ):
        error = refused("permission_missing", attempt)
        assert isinstance(error, errors.PermissionDenied)
    assert staff.api_keys.list().all() == []
    assert staff.domains.list().all() == []


def test_the_last_owner_stays(office: Office) -> None:
    owner = office.owner
    (first,) = owner.members.list().all()
    for attempt in (
        lambda: owner.members.suspend(first.id),
        lambda: owner.members.remove(first.id),
        lambda: owner.members.change_roles(first.id, roles=["admin"]),
    ):
        assert isinstance(refused("last_owner", attempt), errors.Conflict)


def test_a_suspended_owner_is_still_above_an_admin(office: Office) -> None:
    owner = office.owner
    admin, _ = office.hire("admin")
    _, second = office.hire("owner")
    owner.members.suspend(second.id)
    for attempt in (
        lambda: admin.members.reactivate(second.id),
        lambda: admin.members.change_roles(second.id, roles=["viewer"]),
        lambda: admin.members.set_permission(second.id, "calls.read", effect="deny"),
        lambda: admin.members.remove(second.id),
    ):
        refused("rank_too_low", attempt)


def test_a_share_that_has_ended_and_one_from_elsewhere_reach_nothing(
    office: Office, local_stack
) -> None:
    owner = office.owner
    rep, membership = office.hire("sales_rep")
    ana = owner.customers.create(first_name="Ana")
    owner.departments.create(name="Any", kind="sales")
    assert names(rep) == set()
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    share = owner.shares.share("customers", ana.id, membership_id=membership.id, expires_at=soon)
    assert names(rep) == {"Ana"}
    with local_stack.server.connect(autocommit=True) as operator:
        operator.execute(
            "update access_control_lists set expires_at = now() where id = %s", (share.id,)
        )
    assert names(rep) == set()
    assert not rep.access.explain("customers", ana.id).allowed

    # In a business of their own, nobody shares what is elsewhere: not the record, not the business.
    organization = rep.organizations.create(name=f"Own {secrets.token_hex(4)}", country="US")
    own = rep.businesses.create(
        organization_id=organization.id, name="Own", timezone="UTC", country="US", currency="USD"
    )
    mine = rep.with_options(business=own.id)
    (me,) = mine.members.list().all()
    for foreign in (ana.id, owner.business_id, membership.id):
        refused(
            "not_found",
            lambda foreign=foreign: mine.shares.share("customers", foreign, membership_id=me.id),
        )
    assert names(rep) == set()


def test_errors_over_plain_http_say_the_same(office: Office, local_stack) -> None:
    session = office.owner.auth.session
    assert session is not None
    answer = httpx.post(
        f"{local_stack.origin}/rest/v1/rpc/create_role",
        headers={
            "apikey": local_stack.keys.publishable_key,
            "authorization": f"Bearer {session.access_token}",
        },
        json={
            "business_id": str(office.owner.business_id), "code": "x", "name": "X",
            "permissions": {"customers.fly": "own"},
        },
    )  # fmt: skip
    with pytest.raises(errors.ValidationError) as caught:
        office.owner.roles.create(code="x", name="X", permissions={"customers.fly": "own"})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (caught.value.status, caught.value.code)
    assert body["message"] == caught.value.message
    assert body["hint"] == caught.value.hint
