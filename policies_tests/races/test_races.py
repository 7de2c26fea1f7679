"""Every race holds, and its naive version is seen to lose in the same harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from policies_tests.evidence import Evidence
from tenantry_cli.testing import Database

from .cache import CACHE
from .deliveries import DELIVERIES
from .invitations import INVITATIONS
from .members import MEMBERS
from .organizations import ORGANIZATIONS
from .quotas import QUOTAS
from .race import Race, Track, track
from .statuses import STATUSES

RACES = (*INVITATIONS, *MEMBERS, *ORGANIZATIONS, *QUOTAS, *STATUSES, *DELIVERIES, *CACHE)

each_race = pytest.mark.parametrize("race", [pytest.param(one, id=one.name) for one in RACES])


@pytest.fixture(scope="module")
def sound(race_database: Callable[[], Database]) -> Iterator[Track]:
    with track(race_database()) as one:
        yield one


@each_race
def test_the_invariant_holds(sound: Track, race: Race, trials: int, evidence: Evidence) -> None:
    result = sound.run(race, trials)
    evidence.race(race, result)
    assert not result.violations, race.invariant


@each_race
def test_the_naive_version_loses(
    race_database: Callable[[], Database], race: Race, trials: int, evidence: Evidence
) -> None:
    is_full = trials > 50
    with track(race_database(), is_naive=True) as naive:
        race.naive(naive.scenery.session)
        result = naive.run(race, trials // 4 if is_full else 100, find_one=not is_full)
    evidence.race(race, result, is_naive=True)
    assert result.violations, f"the harness cannot see: {race.invariant}"


def test_names_are_unique() -> None:
    assert len({one.name for one in RACES}) == len(RACES)
