"""Owners who act on each other, and changes of one member by two people."""

from __future__ import annotations

from collections.abc import Callable

from .crew import Call, Outcome, Session
from .naive import LOCK_ROW, PAUSE, rewrite, without_business_lock
from .race import Race, Trial, complaint
from .scenery import Office, Person, Scenery

_REMOVE = "select remove_member(business_id => %s, membership_id => %s)"
_CHANGE = "select change_member_roles(business_id => %s, membership_id => %s, roles => %s)"
#: Refused as the last owner, for want of a right, for want of a member.
_REFUSALS = ("PT409", "42501", "PT404")


def _owners(scenery: Scenery, office: Office) -> int:
    return int(
        scenery.value(
            "select count(distinct m.id) from business_memberships m"
            " join membership_roles r on (r.business_id, r.membership_id) = (m.business_id, m.id)"
            " join roles o on o.id = r.role_id and o.code = 'owner'"
            " where m.business_id = %s and m.status = 'active'",
            office.business_id,
        )
    )


def remove(office: Office, by: Person, whom: Person) -> Call:
    return by.calls(_REMOVE, office.business_id, whom.membership_id)


def demote(office: Office, by: Person, whom: Person) -> Call:
    return by.calls(_CHANGE, office.business_id, whom.membership_id, ["viewer"])


def leave(office: Office, by: Person, whom: Person) -> Call:
    return remove(office, by, by)


def keeps_an_owner(scenery: Scenery, office: Office) -> Callable[[list[Outcome]], str | None]:
    def violation(outcomes: list[Outcome]) -> str | None:
        if _owners(scenery, office) == 0:
            return "no owner left"
        return complaint(outcomes, _REFUSALS)

    return violation


def _in_a_ring(
    number: int, *ways: Callable[[Office, Person, Person], Call]
) -> Callable[[Scenery], Trial]:
    """Everybody acts on the next owner, the last on the first."""

    def prepare(scenery: Scenery) -> Trial:
        office = scenery.office(*["owner"] * number)
        calls = [
            ways[at % len(ways)](office, one, office.people[(at + 1) % number])
            for at, one in enumerate(office.people)
        ]
        return Trial(calls, keeps_an_owner(scenery, office))

    return prepare


def without_locks(session: Session) -> None:
    """Counts owners, and changes members, without making others wait."""
    without_business_lock(session)
    rewrite(
        session,
        "public.change_member_roles",
        (r"  delete from public\.membership_roles", f"{PAUSE} delete from public.membership_roles"),
    )
    rewrite(session, "private.tg_last_owner", LOCK_ROW)


def without_any_locks(session: Session) -> None:
    """Also without the access cache, whose lock of the user alone keeps changes of one apart."""
    without_locks(session)
    for event in ("insert", "delete"):
        session.execute(f"drop trigger _500_access_{event} on membership_roles".encode())


def _roles_of(scenery: Scenery, office: Office, member: Person) -> list[str]:
    rows = scenery.rows(
        "select o.code from membership_roles r join roles o on o.id = r.role_id"
        " where r.business_id = %s and r.membership_id = %s order by 1",
        office.business_id,
        member.membership_id,
    )
    return [str(row["code"]) for row in rows]


def _four_changes(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "admin", "admin", "admin", "viewer")
    member = office.people[-1]
    wanted = ["staff", "manager", "director", "sales_rep"]
    calls = [
        by.calls(_CHANGE, office.business_id, member.membership_id, [role])
        for by, role in zip(office.people[:-1], wanted, strict=True)
    ]

    def violation(outcomes: list[Outcome]) -> str | None:
        held = _roles_of(scenery, office, member)
        if len(held) != 1 or held[0] not in wanted:
            return f"ends with {held}"
        return complaint(outcomes, (), winners=4)

    return Trial(calls, violation)


def _change_and_removal(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "admin", "viewer")
    owner, admin, member = office.people
    change = admin.calls(_CHANGE, office.business_id, member.membership_id, ["manager"])

    def violation(outcomes: list[Outcome]) -> str | None:
        if held := _roles_of(scenery, office, member):
            return f"removed, and still {held}"
        return complaint(outcomes[:1], ("PT404",)) or complaint(outcomes[1:], (), winners=1)

    return Trial([change, remove(office, owner, member)], violation)


_OWNER = "at least one owner stays"
MEMBERS = (
    Race("two owners remove each other", _OWNER, _in_a_ring(2, remove), without_locks),
    Race("three owners remove each other", _OWNER, _in_a_ring(3, remove), without_locks),
    Race("two owners demote each other", _OWNER, _in_a_ring(2, demote), without_locks),
    Race("one removes, one demotes", _OWNER, _in_a_ring(2, remove, demote), without_locks),
    Race("two owners leave", _OWNER, _in_a_ring(2, leave), without_locks),
    Race("eight owners remove and demote each other", _OWNER, _in_a_ring(8, remove, demote),
         without_locks),
    Race("four admins change one member's role", "one of the four roles, not a mixture",
         _four_changes, without_any_locks),
    Race("role change against removal", "who is removed holds no role",
         _change_and_removal, without_any_locks),
)  # fmt: skip
