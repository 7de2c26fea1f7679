"""Short races in every order of their statements: none loses, and naive ones lose in some."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies_tests.evidence import Evidence
from tenantry_cli.testing import Database

from .gated import play_orders, put_gates
from .invitations import INVITATIONS
from .members import MEMBERS
from .race import Race
from .scenery import Scenery

_ACCEPT, _REVOKE = "public.accept_invitation", "public.revoke_invitation"
_LAST_OWNER = "private.tg_last_owner"
#: Race -> functions that get gates, and how many each of the two passes, the commit's included.
GATED: dict[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "one token, two sessions of its user": ((_ACCEPT,), (7, 7)),
    "one token, two accounts of its address": ((_ACCEPT,), (7, 7)),
    "accept against revoke": ((_ACCEPT, _REVOKE), (7, 4)),
    "resend against revoke": (("public.resend_invitation", _REVOKE), (3, 4)),
    "two owners remove each other": ((_LAST_OWNER,), (7, 7)),
    "two owners demote each other": ((_LAST_OWNER,), (4, 4)),
    "two owners leave": ((_LAST_OWNER,), (7, 7)),
}
RACES = {one.name.replace("eight", "two"): one for one in (*INVITATIONS, *MEMBERS)}


def _play(database: Database, name: str, trials: int, *, is_naive: bool = False) -> tuple[int, ...]:
    race: Race = RACES[name]
    functions, steps = GATED[name]
    with Scenery(database).session as session:
        if is_naive:
            race.naive(session)
        put_gates(session, functions)
    # Four and four steps have 70 orders, seven and four 330; of more, a sample that a seed decides.
    is_full = trials > 50
    most = 80 if is_naive else (330 if is_full else 5)
    find_one = is_naive and not is_full
    played = play_orders(database, race.prepare, steps, most, find_one=find_one)
    return played.orders, len(played.violations), played.waits


@pytest.mark.parametrize("name", GATED)
def test_no_order_breaks_it(
    race_database: Callable[[], Database], name: str, trials: int, evidence: Evidence
) -> None:
    count, violations, waits = _play(race_database(), name, trials)
    evidence.note_race(
        f"orders of statements: {name}",
        invariant=RACES[name].invariant,
        workers=2,
        trials=count,
        violations=violations,
    )
    assert violations == 0
    assert waits > 0, "nobody ever waited: the orders were played one after the other"


@pytest.mark.parametrize("name", GATED)
def test_some_order_breaks_the_naive_version(
    race_database: Callable[[], Database], name: str, trials: int, evidence: Evidence
) -> None:
    count, violations, _ = _play(race_database(), name, trials, is_naive=True)
    evidence.note_race(
        f"orders of statements: {name}", naive_trials=count, naive_violations=violations
    )
    assert violations > 0
