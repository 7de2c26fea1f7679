"""Races about roles of a business's own making, departments, keys, and records that are shared."""

from __future__ import annotations

from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from .crew import Outcome, Session
from .members import keeps_an_owner, without_any_locks
from .naive import LOCK_ROW, rewrite, without_business_lock
from .race import Race, Trial, complaint
from .revocation import Revocation, Right, Work, of_the_admin
from .scenery import Office, Person, Scenery


def new_role(scenery: Scenery, office: Office, permissions: dict[str, str]) -> tuple[UUID, str]:
    """A role of the office's own: id, code."""
    code = f"r_{uuid4().hex[:12]}"
    (row,) = scenery.as_person(
        office.owner,
        "select id from create_role(business_id => %s, code => %s, name => %s, permissions => %s)",
        *(office.business_id, code, code, Jsonb(permissions)),
    )
    return row["id"], code


def give(scenery: Scenery, office: Office, member: Person, role: str) -> None:
    scenery.as_person(
        office.owner,
        "select change_member_roles(%s, %s, %s)",
        *(office.business_id, member.membership_id, [role]),
    )


def new_department(scenery: Scenery, office: Office) -> UUID:
    (row,) = scenery.as_person(
        office.owner,
        "select id from create_department(business_id => %s, name => %s, kind => 'sales')",
        *(office.business_id, uuid4().hex),
    )
    department: UUID = row["id"]
    return department


# Races ------


def _roles_inherit_from_each_other(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "owner")
    (one, one_code), (two, two_code) = (new_role(scenery, office, {}) for _ in range(2))
    statement = "select update_role(business_id => %s, role_id => %s, inherits => %s)"
    calls = [
        office.people[0].calls(statement, office.business_id, one, [two_code]),
        office.people[1].calls(statement, office.business_id, two, [one_code]),
    ]
    return Trial(calls, lambda outcomes: complaint(outcomes, {"22023"}, winners=1))


def _inheritance_without_lock(session: Session) -> None:
    without_business_lock(session)
    rewrite(session, "private.tg_role_hierarchies_sound", LOCK_ROW)


def _departments_below_each_other(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "owner")
    one, two = (new_department(scenery, office) for _ in range(2))
    statement = "select update_department(business_id => %s, department_id => %s, parent_id => %s)"
    calls = [
        office.people[0].calls(statement, office.business_id, one, two),
        office.people[1].calls(statement, office.business_id, two, one),
    ]
    return Trial(calls, lambda outcomes: complaint(outcomes, {"22023"}, winners=1))


def _departments_without_lock(session: Session) -> None:
    without_business_lock(session)
    rewrite(session, "private.tg_departments_acyclic", LOCK_ROW)
    # The foreign key alone would make the two deadlock.
    session.execute("alter table departments drop constraint departments_parent_fkey")


def _role_deleted_and_given(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "owner", "viewer")
    role, code = new_role(scenery, office, {"customers.read": "business"})
    calls = [
        office.people[0].calls("select delete_role(%s, %s)", office.business_id, role),
        office.people[1].calls(
            "select change_member_roles(%s, %s, %s)",
            *(office.business_id, office.people[2].membership_id, [code]),
        ),
    ]
    return Trial(calls, lambda outcomes: complaint(outcomes, {"PT409", "22023"}, winners=1))


def _transfer_twice(scenery: Scenery) -> Trial:
    """One owner, two successors: who has given it away has it no more."""
    office = scenery.office("owner", "admin", "admin")
    calls = [
        office.owner.calls(
            "select transfer_ownership(%s, %s)", office.business_id, one.membership_id
        )
        for one in office.people[1:]
    ]
    keeps = keeps_an_owner(scenery, office)

    def violation(outcomes: list[Outcome]) -> str | None:
        return keeps(outcomes) or complaint(outcomes, {"42501"}, winners=1)

    return Trial(calls, violation)


RIGHTS = (
    Race("two roles inherit from each other", "no circle",
         _roles_inherit_from_each_other, _inheritance_without_lock),
    Race("two departments below each other", "no circle",
         _departments_below_each_other, _departments_without_lock),
    Race("a role is deleted and given", "deleted or held, never both",
         _role_deleted_and_given, without_business_lock),
    Race("ownership handed to two at once", "one successor",
         _transfer_twice, without_any_locks),
)  # fmt: skip

# Rights that are taken away ------

_READ = "select id from customers where business_id = %s"
READS = (Work("reads", _READ), Work("reads in an open transaction", _READ, True))


def _customer(scenery: Scenery, office: Office) -> UUID:
    customer: UUID = scenery.value(_READ, office.business_id)
    return customer


def _key(scenery: Scenery, office: Office) -> UUID:
    """A key of the admin."""
    (row,) = scenery.as_person(
        office.people[1],
        "select api_key_id from create_api_key(business_id => %s, name => 'Key', scopes => %s)",
        *(office.business_id, ["customers.read"]),
    )
    key: UUID = row["api_key_id"]
    return key


def _revoked_key(scenery: Scenery, office: Office) -> Right:
    key = _key(scenery, office)
    return Right(
        key,
        lambda: scenery.as_person(
            office.owner, "select revoke_api_key(%s, %s)", office.business_id, key
        ),
    )


def _key_of_a_removed_member(scenery: Scenery, office: Office) -> Right:
    key = _key(scenery, office)
    return Right(key, of_the_admin("select remove_member(%s, %s)")(scenery, office).revoke)


def _emptied_role(scenery: Scenery, office: Office) -> Right:
    member = office.people[1]
    role, code = new_role(scenery, office, {"customers.read": "business"})
    give(scenery, office, member, code)
    statement = "select update_role(business_id => %s, role_id => %s, permissions => '{}')"
    return Right(
        member.user_id,
        lambda: scenery.as_person(office.owner, statement, office.business_id, role),
    )


def _shared(scenery: Scenery, office: Office) -> tuple[Person, UUID, UUID]:
    """A member who sees one shared customer and nothing else: member, customer, share."""
    member, customer = office.people[1], _customer(scenery, office)
    give(scenery, office, member, new_role(scenery, office, {"business.read": "business"})[1])
    (row,) = scenery.as_person(
        office.owner,
        "select id from share_record(business_id => %s, resource => 'customers',"
        " resource_id => %s, verbs => '{read}', membership_id => %s)",
        *(office.business_id, customer, member.membership_id),
    )
    return member, customer, row["id"]


def _unshared(scenery: Scenery, office: Office) -> Right:
    member, _, share = _shared(scenery, office)
    return Right(
        member.user_id,
        lambda: scenery.as_person(
            office.owner, "select unshare_record(%s, %s)", office.business_id, share
        ),
    )


def _denied(scenery: Scenery, office: Office) -> Right:
    member, customer = office.people[1], _customer(scenery, office)
    statement = (
        "select share_record(business_id => %s, resource => 'customers', resource_id => %s,"
        " verbs => '{read}', membership_id => %s, effect => 'deny')"
    )
    return Right(
        member.user_id,
        lambda: scenery.as_person(
            office.owner, statement, office.business_id, customer, member.membership_id
        ),
    )


def _moved_to_another_department(scenery: Scenery, office: Office) -> Right:
    """The record moves; who reached it through its department does so no more."""
    member, customer = office.people[1], _customer(scenery, office)
    here, there = (new_department(scenery, office) for _ in range(2))
    _, code = new_role(scenery, office, {"customers.read": "department"})
    give(scenery, office, member, new_role(scenery, office, {"business.read": "business"})[1])
    scenery.as_person(
        office.owner,
        "select assign_department_role(%s, %s, %s, %s)",
        *(office.business_id, here, member.membership_id, code),
    )
    move = "update customers set department_id = %s where business_id = %s and id = %s"
    scenery.as_person(office.owner, move, here, office.business_id, customer)
    return Right(
        member.user_id,
        lambda: scenery.as_person(office.owner, move, there, office.business_id, customer),
    )


TAKEN_AWAY = (
    Revocation("suspension by function", of_the_admin("select suspend_member(%s, %s)")),
    Revocation(
        "denied permission",
        of_the_admin("select set_member_permission(%s, %s, 'customers.read', 'deny')"),
    ),
    Revocation("revoked key", _revoked_key),
    Revocation("key of a removed member", _key_of_a_removed_member),
    Revocation("emptied role", _emptied_role),
    Revocation("record shared no more", _unshared),
    Revocation("denied record", _denied),
    Revocation("record moved to another department", _moved_to_another_department),
)
