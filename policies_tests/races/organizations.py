"""Founding: a short name is taken once, and who asks for none gets one."""

from __future__ import annotations

from uuid import uuid4

from .crew import Outcome, Session
from .naive import rewrite
from .race import Race, Trial, complaint
from .scenery import Scenery

_FOUND = "select * from create_organization(name => %s, slug => %s)"


def _asked_for(scenery: Scenery) -> Trial:
    slug = f"acme-{uuid4().hex[:8]}"
    calls = [scenery.person().calls(_FOUND, "Acme", slug) for _ in range(8)]

    def violation(outcomes: list[Outcome]) -> str | None:
        if (made := _made(scenery, "organizations", f"{slug}%")) != 1:
            return f"{made} organizations of one slug"
        return complaint(outcomes, {"23505"}, winners=1)

    return Trial(calls, violation)


def _made(scenery: Scenery, table: str, pattern: str) -> int:
    return int(scenery.value(f"select count(*) from {table} where slug like %s", pattern))


def _organizations_of_one_name(scenery: Scenery) -> Trial:
    name = f"Acme {uuid4().hex[:8]}"
    calls = [scenery.person().calls(_FOUND, name, None) for _ in range(8)]
    return Trial(calls, lambda outcomes: complaint(outcomes, (), winners=8))


def _businesses_of_one_name(scenery: Scenery) -> Trial:
    office = scenery.office("owner")
    scenery.rows(
        "insert into organization_memberships (organization_id, user_id, role)"
        " values (%s, %s, 'owner')",
        *(office.organization_id, office.owner.user_id),
    )
    found = office.owner.calls(
        "select * from create_business(organization_id => %s, name => 'Shop')",
        office.organization_id,
    )
    return Trial([found] * 8, lambda outcomes: complaint(outcomes, (), winners=8))


def _slug_without_key(session: Session) -> None:
    rewrite(
        session,
        "public.create_organization",
        (r"perform pg_advisory_xact_lock\([^;]*;", "null;"),
        (r"  begin\n    insert into public\.organizations",
         "  if exists (select 1 from public.organizations o where o.slug = v_slug) then"
         " raise unique_violation; end if; perform pg_sleep(0.004);"
         "  begin\n    insert into public.organizations"),
    )  # fmt: skip
    session.execute("alter table organizations drop constraint organizations_slug_key")


def _slug_without_suffix(session: Session) -> None:
    """The first choice or nothing."""
    for function in ("public.create_organization", "public.create_business"):
        rewrite(session, function, (r"v_slug := v_slug \|\|[^;]*;", "null;"))


ORGANIZATIONS = (
    Race("eight ask for one slug", "one organization, the others refused",
         _asked_for, _slug_without_key),
    Race("eight organizations of one name", "each gets a slug of its own",
         _organizations_of_one_name, _slug_without_suffix),
    Race("eight businesses of one name", "each gets a slug of its own",
         _businesses_of_one_name, _slug_without_suffix),
)  # fmt: skip
