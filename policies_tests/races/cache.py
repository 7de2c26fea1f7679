"""Whatever changes rights, at random and at once; then the cache says what the tables say."""

from __future__ import annotations

import random

from .crew import Call, Outcome, Session
from .naive import PAUSE, rewrite
from .race import Race, Trial, complaint
from .scenery import Scenery

_WORKERS, _STEPS = 8, 4
_ARRAYS = (
    "business_ids",
    "mfa_business_ids",
    "limited_business_ids",
    "record_keys",
    "denied_ids",
    "blocked_session_ids",
)
_COLUMNS = ", ".join(
    [
        *("user_id", "permission", "home_database", "home_schema", "expires_at"),
        *(f"array(select unnest({name}) order by 1)" for name in _ARRAYS),
    ]
)
_DIFFERENCE = f"""
with kept as (select {_COLUMNS} from private.user_access where user_id = any (%s::uuid[])),
wanted as (select {_COLUMNS} from private.compute_user_access(%s::uuid[]))
select (select count(*) from (select * from kept except select * from wanted) k)
  + (select count(*) from (select * from wanted except select * from kept) w)
"""
#: Refused as an illegal change of status, or as the last owner.
_REFUSALS = ("PT409",)


def _rights_at_random(scenery: Scenery) -> Trial:
    organization = scenery.organization()
    roles = ("owner", "admin", "manager", "staff", "viewer")
    offices = [scenery.branch(organization, "owner", *["viewer"] * 4) for _ in range(2)]
    people = [one.user_id for office in offices for one in office.people]
    scenery.rows(
        "insert into organization_memberships (organization_id, user_id, role)"
        " values (%s, %s, 'admin')",
        *(organization, people[0]),
    )
    memberships = [(o.business_id, p.membership_id) for o in offices for p in o.people[1:]]

    def step(chance: random.Random) -> tuple[str, tuple[object, ...]]:
        business, membership = chance.choice(memberships)
        role = "(select id from roles where code = %s and business_id is null)"
        return chance.choice(
            [
                (
                    "update business_memberships set status = %s"
                    " where business_id = %s and id = %s and status <> 'removed'",
                    (chance.choice(["active", "suspended"]), business, membership),
                ),
                (
                    "insert into membership_roles (business_id, membership_id, role_id)"
                    f" values (%s, %s, {role}) on conflict do nothing",
                    (business, membership, chance.choice(roles)),
                ),
                (
                    "delete from membership_roles where business_id = %s and membership_id = %s"
                    f" and role_id = {role}",
                    (business, membership, chance.choice(roles)),
                ),
                (
                    "update organization_placements set state = %s where organization_id = %s",
                    (chance.choice(["active", "moving", "read_only"]), organization),
                ),
                (
                    "update organization_memberships set status = %s where organization_id = %s",
                    (chance.choice(["active", "suspended"]), organization),
                ),
                (
                    "update businesses set status = %s where id = %s",
                    (chance.choice(["active", "suspended"]), business),
                ),
            ]
        )

    chance = random.Random(organization.int)
    calls = [
        Call(tuple(step(chance) for _ in range(_STEPS)), None, "postgres") for _ in range(_WORKERS)
    ]

    def violation(outcomes: list[Outcome]) -> str | None:
        drift = scenery.value(_DIFFERENCE, people, people)
        return f"{drift} entries differ" if drift else complaint(outcomes, _REFUSALS)

    return Trial(calls, violation)


def without_user_locks(session: Session) -> None:
    """Recomputes the rights of a user while another does."""
    rewrite(
        session,
        "private.refresh_user_access",
        (r"perform pg_advisory_xact_lock\([^;]*\);", PAUSE),
    )


CACHE = (
    Race("rights of the same people changed by eight", "the cache equals the tables",
         _rights_at_random, without_user_locks),
)  # fmt: skip
