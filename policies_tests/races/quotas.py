"""Bounds of a plan under sixteen at once: never above, and not refused below."""

from __future__ import annotations

from collections.abc import Callable

from .crew import Outcome, Session
from .naive import LOCK_ROW, PAUSE, rewrite
from .race import Race, Trial, complaint
from .scenery import Scenery

_REFUSED = ("PT402",)


def _seats(scenery: Scenery) -> Trial:
    """Seats count over all businesses, so that the lock of one business is not enough."""
    organization = scenery.organization({"seats": 7})
    offices = [scenery.branch(organization, "owner") for _ in range(4)]
    calls = []
    for number in range(16):
        person = scenery.person()
        token = scenery.invite(offices[number % 4], person.email)["token"]
        calls.append(person.calls("select * from accept_invitation(token => %s)", token))

    def violation(outcomes: list[Outcome]) -> str | None:
        taken = scenery.value(
            "select count(distinct m.user_id) from business_memberships m"
            " join businesses b on b.id = m.business_id"
            " where b.organization_id = %s and m.status = 'active'",
            organization,
        )
        return f"{taken} of 7 seats" if taken != 7 else complaint(outcomes, _REFUSED, winners=3)

    return Trial(calls, violation)


def _seats_without_lock(session: Session) -> None:
    rewrite(session, "private.tg_memberships_seats", LOCK_ROW)


def _businesses(scenery: Scenery) -> Trial:
    office = scenery.office("owner", limits={"businesses": 4})
    scenery.rows(
        "insert into organization_memberships (organization_id, user_id, role)"
        " values (%s, %s, 'owner')",
        office.organization_id,
        office.owner.user_id,
    )
    calls = [
        office.owner.calls(
            "select * from create_business(organization_id => %s, name => %s)",
            office.organization_id,
            f"Branch {number}",
        )
        for number in range(16)
    ]

    def violation(outcomes: list[Outcome]) -> str | None:
        made = scenery.value(
            "select count(*) from businesses where organization_id = %s", office.organization_id
        )
        return f"{made} of 4 businesses" if made != 4 else complaint(outcomes, _REFUSED, winners=3)

    return Trial(calls, violation)


def _businesses_without_lock(session: Session) -> None:
    rewrite(session, "private.tg_businesses_limit", LOCK_ROW)
    rewrite(session, "public.create_business", LOCK_ROW)


def _customers_of(businesses: int) -> Callable[[Scenery], Trial]:
    return lambda scenery: _customers(scenery, businesses)


def _customers(scenery: Scenery, businesses: int) -> Trial:
    """Half by the table, half by the function, in businesses that share the plan."""
    organization = scenery.organization({"customers": 6})
    offices = [scenery.branch(organization, "owner") for _ in range(businesses)]
    ways = (
        "insert into customers (business_id, first_name) values (%s, 'Ana')",
        "select create_customer(business_id => %s, first_name => 'Ana')",
    )
    calls = [
        office.owner.calls(ways[number % 4 // 2], office.business_id)
        for number in range(16)
        for office in [offices[number % businesses]]
    ]

    def violation(outcomes: list[Outcome]) -> str | None:
        stored = scenery.value(
            "select count(*) from customers where business_id = any (%s)",
            [one.business_id for one in offices],
        )
        if stored != 6:
            return f"{stored} of 6 customers"
        return complaint(outcomes, _REFUSED, winners=6)

    return Trial(calls, violation)


def _customers_without_lock(session: Session) -> None:
    """Counts, and hopes that nobody else is counting."""
    session.execute(
        f"""
        create or replace function public.tg_customers_limit() returns trigger
        language plpgsql security definer set search_path from current as $$
        declare
          v record;
        begin
          {PAUSE}
          for v in select distinct d.organization_id from new_rows n
                   join private.business_directory d using (business_id) loop
            perform private.enforce_plan_limit(v.organization_id, 'customers',
              (select count(*) from public.customers c
               join private.business_directory d using (business_id)
               where d.organization_id = v.organization_id),
              private.plan_limit(v.organization_id, 'customers'));
          end loop;
          return null;
        end $$
        """.encode()
    )


QUOTAS = (
    Race("sixteen join four businesses of one plan", "never more seats than the plan has",
         _seats, _seats_without_lock),
    Race("sixteen businesses at once", "never more businesses than the plan has",
         _businesses, _businesses_without_lock),
    Race("sixteen customers at once", "never more customers than the plan has",
         _customers_of(1), _customers_without_lock),
    Race("sixteen customers in two businesses", "never more customers than the plan has",
         _customers_of(2), _customers_without_lock),
)  # fmt: skip
